// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"
)

// digestBlock is how much of a file is looked at together, in bytes: of zeros alone it
// is a hole, whether it is written or not.
const digestBlock = 64 << 10

// Optional fields, which a directory hasn't, and many archives neither. They are compared
// if both sides have some of them.
const (
	optNames = iota
	optAccess
	optRecords
	optCount
)

// imprint is the fingerprint of an entry. Its hashes are short, and keyed by what nobody
// knows beforehand.
type imprint struct {
	name key
	core key // of a hard link: of the name that it links to
	opt  [optCount]uint32
}

// imprinter makes fingerprints that can be compared with each other.
type imprinter struct {
	secret [16]byte
	sum    hash.Hash
	block  []byte
	text   []byte
}

func newImprinter() *imprinter {
	p := &imprinter{sum: sha256.New(), block: make([]byte, digestBlock)}
	_, _ = rand.Read(p.secret[:]) // it doesn't fail (crypto/rand)
	return p
}

// key is the hash of some fields; kind keeps those of one kind from those of another.
func (p *imprinter) key(kind byte, fields ...string) key {
	p.text = append(append(p.text[:0], p.secret[:]...), kind)
	for _, f := range fields {
		p.text = binary.LittleEndian.AppendUint32(p.text, uint32(len(f)))
		p.text = append(p.text, f...)
	}
	sum := sha256.Sum256(p.text)
	return key(binary.LittleEndian.Uint64(sum[:]))
}

func (p *imprinter) name(clean string) key { return p.key('n', clean) }

// imprint is that of an entry, whose clean path is name and whose content is data.
func (p *imprinter) imprint(e *Entry, name string, data io.Reader) (imprint, [sha256.Size]byte, error) {
	content, err := p.content(e, data)
	if err != nil {
		return imprint{}, content, err
	}
	fields := make([]string, 0, 16)
	for _, f := range coreFacts {
		fields = append(fields, f.of(e))
	}
	fields = append(fields, string(content[:]))
	out := imprint{name: p.name(name), core: p.key('e', fields...)}
	if isOpaqueMarker(name) {
		out.core = p.key('o')
	}
	for i, f := range optFacts {
		if text := f.of(e); text != "" {
			out.opt[i] = uint32(p.key('f', text)) | 1 // 0 is for none
		}
	}
	return out, content, nil
}

// isOpaqueMarker says of a clean path whether it is that of a file by which a directory is
// opaque. Overlay keeps that as an attribute, so that the file's owner, mode and time
// say nothing.
func isOpaqueMarker(name string) bool {
	_, base := split(name)
	return base == opaqueMarker
}

// content is the digest of a file's bytes, of which the zeros count whether they are
// stored or not.
func (p *imprinter) content(e *Entry, data io.Reader) (digest [sha256.Size]byte, err error) {
	p.sum.Reset()
	segments := e.Data
	if segments == nil && e.Size > 0 {
		segments = []Segment{{0, e.Size}}
	}
	at, filled := int64(-1), 0 // the block that is being filled, and how far
	for _, s := range segments {
		for from, end := s.Offset, s.Offset+s.Length; from < end; {
			if start := from - from%digestBlock; start != at {
				p.sumBlock(at, filled)
				at, filled = start, 0
			}
			// What lies between two segments of a block is a hole.
			to := int(min(end-at, digestBlock))
			clear(p.block[filled : from-at])
			if _, err := io.ReadFull(data, p.block[from-at:to]); err != nil {
				return digest, err
			}
			from, filled = at+int64(to), to
		}
	}
	p.sumBlock(at, filled)
	p.sum.Sum(digest[:0])
	return digest, nil
}

// sumBlock adds a block, but for the zeros at its end.
func (p *imprinter) sumBlock(at int64, filled int) {
	block := p.block[:filled]
	for len(block) > 0 && block[len(block)-1] == 0 {
		block = block[:len(block)-1]
	}
	if len(block) == 0 {
		return
	}
	var head [16]byte
	binary.LittleEndian.PutUint64(head[:], uint64(at))
	binary.LittleEndian.PutUint64(head[8:], uint64(len(block)))
	_, _ = p.sum.Write(head[:]) // it doesn't fail (hash.Hash)
	_, _ = p.sum.Write(block)
}

// fact is what is compared of an entry.
type fact struct {
	name string
	of   func(e *Entry) string
}

// coreFacts are all that a file has by itself, but for its content.
var coreFacts = []fact{
	{"type", func(e *Entry) string {
		if e.Type == TypeCont { // on disk it is the same
			return string(TypeReg)
		}
		return string(e.Type)
	}},
	{"mode", func(e *Entry) string { return fmt.Sprintf("%04o", e.Mode) }},
	{"UID", func(e *Entry) string { return fmt.Sprint(e.UID) }},
	{"GID", func(e *Entry) string { return fmt.Sprint(e.GID) }},
	{"size", func(e *Entry) string { return fmt.Sprint(e.Size) }},
	{"mtime", func(e *Entry) string { return stamp(e.ModTime) }},
	{"link", func(e *Entry) string { return e.Link }},
	{"device", func(e *Entry) string {
		if e.Type != TypeChar && e.Type != TypeBlock {
			return ""
		}
		return fmt.Sprint(e.Major) + ":" + fmt.Sprint(e.Minor)
	}},
	{"extended attributes", func(e *Entry) string {
		var text strings.Builder
		for _, x := range compared(e.Xattrs) {
			text.WriteString(x.Name + "=" + hex.EncodeToString(x.Value) + " ")
		}
		return strings.TrimSuffix(text.String(), " ")
	}},
}

var optFacts = [optCount]fact{
	optNames: {"names of owner and group", func(e *Entry) string {
		if e.User == "" && e.Group == "" {
			return ""
		}
		return e.User + ":" + e.Group
	}},
	optAccess: {"atime", func(e *Entry) string {
		if e.AccessTime.IsZero() {
			return ""
		}
		return stamp(e.AccessTime)
	}},
	optRecords: {"other pax records", func(e *Entry) string {
		var text strings.Builder
		for _, r := range e.Records {
			text.WriteString(r.Key + "=" + r.Value + "\n")
		}
		return text.String()
	}},
}

// minimalACL is the length in bytes of an access ACL that says what the mode does: owner,
// group and others, of eight bytes each, behind four (acl(5)). The kernel doesn't keep it.
const minimalACL = 4 + 3*8

// compared is attributes by their names, without those that say nothing.
func compared(all []Xattr) []Xattr {
	kept := slices.DeleteFunc(slices.Clone(all), func(x Xattr) bool { return x.Name == xattrAccess && len(x.Value) == minimalACL })
	slices.SortFunc(kept, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return kept
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.999999999Z")
}
