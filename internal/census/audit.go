// SPDX-License-Identifier: Apache-2.0

package census

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Finding is one of an audit. Its Range is the first of its IDs.
type Finding struct {
	registry.Conflict
	IDs idmap.Set // all of them; may be empty
}

// Audit holds all that is alive, and what the host says of its own IDs, against the book, and
// adds that to what [registry.Check] finds:
//
//   - a user namespace without a lease has IDs that a line grants, and isn't its owner's (error);
//   - two user namespaces that don't belong together have the same IDs, or two containers (error; a
//     warning where root made both namespaces);
//   - a user's namespace has the ID of another account (error);
//   - a container has IDs of another owner's line (error), or of none any more (warning; error
//     where an account of the host, subuid(5) or subgid(5) has them by now);
//   - a line is used by its owner, and by root for containers of that owner (warning);
//   - a container runs under other flags than the book has for it by now (warning);
//   - a container has ended, and a process has its IDs still (warning);
//   - IDs were found alive that no lease was left of (warning);
//   - a pin isn't mounted any more, and somebody has its namespace yet (warning);
//   - a line of /etc/subuid or /etc/subgid is of nobody (warning).
//
// What engines of root's take by subuid(5), for namespaces of their own, isn't found to be anybody's:
// which line they go by can't be seen. Namespaces within others are judged as part of the outermost.
//
// record is [Record], or what a test has in its place. Order: as Check, then containers, then
// processes by their IDs, then the host's files.
func (c *Census) Audit(b *registry.Book, record func(lease.Status) (lease.Record, error)) []Finding {
	a := auditor{Census: c, owners: c.owners(), lines: b.Lines(), count: make(map[registry.Severity]int)}
	for _, f := range registry.Check(b, c.World) {
		a.found = append(a.found, Finding{f, idmap.NewSet(f.Range)})
	}
	leases := slices.Clone(c.Leases)
	SortLeases(leases)
	for i, l := range leases {
		a.lease(l, record)
		a.twice(l, leases[i+1:])
	}
	a.foreign()
	a.nobodys()
	for _, severity := range []registry.Severity{registry.Warning, registry.Error} {
		if n := a.count[severity] - maxFindings; n > 0 {
			a.found = append(a.found, Finding{Conflict: registry.Conflict{Severity: severity, Message: fmt.Sprintf("%d more findings: mend these first", n)}})
		}
	}
	return a.found
}

// maxFindings is how many an audit names of each severity, beside those of Check. Users can make many of
// some kinds.
const maxFindings = 20000

type auditor struct {
	*Census
	owners owners
	lines  []registry.Line
	found  []Finding
	count  map[registry.Severity]int
}

func (a *auditor) add(severity registry.Severity, where, other string, ids idmap.Set, format string, args ...any) {
	if a.count[severity]++; a.count[severity] > maxFindings {
		return
	}
	f := Finding{registry.Conflict{Severity: severity, Where: where, Other: other, Message: fmt.Sprintf(format, args...)}, ids}
	if all := ids.Ranges(); len(all) > 0 {
		f.Range = all[0]
	}
	a.found = append(a.found, f)
}

// linesWith is the lines that grant some of the IDs.
func (a *auditor) linesWith(ids idmap.Set) (out []registry.Line) {
	for _, line := range a.lines {
		if ids.Touches(line.Range) && !line.Flags.Reserved {
			out = append(out, line)
		}
	}
	return out
}

// lease audits what one container holds.
func (a *auditor) lease(l lease.Status, record func(lease.Status) (lease.Record, error)) {
	who := Holder(l)
	if l.Rebuilt {
		a.add(registry.Warning, who, "", l.Ranges, "%s: has %s, and no lease of it was left: whose it is can't be told: %s", who, l.Ranges, processHint(l.Alive))
		return
	}
	switch {
	case l.IsPin() && (l.State == lease.Process || l.State == lease.StillOpen):
		a.add(registry.Warning, who, "", l.Ranges, "%s: end whoever has it, or make it again: %s", l, processHint(l.Alive))
	case l.State == lease.Process:
		a.add(registry.Warning, who, "", l.Ranges, "%s: has ended, and a process has IDs of %s still, so that nobody else gets them: %s", who, l.Ranges, processHint(l.Alive))
	}
	lines := a.linesWith(l.Ranges)
	lost := l.Ranges
	for _, line := range lines {
		ids := idmap.NewSet(line.Range)
		lost = lost.Subtract(ids)
		if a.owners.are(line.Owner, l.Owner) {
			continue
		}
		both := l.Ranges.Intersect(ids)
		a.add(registry.Error, who, line.Where(), both, "%s: has %s of owner %s, which belongs to %s (%s) by now: stop it, or move the line", who, both, l.Owner, line.Owner, line.Where())
	}
	a.regiven(l, who, lost)
	if l.IsPin() {
		return // whether it is as the book says is judged where pins are made
	}
	r, err := record(l)
	if errors.Is(err, ErrNoRecord) {
		// What nobody wrote down doesn't differ.
		r, err = lease.Record{Owner: l.Owner, Flags: registry.FlagsOf(ownLines(a.owners, lines, l.Ranges, l.Owner)).String()}, nil
	}
	if err != nil {
		a.add(registry.Warning, who, "", l.Ranges, "%s: what was written down of it can't be read: %s: exec is refused: start it anew", who, err)
		return
	}
	for _, text := range differs(a.owners, lines, l, r) {
		a.add(registry.Warning, who, "", l.Ranges, "%s: %s: it keeps what it has until it is started anew", who, text)
	}
}

// regiven finds who else has IDs of a container that no line grants any more: of others, Check
// tells.
func (a *auditor) regiven(l lease.Status, who string, lost idmap.Set) {
	if lost.Empty() {
		return
	}
	given := func(ids idmap.Range, whose, where string) {
		if both := lost.Intersect(idmap.NewSet(ids)); !both.Empty() {
			a.add(registry.Error, who, where, both, "%s: has %s, which no line grants any more, and which is %s's (%s) by now: stop it", who, both, whose, where)
		}
	}
	for _, u := range a.World.Host.Users {
		given(idmap.Range{Start: u.ID, Count: 1}, "user "+u.Name, u.Where)
	}
	for _, g := range a.World.Host.Groups {
		given(idmap.Range{Start: g.ID, Count: 1}, "group "+g.Name, g.Where)
	}
	for _, s := range slices.Concat(a.World.SubUIDs, a.World.SubGIDs) {
		if !a.owners.are(s.Owner, l.Owner) {
			given(s.Range, s.Owner, s.Where)
		}
	}
}

// twice finds the containers that have IDs of l, and may not, among those behind it in the order
// of their IDs.
func (a *auditor) twice(l lease.Status, others []lease.Status) {
	if l.Ranges.Empty() {
		return
	}
	end := endOf(l.Ranges)
	for _, o := range others {
		if first := o.Ranges.Ranges(); len(first) == 0 || uint64(first[0].Start) >= end {
			return
		}
		both := l.Ranges.Intersect(o.Ranges)
		owners := (l.IsPin() || o.IsPin()) && a.owners.are(l.Owner, o.Owner)
		if both.Empty() || l.UserNS != 0 && l.UserNS == o.UserNS || l.Shared && o.Shared && l.Owner == o.Owner || owners {
			continue
		}
		a.add(registry.Error, Holder(l), Holder(o), both, "%s: has %s, and so has %s: stop one of them", Holder(l), both, Holder(o))
	}
}

// nobodys finds the lines of subuid(5) and subgid(5) whose owner has no account.
func (a *auditor) nobodys() {
	for _, s := range slices.Concat(a.World.SubUIDs, a.World.SubGIDs) {
		if a.owners[s.Owner] == "" && !engineNames[s.Owner] {
			a.add(registry.Warning, s.Where, "", idmap.NewSet(s.Range), "%s: %s has no account, and %s is kept for them: remove the line, if that isn't a user of a directory service",
				s.Where, s.Owner, s.Range)
		}
	}
}

// engineNames is names in /etc/subuid that engines take IDs by, and that needn't be accounts:
// Podman's for --userns=auto, and Incus' and LXD's.
var engineNames = map[string]bool{"containers": true, "root": true, "lxd": true, "incus": true}

// IsEngineName says whether a name in /etc/subuid is one of those.
func IsEngineName(name string) bool { return engineNames[name] }

// account is a user in words.
func (a *auditor) account(uid uint32) string {
	i := slices.IndexFunc(a.World.Host.Users, func(u registry.Account) bool { return u.ID == uid })
	if i < 0 {
		return fmt.Sprintf("UID %d", uid)
	}
	return a.World.Host.Users[i].Name
}

func processHint(pid int) string {
	if pid == 0 {
		return "lsns -t user"
	}
	return fmt.Sprintf("ps -fp %d", pid)
}

// decimal is an owner's UID as the book may have it.
func decimal(uid uint32) string { return strconv.FormatUint(uint64(uid), 10) }

// byFirst orders what has IDs by the first of them.
func byFirst(a, b idmap.Set) int {
	return slices.CompareFunc(a.Ranges(), b.Ranges(), func(x, y idmap.Range) int { return cmp.Compare(x.Start, y.Start) })
}
