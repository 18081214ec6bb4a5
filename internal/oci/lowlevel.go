// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Low-level runtimes differ in how they read what they are given. Those that were measured are known
// here; what one of them can't do, or not in a way that keeps what the book promises, is
// refused by name. tests/bats/lowlevel.bats crosses them with all that is promised.

// Known refuses a low-level runtime that may read what it is given in another way than it was judged.
func (v Version) Known() error {
	switch {
	case v.Name == "runc" && v.AtLeast(1, 1), v.IsCrun() && v.AtLeast(1, 8):
		return nil
	case v.Name == "runc":
		return errors.New("it is older than all that were measured: runc 1.2 or later is needed, or with less that it can do runc 1.1 or crun 1.8")
	case v.IsCrun():
		return errors.New("it is older than all that were measured: runc 1.2 or later is needed, or with less that it can do crun 1.8")
	}
	return errors.New("it reads bundles in its own way, and isn't judged by this build: runc 1.2 or later is needed, or with less that it can do runc 1.1 or crun 1.8")
}

// IsCrun says whether it is crun, which reads a command line by argp(3), and config.json by its own parser.
func (v Version) IsCrun() bool { return v.Name == "crun" }

// NeedsMaps says whether it joins a user namespace by its path only if config.json has maps as well, which
// it then takes for those of the namespace (runc before 1.2).
func (v Version) NeedsMaps() bool { return v.Name == "runc" && !v.AtLeast(1, 2) }

// NoCapsUnsaid says whether a process for which no capabilities are named gets none. Since 1.2 runc leaves it
// all that a new user namespace gives.
func (v Version) NoCapsUnsaid() bool { return v.Name == "runc" && !v.AtLeast(1, 2) }

// Lacks is what is refused with this low-level runtime, for people; nothing with runc 1.2 or later.
func (v Version) Lacks() []string {
	switch {
	case v.IsCrun():
		return []string{
			"restore",
			"containers of a grant with the flag owned or shared, and those in a user namespace that others are in (pods, pins, a path of the bundle): it can be traced while it enters",
			"CAP_SYS_ADMIN in a container, or for a process that is exec'd there (--privileged): by it root inside could make read-only binds writable",
			"annotations run.oci.* and module.wasm.*, by which it does other things than the bundle says",
			"create, run and exec with --pidfd-socket, run --keep, exec --additional-gids, --cgroup and --ignore-paused",
			"containers that are started without root",
		}
	case v.NeedsMaps():
		return []string{
			"restore", "containers that are started without root",
			"containers in a network namespace of the host's account, which an engine made beforehand (Podman, CNI, CRI pods): it enters the user namespace first",
		}
	}
	return nil
}

// Refuse refuses a command line that this low-level runtime hasn't got.
func (v Version) Refuse(verb string) error {
	if verb == "restore" && (v.IsCrun() || v.NeedsMaps()) {
		return fmt.Errorf("%s: restore: it wasn't measured whether what is restored keeps its user namespace: runc 1.2 or later is needed for that", v)
	}
	return nil
}

// crunFlags is the flags of crun 1.8, by verb; "" has those before it. Of the ones that stand alone the
// value is true. Its exec has a --cgroup too, which isn't runc's.
var crunFlags = map[string]map[string]bool{
	"":       {"debug": true, "log": false, "log-format": false, "root": false, "rootless": false, "systemd-cgroup": true},
	"create": {"bundle": false, "console-socket": false, "no-new-keyring": true, "no-pivot": true, "pid-file": false, "preserve-fds": false},
	"run": {
		"bundle": false, "console-socket": false, "detach": true, "no-new-keyring": true, "no-pivot": true, "no-subreaper": true,
		"pid-file": false, "preserve-fds": false,
	},
	"exec": {
		"apparmor": false, "cap": false, "console-socket": false, "cwd": false, "detach": true, "env": false, "no-new-privs": true,
		"pid-file": false, "preserve-fds": false, "process": false, "process-label": false, "tty": true, "user": false,
	},
	"delete": {"force": true},
}

// crunPasses is the verbs of crun that start nothing, and go on with the words that came.
var crunPasses = []string{"state", "start", "kill", "list", "ps", "pause", "resume", "update", "spec", "features", "checkpoint"}

// ArgvFor is [Invocation.Argv] for this low-level runtime; root is where its state is kept, whatever its own
// default is.
//
// Of crun all that stands before the verb is written anew, for verbs that aren't gated too: what one of
// both takes for a flag's value, the other could take for a verb.
func (inv Invocation) ArgvFor(v Version, root string) ([]string, error) {
	if !v.IsCrun() || inv.Verb == "" || inv.Help {
		if v.IsCrun() && inv.Verb != "" {
			return append(inv.program("crun"), "--help"), nil
		}
		return inv.Argv(), nil
	}
	global := inv.Global
	global.Root, global.RootSet = root, true
	argv, err := crunWords(inv.program("crun"), "", emitFlags(nil, global.defs()))
	if err != nil {
		return nil, err
	}
	argv = append(argv, inv.Verb)
	if !inv.Gated() {
		if !slices.Contains(crunPasses, inv.Verb) {
			return nil, fmt.Errorf("argv: %q: crun hasn't got it, or it wasn't measured: put runc 1.2 or later first in `runtimes` of the configuration", inv.Verb)
		}
		return append(argv, inv.Args...), nil
	}
	if argv, err = crunWords(argv, inv.Verb, emitFlags(nil, inv.Flags.defs(inv.Verb))); err != nil {
		return nil, err
	}
	argv = append(argv, "--", inv.ID)
	if inv.Verb == "exec" {
		argv = append(argv, inv.Args...)
	}
	return argv, nil
}

// program is argv's first word.
func (inv Invocation) program(otherwise string) []string {
	if len(inv.Raw) > 0 {
		return []string{inv.Raw[0]}
	}
	return []string{otherwise}
}

// crunWords appends flags in runc's canonical form as crun takes them.
func crunWords(argv []string, verb string, words []string) ([]string, error) {
	for _, word := range words {
		name, value, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		alone, known := crunFlags[verb][name]
		switch {
		case !known, alone && value != "true":
			where := "argv"
			if verb != "" {
				where += ": " + verb
			}
			return nil, fmt.Errorf("%s: --%s: crun has no such flag that means the same: leave it out, or put runc 1.2 or later first in `runtimes` of the configuration", where, name)
		case alone:
			argv = append(argv, "--"+name)
		default:
			argv = append(argv, word)
		}
	}
	return argv, nil
}

// crunsOwn is what begins the names of annotations that crun obeys, beside those of the engines.
var crunsOwn = []string{"run.oci.", "module.wasm.", "org.criu."}

// CheckSpec refuses what this low-level runtime would read in another way than it was judged; the capabilities,
// of which the grant may have taken some, are [Version.CheckCaps]'s.
func (v Version) CheckSpec(spec *specs.Spec) error {
	if !v.IsCrun() {
		return nil
	}
	var errs []error
	for name := range spec.Annotations {
		// crun compares them as they are written.
		if slices.ContainsFunc(crunsOwn, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			errs = append(errs, fmt.Errorf("annotations: %s: crun does by it what nobody judged, such as keeping the host's groups: leave it out", name))
		}
	}
	return errors.Join(errs...)
}

// sysAdmin is what one needs inside to change the flags of a mount.
const sysAdmin = "CAP_SYS_ADMIN"

// errSysAdmin is about crun, which takes bind mounts into the container by descriptor, past the kernel's lock
// on their flags: with runc root inside can't make them writable again, with crun it needs no more
// than that capability.
var errSysAdmin = errors.New(sysAdmin + ": with crun, root inside could make read-only binds writable by it: leave it out (--privileged, --cap-add), or put runc 1.2 or later first in `runtimes` of the configuration")

// CheckCaps refuses capabilities of a process, init or one to be exec'd, with which it could undo
// what was set for the container. An init without any list has them all.
func (v Version) CheckCaps(field string, process *specs.Process) error {
	if !v.IsCrun() {
		return nil
	}
	caps := process.Capabilities
	if caps == nil {
		return fmt.Errorf("%s: there are none listed, by which it could have %w", field, errSysAdmin)
	}
	for _, set := range [][]string{caps.Bounding, caps.Effective, caps.Inheritable, caps.Permitted, caps.Ambient} {
		if err := v.CheckCapNames(field, set); err != nil {
			return err
		}
	}
	return nil
}

// CheckCapNames is CheckCaps for names. Those that aren't written as in capabilities(7), crun may
// know all the same.
func (v Version) CheckCapNames(field string, names []string) error {
	if !v.IsCrun() {
		return nil
	}
	for _, name := range names {
		if name == sysAdmin {
			return fmt.Errorf("%s: %w", field, errSysAdmin)
		}
		if !strings.HasPrefix(name, "CAP_") || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
			return fmt.Errorf("%s: %q: expected a name as in capabilities(7), such as CAP_CHOWN", field, name)
		}
	}
	return nil
}

// Spec is config.json, or its process, for this low-level runtime: edited, whose every byte that wasn't changed is
// the engine's, or for crun all that runc reads in it, written anew. crun's parser tells upper from lower
// case, and takes comments: so it reads nothing but what was judged. into is a new specification or process of the
// whole type: what that hasn't got, a seccomp filter say, crun wouldn't get.
func (v Version) Spec(edited []byte, into any) ([]byte, error) {
	if !v.IsCrun() {
		return edited, nil
	}
	if err := json.Unmarshal(edited, into); err != nil {
		return nil, err
	}
	return json.Marshal(into)
}
