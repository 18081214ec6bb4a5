// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

const (
	maxFile  = 256 << 20 // bytes of one file of the book
	maxLine  = 4096      // bytes of one line, comments too
	maxOwner = 256       // bytes; login names have at most 32 (useradd(8)), orchestrators' are longer
)

// never is the IDs that can't be granted to anybody: host root, the overflow
// ID to which the kernel maps what it can't show, and -1 of 16 and of 32 bits.
var never = [...]uint32{0, idmap.Overflow, 65535, idmap.Invalid}

// Line is one grant of the book. The same numbers are granted as UIDs and GIDs.
// Lines share what their Flags point to: copy DropCaps before writing to it.
type Line struct {
	File   string
	Number int // in File, from 1
	Owner  string
	Range  idmap.Range
	Flags  Flags
}

// Where is the line's place, "/etc/usernamespaces:3".
func (l Line) Where() string { return l.File + ":" + strconv.Itoa(l.Number) }

// String is the line as the book holds it, with its flags in canonical order.
func (l Line) String() string {
	return fmt.Sprintf("%s:%d:%d:%s", l.Owner, l.Range.Start, l.Range.Count, l.Flags)
}

// Parse reads the lines of one file of the book; file is its name, for errors
// and [Line.Where]. A line is <user>:<start>:<length>:<flags>, a comment whose
// first visible character is #, or blank. The error joins one for everything
// that is wrong in every bad line (the first 1000), each with its file:line; on
// any error there are no lines.
func Parse(file string, data []byte) ([]Line, error) {
	var sets flagSets
	src, err := scan(file, data, &sets)
	if err != nil {
		return nil, err
	}
	lines := make([]Line, len(src.entries))
	for i := range src.entries {
		lines[i] = src.line(i, sets.sets)
	}
	return lines, nil
}

// source is one file of the book. Its lines are kept as entries, a third of a
// Line's size and without pointers: a book may have a million, of which a grant
// needs a few.
type source struct {
	file    string
	data    []byte
	entries []entry
}

// entry is a line; its 32 bits suffice since data is at most maxFile long.
type entry struct {
	ids      idmap.Range
	number   uint32
	owner    uint32 // offset in data
	flags    uint32 // index in flagSets
	ownerLen uint16
}

func (s *source) owner(e *entry) []byte { return s.data[e.owner:][:e.ownerLen] }

func (s *source) line(i int, sets []Flags) Line {
	e := &s.entries[i]
	return Line{s.file, int(e.number), string(s.owner(e)), e.ids, sets[e.flags]}
}

// flagSets keeps every distinct flags field of a book once.
type flagSets struct {
	sets  []Flags
	index map[string]uint32
}

func (s *flagSets) intern(text []byte) (uint32, []error) {
	if i, ok := s.index[string(text)]; ok {
		return i, nil
	}
	f, errs := parseFlags(string(text))
	if len(errs) > 0 {
		return 0, errs
	}
	if s.index == nil {
		s.index = make(map[string]uint32)
	}
	i := uint32(len(s.sets))
	s.sets = append(s.sets, f)
	s.index[string(text)] = i
	return i, nil
}

// scan is Parse in one pass, with nothing allocated for a good line.
func scan(file string, data []byte, sets *flagSets) (source, error) {
	if len(data) > maxFile {
		return source{}, fmt.Errorf("book: %s: %d bytes: expected at most %d: split it into drop-ins", file, len(data), maxFile)
	}
	src := source{file: file, data: data, entries: make([]entry, 0, bytes.Count(data, []byte("\n"))+1)}
	// What only odd files have is looked for once, and by line only in them.
	crlf := bytes.Contains(data, []byte("\r\n")) || bytes.HasSuffix(data, []byte("\r"))
	odd := bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data)
	saidCRLF := false
	var bad problems
	number := 0
	for start := 0; start < len(data); {
		end, next := len(data), len(data)
		if i := bytes.IndexByte(data[start:], '\n'); i >= 0 {
			end, next = start+i, start+i+1
		}
		text := data[start:end]
		offset := start
		start = next
		number++
		if crlf && bytes.HasSuffix(text, []byte("\r")) {
			text = text[:len(text)-1]
			if !saidCRLF { // once for the file: all its lines will have it
				bad.add(fmt.Errorf("book: %s:%d: the line ends in CR LF, as on Windows: expected LF alone: sed -i 's/[[:cntrl:]]$//' %s",
					file, number, rootfile.ShellQuote(file)))
				saidCRLF = true
			}
		}
		if odd {
			if err := oddBytes(text); err != nil {
				bad.add(fmt.Errorf("book: %s:%d: %w", file, number, err))
				continue
			}
		}
		if len(text) > maxLine {
			bad.add(fmt.Errorf("book: %s:%d: the line has %d bytes: expected at most %d: shorten it", file, number, len(text), maxLine))
			continue
		}
		if blank(text) {
			continue
		}
		e, errs := scanLine(text, sets)
		if len(errs) > 0 {
			for _, err := range errs {
				bad.add(fmt.Errorf("book: %s:%d: %w", file, number, err))
			}
			continue
		}
		e.number, e.owner = uint32(number), uint32(offset)
		src.entries = append(src.entries, e)
	}
	if err := bad.join(); err != nil {
		return source{}, err
	}
	return src, nil
}

// blank says whether a line is empty or a comment.
func blank(text []byte) bool {
	if len(text) > 0 && text[0] > '#' {
		return false
	}
	text = bytes.TrimLeft(text, " \t")
	return len(text) == 0 || text[0] == '#'
}

func oddBytes(text []byte) error {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return fmt.Errorf("byte %d is NUL: expected text: write the line again", i+1)
	}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return fmt.Errorf("byte %d is not UTF-8: expected UTF-8 text: write the line again", i+1)
		}
		i += n
	}
	return nil
}

// scanLine reads a grant; the caller knows where it is. It finds all that is
// wrong with it.
func scanLine(text []byte, sets *flagSets) (entry, []error) {
	first := bytes.IndexByte(text, ':')
	second := first + 1 + bytes.IndexByte(text[first+1:], ':')
	third := second + 1 + bytes.IndexByte(text[second+1:], ':')
	if first < 0 || second == first || third == second || bytes.IndexByte(text[third+1:], ':') >= 0 {
		return entry{}, []error{colons(text)}
	}
	var errs []error
	owner := text[:first]
	if err := checkOwner(owner); err != nil {
		errs = append(errs, err)
	}
	ids, err := scanRange(text[first+1:second], text[second+1:third])
	if err != nil {
		errs = append(errs, err)
	}
	set, bad := sets.intern(text[third+1:])
	errs = append(errs, bad...)
	return entry{ids: ids, flags: set, ownerLen: uint16(len(owner))}, errs
}

func colons(text []byte) error {
	n := bytes.Count(text, []byte(":"))
	if n == 2 {
		return fmt.Errorf("%q has 2 colons: expected USER:START:LENGTH:FLAGS: write %q", text, string(text)+":")
	}
	return fmt.Errorf("%q has %d colons: expected USER:START:LENGTH:FLAGS, such as %q", text, n, "alice:200000:65536:")
}

func checkOwner(name []byte) error {
	switch {
	case len(name) == 0:
		return errors.New("user: is empty: expected a login name, a UID, or an orchestrator's name")
	case len(name) > maxOwner:
		return fmt.Errorf("user: has %d bytes: expected at most %d", len(name), maxOwner)
	}
	digits := true
	for i := 0; i < len(name); {
		if c := name[i]; c > ' ' && c < 0x7f {
			digits = digits && '0' <= c && c <= '9'
			i++
			continue
		}
		r, n := utf8.DecodeRune(name[i:])
		if r == ' ' || !strconv.IsPrint(r) {
			return fmt.Errorf("user %q: holds %q: expected a name without spaces and control characters", name, r)
		}
		digits = false
		i += n
	}
	if digits {
		// 0100 would never be anybody's UID, and its line would be dead.
		if n, err := number(name); err != nil || n == idmap.Invalid {
			return fmt.Errorf("user %q: digits alone are a UID: expected a decimal number below %d without leading zeros", name, idmap.Invalid)
		}
	}
	return nil
}

func scanRange(start, length []byte) (idmap.Range, error) {
	from, err := number(start)
	count, err2 := number(length)
	switch {
	case err != nil && err2 != nil:
		return idmap.Range{}, fmt.Errorf("start: %w, and length: %w", err, err2)
	case err != nil:
		return idmap.Range{}, fmt.Errorf("start: %w", err)
	case err2 != nil:
		return idmap.Range{}, fmt.Errorf("length: %w", err2)
	case count == 0:
		return idmap.Range{}, fmt.Errorf("length: is 0: expected at least 1, and %d for one container", DefaultSize)
	}
	ids := idmap.Range{Start: from, Count: count}
	if ids.End() > 1<<32 {
		return idmap.Range{}, fmt.Errorf("range: %d IDs from %d go beyond 32 bits: expected a length of at most %d",
			count, from, idmap.Invalid-from)
	}
	if from <= 65535 || ids.End() > uint64(idmap.Invalid) {
		return ids, neverIn(ids)
	}
	return ids, nil
}

// neverIn refuses a range that holds IDs that are never grantable, and names
// them.
func neverIn(ids idmap.Range) error {
	var names []string
	for _, id := range never {
		if ids.Contains(id) {
			names = append(names, strconv.FormatUint(uint64(id), 10))
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("range: %s holds %s, never grantable: expected a range without them: start at 65536 or above, end below %d",
		ids, strings.Join(names, ", "), idmap.Invalid)
}

// number is idmap.ParseID without the copy to a string, which only its errors
// need.
func number(text []byte) (uint32, error) {
	var n uint64
	for _, c := range text {
		digit := c - '0'
		if digit > 9 || len(text) > 10 {
			return idmap.ParseID(string(text))
		}
		n = n*10 + uint64(digit)
	}
	if len(text) == 0 || n > uint64(idmap.Invalid) || len(text) > 1 && text[0] == '0' {
		return idmap.ParseID(string(text))
	}
	return uint32(n), nil
}
