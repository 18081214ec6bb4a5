// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// process starts a child that waits, under the name and with the arguments given, seen by real /proc.
func (w *world) process(change func(*exec.Cmd), name string, args ...string) *exec.Cmd {
	w.t.Helper()
	self, err := os.Executable()
	w.must(err)
	cmd := exec.Command(self)
	cmd.Args = append([]string{name}, args...)
	cmd.Env = append(os.Environ(), childEnv+"=wait")
	stdin, err := cmd.StdinPipe()
	w.must(err)
	if change != nil {
		change(cmd)
	}
	w.must(cmd.Start())
	w.t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	// Start returns when execve(2) has closed what it closes: a little before there are arguments.
	eventually(w.t, func() bool {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cmdline")
		return err == nil && len(text) > 0
	})
	return cmd
}

// shell is a child in namespaces of its own that says when it is ready, and waits.
func (w *world) shell(flags uintptr, script string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", script+"\necho ready; read x || true")
	cmd.SysProcAttr = &unix.SysProcAttr{Unshareflags: flags}
	stdin, err := cmd.StdinPipe()
	w.must(err)
	stdout, err := cmd.StdoutPipe()
	w.must(err)
	var said bytes.Buffer
	cmd.Stderr = &said
	w.must(cmd.Start())
	w.t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	if line, err := io.ReadAll(io.LimitReader(stdout, 6)); err != nil || string(line) != "ready\n" {
		w.t.Fatalf("%s: %q, %v: %s", script, line, err, said.String())
	}
	return cmd
}

// Whoever uses something of what is to be moved is named, and nothing is touched.
func TestInUse(t *testing.T) {
	w := newWorld(t)
	w.host.Proc = "" // all processes there are
	for _, row := range []struct {
		name  string
		start func() *exec.Cmd
		want  string // with PID and DATA
	}{
		{"a working directory", func() *exec.Cmd {
			return w.process(func(c *exec.Cmd) { c.Dir = w.path("volumes/v/_data") }, "x")
		}, "process PID (daemonroot.test) works in DATA/volumes/v/_data"},
		{"an open file", func() *exec.Cmd {
			return w.process(func(c *exec.Cmd) {
				f, err := os.Open(w.path("containers/c0/c0-json.log"))
				w.must(err)
				w.t.Cleanup(func() { f.Close() })
				c.ExtraFiles = []*os.File{f}
			}, "x")
		}, "process PID (daemonroot.test) has open DATA/containers/c0/c0-json.log"},
		{"a program", func() *exec.Cmd {
			self, err := os.ReadFile("/bin/sleep")
			w.must(err)
			w.must(os.WriteFile(w.path("volumes/v/_data/sleep"), self, 0o700))
			cmd := exec.Command(w.path("volumes/v/_data/sleep"), "1000")
			w.must(cmd.Start())
			w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			return cmd
		}, "process PID (sleep) runs DATA/volumes/v/_data/sleep"},
		{"a root", func() *exec.Cmd {
			w.must(os.MkdirAll(w.path("volumes/v/_data/bin"), 0o700))
			sh, err := os.ReadFile("/bin/busybox")
			if err != nil {
				w.t.Skip("there is no static busybox")
			}
			w.must(os.WriteFile(w.path("volumes/v/_data/bin/sh"), sh, 0o700))
			cmd := exec.Command("/bin/sh", "-c", "echo ready; read x")
			cmd.SysProcAttr = &unix.SysProcAttr{Chroot: w.path("volumes/v/_data")}
			cmd.Dir = "/"
			stdin, err := cmd.StdinPipe()
			w.must(err)
			w.must(cmd.Start())
			w.t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
			return cmd
		}, "process PID (sh) works in DATA/volumes/v/_data"},
		{"a volume in another mount namespace", func() *exec.Cmd {
			return w.shell(unix.CLONE_NEWNS, "mount --make-rprivate /; mount --bind "+w.path("volumes/v/_data")+" /mnt")
		}, "DATA/volumes/v/_data is mounted at /mnt, where process PID (sh) is"},
		{"a volume, all else out of sight", func() *exec.Cmd {
			return w.shell(unix.CLONE_NEWNS, "mount --make-rprivate /; mount --bind "+w.path("volumes/v/_data")+" /mnt; umount -l "+"/dev/shm || true")
		}, "DATA/volumes/v/_data is mounted at /mnt, where process PID (sh) is"},
		{"a container's overlay", func() *exec.Cmd {
			w.must(os.MkdirAll(w.path("overlay2/x/merged"), 0o700))
			return w.shell(unix.CLONE_NEWNS, "mount --make-rprivate /; mount -t tmpfs layer "+w.path("overlay2/x/merged"))
		}, "DATA/overlay2/x/merged has layer (tmpfs) mounted on it, where process PID (sh) is: end the container"},
		{"another filesystem for the volumes", func() *exec.Cmd {
			w.must(unix.Mount("disk", w.path("volumes"), "tmpfs", 0, ""))
			w.t.Cleanup(func() { _ = unix.Unmount(w.path("volumes"), unix.MNT_DETACH) })
			return nil
		}, "DATA/volumes has disk (tmpfs) mounted on it: end the container that it is of; if it is another filesystem"},
		{"a dockerd by its flag", func() *exec.Cmd { return w.process(nil, "/usr/sbin/dockerd", "-H", "unix://", "--data-root", w.data) }, "DATA is the data root of dockerd, process PID: stop it"},
		{"a dockerd by its flag, in one word", func() *exec.Cmd { return w.process(nil, "dockerd", "--data-root="+w.data+"/") }, "DATA is the data root of dockerd, process PID"},
		{"a dockerd by an old flag", func() *exec.Cmd { return w.process(nil, "dockerd", "-g", w.data) }, "DATA is the data root of dockerd, process PID"},
		{"a dockerd by its file", func() *exec.Cmd {
			w.must(os.WriteFile(w.data+".json", []byte("\ufeff"+`{"data-root": "`+w.data+`"}`), 0o600))
			return w.process(nil, "dockerd", "--config-file="+w.data+".json")
		}, "DATA is the data root of dockerd, process PID"},
		{"a dockerd by a link", func() *exec.Cmd {
			w.must(os.Symlink(w.data, w.data+".link"))
			return w.process(nil, "dockerd", "--data-root", w.data+".link")
		}, "DATA is the data root of dockerd, process PID"},
		{"a dockerd by its pid file", func() *exec.Cmd {
			cmd := w.process(nil, "moby", "--data-root", w.data)
			w.must(os.MkdirAll(w.host.Root+"/run", 0o755))
			w.must(os.WriteFile(w.host.Root+"/run/docker.pid", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
			return cmd
		}, "process PID, by /run/docker.pid (if that isn't dockerd, remove the file): stop it"},
		{"a dockerd whose file can't be read", func() *exec.Cmd {
			w.must(os.WriteFile(w.data+".json", []byte(`{`), 0o600))
			return w.process(nil, "dockerd", "--config-file", w.data+".json")
		}, "dockerd (process PID): its data root can't be known: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.t = t
			w.fill()
			want := strings.ReplaceAll(row.want, "DATA", w.data)
			if cmd := row.start(); cmd != nil {
				want = strings.ReplaceAll(want, "PID", strconv.Itoa(cmd.Process.Pid))
				if !strings.Contains(want, "dockerd") {
					eventually(t, func() bool { // it has become what it is to be
						_, err := w.do("migrate", true)
						return err != nil
					})
				}
			}
			w.refuses("migrate", want)
		})
	}
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for range 100 {
		if is() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("in vain")
}

// Those who use something else are in nobody's way.
func TestNotInUse(t *testing.T) {
	w := newWorld(t)
	w.host.Proc = ""
	w.fill()
	w.must(os.MkdirAll(w.path("5.6/docker"), 0o710))
	w.file("x/var/lib/docker/y", "", 0o600, 0, 0)
	w.must(os.Rename(w.path("x"), w.data+".x"))
	t.Cleanup(func() { _ = os.RemoveAll(w.data + ".x") })
	w.process(nil, "dockerd", "--data-root", w.path("5.6/docker"))
	w.process(nil, "dockerd", "--data-root", "/nowhere")
	w.process(nil, "vi", "--data-root", w.data)
	w.process(func(c *exec.Cmd) { c.Dir = w.data }, "x")                               // a shell that is there
	w.process(func(c *exec.Cmd) { c.Dir = w.path("5.6/docker") }, "x")                 // another daemon's
	w.shell(unix.CLONE_NEWNS, "mount --make-rprivate /; mount --bind "+w.data+" /mnt") // as of an agent that watches
	// A dockerd in a container has the same paths, and others by them.
	w.shell(unix.CLONE_NEWNS, "mount --make-rprivate /; mount --bind "+w.data+".x /mnt; mount -t tmpfs layer /mnt/var/lib/docker; cd /mnt/var/lib/docker")
	// The number of a process that has ended.
	w.must(os.MkdirAll(w.host.Root+"/run", 0o755))
	w.must(os.WriteFile(w.host.Root+"/run/docker.pid", []byte("4194303"), 0o600))
	w.call("migrate")
	// Its root isn't empty for restore as long as it has one.
	w.file("5.6/docker/engine-id", "", 0o600, 0, 0)
	w.refuses("restore", "5.6/docker: has data")
}
