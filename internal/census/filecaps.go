// SPDX-License-Identifier: Apache-2.0

package census

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// FileCaps is the capabilities that a program file gives to who executes it
// (capabilities(7), "File capabilities").
type FileCaps struct {
	Permitted   uint64 // a bit for each, by its number
	Inheritable uint64
	Effective   bool // they are effective from the start on
	// RootID is, for version 3, the UID outside that a user namespace has as its root in
	// which they count; 0 is the host's.
	RootID uint32
}

// Has says whether the file gives a capability, by its number.
func (c FileCaps) Has(capability int) bool { return c.Permitted>>capability&1 == 1 }

// FileCapsOf reads those of the file at path, not following a symbolic link. A file
// without any has none: the zero FileCaps.
func FileCapsOf(path string) (FileCaps, error) {
	buffer := make([]byte, 64)
	n, err := unix.Lgetxattr(path, "security.capability", buffer)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return FileCaps{}, nil
	case err != nil:
		return FileCaps{}, &os.PathError{Op: "lgetxattr(security.capability)", Path: path, Err: err}
	}
	caps, err := parseFileCaps(buffer[:n])
	if err != nil {
		return FileCaps{}, fmt.Errorf("%s: %w", path, err)
	}
	return caps, nil
}

// parseFileCaps reads the attribute (struct vfs_ns_cap_data of linux/capability.h).
func parseFileCaps(data []byte) (FileCaps, error) {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(data[4*i:]) }
	if len(data) < 4 {
		return FileCaps{}, fmt.Errorf("security.capability: %d bytes: expected 12, 20 or 24", len(data))
	}
	const effective = 1
	c := FileCaps{Effective: word(0)&effective != 0}
	version, size, words := word(0)&0xff000000, 0, 0
	switch version {
	case 0x01000000:
		size, words = 12, 1
	case 0x02000000:
		size, words = 20, 2
	case 0x03000000:
		size, words = 24, 2
	default:
		return FileCaps{}, fmt.Errorf("security.capability: version %#x: expected 1, 2 or 3", version>>24)
	}
	if len(data) != size {
		return FileCaps{}, fmt.Errorf("security.capability: %d bytes: expected the %d of version %d", len(data), size, version>>24)
	}
	for i := range words {
		c.Permitted |= uint64(word(1+2*i)) << (32 * i)
		c.Inheritable |= uint64(word(2+2*i)) << (32 * i)
	}
	if size == 24 {
		c.RootID = word(5)
	}
	return c, nil
}
