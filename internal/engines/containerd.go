// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// criSections is the plugin that has the runtimes, by the version of containerd's
// configuration (containerd docs/cri/config.md).
var criSections = map[int64]string{
	2: "io.containerd.grpc.v1.cri",
	3: "io.containerd.cri.v1.runtime",
}

// runcShim is the shim that calls a program by runc's command line.
const runcShim = "io.containerd.runc.v2"

// editContainerd changes the file whose section of the CRI plugin counts. containerd 1.x takes
// the section of the file that it reads last as a whole, and forgets the same section of all
// files before (containerd issue 5837): a drop-in with nothing but a runtime would take away
// the registries and the network of its kubelet. containerd 2 merges them. So the last file
// with such a section is changed; where there is none, and the main file imports a directory,
// a file of ours is made in it; else the main file is changed.
func editContainerd(v view, r Request, program string) (edited, error) {
	files, err := v.criFiles(r.File)
	if err != nil {
		return edited{}, err
	}
	main := files[0]
	if strings.HasPrefix(r.File, "/var/lib/rancher/") {
		return edited{}, fmt.Errorf("%s: is written anew whenever k3s or RKE2 starts: put the runtime into its template by hand, config.toml.tmpl beside it (docs.k3s.io, \"Configuring containerd\")", r.File)
	}
	version := int64(2)
	if len(main.tree) > 0 { // else nothing is lost by saying which it is
		if version, err = versionOf(main); err != nil {
			return edited{}, err
		}
	}
	section := []string{"plugins", criSections[version]}
	deciding := slices.IndexFunc(files, func(f criFile) bool { return f.at(section...) != nil })
	for i := deciding + 1; i < len(files); i++ {
		if files[i].at(section...) != nil {
			deciding = i
		}
	}
	var target criFile
	switch dropin, err := v.criDropin(main); {
	case err != nil:
		return edited{}, err
	case deciding >= 0:
		target = files[deciding]
	case dropin.path != "":
		target = dropin
	default:
		target = main
	}
	out := edited{file: target.path, old: target.text}
	// What containerd 2 merges, it merges from all files, of which the last wins; 1.x forgets the
	// others. A file of version 2 is read by either.
	merged := []criFile{target}
	for _, f := range slices.Backward(files) {
		if f.path != target.path {
			merged = append(merged, f)
		}
		if err := f.oneVersion(version); err != nil {
			return edited{}, err
		}
	}
	c := criEdit{target: target, among: merged, section: append(section, "containerd"), program: program, version: version}
	if version == 2 {
		if c, err = c.forBoth(); err != nil {
			return edited{}, err
		}
	}
	if out.new, err = c.text(); err != nil {
		return edited{}, err
	}
	out.warnings = v.containerdReads(r.File)
	for _, f := range files {
		list, _ := f.at("disabled_plugins").([]any)
		for _, name := range list {
			if name == "cri" || name == criSections[version] {
				out.warnings = append(out.warnings, fmt.Sprintf("%s:%d: the CRI plugin is disabled, so nothing comes of its default runtime: take %s out of disabled_plugins",
					f.path, f.line("disabled_plugins"), show(fmt.Sprint(name))))
			}
		}
	}
	return out, nil
}

// containerdReads warns if containerd runs, and not by that file. dockerd may have one of its own,
// which has no CRI.
func (v view) containerdReads(file string) []string {
	var others []string
	for _, p := range v.running("containerd") {
		config, given := option(p.args, "config", "c")
		if !given {
			config = "/etc/containerd/config.toml"
		}
		if config == file {
			return nil
		}
		others = append(others, fmt.Sprintf("process %d reads %s", p.pid, Printable(config)))
	}
	if others == nil {
		return nil
	}
	return []string{fmt.Sprintf("%s: no containerd that runs reads it: %s: name the file by --file", file, strings.Join(others, ", "))}
}

// criEdit is the change of one file.
type criEdit struct {
	target  criFile
	among   []criFile // that say what holds now, merged; the first wins
	section []string  // plugins.NAME.containerd
	program string
	version int64
}

func (c criEdit) path(names ...string) []string { return slices.Concat(c.section, names) }

// with is a tree with a value at a path of the section.
func (c criEdit) with(tree map[string]any, value any, names ...string) map[string]any {
	path := c.path(names...)
	return withValue(tree, value, path[0], path[1:]...)
}

// now is what holds at a path, and the file that says it, or the last that adds to it.
func (c criEdit) now(names ...string) (value any, file criFile) {
	file = c.target
	for _, f := range slices.Backward(c.among) {
		if v := f.at(c.path(names...)...); v != nil {
			value, file = mergedValue(value, v), f
		}
	}
	return value, file
}

// mergedValue is a value over which another is merged: tables by their keys.
func mergedValue(under, over any) any {
	a, ok := under.(map[string]any)
	b, too := over.(map[string]any)
	if !ok || !too {
		return over
	}
	out := maps.Clone(a)
	for key, value := range b {
		out[key] = mergedValue(out[key], value)
	}
	return out
}

// forBoth is the edit as for containerd 1.x, which knows the file alone, once it is sure that
// 2 would take nothing else over from the other files.
func (c criEdit) forBoth() (criEdit, error) {
	alone := c
	alone.among = []criFile{c.target}
	merged, err := c.settings()
	if err == nil {
		err = c.taken()
	}
	if err != nil {
		return c, err
	}
	settings, err := alone.settings()
	if err != nil || reflect.DeepEqual(merged, settings) {
		return alone, err
	}
	for _, f := range c.among[1:] {
		if path := c.path("runtimes", "runc"); f.at(path...) != nil {
			return c, fmt.Errorf("%s:%d: the runtime runc is set here, which containerd 1.x forgets, since %s has a section of the CRI plugin too, and 2 doesn't: move it there, so that it is one for both",
				f.path, f.line(path...), c.target.path)
		}
	}
	return c, fmt.Errorf("bug: %s: what is merged differs, and nothing was", c.target.path)
}

const defaultRuntimeName = "default_runtime_name"

// text is the file as it shall be.
func (c criEdit) text() ([]byte, error) {
	settings, err := c.settings()
	if err == nil {
		err = c.taken()
	}
	if err != nil {
		return nil, err
	}
	want := c.target.tree
	t := c.target.tomlText
	var lines []string
	if len(t.tree) == 0 {
		lines = append(lines, fmt.Sprintf("version = %d", c.version), "")
		want = withValue(want, c.version, "version")
	}
	lines = append(lines, "# Written by usernsctl configure containerd, and taken back by it with --undo.")
	if t.at(c.path(defaultRuntimeName)...) != RuntimeName {
		text, ok := t.setString(c.section, defaultRuntimeName, RuntimeName)
		if ok {
			t, err = parseTOML(text)
			if err != nil {
				return nil, c.byHand(settings)
			}
		} else {
			lines = append(lines, tomlTable(c.section...), defaultRuntimeName+" = "+tomlString(RuntimeName), "")
		}
		want = c.with(want, RuntimeName, defaultRuntimeName)
	}
	text := t.text
	switch have := t.at(c.path("runtimes", RuntimeName)...); {
	case have == nil:
		more, ok := c.lines(settings)
		if !ok {
			return nil, c.byHand(settings)
		}
		if v, _ := c.now("runtimes"); v == nil {
			// Where a file names a runtime, containerd forgets the one that it has by itself, which
			// a RuntimeClass may name.
			stock := c.path("runtimes", "runc")
			lines = append(lines, tomlTable(stock...), "runtime_type = "+tomlString(runcShim), "")
			want = c.with(want, map[string]any{"runtime_type": runcShim}, "runtimes", "runc")
		}
		text = t.appendLines(append(lines, more...))
		want = c.with(want, settings, "runtimes", RuntimeName)
	case len(lines) > 1: // the default has no header yet
		text = t.appendLines(lines[:len(lines)-1])
	}
	after, err := parseTOML(text)
	if err != nil || !reflect.DeepEqual(after.tree, want) {
		return nil, c.byHand(settings)
	}
	return text, nil
}

// taken refuses a runtime by our name, in any of the files, that isn't ours.
func (c criEdit) taken() error {
	for _, f := range c.among {
		path := c.path("runtimes", RuntimeName)
		if have := f.at(path...); have != nil && !c.same(have) {
			return fmt.Errorf("%s:%d: the runtime %s is there already, and its program isn't %s: take it out first: what is written for it is lost otherwise",
				f.path, f.line(path...), RuntimeName, c.program)
		}
	}
	return nil
}

// same says whether a runtime that is there does what ours would.
func (c criEdit) same(have any) bool {
	table, _ := have.(map[string]any)
	return table["runtime_type"] == runcShim && valueAt(table, "options", "BinaryName") == c.program
}

// byHand is the error for a file whose tables are written so that none can be added: as inline
// tables or dotted keys.
func (c criEdit) byHand(settings map[string]any) error {
	lines, _ := c.lines(settings)
	line := 0
	for n := len(c.section); line == 0 && n > 0; n-- { // an inline table has a line as a whole
		line = c.target.line(c.section[:n]...)
	}
	line = max(1, line)
	return fmt.Errorf("%s:%d: the tables of the CRI plugin are written in a way that none can be added to: set %s to %q by hand, and add:\n%s",
		c.target.path, line, defaultRuntimeName, RuntimeName, strings.Join(lines, "\n"))
}

// settings is the runtime's table: that of the runtime which was the default, runc, with our
// program. So what kubelet needs of it stays, such as SystemdCgroup.
func (c criEdit) settings() (map[string]any, error) {
	name := "runc"
	old := []string{"default_runtime", "runtime_type"}
	if v, f := c.now(old...); c.version == 2 && v != nil && v != "" {
		return nil, fmt.Errorf("%s:%d: default_runtime is set, to %s: containerd 1.x takes that, whatever %s is: take the table out first, and give what needs it a name in runtimes, and a RuntimeClass",
			f.path, f.line(c.path(old...)...), show(fmt.Sprint(v)), defaultRuntimeName)
	}
	if v, f := c.now(defaultRuntimeName); v != nil && v != RuntimeName {
		if v != "runc" {
			return nil, fmt.Errorf("%s:%d: %s is %s, which somebody chose: take the line out first, and name it in a RuntimeClass for the pods that need it",
				f.path, f.line(c.path(defaultRuntimeName)...), defaultRuntimeName, show(fmt.Sprint(v)))
		}
	}
	out := map[string]any{"runtime_type": runcShim}
	options := map[string]any{}
	v, f := c.now("runtimes", name)
	if v != nil {
		table, ok := v.(map[string]any)
		line := f.line(c.path("runtimes", name)...)
		if !ok {
			return nil, fmt.Errorf("%s:%d: the runtime %s: expected a table", f.path, line, name)
		}
		for key, value := range table {
			out[key] = value
		}
		if kind, f := c.now("runtimes", name, "runtime_type"); kind != nil && kind != runcShim && kind != "" {
			return nil, fmt.Errorf("%s:%d: the runtime %s has the type %s: expected %s, whose program can be another",
				f.path, f.line(c.path("runtimes", name, "runtime_type")...), name, show(fmt.Sprint(kind)), runcShim)
		}
		out["runtime_type"] = runcShim
		if given, ok := table["options"].(map[string]any); ok {
			for key, value := range given {
				options[key] = value
			}
		}
		if was, _ := options["BinaryName"].(string); was != "" && filepath.Base(was) != "runc" {
			path := []string{"runtimes", name, "options", "BinaryName"}
			_, f := c.now(path...)
			return nil, fmt.Errorf("%s:%d: the runtime %s runs %s, which somebody chose: give it another name, and name that in a RuntimeClass for the pods that need it",
				f.path, f.line(c.path(path...)...), name, show(was))
		}
	}
	options["BinaryName"] = c.program
	out["options"] = options
	return out, nil
}

// lines is the runtime's table as text.
func (c criEdit) lines(settings map[string]any) (lines []string, ok bool) {
	table := c.path("runtimes", RuntimeName)
	add := func(path []string, values map[string]any) bool {
		lines = append(lines, tomlTable(path...))
		for _, key := range sortedKeys(values) {
			if key == "options" && len(path) == len(table) {
				continue
			}
			text, ok := tomlValue(values[key])
			if !ok {
				return false
			}
			lines = append(lines, tomlName(key)+" = "+text)
		}
		return true
	}
	options, _ := settings["options"].(map[string]any)
	if !add(table, settings) {
		return lines, false
	}
	lines = append(lines, "")
	return lines, add(append(slices.Clone(table), "options"), options)
}

func usesContainerd(text []byte) bool {
	t, err := parseTOML(text)
	if err != nil {
		return true // it can't be told
	}
	for _, name := range criSections {
		section := []string{"plugins", name, "containerd"}
		if t.at(append(section, "runtimes", RuntimeName)...) != nil || t.at(append(section, defaultRuntimeName)...) == RuntimeName {
			return true
		}
	}
	return false
}
