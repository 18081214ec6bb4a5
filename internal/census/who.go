// SPDX-License-Identifier: Apache-2.0

package census

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Claim is somebody who has an ID, or may take it.
type Claim struct {
	Kind  Kind
	Who   string // the owner, account, container or process; of software its name
	Where string // file:line, the engine's --root, or what software uses it for
	// User and Group say as what they have it.
	User, Group bool
	// InnerUID and InnerGID are what it is inside, of containers and processes; nil where it isn't
	// mapped, or can't be told.
	InnerUID, InnerGID *uint32
	Owner              string // in the book, of a container
	PID                int    // one that is there now, of containers and processes; 0 if none is known
}

// Who is everybody who has an ID: first who is alive, then the book, then the host. record says
// what was written down of a lease, as for [Census.Audit]; its maps count where no process shows them.
func (c *Census) Who(b *registry.Book, id uint32, record func(lease.Status) (lease.Record, error)) []Claim {
	var out []Claim
	one := idmap.NewSet(idmap.Range{Start: id, Count: 1})
	for _, l := range Held(c.Leases, one) {
		claim := Claim{Kind: KindContainer, Who: l.ID, Where: l.Root, Owner: l.Owner, PID: Process(l, c.Live)}
		if l.IsPin() {
			claim.Kind, claim.Where = KindPin, pinPath(l)
		}
		uids, gids, known := c.maps(l)
		if !known {
			if r, err := record(l); err == nil {
				uids, gids, known = r.UIDs, r.GIDs, true
			}
		}
		if known {
			claim.inner(uids, gids, id)
		} else {
			claim.User, claim.Group = true, true
		}
		if l.ID == "" {
			claim.Who = "a container that was found alive"
		}
		out = append(out, claim)
	}
	for _, ns := range c.Unleased() {
		if !meets(ns.IDs(), one) {
			continue
		}
		claim := Claim{Kind: KindNamespace, Who: process(ns), PID: ns.PID}
		claim.inner(ns.UIDs, ns.GIDs, id)
		if !claim.User && !claim.Group { // of a namespace without maps
			claim.User, claim.Group = true, true
		}
		out = append(out, claim)
	}
	for _, l := range b.Lines() {
		if l.Range.Contains(id) {
			kind := KindLine
			if l.Flags.Reserved {
				kind = KindReserved
			}
			out = append(out, Claim{Kind: kind, Who: l.Owner, Where: l.Where(), User: true, Group: true})
		}
	}
	for _, sp := range c.others() {
		if !sp.Range.Contains(id) {
			continue
		}
		claim := Claim{Kind: sp.Kind, Who: sp.Owner, Where: sp.Where}
		claim.User = sp.Kind != KindGroup && sp.Kind != KindSubGID
		claim.Group = sp.Kind != KindUser && sp.Kind != KindSubUID
		if sp.Kind == KindAllocator {
			claim.Where = sp.Note
		}
		out = append(out, claim)
	}
	return out
}

// inner says what the ID is inside.
func (c *Claim) inner(uids, gids idmap.Map, id uint32) {
	if inner, ok := uids.ToInner(id); ok {
		c.User, c.InnerUID = true, &inner
	}
	if inner, ok := gids.ToInner(id); ok {
		c.Group, c.InnerGID = true, &inner
	}
}

// maps is those of a lease's namespace, if a process is in it.
func (c *Census) maps(l lease.Status) (uids, gids idmap.Map, known bool) {
	if l.UserNS == 0 {
		return nil, nil, false
	}
	for _, ns := range c.Live {
		if ns.Inode == l.UserNS && (len(ns.UIDs) > 0 || len(ns.GIDs) > 0) {
			return ns.UIDs, ns.GIDs, true
		}
	}
	return nil, nil, false
}

// At is the findings that are about an ID.
func At(findings []Finding, id uint32) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return !f.IDs.Contains(idmap.Range{Start: id, Count: 1}) })
}

// As says as what somebody has an ID: "user 5, group 5".
func (c Claim) As() string {
	text := ""
	for _, side := range []struct {
		has   bool
		name  string
		inner *uint32
	}{{c.User, "user", c.InnerUID}, {c.Group, "group", c.InnerGID}} {
		if !side.has {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += side.name
		if side.inner != nil {
			text += fmt.Sprintf(" %d inside", *side.inner)
		}
	}
	return text
}

// pinPath is where a pin is mounted.
func pinPath(l lease.Status) string { return filepath.Join(l.Root, l.ID) }
