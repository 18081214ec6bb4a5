// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// entries are what a layer can hold, with what doesn't fit into ustar.
func entries() []*Entry {
	at := time.Unix(1700000000, 0).UTC()
	fine := time.Unix(1700000000, 123456789).UTC()
	a, _ := parseACLText("user::rw-,user:7:r--,group::r--,mask::rw-,other::r--")
	long := strings.Repeat("directory/", 30)
	return []*Entry{
		{Name: "./", Type: TypeDir, Mode: 0o755, ModTime: at, User: "root", Group: "root"},
		{Name: "file", Type: TypeReg, Mode: 0o4755, UID: 2097151, GID: 2097151, Size: 5, ModTime: at},
		{Name: "large", Type: TypeReg, Mode: 0o644, UID: 2097152, GID: 4294967294, Size: 512, ModTime: fine, AccessTime: at, ChangeTime: time.Unix(-5, 1).UTC()},
		{Name: "old", Type: TypeReg, ModTime: time.Unix(-1, 0).UTC()},
		{Name: "future", Type: TypeReg, ModTime: time.Unix(1<<33, 0).UTC()},
		{Name: "timeless", Type: TypeReg, ModTime: time.Unix(0, 0).UTC()},
		{Name: strings.Repeat("n", 100), Type: TypeReg, ModTime: at},
		{Name: strings.Repeat("p", 155) + "/" + strings.Repeat("n", 100), Type: TypeReg, ModTime: at},
		{Name: strings.Repeat("p", 156) + "/n", Type: TypeReg, ModTime: at},
		{Name: strings.Repeat("n", 101), Type: TypeReg, ModTime: at},
		{Name: "/" + strings.Repeat("n", 100), Type: TypeReg, ModTime: at},
		{Name: strings.Repeat("p", 100) + "//", Type: TypeDir, ModTime: at},
		{Name: long, Type: TypeDir, ModTime: at},
		{Name: long + "link", Type: TypeSymlink, Mode: 0o777, Link: strings.Repeat("l", 100), ModTime: at},
		{Name: long + "hard", Type: TypeLink, Link: long + "f", ModTime: at},
		{Name: "grüße", Type: TypeReg, ModTime: at, User: strings.Repeat("u", 31), Group: strings.Repeat("g", 32)},
		{Name: "\xff" + long + "f", Type: TypeReg, ModTime: at},
		{Name: "null", Type: TypeChar, Mode: 0o666, Major: 1, Minor: 3, ModTime: at},
		{Name: "disk", Type: TypeBlock, Mode: 0o660, Major: 4294967295, Minor: 1 << 20, ModTime: at},
		{Name: "fifo", Type: TypeFifo, ModTime: at},
		{Name: "cont", Type: TypeCont, Size: 1, ModTime: at},
		{Name: "xattrs", Type: TypeReg, ModTime: at, Xattrs: []Xattr{{"user.a=b%3D", []byte("x\x00\n")}, {xattrAccess, a.binary()}, {xattrDefault, a.binary()}, {"user.empty", nil}}},
		{Name: "records", Type: TypeReg, ModTime: at, Records: []Record{{"VENDOR.a", "b\n"}, {keyComment, "c"}}},
		{Name: "sparse", Type: TypeReg, Size: 1 << 40, ModTime: at, Data: []Segment{{0, 3}, {1 << 30, 700}}},
		{Name: "sparse to its end", Type: TypeReg, Size: 1000, ModTime: at, Data: []Segment{{999, 1}}},
		{Name: "hole", Type: TypeReg, Size: 10 << 30, ModTime: at, Data: []Segment{}},
		{Name: long + "sparse", Type: TypeReg, Size: 1 << 20, ModTime: at, Data: []Segment{{512, 512}}},
	}
}

// write is an archive of entries, each with bytes that are its own.
func write(t *testing.T, all []*Entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	for i, e := range all {
		if err := w.WriteEntry(e); err != nil {
			t.Fatal(err)
		}
		if n, err := w.Write(bytes.Repeat([]byte{byte('a' + i)}, int(e.Stored()))); err != nil || int64(n) != e.Stored() {
			t.Fatalf("%s: %d, %v", e.Name, n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestWriteRead reads what was written, as it was meant.
func TestWriteRead(t *testing.T) {
	all := entries()
	data := write(t, all)
	if again := write(t, all); !bytes.Equal(again, data) {
		t.Error("the same entries gave other bytes")
	}
	got, contents, err := readAll(data)
	if err != nil || len(got) != len(all) {
		t.Fatalf("%d entries, %v: expected %d", len(got), err, len(all))
	}
	for i, e := range all {
		want := *e
		want.offset = got[i].offset
		for j, x := range want.Xattrs {
			want.Xattrs[j].Value = append([]byte{}, x.Value...)
		}
		if fmt.Sprintf("%+v", *got[i]) != fmt.Sprintf("%+v", want) {
			t.Errorf("%+v, expected\n%+v", *got[i], want)
		}
		if e.Data != nil && got[i].Data == nil {
			t.Errorf("%s: isn't sparse any more", e.Name)
		}
		if contents[i] != strings.Repeat(string(rune('a'+i)), int(e.Stored())) {
			t.Errorf("%s: %d other bytes", e.Name, len(contents[i]))
		}
	}
	thereAndBack(t, wide, write(t, entries()[:2]))
}

// TestWriteForGo has Go's archive/tar read what was written.
func TestWriteForGo(t *testing.T) {
	all := entries()
	r := tar.NewReader(bytes.NewReader(write(t, all)))
	for _, e := range all {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if h.Name != e.Name || h.Typeflag != e.Type || h.Linkname != e.Link || uint32(h.Uid) != e.UID || uint32(h.Gid) != e.GID || h.Size != e.Size ||
			!h.ModTime.Equal(e.ModTime) || h.Uname != e.User || h.Gname != e.Group || uint32(h.Mode) != e.Mode {
			t.Errorf("%+v, expected\n%+v", h, e)
		}
		if e.Size > 1<<30 {
			continue // Go would read the holes, byte for byte
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != e.Size {
			t.Errorf("%s: %d bytes, %v: expected %d", e.Name, n, err, e.Size)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

// TestWriteBad is entries that can't be written. Nothing of them is.
func TestWriteBad(t *testing.T) {
	good := Entry{Name: "a", Type: TypeReg}
	for want, change := range map[string]func(e *Entry){
		`"": a name that is empty`:       func(e *Entry) { e.Name = "" },
		`"a\x00": a name`:                func(e *Entry) { e.Name = "a\x00" },
		"a link or an owner's name with": func(e *Entry) { e.User = "a\x00" },
		"type 'S'":                       func(e *Entry) { e.Type = typeSparse },
		"type 'V'":                       func(e *Entry) { e.Type = TypeVolume },
		`type '\x00'`:                    func(e *Entry) { e.Type = 0 },
		"whose name ends with a slash":   func(e *Entry) { e.Name = "a/" },
		"a link without a target":        func(e *Entry) { e.Type = TypeSymlink },
		"or a target without a link":     func(e *Entry) { e.Link = "b" },
		"size -1":                        func(e *Entry) { e.Size = -1 },
		"size 5: expected 0":             func(e *Entry) { e.Type, e.Size = TypeDir, 5 },
		"mode 0100644":                   func(e *Entry) { e.Mode = 0o100644 },
		"sparse: expected a regular":     func(e *Entry) { e.Type, e.Data = TypeDir, []Segment{} },
		"expected rising segments":       func(e *Entry) { e.Size, e.Data = 9, []Segment{{0, 2}, {1, 1}} },
		"expected segments that aren't":  func(e *Entry) { e.Size, e.Data = 9, []Segment{{0, 0}} },
		"within the file's 9 bytes":      func(e *Entry) { e.Size, e.Data = 9, []Segment{{0, 10}} },
		"UID 4294967295: expected":       func(e *Entry) { e.UID = 1<<32 - 1 },
		"GID 4294967295: expected":       func(e *Entry) { e.GID = 1<<32 - 1 },
		"isn't there twice":              func(e *Entry) { e.Xattrs = []Xattr{{"user.a", nil}, {"user.a", nil}} },
		`extended attribute ""`:          func(e *Entry) { e.Xattrs = []Xattr{{"", nil}} },
		"an ACL of 0 bytes":              func(e *Entry) { e.Xattrs = []Xattr{{xattrAccess, nil}} },
		`pax record "uid"`:               func(e *Entry) { e.Records = []Record{{keyUID, "0"}} },
		`pax record "a=b"`:               func(e *Entry) { e.Records = []Record{{"a=b", "0"}} },
		`pax record "GNU.sparse.size"`:   func(e *Entry) { e.Records = []Record{{"GNU.sparse.size", "0"}} },
		`pax record "SCHILY.xattr.a"`:    func(e *Entry) { e.Records = []Record{{"SCHILY.xattr.a", "0"}} },
		"expected at most 1048576":       func(e *Entry) { e.Xattrs = []Xattr{{"user.a", make([]byte, 1<<20)}} },
	} {
		var out bytes.Buffer
		w := NewWriter(&out)
		e := good
		change(&e)
		wantError(t, w.WriteEntry(&e), want)
		if err := w.WriteEntry(&good); err != nil {
			t.Errorf("%s: the next entry: %v", want, err)
		}
		if err := w.Close(); err != nil || out.Len() != 3*blockSize {
			t.Errorf("%s: %v, %d bytes: expected the next entry alone", want, err, out.Len())
		}
	}
}

// TestWriteOrder is data that doesn't fit its entry, and calls behind the end.
func TestWriteOrder(t *testing.T) {
	w := NewWriter(io.Discard)
	if err := w.WriteEntry(&Entry{Name: "a", Type: TypeReg, Size: 5}); err != nil {
		t.Fatal(err)
	}
	_, err := w.Write([]byte("123456"))
	wantError(t, err, `"a": 6 bytes of data: expected at most 5 more`)
	if _, err := w.Write([]byte("1234")); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.WriteEntry(&Entry{Name: "b", Type: TypeReg}), `"a": 1 bytes of data are missing`)
	wantError(t, w.Close(), `"a": 1 bytes of data are missing`)
	if _, err := w.Write([]byte("5")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, w.WriteEntry(&Entry{Name: "b", Type: TypeReg}), "the archive is closed")
}

// full is a writer that has no more room after some bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, errors.New("no space left")
	}
	f.left -= len(p)
	return len(p), nil
}

// TestWriteFull has no room for the archive, at each place.
func TestWriteFull(t *testing.T) {
	for _, room := range []int{0, 300000, 600000} {
		w := NewWriter(&full{room})
		err := w.WriteEntry(&Entry{Name: "a", Type: TypeReg, Size: 900000})
		for range 9 {
			if err == nil {
				_, err = w.Write(make([]byte, 100000))
			}
		}
		if err == nil {
			err = w.Close()
		}
		wantError(t, err, "no space left")
		wantError(t, w.Close(), "no space left")
	}
	wantError(t, (&Shift{Map: wide}).Stream(&full{300000}, bytes.NewReader(archive(raw(magicPOSIX, sized(900000)), make([]byte, 900096)))), "no space left")
	wantError(t, (&Shift{Map: wide}).Stream(&full{0}, bytes.NewReader(archive(raw(magicPOSIX)))), "no space left")
}
