// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// A filesystem without room, for bytes or for names, wherever that is seen.
func TestUnpackNoSpace(t *testing.T) {
	if !inMounts(t) {
		return
	}
	var many []member
	for n := range 100 {
		many = append(many, folder(fmt.Sprintf("d%d/", n)), file(fmt.Sprintf("d%d/f", n), strings.Repeat("x", 10_000)))
	}
	for _, row := range []struct{ name, room, want string }{
		{"no room for data", "size=512k", `/f": pwrite64: no space left on device: make room`},
		{"no room for names", "size=10m,nr_inodes=60", `": mkdirat: no space left on device: make room`},
		{"no room for anything", "nr_inodes=1", ".unpack: mkdirat: no space left on device: make room"},
		{"no room for the lock", "nr_inodes=2", ".r.unpack: openat: no space left on device: make room"},
		{"no room for the tree", "nr_inodes=3", ".unpack: mkdirat: no space left on device: make room"},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := t.TempDir()
			mount(t, "tmpfs", "tmpfs", up, 0, row.room)
			err := unpackTo(t, filepath.Join(up, "r"), UnpackOptions{Shift: toHost}, many...)
			wantRefusal(t, err, row.want)
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("got %v", err)
			}
			wantNothing(t, up)
		})
	}
	up := t.TempDir()
	mount(t, "tmpfs", "tmpfs", up, 0, "")
	must(t, unix.Mount("", up, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	wantRefusal(t, unpackTo(t, filepath.Join(up, "r"), UnpackOptions{Shift: toHost}, many...), up, "read-only file system: mount it read-write")
}

func TestUnpackMountPoint(t *testing.T) {
	if !inMounts(t) {
		return
	}
	up := t.TempDir()
	dir := filepath.Join(up, "r")
	must(t, os.Mkdir(dir, 0o755))
	mount(t, "tmpfs", "tmpfs", dir, 0, "")
	wantRefusal(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, everything()...), dir, "is a mount point", "expected a directory in it")
	wantSiblings(t, up, "r")
	must(t, unpackTo(t, filepath.Join(dir, "in"), UnpackOptions{Shift: toHost}, everything()...))
	wantListed(t, filepath.Join(dir, "in"), everythingListed()...)
}

// begun starts another process that unpacks, and waits for the rest of its archive.
func begun(t *testing.T, dir string) (rest io.WriteCloser, pid int, wait func() (said string, err error)) {
	t.Helper()
	cmd := self("unpack", dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	must(t, err, cmd.Start())
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	data := packed(t, append(everything(), folder(strings.Repeat("deep/", 500)), file("last", ""))...)
	_, err = in.Write(data[:len(data)-1024])
	must(t, err)
	stage := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".unpack")
	for range 1000 {
		if _, err := os.Lstat(filepath.Join(stage, "tree/sticky")); err == nil {
			return in, cmd.Process.Pid, func() (string, error) {
				in.Close()
				ended = true
				err := cmd.Wait()
				return said.String(), err
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it doesn't begin")
	return nil, 0, nil
}

// What a killed process left goes with the next run, and only with one for the same
// directory.
func TestUnpackKilled(t *testing.T) {
	needRoot(t)
	up := t.TempDir()
	dir := filepath.Join(up, "r")
	_, pid, wait := begun(t, dir)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	if _, err := wait(); err == nil {
		t.Error("it wasn't killed")
	}
	wantSiblings(t, up, ".r.unpack")
	must(t, unpackTo(t, filepath.Join(up, "other"), UnpackOptions{Shift: toHost}, everything()...))
	wantSiblings(t, up, ".r.unpack", "other")
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, everything()...))
	wantListed(t, dir, everythingListed()...)
	wantSiblings(t, up, "other", "r")

	// Also where the next one fails.
	dir = filepath.Join(up, "s")
	_, pid, wait = begun(t, dir)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	_, _ = wait()
	wantRefusal(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, file("../x", "")), "climbs")
	wantSiblings(t, up, "other", "r")
	// Killed before there was anything in it.
	must(t, os.Mkdir(filepath.Join(up, ".s.unpack"), 0o700))
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, everything()...))
	wantSiblings(t, up, "other", "r", "s")
}

// Of two for one directory the second is refused, and takes nothing from the first.
func TestUnpackTwoAtOnce(t *testing.T) {
	needRoot(t)
	up := t.TempDir()
	dir := filepath.Join(up, "r")
	rest, _, wait := begun(t, dir)
	wantRefusal(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, everything()...), dir, "another process is unpacking to it", "fuser -v")
	_, err := rest.Write(make([]byte, 1024))
	must(t, err)
	if said, err := wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	wantSiblings(t, up, "r")
	wantRefusal(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, everything()...), dir, "isn't empty")
	wantSiblings(t, up, "r")

	// Many that begin at the same instant: one makes it.
	dir = filepath.Join(up, "s")
	results := make(chan error)
	const all = 8
	for range all {
		go func() { results <- unpackTo(t, dir, UnpackOptions{Shift: toHost}, everything()...) }()
	}
	fine := 0
	for range all {
		if err := <-results; err == nil {
			fine++
		} else if !strings.Contains(err.Error(), "another process") && !strings.Contains(err.Error(), "isn't empty") {
			t.Error(err)
		}
	}
	if fine != 1 {
		t.Errorf("%d of them made it", fine)
	}
	wantListed(t, dir, everythingListed()...)
	wantSiblings(t, up, "r", "s")
}

// Who makes something by the name meanwhile keeps it.
func TestUnpackOvertaken(t *testing.T) {
	needRoot(t)
	for name, make := range map[string]func(dir string) error{
		"a full directory": func(dir string) error { return os.MkdirAll(filepath.Join(dir, "theirs"), 0o755) },
		"a file":           func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"a link":           func(dir string) error { return os.Symlink("/etc", dir) },
	} {
		t.Run(name, func(t *testing.T) {
			up := t.TempDir()
			dir := filepath.Join(up, "r")
			rest, _, wait := begun(t, dir)
			must(t, make(dir))
			before := listed(t, dir)
			_, err := rest.Write(bytes.Repeat([]byte{0}, 1024))
			must(t, err)
			if said, err := wait(); err == nil || !strings.Contains(said, "made by somebody else meanwhile") {
				t.Errorf("%v: %s", err, said)
			}
			wantSiblings(t, up, "r")
			if after := listed(t, dir); strings.Join(after, "") != strings.Join(before, "") {
				t.Errorf("was %q, is %q", before, after)
			}
		})
	}
}

// A tree deeper than any path, by few descriptors.
func TestRemoveDeep(t *testing.T) {
	up := t.TempDir()
	dir, err := linux.OpenDirectory(up)
	must(t, err)
	defer dir.Close()
	at := dir
	for n := range 3000 {
		a := linux.At{Dir: at, Name: "d"}
		must(t, a.Mkdir(0o700), linux.At{Dir: at, Name: fmt.Sprint(n)}.Mkdir(0o700), linux.At{Dir: at, Name: "l"}.Symlink("/etc/passwd"))
		next, err := a.OpenDir()
		must(t, err)
		if at != dir {
			must(t, at.Close())
		}
		at = next
	}
	must(t, at.Close())
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 50, Max: before.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
	must(t, remove(linux.At{Dir: dir, Name: "d"}))
	wantSiblings(t, up, "0", "l")
}
