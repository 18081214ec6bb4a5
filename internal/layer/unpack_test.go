// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Attributes in the kernel's form: cap_net_raw=ep of version 2 and of version 3 with the
// range's root, and an ACL for UID 1000, inside and on the host.
const (
	caps2      = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	caps3      = "\x01\x00\x00\x03\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xa0\x86\x01\x00"
	acl1000    = "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff"
	acl101000  = "0200000001000700ffffffff02000400888a010004000500ffffffff10000500ffffffff20000500ffffffff"
	caps3Shown = "0100000300200000000000000000000000000000a0860100"
)

// everything is a member of each kind, with all that it may have.
func everything() []member {
	owned := func(m member, uid, gid uint32) member { return m.but(func(e *Entry) { e.UID, e.GID = uid, gid }) }
	mode := func(m member, bits uint32) member { return m.but(func(e *Entry) { e.Mode = bits }) }
	device := func(m member, major, minor uint32) member {
		return m.but(func(e *Entry) { e.Major, e.Minor = major, minor })
	}
	sparse := file("./d/sparse", "datamore").but(func(e *Entry) {
		e.Size, e.Data = 10<<20, []Segment{{1 << 20, 4}, {5 << 20, 4}}
	})
	return []member{
		mode(owned(folder("./"), 3, 4), 0o751),
		owned(folder("./d/"), 1, 2).xattr(xattrAccess, acl1000).xattr(xattrDefault, acl1000).xattr("user.d", "v"),
		owned(file("./d/a", "text"), 1000, 1001).xattr("trusted.a", "b").xattr("user.x", "y"),
		hardlink("./d/b", "./d/a"),
		file("./d/caps", "program").xattr(xattrCaps, caps2),
		device(entryOf(TypeChar, "./d/char", 0o620), 1, 3),
		device(entryOf(TypeBlock, "./d/disk", 0o640), 7, 200),
		file("./d/empty", ""),
		mode(entryOf(TypeFifo, "./d/fifo", 0), 0o604),
		owned(mode(folder("./d/in/"), 0o3770), 5, 6),
		file("./d/in/"+strings.Repeat("long", 60), "long"),
		sparse,
		mode(owned(file("./d/suid", "s"), 7, 8), 0o6755),
		owned(symlink("./d/sym", "../nowhere"), 9, 10).xattr("trusted.s", "t"),
		hardlink("./d/sym2", "./d/sym"),
		mode(file("./sticky", "x"), 0o1000),
	}
}

func everythingListed() []string {
	x := "system.posix_acl_access=" + acl101000
	return []string{
		". dir 0751 3:4 day",
		"d dir 0755 1:2 day " + x + " " + strings.Replace(x, "access", "default", 1) + " user.d=v",
		`d/a file 0644 1000:1001 "text" =d/a day trusted.a=b user.x=y`,
		`d/b file 0644 1000:1001 "text" =d/a day trusted.a=b user.x=y`,
		`d/caps file 0644 0:0 "program" day security.capability=` + caps3Shown,
		"d/char char 0620 0:0 1,3 day",
		"d/disk block 0640 0:0 7,200 day",
		`d/empty file 0644 0:0 "" day`,
		"d/fifo fifo 0604 0:0 day",
		"d/in dir 3770 5:6 day",
		"d/in/" + strings.Repeat("long", 60) + ` file 0644 0:0 "long" day`,
		"d/sparse file 0644 0:0 10485760 bytes day",
		`d/suid file 6755 7:8 "s" day`,
		"d/sym symlink 0777 9:10 ../nowhere =d/sym day trusted.s=t",
		"d/sym2 symlink 0777 9:10 ../nowhere =d/sym day trusted.s=t",
		`sticky file 1000 0:0 "x" day`,
	}
}

func TestUnpack(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o077)) // which must change nothing
	dir := filepath.Join(t.TempDir(), "rootfs")
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost, Sync: true}, everything()...))
	wantListed(t, dir, everythingListed()...)
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, "d/sparse"), &st))
	if st.Blocks*512 > 64<<10 {
		t.Errorf("the sparse file has %d bytes on disk", st.Blocks*512)
	}
	data, err := os.ReadFile(filepath.Join(dir, "d/sparse"))
	must(t, err)
	want := make([]byte, 10<<20)
	copy(want[1<<20:], "data")
	copy(want[5<<20:], "more")
	if !bytes.Equal(data, want) {
		t.Error("the sparse file has other data")
	}
	wantSiblings(t, filepath.Dir(dir), "rootfs")
}

// wantSiblings wants just these names.
func wantSiblings(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

// The order of an archive doesn't matter to the times of directories.
func TestUnpackTimes(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "r")
	late := time.Date(2100, 1, 1, 0, 0, 0, 1, time.UTC)
	early := time.Date(1960, 1, 1, 0, 0, 0, 5, time.UTC)
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost},
		folder("a/"), folder("a/b/"), file("a/b/1", ""), file("a/1", ""), folder("c/"), hardlink("c/1", "a/1"), file("a/b/2", ""),
		symlink("a/l", "b"), file("a/l/3", ""), file("a/b/2", "again"), file("c/n/e/w", ""),
		symlink("late", "x").but(func(e *Entry) { e.ModTime = late }),
		folder("z/1/").but(func(e *Entry) { e.ModTime = early }), folder("z/"), folder("./"),
		file("at", "").but(func(e *Entry) { e.AccessTime = early }),
	))
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(dir, "at"), &st))
	if at := time.Unix(st.Atim.Sec, st.Atim.Nsec); !at.Equal(early) {
		t.Errorf("access time %v", at)
	}
	got := listed(t, dir)
	for _, line := range got {
		name, _, _ := strings.Cut(line, " ")
		switch {
		case name == "c/n" || name == "c/n/e": // there is no entry of them
		case name == "late" && !strings.HasSuffix(line, "2100-01-01T00:00:00.000000001Z"),
			name == "z/1" && !strings.HasSuffix(line, "1960-01-01T00:00:00.000000005Z"),
			name != "late" && name != "z/1" && !strings.HasSuffix(line, " day"):
			t.Errorf("got %s", line)
		}
	}
}

// Parents are resolved as by a process whose root directory it is.
func TestUnpackParents(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name    string
		members []member
		want    []string // without the top
	}{
		{"missing", []member{file("a/b/c", "")}, []string{"a dir 0755 0:0", "a/b dir 0755 0:0", `a/b/c file 0644 0:0 "" day`}},
		{"odd names", []member{file("/./a//b/../c", "")}, []string{"a dir 0755 0:0", `a/c file 0644 0:0 "" day`}},
		{
			"missing, and then there", []member{file("a/b", ""), folder("a/").but(func(e *Entry) { e.Mode, e.UID = 0o700, 5 })},
			[]string{"a dir 0700 5:0 day", `a/b file 0644 0:0 "" day`},
		},
		{
			"a relative link", []member{folder("usr/"), folder("usr/lib/"), symlink("lib", "usr/lib"), file("lib/x", "")},
			[]string{"lib symlink 0777 0:0 usr/lib day", "usr dir 0755 0:0 day", "usr/lib dir 0755 0:0 day", `usr/lib/x file 0644 0:0 "" day`},
		},
		{
			"an absolute link", []member{folder("etc/"), symlink("a", "/etc"), file("a/passwd", "ours")},
			[]string{"a symlink 0777 0:0 /etc day", "etc dir 0755 0:0 day", `etc/passwd file 0644 0:0 "ours" day`},
		},
		{
			"a link beyond the top", []member{folder("etc/"), symlink("a", "../../../../../etc"), file("a/passwd", "ours")},
			[]string{"a symlink 0777 0:0 ../../../../../etc day", "etc dir 0755 0:0 day", `etc/passwd file 0644 0:0 "ours" day`},
		},
		{
			"a link to what isn't there", []member{symlink("a", "b/../c/d"), symlink("b", "/e"), file("a/f", "")},
			[]string{"a symlink 0777 0:0 b/../c/d day", "b symlink 0777 0:0 /e day", "c dir 0755 0:0", "c/d dir 0755 0:0", `c/d/f file 0644 0:0 "" day`, "e dir 0755 0:0"},
		},
		{
			"a link to what isn't there, beyond the top", []member{symlink("a", "../../x/../../y"), file("a/f", "")},
			[]string{"a symlink 0777 0:0 ../../x/../../y day", "x dir 0755 0:0", "y dir 0755 0:0", `y/f file 0644 0:0 "" day`},
		},
		{
			"a hard link's target through a link", []member{folder("d/"), file("d/x", "1"), symlink("l", "/d"), hardlink("h", "l/x")},
			[]string{"d dir 0755 0:0 day", `d/x file 0644 0:0 "1" =d/x day`, `h file 0644 0:0 "1" =d/x day`, "l symlink 0777 0:0 /d day"},
		},
		{
			"a hard link to a link", []member{symlink("l", "/etc/passwd"), hardlink("h", "l")},
			[]string{"h symlink 0777 0:0 /etc/passwd =h day", "l symlink 0777 0:0 /etc/passwd =h day"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "r")
			must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, append([]member{folder("./")}, row.members...)...))
			wantListed(t, dir, append([]string{". dir 0755 0:0 day"}, row.want...)...)
		})
	}
}

// A later entry replaces an earlier one of its name.
func TestUnpackAgain(t *testing.T) {
	needRoot(t)
	full := []member{folder("x/").xattr("user.a", "1").xattr(xattrDefault, acl1000), file("x/f", "f"), file("x/g/h", "")}
	other := func(m member) member { return m.but(func(e *Entry) { e.UID, e.Mode = 1, 0o700 }) }
	for _, row := range []struct {
		name    string
		members []member
		want    []string // of x
	}{
		{"file, file", []member{file("x", "1").xattr("user.a", "1"), other(file("x", "2"))}, []string{`x file 0700 1:0 "2" day`}},
		{"file, symlink", []member{file("x", "1"), symlink("x", "/etc/passwd")}, []string{"x symlink 0777 0:0 /etc/passwd day"}},
		{"symlink, file", []member{symlink("x", "/etc/passwd"), file("x", "1")}, []string{`x file 0644 0:0 "1" day`}},
		{"symlink, directory", []member{folder("d/"), symlink("x", "d"), folder("x/"), file("x/f", "")}, []string{"d dir 0755 0:0 day", "x dir 0755 0:0 day", `x/f file 0644 0:0 "" day`}},
		{"fifo, file", []member{entryOf(TypeFifo, "x", 0o600), file("x", "1")}, []string{`x file 0644 0:0 "1" day`}},
		{"file, fifo", []member{file("x", "1"), entryOf(TypeFifo, "x", 0o600)}, []string{"x fifo 0600 0:0 day"}},
		{"full directory, file", append(full[:3:3], file("x", "1")), []string{`x file 0644 0:0 "1" day`}},
		{"full directory, symlink", append(full[:3:3], symlink("x", "y")), []string{"x symlink 0777 0:0 y day"}},
		{"full directory, directory", append(full[:2:2], other(folder("x/"))), []string{"x dir 0700 1:0 day", `x/f file 0644 0:0 "f" day`}},
		{"directory, other attributes", []member{full[0], folder("x/").xattr("user.b", "2")}, []string{"x dir 0755 0:0 day user.b=2"}},
		{"file, hard link", []member{file("x", "1"), file("y", "2"), hardlink("x", "y")}, []string{`x file 0644 0:0 "2" =x day`, `y file 0644 0:0 "2" =x day`}},
		{"hard link, itself", []member{file("x", "1"), hardlink("x", "./x")}, []string{`x file 0644 0:0 "1" day`}},
		{"hard link, twice", []member{file("x", "1"), hardlink("y", "x"), hardlink("y", "x")}, []string{`x file 0644 0:0 "1" =x day`, `y file 0644 0:0 "1" =x day`}},
		{"one of two hard links, file", []member{file("x", "1"), hardlink("y", "x"), file("x", "2")}, []string{`x file 0644 0:0 "2" day`, `y file 0644 0:0 "1" day`}},
		{"full directory, hard link", append(full[:3:3], file("y", "2"), hardlink("x", "y")), []string{`x file 0644 0:0 "2" =x day`, `y file 0644 0:0 "2" =x day`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "r")
			must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, append([]member{folder("./")}, row.members...)...))
			wantListed(t, dir, append([]string{". dir 0755 0:0 day"}, row.want...)...)
		})
	}
}

// What is made in a directory with a default ACL has no more than its entry says.
func TestUnpackInherits(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "r")
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost},
		folder("./"), folder("d/").xattr(xattrDefault, acl1000), file("d/f", ""), folder("d/g/"), entryOf(TypeFifo, "d/p", 0o644), symlink("d/s", "x"), file("d/n/f", "")))
	wantListed(t, dir, ". dir 0755 0:0 day", "d dir 0755 0:0 day system.posix_acl_default="+acl101000,
		`d/f file 0644 0:0 "" day`, "d/g dir 0755 0:0 day", "d/n dir 0755 0:0", `d/n/f file 0644 0:0 "" day`,
		"d/p fifo 0644 0:0 day", "d/s symlink 0777 0:0 x day")
}

// What is no layer of ours leaves nothing, inside or outside.
func TestUnpackHostile(t *testing.T) {
	needRoot(t)
	long := strings.Repeat("d/", 3000)
	chain := make([]member, 0, 50)
	for n := range 45 {
		chain = append(chain, symlink("l"+strings.Repeat("x", n), "l"+strings.Repeat("x", n+1)))
	}
	for _, row := range []struct {
		name    string
		members []member
		want    []string
	}{
		{"up", []member{file("../x", "")}, []string{`"../x"`, "climbs"}},
		{"up in the middle", []member{file("a/../../x", "")}, []string{`"a/../../x"`, "climbs"}},
		{"up from the root", []member{file("/../x", "")}, []string{`"/../x"`, "climbs"}},
		{"a directory up", []member{folder("..")}, []string{`".."`, "climbs"}},
		{"a hard link up", []member{hardlink("x", "../../etc/passwd")}, []string{`"x"`, "climbs"}},
		{"a hard link to an absolute path", []member{hardlink("x", "/etc/passwd")}, []string{`"x"`, "/etc/passwd", "isn't there"}},
		{"a hard link through a link", []member{symlink("e", "/etc"), hardlink("x", "e/passwd")}, []string{`"x"`, "e/passwd", "isn't there"}},
		{"a hard link through a link up", []member{symlink("e", "../../../../../../etc"), hardlink("x", "e/passwd")}, []string{"e/passwd", "isn't there"}},
		{"a hard link to a directory", []member{folder("d/"), hardlink("x", "d")}, []string{`"x"`, "is a directory"}},
		{"a hard link to the top", []member{hardlink("x", "./")}, []string{`"x"`, "is a directory"}},
		{"a hard link to itself, which isn't there", []member{hardlink("x", "x")}, []string{`"x"`, "isn't there"}},
		{"a file in a file", []member{file("f", ""), file("f/x", "")}, []string{`"f/x"`, "isn't a directory"}},
		{"a file in a device", []member{entryOf(TypeChar, "n", 0o666).but(func(e *Entry) { e.Major, e.Minor = 1, 3 }), file("n/x", "")}, []string{`"n/x"`, "isn't a directory"}},
		{"a file in a link to a file", []member{file("f", ""), symlink("l", "f"), file("l/x", "")}, []string{`"l/x"`, "isn't a directory"}},
		{"a file in a link to itself", []member{symlink("l", "l"), file("l/x", "")}, []string{`"l/x"`, "too many levels"}},
		{"a file in a long chain of links", append(chain, file("l/x", "")), []string{`"l/x"`, "too many levels"}},
		{"a file in /proc's links", []member{symlink("l", "/proc/self/root"), file("l/../x", ""), file("l/y/z", "")}, nil},
		{"the top as a file", []member{file("./.", "")}, []string{"no directory"}},
		{"the top as a link", []member{symlink("./.", "/")}, []string{"no directory"}},
		{"too deep", []member{folder(long)}, []string{"file name too long"}},
		{"a name too long", []member{file(strings.Repeat("n", 256), "")}, []string{"file name too long"}},
		{"a file too large", []member{file("f", "").but(func(e *Entry) { e.Size, e.Data = 1<<61, []Segment{} })}, []string{`"f"`, "file too large"}},
		{"an ID that isn't mapped", []member{file("f", "").but(func(e *Entry) { e.UID = 65536 })}, []string{`"f"`, "UID 65536"}},
		{"overlay's attribute", []member{folder("d/").xattr("trusted.overlay.redirect", "/etc")}, []string{`"d/"`, "trusted.overlay.redirect"}},
		{"a whiteout that isn't one", []member{entryOf(TypeChar, "w", 0)}, []string{`"w"`, "0:0"}},
		{"a whiteout of nothing", []member{file(".wh.", "")}, []string{`".wh."`, "hides no name"}},
		{"a whiteout of the directory", []member{file("d/.wh..", "")}, []string{`"d/.wh.."`, "hides no name"}},
		{"a whiteout of the directory above", []member{file("d/.wh...", "")}, []string{`"d/.wh..."`, "hides no name"}},
		{"a whiteout of aufs", []member{file(".wh..wh.plnk", "")}, []string{"aufs"}},
		{"a whiteout that is a directory", []member{folder(".wh.d/")}, []string{`".wh.d/"`, "empty regular file"}},
		{"a whiteout with data", []member{file(".wh.d", "x")}, []string{`".wh.d"`, "empty regular file"}},
		{"a file in a whiteout", []member{file(".wh.d/f", "")}, []string{`".wh.d/f"`, "whiteout"}},
		{"a hard link to a whiteout", []member{file(".wh.f", ""), hardlink("x", "f")}, []string{`"x"`, "isn't there"}},
		{"an attribute that no filesystem has", []member{file("f", "").xattr("system.none", "x")}, []string{`"f"`, "system.none", "1 bytes", "operation not supported"}},
		{"an attribute of users on a link", []member{symlink("l", "x").xattr("user.x", "y")}, []string{`"l"`, "user.x", "operation not permitted"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := t.TempDir()
			in := filepath.Join(up, "in")
			must(t, os.Mkdir(in, 0o755), os.WriteFile(filepath.Join(up, "x"), []byte("mine"), 0o600))
			before := listed(t, up)
			err := unpackTo(t, filepath.Join(in, "r"), UnpackOptions{Shift: toHost}, append(everything(), row.members...)...)
			if row.want == nil {
				must(t, err, os.RemoveAll(filepath.Join(in, "r")))
			} else {
				wantRefusal(t, err, row.want...)
			}
			wantNothing(t, in)
			if after := listed(t, up); !slices.Equal(before, after) {
				t.Errorf("outside was\n%q, and is\n%q", before, after)
			}
		})
	}
}

// What is truncated anywhere leaves nothing.
func TestUnpackTruncated(t *testing.T) {
	needRoot(t)
	data := packed(t, everything()...)
	for cut := 0; cut < len(data)-1024; cut += 700 {
		up := t.TempDir()
		err := Unpack(context.Background(), bytes.NewReader(data[:cut]), filepath.Join(up, "r"), UnpackOptions{Shift: toHost})
		if err == nil {
			t.Errorf("cut at byte %d of %d: no error", cut, len(data))
		}
		wantNothing(t, up)
	}
}

func TestUnpackSkips(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "r")
	o := UnpackOptions{Shift: toHost, SkipXattrs: []string{"system.*", "trusted.overlay.opaque", "user.x"}}
	must(t, unpackTo(t, dir, o, folder("./"), file("f", "").xattr("system.none", "x").xattr("user.x", "x").xattr("user.y", "y"),
		folder("d/").xattr("trusted.overlay.opaque", "y")))
	wantListed(t, dir, ". dir 0755 0:0 day", "d dir 0755 0:0 day", `f file 0644 0:0 "" day user.y=y`)
	o.SkipXattrs = []string{"user.["}
	wantRefusal(t, unpackTo(t, dir+"2", o), "user.[", "syntax error in pattern")
	err := unpackTo(t, dir+"2", UnpackOptions{}, file("f", "").xattr("system.none", "x"))
	if x, ok := errors.AsType[*XattrError](err); !ok || x.Name != "system.none" || !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("got %v", err)
	}
	wantSiblings(t, filepath.Dir(dir), "r")
}

// The top without an entry, and a directory that is there already.
func TestUnpackTop(t *testing.T) {
	needRoot(t)
	up := t.TempDir()
	dir := filepath.Join(up, "r")
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, file("f", "")))
	wantListed(t, dir, ". dir 0755 0:0", `f file 0644 0:0 "" day`)

	mine := filepath.Join(up, "mine")
	must(t, os.Mkdir(mine, 0o700), os.Chown(mine, base+7, base+8), os.Chmod(mine, os.ModeSetgid|0o750))
	must(t, unpackTo(t, mine+"/", UnpackOptions{Shift: toHost}, file("f", "")))
	wantListed(t, mine, ". dir 2750 7:8", `f file 0644 0:0 "" day`)

	other := filepath.Join(up, "other")
	must(t, os.Mkdir(other, 0o700))
	must(t, unpackTo(t, other, UnpackOptions{Shift: toHost}, folder("./")))
	wantListed(t, other, ". dir 0755 0:0 day")

	nobody := &Shift{Map: toHost.Map[:0:0]}
	nobody.Map = append(nobody.Map, toHost.Map[0])
	nobody.Map[0].Inner = 1
	wantRefusal(t, unpackTo(t, filepath.Join(up, "n"), UnpackOptions{Shift: nobody}, file("d/f", "").but(func(e *Entry) { e.UID, e.GID = 1, 1 })), `"d"`, "UID 0")
	wantSiblings(t, up, "mine", "other", "r")
}

// What can't become a layer stays as it is.
func TestUnpackTargets(t *testing.T) {
	needRoot(t)
	up := t.TempDir()
	in := func(name string) string { return filepath.Join(up, name) }
	must(t, os.Mkdir(in("full"), 0o755), os.WriteFile(in("full/f"), nil, 0o600), os.WriteFile(in("file"), nil, 0o600),
		os.Mkdir(in("empty"), 0o755), os.Symlink("empty", in("link")), os.Symlink("nowhere", in("dangling")),
		os.Mkdir(in(".his.unpack"), 0o755), os.Mkdir(in(".used.unpack"), 0o700), os.WriteFile(in(".used.unpack/data"), nil, 0o600),
		os.Mkdir(in(".owned.unpack"), 0o700), os.Chown(in(".owned.unpack"), 5, 5), os.Symlink("empty", in(".led.unpack")))
	before := listed(t, up)
	for name, want := range map[string]string{
		"full": "isn't empty", "file": "isn't a directory", "link": "is a symbolic link", "dangling": "is a symbolic link",
		"no/where": "mkdir -p", "his": "mode 0755", "used": `has "data" in it`, "owned": "owned by UID 5", "led": "not a directory",
		strings.Repeat("n", 250): "file name too long", "file/x": "not a directory",
	} {
		wantRefusal(t, unpackTo(t, in(name), UnpackOptions{Shift: toHost}, everything()...), up, want)
	}
	wantRefusal(t, unpackTo(t, "/", UnpackOptions{Shift: toHost}), "is the root directory")
	if after := listed(t, up); !slices.Equal(before, after) {
		t.Errorf("was\n%q, and is\n%q", before, after)
	}
}

// A reader that fails, and one that never comes back.
func TestUnpackStops(t *testing.T) {
	needRoot(t)
	data := packed(t, everything()...)
	broken := errors.New("broken")
	up := t.TempDir()
	err := Unpack(context.Background(), io.MultiReader(bytes.NewReader(data[:5000]), iotestError{broken}), filepath.Join(up, "r"), UnpackOptions{Shift: toHost})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	wantNothing(t, up)

	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error)
	go func() { done <- Unpack(ctx, r, filepath.Join(up, "r"), UnpackOptions{Shift: toHost}) }()
	_, err = w.Write(data[:5000])
	must(t, err)
	cancel(broken)
	if err := <-done; !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	wantNothing(t, up)
}

type iotestError struct{ err error }

func (r iotestError) Read([]byte) (int, error) { return 0, r.err }
