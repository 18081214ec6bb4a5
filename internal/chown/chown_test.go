// SPDX-License-Identifier: Apache-2.0

package chown

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

var (
	uids = idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}}
	gids = idmap.Map{{Inner: 0, Outer: 200000, Count: 1000}, {Inner: 1000, Outer: 300000, Count: 10}}
)

func TestIDs(t *testing.T) {
	to, back := shift{uids, gids, false}, shift{uids, gids, true}
	for _, row := range []struct{ in, uid, gid uint32 }{
		{0, 100000, 200000}, {999, 100999, 200999}, {1000, 101000, 300000}, {1010, 101010, 1010}, {65536, 65536, 65536}, {4294967294, 4294967294, 4294967294},
	} {
		if uid, gid := to.uid(row.in), to.gid(row.in); uid != row.uid || gid != row.gid {
			t.Errorf("%d: became %d:%d, want %d:%d", row.in, uid, gid, row.uid, row.gid)
		}
		if uid, gid := to.uid(row.uid), to.gid(row.gid); uid != row.uid || gid != row.gid {
			t.Errorf("%d: shifted twice it is %d:%d", row.in, uid, gid)
		}
		if uid, gid := back.uid(row.uid), back.gid(row.gid); uid != row.in || gid != row.in {
			t.Errorf("%d: back it is %d:%d", row.in, uid, gid)
		}
		if uid, gid := back.uid(row.in), back.gid(row.in); uid != row.in || gid != row.in {
			t.Errorf("%d: back twice it is %d:%d", row.in, uid, gid)
		}
	}
}

// caps is security.capability of a version, with a rootid if it has one.
func caps(version uint32, rootid ...uint32) []byte {
	var b []byte
	for _, word := range append([]uint32{version | 1, 0x2000, 0, 0, 0}, rootid...) {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return b
}

func TestCaps(t *testing.T) {
	to, back := shift{uids, gids, false}, shift{uids, gids, true}
	for name, row := range map[string]struct{ in, out []byte }{
		"version 2":                   {caps(capsVersion2), caps(capsVersion3, 100000)},
		"version 3":                   {caps(capsVersion3, 7), caps(capsVersion3, 100007)},
		"version 3, outside":          {caps(capsVersion3, 70000), caps(capsVersion3, 70000)},
		"version 1":                   {caps(0x01000000)[:12], caps(0x01000000)[:12]},
		"version 2, too short":        {caps(capsVersion2)[:16], caps(capsVersion2)[:16]},
		"a version nobody knows":      {caps(0x04000000), caps(0x04000000)},
		"less than a version's bytes": {[]byte{1, 2}, []byte{1, 2}},
	} {
		if got := to.caps(row.in); !bytes.Equal(got, row.out) {
			t.Errorf("%s: became %x, want %x", name, got, row.out)
		}
		if got := to.caps(row.out); !bytes.Equal(got, row.out) {
			t.Errorf("%s: shifted twice it is %x", name, got)
		}
		if got := back.caps(row.out); !bytes.Equal(got, row.in) {
			t.Errorf("%s: back it is %x, want %x", name, got, row.in)
		}
		if got := back.caps(row.in); !bytes.Equal(got, row.in) {
			t.Errorf("%s: back twice it is %x", name, got)
		}
	}
}

func TestACL(t *testing.T) {
	acl := func(ids ...uint32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 2)
		for i, tag := range []uint16{0x01, aclUser, aclUser, 0x04, aclGroup, aclGroup, 0x10, 0x20} {
			b = binary.LittleEndian.AppendUint16(b, tag)
			b = binary.LittleEndian.AppendUint16(b, 7)
			b = binary.LittleEndian.AppendUint32(b, ids[i])
		}
		return b
	}
	const none = 4294967295
	in, out := acl(none, 5, 70000, none, 999, 1000, none, none), acl(none, 100005, 70000, none, 200999, 300000, none, none)
	to, back := shift{uids, gids, false}, shift{uids, gids, true}
	for name, row := range map[string]struct{ got, want []byte }{
		"to": {to.acl(in), out}, "twice": {to.acl(out), out}, "back": {back.acl(out), in}, "back twice": {back.acl(in), in},
		"cut off": {to.acl(in[:9]), in[:9]}, "empty": {to.acl(nil), nil},
	} {
		if !bytes.Equal(row.got, row.want) {
			t.Errorf("%s: %x, want %x", name, row.got, row.want)
		}
	}
}

func TestMapsThatCantBeUndone(t *testing.T) {
	if err := checkMaps(uids, gids); err != nil {
		t.Error(err)
	}
	wide := idmap.Map{{Inner: 0, Outer: 100000, Count: 200000}}
	for _, pair := range [][2]idmap.Map{{wide, gids}, {uids, wide}} {
		if err := checkMaps(pair[0], pair[1]); err == nil || !strings.Contains(err.Error(), "[100000-200000)") {
			t.Errorf("%v: %v", pair, err)
		}
	}
}

func TestOverlaps(t *testing.T) {
	a := Journal{Rootfs: "/a/b", Device: "8:1", Inode: 5, Boot: "x"}
	for _, row := range []struct {
		b    Journal
		want bool
	}{
		{Journal{Rootfs: "/a/b"}, true},
		{Journal{Rootfs: "/a"}, true},
		{Journal{Rootfs: "/a/b/c"}, true},
		{Journal{Rootfs: "/a/bc"}, false},
		{Journal{Rootfs: "/c", Device: "8:1", Inode: 5, Boot: "x"}, true},
		{Journal{Rootfs: "/c", Device: "8:1", Inode: 5, Boot: "y"}, false},
		{Journal{Rootfs: "/c", Device: "8:2", Inode: 5, Boot: "x"}, false},
	} {
		if a.overlaps(row.b) != row.want || row.b.overlaps(a) != row.want {
			t.Errorf("%+v: not %v", row.b, row.want)
		}
	}
}

// A tree that root inside has made as deep as they like doesn't take more descriptors than a flat one.
func TestWalk(t *testing.T) {
	top := t.TempDir()
	deep := top
	var want []string
	for i, below := 0, "."; i < 300; i++ {
		deep, below = filepath.Join(deep, "d"), filepath.Join(below, "d")
		want = append(want, below)
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(top, "d", "link")); err != nil {
		t.Fatal(err)
	}
	want = append(want, ".", "d/link")
	root, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var got []string
	most := 0
	err = walk(root, func(f *file) error {
		got = append(got, f.path())
		open, err := os.ReadDir("/proc/self/fd")
		most = max(most, len(open))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("visited %d files, want %d", len(got), len(want))
	}
	if most > 30 {
		t.Errorf("%d descriptors were open", most)
	}
	// What is gone meanwhile is left out; what goes wrong says where.
	err = walk(root, func(f *file) error {
		if f.path() == "d/link" {
			return &fs.PathError{Op: "fchownat", Path: "link", Err: fs.ErrPermission}
		}
		return nil
	})
	if err == nil || err.Error() != "d/link: fchownat: permission denied" || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
}

// Nor does it take more of the stack, whose end would be this program's, and of each that has to undo it.
func TestWalkDeep(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(256 << 10))
	top := t.TempDir()
	root, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	const deep = 2000
	fd, err := linux.OpenDirectory(top)
	for i := 0; i < deep && err == nil; i++ {
		below := linux.At{Dir: fd, Name: "d"}
		if err = below.Mkdir(0o755); err == nil {
			fd, err = below.OpenDir()
			err = errors.Join(err, below.Dir.Close())
		}
	}
	if err = errors.Join(err, fd.Close()); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := walk(root, func(*file) error { n++; return nil }); err != nil || n != deep+1 {
		t.Errorf("visited %d files, want %d: %v", n, deep+1, err)
	}
}

// A mark is of one file, and gives nothing to another that has its name by now.
func TestMarkIsOfOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	look := func() *file {
		root, err := os.Open(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		var found *file
		err = walk(root, func(f *file) error {
			if f.path() == "f" {
				found = &file{id: f.id, stat: f.stat}
			}
			return nil
		})
		if err != nil || found == nil {
			t.Fatal("no file", err)
		}
		return found
	}
	if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	m, ok := markOf(look(), nil)
	if !ok || m.Mode&twelve != 0o4755 {
		t.Fatalf("%+v, %v", m, ok)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if !m.is(look()) {
		t.Error("it isn't known without the bit that was taken")
	}
	if err := os.WriteFile(path, []byte("yz"), 0o755); err != nil {
		t.Fatal(err)
	}
	if m.is(look()) {
		t.Error("another file is taken for it")
	}
}

// Root inside may make more setuid programs than one journal holds: they are changed in rounds.
func TestRounds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, who alone changes owners")
	}
	defer func(most int) { maxMarks = most }(maxMarks)
	maxMarks = 2
	top := t.TempDir()
	for i := range 7 {
		path := filepath.Join(top, string(rune('a'+i)))
		if err := errors.Join(os.WriteFile(path, []byte{byte(i)}, 0o755), os.Chmod(path, 0o755|fs.ModeSetuid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(filepath.Join(top, "a"), filepath.Join(top, "z")), os.Mkdir(filepath.Join(top, "dir"), 0o755)); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	// state is how many files have an owner, and the bit.
	state := func(owner uint32) (files, setuid int) {
		if err := walk(root, func(f *file) error {
			if f.stat.UID == owner {
				files++
			}
			if f.stat.Mode&0o4000 != 0 {
				setuid++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return files, setuid
	}
	for _, way := range []struct {
		s     shift
		owner uint32
	}{{shift{uids, gids, false}, 100000}, {shift{uids, gids, true}, 0}} {
		first, err := look(root, way.s, !way.s.back)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		// The third round is ended before it begins, as by SIGKILL in the one before.
		var last []mark
		ended := errors.New("ended")
		begun := func(marks []mark) error {
			if n++; n == 3 {
				return ended
			}
			if last = marks; len(marks) > maxMarks {
				t.Errorf("%d marks in one round", len(marks))
			}
			return nil
		}
		if err := rounds(root, way.s, first, nil, begun, nil); !errors.Is(err, ended) {
			t.Fatal(err)
		}
		// A file of the round lost its bit, and got no further.
		if err := walk(root, func(f *file) error {
			if slices.ContainsFunc(last, func(m mark) bool { return m.ID == f.id }) {
				return f.at.Chmod(0o755)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		again, err := look(root, way.s, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := rounds(root, way.s, again, last, func([]mark) error { return nil }, nil); err != nil {
			t.Fatal(err)
		}
		if files, setuid := state(way.owner); files != 10 || setuid != 8 {
			t.Errorf("%d files of %d, %d setuid: want 10 and 8", files, way.owner, setuid)
		}
	}
}
