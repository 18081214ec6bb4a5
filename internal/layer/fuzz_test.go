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

// allIDs is a map of all, small ones to those that need base-256 or a record, and
// the other way round.
var allIDs = idmap.Map{{Inner: 0, Outer: 1 << 31, Count: 1<<31 - 1}, {Inner: 1<<31 - 1, Outer: 0, Count: 1 << 31}}

// seeds are archives with all that has a branch of its own. What tools have written is in
// testdata/fuzz.
func seeds(f *testing.F) {
	f.Helper()
	for _, parts := range [][][]byte{
		{},
		{raw("", typed(typeOld)), raw(magicGNU, ownedBy(65536, 4000000000)), raw(magicPOSIX, with(fieldPrefix, "p"))},
		{side(typeTarget, "t\x00"), side(typeName, "n\x00"), raw(magicGNU, typed(TypeSymlink), with(fieldUser, "u"))},
		{pax(typeGlobal, keyUID, "7", keyComment, "c"), raw(magicPOSIX, ownedBy(65536, 1))},
		{pax(typePax, keyPath, "n", keyUID, "65536", keyGID, "5", keyComment, markerText+"uid", keyMTime, "-1.5", keySize, "5"), raw(magicPOSIX, ownedBy(1, 5)), blocks("12345")},
		{pax(typePax, keyAccess, "user::rw-\nuser:lisa:r--:7\n", "SCHILY.xattr.security.capability", "\x01\x00\x00\x02"+strings.Repeat("\x00", 16),
			"LIBARCHIVE.xattr.security.capability", "AQAAAgAgAAAAAAAAAAAAAAAAAAA", "SCHILY.xattr.system.posix_acl_default", string(acl{{aclUser, 7, 16}}.binary())), raw(magicPOSIX)},
		{raw(magicGNU, typed(typeSparse), sized(1), with(fieldGNUSparse, "00000000000\x0000000000001\x00"), with(fieldGNUReal, "00000000100\x00")), blocks("x")},
		{pax(typePax, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "r", "GNU.sparse.realsize", "9"), raw(magicPOSIX, sized(513)), blocks("1\n8\n1\n"), blocks("x")},
		{pax(typePax, "GNU.sparse.size", "9", "GNU.sparse.offset", "1", "GNU.sparse.numbytes", "1"), raw(magicPOSIX, sized(1)), blocks("x")},
		{pax(typePax, "GNU.sparse.size", "9", "GNU.sparse.map", "1,1"), raw(magicPOSIX, sized(1)), blocks("x")},
	} {
		f.Add(archive(parts...))
	}
}

// mended is data with the sums of its headers right, so that what is
// tried isn't refused for its sum each time.
func mended(data []byte) []byte {
	data = slices.Clone(data)
	for at := 0; at+blockSize <= len(data); {
		h := header(data[at:][:blockSize])
		if zero(h) {
			break
		}
		h.setSum(false)
		n, err := h.number("size", fieldSize)
		if err != nil || n > int64(len(data)) || !hasData(h.kind()) {
			n = 0
		}
		at += blockSize + int(padded(n))
	}
	return data
}

// windowLimit fails for a window that grew beyond what the limits of headers need.
func windowLimit(t *testing.T, w *window) {
	t.Helper()
	// Three headers with their data, one after them, and room to read on.
	if limit := 3*(maxMeta+2*blockSize) + 2*windowSize; len(w.buf) > limit {
		t.Errorf("the window has %d bytes: expected at most %d", len(w.buf), limit)
	}
}

// FuzzReader reads anything. What is read and can be written is read again as it was.
func FuzzReader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, mended(data)} {
			r := NewReader(bytes.NewReader(data))
			for range 1000 {
				e, err := r.Next()
				if err != nil {
					if !errors.Is(err, io.EOF) && err.Error() == "" {
						t.Error("an error without words")
					}
					break
				}
				stored, err := io.ReadAll(r)
				if err != nil {
					break
				}
				if int64(len(stored)) != e.Stored() {
					t.Fatalf("%q: %d bytes: expected %d", e.Name, len(stored), e.Stored())
				}
				sameAgain(t, e, stored)
			}
			windowLimit(t, r.w)
		}
	})
}

// sameAgain writes an entry, if it can be written, and reads it.
func sameAgain(t *testing.T, e *Entry, stored []byte) {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	if w.WriteEntry(e) != nil {
		return
	}
	if _, err := w.Write(stored); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, contents, err := readAll(out.Bytes())
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v: %d entries, %v", *e, len(got), err)
	}
	if a, b := said(got[0]), said(e); a != b || contents[0] != string(stored) {
		t.Errorf("%s with %d bytes\nexpected %s with %d", a, len(contents[0]), b, len(stored))
	}
}

// said is all that an entry says, comparable. Attributes that a record holds in another
// place aren't in the same order again.
func said(e *Entry) string {
	c := *e
	c.offset = 0
	c.Xattrs = slices.Clone(c.Xattrs)
	slices.SortFunc(c.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return fmt.Sprintf("%q %t", fmt.Sprintf("%+v", c), c.Data == nil)
}

// FuzzShift shifts anything. What comes out is an archive again, whose entries are those
// that went in with their IDs translated, and back they are as they were.
func FuzzShift(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, mended(data)} {
			to, from := Shift{Map: allIDs}, Shift{Map: allIDs, ToContainer: true}
			var out bytes.Buffer
			run := to.filter(&out, bytes.NewReader(data))
			err := run.run()
			windowLimit(t, run.w)
			host := out.Bytes()
			if err != nil {
				if err.Error() == "" {
					t.Error("an error without words")
				}
				continue
			}
			back, err := stream(from, host)
			if err != nil {
				t.Fatalf("the way back: %v", err)
			}
			// What came back once has nothing left that doesn't come back as it was.
			if again, err := stream(to, back); err != nil {
				t.Fatalf("and again: %v", err)
			} else if same, err := stream(from, again); err != nil || !bytes.Equal(same, back) {
				t.Fatalf("and back again: %v, or other bytes: %q\nexpected %q", err, same, back)
			}
			squashed := Shift{Map: idmap.Map{{Inner: 0, Outer: 100000, Count: 65535}}, Squash: true, DropNames: true}
			if _, err := stream(squashed, data); err != nil {
				t.Errorf("squashed: %v", err)
			}
			entries, contents, err := readAll(data)
			if err != nil {
				continue // by what the filter doesn't look at
			}
			shifted, sameContents, err := readAll(host)
			if err != nil || len(shifted) != len(entries) || !slices.Equal(contents, sameContents) {
				t.Fatalf("%d entries, %v: expected %d, with the same data", len(shifted), err, len(entries))
			}
			same, _, err := readAll(back)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range entries {
				if _, err := to.Entry(e); err != nil {
					t.Fatal(err)
				}
				if a, b := said(shifted[i]), said(e); a != b {
					t.Errorf("on the host %s\nexpected %s", a, b)
				}
				if _, err := from.Entry(e); err != nil {
					t.Fatal(err)
				}
				if a, b := said(same[i]), said(e); a != b {
					t.Errorf("back %s\nexpected %s", a, b)
				}
			}
		}
	})
}
