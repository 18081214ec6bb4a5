// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestReadEntry has what headers say in ways that real archives of today's tools hardly
// have; for those see TestTools.
func TestReadEntry(t *testing.T) {
	long := strings.Repeat("d/", 80) + "f"
	plain := Entry{Name: "a", Type: TypeReg, Mode: 0o644, ModTime: time.Unix(0, 0).UTC()}
	for _, tc := range []struct {
		name   string
		parts  [][]byte
		change func(e *Entry)
	}{
		{"v7", [][]byte{raw("", typed(typeOld), with(fieldUser, "u"))}, func(*Entry) {}},
		{"v7, a directory by its slash", [][]byte{raw("", typed(typeOld), with(fieldName, "a/"))}, func(e *Entry) { e.Name, e.Type = "a/", TypeDir }},
		{"a prefix", [][]byte{raw(magicPOSIX, with(fieldPrefix, "p/q"))}, func(e *Entry) { e.Name = "p/q/a" }},
		{"a full prefix", [][]byte{raw(magicPOSIX, with(fieldPrefix, strings.Repeat("p", 155)), with(fieldName, strings.Repeat("n", 100)))},
			func(e *Entry) { e.Name = strings.Repeat("p", 155) + "/" + strings.Repeat("n", 100) }},
		{"star's prefix", [][]byte{raw(magicPOSIX, with(fieldPrefix, strings.Repeat("p", 131)+"00000000001"), with(fieldStarMagic, "tar\x00"))},
			func(e *Entry) { e.Name = strings.Repeat("p", 131) + "/a" }},
		{"GNU has no prefix", [][]byte{raw(magicGNU, with(field{345, 369}, "00000000005\x00"+"00000000006\x00"))},
			func(e *Entry) { e.AccessTime, e.ChangeTime = time.Unix(5, 0).UTC(), time.Unix(6, 0).UTC() }},
		{"but old Go had", [][]byte{raw(magicGNU, with(fieldPrefix, "usr/share"))}, func(e *Entry) { e.Name = "usr/share/a" }},
		{"the format's bits of a mode", [][]byte{raw(magicPOSIX, with(fieldMode, "0104755\x00"))}, func(e *Entry) { e.Mode = 0o4755 }},
		{"a time before 1970", [][]byte{raw(magicGNU, with(fieldMTime, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"))},
			func(e *Entry) { e.ModTime = time.Unix(-2, 0).UTC() }},
		{"GNU's long names", [][]byte{side(typeTarget, long+"\x00"), side(typeName, long+"2\x00junk"), raw(magicGNU, typed(TypeSymlink))},
			func(e *Entry) { e.Type, e.Name, e.Link = TypeSymlink, long+"2", long }},
		{"the same twice", [][]byte{side(typeName, "b\x00"), pax(typePax, keyPath, "b"), raw(magicGNU)}, func(e *Entry) { e.Name = "b" }},
		{"pax", [][]byte{pax(typePax, keyPath, long, keyLinkPath, "b", keyUID, "4294967294", keyGID, "7", keyUser, "ü", keyGroup, "g",
			keyMTime, "1.5", keyATime, "-1.5", keyCTime, "2", "VENDOR.key", "value", keyComment, "hi"), raw(magicPOSIX, typed(TypeLink), with(fieldUser, "no"))},
			func(e *Entry) {
				*e = Entry{Name: long, Type: TypeLink, Link: "b", Mode: 0o644, UID: 4294967294, GID: 7, User: "ü", Group: "g",
					ModTime: time.Unix(1, 5e8).UTC(), AccessTime: time.Unix(-2, 5e8).UTC(), ChangeTime: time.Unix(2, 0).UTC(),
					Records: []Record{{"VENDOR.key", "value"}, {keyComment, "hi"}}}
			}},
		{"the last of two records", [][]byte{pax(typePax, keyUID, "5", keyUID, "6"), raw(magicPOSIX)}, func(e *Entry) { e.UID = 6 }},
		{"a global header", [][]byte{pax(typeGlobal, keyUID, "5", keyComment, "x"), raw(magicPOSIX)},
			func(e *Entry) { e.UID, e.Records = 5, []Record{{keyComment, "x"}} }},
		{"one over another", [][]byte{pax(typeGlobal, keyUID, "5", keyGID, "6"), pax(typeGlobal, keyUID, "7"), pax(typePax, keyGID, "8"), raw(magicPOSIX)},
			func(e *Entry) { e.UID, e.GID = 7, 8 }},
		{"one taken back", [][]byte{pax(typeGlobal, keyUser, "u"), pax(typeGlobal, keyUser, ""), raw(magicPOSIX)}, func(*Entry) {}},
		{"a global one of the end", [][]byte{raw(magicPOSIX), pax(typeGlobal, keyUID, "5")}, func(*Entry) {}},
		{"devices", [][]byte{pax(typePax, keyMinor, "4294967295"), raw(magicPOSIX, typed(TypeChar), with(fieldMajor, "0000005\x00"))},
			func(e *Entry) { e.Type, e.Major, e.Minor = TypeChar, 5, 4294967295 }},
		{"a device's empty numbers", [][]byte{raw(magicPOSIX, typed(TypeBlock))}, func(e *Entry) { e.Type = TypeBlock }},
		{"attributes", [][]byte{pax(typePax, "SCHILY.xattr.user.a", "\x00\n=", "LIBARCHIVE.xattr.user%2Ea", "AAo9", "SCHILY.xattr.user.b", ""), raw(magicPOSIX)},
			func(e *Entry) { e.Xattrs = []Xattr{{"user.a", []byte("\x00\n=")}, {"user.b", nil}} }},
		{"attributes, encoded", [][]byte{pax(typePax, "SCHILY.xattr.user.a%3Db%25", "v", "LIBARCHIVE.xattr.user.b", "eHg=", "LIBARCHIVE.xattr.user.c%20", ""), raw(magicPOSIX)},
			func(e *Entry) {
				e.Xattrs = []Xattr{{"user.a=b%", []byte("v")}, {"user.b", []byte("xx")}, {"user.c ", nil}}
			}},
		{"labels", [][]byte{pax(typePax, keySELinux, "u:r:t", "SCHILY.xattr.security.selinux", "u:r:t\x00"), raw(magicPOSIX)},
			func(e *Entry) { e.Xattrs = []Xattr{{xattrSELinux, []byte("u:r:t")}} }},
		{"an ACL that says what the mode says", [][]byte{pax(typePax, keyAccess, "user::rw-,group::r--,other::r--", keyDefault, ""), raw(magicPOSIX)}, func(*Entry) {}},
		{"the filter's own comment", [][]byte{pax(typePax, keyUID, "9", keyComment, markerText+"uid"), raw(magicPOSIX)}, func(e *Entry) { e.UID = 9 }},
		{"a volume's label", [][]byte{raw(magicGNU, typed(TypeVolume), with(fieldUID, ""), with(fieldName, ""))}, func(e *Entry) { e.Name, e.Type = "", TypeVolume }},
		{"an incremental dump's directory", [][]byte{raw(magicGNU, typed(TypeDumpDir), sized(3)), blocks("Ya\x00")}, func(e *Entry) { e.Type, e.Size = TypeDumpDir, 3 }},
	} {
		want := plain
		tc.change(&want)
		entries, _, err := readAll(archive(tc.parts...))
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: %d entries, %v", tc.name, len(entries), err)
			continue
		}
		got := *entries[0]
		want.offset = got.offset
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s:\n%+v, expected\n%+v", tc.name, got, want)
		}
	}
}

// TestSignedSum reads a header with the sum of signed bytes, as some old writers have.
func TestSignedSum(t *testing.T) {
	h := header(raw("", with(fieldName, "\xe4\xf6")))
	h.setSum(true)
	if e := only(t, archive(h)); e.Name != "\xe4\xf6" {
		t.Errorf("%+v", e)
	}
	host := thereAndBack(t, wide, archive(h))
	if signed, err := header(host[:blockSize]).checkSum(); err != nil || !signed {
		t.Errorf("shifted: the sum is signed: %t, %v", signed, err)
	}
}

// TestReadSparse has maps of sparse files in each format. The stored data is "abcdef".
func TestReadSparse(t *testing.T) {
	oldMap := func(numbers ...int64) string {
		b := make([]byte, 12*len(numbers))
		for i, n := range numbers {
			grown(12).put(b[12*i:], n)
		}
		return string(b)
	}
	more := with(fieldGNUMore, "\x01")
	real := func(n int64) func(header) { return func(h header) { grown(12).put(h.get(fieldGNUReal), n) } }
	old := func(change ...func(header)) []byte {
		return raw(magicGNU, append([]func(header){typed(typeSparse), sized(6)}, change...)...)
	}
	block := func(text string, more byte) []byte {
		b := make([]byte, blockSize)
		copy(b, text)
		b[504] = more
		return b
	}
	v1 := func(text string) []byte {
		return slices.Concat(raw(magicPOSIX, sized(6+int(padded(int64(len(text)))))), blocks(text), blocks("abcdef"))
	}
	v1pax := pax(typePax, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "real", "GNU.sparse.realsize", "100")
	body := blocks("abcdef")
	three := []Segment{{0, 1}, {10, 2}, {20, 3}}
	for _, tc := range []struct {
		name  string
		parts [][]byte
		want  []Segment
		err   string
	}{
		{name: "old", parts: [][]byte{old(real(100), with(fieldGNUSparse, oldMap(0, 1, 10, 2, 20, 3, 100, 0))), body}, want: three},
		{name: "old, more blocks", parts: [][]byte{old(real(100), more, with(fieldGNUSparse, oldMap(0, 1))), block(oldMap(10, 2), 1), block(oldMap(20, 3), 0), body}, want: three},
		{name: "old, nothing but a hole", parts: [][]byte{old(real(100), sized(0), with(fieldGNUSparse, oldMap(100, 0)))}, want: []Segment{}},
		{name: "old, without a map", parts: [][]byte{old(real(100), sized(0))}, want: []Segment{}},
		{name: "old, data beyond the size", parts: [][]byte{old(real(5), with(fieldGNUSparse, oldMap(0, 6))), body}, err: "expected it within the file's 5 bytes"},
		{name: "old, other data", parts: [][]byte{old(real(100), with(fieldGNUSparse, oldMap(0, 5))), body}, err: "5 bytes of data: expected the 6"},
		{name: "old, overlap", parts: [][]byte{old(real(100), with(fieldGNUSparse, oldMap(0, 3, 2, 3))), body}, err: "expected rising segments"},
		{name: "old, not a number", parts: [][]byte{old(real(100), with(fieldGNUSparse, "x")), body}, err: "sparse map:"},
		{name: "old, in a POSIX header", parts: [][]byte{raw(magicPOSIX, typed(typeSparse))}, err: "expected GNU's"},
		{name: "old, cut", parts: [][]byte{old(real(100), more)}, err: "sparse map"},
		{name: "0.0", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.numblocks", "3", "GNU.sparse.offset", "0", "GNU.sparse.numbytes", "1",
			"GNU.sparse.offset", "10", "GNU.sparse.numbytes", "2", "GNU.sparse.offset", "20", "GNU.sparse.numbytes", "3"), raw(magicPOSIX, sized(6)), body}, want: three},
		{name: "0.0, a hole", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.numblocks", "0"), raw(magicPOSIX)}, want: []Segment{}},
		{name: "0.0, two offsets", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.offset", "0", "GNU.sparse.offset", "0"), raw(magicPOSIX)}, err: "two in a row"},
		{name: "0.0, no offset", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.numbytes", "0"), raw(magicPOSIX)}, err: "expected a GNU.sparse.offset before"},
		{name: "0.0, half", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.offset", "0"), raw(magicPOSIX)}, err: "has no GNU.sparse.numbytes"},
		{name: "0.1", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.numblocks", "3", "GNU.sparse.name", "real", "GNU.sparse.map", "0,1,10,2,20,3"), raw(magicPOSIX, sized(6)), body}, want: three},
		{name: "0.1, odd", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.map", "0,1,10"), raw(magicPOSIX)}, err: "3 numbers: expected pairs"},
		{name: "0.1, no numbers", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.map", "0,-1"), raw(magicPOSIX)}, err: `"0,-1": expected two decimal numbers`},
		{name: "0.1, huge", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.map", "9223372036854775807,1"), raw(magicPOSIX)}, err: "expected numbers from 0 to 2^62"},
		{name: "0.1, no size", parts: [][]byte{pax(typePax, "GNU.sparse.map", "0,6"), raw(magicPOSIX, sized(6)), body}, err: "without its size"},
		{name: "1.0", parts: [][]byte{v1pax, v1("3\n0\n1\n10\n2\n20\n3\n")}, want: three},
		{name: "1.0, over blocks", parts: [][]byte{v1pax, v1("003\n" + strings.Repeat("0", 510) + "\n1\n10\n2\n20\n3\n")}, want: three},
		{name: "1.0, with an empty last", parts: [][]byte{v1pax, v1("4\n0\n1\n10\n2\n20\n3\n100\n0\n")}, want: three},
		{name: "1.0, cut", parts: [][]byte{v1pax, raw(magicPOSIX, sized(512)), blocks("3\n0\n1\n10\n2\n20\n")}, err: "ends with the data"},
		{name: "1.0, no data", parts: [][]byte{v1pax, raw(magicPOSIX)}, err: "ends with the data"},
		{name: "1.0, no number", parts: [][]byte{v1pax, v1("x\n")}, err: `"x": expected a line with a decimal number`},
		{name: "1.0, too many", parts: [][]byte{v1pax, v1("65537\n")}, err: "65537 segments: expected at most 65536"},
		{name: "1.0, other data", parts: [][]byte{v1pax, v1("1\n0\n1\n")}, err: "1 bytes of data: expected the 6"},
		{name: "2.0", parts: [][]byte{pax(typePax, "GNU.sparse.major", "2", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "1"), raw(magicPOSIX)}, err: `of format "2"."0"`},
		{name: "a strange record", parts: [][]byte{pax(typePax, "GNU.sparse.holes", "2"), raw(magicPOSIX)}, err: "GNU.sparse.holes: unknown"},
		{name: "two maps", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.map", "0,6"), old(real(100)), body}, err: "two maps"},
		{name: "a directory", parts: [][]byte{pax(typePax, "GNU.sparse.size", "100", "GNU.sparse.map", ""), raw(magicPOSIX, typed(TypeDir))}, err: "expected a regular file"},
	} {
		entries, contents, err := readAll(archive(tc.parts...))
		if tc.err != "" {
			wantError(t, err, tc.err)
			continue
		}
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: %d entries, %v", tc.name, len(entries), err)
			continue
		}
		e := entries[0]
		if e.Type != TypeReg || e.Size != 100 || !reflect.DeepEqual(e.Data, tc.want) || len(tc.want) > 0 && contents[0] != "abcdef" || len(e.Records) > 0 {
			t.Errorf("%s: %+v with %q", tc.name, e, contents)
		}
		if strings.HasPrefix(tc.name, "1.0") && e.Name != "real" {
			t.Errorf("%s: the name is %q", tc.name, e.Name)
		}
		thereAndBack(t, wide, archive(tc.parts...))
	}
}

// TestReadBad is archives that are refused, with what is said about them. The filter has
// to refuse those too that have to do with IDs, or with where the next header is.
func TestReadBad(t *testing.T) {
	for _, tc := range []struct {
		name   string
		data   []byte
		want   string
		passes bool // the filter leaves it as it is
	}{
		{name: "nothing", data: nil, want: "no byte at all"},
		{name: "no archive", data: []byte("hello\n"), want: "byte 6: the archive ends in a header: it is truncated"},
		{name: "no archive, longer", data: bytes.Repeat([]byte("hello\n"), 100), want: "byte 0: the header's checksum is"},
		{name: "no end", data: raw(magicPOSIX), want: `byte 512: the archive ends behind "a" without blocks of zeros`},
		{name: "half a header", data: slices.Concat(raw(magicPOSIX), raw(magicPOSIX)[:100]), want: `byte 612: the archive ends in a header behind "a"`},
		{name: "half of data", data: slices.Concat(raw(magicPOSIX, sized(600)), make([]byte, 600)), want: `byte 1112: the archive ends in the data of "a"`},
		{name: "a wrong sum", data: archive(raw(magicPOSIX), func() []byte { h := raw(magicPOSIX); h[0]++; return h }()),
			want: `byte 512 behind "a": the header's checksum is "006076": expected octal 6077`},
		{name: "no sum", data: archive(func() []byte { h := header(raw(magicPOSIX)); clear(h.get(fieldSum)); return h }()), want: `byte 0: the header's checksum is ""`},
		{name: "a pax header at the end", data: archive(pax(typePax, keyUID, "1")), want: "byte 1024: a block of zeros, the archive's end"},
		{name: "two pax headers", data: archive(pax(typePax, keyUID, "1"), pax(typePax, keyUID, "2"), raw(magicPOSIX)), want: "byte 1024: a second pax header"},
		{name: "two long names", data: archive(side(typeName, "a"), side(typeName, "b"), raw(magicGNU)), want: "a second header of a long name"},
		{name: "a global header between", data: archive(pax(typePax, keyUID, "1"), pax(typeGlobal, keyGID, "1"), raw(magicPOSIX)), want: "a global pax header between"},
		{name: "a global size", data: archive(pax(typeGlobal, keySize, "1"), raw(magicPOSIX)), want: "byte 0: pax record size in a global header"},
		{name: "a global name", data: archive(pax(typeGlobal, keyPath, "b"), raw(magicPOSIX)), want: "pax record path in a global header"},
		{name: "a global map", data: archive(pax(typeGlobal, "GNU.sparse.map", ""), raw(magicPOSIX)), want: "pax record GNU.sparse.map in a global header"},
		{name: "a huge pax header", data: archive(raw(magicPOSIX, typed(typePax), sized(1<<20+1))), want: "byte 0: pax header: 1048577 bytes: expected at most 1048576"},
		{name: "a huge global one", data: archive(raw(magicPOSIX, typed(typeGlobal), sized(1<<33-1))), want: "global pax header: 8589934591 bytes"},
		{name: "a huge long name", data: archive(raw(magicGNU, typed(typeName), sized(1<<20+1))), want: "header of a long name: 1048577 bytes"},
		{name: "a huge long target", data: archive(raw(magicGNU, typed(typeTarget), sized(1<<20+1))), want: "header of a long link target: 1048577 bytes"},
		{name: "a pax header of negative size", data: archive(raw(magicPOSIX, typed(typePax), with(fieldSize, strings.Repeat("\xff", 12)))), want: "pax header: size in the header: a negative number"},
		{name: "a bad record", data: archive(side(typePax, "7 a=b\n"), raw(magicPOSIX)), want: `"a", byte 0: pax record "7 a=b\n": its length is "7"`},
		{name: "another type", data: archive(raw(magicPOSIX, typed('X'))), want: `byte 0: "a" is an entry of type 'X'`},
		{name: "names that differ", data: archive(side(typeName, "b"), pax(typePax, keyPath, "c"), raw(magicGNU)), want: `header of a long name: "b", and a pax record says otherwise`},
		{name: "targets that differ", data: archive(side(typeTarget, "b"), pax(typePax, keyLinkPath, "c"), raw(magicGNU, typed(TypeSymlink))), want: "header of a long link target", passes: true},
		{name: "a NUL in a name", data: archive(pax(typePax, keyPath, "a\x00b"), raw(magicPOSIX)), want: "has a NUL"},
		{name: "a negative UID", data: archive(raw(magicGNU, with(fieldUID, strings.Repeat("\xff", 8)))), want: `"a", byte 0: UID in the header: a negative number`},
		{name: "a negative GID record", data: archive(pax(typePax, keyGID, "-1"), raw(magicGNU)), want: `pax record gid: "-1": a negative number`},
		{name: "a UID of 33 bits", data: archive(raw(magicGNU, with(fieldUID, "\x80\x00\x00\x01\x00\x00\x00\x00"))), want: "UID 4294967296: expected an ID from 0 to 4294967294"},
		{name: "nobody at all", data: archive(raw(magicGNU, with(fieldGID, "\x80\x00\x00\x00\xff\xff\xff\xff"))), want: "GID 4294967295: expected"},
		{name: "no number", data: archive(raw(magicPOSIX, with(fieldUID, "root"))), want: `UID in the header: "root`},
		{name: "an empty record", data: archive(pax(typePax, keyUID, ""), raw(magicPOSIX)), want: "pax record uid: is empty"},
		{name: "a negative size", data: archive(raw(magicGNU, with(fieldSize, strings.Repeat("\xff", 12)))), want: "size in the header: a negative number"},
		{name: "a size beyond all", data: archive(raw(magicGNU, with(fieldSize, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"))), want: "expected at most 2^62"},
		{name: "a size of 96 bits", data: archive(raw(magicGNU, with(fieldSize, "\x80\x01\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"))), want: "beyond 63 bits"},
		{name: "a bad size record", data: archive(pax(typePax, keySize, "-5"), raw(magicPOSIX)), want: `pax record size: "-5"`},
		{name: "a directory with data", data: archive(raw(magicPOSIX, typed(TypeDir), sized(512)), blocks("x")), want: "an entry of type '5' with 512 bytes of data"},
		{name: "a hard link with data", data: archive(raw(magicPOSIX, typed(TypeLink), with(fieldLink, "b"), sized(1)), blocks("x")), want: "an entry of type '1' with 1 bytes"},
		{name: "a symbolic link with data by record", data: archive(pax(typePax, keySize, "1"), raw(magicPOSIX, typed(TypeSymlink), with(fieldLink, "b")), blocks("x")), want: "an entry of type '2' with 1 bytes"},
		{name: "a directory by its slash, with data", data: archive(raw("", typed(typeOld), with(fieldName, "a/"), sized(1)), blocks("x")), want: "an entry of type '5' with 1 bytes"},
		{name: "a bad mode", data: archive(raw(magicPOSIX, with(fieldMode, "x"))), want: "mode in the header", passes: true},
		{name: "a bad time", data: archive(raw(magicPOSIX, with(fieldMTime, "x"))), want: "mtime in the header", passes: true},
		{name: "a time beyond all", data: archive(raw(magicGNU, with(fieldMTime, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"))), want: "expected less than 2^56", passes: true},
		{name: "a bad time record", data: archive(pax(typePax, keyCTime, "now"), raw(magicPOSIX)), want: "pax record ctime", passes: true},
		{name: "a device's big number", data: archive(raw(magicGNU, typed(TypeChar), with(fieldMajor, "\x80\x00\x00\x01\x00\x00\x00\x00"))), want: "expected numbers of 32 bits", passes: true},
		{name: "no name", data: archive(raw(magicPOSIX, with(fieldName, ""))), want: "an entry without a name", passes: true},
		{name: "an empty name", data: archive(pax(typePax, keyPath, ""), raw(magicPOSIX)), want: "an entry without a name", passes: true},
		{name: "no target", data: archive(raw(magicPOSIX, typed(TypeSymlink))), want: "a link without a target", passes: true},
		{name: "an ACL with names", data: archive(pax(typePax, keyAccess, "user::rw-,user:lisa:rw-"), raw(magicPOSIX)), want: `"a", byte 0: pax record SCHILY.acl.access: ACL entry "user:lisa:rw-": a name without its ID`},
		{name: "an ACL of another kind", data: archive(pax(typePax, keyNFS4, "owner@:rwx"), raw(magicPOSIX)), want: "an NFSv4 ACL"},
		{name: "two values of an attribute", data: archive(pax(typePax, "SCHILY.xattr.user.a", "1", "LIBARCHIVE.xattr.user.a", "Mg"), raw(magicPOSIX)), want: "extended attribute user.a: two values", passes: true},
		{name: "an attribute without a name", data: archive(pax(typePax, "SCHILY.xattr.", "1"), raw(magicPOSIX)), want: `extended attribute ""`, passes: true},
		{name: "a bad encoding of an attribute's value", data: archive(pax(typePax, "LIBARCHIVE.xattr.user.a", "?"), raw(magicPOSIX)), want: "a value in base64"},
		{name: "a bad encoding of an attribute", data: archive(pax(typePax, "LIBARCHIVE.xattr.user%zz", "Mg"), raw(magicPOSIX)), want: "expected a name with %XX"},
	} {
		_, _, err := readAll(tc.data)
		wantError(t, err, tc.want)
		_, err = stream(Shift{Map: wide}, tc.data)
		if tc.passes {
			if err != nil {
				t.Errorf("%s: the filter: %v", tc.name, err)
			}
			continue
		}
		wantError(t, err, tc.want)
	}
}

// TestReadEnds is what stands at an archive's end and behind it.
func TestReadEnds(t *testing.T) {
	one := raw(magicPOSIX)
	for name, data := range map[string][]byte{
		"one block of zeros":  slices.Concat(one, make([]byte, blockSize)),
		"two":                 archive(one),
		"a record of twenty":  slices.Concat(one, make([]byte, 19*blockSize)),
		"an odd end":          slices.Concat(one, make([]byte, 1000)),
		"something behind it": slices.Concat(archive(one), []byte("garbage")),
		"another archive":     slices.Concat(archive(one), archive(one)),
	} {
		if entries, _, err := readAll(data); err != nil || len(entries) != 1 {
			t.Errorf("%s: %d entries, %v: expected one", name, len(entries), err)
		}
	}
	// The end of something else isn't the archive's.
	wrapped := iotest.ErrReader(fmt.Errorf("connection: %w", io.EOF))
	for _, data := range [][]byte{one, archive(one)} {
		if err := (&Shift{Map: wide}).Stream(io.Discard, io.MultiReader(bytes.NewReader(data), wrapped)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("an end that isn't one: %v", err)
		}
	}
	// All is read, so that whoever writes it isn't cut off, and that its own checks are done.
	broken := errors.New("broken")
	r := NewReader(io.MultiReader(bytes.NewReader(archive(one)), iotest.ErrReader(broken)))
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("an error behind the end: %v", err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("and again: %v", err)
	}
}

// TestReadSmallPieces gives an archive byte for byte, and to a caller who reads data so.
func TestReadSmallPieces(t *testing.T) {
	body := strings.Repeat("0123456789", 100)
	data := archive(pax(typePax, keyPath, "b"), raw(magicPOSIX, sized(len(body))), blocks(body), raw(magicPOSIX))
	r := NewReader(iotest.OneByteReader(bytes.NewReader(data)))
	if e, err := r.Next(); err != nil || e.Name != "b" {
		t.Fatalf("%+v, %v", e, err)
	}
	half := make([]byte, 3)
	if _, err := io.ReadFull(r, half); err != nil {
		t.Fatal(err)
	}
	var rest bytes.Buffer
	if n, err := r.WriteTo(&rest); err != nil || n != 997 || string(half)+rest.String() != body {
		t.Errorf("%d bytes, %v, %q", n, err, string(half)+rest.String())
	}
	if n, err := r.Read(half); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the data: %d, %v", n, err)
	}
	if e, err := r.Next(); err != nil || e.Name != "a" {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestGlobalLimit has global headers that hold together, without end.
func TestGlobalLimit(t *testing.T) {
	var parts [][]byte
	for i := range 40 {
		parts = append(parts, pax(typeGlobal, fmt.Sprint("VENDOR.", i), strings.Repeat("x", 30000)))
	}
	_, _, err := readAll(archive(append(parts, raw(magicPOSIX))...))
	wantError(t, err, "global pax headers: ")
	wantError(t, err, "expected at most 1048576")
}
