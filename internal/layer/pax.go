// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Keys of pax records that mean something here (POSIX.1-2017, pax, "pax Extended
// Header Keywords"; tar(5) of libarchive; GNU tar's manual, "Storing Sparse Files").
const (
	keyPath      = "path"
	keyLinkPath  = "linkpath"
	keySize      = "size"
	keyUID       = "uid"
	keyGID       = "gid"
	keyUser      = "uname"
	keyGroup     = "gname"
	keyMTime     = "mtime"
	keyATime     = "atime"
	keyCTime     = "ctime"
	keyMajor     = "SCHILY.devmajor"
	keyMinor     = "SCHILY.devminor"
	keyAccess    = "SCHILY.acl.access"
	keyDefault   = "SCHILY.acl.default"
	keyNFS4      = "SCHILY.acl.ace"
	keySELinux   = "RHT.security.selinux"
	keyComment   = "comment"
	keyCharset   = "hdrcharset"
	prefixSCHILY = "SCHILY.xattr."
	prefixBSD    = "LIBARCHIVE.xattr."
	prefixSparse = "GNU.sparse."
)

// record is a record of a pax header as it stands there.
type record struct {
	key   string
	value []byte
	raw   []byte // with length and newline
}

// parsePax takes a pax header's data apart. The parts are of data itself.
func parsePax(data []byte, into []record) ([]record, error) {
	rest := data
	for len(rest) > 0 {
		digits := bytes.IndexByte(rest, ' ')
		if digits < 1 || digits > 7 {
			return nil, fmt.Errorf("pax record %q: expected LENGTH KEY=VALUE", start(rest))
		}
		n, err := strconv.ParseUint(string(rest[:digits]), 10, 31)
		if err != nil || n > uint64(len(rest)) || int(n) < digits+len(" k=\n") {
			return nil, fmt.Errorf("pax record %q: its length is %q: expected that of the record, with %d bytes left", start(rest), rest[:digits], len(rest))
		}
		raw := rest[:n:n]
		rest = rest[n:]
		key, value, ok := bytes.Cut(raw[digits+1:n-1], []byte{'='})
		switch {
		case raw[n-1] != '\n':
			return nil, fmt.Errorf("pax record %q: ends with %q: expected a newline", start(raw), raw[n-1])
		case !ok || len(key) == 0:
			return nil, fmt.Errorf("pax record %q: expected KEY=VALUE", start(raw))
		case bytes.IndexByte(key, 0) >= 0:
			return nil, fmt.Errorf("pax record %q: a NUL in its key: expected none", start(raw))
		}
		into = append(into, record{string(key), value, raw})
	}
	return into, nil
}

// start is the beginning of something that goes into an error.
func start(b []byte) []byte { return b[:min(len(b), 60)] }

// makeRecord is the record of that key and value.
func makeRecord(key string, value []byte) record {
	// The length counts its own digits.
	n := len(key) + len(value) + len(" =\n")
	size := n + len(strconv.Itoa(n))
	if size = n + len(strconv.Itoa(size)); len(strconv.Itoa(size)) != size-n {
		size = n + len(strconv.Itoa(size))
	}
	raw := make([]byte, 0, size)
	raw = strconv.AppendInt(raw, int64(size), 10)
	raw = append(raw, ' ')
	raw = append(raw, key...)
	raw = append(raw, '=')
	raw = append(raw, value...)
	raw = append(raw, '\n')
	return record{key, raw[len(raw)-1-len(value) : len(raw)-1], raw}
}

// parsePaxID reads the value of a uid or gid record.
func parsePaxID(r record) (uint32, error) {
	text := string(r.value)
	switch n, err := strconv.ParseUint(text, 10, 32); {
	case text == "":
		return 0, fmt.Errorf("pax record %s: is empty: expected a number, since readers differ about what no number means", r.key)
	case strings.HasPrefix(text, "-"):
		return 0, fmt.Errorf("pax record %s: %q: %w", r.key, text, errNegative)
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("pax record %s: %q: expected a number of 32 bits", r.key, text)
	case err != nil:
		return 0, fmt.Errorf("pax record %s: %q: expected a decimal number", r.key, text)
	default:
		return uint32(n), checkID(r.key, int64(n))
	}
}

// checkID refuses a number that no owner can have.
func checkID(what string, n int64) error {
	if n >= 1<<32-1 {
		return fmt.Errorf("%s %d: expected an ID from 0 to %d", what, n, uint32(1<<32-2))
	}
	return nil
}

// checkGlobal refuses records that make no sense for all entries that follow, and
// that not all readers take from a global header: they would see different entries.
func checkGlobal(records []record) error {
	for _, r := range records {
		switch {
		case r.key == keyPath, r.key == keyLinkPath, r.key == keySize, strings.HasPrefix(r.key, prefixSparse):
			return fmt.Errorf("pax record %s in a global header: expected it before each entry that it is meant for", r.key)
		}
	}
	return nil
}
