// SPDX-License-Identifier: Apache-2.0

package chown

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// The extended attributes that have IDs in them (acl(5); capabilities(7), "Namespaced file
// capabilities").
const (
	xattrCaps       = "security.capability"
	xattrACL        = "system.posix_acl_access"
	xattrDefaultACL = "system.posix_acl_default"
)

// shift is the way that IDs go: to those outside, or back. An ID that isn't on the side they come
// from stays. No ID is on both sides (see [checkMaps]), so what was shifted before stays too, and
// a tree that is half done needs no list of what is done.
type shift struct {
	uids, gids idmap.Map
	back       bool
}

func (s shift) uid(id uint32) uint32 { return s.id(s.uids, id) }
func (s shift) gid(id uint32) uint32 { return s.id(s.gids, id) }

func (s shift) id(m idmap.Map, id uint32) uint32 {
	translate := m.ToOuter
	if s.back {
		translate = m.ToInner
	}
	if to, ok := translate(id); ok {
		return to
	}
	return id
}

// Of an ACL (linux/posix_acl_xattr.h): a version, and entries of a tag, permissions and an ID.
const (
	aclHeader = 4 // bytes
	aclEntry  = 8
	aclUser   = 0x02
	aclGroup  = 0x08
)

// acl translates the IDs of an ACL. One that isn't of this form has none that is known.
func (s shift) acl(value []byte) []byte {
	if len(value) < aclHeader || (len(value)-aclHeader)%aclEntry != 0 {
		return value
	}
	out := slices.Clone(value)
	for e := out[aclHeader:]; len(e) > 0; e = e[aclEntry:] {
		id := binary.LittleEndian.Uint32(e[4:])
		switch binary.LittleEndian.Uint16(e) {
		case aclUser:
			id = s.uid(id)
		case aclGroup:
			id = s.gid(id)
		}
		binary.LittleEndian.PutUint32(e[4:], id)
	}
	return out
}

// Of file capabilities (linux/capability.h): the version is in the highest byte.
const (
	capsVersion  = 0xff000000
	capsVersion2 = 0x02000000
	capsVersion3 = 0x03000000
	capsSize2    = 20 // bytes
	capsSize3    = 24
)

// caps translates file capabilities. Those of version 2 count in every namespace, and for the
// host's root; outside they become version 3, of inner 0 alone, so that they are nothing to the
// host meanwhile. Of version 3 the ID of the root that they are for is translated, and for
// the host's they are version 2 again.
func (s shift) caps(value []byte) []byte {
	if len(value) < 4 {
		return value
	}
	head := binary.LittleEndian.Uint32(value)
	root := uint32(0)
	switch version := head & capsVersion; {
	case version == capsVersion2 && len(value) == capsSize2:
		if s.back {
			return value
		}
	case version == capsVersion3 && len(value) == capsSize3:
		root = binary.LittleEndian.Uint32(value[capsSize2:])
	default:
		return value // of version 1, or unknown: as they are
	}
	out := slices.Clone(value[:capsSize2])
	if root = s.uid(root); root == 0 {
		binary.LittleEndian.PutUint32(out, head&^capsVersion|capsVersion2)
		return out
	}
	binary.LittleEndian.PutUint32(out, head&^capsVersion|capsVersion3)
	return binary.LittleEndian.AppendUint32(out, root)
}

// xattrs is the attributes of the file that have IDs in them.
func (f *file) xattrs() (map[string][]byte, error) {
	if f.isSymlink() {
		return nil, nil // it can't have them
	}
	names, err := f.at.Xattrs()
	if err != nil {
		return nil, err
	}
	var out map[string][]byte
	for _, name := range names {
		if name != xattrCaps && name != xattrACL && name != xattrDefaultACL {
			continue
		}
		value, err := f.at.Xattr(name)
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string][]byte{}
		}
		out[name] = value
	}
	return out, nil
}

// outerID is an ID of the file that is one of those outside already, and what has it; "" if
// there is none. In a tree that is as its image says there may be none: it would be taken for
// one that was shifted.
func outerID(f *file, have map[string][]byte, uids, gids idmap.Map) (what string, id uint32) {
	if _, is := uids.ToInner(f.stat.UID); is {
		return "UID", f.stat.UID
	}
	if _, is := gids.ToInner(f.stat.GID); is {
		return "GID", f.stat.GID
	}
	back := shift{uids, gids, true}
	for _, name := range []string{xattrACL, xattrDefaultACL} {
		value := have[name]
		if shifted := back.acl(value); !slices.Equal(shifted, value) {
			for i := aclHeader + 4; i < len(value); i += aclEntry {
				if !slices.Equal(shifted[i:i+4], value[i:i+4]) {
					return "an entry of " + name, binary.LittleEndian.Uint32(value[i:])
				}
			}
		}
	}
	if value := have[xattrCaps]; len(value) == capsSize3 {
		if root := binary.LittleEndian.Uint32(value[capsSize2:]); back.uid(root) != root {
			return "rootid of " + xattrCaps, root
		}
	}
	return "", 0
}

// checkMaps refuses maps by which one can't tell what was shifted.
func checkMaps(uids, gids idmap.Map) error {
	for _, side := range []struct {
		name string
		m    idmap.Map
	}{{"UIDs", uids}, {"GIDs", gids}} {
		if both := side.m.Inner().Intersect(side.m.Outer()); !both.Empty() {
			return fmt.Errorf("%s %s: %s are IDs both inside and outside, so that one couldn't tell which owners were changed: "+
				"give the owner a line of the book that begins above the container's size", side.name, side.m, both)
		}
	}
	return nil
}

// twelve is the bits of chmod(2), and killed those that a change of the owner takes away from
// all but directories.
const (
	twelve uint32 = 0o7777
	killed uint32 = 0o6000
)

// mark is what a change of the owner takes away from a file, and which file that is. Neither its
// size nor the time of its last change are touched by anything that is done here.
type mark struct {
	ID    fileID `json:"id"`
	Mode  uint32 `json:"mode"`
	Caps  []byte `json:"caps,omitempty"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // in nanoseconds
}

// markOf is the file's mark; ok is false if it has nothing that could be taken.
func markOf(f *file, have map[string][]byte) (m mark, ok bool) {
	if f.stat.IsDir() || f.isSymlink() {
		return mark{}, false
	}
	m = mark{
		ID: f.id, Mode: f.stat.Mode & (linux.TypeMask | twelve), Caps: have[xattrCaps],
		Size: f.stat.Size, MTime: f.stat.MTime.UnixNano(),
	}
	return m, m.Mode&killed != 0 || m.Caps != nil
}

// is says whether the mark is of the file, whatever was taken from it since.
func (m mark) is(f *file) bool {
	return m.Mode&linux.TypeMask == f.stat.Mode&linux.TypeMask && m.Mode&twelve&^killed == f.stat.Mode&twelve&^killed &&
		m.Size == f.stat.Size && m.MTime == f.stat.MTime.UnixNano()
}
