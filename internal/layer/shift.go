// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Stream copies the archive from src to dst with its IDs translated, and all else byte
// for byte: names, order, formats, the records of pax headers, padding. It keeps no more
// than some MiB in memory, and writes data without a copy. The archive isn't
// compressed; see [Shift.Blob].
//
// Translated are the fields and pax records of owners (both, where an entry has both),
// POSIX ACLs in each of their forms, and file capabilities. An ID that doesn't fit into
// its field goes there in base-256 in GNU's headers, and else into a pax record, with
// a comment by which the way back takes it away again. Not touched are the owners in
// headers about other headers, which own nothing.
//
// To the host and then to the container gives the same bytes as before, but for:
//   - IDs that were squashed, and names that were dropped;
//   - file capabilities of version 1, and of version 3 with rootid 0, which become version 2;
//   - owners that stood in base-256 though octal digits would have done, or in an empty
//     field, or in another form than the mode of the same entry, where a number didn't fit
//     on the way;
//   - numbers and lengths in pax records with zeros before them, and base64 with '=' at its
//     end, where they are changed: neither GNU tar nor bsdtar writes them.
//
// Refused is what [Reader] refuses about headers, as far as IDs or the place of the next
// header depend on it, and beside it anything but zeros behind the archive's end: GNU tar
// ignores it, or with --ignore-zeros reads it, and it wouldn't be shifted. An error names
// the entry and the byte; dst has got a part by then.
func (s *Shift) Stream(dst io.Writer, src io.Reader) error {
	if err := s.Map.Validate(); err != nil {
		return err
	}
	return s.filter(dst, src).run()
}

// filter is one run of Stream.
type filter struct {
	shift *Shift
	w     *window
	scan  scanner
	// global is the owners that hold for all entries from here on, untranslated.
	global  [len(owners)]globalID
	records []record // kept for its memory
}

type globalID struct {
	set bool
	id  uint32
}

// owners are the two IDs that an entry has.
var owners = [2]struct {
	what, key string
	field     field
}{
	{"UID", keyUID, fieldUID},
	{"GID", keyGID, fieldGID},
}

func (s *Shift) filter(dst io.Writer, src io.Reader) *filter {
	w := newWindow(src, dst)
	return &filter{shift: s, w: w, scan: scanner{w: w}}
}

func (f *filter) run() error {
	for {
		g, err := f.scan.next()
		switch {
		case errors.Is(err, io.EOF):
			if err := f.trailer(); err != nil {
				return err
			}
			return f.w.finish()
		case err != nil:
			return err
		case g.global():
			if err := f.globalHeader(g); err != nil {
				return f.scan.failAt(0, "%w", err)
			}
			continue
		}
		if err := f.entry(g); err != nil {
			return err
		}
	}
}

// trailer passes the zeros at the archive's end.
func (f *filter) trailer() error {
	for {
		rest := f.w.buf[f.w.pos:f.w.end]
		for i, b := range rest {
			if b != 0 {
				return f.scan.failAt(i, "data behind the archive's end: expected zeros alone, since it wouldn't be shifted")
			}
		}
		f.w.pass(len(rest))
		if err := f.w.fill(1); errors.Is(err, errShort) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// globalHeader translates what a global pax header says.
func (f *filter) globalHeader(g *group) error {
	m := g.metas[0]
	records, err := parsePax(g.data(m), f.records[:0])
	if err != nil {
		return err
	}
	f.records = records
	if err := checkGlobal(records); err != nil {
		return err
	}
	p := paxEdit{records: records}
	for i, o := range owners {
		if last := p.last(o.key); last >= 0 {
			id, err := parsePaxID(records[last])
			if err != nil {
				return err
			}
			f.global[i] = globalID{true, id}
		}
		if err := p.shiftIDs(f.shift, o.what, o.key); err != nil {
			return err
		}
	}
	if err := p.shiftOthers(f.shift); err != nil {
		return err
	}
	return f.put(g, &m, &p)
}

// entry translates an entry, and passes it with its data.
func (f *filter) entry(g *group) error {
	h := g.header()
	p := paxEdit{records: f.records[:0]}
	defer func() { f.records = p.records }()
	x, hasPax := g.meta(typePax)
	if hasPax {
		var err error
		if p.records, err = parsePax(g.data(x), p.records); err != nil {
			return fmt.Errorf("%q, byte %d: %w", h.name(), g.offset, err)
		}
	}
	name, err := g.entryName(p.records)
	if err != nil {
		return fmt.Errorf("%q, byte %d: %w", h.name(), g.offset, err)
	}
	stored, err := storedSize(h, name, p.records)
	more := h.kind() == typeSparse && h.get(fieldGNUMore)[0] != 0
	if err == nil && h.kind() != TypeVolume {
		err = f.translate(g, &p)
	}
	if err != nil {
		return fmt.Errorf("%q, byte %d: %w", name, g.offset, err)
	}
	at := &x
	if !hasPax {
		at = nil
	}
	if err := f.put(g, at, &p); err != nil {
		return err
	}
	if err := f.passData(stored, more); err != nil {
		if errors.Is(err, errShort) {
			return f.scan.short(int64(f.w.end-f.w.pos), fmt.Sprintf("in the data of %q", name))
		}
		return err
	}
	f.scan.last = name
	return nil
}

// translate changes the IDs of an entry's header in place, and those of its records.
func (f *filter) translate(g *group, p *paxEdit) error {
	h := g.header()
	changed := false
	added := p.takeMarker()
	for i := range owners {
		fieldChanged, err := f.owner(h, p, i, added[i])
		if err != nil {
			return err
		}
		changed = changed || fieldChanged
	}
	p.putMarker()
	if err := p.shiftOthers(f.shift); err != nil {
		return err
	}
	if f.shift.DropNames && (h.posix() || h.gnu()) {
		for _, fl := range []field{fieldUser, fieldGroup} {
			if b := h.get(fl); !zero(b) {
				clear(b)
				changed = true
			}
		}
	}
	if changed {
		h.setSum(g.signed)
	}
	return nil
}

// owner translates one of an entry's two IDs. added says that its record is the filter's
// own.
func (f *filter) owner(h header, p *paxEdit, i int, added bool) (changed bool, err error) {
	o, global := owners[i], f.global[i]
	have, err := h.number(o.what, o.field)
	if err != nil {
		return false, err
	}
	id := uint32(have)
	if last := p.last(o.key); last < 0 {
		if err := checkID(o.what, have); err != nil {
			return false, err
		}
	} else {
		if id, err = parsePaxID(p.records[last]); err != nil {
			return false, err
		}
		if !added || global.set && global.id != id {
			return f.ruled(h, p, i, id)
		}
		p.remove(o.key)
	}
	to, err := f.shift.id(o.what, id)
	switch {
	case err != nil:
		return false, err
	case int64(to) == have:
		return false, nil
	case h.putID(o.field, to):
		return true, nil
	case global.set && global.id != id:
		// Not all readers know global headers: they take the field.
		return false, fmt.Errorf("%s %d in the header, %d in a global pax header, and %d doesn't fit into the field: expected the same in both", o.what, id, global.id, to)
	}
	p.add(o.key, to)
	return false, nil
}

// ruled translates an ID that stands in a record, which rules. The field goes along if it
// says the same, and the new ID fits into it.
func (f *filter) ruled(h header, p *paxEdit, i int, id uint32) (changed bool, err error) {
	o := owners[i]
	if err := p.shiftIDs(f.shift, o.what, o.key); err != nil {
		return false, err
	}
	if have, _ := h.number(o.what, o.field); have != int64(id) {
		return false, nil
	}
	to, err := f.shift.id(o.what, id)
	return err == nil && to != id && h.putID(o.field, to), err
}

// putID writes an ID into its field, and says whether it fits. Numbers that came from
// GNU tar, Go or Python are as those write them, and so are those of a writer that ends
// digits in another way: the mode says in which. Base-256 is left for digits in GNU's
// headers alone: in others it was there before.
func (h header) putID(fl field, id uint32) bool {
	b, n := h.get(fl), int64(id)
	_, old, err := parseNumber(b)
	if err != nil {
		return false
	}
	if old.binary && !h.gnu() {
		return putBinary(b, n)
	}
	_, mode, err := parseNumber(h.get(fieldMode))
	if err != nil || mode.binary || mode.width < 6 {
		mode = grown(len(b))
	}
	if old.pad == 0 {
		old.pad = mode.pad
	}
	whole := grown(len(b))
	own := !old.binary && old.width > 0 && (old.width != whole.width || old.tail != whole.tail)
	return own && old.put(b, n) || mode.put(b, n) || whole.put(b, n) || h.gnu() && putBinary(b, n)
}

// storedSize is the size of an entry's data in the archive.
func storedSize(h header, name string, records []record) (int64, error) {
	stored, err := h.number("size", fieldSize)
	for _, r := range records {
		if err == nil && r.key == keySize {
			stored, err = paxNumber(r)
		}
	}
	if err != nil {
		return 0, err
	}
	return stored, checkStored(h, name, stored)
}

// checkStored refuses a type or a size of which readers would make different things, so
// that they would look for the next header in different places.
func checkStored(h header, name string, stored int64) error {
	kind := h.kind()
	switch {
	case (kind == typeOld || kind == TypeReg || kind == TypeCont) && strings.HasSuffix(name, "/"):
		kind = TypeDir
	case kind == typeSparse && !h.gnu():
		return errors.New("a sparse file of GNU tar in another format's header: expected GNU's")
	}
	switch {
	case stored > maxSize:
		return fmt.Errorf("size %d: expected at most 2^62", stored)
	case !hasData(kind) && stored != 0:
		return fmt.Errorf("an entry of type %q with %d bytes of data: expected none, since readers differ about whether they are there: write the archive anew with GNU tar or bsdtar", kind, stored)
	}
	return nil
}

// passData passes an entry's data, and before it the blocks of GNU's old sparse map, as
// long as each says that there is one more.
func (f *filter) passData(stored int64, more bool) error {
	for more {
		block, err := f.w.peek(blockSize)
		if err != nil {
			return err
		}
		more = block[21*24] != 0
		f.w.pass(blockSize)
	}
	return f.w.passAll(padded(stored))
}

// put passes a group with its header as it was changed in place, and its pax header, if
// there is one at x, as it was edited.
func (f *filter) put(g *group, x *meta, p *paxEdit) error {
	if !p.changed {
		f.w.pass(len(g.bytes))
		return nil
	}
	at, size := len(g.bytes)-blockSize, 0
	var old header
	if x != nil {
		at, size = x.at, x.whole()
		old = header(g.bytes[at:][:blockSize])
	}
	by, err := p.block(old)
	if err != nil {
		return f.scan.failAt(at, "%w", err)
	}
	if len(by) == size {
		copy(g.bytes[at:], by)
		f.w.pass(len(g.bytes))
		return nil
	}
	return f.w.replace(len(g.bytes), g.bytes[:at], by, g.bytes[at+size:])
}
