// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Shift is how the IDs of a layer are translated.
type Shift struct {
	// Map is that of the user namespace whose layer it is. It has to be one that
	// [idmap.Map.Validate] accepts.
	Map idmap.Map
	// ToContainer is the way from host IDs to those inside; else it is the way from
	// those inside to host IDs.
	ToContainer bool
	// Squash makes nobody of IDs that the map doesn't hold: inner 65534, as the kernel
	// shows them inside, or its host ID. Where the map doesn't hold inner 65534, or has host
	// root in its place, they are refused all the same: nothing else is nobody's. The way
	// back can't tell them from nobody's own.
	Squash bool
	// DropNames takes the names of owners from entries, so that only numbers count. Else
	// they stay: a reader that prefers names to numbers looks them up where it runs.
	DropNames bool
}

// ErrUnmapped is wrapped by errors about an ID that the map doesn't hold.
var ErrUnmapped = errors.New("not in the map")

// translate is the map alone.
func (s *Shift) translate(id uint32) (uint32, bool) {
	if s.ToContainer {
		return s.Map.ToInner(id)
	}
	return s.Map.ToOuter(id)
}

// id translates one ID; what says what it is, for an error wrapping ErrUnmapped.
func (s *Shift) id(what string, id uint32) (uint32, error) {
	if to, ok := s.translate(id); ok {
		return to, nil
	}
	side, have := "inside", s.Map.Inner()
	if s.ToContainer {
		side, have = "on the host", s.Map.Outer()
	}
	if !s.Squash {
		return 0, fmt.Errorf("%s %d: %w, which holds %s %s", what, id, ErrUnmapped, have, side)
	}
	nobody, ok := s.Map.ToOuter(idmap.Overflow)
	if !ok || nobody == 0 {
		return 0, fmt.Errorf("%s %d: %w, which holds %s %s, and nobody can't take its place: expected a map with a host ID other than 0 for inner %d",
			what, id, ErrUnmapped, have, side, idmap.Overflow)
	}
	if s.ToContainer {
		return idmap.Overflow, nil
	}
	return nobody, nil
}

// xattr translates the IDs in the value of an extended attribute. What has none is
// given back as it is.
func (s *Shift) xattr(name string, value []byte) ([]byte, error) {
	switch name {
	case xattrAccess, xattrDefault:
		to, err := s.shiftACL(value)
		if err != nil {
			return nil, fmt.Errorf("extended attribute %s: %w", name, err)
		}
		return to, nil
	case xattrCaps:
		return s.shiftCaps(value)
	}
	return value, nil
}

// Entry translates the IDs of an entry: its owner, its ACLs and its file capabilities.
// Where it fails, the entry is as it was, and the error names it. The label of an
// archive has no owner.
func (s *Shift) Entry(e *Entry) (changed bool, err error) {
	if e.Type == TypeVolume {
		return false, nil
	}
	uid, err := s.id("UID", e.UID)
	if err != nil {
		return false, fmt.Errorf("%q: %w", e.Name, err)
	}
	gid, err := s.id("GID", e.GID)
	if err != nil {
		return false, fmt.Errorf("%q: %w", e.Name, err)
	}
	xattrs := make([]Xattr, len(e.Xattrs))
	for i, x := range e.Xattrs {
		value, err := s.xattr(x.Name, x.Value)
		if err != nil {
			return false, fmt.Errorf("%q: %w", e.Name, err)
		}
		changed = changed || !bytes.Equal(value, x.Value)
		xattrs[i] = Xattr{x.Name, value}
	}
	user, group := e.User, e.Group
	if s.DropNames {
		user, group = "", ""
	}
	changed = changed || uid != e.UID || gid != e.GID || user != e.User || group != e.Group
	e.UID, e.GID, e.User, e.Group = uid, gid, user, group
	if changed {
		e.Xattrs = xattrs
	}
	return changed, nil
}
