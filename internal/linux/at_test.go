// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// opened is a new directory, by its path and open.
func opened(t *testing.T) (string, FD) {
	t.Helper()
	path := t.TempDir()
	dir, err := OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return path, dir
}

// wantErr wants an error to be one, with the name of a system call.
func wantErr(t *testing.T, err, want error) {
	t.Helper()
	var in *os.PathError
	if !errors.Is(err, want) || !errors.As(err, &in) || in.Op == "" {
		t.Errorf("got %v, want %v of a system call", err, want)
	}
}

func noErr(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// Nothing that is done to a name follows a symbolic link.
func TestAtFollowsNothing(t *testing.T) {
	path, dir := opened(t)
	file, link := At{dir, "file"}, At{dir, "link"}
	fd, err := file.Create(0o600)
	noErr(t, err, link.Symlink("file"))
	defer fd.Close()
	before, err := file.Stat()
	noErr(t, err)
	long := time.Date(1970, 1, 2, 3, 4, 5, 6, time.UTC)
	noErr(t, link.SetTimes(long, long))
	wantErr(t, link.Chmod(0o777), unix.EOPNOTSUPP)
	wantErr(t, link.SetXattr("user.x", nil), unix.EPERM) // links can't have one
	if os.Geteuid() == 0 {
		noErr(t, link.Chown(1, 2), link.SetXattr("trusted.x", []byte("y")))
	}
	for name, open := range map[string]func() (FD, error){"file": link.OpenFile, "directory": link.OpenDir, "new file": func() (FD, error) { return link.Create(0o600) }, "lock": link.OpenLock} {
		if fd, err := open(); err == nil {
			fd.Close()
			t.Errorf("a link was opened as a %s", name)
		}
	}
	after, err := file.Stat()
	noErr(t, err)
	if before != after {
		t.Errorf("the file was %+v, and is %+v", before, after)
	}
	st, err := link.Stat()
	noErr(t, err)
	if st.Mode&TypeMask != TypeSymlink || !st.MTime.Equal(long) || !st.ATime.Equal(long) {
		t.Errorf("the link is %+v", st)
	}
	if target, err := link.ReadLink(); err != nil || target != "file" {
		t.Errorf("the link is to %q, %v", target, err)
	}
	noErr(t, (At{dir, "other"}).Link(link), (At{dir, "other"}).Remove(), link.Remove())
	if _, err := os.Lstat(filepath.Join(path, "file")); err != nil {
		t.Error(err)
	}
}

func TestAtNames(t *testing.T) {
	_, dir := opened(t)
	defer unix.Umask(unix.Umask(0o077))
	a := At{dir, "d"}
	noErr(t, a.Mkdir(0o777))
	wantErr(t, a.Mkdir(0o777), fs.ErrExist)
	noErr(t, a.Chmod(0o1751), At{dir, "p"}.Mknod(TypeFIFO|0o600, 0, 0))
	noErr(t, At{dir, "p"}.Chmod(0o640))
	for name, want := range map[string]uint32{"d": TypeDir | 0o1751, "p": TypeFIFO | 0o640} {
		if st, err := (At{dir, name}).Stat(); err != nil || st.Mode != want || st.IsDir() != (name == "d") {
			t.Errorf("%s: mode %o, %v, want %o", name, st.Mode, err, want)
		}
	}
	wantErr(t, a.Remove(), ErrIsDirectory)
	noErr(t, At{dir, "e"}.Mkdir(0o700))
	in, err := At{dir, "e"}.OpenDir()
	noErr(t, err, At{in, "f"}.Mkdir(0o700), in.Close())
	wantErr(t, a.Rename(At{dir, "e"}), ErrNotEmpty)
	wantErr(t, At{dir, "e"}.RemoveDir(), ErrNotEmpty)
	wantErr(t, At{dir, "p"}.RemoveDir(), ErrNotDirectory)
	noErr(t, At{dir, "e"}.Rename(a)) // onto an empty one
	_, err = At{dir, "e"}.Stat()
	wantErr(t, err, fs.ErrNotExist)
	buf := make([]byte, 4096)
	for range 2 {
		var all []string
		for {
			names, err := dir.Names(buf)
			noErr(t, err)
			if len(names) == 0 {
				break
			}
			all = append(all, names...)
		}
		if slices.Sort(all); !slices.Equal(all, []string{"d", "p"}) {
			t.Errorf("names %q", all)
		}
		noErr(t, dir.Rewind())
	}
}

// A path is resolved within the directory, or not at all.
func TestDirInRoot(t *testing.T) {
	path, dir := opened(t)
	noErr(t, os.MkdirAll(filepath.Join(path, "a/b"), 0o755), os.Symlink("/a", filepath.Join(path, "abs")),
		os.Symlink("../../../..", filepath.Join(path, "a/up")), os.Symlink("loop", filepath.Join(path, "loop")), os.WriteFile(filepath.Join(path, "f"), nil, 0o600))
	for _, row := range []struct {
		path, is        string // the directory, by its path from the top
		inRoot, beneath error
	}{
		{".", ".", nil, nil},
		{"a/b", "a/b", nil, nil},
		{"abs/b", "a/b", nil, ErrLoop},
		{"a/up/a", "a", nil, ErrLoop},
		{"../../a", "a", nil, ErrCrossMount},
		{"/a", "a", nil, ErrCrossMount},
		{"loop", "", ErrLoop, ErrLoop},
		{"f", "", ErrNotDirectory, ErrNotDirectory},
		{"none", "", fs.ErrNotExist, fs.ErrNotExist},
		{"abs/none", "", fs.ErrNotExist, ErrLoop},
	} {
		for how, want := range map[string]error{"in root": row.inRoot, "beneath": row.beneath} {
			open := dir.DirInRoot
			if how == "beneath" {
				open = dir.DirBeneath
			}
			fd, err := open(row.path)
			if want != nil {
				wantErr(t, err, want)
				continue
			}
			if err != nil {
				t.Errorf("%s, %s: %v", row.path, how, err)
				continue
			}
			got, err := At{Dir: fd}.Stat()
			noErr(t, err, fd.Close())
			var st unix.Stat_t
			noErr(t, unix.Stat(filepath.Join(path, row.is), &st))
			if got.Inode != st.Ino {
				t.Errorf("%s, %s: isn't %s", row.path, how, row.is)
			}
		}
	}
}

func TestFDData(t *testing.T) {
	_, dir := opened(t)
	fd, err := At{dir, "f"}.Create(0o600)
	noErr(t, err)
	defer fd.Close()
	_, err = fd.WriteAt([]byte("data"), 1<<20)
	noErr(t, err, fd.Truncate(4<<20))
	start, end, err := fd.NextData(0)
	if err != nil || start != 1<<20 || end <= start || end >= 4<<20 {
		t.Errorf("data from %d to %d, %v", start, end, err)
	}
	if start, end, err := fd.NextData(end); err != nil || start != end {
		t.Errorf("more data from %d to %d, %v", start, end, err)
	}
	in, err := At{dir, "f"}.OpenFile()
	noErr(t, err)
	defer in.Close()
	buf := make([]byte, 6)
	if n, err := in.ReadAt(buf, 1<<20-1); n != 6 || err != nil || string(buf) != "\x00data\x00" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if n, err := in.ReadAt(buf, 4<<20-2); n != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes at the end, %v", n, err)
	}
	_, err = in.WriteAt([]byte("x"), 0)
	wantErr(t, err, unix.EBADF)
}

func TestFDLock(t *testing.T) {
	_, dir := opened(t)
	a := At{dir, "lock"}
	one, err := a.OpenLock()
	noErr(t, err)
	two, err := a.OpenLock()
	noErr(t, err, one.Lock())
	defer two.Close()
	wantErr(t, two.Lock(), ErrWouldBlock)
	noErr(t, one.Close(), two.Lock())
	if st, err := a.Stat(); err != nil || st.Mode != TypeRegular|0o600 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
}

func TestXattrs(t *testing.T) {
	_, dir := opened(t)
	a := At{dir, "f"}
	fd, err := a.Create(0o600)
	noErr(t, err)
	defer fd.Close()
	// By the descriptor and by the name it is the same file; a long value takes a second call.
	long := bytes.Repeat([]byte("v"), 2000)
	noErr(t, At{Dir: fd}.SetXattr("user.long", long), a.SetXattr("user.empty", nil))
	for _, at := range []At{a, {Dir: fd}} {
		names, err := at.Xattrs()
		noErr(t, err)
		names = slices.DeleteFunc(names, func(n string) bool { return n == "security.selinux" })
		if slices.Sort(names); !slices.Equal(names, []string{"user.empty", "user.long"}) {
			t.Errorf("names %q", names)
		}
		if value, err := at.Xattr("user.long"); err != nil || !bytes.Equal(value, long) {
			t.Errorf("%d bytes, %v", len(value), err)
		}
		if value, err := at.Xattr("user.empty"); err != nil || len(value) != 0 {
			t.Errorf("%q, %v", value, err)
		}
		_, err = at.Xattr("user.none")
		wantErr(t, err, ErrNoXattr)
		wantErr(t, at.RemoveXattr("user.none"), ErrNoXattr)
		wantErr(t, at.SetXattr("system.none", nil), errors.ErrUnsupported)
	}
	noErr(t, a.RemoveXattr("user.long"), At{Dir: fd}.RemoveXattr("user.empty"))
	if names, err := a.Xattrs(); err != nil || slices.Contains(names, "user.long") {
		t.Errorf("names %q, %v", names, err)
	}
}
