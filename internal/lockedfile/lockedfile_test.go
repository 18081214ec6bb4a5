// SPDX-License-Identifier: Apache-2.0

package lockedfile

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVar makes the test's own program another process of a test.
const roleVar = "LOCKEDFILE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role, rest, _ := strings.Cut(os.Getenv(roleVar), " "); role {
	case "append":
		appendForever(rest)
	case "edit":
		err := Edit(rest, 0o644, func([]byte) ([]byte, error) { return []byte("new"), nil })
		if err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// self is this program in a role.
func self(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// put makes a file of that mode, whatever the umask.
func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode))
}

func get(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// tree is what a directory holds: NAME=TEXT, or NAME=kind.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	all := []string{} // sorted by name
	for _, e := range entries {
		if e.Type().IsRegular() {
			all = append(all, e.Name()+"="+get(t, filepath.Join(dir, e.Name())))
		} else {
			all = append(all, e.Name()+"="+e.Type().String())
		}
	}
	return all
}

func wantTree(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// wantError wants one line that begins with the path, and holds all of the rest.
func wantError(t *testing.T, err error, path string, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", want)
		return
	}
	text := err.Error()
	if !strings.HasPrefix(text, path+": ") || strings.Contains(text, "\n") {
		t.Errorf("got %q, want one line that begins with %s", text, path)
	}
	for _, part := range want {
		if !strings.Contains(text, part) {
			t.Errorf("got %q, want %q in it", text, part)
		}
	}
}

// to is a change to that content.
func to(text string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return []byte(text), nil }
}

func TestEdit(t *testing.T) {
	broken := errors.New("broken")
	appendX := func(old []byte) ([]byte, error) { return append(old, 'x'), nil }
	for _, row := range []struct {
		name   string
		before []string // NAME=TEXT
		change func([]byte) ([]byte, error)
		err    error
		after  []string
	}{
		{"changed", []string{"f=a"}, appendX, nil, []string{"f=ax", "f-=a"}},
		{"changed again", []string{"f=ax", "f-=a"}, appendX, nil, []string{"f=axx", "f-=ax"}},
		{"emptied", []string{"f=a"}, to(""), nil, []string{"f=", "f-=a"}},
		{"filled", []string{"f="}, to("a"), nil, []string{"f=a", "f-="}},
		{"new", nil, appendX, nil, []string{"f=x"}},
		{"new and empty", nil, to(""), nil, []string{"f="}},
		{"new, beside the backup of one that was removed", []string{"f-=old"}, to("a"), nil, []string{"f=a", "f-=old"}},
		{"the same", []string{"f=a", "f-=older"}, to("a"), nil, []string{"f=a", "f-=older"}},
		{"the same and empty", []string{"f="}, to(""), nil, []string{"f="}},
		{"nil", []string{"f=a"}, func([]byte) ([]byte, error) { return nil, nil }, nil, []string{"f=a"}},
		{"nil, and no file", nil, func([]byte) ([]byte, error) { return nil, nil }, nil, nil},
		{"failed", []string{"f=a"}, func([]byte) ([]byte, error) { return []byte("b"), broken }, broken, []string{"f=a"}},
		{"failed, and no file", nil, func([]byte) ([]byte, error) { return []byte("b"), broken }, broken, nil},
		{"changed in place", []string{"f=ab"}, func(old []byte) ([]byte, error) { old[0] = 'x'; return old, nil }, nil, []string{"f=xb", "f-=ab"}},
		{"others' files stay", []string{"f=a", "f+=1", "f.lock2=2", "f~=3"}, to("b"), nil, []string{"f=b", "f+=1", "f-=a", "f.lock2=2", "f~=3"}},
		{"what a killed edit has left", []string{".f.lockedfile=half", ".f.lockedfile-=half", "f=a", "f.lock="}, to("b"), nil, []string{"f=b", "f-=a"}},
		{"what a killed edit has left, and nothing to change", []string{".f.lockedfile=half", ".f.lockedfile-=half", "f=a", "f.lock="}, to("a"), nil, []string{"f=a"}},
		{"more than one system call's", []string{"f=a"}, to(strings.Repeat("0123456789\n", 1<<20)), nil, []string{"f=" + strings.Repeat("0123456789\n", 1<<20), "f-=a"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range row.before {
				name, text, _ := strings.Cut(file, "=")
				put(t, filepath.Join(dir, name), text, 0o600)
			}
			if err := Edit(filepath.Join(dir, "f"), 0o644, row.change); !errors.Is(err, row.err) {
				t.Errorf("got %v, want %v", err, row.err)
			}
			wantTree(t, dir, row.after...)
		})
	}
}

// A file that is there is never nil, even if it is empty, and one that isn't is.
func TestOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []bool{true, false} {
		must(t, Edit(path, 0o644, func(old []byte) ([]byte, error) {
			if (old == nil) != want || len(old) != 0 {
				t.Errorf("got %#v", old)
			}
			return []byte{}, nil
		}))
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, os.Mkdir("d", 0o755))
	for _, path := range []string{"f", "./f2", "d/f", "d//f2"} {
		must(t, Edit(path, 0o644, to("a")))
	}
	wantTree(t, "d", "f=a", "f2=a")
	must(t, os.RemoveAll("d"))
	wantTree(t, ".", "f=a", "f2=a")
	for _, path := range []string{"", ".", "..", "d/", "/", "d/."} {
		if err := Edit(path, 0o644, to("a")); err == nil || !strings.Contains(err.Error(), "isn't the name of a file") {
			t.Errorf("%q: got %v", path, err)
		}
	}
}

func TestAttributes(t *testing.T) {
	for _, umask := range []int{0, 0o077, 0o777} {
		if umask == 0o777 {
			needRoot(t) // nobody else opens a directory of mode 0
		}
		path := filepath.Join(t.TempDir(), "f")
		put(t, path, "a", 0o640)
		must(t, unix.Setxattr(path, "user.note", []byte("kept\x00too"), 0))
		if os.Geteuid() == 0 {
			must(t, os.Chown(path, 1234, 5678), os.Chmod(path, 0o4755|os.ModeSetuid),
				unix.Setxattr(path, "trusted.note", nil, 0),
				unix.Setxattr(path, "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
		}
		must(t, unix.Setxattr(path, "system.posix_acl_access", acl(6, 4, 6, 0), 0))
		want := seen(t, path)
		if !strings.Contains(want, "posix_acl_access") || !strings.Contains(want, "user.note") {
			t.Fatalf("not prepared: %s", want)
		}
		before := unix.Umask(umask)
		err := Edit(path, 0o600, to("b"))
		err2 := Edit(path+"2", 0o644, to("b"))
		err3 := Edit(path+"3", 0o466, to("b"))
		unix.Umask(before)
		must(t, err, err2, err3)
		for _, path := range []string{path, path + "-"} {
			if got := seen(t, path); got != want {
				t.Errorf("umask %#o: %s: got %s, want %s", umask, path, got, want)
			}
		}
		for path, want := range map[string]os.FileMode{path + "2": 0o644, path + "3": 0o466} {
			st, err := os.Stat(path)
			must(t, err)
			if st.Mode() != want {
				t.Errorf("umask %#o: %s: got %v, want %v", umask, path, st.Mode(), want)
			}
		}
	}
}

// acl is u::rwx,u:4321:USER,g::GROUP,m::MASK,o::OTHER as the kernel holds it
// (include/uapi/linux/posix_acl_xattr.h).
func acl(user, group, mask, other byte) []byte {
	return []byte{
		2, 0, 0, 0,
		0x01, 0, 7, 0, 255, 255, 255, 255,
		0x02, 0, user, 0, 0xe1, 0x10, 0, 0,
		0x04, 0, group, 0, 255, 255, 255, 255,
		0x10, 0, mask, 0, 255, 255, 255, 255,
		0x20, 0, other, 0, 255, 255, 255, 255,
	}
}

// seen is all that a file has beside its content.
func seen(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	buf := make([]byte, 4096)
	n, err := unix.Listxattr(path, buf)
	must(t, err)
	names := slices.Sorted(strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"))
	var all []string
	for _, name := range names {
		if name == "" {
			continue
		}
		n, err := unix.Getxattr(path, name, buf)
		must(t, err)
		all = append(all, name+"="+string(buf[:n]))
	}
	return strings.Join([]string{os.FileMode(st.Mode).String(), itoa(st.Uid), itoa(st.Gid), strings.Join(all, " ")}, " ")
}

func itoa(id uint32) string { return string(appendInt(nil, int(id))) }

// An ACL that the directory gives to what is made in it is neither a new file's
// nor that of one that hadn't it.
func TestDefaultACL(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	put(t, old, "a", 0o664)
	must(t, unix.Setxattr(dir, "system.posix_acl_default", acl(7, 7, 7, 7), 0))
	want := seen(t, old)
	must(t, Edit(old, 0o644, to("b")), Edit(filepath.Join(dir, "new"), 0o664, to("b")))
	for _, name := range []string{"old", "old-", "new"} {
		if got := seen(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// Backups by cp -al keep what they were made of.
func TestHardLink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put(t, path, "a", 0o644)
	must(t, os.Link(path, path+".other"), Edit(path, 0o644, to("b")))
	wantTree(t, dir, "f=b", "f-=a", "f.other=a")
}

// What isn't a file is refused by name, whichever of the names it has, is neither
// followed nor waited for, and stays.
func TestNotAFile(t *testing.T) {
	kinds := []struct {
		name string
		root bool
		make func(path string) error
		want string
	}{
		{"link to a file", false, func(path string) error {
			return errors.Join(os.WriteFile(path+".real", []byte("real"), 0o600), os.Symlink(path+".real", path))
		}, "is a symbolic link"},
		{"link to nothing", false, func(path string) error { return os.Symlink(path+".real", path) }, "is a symbolic link"},
		{"directory", false, func(path string) error { return os.Mkdir(path, 0o755) }, "is a directory"},
		{"FIFO", false, func(path string) error { return unix.Mkfifo(path, 0o600) }, "is a FIFO"},
		{"socket", false, func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, "is a socket"},
		{"device", true, func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }, "is a device"},
	}
	for _, kind := range kinds {
		for _, name := range []string{"f", "f-", "f.lock", ".f.lockedfile", ".f.lockedfile-"} {
			t.Run(kind.name+" "+name, func(t *testing.T) {
				if kind.root {
					needRoot(t)
				}
				dir, err := os.MkdirTemp("", "lf") // a socket's path is short
				must(t, err)
				t.Cleanup(func() { os.RemoveAll(dir) })
				if name != "f" {
					put(t, filepath.Join(dir, "f"), "a", 0o600)
				}
				must(t, kind.make(filepath.Join(dir, name)))
				before := tree(t, dir)
				start := time.Now()
				err = Edit(filepath.Join(dir, "f"), 0o644, to("b"))
				wantError(t, err, filepath.Join(dir, name), kind.want+": expected a regular file, or none: move it away")
				wantTree(t, dir, before...)
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
			})
		}
	}
}

func TestTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "", 0o600)
	must(t, os.Truncate(path, maxSize+1)) // sparse
	wantError(t, Edit(path, 0o644, to("b")), path, "536870913 bytes: expected at most 536870912")
}

// A hand that knows no lock: its content is what the edit starts again from.
func TestChangedMeanwhile(t *testing.T) {
	for _, row := range []struct {
		name   string
		before string // "-" for no file
		hand   func(path string) error
		after  []string
	}{
		{"written in place", "a", func(path string) error { return os.WriteFile(path, []byte("hand"), 0o600) }, []string{"f=handx", "f-=hand"}},
		{"as long, and the time of writing put back", "a", func(path string) error {
			st, err := os.Stat(path)
			return errors.Join(err, os.WriteFile(path, []byte("h"), 0o600), os.Chtimes(path, st.ModTime(), st.ModTime()))
		}, []string{"f=hx", "f-=h"}},
		{"replaced", "a", func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte("hand"), 0o600), os.Rename(path+".new", path))
		}, []string{"f=handx", "f-=hand"}},
		{"replaced by the same", "a", func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte("a"), 0o600), os.Rename(path+".new", path))
		}, []string{"f=ax", "f-=a"}},
		{"removed", "a", os.Remove, []string{"f=x"}},
		{"made", "-", func(path string) error { return os.WriteFile(path, []byte("hand"), 0o600) }, []string{"f=handx", "f-=hand"}},
		{"made empty", "-", func(path string) error { return os.WriteFile(path, nil, 0o600) }, []string{"f=x", "f-="}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if row.before != "-" {
				put(t, path, row.before, 0o600)
			}
			calls := 0
			must(t, Edit(path, 0o644, func(old []byte) ([]byte, error) {
				if calls++; calls == 1 {
					must(t, row.hand(path))
				}
				return append(old, 'x'), nil
			}))
			wantTree(t, dir, row.after...)
			if calls != 2 {
				t.Errorf("change was called %d times", calls)
			}
		})
	}
}

// A new mode is kept, as new content is.
func TestModeChangedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "a", 0o644)
	calls := 0
	must(t, Edit(path, 0o644, func([]byte) ([]byte, error) {
		if calls++; calls > 1 {
			return []byte("b"), nil
		}
		return []byte("b"), os.Chmod(path, 0o600)
	}))
	for _, path := range []string{path, path + "-"} {
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("got %v, %v", st.Mode(), err)
		}
	}
}

// Changed by hand at every attempt: an error, and the hand's content.
func TestChangedForEver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put(t, path, "", 0o600)
	calls := 0
	err := Edit(path, 0o644, func(old []byte) ([]byte, error) {
		calls++
		must(t, os.WriteFile(path, append(old, 'h'), 0o600))
		return []byte("ours"), nil
	})
	wantError(t, err, path, "was changed by somebody else meanwhile, 10 times in a row", "fuser -v "+path)
	if !errors.Is(err, ErrChanged) || calls != tries {
		t.Errorf("%v after %d calls", err, calls)
	}
	wantTree(t, dir, "f="+strings.Repeat("h", tries))
}

// What the times of a file don't tell, its content does.
func TestSameTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "a", 0o600)
	target, err := newTarget(path)
	must(t, err)
	defer target.dir.Close()
	c, err := target.read()
	must(t, err, target.unchanged(c))
	c.data = []byte("b") // as if it had been read in the tick before
	if err := target.unchanged(c); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v", err)
	}
}

// A file that is made between the last look and the rename isn't replaced.
func TestMadeAtTheLastMoment(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	target, err := newTarget(path)
	must(t, err)
	defer target.dir.Close()
	must(t, target.write(target.next(), []byte("ours"), attributes{mode: 0o600}))
	put(t, path, "hand", 0o600)
	if err := target.publish(false); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v", err)
	}
	wantTree(t, dir, ".f.lockedfile=ours", "f=hand")
}

// What change refuses, or has nothing to do about, is what was there: half of what
// an editor writes is read again.
func TestHalfRead(t *testing.T) {
	for _, fail := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "f")
		put(t, path, "half", 0o600)
		must(t, Edit(path, 0o644, func(old []byte) ([]byte, error) {
			if string(old) == "whole" {
				return []byte("ours"), nil
			}
			must(t, os.WriteFile(path, []byte("whole"), 0o600))
			if fail {
				return nil, errors.New("half")
			}
			return nil, nil
		}))
		if got := get(t, path); got != "ours" {
			t.Errorf("got %q", got)
		}
	}
}

// change may find by itself that what it got is old.
func TestChangeSaysChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	calls := 0
	must(t, Edit(path, 0o644, func([]byte) ([]byte, error) {
		if calls++; calls < 3 {
			return nil, errors.Join(errors.New("stale"), ErrChanged)
		}
		return []byte("a"), nil
	}))
	if got := get(t, path); got != "a" || calls != 3 {
		t.Errorf("got %q after %d calls", got, calls)
	}
}

// While a file is read by us, it is written to by another: that is seen at once, or,
// if a write had begun before and ends after, when it is compared.
func TestReadWhileWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	const size = 1 << 20
	fill := func(c byte) []byte { return bytes.Repeat([]byte{c}, size) }
	put(t, path, string(fill('a')), 0o600)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	var writing sync.Mutex
	go func() {
		for c := byte('a'); ; c = 'a' + (c-'a'+1)%26 {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				writing.Lock()
				_, err = f.Write(fill(c)) // in place: some of one, some of another
				writing.Unlock()
				f.Close()
			}
			select {
			case <-stop:
				stopped <- err
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	target, err := newTarget(path)
	must(t, err)
	defer target.dir.Close()
	whole, changed := 0, 0
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && (whole < 50 || changed == 0); {
		c, err := target.read()
		switch {
		case errors.Is(err, ErrChanged):
			changed++
		case err != nil:
			t.Fatal(err)
		default:
			whole++
			if bytes.Count(c.data, c.data[:1]) == size {
				break
			}
			writing.Lock()
			err := target.unchanged(c)
			writing.Unlock()
			if !errors.Is(err, ErrChanged) {
				t.Errorf("half of a write was read, it begins with %q: %v", c.data[:1], err)
			}
		}
	}
	close(stop)
	must(t, <-stopped)
	if whole == 0 || changed == 0 {
		t.Errorf("%d reads, %d of them refused", whole+changed, changed)
	}
}

func TestMissingParent(t *testing.T) {
	dir := t.TempDir()
	err := Edit(filepath.Join(dir, "none", "f"), 0o644, to("b"))
	wantError(t, err, filepath.Join(dir, "none", "f"), "its directory: no such file or directory: mkdir -p "+filepath.Join(dir, "none"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	put(t, filepath.Join(dir, "file"), "", 0o600)
	wantError(t, Edit(filepath.Join(dir, "file", "f"), 0o644, to("b")), filepath.Join(dir, "file", "f"), "its directory: not a directory")
	wantTree(t, dir, "file=")
}

// Descriptors are closed on every way out.
func TestDescriptors(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(names)
	}
	path := filepath.Join(t.TempDir(), "f")
	bad := filepath.Join(t.TempDir(), "d")
	must(t, os.Mkdir(bad, 0o755), Edit(path, 0o644, to("a")))
	before := count()
	for n := range 20 {
		must(t, Edit(path, 0o644, to(itoa(uint32(n)))), Edit(path, 0o644, to(itoa(uint32(n)))))
		_ = Edit(path, 0o644, func([]byte) ([]byte, error) { return nil, errors.New("no") })
		_ = Edit(bad, 0o644, to("a"))
		_ = Edit(bad+"/none/f", 0o644, to("a"))
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
