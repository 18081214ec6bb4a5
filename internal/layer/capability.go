// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// xattrCaps holds the capabilities that a program gets by being executed
// (capabilities(7), "File capabilities").
const xattrCaps = "security.capability"

// Versions of it, in the highest byte of its first word, and their sizes in bytes
// (struct vfs_cap_data and vfs_ns_cap_data of linux/capability.h).
const (
	capsVersion1 = 0x01000000
	capsVersion2 = 0x02000000
	capsVersion3 = 0x03000000
	capsVersion  = 0xff000000

	capsSize1 = 12
	capsSize2 = 20
	capsSize3 = 24
)

// shiftCaps translates file capabilities. Inside of a user namespace they are written
// without an owner (version 1 or 2), and mean those of the namespace's root. On the
// host the kernel honours such ones for the host's root alone, so what a namespace has
// are those of version 3 with the host ID of its root ("rootid"), and are shown inside
// as version 2 again (capabilities(7), "Namespaced file capabilities").
//
// To the host, versions 1 and 2 become 3 with the outer ID of inner 0, and the rootid of
// a 3 is translated, as one of a namespace within. To the container, a 3 with the outer
// ID of inner 0 becomes 2, and another's rootid is translated; 1 and 2 stay as they are:
// they are the host root's own, which count in each namespace, and so are shown in it.
//
// Not the same after the way there and back: a 1, which becomes a 2, and a 3 with
// rootid 0, which is another form of 2.
func (s *Shift) shiftCaps(value []byte) ([]byte, error) {
	if len(value) < 4 {
		return nil, fmt.Errorf("%s of %d bytes: expected %d, %d or %d", xattrCaps, len(value), capsSize1, capsSize2, capsSize3)
	}
	head := binary.LittleEndian.Uint32(value)
	version := head & capsVersion
	want, known := map[uint32]int{capsVersion1: capsSize1, capsVersion2: capsSize2, capsVersion3: capsSize3}[version]
	switch {
	case !known:
		return nil, fmt.Errorf("%s of version %d: expected 1, 2 or 3", xattrCaps, version>>24)
	case len(value) != want:
		return nil, fmt.Errorf("%s of version %d with %d bytes: expected %d", xattrCaps, version>>24, len(value), want)
	case version != capsVersion3 && s.ToContainer:
		return value, nil // the host root's
	}
	rootid := uint32(0)
	if version == capsVersion3 {
		rootid = binary.LittleEndian.Uint32(value[capsSize2:])
	}
	if err := checkID("rootid of "+xattrCaps, int64(rootid)); err != nil {
		return nil, err
	}
	root, err := s.id("rootid of "+xattrCaps, rootid)
	if err != nil {
		return nil, err
	}
	if version != capsVersion3 && root == 0 {
		return value, nil // the host root's, by a map that leaves it so
	}
	out := slices.Clone(value)
	if version == capsVersion1 {
		out = append(out, make([]byte, capsSize2-capsSize1)...) // the capabilities from 32 on: none
	}
	if root == 0 {
		binary.LittleEndian.PutUint32(out, head&^capsVersion|capsVersion2)
		return out[:capsSize2], nil
	}
	binary.LittleEndian.PutUint32(out, head&^capsVersion|capsVersion3)
	return binary.LittleEndian.AppendUint32(out[:capsSize2], root), nil
}
