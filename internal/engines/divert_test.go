// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// dpkgHost is a host with a runc of a package, another as our low-level runtime, and dpkg.
func dpkgHost(t *testing.T) Host {
	t.Helper()
	if _, err := os.Stat(dpkgDivert); err != nil {
		t.Skip(dpkgDivert + " isn't here")
	}
	h := emptyHost(t)
	for _, path := range []string{"/var/lib/dpkg/status", "/var/lib/dpkg/diversions", "/var/lib/dpkg/triggers/File"} {
		h.put(t, path, "")
	}
	must(t, os.MkdirAll(h.path("/var/lib/dpkg/updates"), 0o755), os.MkdirAll(h.path("/var/lib/dpkg/info"), 0o755))
	h.runc(t, "/usr/sbin/runc", "1.1.5")
	h.runc(t, "/usr/libexec/userns-runtime/runc", "1.5.2")
	h.lowLevel(t, "/usr/libexec/userns-runtime/runc")
	return h
}

func (h Host) runc(t *testing.T, path, version string) {
	t.Helper()
	h.put(t, path, "#!/bin/sh\necho runc version "+version+"\n")
	must(t, os.Chmod(h.path(path), 0o755))
}

func (h Host) lowLevel(t *testing.T, path string) {
	t.Helper()
	h.put(t, "/etc/userns-runtime/config.toml", fmt.Sprintf("runtimes = [%q]\n", h.path(path)))
}

// diversions is what dpkg knows.
func (h Host) diversions(t *testing.T) string {
	t.Helper()
	out, err := h.dpkg("--list")
	must(t, err)
	return out
}

const ours = "/usr/bin/userns-runtime"

// A link is looked at as it is written, without Root: the program's name has it in these tests.
func (h Host) program() string { return h.path(ours) }

func TestDivert(t *testing.T) {
	h := dpkgHost(t)
	must(t, os.Symlink("../sbin/runc", h.path("/usr/bin/runc")))
	was := h.tree(t)
	out, err := h.Divert(h.program(), true)
	must(t, err)
	if h.tree(t) != was || h.diversions(t) != "" || len(out.Steps) != 2 || out.Warnings != nil {
		t.Fatalf("a dry run: %+v, %s", out, h.diversions(t))
	}
	_, err = h.Divert(h.program(), false)
	must(t, err)
	want := "local diversion of /usr/sbin/runc to /usr/sbin/runc.userns-runtime"
	if to, err := os.Readlink(h.path("/usr/sbin/runc")); err != nil || to != h.program() || h.diversions(t) != want {
		t.Errorf("%q, %v, %s", to, err, h.diversions(t))
	}
	now := h.tree(t)
	out, err = h.Divert(h.program(), false)
	must(t, err)
	if len(out.Steps) != 0 || h.tree(t) != now {
		t.Errorf("a second time: %+v", out)
	}
	busy := errors.New("containers")
	if _, err := h.Undivert(func() error { return busy }, false); !errors.Is(err, busy) || h.tree(t) != now {
		t.Errorf("with containers: %v", err)
	}
	_, err = h.Undivert(free, true)
	must(t, err)
	if h.tree(t) != now {
		t.Error("a dry run of undo has changed something")
	}
	_, err = h.Undivert(free, false)
	must(t, err)
	if h.tree(t) != was || h.diversions(t) != "" {
		t.Errorf("undone: %s\n%swant\n%s", h.diversions(t), h.tree(t), was)
	}
	h.stateIsGone(t)
	if _, err := h.Undivert(free, false); !errors.Is(err, ErrNotConfigured) {
		t.Errorf("undo of nothing: %v", err)
	}
}

// A kill at any step leaves a runc at the path, and the next run finishes.
func TestDivertKilled(t *testing.T) {
	for _, verb := range []string{"divert", "undivert"} {
		for n := 1; ; n++ {
			h := dpkgHost(t)
			was := h.tree(t)
			if verb == "undivert" {
				_, err := h.Divert(h.program(), false)
				must(t, err)
			}
			if !dies(t, h, n, verb, "-", "-") {
				if n < 4 {
					t.Fatalf("%s: only %d steps", verb, n)
				}
				break
			}
			at := fmt.Sprintf("%s, killed at step %d", verb, n)
			if _, err := os.Stat(h.path("/usr/sbin/runc")); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			if n%2 == 0 {
				if _, err := h.Divert(h.program(), false); err != nil {
					t.Fatalf("%s: %v", at, err)
				}
				if to, err := os.Readlink(h.path("/usr/sbin/runc")); err != nil || to != h.program() || !strings.Contains(h.diversions(t), "runc") {
					t.Errorf("%s, and again: %q, %v", at, to, err)
				}
			}
			if _, err := h.Undivert(free, false); err != nil && !errors.Is(err, ErrNotConfigured) {
				t.Fatalf("%s: %v", at, err)
			}
			if h.tree(t) != was || h.diversions(t) != "" {
				t.Fatalf("%s, and undone: %s\n%swant\n%s", at, h.diversions(t), h.tree(t), was)
			}
			h.stateIsGone(t)
		}
	}
}

func TestDivertRefused(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(h Host)
		want string
	}{
		{"no runc", func(h Host) { must(t, os.Remove(h.path("/usr/sbin/runc"))) }, "/usr/sbin/runc, /usr/bin/runc: no package has runc there"},
		{"another's diversion", func(h Host) {
			_, err := h.dpkg("--no-rename", "--divert", "/usr/sbin/runc.other", "--package", "other", "--add", "/usr/sbin/runc")
			must(t, err)
		}, "/usr/sbin/runc: is diverted to /usr/sbin/runc.other already (other): take that back first: dpkg-divert --package other --no-rename --remove /usr/sbin/runc"},
		{"the second name is taken", func(h Host) { h.put(t, "/usr/sbin/runc.userns-runtime", "x") }, "/usr/sbin/runc: is there, and so is /usr/sbin/runc.userns-runtime"},
		{"the low-level runtime is that one", func(h Host) { h.runc(t, "/usr/sbin/runc", "1.5.2"); h.lowLevel(t, "/usr/sbin/runc") }, "sbin/runc: is what will be userns-runtime itself: install runc 1.2 or later at /usr/libexec/userns-runtime/runc"},
		{"by a link", func(h Host) {
			must(t, os.Symlink("/usr/sbin/runc", h.path("/usr/bin/x")), os.Remove(h.path("/usr/bin/x")), os.Symlink("../sbin/runc", h.path("/usr/bin/x")))
			h.lowLevel(t, "/usr/bin/x")
		}, "is what will be userns-runtime itself"},
		{"the low-level runtime is old", func(h Host) { h.runc(t, "/usr/libexec/userns-runtime/runc", "1.1.5") }, "is runc 1.1.5: expected 1.2 or later"},
		{"there is no low-level runtime", func(h Host) { h.lowLevel(t, "/nowhere/runc") }, "low-level runtime: there is none"},
		{"a directory that others can write", func(h Host) { must(t, os.Chmod(h.path("/usr/sbin"), 0o777)) }, "/usr/sbin: has mode 0777"},
	} {
		h := dpkgHost(t)
		row.do(h)
		was, db := h.tree(t), h.diversions(t)
		_, err := h.Divert(h.program(), false)
		wantError(t, err, row.want)
		if h.tree(t) != was || h.diversions(t) != db {
			t.Errorf("%s: refused, and something has changed", row.name)
		}
		h.stateIsGone(t)
	}
}

// Where it fails, nothing of it is left, with dpkg neither.
func TestDivertFails(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chattr needs root")
	}
	for _, row := range []struct {
		name string
		do   func(h Host) (undo func())
		want string
	}{
		{"the directory can't be written", func(h Host) func() {
			must(t, exec.Command("chattr", "+i", h.path("/usr/sbin")).Run())
			return func() { must(t, exec.Command("chattr", "-i", h.path("/usr/sbin")).Run()) }
		}, "/usr/sbin/.runc.usernsctl: operation not permitted"},
		{"runc can't get a second name", func(h Host) func() {
			must(t, exec.Command("chattr", "+i", h.path("/usr/sbin/runc")).Run())
			return func() { must(t, exec.Command("chattr", "-i", h.path("/usr/sbin/runc")).Run()) }
		}, "/usr/sbin/runc.userns-runtime: operation not permitted"},
		{"something is in the link's way", func(h Host) func() {
			h.put(t, "/usr/sbin/.runc.usernsctl/x", "")
			return func() {}
		}, "/usr/sbin/.runc.usernsctl: remove: directory not empty"},
	} {
		h := dpkgHost(t)
		undo := row.do(h)
		was := h.tree(t)
		_, err := h.Divert(h.program(), false)
		undo()
		wantError(t, err, row.want)
		if h.tree(t) != was || h.diversions(t) != "" {
			t.Errorf("%s: left: %s\n%swant\n%s", row.name, h.diversions(t), h.tree(t), was)
		}
		h.stateIsGone(t)
	}
	// One that was diverted before stays so.
	h := dpkgHost(t)
	_, err := h.Divert(h.program(), false)
	must(t, err)
	now, list := h.tree(t), h.diversions(t)
	h.runc(t, "/usr/bin/runc", "1.3.0")
	h.put(t, "/usr/bin/.runc.usernsctl/x", "")
	_, err = h.Divert(h.program(), false)
	wantError(t, err, "/usr/bin/.runc.usernsctl: ")
	must(t, os.RemoveAll(h.path("/usr/bin/.runc.usernsctl")), os.Remove(h.path("/usr/bin/runc")))
	st, err := h.loadDivert(runcPlace.key)
	if h.tree(t) != now || h.diversions(t) != list || err != nil || st.Phase != done || len(st.Paths) != 1 {
		t.Errorf("left: %+v, %v, %s\n%s", st, err, h.diversions(t), h.tree(t))
	}
}

// What becomes of a diversion while it is there.
func TestDivertLater(t *testing.T) {
	first, second := "/usr/sbin/runc", "/usr/sbin/runc.userns-runtime"
	for _, row := range []struct {
		name string
		do   func(t *testing.T, h Host)
		undo string // in the error of undo; "" if it goes
		runc string // the version at the path then; "" is none
	}{
		{"an upgrade", func(t *testing.T, h Host) { h.runc(t, second, "1.1.6") }, "", "1.1.6"},
		{"the package is removed", func(t *testing.T, h Host) { must(t, os.Remove(h.path(second))) }, "", ""},
		{"the link is removed, and made again", func(t *testing.T, h Host) {
			must(t, os.Remove(h.path(first)))
			_, err := h.Divert(h.program(), false)
			must(t, err)
			if to, err := os.Readlink(h.path(first)); err != nil || to != h.program() {
				t.Errorf("%q, %v", to, err)
			}
		}, "", "1.1.5"},
		{"the link is removed", func(t *testing.T, h Host) { must(t, os.Remove(h.path(first))) }, "", "1.1.5"},
		{"somebody has put another runc over the link", func(t *testing.T, h Host) {
			must(t, os.Remove(h.path(first)))
			h.runc(t, first, "1.4.0")
			_, err := h.Divert(h.program(), false)
			wantError(t, err, "/usr/sbin/runc: is there, and so is /usr/sbin/runc.userns-runtime")
		}, "/usr/sbin/runc: isn't the link to", "1.4.0"},
		{"another program of ours", func(t *testing.T, h Host) {
			h.put(t, "/opt/userns-runtime", "x")
			out, err := h.Divert(h.path("/opt/userns-runtime"), false)
			must(t, err)
			if to, err := os.Readlink(h.path(first)); err != nil || to != h.path("/opt/userns-runtime") || len(out.Steps) == 0 {
				t.Errorf("%q, %v", to, err)
			}
		}, "", "1.1.5"},
		{"somebody has diverted it elsewhere", func(t *testing.T, h Host) {
			_, err := h.dpkg("--no-rename", "--remove", first)
			must(t, err)
			_, err = h.dpkg("--no-rename", "--divert", first+".other", "--add", first)
			must(t, err)
			was := h.tree(t)
			for _, dry := range []bool{true, false} {
				_, err = h.Undivert(free, dry)
				wantError(t, err, first+": is diverted to /usr/sbin/runc.other already (LOCAL): take that back first: dpkg-divert --local --no-rename --remove "+first)
			}
			if h.tree(t) != was {
				t.Error("refused, and something has changed")
			}
			_, err = h.dpkg("--local", "--no-rename", "--remove", first)
			must(t, err)
		}, "", "1.1.5"},
		{"the state is lost", func(t *testing.T, h Host) { must(t, os.RemoveAll(h.path(StateDir))) }, "", "1.1.5"},
		{"the state is lost, and dpkg's", func(t *testing.T, h Host) {
			_, err := h.dpkg("--no-rename", "--remove", first)
			must(t, err, os.RemoveAll(h.path(StateDir)))
		}, "", "1.1.5"},
		{"the state is lost, and the link", func(t *testing.T, h Host) {
			must(t, os.RemoveAll(h.path(StateDir)), os.Remove(h.path(first)))
		}, "", "1.1.5"},
		{"the state is lost, and it is diverted again", func(t *testing.T, h Host) {
			must(t, os.RemoveAll(h.path(StateDir)))
			now := h.tree(t)
			out, err := h.Divert(h.program(), false)
			must(t, err)
			st, err := h.loadDivert(runcPlace.key)
			if err != nil || st == nil || st.Phase != done || len(out.Steps) != 0 || h.tree(t) != now {
				t.Errorf("%+v, %v, %+v", st, err, out)
			}
		}, "", "1.1.5"},
		{"the state is lost, and somebody has put another runc over the link", func(t *testing.T, h Host) {
			must(t, os.RemoveAll(h.path(StateDir)), os.Remove(h.path(first)))
			h.runc(t, first, "1.4.0")
			_, err := h.Divert(h.program(), false)
			wantError(t, err, "/usr/sbin/runc: is there, and so is /usr/sbin/runc.userns-runtime")
		}, "/usr/sbin/runc: isn't the link to", "1.4.0"},
		{"the administrator has taken it back", func(t *testing.T, h Host) {
			must(t, os.Remove(h.path(first)))
			_, err := h.dpkg("--rename", "--remove", first)
			must(t, err)
		}, "", "1.1.5"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := dpkgHost(t)
			_, err := h.Divert(h.program(), false)
			must(t, err)
			row.do(t, h)
			_, gone := os.Lstat(h.path(second))
			out, err := h.Undivert(free, false)
			if err == nil && len(out.Steps) == 1 && (out.Steps[0].To == "") != (gone != nil) {
				t.Errorf("it says %+v", out.Steps)
			}
			if row.undo != "" {
				wantError(t, err, row.undo)
			} else {
				must(t, err)
				h.stateIsGone(t)
				if h.diversions(t) != "" {
					t.Error(h.diversions(t))
				}
				if _, err := os.Lstat(h.path(second)); err == nil {
					t.Errorf("%s is still there", second)
				}
			}
			text, err := os.ReadFile(h.path(first))
			if row.runc == "" && err == nil || !strings.Contains(string(text), row.runc) {
				t.Errorf("runc: %q, %v", text, err)
			}
		})
	}
}

// What isn't diverted is named.
func TestUncovered(t *testing.T) {
	h := dpkgHost(t)
	h.runc(t, "/usr/local/sbin/runc", "1.3.0")
	out, err := h.Divert(h.program(), true)
	must(t, err)
	if len(out.Warnings) != 1 || !strings.HasPrefix(out.Warnings[0], "/usr/local/sbin/runc: is another runc") {
		t.Errorf("got %q", out.Warnings)
	}
	must(t, os.Remove(h.path("/usr/local/sbin/runc")), os.Symlink("../../bin/userns-runtime", h.path("/usr/local/sbin/runc")))
	out, err = h.Divert(h.program(), true)
	must(t, err)
	if out.Warnings != nil {
		t.Errorf("ours: %q", out.Warnings)
	}
	// Both places, where two packages have it.
	h.runc(t, "/usr/bin/runc", "1.3.0")
	out, err = h.Divert(h.program(), false)
	must(t, err)
	if len(out.Steps) != 4 || strings.Count(h.diversions(t), "\n") != 1 {
		t.Errorf("got %+v, %s", out.Steps, h.diversions(t))
	}
	_, err = h.Undivert(free, false)
	must(t, err)
}
