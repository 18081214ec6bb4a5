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
	// OwnGroup says that the GIDs have the holder's own, and none of a line of theirs:
	// setgroups has to be denied before they are mapped (see [Own]).
	OwnGroup bool
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
	return g.permits(g.uids(uids), g.gids(gids))
}

// PermitsUIDs is [Grant.Permits] for a namespace of which only the UIDs are
// mapped now, as newuidmap(1) does.
func (g *Grant) PermitsUIDs(uids idmap.Map) (Verdict, error) { return g.permits(g.uids(uids)) }

// PermitsGIDs is [Grant.Permits] for a namespace of which only the GIDs are
// mapped now, as newgidmap(1) does.
func (g *Grant) PermitsGIDs(gids idmap.Map) (Verdict, error) { return g.permits(g.gids(gids)) }

func (g *Grant) uids(m idmap.Map) side {
	s := side{name: "uid", ids: m, accounts: g.host.Users, account: "user", change: "usermod -u"}
	if own := g.holder.Own; own != nil {
		s.own = idmap.Range{Start: own.UID, Count: 1}
	}
	return s
}

func (g *Grant) gids(m idmap.Map) side {
	s := side{name: "gid", ids: m, accounts: g.host.Groups, account: "group", change: "groupmod -g"}
	if own := g.holder.Own; own != nil {
		s.own = idmap.Range{Start: own.GID, Count: 1}
		s.ownIsGroup, s.ownDenied = true, !own.SetgroupsDenied
	}
	return s
}

func (g *Grant) permits(sides ...side) (Verdict, error) {
	var invalid problems
	maps := make([]idmap.Map, len(sides))
	for i, s := range sides {
		maps[i] = s.ids
		if err := s.ids.Validate(); err != nil {
			invalid.add(fmt.Errorf("%s map: %w", s.name, err))
		}
	}
	if err := invalid.join(); err != nil {
		return Verdict{}, err
	}
	used := touching(maps...)
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
	for _, s := range sides {
		s.ownDenied = s.ownDenied && !v.Flags.DenySetgroups
		j.side(s)
	}
	if err := j.bad.join(); err != nil {
		return Verdict{}, err
	}
	v.OwnGroup = j.ownGroup
	return v, nil
}

// CheckOwned refuses flags that can't hold in a user namespace that belongs to
// the holder: see [Flags.BrokenByOwner]. The error names the line.
func (v Verdict) CheckOwned() error {
	for _, line := range v.Lines {
		if broken := line.Flags.BrokenByOwner(); broken != "" {
			return fmt.Errorf("%s: flag %s can't hold in a user namespace that belongs to %s, who has every capability in it: "+
				"have root start the container, or take the flag from the line", line.Where(), broken, line.Owner)
		}
	}
	return nil
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
	name       string
	ids        idmap.Map
	own        idmap.Range // the holder's own ID; empty if they have none
	ownIsGroup bool        // which without IDs of a line can be mapped only where setgroups is denied
	ownDenied  bool        // which it isn't
	accounts   []Account
	account    string // what an account is called
	change     string // the command that gives one another ID
}

type judge struct {
	grant   *Grant
	lines   []Line // the holder's, touched
	foreign []Line // others' and reserved ones, touched
	bad     problems
	// ownGroup is [Verdict.OwnGroup].
	ownGroup bool
}

func (j *judge) side(s side) {
	lines := make([]idmap.Range, len(j.lines))
	for i, l := range j.lines {
		lines[i] = l.Range
	}
	allowed, own := idmap.NewSet(lines...), idmap.NewSet(s.own)
	others := allowed.Subtract(own)
	alone := !slices.ContainsFunc(s.ids, func(e idmap.Extent) bool { return others.Touches(e.OuterRange()) })
	for _, e := range s.ids {
		j.never(s, e)
		ids := idmap.NewSet(e.OuterRange())
		group := s.ownIsGroup && ids.ContainsSet(own) && alone
		j.ownGroup = j.ownGroup || group
		if group && s.ownDenied {
			j.refuseOwnGroup(s, e)
		}
		ids = ids.Subtract(own)
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

func (j *judge) refuseOwnGroup(s side, e idmap.Extent) {
	j.refuse(s, e, "outer %d is the caller's own group, which without a group of their lines can be mapped only where setgroups is denied (CVE-2018-7169): ask for setgroups to be denied", s.own.Start)
}

// missing refuses IDs that no line of the holder grants.
func (j *judge) missing(s side, e idmap.Extent, gap idmap.Range, taken idmap.Set) {
	if len(j.grant.lines) == 0 {
		j.refuse(s, e, "outer %s: %w", gap, j.grant.none)
		return
	}
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
	j.bad.add(fmt.Errorf("%s extent %s: %w", s.name, e, fmt.Errorf(format, args...)))
}
