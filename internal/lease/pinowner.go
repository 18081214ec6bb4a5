// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// ofOwner says whether an entry's owner is the one who asks. A pin may lie over what else its owner
// holds, and the other way round: whoever owns the pin's namespace owns the IDs.
func (r Request) ofOwner(owner string) bool {
	return owner != "" && (owner == r.Owner || slices.Contains(r.Names, owner))
}

// ofAccount says whether the one who asks is, by one of the names, the account of that UID.
func (r Request) ofAccount(uid uint32) bool {
	return r.ofOwner(strconv.FormatUint(uint64(uid), 10))
}

// mayOverlap says whether what is wanted may have IDs of another entry, since one of the two is a pin.
func (r Request) mayOverlap(e Status) bool {
	switch {
	case r.Key.IsPin() && e.Rebuilt:
		return r.made(e)
	case e.IsPin() && e.UID != nil && !r.ofAccount(*e.UID):
		return false // the account that had the name is another one by now
	case r.Key.IsPin() || e.IsPin():
		return r.ofOwner(e.Owner)
	}
	return false
}

// heldBy is the error for an entry that holds what is wanted.
func (r Request) heldBy(e Status) *HeldError {
	held := &HeldError{IDs: r.Exactly.Intersect(e.Ranges), By: e}
	if e.IsPin() && e.UID != nil && r.ofOwner(e.Owner) && !r.ofAccount(*e.UID) {
		held.Who = fmt.Sprintf("%s; it belongs to UID %d, who was %s once: usernsctl unpin %s", e, *e.UID, printable(e.Owner), rootfile.ShellQuote(e.ID))
	}
	return held
}

// made says whether the owner made a namespace that was found alive, or one that it lies in, for want
// of another way to tell whose it is. One that can't be looked at is somebody else's.
func (r Request) made(e Status) bool {
	for _, pid := range []int{e.Alive, e.PID} {
		if line, ok := lineage(pid, e.UserNS); ok {
			return slices.ContainsFunc(line, func(a linux.UserNS) bool { return r.ofAccount(a.Owner) })
		}
	}
	return false
}

// lineage is the user namespace that a process is in, if it is the one of that inode number, and those
// that it lies in, but for the caller's own, the nearest first.
func lineage(pid int, inode uint64) (line []linux.UserNS, ok bool) {
	own, err := namespaceOf("/proc/thread-self/ns/user")
	if err != nil {
		return nil, false
	}
	ns, err := linux.OpenNamespace("/proc/" + strconv.Itoa(pid) + "/ns/user")
	if err != nil {
		return nil, false
	}
	defer ns.Close()
	line, _ = linux.Lineage(ns) // what can't be seen isn't theirs
	if len(line) == 0 || line[0].Inode != inode {
		return nil, false
	}
	return slices.DeleteFunc(line, func(a linux.UserNS) bool { return a.Inode == own }), true
}

// stranger finds a process with some of the IDs that a pin is wanted for, in a namespace that its owner
// neither made nor has a container in: whoever is in that would have a part in all that is the pin's. Leases
// don't tell of all of them: a user may have made it when the line was theirs.
func (s *Store) stranger(r Request, alive []Status) (*HeldError, error) {
	var held *HeldError
	for range looks {
		live, err := s.live()
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(live, func(l LiveNS) bool {
			// Of one that is being started the lease tells.
			return !l.Staged && !l.IDs().Intersect(r.Exactly).Empty() && !r.isIn(l, alive)
		})
		if i < 0 {
			return nil, nil
		}
		held = r.heldIn(live[i])
	}
	return held, nil
}

// heldIn is the error for a live namespace that has what is wanted.
func (r Request) heldIn(l LiveNS) *HeldError {
	held := &HeldError{
		IDs: l.IDs().Intersect(r.Exactly),
		By:  Status{Entry: Entry{Ranges: l.IDs(), UserNS: l.Inode, PID: l.PID, Rebuilt: true}, State: Process, Alive: l.PID},
	}
	maker := "somebody else"
	if line, ok := lineage(l.PID, l.Inode); ok && len(line) > 0 {
		maker = fmt.Sprintf("UID %d", line[0].Owner)
	}
	held.Who = fmt.Sprintf("process %d, in user namespace %d, which %s made: end it: ps -fp %[1]d", l.PID, l.Inode, maker)
	return held
}

// looks is how often it is looked before a process counts, which may end, or go to another namespace,
// while it is looked at.
const looks = 3

// isIn says whether a live namespace is of the one who asks: they made it, or one that it lies in, or
// root did for a pin or a container of theirs.
func (r Request) isIn(l LiveNS, alive []Status) bool {
	isPin := func(inode uint64) bool {
		return slices.ContainsFunc(alive, func(h Status) bool { return h.IsPin() && h.UserNS == inode && r.mayOverlap(h) })
	}
	hasContainer := func(inode uint64) bool {
		return slices.ContainsFunc(alive, func(h Status) bool { return !h.IsPin() && h.UserNS == inode && r.ofOwner(h.Owner) })
	}
	line, ok := lineage(l.PID, l.Inode)
	return isPin(l.Inode) || ok && slices.ContainsFunc(line, func(a linux.UserNS) bool {
		return r.ofAccount(a.Owner) || isPin(a.Inode) || a.Owner == 0 && hasContainer(a.Inode)
	})
}
