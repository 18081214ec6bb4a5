// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// ownDir is where programs lie that only ours call.
const ownDir = "/usr/libexec/userns-runtime"

// gate is the base name of userns-runtime; links to it that name an owner begin with it.
const gate = "userns-runtime"

// flaw is what is wrong with a program, and the command that mends it; empty where there
// is none of one step.
type flaw struct{ wrong, mend string }

func (f *flaw) Error() string { return f.wrong }

// judgeProgram is nil for a program that only root could change, or put another in its
// place, and a [*flaw] if it isn't one. Any other error is that it can't be told.
func judgeProgram(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &flaw{wrong: "isn't there"}
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return &flaw{wrong: err.Error()} // a ring of links; no directory
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &flaw{wrong: "isn't a program"}
	case info.Mode()&0o111 == 0:
		return &flaw{"isn't executable", "chmod 0755 " + rootfile.ShellQuote(real)}
	}
	return changedBy(path)
}

// changedBy is who else than root could change the file at path, or put another in its
// place, by owners and modes: its own, and those of the links and directories on the way
// to it.
func changedBy(path string) error {
	err := engines.Host{}.Judge(path)
	f, is := errors.AsType[*engines.Flaw](err)
	switch {
	case !is:
		return err
	case f.Owned():
		return &flaw{fmt.Sprintf("could be changed by UID %d, who owns %s", f.UID, f.Path), f.Mend()}
	}
	return &flaw{fmt.Sprintf("could be changed by others than root, since %s has mode %04o", f.Path, f.Mode&0o7777), f.Mend()}
}

// judge is [judgeProgram] of a program: wrong is "" where it is in order. Where it can't be
// told that is a finding, and ok false.
func (h *host) judge(subject, path string) (wrong, mend string, ok bool) {
	err := judgeProgram(path)
	if f, is := errors.AsType[*flaw](err); is {
		return f.wrong, f.mend, true
	}
	if err != nil {
		h.failed(subject, err)
	}
	return "", "", err == nil
}

// isGate says whether a path is userns-runtime, by whatever name.
func isGate(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		// It isn't there; its name says what is meant.
		real = path
	}
	base := filepath.Base(real)
	return base == gate || strings.HasPrefix(base, gate+"-")
}

// isProgram says whether a path leads to the userns-runtime that is judged by itself.
func (h *host) isProgram(path string) bool {
	a, err := filepath.EvalSymlinks(path)
	b, err2 := filepath.EvalSymlinks(h.program)
	if err != nil || err2 != nil {
		return path == h.program
	}
	return a == b
}

// checkProgram is userns-runtime itself.
func (h *host) checkProgram() {
	path := h.program
	if path == "" {
		h.failed(gate, errors.New("where this program lies isn't known"))
		return
	}
	wrong, mend, ok := h.judge(path, path)
	switch {
	case !ok:
		return
	case wrong != "":
		if mend == "" {
			mend = "install userns-runtime beside usernsctl: make install"
		}
		h.add(sevError, path, mend, "%s: no engine's container can be trusted to it", wrong)
		return
	}
	if info, err := os.Stat(path); err == nil && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		h.add(sevError, path, "chmod ug-s "+rootfile.ShellQuote(path), "is setuid or setgid: whoever calls it passes for root")
		return
	}
	h.checkVersion(path, "", engines.Setup{})
}

// checkVersion asks a program that is called like userns-runtime whether it is that; uses says which
// engine calls it, if not ours. It was judged to be root's.
func (h *host) checkVersion(path, uses string, s engines.Setup) {
	if h.refuses {
		return // it would say nothing of itself, or run a runc that somebody else could have written
	}
	install := func(ours string) string {
		if uses == "" {
			return ours
		}
		return h.configure(s)
	}
	text, err := h.try.versionOf(path)
	line, _, _ := strings.Cut(text, "\n")
	got, is := strings.CutPrefix(line, gate+" version ")
	switch {
	case err != nil:
		h.failed(path, err)
	case !is:
		h.add(sevError, path, install("install userns-runtime beside usernsctl: make install"), "isn't userns-runtime: its --version says %q%s", line, uses)
	case got != h.version:
		h.add(sevWarning, path, install("install both of one version: make install"), "is version %s, and usernsctl is %s%s", got, h.version, uses)
	default:
		h.fine(path, "version %s", got)
	}
}

// checkLowest is the runc that the gate goes on to.
func (h *host) checkLowest() {
	const subject = "low-level runtime"
	install := "install runc 1.2 or later as " + h.path(ownDir+"/runc") + ": make install"
	var paths []string
	for _, path := range h.config.Runtimes {
		paths = append(paths, h.path(path))
	}
	path, err := oci.FindRuntime(paths, 0)
	if err != nil {
		if h.denied(subject, err) {
			return
		}
		message, mend := cutMend(strings.TrimPrefix(err.Error(), subject+": "), install)
		h.refuses = true
		h.add(sevError, subject, mend, "%s: no container starts", message)
		return
	}
	if isGate(path) {
		h.refuses = true
		h.add(sevError, path, install, "is userns-runtime itself, which `runtimes` of the configuration has as the low-level runtime: no container starts")
		return
	}
	h.lowest = path
	if wrong, mend, ok := h.judge(path, path); !ok || wrong != "" {
		h.refuses = true
		if !ok {
			return
		}
		h.add(sevError, path, mend, "root runs it for every container, and it %s", wrong)
		return
	}
	text, err := h.try.versionOf(path)
	if err != nil {
		h.refuses = true
		h.failed(path, err)
		return
	}
	v, err := oci.ParseVersion(text)
	switch {
	case err != nil:
		h.add(sevError, path, install, "%s: no container starts", err)
	case v.Known() != nil:
		h.add(sevError, path, install, "is %s, the first of `runtimes` that there is: %s: no container starts", v, v.Known())
	case len(v.Lacks()) > 0:
		h.add(sevWarning, path, install, "is %s, the first of `runtimes` that there is, with which some things are refused: %s", v, strings.Join(v.Lacks(), "; "))
	default:
		h.fine(path, "%s", v)
	}
}

// Capabilities by number (linux/capability.h).
const (
	capSetGID = 6
	capSetUID = 7
)

// checkHelpers is the programs with which who isn't root gets ranges mapped: those of
// ours, and of the distribution's for engines that don't know ours.
func (h *host) checkHelpers() {
	for _, helper := range []struct {
		name       string
		capability int
		capName    string
	}{{"newuidmap", capSetUID, "cap_setuid"}, {"newgidmap", capSetGID, "cap_setgid"}} {
		if path := h.path(ownDir + "/" + helper.name); exists(path) {
			h.checkHelper(sevError, path, helper.capability, "setcap "+helper.capName+"=p "+rootfile.ShellQuote(path), true)
		}
		if path := h.find(helper.name); path != "" && !h.isOwnHelper(path, helper.name) {
			h.checkHelper(sevWarning, path, helper.capability, "chown root: "+rootfile.ShellQuote(path)+" && chmod u+s "+rootfile.ShellQuote(path), false)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// checkHelper is one of them. Those of ours have a file capability, and aren't setuid.
func (h *host) checkHelper(severity, path string, capability int, mend string, ours bool) {
	const follows = "who isn't root gets no ranges mapped, so rootless engines fail; root's engines work"
	if wrong, cure, ok := h.judge(path, path); !ok || wrong != "" {
		if !ok {
			return
		}
		if cure == "" {
			cure = mend
		}
		h.add(sevError, path, cure, "it raises privileges, and %s", wrong)
		return
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		h.failed(path, err)
		return
	}
	info, err := os.Stat(real)
	if err != nil {
		h.failed(path, err)
		return
	}
	caps, err := census.FileCapsOf(real)
	if err != nil {
		h.failed(path, err)
		return
	}
	setuid := info.Mode()&fs.ModeSetuid != 0
	switch {
	case ours && setuid:
		h.add(sevError, path, "chmod u-s "+rootfile.ShellQuote(path)+" && "+mend, "is setuid, and needs one capability only")
		return
	case !setuid && !caps.Has(capability):
		h.add(severity, path, mend, "has neither its file capability nor setuid: %s", follows)
		return
	case !setuid && caps.RootID != 0:
		h.add(severity, path, mend, "has its capability for the root of a user namespace only (UID %d): %s", caps.RootID, follows)
		return
	}
	var st unix.Statfs_t
	if err := unix.Statfs(real, &st); err == nil && st.Flags&unix.ST_NOSUID != 0 {
		h.add(severity, path, "mount -o remount,suid \"$(findmnt -n -o TARGET --target "+rootfile.ShellQuote(real)+")\"",
			"lies on a filesystem mounted nosuid, which takes its privilege away: %s", follows)
		return
	}
	h.fine(path, "has its privilege")
}

// twins is the programs called runc that an engine or a user may call past the gate, each
// file once.
func (h *host) twins() []string {
	var found []string
	seen := map[string]bool{}
	for _, dir := range engines.ProgramDirs {
		path := filepath.Join(h.path(dir), "runc")
		real, err := filepath.EvalSymlinks(path)
		if err != nil || seen[real] || isGate(path) {
			continue
		}
		if info, err := os.Stat(real); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			seen[real] = true
			found = append(found, real)
		}
	}
	return found
}

// checkTwins is the runc that stands beside the gate, on hosts with an engine.
func (h *host) checkTwins() {
	if len(h.engines) == 0 {
		return
	}
	for _, path := range h.twins() {
		name := "it"
		if judgeProgram(path) == nil {
			if text, err := h.try.versionOf(path); err == nil {
				if v, err := oci.ParseVersion(text); err == nil {
					name = v.String()
				}
			}
		}
		mend := command("configure", "--divert")
		used := "containers go through " + h.lowest
		if h.lowest == "" {
			used = "the gate finds no low-level runtime"
		}
		if real, err := filepath.EvalSymlinks(h.lowest); err == nil && real == path {
			used = "the gate itself goes on to it"
			mend = "install runc 1.2 or later as " + h.path(ownDir+"/runc") + " (make install), then " + mend
		}
		h.add(sevWarning, path, mend,
			"%s stands beside the gate (%s): `docker run --runtime runc`, BuildKit and whoever calls it by name walk past", name, used)
	}
}
