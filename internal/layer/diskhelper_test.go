// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// The IDs of tests: inner 0 is base on the host.
const base = 100000

var (
	toHost      = &Shift{Map: idmap.Map{{Inner: 0, Outer: base, Count: 65536}}}
	toContainer = &Shift{Map: toHost.Map, ToContainer: true}
	day         = time.Date(2020, 2, 3, 4, 5, 6, 789, time.UTC)
)

// roleVar makes the test's own program another process of a test.
const roleVar = "LAYER_TEST_ROLE"

func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleVar), " ")
	var err error
	switch role {
	case "unpack":
		err = Unpack(context.Background(), os.Stdin, dir, UnpackOptions{Shift: toHost})
	case "pack":
		err = Pack(context.Background(), dir, os.Stdout, PackOptions{Shift: toContainer})
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// self is this program in a role.
func self(role, dir string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"="+role+" "+dir)
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

// inMounts says whether this is the process with a mount namespace of its own; if
// not, it runs the test once more in such a one.
func inMounts(t *testing.T) bool {
	t.Helper()
	needRoot(t)
	const mountsVar = "LAYER_TEST_MOUNTS"
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

func mount(t *testing.T, source, fstype, path string, flags uintptr, data string) {
	t.Helper()
	must(t, unix.Mount(source, path, fstype, flags, data))
	t.Cleanup(func() { must(t, unix.Unmount(path, unix.MNT_DETACH)) })
}

// wantRefusal wants an error with all of that in it, in one line.
func wantRefusal(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", parts)
		return
	}
	for _, part := range append(parts, "") {
		if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %q, want %q in one line", err, part)
		}
	}
}

// member is an entry of an archive with its data.
type member struct {
	Entry
	text string
}

func entryOf(kind byte, name string, mode uint32) member {
	return member{Entry: Entry{Name: name, Type: kind, Mode: mode, ModTime: day}}
}

func file(name, text string) member {
	m := entryOf(TypeReg, name, 0o644)
	m.Size, m.text = int64(len(text)), text
	return m
}

func folder(name string) member { return entryOf(TypeDir, name, 0o755) }

func symlink(name, target string) member {
	m := entryOf(TypeSymlink, name, 0o777)
	m.Link = target
	return m
}

func hardlink(name, target string) member {
	m := entryOf(TypeLink, name, 0o644)
	m.Link = target
	return m
}

// but is the member with a change.
func (m member) but(change func(e *Entry)) member {
	change(&m.Entry)
	return m
}

func (m member) xattr(name, value string) member {
	m.Xattrs = append(slices.Clone(m.Xattrs), Xattr{name, []byte(value)})
	return m
}

// packed is an archive of these members.
func packed(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	for _, m := range members {
		if err := w.WriteEntry(&m.Entry); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unpackTo unpacks an archive of these members.
func unpackTo(t *testing.T, dir string, o UnpackOptions, members ...member) error {
	t.Helper()
	return Unpack(context.Background(), bytes.NewReader(packed(t, members...)), dir, o)
}

// packFrom is the entries that a directory makes, with their stored data.
func packFrom(t testing.TB, dir string, o PackOptions) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	err := Pack(context.Background(), dir, &out, o)
	return out.Bytes(), err
}

// listed is what is in a directory, a line for each file in the order of their paths:
// type, mode, owner, what it holds or points to, time of change unless that is now, and
// extended attributes.
func listed(t *testing.T, dir string) []string {
	t.Helper()
	lines := []string{}
	first := make(map[uint64]string)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		line := fmt.Sprintf("%s %s %04o %d:%d", name, map[uint32]string{
			unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink", unix.S_IFCHR: "char",
			unix.S_IFBLK: "block", unix.S_IFIFO: "fifo", unix.S_IFSOCK: "socket",
		}[st.Mode&unix.S_IFMT], st.Mode&0o7777, int64(st.Uid)-base, int64(st.Gid)-base)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			if st.Size > 1<<20 {
				line += fmt.Sprintf(" %d bytes", st.Size)
				break
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", text)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if _, ok := first[st.Ino]; !ok {
				first[st.Ino] = name
			}
			line += " =" + first[st.Ino]
		}
		if at := time.Unix(st.Mtim.Sec, st.Mtim.Nsec).UTC(); time.Since(at) > time.Hour || time.Since(at) < 0 {
			line += " " + strings.Replace(at.Format(time.RFC3339Nano), day.Format(time.RFC3339Nano), "day", 1)
		}
		buf := make([]byte, 4096)
		n, err := unix.Llistxattr(path, buf)
		if err != nil {
			return err
		}
		names := strings.Split(strings.Trim(string(buf[:n]), "\x00"), "\x00")
		slices.Sort(names)
		for _, x := range names {
			if x == "" || x == "security.selinux" {
				continue
			}
			n, err := unix.Lgetxattr(path, x, buf)
			if err != nil {
				return err
			}
			value := string(buf[:n])
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
				value = hex.EncodeToString(buf[:n])
			}
			line += " " + x + "=" + value
		}
		lines = append(lines, line)
		return nil
	})
	must(t, err)
	return lines
}

func wantListed(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := listed(t, dir); !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// wantNothing wants a directory to be empty: neither a target nor what it was made in.
func wantNothing(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		t.Errorf("%s is left", e.Name())
	}
}
