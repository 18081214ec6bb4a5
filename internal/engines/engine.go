// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// RuntimeName is what engines know the runtime by.
const RuntimeName = "userns"

// Request is what an engine shall be made to do.
type Request struct {
	// File is the engine's configuration, where it isn't in its usual place; "" is that.
	File string
	// Program is the absolute path of userns-runtime; see [Host.Program].
	Program string
	// Owner is whose ranges the engine's containers get; "" leaves that to the configuration
	// of userns-runtime.
	Owner string
	// DataRoot is where dockerd is to have its data, UID.GID/docker in a directory of daemon
	// roots; "" leaves that as it is. Of other engines it says nothing.
	DataRoot string
	// Unmapped leaves the engine's runtime as it is, for the root of containers without a
	// user namespace: DataRoot alone is written.
	Unmapped bool
}

// Plan is what configure does: one file that is changed or made, and a link that it needs.
type Plan struct {
	Engine string
	Main   string // the engine's configuration
	File   string // the file of it that is changed
	// Old and New are its content; Old is nil if there is no file. They are the same where
	// nothing is to be done.
	Old, New []byte
	// Link is a symbolic link beside the program that says the owner; "" if none is needed.
	Link string
	// Warnings are what the administrator should know, and what is no reason to refuse.
	Warnings []string
}

// engine is what is known of one.
type engine struct {
	name, file string
	// edit plans the change of the file that decides.
	edit func(v view, r Request, program string) (edited, error)
	// uses says whether a text of its file has something of ours.
	uses func(text []byte) bool
	// daemon is the program that has to read the file again; "" if there is none.
	daemon  string
	restart string // the systemctl verb for that
}

// edited is a file as it is and as it shall be.
type edited struct {
	file     string
	old, new []byte
	warnings []string
}

var all = []engine{
	{name: "docker", file: DockerFile, edit: editDocker, uses: usesDocker, daemon: "dockerd", restart: "reload docker"},
	{name: "containerd", file: ContainerdFile, edit: editContainerd, uses: usesContainerd, daemon: "containerd", restart: "restart containerd"},
	{name: "podman", file: "/etc/containers/containers.conf.d/50-userns-runtime.conf", edit: editPodman, uses: usesDropin([]string{"engine"}, "runtime", "runtimes")},
	{name: "crio", file: "/etc/crio/crio.conf.d/50-userns-runtime.conf", edit: editCRIO, uses: usesDropin([]string{"crio", "runtime"}, "default_runtime", "runtimes"), daemon: "crio", restart: "restart crio"},
}

// Names is the engines that are known.
func Names() []string {
	var names []string
	for _, e := range all {
		names = append(names, e.name)
	}
	return names
}

func find(name string) (engine, error) {
	for _, e := range all {
		if e.name == name {
			return e, nil
		}
	}
	return engine{}, fmt.Errorf("engine %q: unknown: expected one of %s", name, strings.Join(Names(), ", "))
}

// view is a host's files, of which one may be taken as it was.
type view struct {
	Host
	path string
	data []byte // instead of what is at path
}

func (v view) read(path string) ([]byte, error) {
	if v.path != "" && path == v.path {
		return v.data, nil
	}
	return v.Host.read(path)
}

// readTOML is a file's content, of none as of an empty one.
func (v view) readTOML(path string) (*tomlText, error) {
	text, err := v.read(path)
	if err != nil {
		return nil, err
	}
	t, err := parseTOML(text)
	if err != nil {
		return nil, in(path, err)
	}
	return t, nil
}

// plan is what a request changes, of files as v shows them.
func (e engine) plan(v view, r Request) (*Plan, error) {
	if r.File == "" {
		r.File = e.file
	}
	if !filepath.IsAbs(r.File) {
		return nil, fmt.Errorf("%s: expected an absolute path", r.File)
	}
	// An owner is told by the program's name, to dockerd too: where a runtime has runtimeArgs, it
	// writes a shell script of them, in which they aren't quoted, and which it removes under
	// containers that live when they change (moby 20.10, daemon/runtime_unix.go).
	program, link := r.Program, ""
	if r.Owner != "" {
		if strings.ContainsAny(r.Owner, "/\x00") {
			return nil, fmt.Errorf("owner %s: %s knows an owner by the name of a link, which can't hold a slash: name the owner by a [[rule]] of the configuration", show(r.Owner), e.name)
		}
		program = filepath.Join(filepath.Dir(r.Program), linkName(r.Owner))
		link = program
	}
	out, err := e.edit(v, r, program)
	if err != nil {
		return nil, err
	}
	p := &Plan{Engine: e.name, Main: r.File, File: out.file, Old: out.old, New: out.new, Link: link, Warnings: out.warnings}
	return p, nil
}

// in puts the file before an error at a place of it.
func in(file string, err error) error {
	if p, ok := errors.AsType[*placed](err); ok {
		return fmt.Errorf("%s:%d:%d: %s", Printable(file), p.line, p.column, strings.ReplaceAll(p.what, "FILE", file))
	}
	return fmt.Errorf("%s: %w", Printable(file), err)
}

// TakesEffect is how the engine comes to read its file as it is now: a command, and "" where
// it reads it by itself or doesn't run. moved is [Result.Moved].
//
// dockerd that is told to read its file again keeps a default runtime that isn't in it any more
// (moby, daemon/reload.go: what isn't set isn't looked at), so after an undo it has to be started
// anew; see [reloadEnds].
func (h Host) TakesEffect(name, file string, moved bool) (command string) {
	e, err := find(name)
	if err != nil || e.daemon == "" {
		return ""
	}
	why := ""
	if name == "docker" {
		text, err := h.read(file)
		switch {
		case err != nil:
		case !hasDefault(text):
			e.restart, why = "restart docker", " (not by a reload: it keeps the default runtime that it has, or ends dockerd; without live-restore a restart ends all containers)"
		case moved:
			e.restart, why = "restart docker", " (not by a reload, which doesn't read data-root; containers that live-restore would keep have to be stopped first)"
		}
	}
	alive := h.running(e.daemon)
	if name == "docker" {
		alive = slices.DeleteFunc(alive, func(p process) bool { return configOf(p) != file })
	}
	// Of another file than the usual one it isn't known which service reads it.
	if h.systemd() && (name != "docker" || file == DockerFile) {
		return "systemctl " + e.restart + why
	}
	if len(alive) == 0 {
		return ""
	}
	var pids []string
	for _, p := range alive {
		pids = append(pids, fmt.Sprint(p.pid))
	}
	if strings.HasPrefix(e.restart, "reload") {
		return "kill -HUP " + strings.Join(pids, " ")
	}
	return "restart " + e.daemon + ", process " + strings.Join(pids, " ") + why
}
