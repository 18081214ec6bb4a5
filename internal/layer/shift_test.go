// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// ownedBy puts numbers into a header's fields, in octal as GNU tar writes it, or in base-256.
func ownedBy(uid, gid int64) func(header) {
	return func(h header) {
		for f, n := range map[field]int64{fieldUID: uid, fieldGID: gid} {
			if !grown(8).put(h.get(f), n) {
				putBinary(h.get(f), n)
			}
		}
	}
}

// TestStreamIDs is where IDs stand and where they go, there and back.
func TestStreamIDs(t *testing.T) {
	bsd := func(h header) { // six digits, a space and a NUL, which grow over the space
		for _, f := range []field{fieldMode, fieldUID, fieldGID} {
			copy(h.get(f), "000000 \x00")
		}
	}
	for _, tc := range []struct {
		name  string
		parts [][]byte
		// fields is what the fields of UID and GID of the last header hold on the host.
		fields [2]string
		uid    uint32
		gid    uint32
		grown  int // bytes that are more on the host
	}{
		{"v7", [][]byte{raw("", ownedBy(0, 1))}, [2]string{"0303240\x00", "0303241\x00"}, 100000, 100001, 0},
		{"ustar", [][]byte{raw(magicPOSIX, ownedBy(65535, 0))}, [2]string{"0503237\x00", "0303240\x00"}, 165535, 100000, 0},
		{"GNU, in base-256", [][]byte{raw(magicGNU, ownedBy(65536, 0))}, [2]string{"\x80\x00\x00\x00\xb2\xd0\x5e\x00", "0303240\x00"}, 3000000000, 100000, 0},
		{"GNU, from base-256", [][]byte{raw(magicGNU, ownedBy(4000000001, 4000000002))}, [2]string{"0000765\x00", "0000766\x00"}, 501, 502, 0},
		{"ustar, by a pax header", [][]byte{raw(magicPOSIX, ownedBy(65536, 0))}, [2]string{"0200000\x00", "0303240\x00"}, 3000000000, 100000, 1024},
		{"v7, by a pax header", [][]byte{raw("", ownedBy(0, 65537))}, [2]string{"0303240\x00", "0200001\x00"}, 100000, 3000000001, 1024},
		{"both, by a pax header", [][]byte{raw(magicPOSIX, ownedBy(65536, 65537))}, [2]string{"0200000\x00", "0200001\x00"}, 3000000000, 3000000001, 1024},
		{"by a pax header that is there", [][]byte{pax(typePax, keyMTime, "1.5"), raw(magicPOSIX, ownedBy(65536, 65537))}, [2]string{"0200000\x00", "0200001\x00"}, 3000000000, 3000000001, 0},
		{"by a pax header that grows", [][]byte{pax(typePax, keyComment, strings.Repeat("c", 490)), raw(magicPOSIX, ownedBy(65536, 0))}, [2]string{"0200000\x00", "0303240\x00"}, 3000000000, 100000, 512},
		{"behind GNU's long name", [][]byte{side(typeName, strings.Repeat("n", 600)), raw(magicPOSIX, ownedBy(65536, 0))}, [2]string{"0200000\x00", "0303240\x00"}, 3000000000, 100000, 1024},
		{"records rule", [][]byte{pax(typePax, keyUID, "5", keyGID, "65536"), raw(magicPOSIX, ownedBy(9, 9))}, [2]string{"0000011\x00", "0000011\x00"}, 100005, 3000000000, 0},
		{"records and the same in the field", [][]byte{pax(typePax, keyUID, "5", keyGID, "65536"), raw(magicPOSIX, ownedBy(5, 65536))}, [2]string{"0303245\x00", "0200000\x00"}, 100005, 3000000000, 0},
		{"a record, and base-256 in the field", [][]byte{pax(typePax, keyUID, "4000000000"), raw(magicPOSIX, ownedBy(4000000000, 0))}, [2]string{"\x80\x00\x00\x00\x00\x00\x01\xf4", "0303240\x00"}, 500, 100000, 0},
		{"two records of one ID", [][]byte{pax(typePax, keyUID, "5", keyUID, "6"), raw(magicPOSIX, ownedBy(6, 0))}, [2]string{"0303246\x00", "0303240\x00"}, 100006, 100000, 0},
		{"a global header", [][]byte{pax(typeGlobal, keyUID, "7", keyComment, "c"), raw(magicPOSIX, ownedBy(1, 2))}, [2]string{"0303241\x00", "0303242\x00"}, 100007, 100002, 0},
		{"a global header, and what doesn't fit", [][]byte{pax(typeGlobal, keyUID, "65536"), raw(magicPOSIX, ownedBy(65536, 0))}, [2]string{"0200000\x00", "0303240\x00"}, 3000000000, 100000, 1024},
		{"six digits", [][]byte{raw(magicPOSIX, bsd)}, [2]string{"303240 \x00", "303240 \x00"}, 100000, 100000, 0},
		{"eight digits", [][]byte{raw(magicPOSIX, with(fieldUID, "00200000"))}, [2]string{"00200000", "0303240\x00"}, 3000000000, 100000, 1024},
		{"digits behind spaces", [][]byte{raw("", with(fieldUID, "     0 \x00"), with(fieldGID, "     1 \x00"), with(fieldMode, "   644 \x00"))}, [2]string{"303240 \x00", "303241 \x00"}, 100000, 100001, 0},
	} {
		data := archive(tc.parts...)
		host := thereAndBack(t, wide, data)
		if len(host) != len(data)+tc.grown {
			t.Errorf("%s: %d bytes more: expected %d", tc.name, len(host)-len(data), tc.grown)
		}
		h := header(host[len(host)-3*blockSize:][:blockSize])
		if got := [2]string{string(h.get(fieldUID)), string(h.get(fieldGID))}; got != tc.fields {
			t.Errorf("%s: the fields are %q: expected %q", tc.name, got, tc.fields)
		}
		if e := only(t, host); e.UID != tc.uid || e.GID != tc.gid {
			t.Errorf("%s: %d:%d: expected %d:%d", tc.name, e.UID, e.GID, tc.uid, tc.gid)
		}
		if strings.Contains(string(host), markerText) != (tc.grown > 0 || strings.Contains(tc.name, "that is there")) {
			t.Errorf("%s: the comment about added records is there where it shouldn't be, or the other way round", tc.name)
		}
	}
}

// TestStreamGrownDigits has seven digits where a writer ended six with a space: they take
// its place, and give it back.
func TestStreamGrownDigits(t *testing.T) {
	m := idmap.Map{{Inner: 0, Outer: 0o1000000, Count: 10}}
	host := thereAndBack(t, m, archive(raw(magicPOSIX, with(fieldMode, "000644 \x00"), with(fieldUID, "000000 \x00"), with(fieldGID, "000001 \x00"))))
	if got := string(host[fieldUID.from:fieldGID.to]); got != "1000000\x001000001\x00" {
		t.Errorf("%q", got)
	}
}

// TestStreamLeaves is what has IDs to no reader, and comes through byte for byte.
func TestStreamLeaves(t *testing.T) {
	s := Shift{Map: idmap.Map{{Inner: 5, Outer: 6, Count: 1}}}
	for name, parts := range map[string][][]byte{
		"a volume's label": {raw(magicGNU, typed(TypeVolume))},
		"nothing":          {},
	} {
		data := append(archive(parts...), make([]byte, 8192)...)
		if got, err := stream(s, data); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Owners of headers about headers stay, and so does all of what isn't an ID.
	data := archive(pax(typeGlobal, keyComment, "uid=5"), pax(typePax, keySELinux, "l", "SCHILY.xattr.user.x", "5", "GNU.sparse.size", "1", "GNU.sparse.map", "0,1"),
		raw(magicPOSIX, ownedBy(5, 5), sized(1), with(fieldUser, "five")), blocks("5"))
	got, err := stream(s, data)
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	for i := range data {
		if got[i] != data[i] {
			differ++
		}
	}
	// Two digits, and the last of the sum.
	if len(got) != len(data) || differ != 3 {
		t.Errorf("%d bytes differ: expected 3", differ)
	}
}

func TestStreamDropNames(t *testing.T) {
	s := Shift{Map: wide, DropNames: true}
	named := []func(header){with(fieldUser, "u"), with(fieldGroup, strings.Repeat("g", 32))}
	for name, parts := range map[string][][]byte{
		"ustar":           {raw(magicPOSIX, named...)},
		"GNU":             {raw(magicGNU, named...)},
		"records alone":   {pax(typePax, keyUser, "u", keyGroup, "g"), raw(magicPOSIX)},
		"records as well": {pax(typePax, keyUser, "u", keyMTime, "1.5"), raw(magicPOSIX, named...)},
		"global ones":     {pax(typeGlobal, keyUser, "u"), raw(magicPOSIX)},
	} {
		got, err := stream(s, archive(parts...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e := only(t, got); e.User != "" || e.Group != "" || e.UID != 100000 {
			t.Errorf("%s: %+v", name, e)
		}
		if name == "records alone" && len(got) != 3*blockSize {
			t.Errorf("%s: %d bytes: expected no pax header without records", name, len(got))
		}
	}
	// v7 has something else there, or nothing.
	data := archive(raw("", named...))
	if got, err := stream(s, data); err != nil || !bytes.Equal(got[fieldMagic.to:blockSize], data[fieldMagic.to:blockSize]) {
		t.Errorf("v7: %v", err)
	}
}

// TestStreamXattrs is ACLs and capabilities in each of their forms.
func TestStreamXattrs(t *testing.T) {
	a, _ := parseACLText(someACL)
	caps := "\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14)
	data := archive(
		pax(typeGlobal, "SCHILY.xattr.system.posix_acl_default", string(a.binary())),
		pax(typePax, keyAccess, "user::rw-\nuser:lisa:r--:7\n", keyDefault, "group:9:r--", "SCHILY.xattr.security.capability", caps, "SCHILY.xattr.system.posix_acl_access", string(a.binary()),
			"LIBARCHIVE.xattr.security%2Ecapability", "AQAAAgAgAAAAAAAAAAAAAAAAAAA", "LIBARCHIVE.xattr.user.x", "AQ"),
		raw(magicPOSIX))
	host := thereAndBack(t, wide, data)
	shifted, _ := parseACLText(strings.NewReplacer(":7:", ":100007:", ":9:", ":100009:").Replace(someACL))
	caps3 := "\x01\x00\x00\x03\x00\x20" + strings.Repeat("\x00", 14) + "\xa0\x86\x01\x00"
	for _, want := range []string{
		"SCHILY.xattr.system.posix_acl_default=" + string(shifted.binary()), "SCHILY.xattr.system.posix_acl_access=" + string(shifted.binary()),
		keyAccess + "=user::rw-\nuser:lisa:r--:100007\n\n", keyDefault + "=group:100009:r--\n", "SCHILY.xattr.security.capability=" + caps3,
		"LIBARCHIVE.xattr.security%2Ecapability=AQAAAwAgAAAAAAAAAAAAAAAAAACghgEA\n",
		"LIBARCHIVE.xattr.user.x=AQ\n",
	} {
		if !strings.Contains(string(host), want) {
			t.Errorf("%q isn't there", want)
		}
	}
	// The encoding has '=' at its end where it had one, and where it needs one.
	data = archive(pax(typePax, "LIBARCHIVE.xattr.security.capability", "AQAAAgAgAAAAAAAAAAAAAAAAAAA="), raw(magicPOSIX))
	same := Shift{Map: idmap.Map{{Inner: 0, Outer: 0, Count: 10}}}
	if got, err := stream(same, data); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the same IDs: %v, %q", err, got)
	}
	for want, record := range map[string][2]string{
		`"a", byte 0: security.capability of 1 bytes`:                                         {"SCHILY.xattr.security.capability", "\x01"},
		`"a", byte 0: extended attribute system.posix_acl_access: an ACL of 1 bytes`:          {"SCHILY.xattr.system.posix_acl_access", "\x02"},
		`"a", byte 0: pax record SCHILY.acl.default: GID of an ACL 500000000: not in the map`: {keyDefault, "group:500000000:rwx"},
	} {
		_, err := stream(Shift{Map: wide}, archive(pax(typePax, record[0], record[1]), raw(magicPOSIX)))
		wantError(t, err, want)
	}
}

// TestStreamBad is what only the filter refuses.
func TestStreamBad(t *testing.T) {
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"an ID of nobody", archive(raw(magicPOSIX), raw(magicGNU, ownedBy(0, 50000000), with(fieldName, "b"))), `"b", byte 512: GID 50000000: not in the map`},
		{"one in a record", archive(pax(typePax, keyUID, "50000000"), raw(magicPOSIX)), `"a", byte 0: UID 50000000: not in the map`},
		{"one in a record that doesn't count", archive(pax(typePax, keyUID, "50000000", keyUID, "0"), raw(magicPOSIX)), `"a", byte 0: UID 50000000: not in the map`},
		{"one in a global record", archive(pax(typeGlobal, keyGID, "50000000"), raw(magicPOSIX)), "byte 0: GID 50000000: not in the map"},
		{"one in a field, and a global record", archive(pax(typeGlobal, keyUID, "0"), raw(magicGNU, ownedBy(50000000, 0))), "UID 50000000: not in the map"},
		{"a field that can't agree with a global record", archive(pax(typeGlobal, keyUID, "0"), raw(magicPOSIX, ownedBy(65536, 0))), "expected the same in both"},
		{"no field", archive(pax(typePax, keyUID, "0"), raw(magicPOSIX, with(fieldUID, "?"))), "UID in the header"},
		{"something behind the end", append(archive(raw(magicPOSIX)), "\x00\x00x"...), `byte 1538 behind "a": data behind the archive's end`},
		{"another archive behind the end", slices.Concat(archive(raw(magicPOSIX)), archive(raw(magicPOSIX))), "byte 1536"},
		{"an entry behind one block of zeros", slices.Concat(raw(magicPOSIX), make([]byte, blockSize), raw(magicPOSIX)), "byte 1024"},
		{"a map of GNU's without its data", slices.Concat(raw(magicGNU, typed(typeSparse), with(fieldGNUMore, "\x01")), make([]byte, 100)), `byte 612: the archive ends in the data of "a"`},
	} {
		_, err := stream(Shift{Map: wide}, tc.data)
		wantError(t, err, tc.want)
		if strings.Contains(tc.want, "not in the map") && !errors.Is(err, ErrUnmapped) {
			t.Errorf("%s: doesn't wrap ErrUnmapped", tc.name)
		}
	}
	wantError(t, (&Shift{}).Stream(io.Discard, bytes.NewReader(archive())), "impossible map")
	wantError(t, (&Shift{Map: idmap.Map{{Inner: 0, Outer: 1, Count: 5}, {Inner: 4, Outer: 9, Count: 1}}}).Stream(io.Discard, bytes.NewReader(archive())), "impossible map")
	// A forged comment about records takes nothing away that counts, and isn't kept.
	data := archive(pax(typePax, keyComment, markerText+"uid,gid", keyUID, "65536"), raw(magicPOSIX, ownedBy(1, 2)))
	host, err := stream(Shift{Map: wide}, data)
	if err != nil {
		t.Fatal(err)
	}
	if e := only(t, host); e.UID != 3000000000 || e.GID != 100002 {
		t.Errorf("a forged comment: %+v", e)
	}
	// With a global record, the local one has to stay.
	data = archive(pax(typeGlobal, keyUID, "9"), pax(typePax, keyComment, markerText+"uid", keyUID, "5"), raw(magicPOSIX, ownedBy(1, 2)))
	if host, err = stream(Shift{Map: wide}, data); err != nil {
		t.Fatal(err)
	}
	if e := only(t, host); e.UID != 100005 {
		t.Errorf("a forged comment and a global record: %+v", e)
	}
}

// TestTruncated cuts an archive with all kinds of headers at each block, and once in
// each. Neither the reader nor the filter may take it for whole.
func TestTruncated(t *testing.T) {
	whole := write(t, entries()[:10])
	whole = slices.Concat(whole[:len(whole)-2*blockSize], archive(side(typeName, strings.Repeat("n", 600)), raw(magicGNU, typed(typeSparse), sized(1), with(fieldGNUMore, "\x01")),
		make([]byte, blockSize), blocks("x"), pax(typeGlobal, keyUID, "0"), raw(magicPOSIX, sized(1500)), blocks(strings.Repeat("y", 1500))))
	s := Shift{Map: idmap.Map{{Inner: 0, Outer: 0, Count: idmap.Invalid}}}
	if got, err := stream(s, whole); err != nil || !bytes.Equal(got, whole) {
		t.Fatalf("%v, or other bytes", err)
	}
	for n := 0; n < len(whole)-2*blockSize; n += 256 {
		_, _, err := readAll(whole[:n])
		if err == nil {
			t.Errorf("the reader takes the first %d of %d bytes for an archive", n, len(whole))
		}
		_, err = stream(s, whole[:n])
		if want := fmt.Sprintf("byte %d: the archive ends", n); n > 0 {
			wantError(t, err, want)
		} else {
			wantError(t, err, "no byte at all")
		}
	}
}

// endless is an archive whose header says that it is large, and whose data comes as long
// as somebody reads.
type endless struct {
	head []byte
	left int64
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.head) > 0 {
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	n := min(int64(len(p)), e.left)
	clear(p[:n])
	if e.left -= n; n == 0 {
		return 0, io.EOF
	}
	return int(n), nil
}

// TestLargeCostsNothing has a file of 10 GiB by its map, and one of 8 GiB by its data,
// which goes through a buffer that doesn't grow.
func TestLargeCostsNothing(t *testing.T) {
	sparse := write(t, []*Entry{{Name: "hole", Type: TypeReg, Size: 10 << 30, Data: []Segment{}}})
	if len(sparse) > 10*blockSize {
		t.Errorf("a hole has %d bytes", len(sparse))
	}
	if e := only(t, thereAndBack(t, wide, sparse)); e.Size != 10<<30 || len(e.Data) != 0 || e.Data == nil {
		t.Errorf("%+v", e)
	}
	if testing.Short() {
		return
	}
	size := int64(1<<33 - 1)
	before := testing.AllocsPerRun(1, func() {
		src := &endless{raw(magicPOSIX, with(fieldSize, "77777777777\x00")), padded(size) + 2*blockSize}
		if err := (&Shift{Map: wide}).Stream(io.Discard, src); err != nil {
			t.Error(err)
		}
	})
	if before > 100 {
		t.Errorf("%.0f allocations: expected a few", before)
	}
}

func TestBlob(t *testing.T) {
	body := make([]byte, 1<<20)
	for i := range body { // which doesn't shrink to nothing
		body[i] = byte(i * i >> 7)
	}
	data := archive(raw(magicPOSIX, sized(len(body))), body)
	want, err := stream(Shift{Map: wide}, data)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []Compression{Plain, Gzip, Zstd} {
		var out bytes.Buffer
		got, err := (&Shift{Map: wide}).Blob(&out, bytes.NewReader(compress(t, kind, data)))
		if err != nil || got != kind {
			t.Errorf("%s: %s, %v", kind, got, err)
			continue
		}
		if back := decompress(t, out.Bytes(), kind); !bytes.Equal(back, want) {
			t.Errorf("%s: %d other bytes", kind, len(back))
		}
		// A failure leaves no stream that looks whole.
		out.Reset()
		if _, err := (&Shift{Map: wide}).Blob(&out, bytes.NewReader(compress(t, kind, data[:1<<20]))); err == nil {
			t.Errorf("%s: half an archive is taken", kind)
		}
		if r, _, err := Decompress(&out); kind != Plain && err == nil {
			if _, err := io.Copy(io.Discard, r); err == nil {
				t.Errorf("%s: what is left of a failure looks whole", kind)
			}
		}
	}
}
