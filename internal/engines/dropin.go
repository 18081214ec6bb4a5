// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// dropin is a file of ours in a directory that an engine reads in the order of names.
type dropin struct {
	engine string
	path   string
	before []string // files that are read first
	// every says that the engine reads all files below the directory, whatever their names' end.
	every bool
	lines []string
	// The key that says which runtime is the default, and the table of runtimes.
	key, table []string
	// What the key means where nobody chose; it is taken over.
	stock []string
	// other is how a container comes to another runtime than the default.
	other string
}

// edit plans the file, and refuses what would be lost by it, or would win over it.
func (d dropin) edit(v view) (edited, error) {
	if dir, name := filepath.Split(d.path); !strings.HasSuffix(dir, ".conf.d/") || filepath.Ext(name) != ".conf" {
		return edited{}, fmt.Errorf("%s: isn't a file in a directory that %s reads: expected a file of our own, *.conf in a directory *.conf.d: --file of the drop-in, or none", d.path, d.engine)
	}
	old, err := v.read(d.path)
	if err != nil {
		return edited{}, err
	}
	text := []byte(strings.Join(d.lines, "\n") + "\n")
	if old != nil && !sameTOML(old, text) {
		if _, err := parseTOML(old); err != nil {
			return edited{}, in(d.path, err)
		}
		mend := "move it out of the directory, or name another file by --file"
		if bytes.HasPrefix(old, []byte(written(d.engine))) {
			mend = "remove it, since a call of this program has left it: rm " + rootfile.ShellQuote(d.path)
		}
		return edited{}, fmt.Errorf("%s: is there already, and says something else than this program writes: %s", d.path, mend)
	}
	out := edited{file: d.path, old: old, new: text}
	if old != nil {
		out.new = old
	}
	dir := filepath.Dir(d.path)
	others, err := d.others(v)
	if err != nil {
		return edited{}, err
	}
	for _, file := range slices.Concat(d.before, others) {
		t, err := v.readTOML(file)
		if err != nil {
			return edited{}, err
		}
		name, beside := strings.CutPrefix(file, dir+"/")
		first, _, _ := strings.Cut(name, "/")
		later := beside && first > filepath.Base(d.path)
		if err := d.judge(file, t, later); err != nil {
			return edited{}, err
		}
	}
	return out, nil
}

// others is the files that the engine reads from the directory but ours, and but what an edit of it
// that was killed has left there.
func (d dropin) others(v view) (files []string, err error) {
	dir, base := filepath.Split(d.path)
	skip := map[string]bool{base: true}
	for _, left := range []string{base + "-", base + ".lock", "." + base + ".lockedfile", "." + base + ".lockedfile-", "." + base + "-.usernsctl"} {
		text, err := v.read(dir + left)
		skip[left] = err == nil && (len(text) == 0 || usesDropin(d.table[:len(d.table)-1], d.key[len(d.key)-1], d.table[len(d.table)-1])(text))
	}
	if !d.every {
		names, err := v.list(filepath.Clean(dir))
		for _, name := range names {
			if strings.HasSuffix(name, filepath.Ext(base)) && !skip[name] {
				files = append(files, dir+name)
			}
		}
		return files, err
	}
	err = filepath.WalkDir(v.Host.path(filepath.Clean(dir)), func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !e.IsDir() && !skip[strings.TrimPrefix(v.name(path), dir)]:
			files = append(files, v.name(path))
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, unpath(err))
	}
	return files, nil
}

// judge refuses a file that says something else about the default, or about what ours means.
func (d dropin) judge(file string, t *tomlText, later bool) error {
	key := d.key[len(d.key)-1]
	value := t.at(d.key...)
	chosen, _ := value.(string)
	switch {
	case value == nil, chosen == RuntimeName:
	case later:
		return fmt.Errorf("%s:%d: %s is %s, and is read after %s, so that it wins: take the line out first%s",
			file, t.line(d.key...), key, show(fmt.Sprint(value)), filepath.Base(d.path), d.forThat(chosen))
	case !slices.Contains(d.stock, chosen):
		return fmt.Errorf("%s:%d: %s is %s, which somebody chose: take the line out first%s",
			file, t.line(d.key...), key, show(fmt.Sprint(value)), d.forThat(chosen))
	}
	path := append(slices.Clone(d.table), RuntimeName)
	if have := t.at(path...); have != nil && !reflect.DeepEqual(have, d.wanted(path)) {
		return fmt.Errorf("%s:%d: the runtime %s is there already, and isn't what this program writes: take it out first", file, t.line(path...), RuntimeName)
	}
	return nil
}

func (d dropin) forThat(chosen string) string {
	if chosen == "" || slices.Contains(d.stock, chosen) {
		return ""
	}
	return fmt.Sprintf(", and start what needs it by: "+d.other, Printable(chosen))
}

// wanted is what our file says at a path.
func (d dropin) wanted(path []string) any {
	t, err := parseTOML([]byte(strings.Join(d.lines, "\n")))
	if err != nil {
		panic("bug: what is to be written isn't TOML: " + err.Error())
	}
	return t.at(path...)
}

// usesDropin says whether a text names our runtime: as the default, or in the table of runtimes.
func usesDropin(table []string, key, runtimes string) func(text []byte) bool {
	return func(text []byte) bool {
		t, err := parseTOML(text)
		if err != nil {
			return true // it can't be told
		}
		return t.at(append(slices.Clone(table), key)...) == RuntimeName || t.at(append(slices.Clone(table), runtimes, RuntimeName)...) != nil
	}
}

func sameTOML(a, b []byte) bool {
	ta, err := parseTOML(a)
	if err != nil {
		return false
	}
	tb, err := parseTOML(b)
	return err == nil && reflect.DeepEqual(ta.tree, tb.tree)
}

func written(engine string) string {
	return "# Written by usernsctl configure " + engine + ", and taken back by it with --undo."
}

// supportsJSON is the runtimes whose --log Podman reads for the reason of a failure, as it
// comes (containers.conf(5)).
var supportsJSON = []string{"crun", "runc", "kata", "runsc", "youki", "krun"}

func editPodman(v view, r Request, program string) (edited, error) {
	d := dropin{
		engine: "podman", path: r.File,
		before: []string{"/usr/share/containers/containers.conf", "/etc/containers/containers.conf"},
		key:    []string{"engine", "runtime"}, table: []string{"engine", "runtimes"},
		stock: []string{"", "runc", "crun"}, other: "podman --runtime %s run",
	}
	// Newer ones read the packages' directory too, before that of /etc.
	const packaged = "/usr/share/containers/containers.conf.d"
	names, err := v.list(packaged)
	if err != nil {
		return edited{}, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".conf") {
			d.before = append(d.before, filepath.Join(packaged, name))
		}
	}
	// The list is one value: what others added has to be in ours.
	lists := slices.Clone(d.before)
	if names, err = v.list(filepath.Dir(r.File)); err != nil {
		return edited{}, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".conf") && name != filepath.Base(r.File) {
			lists = append(lists, filepath.Join(filepath.Dir(r.File), name))
		}
	}
	supports := supportsJSON
	var warnings []string
	for _, file := range lists {
		t, err := v.readTOML(file)
		if err != nil {
			return edited{}, err
		}
		list, ok := t.at("engine", "runtime_supports_json").([]any)
		if !ok {
			continue
		}
		var given []string
		for _, e := range list {
			if name, ok := e.(string); ok {
				given = append(given, name)
			}
		}
		switch later := filepath.Dir(file) == filepath.Dir(r.File) && file > r.File; {
		case !later:
			supports = given
		case !slices.Contains(given, RuntimeName):
			warnings = append(warnings, fmt.Sprintf("%s:%d: runtime_supports_json wins over ours and has no %q: podman shows no reason when a container is refused: add it",
				file, t.line("engine", "runtime_supports_json"), RuntimeName))
		}
	}
	if !slices.Contains(supports, RuntimeName) {
		supports = append(slices.Clone(supports), RuntimeName)
	}
	var quoted []string
	for _, name := range supports {
		quoted = append(quoted, tomlString(name))
	}
	d.lines = []string{
		written(d.engine),
		"[engine]",
		"runtime = " + tomlString(RuntimeName),
		"runtime_supports_json = [" + strings.Join(quoted, ", ") + "]",
		"",
		"[engine.runtimes]",
		RuntimeName + " = [" + tomlString(program) + "]",
	}
	out, err := d.edit(v)
	out.warnings = slices.Concat(warnings, []string{
		"users' own Podman reads the file too: each needs a line in the book, or `runtime` in their own containers.conf",
		"containers that exist stay with the runtime that they were made for whenever they are started again: make them anew: podman inspect -f '{{.OCIRuntime}} {{.Name}}' $(podman ps -aq) shows it",
	})
	return out, err
}

// crioRoot is the state directory of containers that CRI-O starts by us: not runc's own, so that
// a [[rule]] can tell them by it.
const crioRoot = "/run/userns-crio"

func editCRIO(v view, r Request, program string) (edited, error) {
	return dropin{
		engine: "crio", path: r.File,
		every:  true, // pkg/config/config.go, UpdateFromPath
		before: []string{"/etc/crio/crio.conf"},
		key:    []string{"crio", "runtime", "default_runtime"}, table: []string{"crio", "runtime", "runtimes"},
		stock: []string{"", "runc", "crun"}, other: "a RuntimeClass whose handler is %s",
		lines: []string{
			written("crio"),
			"[crio.runtime]",
			"default_runtime = " + tomlString(RuntimeName),
			"",
			"[crio.runtime.runtimes." + RuntimeName + "]",
			"runtime_path = " + tomlString(program),
			`runtime_type = "oci"`,
			"runtime_root = " + tomlString(crioRoot),
		},
	}.edit(v)
}
