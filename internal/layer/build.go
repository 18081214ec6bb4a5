// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// builder makes an entry of its headers.
type builder struct {
	entry  *Entry
	stored int64 // size of its data in the archive
	// sparse is what pax records say about a sparse file.
	sparse sparseRecords
	old    bool // GNU's old sparse header, with a part of the map
	block  header
}

// build takes everything from the headers but the map of a sparse file, and gives the
// size of the data.
func (b *builder) build(g *group, global []record, scratch *[]record) (stored int64, err error) {
	b.block = g.header()
	if err := b.fields(); err != nil {
		return 0, err
	}
	local := (*scratch)[:0]
	if m, ok := g.meta(typePax); ok {
		if local, err = parsePax(g.data(m), local); err != nil {
			return 0, err
		}
		*scratch = local
		// It would hide a global comment.
		local = slices.DeleteFunc(local, func(r record) bool { _, ours := parseMarker(r); return ours })
	}
	for _, r := range global {
		if slices.ContainsFunc(local, func(l record) bool { return l.key == r.key }) {
			continue
		}
		if err := b.record(r); err != nil {
			return 0, err
		}
	}
	named, linked := false, false
	for _, r := range local {
		named, linked = named || r.key == keyPath, linked || r.key == keyLinkPath
		if err := b.record(r); err != nil {
			return 0, err
		}
	}
	if err := longText(g, typeName, &b.entry.Name, named); err != nil {
		return 0, err
	}
	if err := longText(g, typeTarget, &b.entry.Link, linked); err != nil {
		return 0, err
	}
	return b.stored, b.finish()
}

// longText takes a text from GNU's header for long ones.
func longText(g *group, kind byte, text *string, hasRecord bool) error {
	m, ok := g.meta(kind)
	if !ok {
		return nil
	}
	data := g.data(m)
	if i := bytes.IndexByte(data, 0); i >= 0 {
		data = data[:i]
	}
	if hasRecord && *text != string(data) {
		return fmt.Errorf("%s: %q, and a pax record says otherwise: expected one of them, since readers differ about which counts", metaName(kind), start(data))
	}
	*text = string(data)
	return nil
}

// fields takes what the header block says.
func (b *builder) fields() (err error) {
	e, h := b.entry, b.block
	number := func(what string, f field) (n int64) {
		if err == nil {
			n, err = h.number(what, f)
		}
		return n
	}
	e.Name, e.Link, e.Type = h.name(), h.text(fieldLink), h.kind()
	e.Mode = uint32(number("mode", fieldMode) & 0o7777)
	uid, gid := number("UID", fieldUID), number("GID", fieldGID)
	b.stored = number("size", fieldSize)
	if e.Type == TypeChar || e.Type == TypeBlock {
		major, minor := number("device major", fieldMajor), number("device minor", fieldMinor)
		if bits.Len64(uint64(major|minor)) > 32 {
			return fmt.Errorf("device %d:%d: expected numbers of 32 bits", major, minor)
		}
		e.Major, e.Minor = uint32(major), uint32(minor)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(checkID("UID", uid), checkID("GID", gid)); err != nil {
		return err
	}
	e.UID, e.GID = uint32(uid), uint32(gid)
	if h.posix() || h.gnu() {
		e.User, e.Group = h.text(fieldUser), h.text(fieldGroup)
	}
	return b.times()
}

func (b *builder) times() error {
	seconds := func(what string, f field, to *time.Time) error {
		n, _, err := parseNumber(b.block.get(f))
		if err != nil {
			return fmt.Errorf("%s in the header: %w", what, err)
		}
		*to, err = unixTime(what, n, 0)
		return err
	}
	if err := seconds("mtime", fieldMTime, &b.entry.ModTime); err != nil {
		return err
	}
	if !b.block.gnu() || b.block.oldGoPrefix() {
		return nil
	}
	for _, of := range []struct {
		what  string
		field field
		to    *time.Time
	}{{"atime", fieldGNUATime, &b.entry.AccessTime}, {"ctime", fieldGNUCTime, &b.entry.ChangeTime}} {
		if b.block.get(of.field)[0] == 0 {
			continue // not among what the writer keeps
		}
		if err := seconds(of.what, of.field, of.to); err != nil {
			return err
		}
	}
	return nil
}

// unixTime is a time within what Go can count with, and more than any filesystem.
func unixTime(what string, seconds, nanoseconds int64) (time.Time, error) {
	if seconds > 1<<56 || seconds < -1<<56 {
		return time.Time{}, fmt.Errorf("%s: %d seconds: expected less than 2^56", what, seconds)
	}
	return time.Unix(seconds, nanoseconds).UTC(), nil
}

// parsePaxTime reads "SECONDS[.FRACTION]", which may be negative. Digits beyond
// nanoseconds are dropped, toward the past.
func parsePaxTime(r record) (time.Time, error) {
	text := string(r.value)
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil && whole != "-" || strings.ContainsFunc(fraction, func(c rune) bool { return c < '0' || c > '9' }) {
		return time.Time{}, fmt.Errorf("pax record %s: %q: expected seconds, with a decimal fraction or without", r.key, start(r.value))
	}
	digits := (fraction + "000000000")[:9]
	nanoseconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("pax record %s: %q: expected seconds, with a decimal fraction or without", r.key, start(r.value))
	}
	if strings.HasPrefix(whole, "-") {
		nanoseconds = -nanoseconds
		if len(fraction) > 9 && strings.Trim(fraction[9:], "0") != "" {
			nanoseconds--
		}
	}
	return unixTime("pax record "+r.key, seconds, nanoseconds)
}

// record takes what one pax record says.
func (b *builder) record(r record) (err error) {
	e := b.entry
	switch r.key {
	case keyPath:
		return paxText(r, &e.Name)
	case keyLinkPath:
		return paxText(r, &e.Link)
	case keyUser:
		return paxText(r, &e.User)
	case keyGroup:
		return paxText(r, &e.Group)
	case keyUID:
		e.UID, err = parsePaxID(r)
	case keyGID:
		e.GID, err = parsePaxID(r)
	case keySize:
		b.stored, err = paxNumber(r)
	case keyMTime:
		e.ModTime, err = parsePaxTime(r)
	case keyATime:
		e.AccessTime, err = parsePaxTime(r)
	case keyCTime:
		e.ChangeTime, err = parsePaxTime(r)
	case keyMajor, keyMinor:
		var n int64
		if n, err = paxNumber(r); err == nil && n >= 1<<32 {
			err = fmt.Errorf("pax record %s: %d: expected a number of 32 bits", r.key, n)
		}
		if r.key == keyMajor {
			e.Major = uint32(n)
		} else {
			e.Minor = uint32(n)
		}
	case keyAccess, keyDefault:
		return b.acl(r)
	case keyNFS4:
		return errNFS4
	case keySELinux:
		return b.xattr(xattrSELinux, r.value)
	case keyCharset: // the Writer's own to say
	default:
		return b.otherRecord(r)
	}
	return err
}

func (b *builder) otherRecord(r record) error {
	if name, value, ok, err := recordXattr(r); ok || err != nil {
		if err != nil {
			return err
		}
		return b.xattr(name, value)
	}
	if key, ok := strings.CutPrefix(r.key, prefixSparse); ok {
		return b.sparse.take(key, r)
	}
	b.entry.Records = append(b.entry.Records, Record{r.key, string(r.value)})
	return nil
}

// paxText takes a text.
func paxText(r record, to *string) error {
	if bytes.IndexByte(r.value, 0) >= 0 {
		return fmt.Errorf("pax record %s: %q has a NUL: expected none", r.key, start(r.value))
	}
	*to = string(r.value)
	return nil
}

func paxNumber(r record) (int64, error) {
	n, err := strconv.ParseUint(string(r.value), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("pax record %s: %q: expected a decimal number from 0 on, of 63 bits", r.key, start(r.value))
	}
	return int64(n), nil
}

// xattrSELinux has a record of its own in archives of GNU tar.
const xattrSELinux = "security.selinux"

// xattrNames and xattrKeys are GNU tar's way to have any name in the key of a record.
var (
	xattrNames = strings.NewReplacer("%3D", "=", "%25", "%")
	xattrKeys  = strings.NewReplacer("=", "%3D", "%", "%25")
)

// recordXattr is the extended attribute that a record holds, if it does: as star and
// GNU tar write it, or with its name and value encoded as bsdtar does.
func recordXattr(r record) (name string, value []byte, ok bool, err error) {
	if name, ok = strings.CutPrefix(r.key, prefixSCHILY); ok {
		return xattrNames.Replace(name), r.value, true, nil
	}
	encoded, ok := strings.CutPrefix(r.key, prefixBSD)
	if !ok {
		return "", nil, false, nil
	}
	if name, err = url.PathUnescape(encoded); err == nil {
		value, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(string(r.value), "="))
	}
	if err != nil {
		return "", nil, false, fmt.Errorf("pax record %s: expected a name with %%XX and a value in base64: %w", r.key, err)
	}
	return name, value, true, nil
}

// xattr adds an extended attribute. Writers give the same one in several records.
func (b *builder) xattr(name string, value []byte) error {
	if name == "" || strings.ContainsRune(name, 0) {
		return fmt.Errorf("extended attribute %q: expected a name", name)
	}
	if name == xattrAccess || name == xattrDefault {
		a, err := parseACL(value)
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
		value = a.binary()
	}
	for _, x := range b.entry.Xattrs {
		if x.Name != name {
			continue
		}
		if name == xattrSELinux { // which GNU tar writes without the NUL at its end
			x.Value, value = bytes.TrimRight(x.Value, "\x00"), bytes.TrimRight(value, "\x00")
		}
		if !bytes.Equal(x.Value, value) {
			return fmt.Errorf("extended attribute %s: two values: expected one, since readers differ about which counts", name)
		}
		return nil
	}
	b.entry.Xattrs = append(b.entry.Xattrs, Xattr{name, bytes.Clone(value)})
	return nil
}

// acl takes an ACL in its text form.
func (b *builder) acl(r record) error {
	if len(r.value) == 0 {
		return nil
	}
	acl, err := parseACLText(string(r.value))
	if err != nil {
		return fmt.Errorf("pax record %s: %w", r.key, err)
	}
	name := xattrAccess
	if r.key == keyDefault {
		name = xattrDefault
	} else if acl.minimal(b.entry.Mode) {
		return nil
	}
	return b.xattr(name, acl.binary())
}

// finish judges the whole.
func (b *builder) finish() error {
	e := b.entry
	if e.Type == typeOld {
		e.Type = TypeReg
	}
	if b.sparse.name != "" {
		e.Name = b.sparse.name
	}
	if e.Type == typeSparse {
		e.Type, b.old = TypeReg, true
	}
	if (e.Type == TypeReg || e.Type == TypeCont) && strings.HasSuffix(e.Name, "/") {
		e.Type = TypeDir
	}
	switch {
	case e.Name == "" && e.Type != TypeVolume:
		return errors.New("an entry without a name: expected one")
	case e.Link == "" && (e.Type == TypeLink || e.Type == TypeSymlink):
		return errors.New("a link without a target: expected one")
	case (b.old || b.sparse.any()) && e.Type != TypeReg:
		return fmt.Errorf("a sparse file that is an entry of type %q: expected a regular file", e.Type)
	case b.old && b.sparse.any():
		return errors.New("a sparse file with two maps: expected one")
	}
	e.Size = b.stored
	return checkStored(b.block, e.Name, b.stored)
}
