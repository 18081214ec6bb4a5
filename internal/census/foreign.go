// SPDX-License-Identifier: Apache-2.0

package census

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// space is a live user namespace that no lease answers for.
type space struct {
	lease.LiveNS
	kin   Kin
	known bool // kin is
	who   string
	// uids and gids are what it may be on the host, without what its creator is in any case: one's
	// own UID, and a single group, need no grant (user_namespaces(7)).
	uids, gids, ids idmap.Set
}

func (a *auditor) space(ns lease.LiveNS) space {
	s := space{LiveNS: ns, who: process(ns)}
	s.kin, s.known = a.Kin[ns.Inode]
	if s.known {
		s.who = fmt.Sprintf("%s that %s made", s.who, a.account(s.kin.Creator))
	}
	users := s.known && s.kin.Creator != 0
	if !users {
		s.uids = ns.Has.Subtract(idmap.NewSet(idmap.Range{Start: 0, Count: 1}))
		s.gids = s.uids
	}
	handed := func(m idmap.Map, own func(idmap.Extent) bool) idmap.Set {
		var ranges []idmap.Range
		for _, e := range m {
			// What has the host's root in it isn't a range that was handed out: see [lease.LiveNS].
			r := e.OuterRange()
			if r.Contains(0) || users && own(e) {
				continue
			}
			ranges = append(ranges, r)
		}
		return idmap.NewSet(ranges...)
	}
	s.uids = s.uids.Union(handed(ns.UIDs, func(e idmap.Extent) bool { return e.Count == 1 && e.Outer == s.kin.Creator }))
	s.gids = s.gids.Union(handed(ns.GIDs, func(e idmap.Extent) bool { return e.Count == 1 }))
	s.ids = s.uids.Union(s.gids)
	return s
}

// foreign audits the namespaces that no lease answers for.
func (a *auditor) foreign() {
	var spaces []space
	for _, ns := range a.Unleased() {
		if s := a.space(ns); !s.ids.Empty() {
			spaces = append(spaces, s)
		}
	}
	slices.SortStableFunc(spaces, func(x, y space) int { return cmp.Or(byFirst(x.ids, y.ids), cmp.Compare(x.PID, y.PID)) })
	// What lies in another one of them has its IDs from that.
	with := make(map[uint64]idmap.Set, len(spaces))
	for _, s := range spaces {
		with[s.Inode] = s.ids
	}
	spaces = slices.DeleteFunc(spaces, func(s space) bool {
		return slices.ContainsFunc(s.kin.Parents, func(parent uint64) bool { return with[parent].ContainsSet(s.ids) })
	})
	for i, s := range spaces {
		a.againstLines(s)
		a.againstLeases(s)
		a.againstAccounts(s)
		a.againstOthers(s, spaces[i+1:])
	}
}

func (a *auditor) againstLines(s space) {
	for _, line := range a.linesWith(s.ids) {
		both := s.ids.Intersect(idmap.NewSet(line.Range))
		if s.known && s.kin.Creator != 0 && a.owners.are(line.Owner, decimal(s.kin.Creator)) {
			a.bothWays(s, line, both)
			continue
		}
		mend := "a container of " + line.Owner + " could get them too: end it, or move the line: " + processHint(s.PID)
		if a.Unkept {
			mend = "none is kept on this host: if userns-runtime has started it, they were lost, and the next start finds it again; if not: " + mend
		}
		a.add(registry.Error, s.who, line.Where(), both, "%s: has %s of %s (%s), and no lease: %s", s.who, both, line.Owner, line.Where(), mend)
	}
}

// bothWays finds a line that its owner uses, and root for containers of that owner: neither
// knows what the other takes.
func (a *auditor) bothWays(s space, line registry.Line, both idmap.Set) {
	i := slices.IndexFunc(a.Leases, func(l lease.Status) bool {
		return !l.IsPin() && l.Ranges.Touches(line.Range) && a.owners.are(l.Owner, line.Owner)
	})
	if i >= 0 {
		a.add(registry.Warning, s.who, line.Where(), both, "%s: has %s of %s's own line (%s), from which root starts containers too (%s): neither knows which IDs the other takes: give root's containers another owner",
			s.who, both, line.Owner, line.Where(), Holder(a.Leases[i]))
	}
}

func (a *auditor) againstLeases(s space) {
	for _, l := range a.Leases {
		if l.UserNS != 0 && (l.UserNS == s.Inode || slices.Contains(s.kin.Parents, l.UserNS)) {
			continue // more IDs than it has a lease for: the lines tell
		}
		if l.IsPin() && s.known && a.owners.are(l.Owner, decimal(s.kin.Creator)) {
			continue // whoever owns the pin has the IDs anyway
		}
		if both := s.ids.Intersect(l.Ranges); !both.Empty() && !l.Rebuilt {
			a.add(registry.Error, s.who, Holder(l), both, "%s: has %s, which %s holds: end one of them: %s", s.who, both, Holder(l), processHint(s.PID))
		}
	}
}

// againstAccounts finds the accounts that a user's namespace may be, beside the user's own.
// Root may be everybody anyway.
func (a *auditor) againstAccounts(s space) {
	if !s.known || s.kin.Creator == 0 {
		return
	}
	for _, side := range []struct {
		ids      idmap.Set
		accounts []registry.Account
		what     string
	}{{s.uids, a.World.Host.Users, "user"}, {s.gids, a.World.Host.Groups, "group"}} {
		for _, account := range side.accounts {
			id := idmap.Range{Start: account.ID, Count: 1}
			if !side.ids.Contains(id) || side.what == "user" && account.ID == s.kin.Creator {
				continue
			}
			a.add(registry.Error, s.who, account.Where, idmap.NewSet(id), "%s: may be %s %s (%s), since %d is in its map: move the account, or what gave %s the ID: %s",
				s.who, side.what, account.Name, account.Where, account.ID, a.account(s.kin.Creator), processHint(s.PID))
		}
	}
}

// againstOthers finds those behind s, in the order of their IDs, that have the same IDs.
func (a *auditor) againstOthers(s space, others []space) {
	var first space
	var both idmap.Set
	more := 0
	end := endOf(s.ids)
	for _, o := range others {
		if uint64(o.ids.Ranges()[0].Start) >= end {
			break
		}
		if s.belongsWith(o) {
			continue
		}
		shared := given(s.UIDs, s.uids).Intersect(given(o.UIDs, o.uids)).Union(given(s.GIDs, s.gids).Intersect(given(o.GIDs, o.gids)))
		switch {
		case shared.Empty():
		case both.Empty():
			first, both = o, shared
		default:
			more++
		}
	}
	if both.Empty() {
		return
	}
	rest := ""
	if more > 0 {
		rest = fmt.Sprintf(", and %d more have some of its IDs", more)
	}
	severity := registry.Error
	if s.known && first.known && s.kin.Creator == 0 && first.kin.Creator == 0 {
		// Root's engines may know why. Of lines, and of containers, it is an error, said by others.
		severity = registry.Warning
	}
	a.add(severity, s.who, first.who, both, "%s: has %s, and so has %s%s: end one of them: %s", s.who, both, first.who, rest, processHint(s.PID))
}

// given is the IDs without those that are themselves inside: nobody handed them out.
func given(m idmap.Map, ids idmap.Set) idmap.Set {
	var same []idmap.Range
	for _, e := range m {
		if e.Inner == e.Outer {
			same = append(same, e.OuterRange())
		}
	}
	return ids.Subtract(idmap.NewSet(same...))
}

// belongsWith says whether two may have the same IDs. Those of one user are the user's own business;
// root makes everybody's, where equal maps are one range that an engine gives to all of its containers.
func (s space) belongsWith(o space) bool {
	if s.Inode != 0 && s.Inode == o.Inode {
		return true
	}
	return s.known && o.known && s.kin.Creator == o.kin.Creator && (s.kin.Creator != 0 || s.UIDs.Equal(o.UIDs) && s.GIDs.Equal(o.GIDs))
}

// endOf is the first ID behind all of them.
func endOf(ids idmap.Set) uint64 {
	all := ids.Ranges()
	return all[len(all)-1].End()
}
