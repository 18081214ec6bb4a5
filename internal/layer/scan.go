// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io"
)

// Limits of what is kept in memory, in bytes.
const (
	maxMeta = 1 << 20 // of one pax header or long name, and of the map of a sparse file
	maxSize = 1 << 62 // of an entry, so that sums of sizes are 63 bits
)

// meta is a header that says more about the entry behind it, with its data.
type meta struct {
	kind     byte
	at, size int // of its header in the group, and of its data
}

// group is an entry's header with those before it that belong to it, or a global
// pax header alone. The bytes are the window's, from its position on.
type group struct {
	bytes  []byte
	metas  []meta // each kind once
	offset int64  // of bytes in the archive
	signed bool   // the entry's header has the old sum
}

func (m meta) whole() int { return blockSize + int(padded(int64(m.size))) }

func (g *group) header() header { return header(g.bytes[len(g.bytes)-blockSize:]) }

// meta is the header of that kind, if there is one.
func (g *group) meta(kind byte) (m meta, ok bool) {
	for _, m := range g.metas {
		if m.kind == kind {
			return m, true
		}
	}
	return meta{}, false
}

// data is what a meta header holds.
func (g *group) data(m meta) []byte { return g.bytes[m.at+blockSize:][:m.size] }

// global says whether the group is a global pax header.
func (g *group) global() bool { return len(g.metas) == 1 && g.metas[0].kind == typeGlobal }

// entryName is the name of the entry, whose pax header has those records.
func (g *group) entryName(records []record) (string, error) {
	name, ruled := g.header().name(), false
	for _, r := range records {
		if r.key != keyPath {
			continue
		}
		if err := paxText(r, &name); err != nil {
			return "", err
		}
		ruled = true
	}
	return name, longText(g, typeName, &name, ruled)
}

// scanner finds the headers of an archive.
type scanner struct {
	w     *window
	group group
	last  string // name of the entry before, for errors
}

// next finds the next group, from the window's position on, and doesn't pass it.
// The end of the archive is io.EOF, with the window at the first block of zeros.
func (s *scanner) next() (*group, error) {
	g := &s.group
	*g = group{metas: g.metas[:0], offset: s.w.offset}
	at := 0
	for {
		block, err := s.peek(at + blockSize)
		if err != nil {
			return nil, err
		}
		h := header(block[at:])
		if zero(h) {
			if at > 0 {
				return nil, s.failAt(at, "a block of zeros, the archive's end: expected the entry that the headers before it are about")
			}
			return nil, io.EOF
		}
		if g.signed, err = h.checkSum(); err != nil {
			return nil, s.failAt(at, "%w", err)
		}
		kind := h.kind()
		switch kind {
		case typePax, typeGlobal, typeName, typeTarget:
		case typeOld, TypeReg, TypeLink, TypeSymlink, TypeChar, TypeBlock, TypeDir, TypeFifo, TypeCont,
			typeSparse, TypeDumpDir, TypeMulti, TypeVolume:
			g.bytes = block
			return g, nil
		default:
			return nil, s.failAt(at, "%q is an entry of type %q: expected one of POSIX or GNU tar", h.name(), kind)
		}
		m := meta{kind: kind, at: at}
		if m.size, err = metaSize(h); err != nil {
			return nil, s.failAt(at, "%w", err)
		}
		if _, twice := g.meta(kind); twice {
			return nil, s.failAt(at, "a second %s before one entry: expected one, since readers differ about which counts", metaName(kind))
		}
		if kind == typeGlobal && at > 0 {
			return nil, s.failAt(at, "a %s between an entry and a header about it: expected it before them", metaName(kind))
		}
		g.metas = append(g.metas, m)
		at += m.whole()
		if block, err = s.peek(at); err != nil {
			return nil, err
		}
		if kind == typeGlobal {
			g.bytes = block
			return g, nil
		}
	}
}

// metaSize is the size of a meta header's data.
func metaSize(h header) (int, error) {
	n, err := h.number("size", fieldSize)
	if err == nil && n > maxMeta {
		err = fmt.Errorf("%d bytes: expected at most %d", n, maxMeta)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", metaName(h.kind()), err)
	}
	return int(n), nil
}

func metaName(kind byte) string {
	switch kind {
	case typePax:
		return "pax header"
	case typeGlobal:
		return "global pax header"
	case typeName:
		return "header of a long name"
	}
	return "header of a long link target"
}

// peek is the window's, with its end as an error that says where it is.
func (s *scanner) peek(n int) ([]byte, error) {
	b, err := s.w.peek(n)
	if errors.Is(err, errShort) {
		return nil, s.short(int64(len(b)), "in a header")
	}
	return b, err
}

// short is the error of an archive that ends n bytes behind the window's position.
func (s *scanner) short(n int64, where string) error {
	at := s.w.offset + n
	switch {
	case at == 0:
		return errors.New("no byte at all: expected a tar archive, of which an empty one has two blocks of zeros")
	case n == 0 && where == "in a header":
		return fmt.Errorf("byte %d: the archive ends%s without blocks of zeros: it is truncated, or its writer didn't close it", at, s.behind())
	}
	return fmt.Errorf("byte %d: the archive ends %s%s: it is truncated", at, where, s.behind())
}

// failAt is an error about the byte that is n behind the window's position.
func (s *scanner) failAt(n int, format string, args ...any) error {
	return fmt.Errorf("byte %d%s: %w", s.w.offset+int64(n), s.behind(), fmt.Errorf(format, args...))
}

func (s *scanner) behind() string {
	if s.last == "" {
		return ""
	}
	return fmt.Sprintf(" behind %q", s.last)
}
