// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const capAttribute = "security.capability"

// GivesOnly says whether the file at path gives who executes it just these
// capabilities of the host, permitted but not effective (capabilities(7), "File
// capabilities"). A symbolic link is not followed.
func GivesOnly(path string, set CapSet) (bool, error) {
	have := make([]byte, 64)
	n, err := unix.Lgetxattr(path, capAttribute, have)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return set == 0, nil
	case err != nil:
		return false, &os.PathError{Op: "lgetxattr(" + capAttribute + ")", Path: path, Err: err}
	}
	return bytes.Equal(have[:n], attribute(set)), nil
}

// GiveOnly makes the file at path give these capabilities, and no others. The
// caller needs CAP_SETFCAP. A write to the file takes them away.
func GiveOnly(path string, set CapSet) error {
	if err := unix.Lsetxattr(path, capAttribute, attribute(set), 0); err != nil {
		return &os.PathError{Op: "lsetxattr(" + capAttribute + ")", Path: path, Err: err}
	}
	return nil
}

// attribute is struct vfs_cap_data, version 2 (linux/capability.h).
func attribute(set CapSet) []byte {
	const version2 = 0x02000000
	var b []byte
	for _, word := range []uint32{version2, uint32(set), 0, uint32(set >> 32), 0} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return b
}
