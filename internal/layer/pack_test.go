// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// entriesOf is the entries of an archive, and the data that it has of each.
func entriesOf(t *testing.T, data []byte) (entries []*Entry, texts []string) {
	t.Helper()
	r := NewReader(bytes.NewReader(data))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries, texts
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		entries, texts = append(entries, e), append(texts, string(text))
	}
}

func namesIn(t *testing.T, data []byte) []string {
	t.Helper()
	entries, _ := entriesOf(t, data)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

// wantSame wants verify to find no difference between two archives.
func wantSame(t *testing.T, a, b []byte) {
	t.Helper()
	told, n, err := verifyData(t, a, b)
	must(t, err)
	if n != 0 {
		t.Errorf("%d names differ: %q", n, told)
	}
}

func verifyData(t *testing.T, a, b []byte) ([]Difference, int, error) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a"), a, 0o600), os.WriteFile(filepath.Join(dir, "b"), b, 0o600))
	return Verify(context.Background(), filepath.Join(dir, "a"), filepath.Join(dir, "b"), VerifyOptions{Most: 10})
}

// There and back all is as it was, header by header.
func TestPackBack(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "r")
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, everything()...))
	data, err := packFrom(t, dir, PackOptions{Shift: toContainer})
	must(t, err)
	wantSame(t, packed(t, everything()...), data)
	// verify is by the same hand; so once more without it. everything is in order.
	entries, texts := entriesOf(t, data)
	wantEntries, wantTexts := entriesOf(t, packed(t, everything()...))
	if len(entries) != len(wantEntries) {
		t.Fatalf("%d entries, want %d", len(entries), len(wantEntries))
	}
	for i, want := range wantEntries {
		got := entries[i]
		slices.SortFunc(want.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
		if want.Type == TypeLink { // its header is that of what it links to
			got.UID, got.GID, got.Mode, want.UID, want.GID, want.Mode = 0, 0, 0, 0, 0, 0
		}
		if want.Data != nil { // by whole blocks of the filesystem
			if len(got.Data) != 2 || got.Data[0].Offset != 1<<20 || got.Data[1].Offset != 5<<20 || len(strings.Split(texts[i], "more")) != 2 || !strings.HasPrefix(texts[i], "data\x00") {
				t.Errorf("%s: %v %q", want.Name, got.Data, texts[i])
			}
			got.Data, texts[i] = want.Data, wantTexts[i]
		}
		if !sameButOffset(got, want) {
			t.Errorf("got\n%+v\nwant\n%+v", *got, *want)
		}
		if texts[i] != wantTexts[i] {
			t.Errorf("%s: %q, want %q", want.Name, texts[i], wantTexts[i])
		}
	}
	again, err := packFrom(t, dir, PackOptions{Shift: toContainer})
	must(t, err)
	if !bytes.Equal(data, again) {
		t.Error("twice gives different bytes")
	}
}

// sameButOffset compares all that an entry says, but where it stands.
func sameButOffset(a, b *Entry) bool {
	x, y := *a, *b
	x.offset, y.offset = 0, 0
	return fmt.Sprintf("%+v", x) == fmt.Sprintf("%+v", y)
}

func TestPack(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Mkdir(at("b"), 0o755), os.WriteFile(at("b/x"), nil, 0o644), os.WriteFile(at("b-"), nil, 0o644), os.WriteFile(at("B"), nil, 0o644),
		os.Symlink("/etc/passwd", at("a")), os.Link(at("b/x"), at("z")), os.Link(at("b/x"), at("y")), os.WriteFile(at("\xff\n"), nil, 0o644))
	socket, err := net.Listen("unix", at("s"))
	must(t, err)
	defer socket.Close()
	var warned []string
	data, err := packFrom(t, dir, PackOptions{Warn: func(m string) { warned = append(warned, m) }})
	must(t, err)
	if got, want := namesIn(t, data), []string{"./", "./B", "./a", "./b/", "./b/x", "./b-", "./y", "./z", "./\xff\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], `"./s": is a socket`) {
		t.Errorf("warned of %q", warned)
	}
	entries, _ := entriesOf(t, data)
	for _, e := range entries {
		if (e.Name == "./y" || e.Name == "./z") && (e.Type != TypeLink || e.Link != "./b/x") {
			t.Errorf("%s is of type %q, to %q", e.Name, e.Type, e.Link)
		}
		if !e.AccessTime.IsZero() {
			t.Errorf("%s has an access time", e.Name)
		}
	}
	data, err = packFrom(t, dir, PackOptions{AccessTimes: true})
	must(t, err)
	again, err := packFrom(t, dir, PackOptions{AccessTimes: true})
	must(t, err)
	if entries, _ := entriesOf(t, data); entries[0].AccessTime.IsZero() || !bytes.Equal(data, again) {
		t.Error("access times are missing, or are changed by being read")
	}

	_, err = packFrom(t, dir, PackOptions{Shift: toContainer})
	wantRefusal(t, err, `"./"`, "UID 0", "not in the map")
	squash := *toContainer
	squash.Squash = true
	data, err = packFrom(t, dir, PackOptions{Shift: &squash})
	must(t, err)
	if entries, _ := entriesOf(t, data); entries[0].UID != 65534 {
		t.Errorf("UID %d", entries[0].UID)
	}
	_, err = packFrom(t, at("nowhere"), PackOptions{})
	wantRefusal(t, err, "nowhere", "no such file")
	_, err = packFrom(t, at("B"), PackOptions{})
	wantRefusal(t, err, "B", "not a directory")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Pack(ctx, dir, io.Discard, PackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPackSkips(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, unix.Setxattr(dir, "user.a", []byte("1"), 0), unix.Setxattr(dir, "trusted.b", []byte("2"), 0), unix.Setxattr(dir, xattrDefault, []byte(acl1000), 0))
	data, err := packFrom(t, dir, PackOptions{SkipXattrs: []string{"trusted.*", "system.*"}})
	must(t, err)
	entries, _ := entriesOf(t, data)
	if len(entries[0].Xattrs) != 1 || entries[0].Xattrs[0].Name != "user.a" {
		t.Errorf("got %v", entries[0].Xattrs)
	}
	_, err = packFrom(t, dir, PackOptions{SkipXattrs: []string{"["}})
	wantRefusal(t, err, `"["`, "syntax error")
}

// Overlay's own attributes, and what has no form in an archive.
func TestPackOverlay(t *testing.T) {
	needRoot(t)
	for _, row := range []struct {
		name         string
		xattr, value string // of the file f or, with a slash at its end, of the directory d/
		on           string
		overlay, oci string // the error, or the names with commas
	}{
		{"opaque", "opaque", "y", "d", "./,./d/,./d/.wh..wh..opq,./f", "trusted.overlay.opaque"},
		{"opaque, not quite", "opaque", "x", "d", "./,./d/,./f", "./,./d/,./f"},
		{"origin", "origin", "z", "f", "./,./d/,./f", "./,./d/,./f"},
		{"redirect", "redirect", "/x", "d", "in a lower layer", "in a lower layer"},
		{"metacopy", "metacopy", "", "f", "in a lower layer", "in a lower layer"},
		{"whiteout by attribute", "whiteout", "", "f", "./,./d/,./.wh.f", "trusted.overlay.whiteout"},
		{"whiteout of a directory", "whiteout", "", "d", "attribute of a whiteout", "trusted.overlay.whiteout"},
	} {
		for how, want := range map[Whiteouts]string{OverlayWhiteouts: row.overlay, OCIWhiteouts: row.oci} {
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "f"), nil, 0o644),
				unix.Setxattr(filepath.Join(dir, row.on), overlayXattrs+row.xattr, []byte(row.value), 0))
			data, err := packFrom(t, dir, PackOptions{Whiteouts: how})
			if !strings.HasPrefix(want, "./") {
				wantRefusal(t, err, want)
				continue
			}
			must(t, err)
			if got := strings.Join(namesIn(t, data), ","); got != want {
				t.Errorf("%s, %s: got %s, want %s", row.name, how, got, want)
			}
			entries, _ := entriesOf(t, data)
			for _, e := range entries {
				if len(e.Xattrs) > 0 {
					t.Errorf("%s, %s: %s has %v", row.name, how, e.Name, e.Xattrs)
				}
			}
		}
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, ".wh.f"), nil, 0o644))
	_, err := packFrom(t, dir, PackOptions{})
	wantRefusal(t, err, `"./.wh.f"`, "stands for a whiteout")
	_, err = packFrom(t, dir, PackOptions{Whiteouts: OCIWhiteouts})
	must(t, err)
}

func TestPackMount(t *testing.T) {
	if !inMounts(t) {
		return
	}
	dir := t.TempDir()
	other := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "m"), 0o755), os.WriteFile(filepath.Join(dir, "f"), nil, 0o644), os.WriteFile(filepath.Join(other, "g"), nil, 0o644))
	t.Run("directory", func(t *testing.T) {
		mount(t, other, "", filepath.Join(dir, "m"), unix.MS_BIND, "")
		_, err := packFrom(t, dir, PackOptions{})
		wantRefusal(t, err, `"./m"`, "is a mount point")
	})
	t.Run("file", func(t *testing.T) {
		mount(t, filepath.Join(other, "g"), "", filepath.Join(dir, "f"), unix.MS_BIND, "")
		_, err := packFrom(t, dir, PackOptions{})
		wantRefusal(t, err, `"./f"`, "is a mount point")
	})
	_, err := packFrom(t, dir, PackOptions{})
	must(t, err)
}

// A tree that isn't at rest is refused wherever it is seen, and nothing outside is read.
func TestPackChanges(t *testing.T) {
	needRoot(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	for _, row := range []struct {
		name   string
		when   string // at this entry, before its data is read
		change func(at func(string) string) error
		want   string
	}{
		{"a file is cut", "./b", func(at func(string) string) error { return os.Truncate(at("b"), 1) }, `"./b"`},
		{"a file grows", "./b", func(at func(string) string) error { return os.Truncate(at("b"), 10) }, `"./b"`},
		{"a file is written to", "./b", func(at func(string) string) error { return os.WriteFile(at("b"), []byte("other"), 0o644) }, `"./b"`},
		{"a file is gone", "./", func(at func(string) string) error { return os.Remove(at("b")) }, `"./"`},
		{"a file is gone later", "./b", func(at func(string) string) error { return os.Remove(at("d/f")) }, ""},
		{"a file is gone, that was listed", "./c/", func(at func(string) string) error { return os.Remove(at("d2")) }, `"./d2"`},
		{"a file is new", "./c/", func(at func(string) string) error { return os.WriteFile(at("a"), nil, 0o644) }, `"./"`},
		{"a file is new in a directory", "./d/f", func(at func(string) string) error { return os.WriteFile(at("d/g"), nil, 0o644) }, `"./d/"`},
		{"a directory becomes a link", "./b", func(at func(string) string) error {
			return errors.Join(os.RemoveAll(at("d")), os.Symlink(outside, at("d")))
		}, `"./"`},
		{"an owner changes", "./b", func(at func(string) string) error { return os.Chown(at("b"), 1, 1) }, `"./b"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			must(t, os.WriteFile(at("b"), []byte("text"), 0o644), os.Mkdir(at("c"), 0o755), os.Mkdir(at("d"), 0o755), os.WriteFile(at("d/f"), nil, 0o644), os.WriteFile(at("d2"), nil, 0o644))
			err := eachFile(context.Background(), dir, PackOptions{}, func(e *Entry, data io.Reader) error {
				if e.Name == row.when {
					must(t, row.change(at))
				}
				text, err := io.ReadAll(data)
				if strings.Contains(string(text), "secret") {
					t.Error("it has read what is outside")
				}
				return err
			})
			if row.want == "" {
				must(t, err)
				return
			}
			wantRefusal(t, err, row.want, "has changed while it was packed")
			if !errors.Is(err, errChanged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What takes the place of a file between two looks at it isn't opened for long, or read.
func TestPackOpens(t *testing.T) {
	dir := t.TempDir()
	fd, err := linux.OpenDirectory(dir)
	must(t, err)
	defer fd.Close()
	a := linux.At{Dir: fd, Name: "f"}
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, nil, 0o644))
	st, err := a.Stat()
	must(t, err)
	for name, replace := range map[string]func() error{
		"a file":      func() error { return os.WriteFile(path, nil, 0o644) },
		"a FIFO":      func() error { return unix.Mkfifo(path, 0o644) },
		"a link":      func() error { return os.Symlink("/etc/passwd", path) },
		"nothing":     func() error { return nil },
		"a directory": func() error { return os.Mkdir(path, 0o755) },
	} {
		must(t, os.Rename(path, path+".was"), replace())
		for _, open := range []func() (linux.FD, error){a.OpenFile, a.OpenDir} {
			if _, err := (&packer{}).open(open, &st); !errors.Is(err, errChanged) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		must(t, os.RemoveAll(path), os.Rename(path+".was", path))
	}
}

func TestPackSparse(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	defer f.Close()
	for n := range int64(20) {
		_, err := f.WriteAt([]byte("data"), n<<20)
		must(t, err)
	}
	must(t, f.Truncate(10<<30))
	data, err := packFrom(t, dir, PackOptions{})
	must(t, err)
	if len(data) > 1<<20 {
		t.Errorf("%d bytes", len(data))
	}
	entries, _ := entriesOf(t, data)
	if e := entries[1]; e.Size != 10<<30 || len(e.Data) != 20 || e.Data[19].Offset != 19<<20 {
		t.Errorf("got %+v", e)
	}
	out := filepath.Join(dir, "out")
	must(t, Unpack(context.Background(), bytes.NewReader(data), out, UnpackOptions{}))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(out, "f"), &st))
	if st.Size != 10<<30 || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	must(t, os.Rename(path, filepath.Join(dir, "g")), os.Truncate(filepath.Join(dir, "g"), 0), os.Rename(filepath.Join(dir, "g"), path), os.Truncate(path, 1<<20), os.RemoveAll(out))
	data, err = packFrom(t, dir, PackOptions{})
	must(t, err)
	if entries, _ := entriesOf(t, data); entries[1].Data == nil || len(entries[1].Data) != 0 {
		t.Errorf("nothing but a hole is %v", entries[1].Data)
	}
}

// Short holes become data where there are too many.
func TestJoined(t *testing.T) {
	var all []Segment
	offset := int64(0)
	for n := range int64(100) {
		all = append(all, Segment{offset, 10})
		offset += 10 + n
	}
	for _, least := range []int64{1, 2, 50, 1000} {
		got := joined(slices.Clone(all), 1, least)
		want := 1
		for n := range int64(99) {
			if n >= least {
				want++
			}
		}
		if len(got) != want || got[len(got)-1].Offset+got[len(got)-1].Length != all[99].Offset+10 {
			t.Errorf("%d: %d segments, want %d: %v", least, len(got), want, got)
		}
	}
	if got := joined([]Segment{{0, 5}, {5, 5}}, 1, 1); !slices.Equal(got, []Segment{{0, 10}}) {
		t.Errorf("got %v", got)
	}
}

// A file of which all names were seen is forgotten.
func TestHardLinks(t *testing.T) {
	var h hardLinks
	for n := range 200_000 {
		st := &linux.Stat{Inode: uint64(n), Links: 3}
		for i, want := range []string{"", "./d/a", "./d/a"} {
			if got := h.first(st, "./d/", string(rune('a'+i))); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	if h.n != 0 || len(h.chunks) > 1 {
		t.Errorf("%d files and %d chunks are left", h.n, len(h.chunks))
	}
	one, other := &linux.Stat{Inode: 1, Links: 2}, &linux.Stat{Inode: 1, DevMinor: 1, Links: 2}
	for _, row := range []struct {
		st         *linux.Stat
		base, want string
	}{{one, "a", ""}, {other, "b", ""}, {one, "c", "./a"}, {other, "d", "./b"}, {one, "e", ""}} {
		if got := h.first(row.st, "./", row.base); got != row.want {
			t.Errorf("%s: got %q, want %q", row.base, got, row.want)
		}
	}
}
