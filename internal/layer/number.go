// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// form is how a number stands in a field of a header, so that another can be
// written in the same way: tools differ in padding and in what ends the digits.
type form struct {
	binary bool   // GNU's base-256, which has neither of the others
	pad    byte   // before the digits: '0' or ' '; 0 where digits fill the width, so that it isn't seen
	width  int    // of padding and digits; 0 for a field without any
	tail   string // behind the digits
}

// grown is the widest form that every reader takes: as GNU tar, Go and Python write.
func grown(size int) form { return form{pad: '0', width: size - 1, tail: "\x00"} }

// Errors of numbers. What the field was, and where, is the caller's to say.
var (
	errNegative = errors.New("a negative number: expected one from 0 on")
	errTooBig   = errors.New("a number beyond 63 bits")
)

// parseNumber reads a field: octal digits that may have spaces before them and end
// at a NUL, a space or the field's end (POSIX), or base-256 (GNU). A field of nothing
// but spaces and NULs is 0, as an unused one is.
func parseNumber(field []byte) (int64, form, error) {
	if field[0]&0x80 != 0 {
		n, err := parseBinary(field)
		return n, form{binary: true}, err
	}
	begin := 0
	for begin < len(field) && field[begin] == ' ' {
		begin++
	}
	end, n := begin, int64(0)
	for ; end < len(field) && field[end] >= '0' && field[end] <= '7'; end++ {
		if n > math.MaxInt64>>3 {
			return 0, form{}, errTooBig
		}
		n = n<<3 | int64(field[end]-'0')
	}
	if end == begin {
		if len(bytes.Trim(field, " \x00")) != 0 {
			return 0, form{}, fmt.Errorf("%q: expected octal digits, or base-256", field)
		}
		return 0, form{}, nil
	}
	if end < len(field) && field[end] != ' ' && field[end] != 0 {
		return 0, form{}, fmt.Errorf("%q: expected octal digits, then a space or a NUL", field)
	}
	f := form{width: end, tail: string(field[end:])}
	if field[0] == '0' || field[0] == ' ' {
		f.pad = field[0]
	}
	return n, f, nil
}

// parseBinary reads two's complement, big end first, of which the highest bit is the
// mark of the form (GNU tar's manual, "Extensions to the archive format").
func parseBinary(field []byte) (int64, error) {
	// The second highest bit is the sign; the highest is always set.
	fill := byte(0)
	if field[0]&0x40 != 0 {
		fill = 0xff
	}
	first := field[0]&0x7f | fill&0x80
	n := int64(int8(first))
	for _, b := range field[1:] {
		if n > math.MaxInt64>>8 || n < math.MinInt64>>8 {
			return 0, errTooBig
		}
		n = n<<8 | int64(b)
	}
	return n, nil
}

// put writes n into the field in this form, and says whether it fits. Where it
// doesn't, the field is as it was.
func (f form) put(field []byte, n int64) bool {
	if f.binary {
		return putBinary(field, n)
	}
	if n < 0 || f.width == 0 || f.width < 21 && n>>(3*f.width) != 0 {
		return false
	}
	rest := n
	for i := f.width - 1; i >= 0; i-- {
		switch {
		case rest > 0 || i == f.width-1 || f.pad != ' ':
			field[i] = '0' + byte(rest&7)
		default:
			field[i] = f.pad
		}
		rest >>= 3
	}
	copy(field[f.width:], f.tail)
	return true
}

func putBinary(field []byte, n int64) bool {
	if bits := 8*len(field) - 2; bits < 63 && n>>bits != 0 && n>>bits != -1 {
		return false
	}
	for i := len(field) - 1; i >= 0; i-- {
		field[i] = byte(n)
		n >>= 8
	}
	field[0] |= 0x80
	return true
}
