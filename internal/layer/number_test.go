// SPDX-License-Identifier: Apache-2.0

package layer

import "testing"

// TestNumber reads fields as writers of several formats leave them, and writes another
// number into each in the same form.
func TestNumber(t *testing.T) {
	for _, tc := range []struct {
		field string
		n     int64
		next  int64 // written in the field's form
		want  string
		err   string
	}{
		{field: "0000644\x00", n: 0o644, next: 0o1000000, want: "1000000\x00"},
		{field: "000644 \x00", n: 0o644, next: 0o777777, want: "777777 \x00"},
		{field: "000644 \x00", n: 0o644, next: 0o1000000, want: ""},
		{field: "   644 \x00", n: 0o644, next: 0, want: "     0 \x00"},
		{field: "0000644 ", n: 0o644, next: 8, want: "0000010 "},
		{field: "00000644", n: 0o644, next: 0o77777777, want: "77777777"},
		{field: "00000644", n: 0o644, next: 0o100000000, want: ""},
		{field: "644\x00rest", n: 0o644, next: 5, want: "005\x00rest"},
		{field: "\x00\x00\x00\x00\x00\x00\x00\x00", n: 0, next: 0, want: ""},
		{field: "        ", n: 0, next: 0, want: ""},
		{field: "\x80\x00\x00\x00\xee\x6b\x28\x00", n: 4000000000, next: 1, want: "\x80\x00\x00\x00\x00\x00\x00\x01"},
		{field: "\x80\x00\x00\x00\x00\x00\x00\x01", n: 1, next: -1, want: "\xff\xff\xff\xff\xff\xff\xff\xff"},
		{field: "\xff\xff\xff\xff\xff\xff\xff\xfe", n: -2, next: 4000000000, want: "\x80\x00\x00\x00\xee\x6b\x28\x00"},
		{field: "\x80\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", err: "beyond 63 bits"},
		{field: "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", n: 1<<63 - 1, next: 0, want: "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{field: "\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\x00\x00", n: -1 << 63, next: 0, want: "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{field: "777777777777777777777\x00\x00\x00", n: 1<<63 - 1, next: 7, want: "000000000000000000007\x00\x00\x00"},
		{field: "1777777777777777777777\x00\x00", err: "beyond 63 bits"},
		{field: "000064x\x00", err: "then a space or a NUL"},
		{field: "0000689\x00", err: "then a space or a NUL"},
		{field: "-000644\x00", err: "expected octal digits"},
		{field: "\x000000644", err: "expected octal digits"},
		{field: "\t000644\x00", err: "expected octal digits"},
		{field: "+0ABCDEF", err: "expected octal digits"}, // GNU's base-64 of the nineties
	} {
		n, f, err := parseNumber([]byte(tc.field))
		if tc.err != "" {
			wantError(t, err, tc.err)
			continue
		}
		if err != nil || n != tc.n {
			t.Errorf("%q: %d, %v: expected %d", tc.field, n, err, tc.n)
			continue
		}
		b := []byte(tc.field)
		fits := f.put(b, tc.next)
		switch {
		case fits != (tc.want != ""):
			t.Errorf("%q: %d fits: %t, %q", tc.field, tc.next, fits, b)
		case fits && string(b) != tc.want:
			t.Errorf("%q: %d is %q: expected %q", tc.field, tc.next, b, tc.want)
		case !fits && string(b) != tc.field:
			t.Errorf("%q: changed to %q by %d, which doesn't fit", tc.field, b, tc.next)
		}
	}
}

// TestBinaryLimits is what fits into eight bytes of base-256, of which two bits are taken.
func TestBinaryLimits(t *testing.T) {
	b := make([]byte, 8)
	for n, fits := range map[int64]bool{1<<62 - 1: true, 1 << 62: false, -1 << 62: true, -1<<62 - 1: false} {
		if putBinary(b, n) != fits {
			t.Errorf("%d: expected that it fits: %t", n, fits)
		}
		if got, _, err := parseNumber(b); fits && (err != nil || got != n) {
			t.Errorf("%d is read as %d, %v", n, got, err)
		}
	}
}
