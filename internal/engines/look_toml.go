// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// settings is a TOML file, or several of which the later ones win, with the file that
// each value is of.
type settings struct {
	values   map[string]any
	where    map[string]string // by the path of a value, its keys joined with NUL
	files    []string          // what was read, and directories
	problems []error
}

// read adds a file. A missing one adds nothing.
func (s *settings) read(path string) (found bool) {
	data, ok, err := readSettings(path)
	if err == nil && !ok {
		return false
	}
	s.files = append(s.files, path)
	var values map[string]any
	if err == nil {
		err = decodeSettings(path, data, &values)
	}
	if err != nil {
		s.problems = append(s.problems, err)
		return true
	}
	if s.values == nil {
		s.values, s.where = map[string]any{}, map[string]string{}
	}
	s.merge(s.values, values, "", path)
	return true
}

func decodeSettings(path string, data []byte, into *map[string]any) error {
	err := toml.Unmarshal(data, into)
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := bad.Position()
		return fmt.Errorf("%s:%d:%d: %w", path, line, column, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (s *settings) merge(into, from map[string]any, at, file string) {
	for key, value := range from {
		path := at + "\x00" + key
		table, ok := value.(map[string]any)
		old, had := into[key].(map[string]any)
		if !ok {
			into[key] = value
			s.where[path] = file
			continue
		}
		if !had {
			old = map[string]any{}
			into[key] = old
		}
		s.merge(old, table, path, file)
	}
}

// readDir adds the files of a directory that end so, in lexical order.
func (s *settings) readDir(dir, ext string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.problems = append(s.problems, err)
		}
		return
	}
	s.files = append(s.files, dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ext) && !e.IsDir() {
			s.read(filepath.Join(dir, e.Name()))
		}
	}
}

// readTree adds all files below a directory, whatever their names, as CRI-O reads them.
func (s *settings) readTree(dir string) {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			s.files = append(s.files, path)
		default:
			s.read(path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.problems = append(s.problems, err)
	}
}

// table is the table at keys, nil where there is none.
func (s *settings) table(keys ...string) map[string]any {
	at := s.values
	for _, key := range keys {
		at, _ = at[key].(map[string]any)
	}
	return at
}

// text is the string at keys and the file that it is of; both are "" where there is none.
func (s *settings) text(keys ...string) (value, where string) {
	table := s.table(keys[:len(keys)-1]...)
	value, _ = table[keys[len(keys)-1]].(string)
	if value == "" {
		return "", ""
	}
	return value, s.where["\x00"+strings.Join(keys, "\x00")]
}

// list is the strings at keys.
func (s *settings) list(keys ...string) []string {
	all, _ := s.table(keys[:len(keys)-1]...)[keys[len(keys)-1]].([]any)
	var out []string
	for _, v := range all {
		if text, ok := v.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// --- containerd

// ContainerdFile is where containerd reads its settings unless --config says otherwise.
const ContainerdFile = "/etc/containerd/config.toml"

// criPlugins is where CRI's runtimes are, by versions of the file: 3 (containerd 2), 2, 1.
var criPlugins = []string{"io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "cri"}

func lookContainerd(h lookHost) []Setup {
	program := h.find("containerd")
	daemons := h.daemons("containerd")
	if len(daemons) == 0 && program != "" {
		return []Setup{h.containerd(program, nil, nil)}
	}
	var all []Setup
	for _, d := range daemons {
		all = append(all, h.containerd(cmp.Or(program, d.program), d.args, d.path()))
	}
	return all
}

// containerd is the setup of a containerd that is called with these arguments, and looks for
// programs in dirs.
func (h lookHost) containerd(program string, args, dirs []string) Setup {
	file, _ := option(args, "config", "c")
	out := Setup{Engine: "containerd", Program: program, File: h.path(cmp.Or(file, ContainerdFile))}
	var s settings
	if s.read(out.File) {
		h.imports(&s, out.File, map[string]bool{out.File: true})
	}
	out.Problems, out.Files = s.problems, s.files
	store := Store{Dir: h.path("/var/lib/containerd"), Driver: "overlayfs"}
	if dir, where := s.text("root"); dir != "" {
		store.Dir, store.Where = h.path(dir), where
	}
	if dir, _ := option(args, "root"); dir != "" {
		store.Dir, store.Where = h.path(dir), "the command line of containerd"
	}
	off := false
	for _, name := range s.list("disabled_plugins") {
		off = off || slices.Contains(criPlugins, name)
	}
	plugin := criPlugins[1]
	for _, name := range criPlugins {
		if s.table("plugins", name, "containerd") != nil {
			plugin = name
			break
		}
	}
	for _, keys := range [][]string{
		{"plugins", "io.containerd.cri.v1.images", "snapshotter"},
		{"plugins", plugin, "containerd", "snapshotter"},
	} {
		if driver, _ := s.text(keys...); driver != "" {
			store.Driver = driver
			break
		}
	}
	out.Stores = []Store{store}
	if off {
		return out
	}
	name, where := s.text("plugins", plugin, "containerd", "default_runtime_name")
	name = cmp.Or(name, "runc")
	runtime := func(name string) Runtime {
		keys := []string{"plugins", plugin, "containerd", "runtimes", name}
		r := Runtime{Name: name, Where: where}
		if kind, of := s.text(append(slices.Clone(keys), "runtime_type")...); kind != "" {
			r.Where = of
			if !isRuncShim(kind) {
				r.Path, r.Other = kind, true
				return r
			}
		}
		binary, of := s.text(append(slices.Clone(keys), "options", "BinaryName")...)
		if binary != "" {
			r.Where = of
		}
		r.Path = h.findIn(dirs, cmp.Or(binary, "runc"))
		r.Other, r.Owner = isOther(r.Path), ownerByName(r.Path)
		return r
	}
	out.Default = runtime(name)
	others := s.table("plugins", plugin, "containerd", "runtimes")
	for _, other := range keysInOrder(others) {
		if other != name {
			out.Others = append(out.Others, runtime(other))
		}
	}
	// containerd itself has "runc", also where the file doesn't name it.
	if _, ok := others["runc"]; !ok && name != "runc" {
		out.Others = append(out.Others, runtime("runc"))
	}
	return out
}

// imports adds what a file imports, by patterns (containerd-config.toml(5)).
func (h lookHost) imports(s *settings, file string, seen map[string]bool) {
	patterns := s.list("imports")
	delete(s.values, "imports")
	for _, pattern := range patterns {
		if filepath.IsAbs(pattern) {
			pattern = h.path(pattern)
		} else {
			pattern = filepath.Join(filepath.Dir(file), pattern)
		}
		paths, err := filepath.Glob(pattern)
		if err != nil {
			s.problems = append(s.problems, fmt.Errorf("%s: imports: %q: %w", file, pattern, err))
			continue
		}
		for _, path := range paths {
			if seen[path] {
				continue
			}
			seen[path] = true
			if s.read(path) {
				h.imports(s, path, seen)
			}
		}
	}
}

func keysInOrder(table map[string]any) []string {
	var keys []string
	for key := range table {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// --- Podman

const containersConf = "/etc/containers/containers.conf"

func lookPodman(h lookHost) []Setup {
	program := h.find("podman")
	if program == "" {
		return nil
	}
	out := Setup{Engine: "podman", Program: program, File: h.path(containersConf)}
	var s settings
	s.read(h.path("/usr/share/containers/containers.conf"))
	s.read(out.File)
	s.readDir(h.path(containersConf+".d"), ".conf")
	name, where := s.text("engine", "runtime")
	if name == "" {
		// The first of those that there is.
		name = "crun"
		if h.find(name) == "" && h.find("runc") != "" {
			name = "runc"
		}
	}
	runtime := func(name, where string) Runtime {
		r := Runtime{Name: filepath.Base(name), Where: where}
		// The first of them that is there; if none is, the first says what is meant.
		for _, path := range append(s.list("engine", "runtimes", name), name) {
			if found := h.find(path); r.Path == "" || !isThere(r.Path) && isThere(found) {
				r.Path = found
			}
		}
		r.Other, r.Owner = isOther(r.Path), ownerByName(r.Path)
		return r
	}
	out.Default = runtime(name, where)
	for _, other := range keysInOrder(s.table("engine", "runtimes")) {
		if other != name {
			out.Others = append(out.Others, runtime(other, s.where["\x00engine\x00runtimes\x00"+other]))
		}
	}
	out.Stores = []Store{h.containersStorage(&s)}
	out.Problems, out.Files = s.problems, s.files
	return []Setup{out}
}

// containersStorage is the store of Podman and CRI-O (containers-storage.conf(5)). The
// administrator's file takes the place of the distribution's as a whole.
func (h lookHost) containersStorage(found *settings) Store {
	var s settings
	if !s.read(h.path("/etc/containers/storage.conf")) {
		s.read(h.path("/usr/share/containers/storage.conf"))
	}
	found.problems = append(found.problems, s.problems...)
	found.files = append(found.files, s.files...)
	store := Store{Dir: h.path("/var/lib/containers/storage")}
	if dir, where := s.text("storage", "graphroot"); dir != "" {
		store.Dir, store.Where = h.path(dir), where
	}
	driver, where := s.text("storage", "driver")
	if store.Driver = driver; driver == "" {
		store.Driver = firstThere([]string{"overlay", "btrfs", "zfs", "devicemapper", "aufs", "vfs"}, func(driver string) []string {
			return []string{filepath.Join(store.Dir, driver+"-layers")}
		})
	}
	for _, keys := range [][]string{{"storage", "options", "overlay", "mount_program"}, {"storage", "options", "mount_program"}} {
		if program, of := s.text(keys...); program != "" && store.Program == "" {
			store.Program, where = program, of
		}
	}
	store.Where = cmp.Or(store.Where, where)
	return store
}

// --- CRI-O

const crioConf = "/etc/crio/crio.conf"

func lookCRIO(h lookHost) []Setup {
	program := h.find("crio")
	if program == "" {
		return nil
	}
	out := Setup{Engine: "crio", Program: program, File: h.path(crioConf)}
	var s settings
	s.read(out.File)
	s.readTree(h.path(crioConf + ".d"))
	name, where := s.text("crio", "runtime", "default_runtime")
	if name == "" {
		// "runc" until CRI-O 1.30, "crun" since; it runs what there is.
		name = "crun"
		if h.find(name) == "" {
			name = "runc"
		}
	}
	runtime := func(name, where string) Runtime {
		keys := []string{"crio", "runtime", "runtimes", name}
		r := Runtime{Name: name, Where: where}
		path, of := s.text(append(slices.Clone(keys), "runtime_path")...)
		r.Where = cmp.Or(of, where)
		r.Path = h.find(cmp.Or(path, name))
		kind, _ := s.text(append(slices.Clone(keys), "runtime_type")...)
		r.Other, r.Owner = kind == "vm" || isOther(r.Path), ownerByName(r.Path)
		return r
	}
	out.Default = runtime(name, where)
	for _, other := range keysInOrder(s.table("crio", "runtime", "runtimes")) {
		if other != name {
			out.Others = append(out.Others, runtime(other, ""))
		}
	}
	store := h.containersStorage(&s)
	if dir, of := s.text("crio", "root"); dir != "" {
		store.Dir, store.Where = h.path(dir), of
	}
	if driver, of := s.text("crio", "storage_driver"); driver != "" {
		store.Driver, store.Where = driver, cmp.Or(store.Where, of)
	}
	out.Stores = []Store{store}
	out.Problems, out.Files = s.problems, s.files
	return []Setup{out}
}
