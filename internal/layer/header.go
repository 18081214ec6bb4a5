// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

const blockSize = 512

// Fields of a header block, as the offset of the first byte and of the one behind
// the last (POSIX.1-2017, pax, "ustar Header Block").
type field struct{ from, to int }

var (
	fieldName   = field{0, 100}
	fieldMode   = field{100, 108}
	fieldUID    = field{108, 116}
	fieldGID    = field{116, 124}
	fieldSize   = field{124, 136}
	fieldMTime  = field{136, 148}
	fieldSum    = field{148, 156}
	fieldType   = field{156, 157}
	fieldLink   = field{157, 257}
	fieldMagic  = field{257, 265} // with the version
	fieldUser   = field{265, 297}
	fieldGroup  = field{297, 329}
	fieldMajor  = field{329, 337}
	fieldMinor  = field{337, 345}
	fieldPrefix = field{345, 500}

	// GNU's headers have no prefix, but these (GNU tar's manual, "Basic Tar Format",
	// struct oldgnu_header).
	fieldGNUATime  = field{345, 357}
	fieldGNUCTime  = field{357, 369}
	fieldGNUSparse = field{386, 482}
	fieldGNUMore   = field{482, 483} // of the map of a sparse file
	fieldGNUReal   = field{483, 495} // size of a sparse file, with its holes

	// star's headers have a shorter prefix, and end with a magic of their own.
	fieldStarPrefix = field{345, 476}
	fieldStarMagic  = field{508, 512}
)

// Type flags of headers that only say more about the entry behind them, and of
// GNU's sparse files.
const (
	typeOld    byte = 0
	typePax    byte = 'x'
	typeGlobal byte = 'g'
	typeName   byte = 'L' // GNU: a long name is its data
	typeTarget byte = 'K' // GNU: a long target of a link is its data
	typeSparse byte = 'S'
)

const (
	magicPOSIX = "ustar\x0000"
	magicGNU   = "ustar  \x00"
)

// header is a block that says what an entry is.
type header []byte

func (h header) get(f field) []byte { return h[f.from:f.to] }

// text is a field's characters, up to a NUL or to the field's end.
func (h header) text(f field) string {
	b := h.get(f)
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func (h header) kind() byte { return h[fieldType.from] }

// gnu and posix say what is behind the fields that all formats have. The version
// is "00" in POSIX; nothing depends on it.
func (h header) gnu() bool   { return string(h.get(fieldMagic)) == magicGNU }
func (h header) posix() bool { return string(h[fieldMagic.from:fieldMagic.from+6]) == "ustar\x00" }

// number reads a field of a number that can't be negative.
func (h header) number(what string, f field) (int64, error) {
	n, _, err := parseNumber(h.get(f))
	if err == nil && n < 0 {
		err = errNegative
	}
	if err != nil {
		return 0, fmt.Errorf("%s in the header: %w", what, err)
	}
	return n, nil
}

// name is the entry's name, as far as the header knows it.
func (h header) name() string {
	name := h.text(fieldName)
	prefix := ""
	switch {
	case h.posix() && string(h.get(fieldStarMagic)) == "tar\x00":
		prefix = h.text(fieldStarPrefix)
	case h.posix():
		prefix = h.text(fieldPrefix)
	case h.gnu() && h.oldGoPrefix():
		prefix = h.text(fieldPrefix)
	}
	if prefix != "" {
		return prefix + "/" + name
	}
	return name
}

// oldGoPrefix says whether a GNU header has the prefix that it shouldn't have: Go
// wrote one until 1.7, and so did Docker in layers of that time. A prefix begins with
// what can't be the time that belongs there.
func (h header) oldGoPrefix() bool {
	b := h.get(fieldGNUATime)
	if b[0] == 0 {
		return false
	}
	if _, _, err := parseNumber(b); err == nil {
		return false
	}
	return !strings.ContainsFunc(h.text(fieldPrefix), func(r rune) bool { return r < ' ' || r > '~' })
}

// sum is the sum of a header's bytes, in which its own field counts as spaces.
func (h header) sum() (n int64) {
	const even, spaces = 0x00ff00ff00ff00ff, ' ' * 8
	// Eight bytes at once, in four sums of 16 bits: 128 times 255 fits.
	var sums uint64
	for i := 0; i < blockSize; i += 8 {
		word := binary.LittleEndian.Uint64(h[i:])
		sums += word&even + word>>8&even
	}
	for ; sums > 0; sums >>= 16 {
		n += int64(sums & 0xffff)
	}
	for _, b := range h.get(fieldSum) {
		n -= int64(b)
	}
	return n + spaces
}

// signedSum is the sum of bytes that are signed, as some old writers have it.
func (h header) signedSum() int64 {
	n := h.sum()
	for i, b := range h {
		if b >= 0x80 && (i < fieldSum.from || i >= fieldSum.to) {
			n -= 0x100
		}
	}
	return n
}

// checkSum refuses a header whose sum is wrong, and says which of both it has.
func (h header) checkSum() (signed bool, err error) {
	have, _, err := parseNumber(h.get(fieldSum))
	sum := h.sum()
	if err == nil && have == sum {
		return false, nil
	}
	if err == nil && have == h.signedSum() {
		return true, nil
	}
	return false, fmt.Errorf("the header's checksum is %q: expected octal %o: the archive is corrupt, or isn't a tar archive",
		h.text(fieldSum), sum)
}

// setSum writes the sum anew in the form that it had, of the kind that
// [header.checkSum] said before the change.
func (h header) setSum(signed bool) {
	_, f, err := parseNumber(h.get(fieldSum))
	sum := h.sum()
	if signed {
		sum = h.signedSum()
	}
	if err == nil && !f.binary && f.put(h.get(fieldSum), sum) {
		return
	}
	form{pad: '0', width: 6, tail: "\x00 "}.put(h.get(fieldSum), sum)
}

// zero says whether a block is all NULs, as at the end of an archive.
func zero(block []byte) bool {
	return block[0] == 0 && bytes.Count(block, []byte{0}) == len(block)
}

// padded is n rounded up to whole blocks.
func padded(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }
