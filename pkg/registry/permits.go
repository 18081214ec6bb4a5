// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Verdict is why maps are permitted, and on which terms.
type Verdict struct {
	Lines []Line // the holder's lines that the maps touch, in book order, each once
	Flags Flags  // of all those lines together; see [FlagsOf]
}

// Permits judges the outer IDs of a pair of maps, counted on the host. It
// establishes that both maps are valid, and that every outer ID
//
//   - lies in a line of the holder that isn't reserved, or is their own (see [Own]);
//   - isn't one of those never granted: 0, 65534, 65535, 4294967295;
//   - lies in no line of another owner and in no reserved line, whoever's;
//   - isn't an account of the host: a user's for UIDs, a group's for GIDs.
//
// The holder's own IDs are held against the second rule only: they have them
// whatever the book says. UIDs and GIDs are judged by the same lines.
//
// The error joins every reason, each naming the extent, the IDs and what would
// mend it; with any error the Verdict is zero. Whether the IDs are in use by
// another container is not looked at.
func (g *Grant) Permits(uids, gids idmap.Map) (Verdict, error) {
	var invalid problems
	if err := uids.Validate(); err != nil {
		invalid.add(fmt.Errorf("uid map: %w", err))
	}
	if err := gids.Validate(); err != nil {
		invalid.add(fmt.Errorf("gid map: %w", err))
	}
	if err := invalid.join(); err != nil {
		return Verdict{}, err
	}
	used := touching(uids, gids)
	var v Verdict
	for _, line := range g.lines {
		if used(line.Range) {
			v.Lines = append(v.Lines, line)
		}
	}
	v.Flags = FlagsOf(v.Lines)
	foreign := g.book.find(func(_ []byte, ids idmap.Range) bool { return used(ids) })
	foreign = slices.DeleteFunc(foreign, func(l Line) bool { return g.holder.is([]byte(l.Owner)) && !l.Flags.Reserved })
	j := judge{grant: g, lines: v.Lines, foreign: foreign}
	uid := side{name: "uid", ids: uids, accounts: g.host.Users, account: "user", change: "usermod -u"}
	gid := side{name: "gid", ids: gids, accounts: g.host.Groups, account: "group", change: "groupmod -g"}
	if own := g.holder.Own; own != nil {
		uid.own = idmap.Range{Start: own.UID, Count: 1}
		gid.own = idmap.Range{Start: own.GID, Count: 1}
		gid.ownDenied = !v.Flags.DenySetgroups && !own.SetgroupsDenied
	}
	j.side(uid)
	j.side(gid)
	if err := j.bad.join(); err != nil {
		return Verdict{}, err
	}
	return v, nil
}

// touching says of a range whether a map uses any of it; most of a big book is
// told apart by two comparisons.
func touching(maps ...idmap.Map) func(idmap.Range) bool {
	low, high := uint64(1)<<32, uint64(0)
	for _, m := range maps {
		for _, e := range m {
			low, high = min(low, uint64(e.Outer)), max(high, e.OuterRange().End())
		}
	}
	return func(r idmap.Range) bool {
		if r.End() <= low || uint64(r.Start) >= high {
			return false
		}
		for _, m := range maps {
			for _, e := range m {
				if e.OuterRange().Overlaps(r) {
					return true
				}
			}
		}
		return false
	}
}

// side is one of the two maps, and what is particular to it.
type side struct {
	name      string
	ids       idmap.Map
	own       idmap.Range // the holder's own ID; empty if they have none
	ownDenied bool        // but it is their own group, and setgroups isn't denied
	accounts  []Account
	account   string // what an account is called
	change    string // the command that gives one another ID
}

type judge struct {
	grant   *Grant
	lines   []Line // the holder's, touched
	foreign []Line // others' and reserved ones, touched
	bad     problems
}

func (j *judge) side(s side) {
	granted := make([]idmap.Range, len(j.lines))
	for i, l := range j.lines {
		granted[i] = l.Range
	}
	allowed, own := idmap.NewSet(granted...), idmap.NewSet(s.own)
	for _, e := range s.ids {
		j.never(s, e)
		ids := idmap.NewSet(e.OuterRange())
		switch {
		case !s.ownDenied:
			ids = ids.Subtract(own)
		case ids.ContainsSet(own) && !allowed.ContainsSet(own):
			j.ownGroup(s, e)
			ids = ids.Subtract(own)
		}
		taken := j.taken(s, e, ids)
		// What never can be granted has been said; a line couldn't mend it.
		for _, gap := range ids.Subtract(allowed).Subtract(neverSet()).Ranges() {
			j.missing(s, e, gap, taken)
		}
	}
}

func neverSet() idmap.Set {
	ranges := make([]idmap.Range, 0, len(never))
	for _, id := range never {
		ranges = append(ranges, idmap.Range{Start: id, Count: 1})
	}
	return idmap.NewSet(ranges...)
}

func (j *judge) never(s side, e idmap.Extent) {
	for _, id := range never {
		if e.OuterRange().Contains(id) {
			j.refuse(s, e, "outer %d can never be granted: map other IDs", id)
		}
	}
}

// taken refuses the IDs that are somebody else's, and returns them.
func (j *judge) taken(s side, e idmap.Extent, ids idmap.Set) idmap.Set {
	var all []idmap.Range
	for _, l := range j.foreign {
		for _, both := range ids.Intersect(idmap.NewSet(l.Range)).Ranges() {
			all = append(all, both)
			if l.Flags.Reserved {
				j.refuse(s, e, "outer %s is reserved by %s (%s): map other IDs, or remove that line", both, l.Owner, l.Where())
			} else {
				j.refuse(s, e, "outer %s belongs to %s (%s): map other IDs, or shorten one of the two lines", both, l.Owner, l.Where())
			}
		}
	}
	for _, a := range s.accounts {
		id := idmap.Range{Start: a.ID, Count: 1}
		if ids.Contains(id) {
			all = append(all, id)
			j.refuse(s, e, "outer %d is the host's %s %s (%s): map other IDs, or give it another: %s NEW %s",
				a.ID, s.account, a.Name, a.Where, s.change, rootfile.ShellQuote(a.Name))
		}
	}
	return idmap.NewSet(all...)
}

func (j *judge) ownGroup(s side, e idmap.Extent) {
	mend := "ask for setgroups to be denied"
	if len(j.lines) > 0 {
		mend += ", or add deny-setgroups to " + j.lines[0].Where()
	}
	j.refuse(s, e, "outer %d is the caller's own group, which can be mapped only where setgroups is denied (CVE-2018-7169): %s", s.own.Start, mend)
}

// missing refuses IDs that no line of the holder grants.
func (j *judge) missing(s side, e idmap.Extent, gap idmap.Range, taken idmap.Set) {
	name := j.grant.holder.Names[0]
	mend := "map IDs of these"
	if taken.Intersect(idmap.NewSet(gap)).Empty() {
		mend += ", or grant the others too: " + addLine(name, placed(gap)...)
	}
	j.refuse(s, e, "outer %s isn't granted to %s, whose lines are %s: %s", gap, name, considered(j.grant.lines), mend)
}

// placed is the flags of `usernsctl add` for the very IDs. A line has room for a container at least.
func placed(ids idmap.Range) []string {
	flags := []string{fmt.Sprintf("--start %d --length %d", ids.Start, ids.Count)}
	if ids.Count < DefaultSize {
		flags = append(flags, fmt.Sprintf("--size %d", ids.Count))
	}
	return flags
}

// considered lists lines for a message; a holder may have thousands.
func considered(lines []Line) string {
	const most = 8
	var parts []string
	for i, l := range lines {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(lines)-most))
			break
		}
		parts = append(parts, l.Where()+" "+l.Range.String())
	}
	return strings.Join(parts, ", ")
}

func (j *judge) refuse(s side, e idmap.Extent, format string, args ...any) {
	j.bad.add(fmt.Errorf("%s extent %s: %s", s.name, e, fmt.Sprintf(format, args...)))
}
