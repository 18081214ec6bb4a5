// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Reader reads an archive from its beginning. It holds at most some MiB of it,
// whatever the archive says.
//
// The archive's end is a block of zeros, as for GNU tar, and what stands behind it is
// read and ignored; an archive without that end is an error, since one that was cut
// between two entries looks like it.
type Reader struct {
	w      *window
	scan   scanner
	global []record // that hold for all entries from here on
	pax    []record // of the entry; kept for its memory
	left   int64    // bytes of the entry's data that weren't read
	pad    int64    // bytes behind its data
	name   string   // of the entry
	err    error    // that ended it, io.EOF included
}

// NewReader reads the archive in r, which isn't compressed; see [Decompress].
func NewReader(r io.Reader) *Reader {
	w := newWindow(r, nil)
	return &Reader{w: w, scan: scanner{w: w}}
}

// Next goes to the next entry, over what wasn't read of the one before. The end is
// io.EOF: then all of the underlying reader was read, so that its own checks are done.
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	e, err := r.next()
	if err != nil {
		r.err = err
		return nil, err
	}
	return e, nil
}

func (r *Reader) next() (*Entry, error) {
	if err := r.skip(r.left + r.pad); err != nil {
		return nil, err
	}
	r.left, r.pad = 0, 0
	for {
		g, err := r.scan.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, r.drain()
		case err != nil:
			return nil, err
		case !g.global():
			return r.entry(g)
		}
		if err := r.setGlobal(g); err != nil {
			return nil, r.scan.failAt(0, "%w", err)
		}
		r.w.pass(len(g.bytes))
	}
}

// drain reads what stands behind the archive's end. It gives io.EOF.
func (r *Reader) drain() error {
	for {
		r.w.pass(r.w.end - r.w.pos)
		if err := r.w.fill(1); errors.Is(err, errShort) {
			return io.EOF
		} else if err != nil {
			return err
		}
	}
}

func (r *Reader) skip(n int64) error {
	err := r.w.passAll(n)
	if errors.Is(err, errShort) {
		return r.scan.short(0, fmt.Sprintf("in the data of %q", r.name))
	}
	return err
}

// setGlobal takes over the records of a global header. An empty value ends an older one.
func (r *Reader) setGlobal(g *group) error {
	records, err := parsePax(g.data(g.metas[0]), nil)
	if err == nil {
		err = checkGlobal(records)
	}
	if err != nil {
		return err
	}
	for _, n := range records {
		r.global = slices.DeleteFunc(r.global, func(o record) bool { return o.key == n.key })
		if len(n.value) > 0 {
			r.global = append(r.global, makeRecord(n.key, n.value))
		}
	}
	size := 0
	for _, o := range r.global {
		size += len(o.raw)
	}
	if size > maxMeta {
		return fmt.Errorf("global pax headers: %d bytes that hold together: expected at most %d", size, maxMeta)
	}
	return nil
}

// entry is what a group says, with the window at the entry's data.
func (r *Reader) entry(g *group) (*Entry, error) {
	b := builder{entry: &Entry{offset: g.offset}}
	stored, err := b.build(g, r.global, &r.pax)
	if b.entry.Name != "" {
		r.name = b.entry.Name
	} else {
		r.name = g.header().name()
	}
	if err == nil {
		r.w.pass(len(g.bytes))
		r.left, r.pad = stored, padded(stored)-stored
		err = r.sparse(&b)
	}
	if err != nil {
		return nil, fmt.Errorf("%q, byte %d: %w", r.name, g.offset, err)
	}
	r.scan.last = r.name
	return b.entry, nil
}

// Read gives the entry's data as the archive holds it: of a sparse file its segments,
// one behind the other. It is io.EOF at the end of the entry.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	part, err := r.part()
	if err != nil {
		return 0, err
	}
	n := copy(p, part)
	r.w.pass(n)
	r.left -= int64(n)
	return n, nil
}

// WriteTo writes the rest of what Read would give, without a copy (io.WriterTo).
func (r *Reader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		part, err := r.part()
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(part)
		r.w.pass(n)
		r.left -= int64(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// part is what the window has of the entry's data, not empty.
func (r *Reader) part() ([]byte, error) {
	switch {
	case r.left == 0:
		return nil, io.EOF
	case r.err != nil:
		return nil, r.err
	}
	if r.w.pos == r.w.end {
		if err := r.w.fill(1); err != nil {
			if errors.Is(err, errShort) {
				err = r.scan.short(0, fmt.Sprintf("in the data of %q", r.name))
			}
			r.err = err
			return nil, err
		}
	}
	return r.w.buf[r.w.pos:][:min(r.left, int64(r.w.end-r.w.pos))], nil
}

// hasData says whether entries of that type have data. Readers differ about one of
// the others whose size isn't 0.
func hasData(kind byte) bool { return !strings.ContainsRune("123456V", rune(kind)) }
