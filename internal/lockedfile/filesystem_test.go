// SPDX-License-Identifier: Apache-2.0

package lockedfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inMounts says whether this is the process with a mount namespace of its own; if
// not, it runs the test once more in such a one.
func inMounts(t *testing.T) bool {
	t.Helper()
	needRoot(t)
	const mountsVar = "LOCKEDFILE_TEST_MOUNTS"
	if os.Getenv(mountsVar) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mountsVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Errorf("in a mount namespace of its own: %v", err)
	}
	return false
}

func mount(t *testing.T, fstype, path string, flags uintptr, data string) {
	t.Helper()
	must(t, unix.Mount(fstype, path, fstype, flags, data))
	t.Cleanup(func() { must(t, unix.Unmount(path, unix.MNT_DETACH)) })
}

func TestReadOnly(t *testing.T) {
	if !inMounts(t) {
		return
	}
	dir := t.TempDir()
	mount(t, "tmpfs", dir, 0, "")
	path := filepath.Join(dir, "f")
	put(t, path, "a", 0o600)
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	err := Edit(path, 0o644, to("b"))
	wantError(t, err, path+".lock", "read-only file system: mount it read-write")
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("got %v", err)
	}
	wantTree(t, dir, "f=a")
}

// A filesystem without room for the new content, or for one more name, whichever
// of the files it is that doesn't fit.
func TestFull(t *testing.T) {
	if !inMounts(t) {
		return
	}
	const page = 4096
	for _, row := range []struct {
		name string
		room string // of tmpfs
		want string // the error from the name of the file on; "" if there is none
	}{
		{"room for nothing", "size=4k", "/.f.lockedfile-: write: "},
		{"room for the backup", "size=8k", "/.f.lockedfile: write: "},
		{"room for both", "size=12k", ""},
		{"no name", "nr_inodes=2", "/f.lock: open: "},
		{"a name for the lock", "nr_inodes=3", "/.f.lockedfile-: create: "},
		{"a name for the backup too", "nr_inodes=4", "/.f.lockedfile: create: "},
		{"names for all", "nr_inodes=5", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			mount(t, "tmpfs", dir, 0, row.room)
			path := filepath.Join(dir, "f")
			before, after := strings.Repeat("a", page), strings.Repeat("b", page)
			put(t, path, before, 0o600)
			err := Edit(path, 0o644, to(after))
			if row.want == "" {
				must(t, err)
				wantTree(t, dir, "f="+after, "f-="+before)
				return
			}
			name, _, _ := strings.Cut(row.want, ":")
			wantError(t, err, dir+name, row.want+"no space left on device: make room on it")
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("got %v", err)
			}
			wantTree(t, dir, "f="+before)
		})
	}
}

// chattr sets a flag of ioctl_iflags(2), until the test ends.
func chattr(t *testing.T, path string, flag int) {
	t.Helper()
	set := func(flag int) error {
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		was, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, was&^(immutable|appendOnly)|flag)
	}
	must(t, set(flag))
	t.Cleanup(func() { must(t, set(0)) })
}

// include/uapi/linux/fs.h
const (
	immutable  = 0x10
	appendOnly = 0x20
)

// Root may set files fast, and find their edits refused before anything is done.
func TestImmutable(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name string
		flag int
		on   string // a name in the directory; "" is the directory
		at   string // the name in the error
		want string
	}{
		{"file", immutable, "f", "f", "is immutable or append-only: expected a file that can be replaced: chattr -i -a "},
		{"append-only file", appendOnly, "f", "f", "is immutable or append-only"},
		{"backup", immutable, "f-", "f-", "is immutable or append-only"},
		{"lock", immutable, "f.lock", "f.lock", "open: operation not permitted: run it as root, and see what lsattr says"},
		{"what a killed edit has left", immutable, ".f.lockedfile", ".f.lockedfile", "remove what a killed edit has left: operation not permitted: "},
		{"directory", immutable, "", "f.lock", "open: operation not permitted: run it as root, and see what lsattr says"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, "f"), "a", 0o600)
			put(t, filepath.Join(dir, "f-"), "older", 0o600)
			on := filepath.Join(dir, row.on)
			if row.on != "f" && row.on != "f-" && row.on != "" {
				put(t, on, "", 0o600)
			}
			before := tree(t, dir)
			chattr(t, on, row.flag)
			err := Edit(filepath.Join(dir, "f"), 0o644, to("b"))
			wantError(t, err, filepath.Join(dir, row.at), row.want)
			wantTree(t, dir, before...)
		})
	}
	// Nothing to write is no offence.
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "a", 0o600)
	chattr(t, path, immutable)
	must(t, Edit(path, 0o644, to("a")))
}

// Anybody else than root, in a directory and on a file of root's.
func TestNoPermission(t *testing.T) {
	needRoot(t)
	// Reachable by all, and with a copy of this program that all can run.
	dir, err := os.MkdirTemp("", "lockedfile")
	must(t, err, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	etc := filepath.Join(dir, "etc")
	must(t, os.Mkdir(etc, 0o755), os.Chmod(etc, 0o755))
	path := filepath.Join(etc, "f")
	put(t, path, "a", 0o644)
	program, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	put(t, filepath.Join(dir, "program"), string(program), 0o755)

	asUser := func() string {
		cmd := self("edit " + path)
		cmd.Path = filepath.Join(dir, "program")
		cmd.Dir = "/"
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 1000, Gid: 1000}
		out, err := cmd.Output()
		if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
			t.Fatal(err)
		}
		return string(out)
	}
	wantError(t, errors.New(asUser()), path+".lock", "open: permission denied: run it as root")
	wantTree(t, etc, "f=a")

	// While root holds it, the lock can't be opened.
	hold(t, path)
	wantError(t, errors.New(asUser()), path+".lock", "open: permission denied")
	wantTree(t, etc, "f=a", "f.lock=")
	must(t, os.Remove(path+".lock"))

	// Their own directory, root's file: its owner can't be kept, so it isn't touched.
	must(t, os.Chown(etc, 1000, 1000))
	wantError(t, errors.New(asUser()), filepath.Join(etc, ".f.lockedfile-"), "give it to UID 0, GID 0: operation not permitted: run it as root")
	wantTree(t, etc, "f=a")
	must(t, os.Chmod(path, 0o600))
	wantError(t, errors.New(asUser()), path, "open: permission denied: run it as root")
	wantTree(t, etc, "f=a")
	must(t, os.Chown(path, 1000, 1000))
	if out := asUser(); out != "" {
		t.Error(out)
	}
	wantTree(t, etc, "f=new", "f-=a")
}
