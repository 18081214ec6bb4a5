// SPDX-License-Identifier: Apache-2.0

package census

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Audit holds all that is alive, and what the host says of its own IDs, against the book, and
// adds that to what [registry.Check] finds:
//
//   - a user namespace without a lease has IDs that a line grants, and isn't its owner's (error);
//   - two user namespaces, or two containers, have the same IDs (error);
//   - a user's namespace has the ID of another account (error);
//   - a line is used by its owner, and by root for containers of that owner (warning);
//   - a container has IDs of another owner's line (error), or of none any more (warning);
//   - a container runs under other flags than the book has for it by now (warning);
//   - a container has ended, and a process has its IDs still (warning);
//   - IDs were found alive that no lease was left of (warning);
//   - a line of /etc/subuid or /etc/subgid is of nobody (warning).
//
// record is [Record], or what a test has in its place. Order: as Check, then containers, then
// processes by their IDs, then the host's files.
func (c *Census) Audit(b *registry.Book, record func(lease.Status) (lease.Record, error)) []registry.Conflict {
	a := auditor{Census: c, book: b, lines: b.Lines(), found: registry.Check(b, c.World)}
	for i, l := range c.Leases {
		a.lease(l, record)
		a.twice(i, l)
	}
	a.foreign()
	a.nobodys()
	return a.found
}

type auditor struct {
	*Census
	book  *registry.Book
	lines []registry.Line
	found []registry.Conflict
}

func (a *auditor) add(severity registry.Severity, where, other string, ids idmap.Set, format string, args ...any) {
	f := registry.Conflict{Severity: severity, Where: where, Other: other, Message: fmt.Sprintf(format, args...)}
	if all := ids.Ranges(); len(all) > 0 {
		f.Range = all[0]
	}
	a.found = append(a.found, f)
}

// lease audits what one container holds.
func (a *auditor) lease(l lease.Status, record func(lease.Status) (lease.Record, error)) {
	who := Holder(l)
	if l.Rebuilt {
		a.add(registry.Warning, who, "", l.Ranges, "%s: has %s, and no lease of it was left: whose it is can't be told: %s", who, l.Ranges, processHint(l.Alive))
		return
	}
	if l.State == lease.Process {
		a.add(registry.Warning, who, "", l.Ranges, "%s: has ended, and a process has IDs of %s still, so that nobody else gets them: %s", who, l.Ranges, processHint(l.Alive))
	}
	for _, line := range a.lines {
		if !line.Flags.Reserved && !a.same(line.Owner, l.Owner) && meets(l.Ranges, idmap.NewSet(line.Range)) {
			both := l.Ranges.Intersect(idmap.NewSet(line.Range))
			a.add(registry.Error, who, line.Where(), both, "%s: has %s of owner %s, which belongs to %s (%s) by now: stop it, or move the line", who, both, l.Owner, line.Owner, line.Where())
		}
	}
	r, err := record(l)
	if errors.Is(err, ErrNoRecord) {
		r, err = lease.Record{Owner: l.Owner, Flags: a.flagsOf(l)}, nil
	}
	if err != nil {
		a.add(registry.Warning, who, "", l.Ranges, "%s: what was written down of it can't be read: %s: exec is refused: start it anew", who, err)
		return
	}
	for _, text := range a.Differs(a.book, l, r) {
		a.add(registry.Warning, who, "", l.Ranges, "%s: %s: it keeps what it has until it is started anew", who, text)
	}
}

// flagsOf is what the book says for a container of which nothing was written down: nothing
// differs.
func (a *auditor) flagsOf(l lease.Status) string {
	var flags registry.Flags
	for _, line := range a.lines {
		if a.same(line.Owner, l.Owner) && !line.Flags.Reserved && meets(l.Ranges, idmap.NewSet(line.Range)) {
			flags = flags.Union(line.Flags)
		}
	}
	return flags.String()
}

// twice finds the containers behind i that have IDs of l, and may not.
func (a *auditor) twice(i int, l lease.Status) {
	for _, o := range a.Leases[i+1:] {
		both := l.Ranges.Intersect(o.Ranges)
		if both.Empty() || l.UserNS != 0 && l.UserNS == o.UserNS || l.Shared && o.Shared && l.Owner == o.Owner {
			continue
		}
		a.add(registry.Error, Holder(l), Holder(o), both, "%s: has %s, and so has %s: stop one of them", Holder(l), both, Holder(o))
	}
}

// space is a live user namespace that no lease answers for.
type space struct {
	lease.LiveNS
	ids   idmap.Set
	kin   Kin
	known bool // kin is
	who   string
}

// foreign audits the namespaces that no lease answers for. What lies in another one of
// them is part of it.
func (a *auditor) foreign() {
	var spaces []space
	for _, ns := range a.Live {
		ids := ns.IDs()
		if ids.Empty() || a.leased(ns, ids) {
			continue
		}
		s := space{LiveNS: ns, ids: ids, who: process(ns)}
		s.kin, s.known = a.Kin[ns.Inode]
		if s.known {
			s.who = fmt.Sprintf("%s that %s made", s.who, a.account(s.kin.Creator))
		}
		spaces = append(spaces, s)
	}
	slices.SortStableFunc(spaces, func(x, y space) int {
		return cmp.Or(cmp.Compare(x.ids.Ranges()[0].Start, y.ids.Ranges()[0].Start), cmp.Compare(x.PID, y.PID))
	})
	for i, s := range spaces {
		a.againstLines(s)
		a.againstLeases(s)
		a.againstAccounts(s)
		for _, o := range spaces[i+1:] {
			both := s.ids.Intersect(o.ids)
			if both.Empty() || within(s, o) || within(o, s) || s.known && o.known && s.kin.Creator == o.kin.Creator {
				continue
			}
			a.add(registry.Error, s.who, o.who, both, "%s: has %s, and so has %s: end one of them: %s", s.who, both, o.who, processHint(s.PID))
		}
	}
}

// within says whether the namespace of s is that of o, or lies in it. The IDs that a process
// keeps in a namespace without maps are those it came with.
func within(s, o space) bool {
	return s.Inode != 0 && s.Inode == o.Inode || slices.Contains(s.kin.Parents, o.Inode) && s.ids.Subtract(o.ids).Empty()
}

func (a *auditor) againstLines(s space) {
	for _, line := range a.lines {
		ids := idmap.NewSet(line.Range)
		if line.Flags.Reserved || !meets(s.ids, ids) {
			continue
		}
		if s.known && s.kin.Creator != 0 && a.same(line.Owner, strconv.FormatUint(uint64(s.kin.Creator), 10)) {
			a.bothWays(s, line)
			continue
		}
		both := s.ids.Intersect(ids)
		a.add(registry.Error, s.who, line.Where(), both, "%s: has %s of %s (%s), and no lease: a container of %[3]s could get them too: end it, or move the line: %[5]s",
			s.who, both, line.Owner, line.Where(), processHint(s.PID))
	}
}

// bothWays finds a line that its owner uses, and root for containers of that owner: neither
// knows what the other takes.
func (a *auditor) bothWays(s space, line registry.Line) {
	for _, l := range a.Leases {
		if a.same(l.Owner, line.Owner) && meets(l.Ranges, idmap.NewSet(line.Range)) {
			both := s.ids.Intersect(idmap.NewSet(line.Range))
			a.add(registry.Warning, s.who, line.Where(), both, "%s: has %s of %s's own line (%s), from which root starts containers too (%s): neither knows which IDs the other takes: give root's containers another owner",
				s.who, both, line.Owner, line.Where(), Holder(l))
			return
		}
	}
}

func (a *auditor) againstLeases(s space) {
	for _, l := range a.Leases {
		if l.UserNS != 0 && (l.UserNS == s.Inode || slices.Contains(s.kin.Parents, l.UserNS)) {
			continue // more IDs than it has a lease for: the lines tell
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
		m        idmap.Map
		accounts []registry.Account
		what     string
	}{{s.UIDs, a.World.Host.Users, "user"}, {s.GIDs, a.World.Host.Groups, "group"}} {
		outer := side.m.Outer()
		for _, account := range side.accounts {
			id := idmap.Range{Start: account.ID, Count: 1}
			if !outer.Contains(id) || account.ID == 0 || side.what == "user" && account.ID == s.kin.Creator || side.what == "group" && a.ownGroup(account, s.kin.Creator) {
				continue
			}
			a.add(registry.Error, s.who, account.Where, idmap.NewSet(id), "%s: may be %s %s (%s), since %d is in its map: move the account, or what gave %s the ID: %s",
				s.who, side.what, account.Name, account.Where, account.ID, a.account(s.kin.Creator), processHint(s.PID))
		}
	}
}

// ownGroup says whether a namespace of that user may have the group. Who made it had the
// right to, alone: one ID of one's own needs no grant (user_namespaces(7)).
func (a *auditor) ownGroup(g registry.Account, creator uint32) bool {
	for _, ns := range a.Live {
		if kin, ok := a.Kin[ns.Inode]; !ok || kin.Creator != creator {
			continue
		}
		for _, e := range ns.GIDs {
			if e.Count == 1 && e.Outer == g.ID {
				return true
			}
		}
	}
	return false
}

// nobodys finds the lines of subuid(5) and subgid(5) whose owner has no account.
func (a *auditor) nobodys() {
	for _, s := range slices.Concat(a.World.SubUIDs, a.World.SubGIDs) {
		if a.uid(s.Owner) == "" && !engineNames[s.Owner] {
			a.add(registry.Warning, s.Where, "", idmap.NewSet(s.Range), "%s: %s has no account, and %s is kept for them: remove the line, if %s isn't a user of a directory service",
				s.Where, rootfile.ShellQuote(s.Owner), s.Range, rootfile.ShellQuote(s.Owner))
		}
	}
}

// engineNames is names in /etc/subuid that engines take IDs by, and that needn't be accounts:
// Podman's for --userns=auto, and Incus' and LXD's.
var engineNames = map[string]bool{"containers": true, "root": true, "lxd": true, "incus": true}

// account is a user in words.
func (a *auditor) account(uid uint32) string {
	for _, u := range a.World.Host.Users {
		if u.ID == uid {
			return u.Name
		}
	}
	return fmt.Sprintf("UID %d", uid)
}

func processHint(pid int) string {
	if pid == 0 {
		return "lsns -t user"
	}
	return fmt.Sprintf("ps -fp %d", pid)
}
