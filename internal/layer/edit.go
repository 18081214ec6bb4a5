// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// paxEdit is the records of a pax header while they are translated.
type paxEdit struct {
	records []record
	changed bool
	added   []string // keys of records that it adds now
}

// last is the place of the record of that key that counts, -1 if there is none.
func (p *paxEdit) last(key string) int {
	for i := len(p.records) - 1; i >= 0; i-- {
		if p.records[i].key == key {
			return i
		}
	}
	return -1
}

func (p *paxEdit) set(i int, value []byte) {
	if bytes.Equal(p.records[i].value, value) {
		return
	}
	p.records[i] = makeRecord(p.records[i].key, value)
	p.changed = true
}

func (p *paxEdit) remove(key string) {
	n := len(p.records)
	p.records = slices.DeleteFunc(p.records, func(r record) bool { return r.key == key })
	p.changed = p.changed || len(p.records) != n
}

// add adds the record of an ID that doesn't fit into the header.
func (p *paxEdit) add(key string, id uint32) {
	p.records = append(p.records, makeRecord(key, strconv.AppendUint(nil, uint64(id), 10)))
	p.added = append(p.added, key)
	p.changed = true
}

// takeMarker takes away the filter's own comment, and says which records, of owners, it
// is about. One without them is nobody's work but a forger's, and means nothing.
func (p *paxEdit) takeMarker() (added [len(owners)]bool) {
	for i, r := range p.records {
		keys, ok := parseMarker(r)
		if !ok {
			continue
		}
		for j, o := range owners {
			added[j] = slices.Contains(keys, o.key)
		}
		p.records = slices.Delete(p.records, i, i+1)
		p.changed = true
		break
	}
	return added
}

// putMarker adds the comment about what was added.
func (p *paxEdit) putMarker() {
	if len(p.added) > 0 {
		p.records = append(p.records, marker(p.added...))
	}
}

// shiftIDs translates all records of that owner, of which the last counts.
func (p *paxEdit) shiftIDs(s *Shift, what, key string) error {
	for i, r := range p.records {
		if r.key != key {
			continue
		}
		id, err := parsePaxID(r)
		if err != nil {
			return err
		}
		to, err := s.id(what, id)
		if err != nil {
			return err
		}
		if to != id {
			p.set(i, strconv.AppendUint(nil, uint64(to), 10))
		}
	}
	return nil
}

// shiftOthers translates ACLs and file capabilities, and drops names.
func (p *paxEdit) shiftOthers(s *Shift) error {
	if s.DropNames {
		p.remove(keyUser)
		p.remove(keyGroup)
	}
	for i, r := range p.records {
		switch {
		case r.key == keyAccess, r.key == keyDefault:
			text, err := s.shiftACLText(string(r.value))
			if err != nil {
				return fmt.Errorf("pax record %s: %w", r.key, err)
			}
			p.set(i, []byte(text))
		case r.key == keyNFS4:
			return errNFS4
		case strings.HasPrefix(r.key, prefixSCHILY), strings.HasPrefix(r.key, prefixBSD):
			name, value, _, err := recordXattr(r)
			if err != nil {
				return err
			}
			to, err := s.xattr(name, value)
			if err != nil {
				return err
			}
			if !bytes.Equal(to, value) {
				p.set(i, encodeXattr(r, to))
			}
		}
	}
	return nil
}

// encodeXattr is another value in the encoding of the record.
func encodeXattr(r record, value []byte) []byte {
	switch {
	case strings.HasPrefix(r.key, prefixSCHILY):
		return value
	case bytes.HasSuffix(r.value, []byte("=")):
		return base64.StdEncoding.AppendEncode(nil, value)
	}
	return base64.RawStdEncoding.AppendEncode(nil, value)
}

// block is the pax header with its records as they are now, in whole blocks: none where
// there are no records. old is the header that was there, nil for none; all that it says
// but the size stays.
func (p *paxEdit) block(old header) ([]byte, error) {
	if len(p.records) == 0 {
		return nil, nil
	}
	out, err := paxHeader("PaxHeaders/userns-runtime", 0, p.records)
	if err != nil || old == nil {
		return out, err
	}
	size := 0
	for _, r := range p.records {
		size += len(r.raw)
	}
	h := header(out[:blockSize])
	signed, err := old.checkSum()
	if err != nil {
		return nil, err
	}
	copy(h, old)
	_, f, err := parseNumber(h.get(fieldSize))
	if err != nil || !f.put(h.get(fieldSize), int64(size)) {
		grown(fieldSize.to-fieldSize.from).put(h.get(fieldSize), int64(size))
	}
	h.setSum(signed)
	return out, nil
}
