// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is what of files can be compared with an archive.
type disk struct {
	ns       bool // times to the nanosecond
	xattrs   bool
	dirTimes bool // bsdtar forgets them
}

// compareWithDisk compares what an archive says with the files that it was made of, or that
// were made of it.
func compareWithDisk(t *testing.T, dir string, entries []*Entry, contents []string, can disk) {
	t.Helper()
	if len(entries) < 7 {
		t.Fatalf("%d entries: expected more", len(entries))
	}
	for i, e := range entries {
		path := filepath.Join(dir, e.Name)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Errorf("%s: %v", e.Name, err)
			continue
		}
		if e.UID != st.Uid || e.GID != st.Gid {
			t.Errorf("%s: %d:%d: expected %d:%d", e.Name, e.UID, e.GID, st.Uid, st.Gid)
		}
		at := time.Unix(st.Mtim.Unix()).UTC()
		if !can.ns {
			at = time.Unix(st.Mtim.Sec, 0).UTC()
		}
		if !e.ModTime.Equal(at) && (can.ns || at.Unix() >= 0) && (can.dirTimes || e.Type != TypeDir) {
			t.Errorf("%s: %s: expected %s", e.Name, e.ModTime, at)
		}
		kind := map[uint32]byte{unix.S_IFREG: TypeReg, unix.S_IFDIR: TypeDir, unix.S_IFLNK: TypeSymlink, unix.S_IFCHR: TypeChar, unix.S_IFBLK: TypeBlock, unix.S_IFIFO: TypeFifo}[st.Mode&unix.S_IFMT]
		if e.Type != kind && e.Type != TypeLink && e.Type != TypeDumpDir {
			t.Errorf("%s: type %q: expected %q", e.Name, e.Type, kind)
		}
		switch e.Type {
		case TypeChar, TypeBlock:
			if e.Major != unix.Major(st.Rdev) || e.Minor != unix.Minor(st.Rdev) {
				t.Errorf("%s: device %d:%d: expected %#x", e.Name, e.Major, e.Minor, st.Rdev)
			}
		case TypeSymlink:
			if target, err := os.Readlink(path); err != nil || e.Link != target {
				t.Errorf("%s: links to %q: expected %q, %v", e.Name, e.Link, target, err)
			}
		case TypeLink:
			var other unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, e.Link), &other); err != nil || other.Ino != st.Ino {
				t.Errorf("%s: is a hard link to %q: %v", e.Name, e.Link, err)
			}
		case TypeReg:
			compareData(t, path, e, contents[i])
		}
		// bsdtar leaves what an ACL says out of the mode.
		if e.Type != TypeSymlink && e.Mode != st.Mode&0o7777 && !strings.Contains(e.Name, "acl") {
			t.Errorf("%s: mode %#o: expected %#o", e.Name, e.Mode, st.Mode&0o7777)
		}
		if can.xattrs && e.Type != TypeLink && e.Type != TypeSymlink {
			compareXattrs(t, path, e)
		}
	}
}

// compareData compares a file with its stored data.
func compareData(t *testing.T, path string, e *Entry, stored string) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := []byte(stored)
	if e.Data != nil {
		got = make([]byte, e.Size)
		for _, s := range e.Data {
			copy(got[s.Offset:], stored[:s.Length])
			stored = stored[s.Length:]
		}
		if int64(len(stored)) == e.Size {
			t.Errorf("%s: is sparse, and all of it is stored", e.Name)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d other bytes: expected %d", e.Name, len(got), len(want))
	}
}

func compareXattrs(t *testing.T, path string, e *Entry) {
	t.Helper()
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		t.Fatal(err)
	}
	var want []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		value := make([]byte, 4096)
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, Xattr{name, value[:n]})
	}
	byName := func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) }
	got := slices.SortedFunc(slices.Values(e.Xattrs), byName)
	slices.SortFunc(want, byName)
	if !slices.EqualFunc(got, want, func(a, b Xattr) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }) {
		t.Errorf("%s: attributes %q: expected %q", e.Name, got, want)
	}
}
