// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// shownAs is differences as lines.
func shownAs(told []Difference) []string {
	lines := []string{}
	for _, d := range told {
		lines = append(lines, strings.TrimRight(d.Name+": "+d.What+": "+d.A+" | "+d.B, ":| "))
	}
	return lines
}

func TestVerify(t *testing.T) {
	top := folder("./")
	f := file("f", "text")
	mode := func(e *Entry) { e.Mode = 0o600 }
	for _, row := range []struct {
		name string
		a, b []member
		n    int
		want []string
	}{
		{"the same", everything(), everything(), 0, nil},
		{"another order", everything()[:7], append([]member{}, everything()[1], everything()[2], everything()[0], everything()[6], everything()[5], everything()[4], everything()[3]), 0, nil},
		{"spelled otherwise", []member{folder("./d/"), file("./d/f", "")}, []member{folder("d"), file("/d//f", "")}, 0, nil},
		{"nothing", nil, nil, 0, nil},
		{"the top on one side", []member{top, f}, []member{f}, 0, nil},
		{"the top on the other side", []member{f}, []member{top, f}, 0, nil},
		{"the top", []member{top}, []member{top.but(mode)}, 1, []string{".: mode: 0755 | 0600"}},
		{"only in a", []member{f, file("g", "")}, []member{f}, 1, []string{"g: only in A"}},
		{"only in b", []member{f}, []member{f, file("g", "")}, 1, []string{"g: only in B"}},
		{"mode", []member{f}, []member{f.but(mode)}, 1, []string{"f: mode: 0644 | 0600"}},
		{"UID and GID", []member{f}, []member{f.but(func(e *Entry) { e.UID, e.GID = 1, 2 })}, 1, []string{"f: UID: 0 | 1", "f: GID: 0 | 2"}},
		{"time", []member{f}, []member{f.but(func(e *Entry) { e.ModTime = day.Add(1) })}, 1, []string{"f: mtime: 2020-02-03T04:05:06.000000789Z | 2020-02-03T04:05:06.00000079Z"}},
		{"type", []member{file("f", "")}, []member{entryOf(TypeFifo, "f", 0o644)}, 1, []string{"f: type: 0 | 6"}},
		{"type, which is none of the disk", []member{f}, []member{f.but(func(e *Entry) { e.Type = TypeCont })}, 0, nil},
		{"target", []member{symlink("l", "a")}, []member{symlink("l", "./a")}, 1, []string{"l: link: a | ./a"}},
		{"device", []member{entryOf(TypeChar, "c", 0)}, []member{entryOf(TypeChar, "c", 0).but(func(e *Entry) { e.Minor = 1 })}, 1, []string{"c: device: 0:0 | 0:1"}},
		{"attributes in another order", []member{f.xattr("user.a", "1").xattr("user.b", "2")}, []member{f.xattr("user.b", "2").xattr("user.a", "1")}, 0, nil},
		{"an attribute", []member{f.xattr("user.a", "1")}, []member{f.xattr("user.a", "2")}, 1, []string{"f: extended attributes: user.a=31 | user.a=32"}},
		{"an ACL that says what the mode does", []member{f.xattr(xattrAccess, acl1000[:4]+acl1000[4:12]+acl1000[20:28]+acl1000[36:])}, []member{f}, 0, nil},
		{"an ACL", []member{f.xattr(xattrAccess, acl1000)}, []member{f}, 1, nil},
		{"content", []member{f}, []member{file("f", "texT")}, 1, nil},
		{"names on one side", []member{f.but(func(e *Entry) { e.User = "root" })}, []member{f}, 0, nil},
		{
			"names", []member{f.but(func(e *Entry) { e.User = "root" }), file("g", "").but(func(e *Entry) { e.Group = "g" })},
			[]member{f, file("g", "").but(func(e *Entry) { e.Group = "h" })}, 2,
			[]string{"f: names of owner and group: root", "g: names of owner and group: :g | :h"},
		},
		{"access times on one side", []member{f.but(func(e *Entry) { e.AccessTime = day })}, []member{f}, 0, nil},
		{
			"access times", []member{f.but(func(e *Entry) { e.AccessTime = day })}, []member{f.but(func(e *Entry) { e.AccessTime = day.Add(time.Hour) })}, 1,
			[]string{"f: atime: 2020-02-03T04:05:06.000000789Z | 2020-02-03T05:05:06.000000789Z"},
		},
		{"times of status change", []member{f.but(func(e *Entry) { e.ChangeTime = day })}, []member{f.but(func(e *Entry) { e.ChangeTime = day.Add(1) })}, 0, nil},
		{"records", []member{f.but(func(e *Entry) { e.Records = []Record{{"comment", "a"}} })}, []member{f.but(func(e *Entry) { e.Records = []Record{{"comment", "b"}} })}, 1, []string{"f: other pax records: comment=a\n | comment=b\n"}},
		{"opaque markers", []member{file("d/.wh..wh..opq", "")}, []member{file("d/.wh..wh..opq", "").but(mode)}, 0, nil},
		{"hard links", []member{f, hardlink("g", "f")}, []member{f, hardlink("g", "./f")}, 0, nil},
		{"hard links from the other end", []member{f, hardlink("g", "f"), hardlink("h", "g")}, []member{file("h", "text"), hardlink("f", "h"), hardlink("g", "f")}, 0, nil},
		{"copies", []member{f, hardlink("g", "f")}, []member{f, file("g", "text")}, 2, []string{"f: hard links: one of 2 names | its only name", "g: hard links: one of 2 names | its only name"}},
		{"no copies", []member{f, file("g", "text")}, []member{f, hardlink("g", "f")}, 2, []string{"f: hard links: its only name | one of 2 names", "g: hard links: its only name | one of 2 names"}},
		{
			"other pairs", []member{f, hardlink("g", "f"), file("h", "text"), hardlink("i", "h")}, []member{f, hardlink("h", "f"), file("g", "text"), hardlink("i", "g")}, 4,
			[]string{"f: hard links: one of 2 names | one of 2 others", "g: hard links: one of 2 names | one of 2 others", "h: hard links: one of 2 names | one of 2 others", "i: hard links: one of 2 names | one of 2 others"},
		},
		{"a hard link's content, from the other end", []member{f, hardlink("g", "f")}, []member{file("g", "texT"), hardlink("f", "g")}, 1, nil},
		{"a hard link only in a", []member{f, hardlink("g", "f")}, []member{f}, 2, []string{"f: hard links: one of 2 names | its only name", "g: only in A"}},
		{"a hard link only in b", []member{f}, []member{f, hardlink("g", "f")}, 2, []string{"f: hard links: its only name | one of 2 names", "g: only in B"}},
		{"hard links to what isn't there", []member{hardlink("g", "f")}, []member{hardlink("g", "f")}, 0, nil},
		{"hard links to other files that aren't there", []member{hardlink("g", "f")}, []member{hardlink("g", "e")}, 1, nil},
		{"a file for a hard link to what isn't there", []member{hardlink("g", "f")}, []member{file("g", "")}, 1, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			told, n, err := verifyData(t, packed(t, row.a...), packed(t, row.b...))
			must(t, err)
			if n != row.n || n > 0 && len(told) == 0 {
				t.Errorf("%d names differ, want %d: %q", n, row.n, shownAs(told))
			}
			if got := shownAs(told); row.want != nil && !slices.Equal(got, row.want) {
				t.Errorf("got\n%q\nwant\n%q", got, row.want)
			}
		})
	}
}

// Zeros count the same whether they are stored or not, and nothing else does.
func TestVerifySparse(t *testing.T) {
	text := strings.Repeat("\x00", 100_000) + "data" + strings.Repeat("\x00", 300_000) + "more" + strings.Repeat("\x00", 50_000)
	sparse := func(segments ...Segment) member {
		m := file("f", "")
		m.Size, m.Data = int64(len(text)), segments
		for _, s := range segments {
			m.text += text[s.Offset : s.Offset+s.Length]
		}
		return m
	}
	whole := packed(t, file("f", text))
	for _, segments := range [][]Segment{
		{{100_000, 4}, {400_004, 4}},
		{{100_000, 1}, {100_001, 3}, {400_004, 4}},
		{{65_536, 100_000}, {400_000, 20_000}},
		{{0, int64(len(text))}},
		{{99_999, 300_003}, {400_003, 150}},
	} {
		wantSame(t, whole, packed(t, sparse(segments...)))
	}
	for _, segments := range [][]Segment{{}, {{100_000, 4}}, {{100_000, 3}, {400_004, 4}}} {
		_, n, err := verifyData(t, whole, packed(t, sparse(segments...)))
		must(t, err)
		if n != 1 {
			t.Errorf("%v: %d names differ", segments, n)
		}
	}
	moved := text[1:] + "\x00"
	_, n, err := verifyData(t, whole, packed(t, file("f", moved)))
	must(t, err)
	if n != 1 {
		t.Error("data that was moved by a byte is the same")
	}
}

// A directory is compared as what it packs to, under the map.
func TestVerifyDirectory(t *testing.T) {
	needRoot(t)
	up := t.TempDir()
	dir, tar := filepath.Join(up, "r"), filepath.Join(up, "tar")
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, everything()...), os.WriteFile(tar, packed(t, everything()...), 0o600))
	o := VerifyOptions{Directory: PackOptions{Shift: toContainer}, Most: 10}
	for _, pair := range [][2]string{{dir, tar}, {tar, dir}, {dir, dir}} {
		told, n, err := Verify(context.Background(), pair[0], pair[1], o)
		must(t, err)
		if n != 0 {
			t.Errorf("%v: %q", pair, told)
		}
	}
	must(t, os.Chmod(filepath.Join(dir, "d/a"), 0o600))
	told, n, err := Verify(context.Background(), tar, dir, o)
	must(t, err)
	if n != 1 || !slices.Equal(shownAs(told), []string{"d/a: mode: 0644 | 0600"}) {
		t.Errorf("%d: %q", n, told)
	}
	_, n, err = Verify(context.Background(), tar, dir, VerifyOptions{Most: 1})
	must(t, err)
	if n != 14 { // all owners, but for two hard links
		t.Errorf("without a map %d names differ", n)
	}
	o.Directory.SkipXattrs = []string{"*"}
	_, n, err = Verify(context.Background(), tar, dir, o)
	must(t, err)
	if n != 1 {
		t.Errorf("without attributes %d names differ", n)
	}
}

// What is told has a limit, what is counted has none.
func TestVerifyMost(t *testing.T) {
	var a, b []member
	for n := range 50 {
		name := strings.Repeat("x", n+1)
		a = append(a, file("a"+name, ""), file("m"+name, ""), file("o"+name, "").but(func(e *Entry) { e.User = "a" }), file("h"+name, "").but(func(e *Entry) { e.User = "a" }), hardlink("i"+name, "h"+name))
		b = append(b, file("b"+name, ""), file("m"+name, "x"), file("o"+name, "").but(func(e *Entry) { e.User = "b" }), file("h"+name, "").but(func(e *Entry) { e.User = "a" }), file("i"+name, "").but(func(e *Entry) { e.User = "a" }))
	}
	told, n, err := verifyData(t, packed(t, a...), packed(t, b...))
	must(t, err)
	names := make(map[string]bool)
	for _, d := range told {
		names[d.Name] = true
	}
	if n != 6*50 || len(names) != 10 {
		t.Errorf("%d names differ, %d are told of: %q", n, len(names), shownAs(told))
	}
}

func TestVerifyRefuses(t *testing.T) {
	fine := packed(t, file("f", ""))
	for name, bad := range map[string][]member{
		`"g": is there twice`:       {file("f", ""), file("g", ""), file("g", "")},
		`"g": is there twice: `:     {file("g", ""), hardlink("./g", "f")},
		`is there twice: expected`:  {hardlink("g", "f"), folder("g/")},
		`"../x": climbs`:            {file("../x", "")},
		`is a hard link to "../../`: {hardlink("g", "../../f")},
	} {
		_, _, err := verifyData(t, packed(t, bad...), fine)
		wantRefusal(t, err, name, "/a: ")
		_, _, err = verifyData(t, packed(t, append([]member{}, bad...)...), packed(t, bad...))
		wantRefusal(t, err, name)
	}
	_, _, err := verifyData(t, packed(t, file("g", "")), packed(t, file("g", ""), file("g", "")))
	wantRefusal(t, err, `/b: "g": is there twice`)
	_, _, err = verifyData(t, fine[:600], fine)
	wantRefusal(t, err, "/a: ")
	_, _, err = Verify(context.Background(), "/dev/null", "/dev/null", VerifyOptions{})
	wantRefusal(t, err, "/dev/null: isn't a regular file")
	_, _, err = Verify(context.Background(), "/nowhere", "/dev/null", VerifyOptions{})
	wantRefusal(t, err, "/nowhere", "no such file")
	_, _, err = Verify(context.Background(), "/nowhere", "/dev/null", VerifyOptions{Directory: PackOptions{SkipXattrs: []string{"["}}})
	wantRefusal(t, err, "syntax error")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Verify(ctx, t.TempDir(), "/dev/null", VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Compressed archives are read as they are.
func TestVerifyCompressed(t *testing.T) {
	dir := t.TempDir()
	data := packed(t, everything()...)
	must(t, os.WriteFile(filepath.Join(dir, "plain"), data, 0o600))
	for _, kind := range []Compression{Gzip, Zstd} {
		var out bytes.Buffer
		w, err := Compress(&out, kind)
		must(t, err)
		_, err = w.Write(data)
		must(t, err, w.Close(), os.WriteFile(filepath.Join(dir, kind.String()), out.Bytes(), 0o600))
		_, n, err := Verify(context.Background(), filepath.Join(dir, kind.String()), filepath.Join(dir, "plain"), VerifyOptions{})
		must(t, err)
		if n != 0 {
			t.Errorf("%s: %d names differ", kind, n)
		}
	}
}
