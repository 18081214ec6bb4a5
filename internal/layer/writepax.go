// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setName writes a name into the header, and says whether it fits. Where it doesn't,
// its beginning is there.
func (h header) setName(name string) bool {
	limit, prefix := fieldName.to-fieldName.from, fieldPrefix.to-fieldPrefix.from
	if len(name) <= limit {
		copy(h.get(fieldName), name)
		return true
	}
	// The slash between the two isn't written, so that neither may be empty.
	i := strings.LastIndexByte(name[:min(len(name)-1, prefix+1)], '/')
	if i <= 0 || len(name)-i-1 > limit {
		copy(h.get(fieldName), name)
		return false
	}
	copy(h.get(fieldPrefix), name[:i])
	copy(h.get(fieldName), name[i+1:])
	return true
}

// sideName is a name that fits into a header, for readers that don't know what rules
// over it: beside the entry's, if that isn't too long.
func sideName(name, dir string) string {
	side := path.Join(path.Dir(name), dir, path.Base(name))
	if len(side) > fieldName.to-fieldName.from {
		side = path.Join(dir, path.Base(name))
	}
	return side[:min(len(side), fieldName.to-fieldName.from)]
}

// fieldSeconds is a time as it stands in a header's field, and whether that is all of
// it.
func fieldSeconds(t time.Time) (seconds int64, exact bool) {
	if t.IsZero() {
		return 0, true
	}
	seconds = min(max(t.Unix(), 0), maxOctal(fieldMTime))
	return seconds, seconds == t.Unix() && t.Nanosecond() == 0
}

// paxTime is a time as it stands in a pax record, in seconds with a fraction.
func paxTime(t time.Time) string {
	seconds, nanoseconds, sign := t.Unix(), int64(t.Nanosecond()), ""
	if seconds < 0 {
		// Nanoseconds count upward from the second, and a fraction away from zero.
		sign, seconds = "-", -seconds
		if nanoseconds > 0 {
			seconds, nanoseconds = seconds-1, 1e9-nanoseconds
		}
	}
	text := sign + strconv.FormatInt(seconds, 10)
	if nanoseconds == 0 {
		return text
	}
	return text + "." + strings.TrimRight(fmt.Sprintf("%09d", nanoseconds), "0")
}

// isText says whether a record's value is text, whose encoding counts.
func isText(key string) bool {
	switch key {
	case keyPath, keyLinkPath, keyUser, keyGroup, prefixSparse + "name":
		return true
	}
	return false
}

// moreRecords are the records for what has no place in a header. ACLs are written twice:
// GNU tar and bsdtar read their text, and container engines the attribute.
func moreRecords(e *Entry) (records []record, err error) {
	add := func(key string, value []byte) { records = append(records, makeRecord(key, value)) }
	if !e.AccessTime.IsZero() {
		add(keyATime, []byte(paxTime(e.AccessTime)))
	}
	if !e.ChangeTime.IsZero() {
		add(keyCTime, []byte(paxTime(e.ChangeTime)))
	}
	for i, x := range e.Xattrs {
		same := func(o Xattr) bool { return o.Name == x.Name }
		if x.Name == "" || strings.ContainsRune(x.Name, 0) || slices.ContainsFunc(e.Xattrs[:i], same) {
			return nil, fmt.Errorf("extended attribute %q: expected a name that isn't empty, has no NUL, and isn't there twice", x.Name)
		}
		if x.Name == xattrAccess || x.Name == xattrDefault {
			a, err := parseACL(x.Value)
			if err != nil {
				return nil, fmt.Errorf("extended attribute %s: %w", x.Name, err)
			}
			key := keyAccess
			if x.Name == xattrDefault {
				key = keyDefault
			}
			add(key, []byte(a.text()))
		}
		add(prefixSCHILY+xattrKeys.Replace(x.Name), x.Value)
	}
	for _, r := range e.Records {
		if r.Key == "" || strings.ContainsAny(r.Key, "=\x00") || known(r.Key) {
			return nil, fmt.Errorf("pax record %q: expected a key without '=' and NUL, that isn't about what an entry has a place for", r.Key)
		}
		add(r.Key, []byte(r.Value))
	}
	return records, nil
}

// known says whether a record is about what an Entry has a place for.
func known(key string) bool {
	switch key {
	case keyUID, keyGID, keySize, keyMTime, keyATime, keyCTime, keyMajor, keyMinor, keyAccess, keyDefault, keyNFS4, keySELinux, keyCharset:
		return true
	}
	return isText(key) || strings.HasPrefix(key, prefixSCHILY) || strings.HasPrefix(key, prefixBSD) || strings.HasPrefix(key, prefixSparse)
}

// paxHeader is a pax header with those records, in whole blocks.
func paxHeader(name string, seconds int64, records []record) ([]byte, error) {
	size := 0
	for _, r := range records {
		size += len(r.raw)
	}
	if size > maxMeta {
		return nil, fmt.Errorf("pax header: %d bytes: expected at most %d", size, maxMeta)
	}
	out := make([]byte, blockSize, blockSize+int(padded(int64(size))))
	h := header(out)
	copy(h.get(fieldMagic), "ustar\x0000")
	h[fieldType.from] = typePax
	copy(h.get(fieldName), name)
	for _, of := range []struct {
		field field
		n     int64
	}{{fieldMode, 0o644}, {fieldUID, 0}, {fieldGID, 0}, {fieldSize, int64(size)}, {fieldMTime, seconds}, {fieldMajor, 0}, {fieldMinor, 0}} {
		grown(of.field.to-of.field.from).put(h.get(of.field), of.n)
	}
	h.setSum(false)
	for _, r := range records {
		out = append(out, r.raw...)
	}
	return out[:cap(out)], nil
}
