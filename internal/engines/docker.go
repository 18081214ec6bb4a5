// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/daemonroot"
)

// The keys of daemon.json (docs.docker.com, "dockerd").
const (
	dockerRuntimes = "runtimes"
	dockerDefault  = "default-runtime"
	dockerDataRoot = "data-root"
)

// stockDocker is the values of default-runtime that mean runc, as dockerd comes.
var stockDocker = []string{"", "runc", "io.containerd.runc.v2"}

func editDocker(v view, r Request, program string) (edited, error) {
	if err := v.dockerFlags(r); err != nil {
		return edited{}, err
	}
	old, err := v.read(r.File)
	if err != nil {
		return edited{}, err
	}
	out := edited{file: r.File, old: old}
	text, end := old, ""
	if len(bytes.TrimSpace(old)) == 0 {
		// dockerd doesn't take an empty file, and nothing is lost by filling one.
		text, end = []byte("{}"), "\n"
	}
	root, err := parseJSON(text)
	if err != nil {
		return edited{}, in(r.File, err)
	}
	if err := dockerNames(text, root); err != nil {
		return edited{}, in(r.File, err)
	}
	entry := jsonObject{{"path", program}}
	var settings []setting
	if !r.Unmapped {
		if err := dockerMay(text, root, entry); err != nil {
			return edited{}, in(r.File, err)
		}
		settings = append(settings, setting{entry, []string{dockerRuntimes, RuntimeName}}, setting{RuntimeName, []string{dockerDefault}})
	}
	if r.DataRoot != "" {
		if err := dockerMayMove(text, root, r); err != nil {
			return edited{}, in(r.File, err)
		}
		settings = append(settings, setting{r.DataRoot, []string{dockerDataRoot}})
	}
	before, err := decodeJSON(text)
	if err != nil {
		return edited{}, in(r.File, err)
	}
	changed, want := text, before
	for _, s := range settings {
		if changed, err = setJSON(changed, s.value, s.path...); err != nil {
			return edited{}, in(r.File, err)
		}
		want = withValue(want, s.decoded(), s.path[0], s.path[1:]...)
	}
	after, err := decodeJSON(changed)
	if err != nil {
		return edited{}, fmt.Errorf("bug: %s: what is to be written isn't JSON: %w", r.File, err)
	}
	if !reflect.DeepEqual(want, after) {
		return edited{}, fmt.Errorf("bug: %s: what is to be written says more than was meant", r.File)
	}
	if remap, ok := before["userns-remap"].(string); ok && remap != "" {
		m := root.find("userns-remap")
		out.warnings = append(out.warnings, fmt.Sprintf("%s:%d: userns-remap is set: containers ask for the ranges that dockerd chose, which the book has to give to whom the runtime takes for their owner",
			r.File, lineOf(text, m.start)))
	}
	out.warnings = append(out.warnings, v.elsewhere(r.File, text)...)
	out.new = slices.Concat(changed, []byte(end))
	return out, nil
}

// setting is a value that a member of daemon.json is to have.
type setting struct {
	value any // a string or a jsonObject
	path  []string
}

// decoded is the value as encoding/json gives it.
func (s setting) decoded() any {
	if o, ok := s.value.(jsonObject); ok {
		return o.decoded()
	}
	return s.value
}

// decoded is an object as encoding/json gives it.
func (o jsonObject) decoded() map[string]any {
	out := map[string]any{}
	for _, f := range o {
		switch v := f.value.(type) {
		case jsonObject:
			out[f.name] = v.decoded()
		case []string:
			var list []any
			for _, e := range v {
				list = append(list, e)
			}
			out[f.name] = list
		default:
			out[f.name] = v
		}
	}
	return out
}

// dockerNames refuses keys that are ours but for their letters' case: dockerd knows them by
// their exact name, and decodes them all the same.
func dockerNames(text []byte, root *jsonValue) error {
	for _, m := range root.members {
		for _, name := range []string{dockerRuntimes, dockerDefault, dockerDataRoot} {
			if m.name != name && strings.EqualFold(m.name, name) {
				return at(text, m.start, "member %s: dockerd takes it for %q, and doesn't start: write it so", show(m.name), name)
			}
		}
	}
	return nil
}

// dockerMay refuses what would be lost.
func dockerMay(text []byte, root *jsonValue, entry jsonObject) error {
	if m := root.find(dockerRuntimes); m != nil {
		if !m.value.object {
			return at(text, m.value.start, "%s: expected an object: {...}", dockerRuntimes)
		}
		if ours := m.value.find(RuntimeName); ours != nil {
			have := text[ours.value.start:ours.value.end]
			want := jsonStyle{colon: ": ", comma: ", "}.print(entry, "")
			if !sameJSON(have, []byte(want)) {
				return at(text, ours.start, "%s.%s is there already, and isn't %s: take it out, or make it that: what is written for it is lost otherwise", dockerRuntimes, RuntimeName, Printable(want))
			}
		}
	}
	m := root.find(dockerDefault)
	if m == nil {
		return nil
	}
	name, err := stringOf(text, m.value)
	switch {
	case err != nil:
		return at(text, m.value.start, "%s: expected the name of a runtime, in double quotes", dockerDefault)
	case name == RuntimeName || slices.Contains(stockDocker, name):
		return nil
	}
	return at(text, m.start, "%s is %s, which somebody chose: take the line out first, and start what needs it by: docker run --runtime %s",
		dockerDefault, show(name), Printable(name))
}

// dockerMayMove refuses a data root that somebody chose, and what would be in the way of another one.
func dockerMayMove(text []byte, root *jsonValue, r Request) error {
	if m := root.find("graph"); m != nil {
		return at(text, m.start, "graph: is data-root by its old name, and dockerd takes one of them: take it out")
	}
	if m := root.find("userns-remap"); m != nil {
		if remap, err := stringOf(text, m.value); err != nil || remap != "" {
			return at(text, m.start, "userns-remap: dockerd has a data root for each of its own mappings, and a mapping that --root would contradict: take it out, or leave --root out")
		}
	}
	m := root.find(dockerDataRoot)
	if m == nil {
		return nil
	}
	dir, err := stringOf(text, m.value)
	switch super := daemonroot.SuperRoot(r.DataRoot); {
	case err != nil:
		return at(text, m.value.start, "%s: expected a path, in double quotes", dockerDataRoot)
	case dir == "" || filepath.Clean(dir) == super || daemonroot.SuperRoot(dir) == super:
		return nil
	default:
		return at(text, m.start, "%s is %s, which isn't %s or a root below it: what dockerd has there would be out of its sight: name it by --data, or take the line out", dockerDataRoot, show(dir), show(super))
	}
}

// dataRootOf is where a daemon.json has dockerd's data; "" if it doesn't say.
func dataRootOf(text []byte) string {
	tree, err := decodeJSON(text)
	if err != nil {
		return "" // of none, or of an empty one
	}
	path, _ := tree[dockerDataRoot].(string)
	return path
}

// moves says whether two texts of an engine's file have its data in different places.
func (e engine) moves(old, now []byte) bool {
	return e.name == "docker" && dataRootOf(old) != dataRootOf(now)
}

func stringOf(text []byte, v jsonValue) (string, error) {
	tree, err := decodeJSON([]byte(`{"v":` + string(text[v.start:v.end]) + "}"))
	if err != nil {
		return "", err
	}
	s, ok := tree["v"].(string)
	if !ok {
		return "", errors.New("not a string")
	}
	return s, nil
}

func usesDocker(text []byte) bool {
	tree, err := decodeJSON(text)
	if err != nil {
		return true // it can't be told
	}
	dir, _ := tree[dockerDataRoot].(string)
	return tree[dockerDefault] == RuntimeName || valueAt(tree, dockerRuntimes, RuntimeName) != nil || daemonroot.SuperRoot(dir) != ""
}

// hasDefault says whether a daemon.json names a default runtime.
func hasDefault(text []byte) bool {
	tree, err := decodeJSON(text)
	return err == nil && tree[dockerDefault] != nil
}

// reloadEnds warns, where a daemon.json is about to name no default runtime, that dockerd may not be
// told to read it: 20.10 keeps the default that it has, forgets the runtime of that name if the
// file has others, and ends by a nil pointer (daemon/info_unix.go), containers with it.
func (h Host) reloadEnds(file string, daemonJSON []byte) []string {
	if hasDefault(daemonJSON) {
		return nil
	}
	for _, p := range h.running("dockerd") {
		if configOf(p) == file {
			return []string{fmt.Sprintf("process %d (dockerd): start it anew, and let nobody reload it before: where its default runtime isn't in %s any more, a reload makes dockerd 20.10 crash, and without live-restore all its containers end",
				p.pid, file)}
		}
	}
	return nil
}

// configOf is the file that a dockerd reads.
func configOf(p process) string {
	if config, given := option(p.args, "config-file"); given {
		return config
	}
	return DockerFile
}

// dockerFlags refuses what would stop dockerd, or be read by none: the flags of dockerd's that
// run, and of the one that starts with the host.
func (v view) dockerFlags(r Request) error {
	file, names := r.File, dockerFlagsOf(r)
	reads, other := false, ""
	for _, p := range v.running("dockerd") {
		if config := configOf(p); config != file {
			other = fmt.Sprintf("process %d (dockerd) reads %s: usernsctl configure docker --file %s", p.pid, Printable(config), Printable(config))
			continue
		}
		reads = true
		// "the following directives are specified both as a flag and in the configuration file"
		for _, name := range names {
			if value, given := option(p.args, name); given {
				return fmt.Errorf("process %d (dockerd): was started with --%s %s: with that in %s as well it doesn't start: take the flag away, and start dockerd again",
					p.pid, name, show(value), file)
			}
		}
		for _, value := range options(p.args, "add-runtime") {
			if strings.HasPrefix(value, RuntimeName+"=") && !r.Unmapped {
				return fmt.Errorf("process %d (dockerd): was started with --add-runtime %s, which has the name that is to be in %s: take the flag away, and start dockerd again",
					p.pid, show(value), file)
			}
		}
	}
	if other != "" && !reads {
		return fmt.Errorf("%s: no dockerd that runs reads it: %s", file, other)
	}
	return v.dockerService(r, names)
}

// dockerFlagsOf is the flags of dockerd that say what a request writes into its file.
func dockerFlagsOf(r Request) (names []string) {
	if !r.Unmapped {
		names = append(names, dockerDefault)
	}
	if r.DataRoot != "" {
		names = append(names, dataRootFlag...)
	}
	return names
}

// dockerService looks at the flags that dockerd will be started with, by systemd or Debian's
// init script.
func (v view) dockerService(r Request, names []string) error {
	file := r.File
	if file != DockerFile {
		return nil // whose service isn't known
	}
	lines, err := v.startLines("docker.service", "/etc/default/docker", "/etc/sysconfig/docker")
	if err != nil {
		return err
	}
	for _, l := range lines {
		args := strings.FieldsFunc(l.text, func(r rune) bool { return strings.ContainsRune(" \t\"'=", r) })
		for i, arg := range args {
			if i+1 < len(args) && strings.TrimLeft(arg, "-") == "config-file" && arg[0] == '-' && args[i+1] != file {
				return fmt.Errorf("%s:%d: starts dockerd with --config-file %s: usernsctl configure docker --file %s", l.file, l.number, Printable(args[i+1]), Printable(args[i+1]))
			}
			flag := strings.TrimLeft(arg, "-")
			ours := flag == "add-runtime" && i+1 < len(args) && args[i+1] == RuntimeName && !r.Unmapped
			if arg[0] == '-' && (ours || slices.Contains(names, flag)) {
				return fmt.Errorf("%s:%d: starts dockerd with %s: with that in %s as well it doesn't start, or it has two of one name: take the flag away", l.file, l.number, arg, file)
			}
		}
	}
	return nil
}
