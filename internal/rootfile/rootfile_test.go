// SPDX-License-Identifier: Apache-2.0

package rootfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// me is taken for root, so that not all tests need to be.
var me = uint32(os.Geteuid())

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// put makes a file or, by a slash at its end, a directory, and says its path.
func put(t *testing.T, name string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if strings.HasSuffix(name, "/") {
		must(t, os.Mkdir(path, 0o700))
	} else {
		must(t, os.WriteFile(path, []byte("text"), 0o600))
	}
	must(t, os.Chmod(path, mode)) // whatever the umask
	return path
}

func own(t *testing.T, path string, uid int) string {
	t.Helper()
	must(t, os.Chown(path, uid, -1))
	return path
}

// link replaces path by a symbolic link to what it was.
func link(t *testing.T, path string) string {
	t.Helper()
	must(t, os.Rename(path, path+".real"), os.Symlink(path+".real", path))
	return path
}

func node(t *testing.T, kind uint32) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node")
	must(t, unix.Mknod(path, kind|0o600, int(unix.Mkdev(1, 3)))) // as /dev/null
	return path
}

func needRoot(t *testing.T) {
	t.Helper()
	if me != 0 {
		t.Skip("needs root, to make files of others")
	}
}

func TestJudgement(t *testing.T) {
	const (
		file = "expected a regular file: "
		dir  = "expected a directory: "
		both = "is owned by UID 1000 and has mode 0666, writable by others than its owner: expected root, who is UID 0 here, " +
			"and no write permission for group and others: chown root: @ && chmod go-w @"
	)
	for _, row := range []struct {
		name string
		root bool // needs it
		make func(t *testing.T) string
		file string // how Read refuses it; @ is the path, "" is that it doesn't
		dir  string // how OpenDir does
	}{
		{"file", false, func(t *testing.T) string { return put(t, "f", 0o644) }, "", "is a regular file: " + dir + "move it away"},
		{"file with all the bits that don't matter", false, func(t *testing.T) string { return put(t, "f", 0o755|os.ModeSetuid|os.ModeSticky) }, "", dir},
		{"directory", false, func(t *testing.T) string { return put(t, "d/", 0o755) }, "is a directory: " + file + "move it away", ""},
		{"link to a file", false, func(t *testing.T) string { return link(t, put(t, "f", 0o600)) },
			"is a symbolic link: " + file + "put what it points to in its place", "is a symbolic link: " + dir},
		{"link to a directory", false, func(t *testing.T) string { return link(t, put(t, "d/", 0o700)) }, "is a symbolic link: " + file, "is a symbolic link: " + dir},
		{"link to nothing", false, func(t *testing.T) string {
			path := link(t, put(t, "f", 0o600))
			must(t, os.Remove(path+".real"))
			return path
		}, "is a symbolic link: " + file, "is a symbolic link: " + dir},
		{"FIFO", false, func(t *testing.T) string { return node(t, unix.S_IFIFO) }, "is a FIFO: " + file, "is a FIFO: " + dir},
		{"socket", false, func(t *testing.T) string { return node(t, unix.S_IFSOCK) }, "is neither a file nor a directory: " + file, dir},
		{"device", true, func(t *testing.T) string { return node(t, unix.S_IFCHR) }, "is a device: " + file, "is a device: " + dir},

		{"file that its group may write", false, func(t *testing.T) string { return put(t, "f", 0o620) },
			"has mode 0620, writable by others than its owner: expected no write permission for group and others: chmod go-w @", dir},
		{"file that all may write", false, func(t *testing.T) string { return put(t, "f", 0o602) }, "has mode 0602, ", dir},
		{"directory that its group may write", false, func(t *testing.T) string { return put(t, "d/", 0o770) }, file, "has mode 0770, "},
		{"directory like /tmp", false, func(t *testing.T) string { return put(t, "d/", 0o777|os.ModeSticky) }, file, "has mode 1777, "},
		{"another's file", true, func(t *testing.T) string { return own(t, put(t, "f", 0o600), 1000) },
			"is owned by UID 1000: expected root, who is UID 0 here: chown root: @", dir},
		{"another's directory", true, func(t *testing.T) string { return own(t, put(t, "d/", 0o700), 1000) }, file, "is owned by UID 1000: "},
		{"nobody's file", true, func(t *testing.T) string { return own(t, put(t, "f", 0o600), 65534) }, "is owned by UID 65534: ", dir},
		{"two faults", true, func(t *testing.T) string { return own(t, put(t, "f", 0o666), 1000) }, both, dir},
		{"name to quote", false, func(t *testing.T) string { return put(t, "it's a", 0o606) }, "chmod go-w '", dir},

		{"below a file", false, func(t *testing.T) string { return put(t, "f", 0o600) + "/x" }, "open: not a directory", "open: not a directory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.root {
				needRoot(t)
			}
			path := row.make(t)
			data, err := Read(path, 100, me)
			refused(t, "Read", err, path, row.file)
			if want := "text"; err == nil && string(data) != want || err != nil && data != nil {
				t.Errorf("got %q beside %v", data, err)
			}
			d, err := OpenDir(path, me)
			refused(t, "OpenDir", err, path, row.dir)
			if (d == nil) != (err != nil) {
				t.Errorf("OpenDir: %v beside %v", d, err)
			}
			if d != nil {
				d.Close()
			}
		})
	}
}

// refused wants an error of one line that begins with the path.
func refused(t *testing.T, who string, err error, path, want string) {
	t.Helper()
	switch {
	case want == "":
		if err != nil {
			t.Errorf("%s: %v", who, err)
		}
	case err == nil:
		t.Errorf("%s: no error, want %q", who, want)
	case !strings.HasPrefix(err.Error(), path+": ") || strings.Contains(err.Error(), "\n"),
		!strings.Contains(err.Error(), strings.ReplaceAll(want, "@", path)):
		t.Errorf("%s: %v\nwant %q", who, err, want)
	case errors.Is(err, fs.ErrNotExist):
		t.Errorf("%s: %v passes for a missing file", who, err)
	}
}

func TestWhoIsRoot(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name  string
		owner int
		root  uint32
		want  string
	}{
		{"unmapped", 65534, 65534, ""},
		{"another's, where root is unmapped", 1000, 65534, "is owned by UID 1000: expected root, who is UID 65534 here"},
		{"UID 0, where root is unmapped", 0, 65534, "is owned by UID 0: expected root, who is UID 65534 here"},
		{"under another number", 70000, 70000, ""},
		{"UID 0, where root has another number", 0, 70000, "is owned by UID 0: expected root, who is UID 70000 here"},
		{"overflow, where root has a number", 65534, 70000, "is owned by UID 65534"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := own(t, put(t, "f", 0o600), row.owner)
			_, err := Read(path, 100, row.root)
			refused(t, "Read", err, path, row.want)
		})
	}
}

func TestMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	for _, path := range []string{path, path + "/none"} {
		if _, err := Read(path, 100, me); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Read: %v", err)
		}
		if _, err := OpenDir(path, me); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("OpenDir: %v", err)
		}
	}
}

func TestSize(t *testing.T) {
	for _, row := range []struct {
		name       string
		size, most int64
		ok         bool
	}{
		{"empty", 0, 0, true},
		{"as much as is wanted", 100_000, 100_000, true},
		{"one byte more", 101, 100, false},
		{"far too much to hold", 1 << 40, 100, false}, // a sparse file
	} {
		t.Run(row.name, func(t *testing.T) {
			path := put(t, "f", 0o600)
			must(t, os.Truncate(path, row.size))
			data, err := Read(path, row.most, me)
			if row.ok && (err != nil || int64(len(data)) != row.size) {
				t.Errorf("got %d bytes, %v", len(data), err)
			}
			big, is := errors.AsType[*SizeError](err)
			if !row.ok && (!is || *big != SizeError{path, row.size, row.most} ||
				err.Error() != path+": "+strconv.FormatInt(row.size, 10)+" bytes: expected at most 100") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What is written between the look and the last byte is seen.
func TestWrittenMeanwhile(t *testing.T) {
	for _, row := range []struct {
		name  string
		write func(path string) error
		ok    bool
	}{
		{"nothing", func(string) error { return nil }, true},
		{"longer", func(path string) error { return os.Truncate(path, 5) }, false},
		{"much longer", func(path string) error { return os.Truncate(path, 1<<20) }, false},
		{"shorter", func(path string) error { return os.Truncate(path, 3) }, false},
		{"emptied", func(path string) error { return os.Truncate(path, 0) }, false},
		{"as long", func(path string) error {
			// A second later, so as not to depend on the clock's steps.
			later := time.Now().Add(time.Second)
			return errors.Join(os.WriteFile(path, []byte("tent"), 0o600), os.Chtimes(path, later, later))
		}, false},
		{"replaced", func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte("new"), 0o600), os.Rename(path+".new", path))
		}, true},
		{"removed", os.Remove, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := put(t, "f", 0o600)
			f, err := openAt(unix.AT_FDCWD, path, path, unix.S_IFREG, me)
			must(t, err)
			defer f.close()
			must(t, row.write(path))
			data, err := f.read(1 << 10)
			if row.ok && (err != nil || string(data) != "text") {
				t.Errorf("got %q, %v", data, err)
			}
			if want := path + ": was written to while it was read: expected it to be replaced whole: try again"; !row.ok && (err == nil || err.Error() != want || data != nil) {
				t.Errorf("got %q, %v", data, err)
			}
		})
	}
}

func TestDir(t *testing.T) {
	path := put(t, "d/", 0o700)
	var want []string
	for i := range 500 { // more than one system call's
		name := strings.Repeat("n", 50) + strconv.Itoa(i)
		want = append(want, name)
		must(t, os.WriteFile(filepath.Join(path, name), []byte(name), 0o600))
	}
	d, err := OpenDir(path, me)
	must(t, err)
	defer d.Close()
	names, err := d.Names()
	must(t, err)
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("got %d names, want %d: %q", len(names), len(want), names)
	}

	// Another directory in its place isn't looked at.
	must(t, os.Rename(path, path+".old"), os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, want[0]), []byte("other"), 0o600))
	if data, err := d.Read(want[0], 100); err != nil || string(data) != want[0] {
		t.Errorf("got %q, %v", data, err)
	}
	must(t, os.Chmod(filepath.Join(path+".old", want[1]), 0o622), link2(path+".old", want[2]))
	_, err = d.Read(want[1], 100)
	refused(t, "Read", err, filepath.Join(path, want[1]), "has mode 0622")
	_, err = d.Read(want[2], 100)
	refused(t, "Read", err, filepath.Join(path, want[2]), "is a symbolic link")
	if _, err = d.Read("none", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// link2 replaces the file of that name by a link to one beside it.
func link2(dir, name string) error {
	path := filepath.Join(dir, name)
	return errors.Join(os.Rename(path, path+".real"), os.Symlink(name+".real", path))
}

func TestOwnUIDMap(t *testing.T) {
	want, err := os.ReadFile("/proc/self/uid_map")
	must(t, err)
	if got, err := OwnUIDMap(); err != nil || got != string(want) || got == "" {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for _, path := range []string{"/nonexistent/uid_map", t.TempDir()} {
		_, err := uidMap(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "uid map of this process: "+path+": ") {
			t.Errorf("got %v", err)
		}
	}
}

// Descriptors are closed on every way out, and never reach children.
func TestDescriptors(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(names)
	}
	good, bad, dir := put(t, "f", 0o600), put(t, "f", 0o666), put(t, "d/", 0o700)
	before := count()
	for range 20 {
		for _, path := range []string{good, bad, dir} {
			_, _ = Read(path, 100, me)
			_, _ = Read(path, 1, me)
			if d, err := OpenDir(path, me); err == nil {
				d.Close()
			}
		}
		_, _ = OwnUIDMap()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	d, err := OpenDir(dir, me)
	must(t, err)
	defer d.Close()
	if flags, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func TestShellQuote(t *testing.T) {
	for text, want := range map[string]string{
		"/etc/usernamespaces.d/10-a_b.conf": "/etc/usernamespaces.d/10-a_b.conf",
		"":                                  "''",
		"a b":                               "'a b'",
		"it's":                              `'it'\''s'`,
		"$(id)":                             "'$(id)'",
		"alice:1:2:":                        "'alice:1:2:'",
		"ä":                                 "'ä'",
		"a\nb":                              "'a\nb'",
	} {
		if got := ShellQuote(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
