// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Writer writes an archive that GNU tar, bsdtar and Go's archive/tar read: ustar, with
// a pax header before an entry for what doesn't fit, and sparse files in GNU's pax
// format 1.0. The same entries give the same bytes.
type Writer struct {
	to     *stage
	name   string // of the entry that is being written
	left   int64  // bytes of its data that weren't written
	pad    int64  // bytes behind its data
	closed bool
	err    error // that ended it
}

// NewWriter writes to w. Nothing is whole before Close.
func NewWriter(w io.Writer) *Writer { return &Writer{to: newStage(w)} }

var zeros [2 * blockSize]byte

// WriteEntry writes an entry's headers; [Entry.Stored] bytes of data have to follow. An
// entry that can't be written is an error that names it, and nothing of it is written.
func (w *Writer) WriteEntry(e *Entry) error {
	if err := w.end(); err != nil {
		return err
	}
	head, stored, err := headers(e)
	if err != nil {
		return fmt.Errorf("%q: %w", e.Name, err)
	}
	w.name, w.left, w.pad = e.Name, e.Stored(), padded(stored)-stored
	return w.put(head)
}

// Write writes data of the entry, at most as much as it has.
func (w *Writer) Write(p []byte) (int, error) {
	switch {
	case w.err != nil:
		return 0, w.err
	case int64(len(p)) > w.left:
		return 0, fmt.Errorf("%q: %d bytes of data: expected at most %d more", w.name, len(p), w.left)
	}
	if err := w.put(p); err != nil {
		return 0, err
	}
	w.left -= int64(len(p))
	return len(p), nil
}

// Close writes the archive's end. It doesn't close the underlying writer.
func (w *Writer) Close() error {
	if w.closed {
		return w.err
	}
	if err := w.end(); err != nil {
		return err
	}
	w.closed = true
	if err := w.put(zeros[:]); err != nil {
		return err
	}
	if w.err = w.to.flush(); w.err != nil {
		return w.err
	}
	return nil
}

// end ends the entry before.
func (w *Writer) end() error {
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return errors.New("the archive is closed: expected no more entries")
	case w.left > 0:
		return fmt.Errorf("%q: %d bytes of data are missing: expected them before the next entry", w.name, w.left)
	}
	pad := w.pad
	w.pad = 0
	return w.put(zeros[:pad])
}

func (w *Writer) put(p []byte) error {
	if w.err == nil {
		w.err = w.to.write(p)
	}
	return w.err
}

// headers is all that stands before an entry's data, and the size of what the archive
// counts as that: with the map of a sparse file, which is among the headers here.
func headers(e *Entry) (head []byte, stored int64, err error) {
	if err := writable(e); err != nil {
		return nil, 0, err
	}
	var sparseMap []byte
	stored = e.Stored()
	if e.Data != nil {
		sparseMap = mapText(e)
		stored += int64(len(sparseMap))
	}
	block := make([]byte, blockSize)
	h := header(block)
	records, err := h.fill(e, stored)
	if err != nil {
		return nil, 0, err
	}
	if len(records) > 0 {
		seconds, _ := fieldSeconds(e.ModTime)
		if head, err = paxHeader(sideName(e.Name, "PaxHeaders"), seconds, records); err != nil {
			return nil, 0, err
		}
	}
	return append(append(head, block...), sparseMap...), stored, nil
}

// writable refuses what can't stand in an archive, or would be read as something else.
func writable(e *Entry) error {
	switch {
	case e.Name == "" || strings.ContainsRune(e.Name, 0):
		return errors.New("a name that is empty or has a NUL: expected neither")
	case strings.ContainsRune(e.Link+e.User+e.Group, 0):
		return errors.New("a link or an owner's name with a NUL: expected none")
	case e.Type < TypeReg || e.Type > TypeCont:
		return fmt.Errorf("type %q: expected one of POSIX", e.Type)
	case (e.Type == TypeReg || e.Type == TypeCont) && strings.HasSuffix(e.Name, "/"):
		return errors.New("a file whose name ends with a slash: expected a directory")
	case (e.Type == TypeLink || e.Type == TypeSymlink) != (e.Link != ""):
		return errors.New("a link without a target, or a target without a link: expected both or neither")
	case e.Size < 0 || e.Size > maxSize || !hasData(e.Type) && e.Size != 0:
		return fmt.Errorf("size %d: expected 0 where there is no data, and at most 2^62", e.Size)
	case e.Mode&^0o7777 != 0:
		return fmt.Errorf("mode %#o: expected twelve bits", e.Mode)
	case e.Data != nil && e.Type != TypeReg:
		return errors.New("sparse: expected a regular file")
	}
	var all []Segment
	for _, s := range e.Data {
		var err error
		if all, err = addSegment(all, s.Offset, s.Length); err != nil {
			return err
		}
	}
	if n := len(all); n != len(e.Data) || n > 0 && all[n-1].Offset+all[n-1].Length > e.Size {
		return fmt.Errorf("sparse map: expected segments that aren't empty, within the file's %d bytes", e.Size)
	}
	return errors.Join(checkID("UID", int64(e.UID)), checkID("GID", int64(e.GID)))
}

// mapText is the map of a sparse file as it stands before its data, in whole blocks.
// GNU tar ends it with an empty segment where the file ends with a hole.
func mapText(e *Entry) []byte {
	data := e.Data
	if n := len(data); n == 0 || data[n-1].Offset+data[n-1].Length < e.Size {
		data = append(data[:n:n], Segment{e.Size, 0})
	}
	text := strconv.AppendInt(nil, int64(len(data)), 10)
	text = append(text, '\n')
	for _, s := range data {
		text = append(strconv.AppendInt(text, s.Offset, 10), '\n')
		text = append(strconv.AppendInt(text, s.Length, 10), '\n')
	}
	return append(text, make([]byte, padded(int64(len(text)))-int64(len(text)))...)
}

// maxOctal is the greatest number that stands in a field with a NUL behind it.
func maxOctal(f field) int64 { return 1<<(3*(f.to-f.from-1)) - 1 }

// fill fills a header block, and gives the records for what doesn't fit.
func (h header) fill(e *Entry, stored int64) ([]record, error) {
	var records []record
	add := func(key, value string) { records = append(records, makeRecord(key, []byte(value))) }
	number := func(key string, f field, n, instead int64) {
		if !grown(f.to-f.from).put(h.get(f), n) {
			grown(f.to-f.from).put(h.get(f), instead)
			add(key, strconv.FormatInt(n, 10))
		}
	}
	text := func(key string, f field, text string, limit int) {
		if len(text) > limit {
			add(key, text)
			text = text[:limit]
		}
		copy(h.get(f), text)
	}
	copy(h.get(fieldMagic), "ustar\x0000")
	h[fieldType.from] = e.Type
	name := e.Name
	if e.Data != nil {
		name = sideName(e.Name, "GNUSparseFile.0")
		add(prefixSparse+"major", "1")
		add(prefixSparse+"minor", "0")
		add(prefixSparse+"name", e.Name)
		add(prefixSparse+"realsize", strconv.FormatInt(e.Size, 10))
	}
	if !h.setName(name) {
		add(keyPath, name)
	}
	text(keyLinkPath, fieldLink, e.Link, fieldLink.to-fieldLink.from)
	grown(fieldMode.to-fieldMode.from).put(h.get(fieldMode), int64(e.Mode))
	number(keyUID, fieldUID, int64(e.UID), maxOctal(fieldUID)) // anybody but root, for a reader without pax
	number(keyGID, fieldGID, int64(e.GID), maxOctal(fieldGID))
	number(keySize, fieldSize, stored, 0)
	text(keyUser, fieldUser, e.User, fieldUser.to-fieldUser.from-1)
	text(keyGroup, fieldGroup, e.Group, fieldGroup.to-fieldGroup.from-1)
	if e.Type == TypeChar || e.Type == TypeBlock {
		number(keyMajor, fieldMajor, int64(e.Major), 0)
		number(keyMinor, fieldMinor, int64(e.Minor), 0)
	} else {
		grown(fieldMajor.to-fieldMajor.from).put(h.get(fieldMajor), 0)
		grown(fieldMinor.to-fieldMinor.from).put(h.get(fieldMinor), 0)
	}
	seconds, exact := fieldSeconds(e.ModTime)
	grown(fieldMTime.to-fieldMTime.from).put(h.get(fieldMTime), seconds)
	if !exact {
		add(keyMTime, paxTime(e.ModTime))
	}
	more, err := moreRecords(e)
	if err != nil {
		return nil, err
	}
	records = append(records, more...)
	if slices.ContainsFunc(records, func(r record) bool { return isText(r.key) && !utf8.Valid(r.value) }) {
		records = slices.Insert(records, 0, makeRecord(keyCharset, []byte("BINARY")))
	}
	h.setSum(false)
	return records, nil
}
