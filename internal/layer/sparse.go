// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxSegments of a sparse file are kept in memory. A map in pax records can't have as
// many, since a pax header has a limit.
const maxSegments = 1 << 16

// sparseRecords is what the GNU.sparse records of a pax header say (GNU tar's manual,
// "Storing Sparse Files"): format 0.0 has a record for each number, 0.1 the map in one
// record, and 1.0 the map before the data.
type sparseRecords struct {
	name   string
	size   int64 // -1 if none was said
	major  string
	minor  string
	data   []Segment
	offset int64 // of 0.0: the one that waits for its length
	open   bool
	mapped bool // there is a map in the records, or the mark of one
	sized  bool
}

func (s *sparseRecords) any() bool { return s.mapped || s.major != "" || s.minor != "" || s.sized }

func (s *sparseRecords) take(key string, r record) (err error) {
	switch key {
	case "major":
		s.major = string(r.value)
	case "minor":
		s.minor = string(r.value)
	case "name":
		return paxText(r, &s.name)
	case "size", "realsize":
		s.sized = true
		s.size, err = paxNumber(r)
	case "numblocks":
		s.mapped = true
		_, err = paxNumber(r) // the map says it itself
	case "offset":
		if s.open {
			return fmt.Errorf("pax record %s: two in a row: expected a GNU.sparse.numbytes behind each", r.key)
		}
		s.mapped, s.open = true, true
		s.offset, err = paxNumber(r)
	case "numbytes":
		if !s.open {
			return fmt.Errorf("pax record %s: expected a GNU.sparse.offset before it", r.key)
		}
		s.open = false
		var n int64
		if n, err = paxNumber(r); err == nil {
			s.data, err = addSegment(s.data, s.offset, n)
		}
	case "map":
		s.mapped = true
		err = s.takeMap(string(r.value))
	default:
		err = fmt.Errorf("pax record %s: unknown: expected those of the formats 0.0, 0.1 and 1.0", r.key)
	}
	return err
}

// takeMap reads "OFFSET,LENGTH,OFFSET,LENGTH...".
func (s *sparseRecords) takeMap(text string) error {
	s.data = nil
	if text == "" {
		return nil
	}
	words := strings.Split(text, ",")
	if len(words)%2 != 0 {
		return fmt.Errorf("GNU.sparse.map: %d numbers: expected pairs of offset and length", len(words))
	}
	for i := 0; i < len(words); i += 2 {
		offset, err1 := strconv.ParseUint(words[i], 10, 63)
		length, err2 := strconv.ParseUint(words[i+1], 10, 63)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("GNU.sparse.map: %q: expected two decimal numbers", words[i]+","+words[i+1])
		}
		var err error
		if s.data, err = addSegment(s.data, int64(offset), int64(length)); err != nil {
			return err
		}
	}
	return nil
}

// addSegment adds to a map what lies behind its last segment. An empty one says
// nothing: GNU tar marks the file's end with it.
func addSegment(all []Segment, offset, length int64) ([]Segment, error) {
	end := int64(0)
	if n := len(all); n > 0 {
		end = all[n-1].Offset + all[n-1].Length
	}
	switch {
	case offset < 0 || length < 0 || offset > maxSize || length > maxSize:
		return nil, fmt.Errorf("sparse map: %d bytes at %d: expected numbers from 0 to 2^62", length, offset)
	case offset < end:
		return nil, fmt.Errorf("sparse map: %d bytes at %d, behind data up to %d: expected rising segments apart from each other", length, offset, end)
	case length == 0:
		return all, nil
	case len(all) == maxSegments:
		return nil, fmt.Errorf("sparse map: expected at most %d segments", maxSegments)
	}
	return append(all, Segment{offset, length}), nil
}

// sparse finishes a sparse file's entry, whose header was passed, with its map.
func (r *Reader) sparse(b *builder) (err error) {
	size, data := b.sparse.size, b.sparse.data
	switch s := &b.sparse; {
	case b.old:
		size, data, err = r.oldMap(b.block)
	case !s.any():
		return nil
	case s.open:
		return errors.New("GNU.sparse.offset: the last has no GNU.sparse.numbytes behind it")
	case !s.sized:
		return errors.New("a sparse file without its size: expected a pax record GNU.sparse.size or GNU.sparse.realsize")
	case s.major == "1" && s.minor == "0" && !s.mapped:
		data, err = r.dataMap()
	case s.major != "" && s.major != "0" || s.minor != "" && s.minor != "0" && s.minor != "1" || !s.mapped:
		return fmt.Errorf("a sparse file of format %q.%q: expected 0.0, 0.1 or 1.0 with its map", s.major, s.minor)
	}
	if err != nil {
		return err
	}
	return r.setMap(b.entry, size, data)
}

// setMap refuses a map that doesn't agree with the sizes.
func (r *Reader) setMap(e *Entry, size int64, data []Segment) error {
	e.Size, e.Data = size, data
	if data == nil {
		e.Data = []Segment{}
	}
	if size > maxSize {
		return fmt.Errorf("size %d: expected at most 2^62", size)
	}
	if n := len(data); n > 0 && data[n-1].Offset+data[n-1].Length > size {
		return fmt.Errorf("sparse map: data up to %d: expected it within the file's %d bytes", data[n-1].Offset+data[n-1].Length, size)
	}
	if stored := e.Stored(); stored != r.left {
		return fmt.Errorf("sparse map: %d bytes of data: expected the %d that the archive has", stored, r.left)
	}
	return nil
}

// oldMap reads the map of GNU's old format: four segments in the header, then blocks of
// 21 each as long as a flag says that there are more.
func (r *Reader) oldMap(h header) (size int64, data []Segment, err error) {
	if size, err = h.number("real size", fieldGNUReal); err != nil {
		return 0, nil, err
	}
	// Passing the next block may move the header.
	more := h.get(fieldGNUMore)[0] != 0
	for part := h.get(fieldGNUSparse); ; {
		if data, err = oldSegments(part, data); err != nil || !more {
			return size, data, err
		}
		block, err := r.w.peek(blockSize)
		if errors.Is(err, errShort) {
			err = r.scan.short(int64(len(block)), "in a sparse map")
		}
		if err != nil {
			return 0, nil, err
		}
		part, more = block[:21*24], block[21*24] != 0
		r.w.pass(blockSize)
	}
}

// oldSegments reads pairs of an offset and a length of twelve bytes each, up to one
// without an offset.
func oldSegments(part []byte, data []Segment) ([]Segment, error) {
	for ; len(part) > 0 && part[0] != 0; part = part[24:] {
		offset, _, err := parseNumber(part[:12])
		if err != nil {
			return nil, fmt.Errorf("sparse map: %w", err)
		}
		length, _, err := parseNumber(part[12:24])
		if err != nil {
			return nil, fmt.Errorf("sparse map: %w", err)
		}
		if data, err = addSegment(data, offset, length); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// dataMap reads the map of format 1.0, which stands before the data, in whole blocks:
// the number of segments, and two numbers for each, a line each.
func (r *Reader) dataMap() (data []Segment, err error) {
	var line []byte
	read := 0
	want, have := uint64(1), uint64(0) // lines
	var offset int64
	for have < want {
		if r.left < blockSize {
			return nil, errors.New("sparse map: ends with the data: expected whole blocks of it")
		}
		if read += blockSize; read > maxMeta {
			return nil, fmt.Errorf("sparse map: expected at most %d bytes", maxMeta)
		}
		block, err := r.w.peek(blockSize)
		if errors.Is(err, errShort) {
			err = r.scan.short(int64(len(block)), "in a sparse map")
		}
		if err != nil {
			return nil, err
		}
		for rest := block; have < want; have++ {
			before, after, ok := bytes.Cut(rest, []byte{'\n'})
			if line = append(line, before...); !ok {
				break
			}
			rest = after
			n, err := strconv.ParseUint(string(line), 10, 63)
			switch {
			case err != nil:
				return nil, fmt.Errorf("sparse map: %q: expected a line with a decimal number", start(line))
			case have == 0 && n > maxSegments:
				return nil, fmt.Errorf("sparse map: %d segments: expected at most %d", n, maxSegments)
			case have == 0:
				want = 1 + 2*n
			case have%2 == 1:
				offset = int64(n)
			default:
				if data, err = addSegment(data, offset, int64(n)); err != nil {
					return nil, err
				}
			}
			line = line[:0]
		}
		r.w.pass(blockSize)
		r.left -= blockSize
	}
	return data, nil
}
