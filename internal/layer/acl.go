// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Extended attributes that hold POSIX ACLs (acl(5)).
const (
	xattrAccess  = "system.posix_acl_access"
	xattrDefault = "system.posix_acl_default"
)

// Kinds of entries, and sizes in bytes, of an ACL in the kernel's form (struct
// posix_acl_xattr_header and posix_acl_xattr_entry of linux/posix_acl_xattr.h).
const (
	aclUserObj  uint16 = 0x01
	aclUser     uint16 = 0x02
	aclGroupObj uint16 = 0x04
	aclGroup    uint16 = 0x08
	aclMask     uint16 = 0x10
	aclOther    uint16 = 0x20

	aclVersion    = 2
	aclHeaderSize = 4
	aclEntrySize  = 8
)

var errNFS4 = errors.New("pax record " + keyNFS4 + ": an NFSv4 ACL: expected none, since Linux can't set it and its names can't be shifted")

// acl is a POSIX ACL.
type acl []aclEntry

type aclEntry struct {
	tag, perm uint16
	id        uint32 // of aclUser and aclGroup; idmap.Invalid else
}

// named says whether the entry is about somebody by ID.
func (e aclEntry) named() bool { return e.tag == aclUser || e.tag == aclGroup }

// what is what the entry's ID is.
func (e aclEntry) what() string {
	if e.tag == aclUser {
		return "UID"
	}
	return "GID"
}

// parseACL reads the kernel's form, and so that the same ACL is the same: kinds in the
// kernel's order, and no ID where it has no meaning.
func parseACL(value []byte) (acl, error) {
	if len(value) < aclHeaderSize || (len(value)-aclHeaderSize)%aclEntrySize != 0 {
		return nil, fmt.Errorf("an ACL of %d bytes: expected %d, and %d for each entry", len(value), aclHeaderSize, aclEntrySize)
	}
	if v := binary.LittleEndian.Uint32(value); v != aclVersion {
		return nil, fmt.Errorf("an ACL of version %d: expected %d", v, aclVersion)
	}
	var a acl
	for rest := value[aclHeaderSize:]; len(rest) > 0; rest = rest[aclEntrySize:] {
		e := aclEntry{binary.LittleEndian.Uint16(rest), binary.LittleEndian.Uint16(rest[2:]), binary.LittleEndian.Uint32(rest[4:])}
		if _, known := aclTags[e.tag]; !known {
			return nil, fmt.Errorf("an ACL with an entry of kind %#x: expected those of acl(5)", e.tag)
		}
		if e.perm > 7 {
			return nil, fmt.Errorf("an ACL with permissions %#o: expected three bits", e.perm)
		}
		if e.named() {
			if err := checkID(e.what(), int64(e.id)); err != nil {
				return nil, fmt.Errorf("an ACL: %w", err)
			}
		} else {
			e.id = idmap.Invalid
		}
		a = append(a, e)
	}
	return a.sorted(), nil
}

// sorted puts the kinds into the kernel's order, and leaves that within each.
func (a acl) sorted() acl {
	slices.SortStableFunc(a, func(x, y aclEntry) int { return cmp.Compare(x.tag, y.tag) })
	return a
}

// binary is the kernel's form.
func (a acl) binary() []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// aclTags are the words of the text form (acl_from_text(3)).
var aclTags = map[uint16]string{
	aclUserObj: "user", aclUser: "user", aclGroupObj: "group", aclGroup: "group", aclMask: "mask", aclOther: "other",
}

// text is the form that GNU tar and bsdtar read, with numbers.
func (a acl) text() string {
	var items []string
	for _, e := range a {
		who := ""
		if e.named() {
			who = strconv.FormatUint(uint64(e.id), 10)
		}
		perm := []byte("---")
		for i := range perm {
			if e.perm&(4>>i) != 0 {
				perm[i] = "rwx"[i]
			}
		}
		items = append(items, aclTags[e.tag]+":"+who+":"+string(perm))
	}
	return strings.Join(items, ",")
}

// minimal says whether an access ACL is what the mode says too.
func (a acl) minimal(mode uint32) bool {
	want := acl{
		{aclUserObj, uint16(mode >> 6 & 7), idmap.Invalid},
		{aclGroupObj, uint16(mode >> 3 & 7), idmap.Invalid},
		{aclOther, uint16(mode & 7), idmap.Invalid},
	}
	return slices.Equal(a, want)
}

// aclItem is one entry of an ACL's text: KIND:WHO:PERMISSIONS[:ID]. GNU tar has names
// where the host knew one, and no ID behind them; star and bsdtar put it there.
type aclItem struct {
	aclEntry
	fields []string
	idAt   int // of fields
}

func parseACLItem(text string) (aclItem, error) {
	it := aclItem{aclEntry: aclEntry{id: idmap.Invalid}, fields: strings.Split(text, ":")}
	if len(it.fields) < 3 || len(it.fields) > 4 || len(it.fields[2]) != 3 {
		return it, fmt.Errorf("ACL entry %q: expected KIND:WHO:rwx", text)
	}
	who := it.fields[1]
	switch it.fields[0] {
	case "user", "u":
		it.tag = aclUserObj
		if who != "" {
			it.tag = aclUser
		}
	case "group", "g":
		it.tag = aclGroupObj
		if who != "" {
			it.tag = aclGroup
		}
	case "mask", "m":
		it.tag = aclMask
	case "other", "o":
		it.tag = aclOther
	}
	if it.tag == 0 || !it.named() && (who != "" || len(it.fields) == 4) {
		return it, fmt.Errorf("ACL entry %q: expected user, group, mask or other, and a name for the first two alone", text)
	}
	for i, c := range []byte(it.fields[2]) {
		switch c {
		case "rwx"[i]:
			it.perm |= 4 >> i
		case '-':
		default:
			return it, fmt.Errorf("ACL entry %q: permissions %q: expected some of rwx, each in its place or '-'", text, it.fields[2])
		}
	}
	if !it.named() {
		return it, nil
	}
	it.idAt = len(it.fields) - 1
	if it.idAt == 2 {
		it.idAt = 1
	}
	id, err := strconv.ParseUint(it.fields[it.idAt], 10, 32)
	if err != nil && it.idAt == 1 {
		return it, fmt.Errorf("ACL entry %q: a name without its ID: expected a number, since whose name it is can't be told: "+
			"write the archive anew with bsdtar, or with --xattrs-include=system.posix_acl_* instead of --acls", text)
	}
	if err != nil {
		return it, fmt.Errorf("ACL entry %q: expected an ID of 32 bits at its end", text)
	}
	it.id = uint32(id)
	if it.idAt == 3 && strings.Trim(who, "0123456789") == "" && who != it.fields[3] {
		return it, fmt.Errorf("ACL entry %q: two IDs: expected one", text)
	}
	return it, checkID(it.what(), int64(id))
}

// isACLSeparator is between two entries: GNU tar has newlines, bsdtar and star commas.
func isACLSeparator(c rune) bool { return c == ',' || c == '\n' }

// parseACLText reads the text form. The entries are in the kernel's order.
func parseACLText(text string) (acl, error) {
	var a acl
	for item := range strings.FieldsFuncSeq(text, isACLSeparator) {
		it, err := parseACLItem(item)
		if err != nil {
			return nil, err
		}
		a = append(a, it.aclEntry)
	}
	return a.sorted(), nil
}

// shiftACL translates the IDs of an ACL in the kernel's form, and changes nothing else.
func (s *Shift) shiftACL(value []byte) ([]byte, error) {
	if _, err := parseACL(value); err != nil {
		return nil, err
	}
	out := slices.Clone(value)
	for rest := out[aclHeaderSize:]; len(rest) > 0; rest = rest[aclEntrySize:] {
		e := aclEntry{tag: binary.LittleEndian.Uint16(rest), id: binary.LittleEndian.Uint32(rest[4:])}
		if !e.named() {
			continue
		}
		id, err := s.id(e.what()+" of an ACL", e.id)
		if err != nil {
			return nil, err
		}
		binary.LittleEndian.PutUint32(rest[4:], id)
	}
	return out, nil
}

// shiftACLText translates the IDs of an ACL in the text form, and changes nothing else
// but, where names are dropped, those that stand before an ID.
func (s *Shift) shiftACLText(text string) (string, error) {
	var out strings.Builder
	for len(text) > 0 {
		n := strings.IndexFunc(text, isACLSeparator)
		if n == 0 {
			out.WriteByte(text[0])
			text = text[1:]
			continue
		}
		if n < 0 {
			n = len(text)
		}
		it, err := parseACLItem(text[:n])
		if err != nil {
			return "", err
		}
		if it.named() {
			id, err := s.id(it.what()+" of an ACL", it.id)
			if err != nil {
				return "", err
			}
			number := strconv.FormatUint(uint64(id), 10)
			if it.idAt == 3 && (s.DropNames || it.fields[1] == it.fields[3]) {
				it.fields[1] = number
			}
			if id != it.id {
				it.fields[it.idAt] = number
			}
		}
		out.WriteString(strings.Join(it.fields, ":"))
		text = text[n:]
	}
	return out.String(), nil
}
