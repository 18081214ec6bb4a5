// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What somebody writes between the look at a file and its change is never lost.
func TestReplaceOfAnother(t *testing.T) {
	h := emptyHost(t)
	const file = "/etc/docker/daemon.json"
	h.put(t, file, "theirs")
	s, err := h.open()
	must(t, err)
	defer s.close()
	for _, shall := range [][]byte{[]byte("new"), nil} {
		for _, was := range [][]byte{[]byte("seen"), nil} {
			if shall == nil && was == nil {
				continue
			}
			if err := s.replace(&state{File: file}, was, shall); !errors.Is(err, errForeign) {
				t.Errorf("%q to %q: %v", was, shall, err)
			}
			if text, err := os.ReadFile(h.path(file)); err != nil || string(text) != "theirs" {
				t.Errorf("got %q, %v", text, err)
			}
		}
	}
}

// Directories are for everybody to look at, whatever the umask, and the states for root alone.
func TestModes(t *testing.T) {
	for _, mask := range []int{0o077, 0} {
		old := unix.Umask(mask)
		h := emptyHost(t)
		_, err := h.Configure("docker", usual, false)
		unix.Umask(old)
		must(t, err)
		for path, want := range map[string]os.FileMode{"/etc/docker": 0o755, StateDir: 0o700} {
			if info, err := os.Stat(h.path(path)); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
	}
	h := emptyHost(t)
	must(t, os.MkdirAll(h.path(StateDir), 0o700), os.Chmod(h.path(StateDir), 0o777))
	_, err := h.Configure("docker", usual, false)
	wantError(t, err, StateDir+": has mode 0777")
}

// A kept original that isn't what it was is nothing to give back.
func TestChangedContent(t *testing.T) {
	h := emptyHost(t)
	h.put(t, DockerFile, "{}")
	_, err := h.Configure("docker", usual, false)
	must(t, err)
	now := h.tree(t)
	h.put(t, StateDir+"/docker/"+hash([]byte("{}")), `{"data-root": "/x"}`)
	_, err = h.Undo("docker", "", free, false)
	wantError(t, err, "isn't what was written there: put /etc/docker/daemon.json right by hand; then: rm -r "+StateDir+"/docker")
	if h.tree(t) != now {
		t.Errorf("refused, and something has changed:\n%s", h.tree(t))
	}
}

// Others' processes are no engines of the host's, and neither are their files its programs'.
func TestOfOthers(t *testing.T) {
	h := emptyHost(t)
	h.proc(t, 7, "dockerd")
	other := h
	other.UID++
	if len(h.running("dockerd")) != 1 || len(other.running("dockerd")) != 0 {
		t.Errorf("got %v, %v", h.running("dockerd"), other.running("dockerd"))
	}
	if os.Geteuid() != 0 {
		t.Skip("chown needs root")
	}
	must(t, os.Chown(h.path(usual.Program), 1234, -1))
	_, err := h.Program(h.path("/usr/bin/usernsctl"))
	wantError(t, err, usual.Program+": is owned by UID 1234, who could change what engines run as root: chown root: "+usual.Program)
}

// chown(1) of a link changes what it leads to, unless it is told not to.
func TestJudgeLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chown needs root")
	}
	h := emptyHost(t)
	must(t, os.Symlink("bin", h.path("/usr/link")))
	must(t, os.Lchown(h.path("/usr/link"), 1234, -1))
	wantError(t, h.Judge("/usr/link/userns-runtime"), "/usr/link: is owned by UID 1234, who could change what engines run as root: chown -h root: /usr/link")
}

func TestLargeFile(t *testing.T) {
	h := emptyHost(t)
	h.put(t, DockerFile, "")
	must(t, os.Truncate(h.path(DockerFile), maxFile+1))
	_, err := h.Configure("docker", usual, true)
	wantError(t, err, DockerFile+": 16777217 bytes: expected at most 16777216")
}

// A diversion by our name that a package made isn't ours, and neither is another's link in runc's place.
func TestDivertOfOthers(t *testing.T) {
	h := dpkgHost(t)
	_, err := h.dpkg("--no-rename", "--divert", "/usr/sbin/runc"+".userns-runtime", "--package", "other", "--add", "/usr/sbin/runc")
	must(t, err)
	_, err = h.Divert(h.program(), false)
	wantError(t, err, "/usr/sbin/runc: is diverted to /usr/sbin/runc.userns-runtime already (other)")
	if _, err := h.Undivert(free, false); !errors.Is(err, ErrNotConfigured) {
		t.Errorf("got %v", err)
	}

	h = dpkgHost(t)
	_, err = h.Divert(h.program(), false)
	must(t, err)
	must(t, os.Remove(h.path("/usr/sbin/runc")), os.Symlink("crun", h.path("/usr/sbin/runc")))
	_, err = h.Divert(h.program(), false)
	wantError(t, err, "/usr/sbin/runc: is a symbolic link to crun, which isn't this program's")

	// A low-level runtime that is userns-runtime by another name.
	h = dpkgHost(t)
	h.runc(t, "/opt/userns-runtime", "1.5.2")
	must(t, os.Symlink(h.path("/opt/userns-runtime"), h.path("/usr/libexec/x")))
	h.lowLevel(t, "/usr/libexec/x")
	_, err = h.Divert(h.program(), false)
	wantError(t, err, filepath.Base(h.Root)+"/usr/libexec/x: is what will be userns-runtime itself")
}
