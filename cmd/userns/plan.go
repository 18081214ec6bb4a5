// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// plan is the user namespace that was asked for, and what decided about it.
type plan struct {
	caller delegate.Caller
	// uids and gids are the maps, the outer IDs as the caller's own user namespace
	// counts them; hostUIDs and hostGIDs are the same counted on the host.
	uids, gids, hostUIDs, hostGIDs idmap.Map
	// denySetgroups says that setgroups(2) won't work inside; deniedAround that it doesn't
	// where the caller is, which is handed down (user_namespaces(7)).
	denySetgroups, deniedAround bool
	verdict                     registry.Verdict
	// uid and gid are who the program is run as inside.
	uid, gid uint32
	// dropGroups says that it is run without the caller's supplementary groups.
	dropGroups bool
	// rootFirst says that the child has inner UID 0 from the start, and loses its
	// capabilities with that (capabilities(7)).
	rootFirst bool
}

// makePlan finds the maps and has them judged. Nothing is made. What it returns beside an
// error is as far as it came.
func makePlan(caller delegate.Caller, o execOptions) (plan, error) {
	p := plan{caller: caller}
	grant, err := p.choose(o.maps)
	if err != nil {
		return p, err
	}
	if p.hostUIDs, err = p.uids.Through(caller.UIDs); err != nil {
		return p, fmt.Errorf("uid map: %w", err)
	}
	if p.hostGIDs, err = p.gids.Through(caller.GIDs); err != nil {
		return p, fmt.Errorf("gid map: %w", err)
	}
	if err := p.judge(grant, o.maps.setgroups); err != nil {
		return p, err
	}
	return p, p.identity(o)
}

// choose sets the maps, and gives the grant that they are to be judged by.
func (p *plan) choose(m mapOptions) (*registry.Grant, error) {
	self := [2]uint32{uint32(os.Getuid()), uint32(os.Getgid())}
	own := func(inner [2]uint32) {
		p.uids = idmap.Map{{Inner: inner[0], Outer: self[0], Count: 1}}
		p.gids = idmap.Map{{Inner: inner[1], Outer: self[1], Count: 1}}
	}
	switch {
	case len(m.uids) > 0 || len(m.gids) > 0:
		if len(m.uids) == 0 || len(m.gids) == 0 {
			return nil, errors.New("--uid-map and --gid-map go together: give both")
		}
		p.uids, p.gids = m.uids, m.gids
	case m.mode == mapRoot || m.root && m.mode == "":
		own([2]uint32{})
	case m.current && m.mode == "":
		own(self)
	default:
		return p.chooseLine(m, self)
	}
	if p.onlyOwn(self) {
		// No line of the book is needed, so that a book that can't be read is in nobody's way.
		return (&registry.Book{}).GrantOrOwn(p.holder(m), registry.Host{}), nil
	}
	return grantOf(p.holder(m))
}

// holder is the caller as the book knows them. Setgroups will be denied wherever their own group is
// mapped, unless they ask for the contrary.
func (p *plan) holder(m mapOptions) registry.Holder {
	h := p.caller.Holder()
	if h.Own != nil {
		h.Own.SetgroupsDenied = m.setgroups != setgroupsAllow
	}
	return h
}

// onlyOwn says whether nothing but the caller's own two IDs is mapped.
func (p *plan) onlyOwn(self [2]uint32) bool {
	return len(p.uids) == 1 && p.uids[0].OuterRange() == idmap.Range{Start: self[0], Count: 1} &&
		len(p.gids) == 1 && p.gids[0].OuterRange() == idmap.Range{Start: self[1], Count: 1}
}

// chooseLine maps the whole of the caller's first line from inner 0, with the caller's
// own IDs in between where they are asked for.
func (p *plan) chooseLine(m mapOptions, self [2]uint32) (*registry.Grant, error) {
	grant, err := grantOf(p.holder(m))
	if err != nil {
		return nil, err
	}
	lines := grant.Lines()
	if len(lines) == 0 {
		// The error says so, and what mends it.
		_, _, err := grant.First()
		return nil, err
	}
	for i, side := range []struct {
		m    *idmap.Map
		ours idmap.Map
	}{{&p.uids, p.caller.UIDs}, {&p.gids, p.caller.GIDs}} {
		first := idmap.Map{{Inner: 0, Outer: lines[0].Range.Start, Count: lines[0].Range.Count}}
		line, err := first.Into(side.ours)
		if err != nil {
			return nil, fmt.Errorf("%s %s: not all of it is mapped in the user namespace that you are in: say by --uid-map and --gid-map what you want of it: %w",
				lines[0].Where(), lines[0].Range, err)
		}
		switch {
		case m.root:
			line = around(line, 0, self[i])
		case m.mode == mapKeepID, m.current:
			line = around(line, self[i], self[i])
		}
		*side.m = line
	}
	return grant, nil
}

// around is the IDs of a map, in their order, with the caller's own at the place
// inner: what is mapped from there on moves up by one.
func around(m idmap.Map, inner, own uint32) idmap.Map {
	var out idmap.Map
	for _, e := range m {
		if before := min(e.Count, max(inner, e.Inner)-e.Inner); before > 0 {
			out = append(out, idmap.Extent{Inner: e.Inner, Outer: e.Outer, Count: before})
			e.Inner, e.Outer, e.Count = e.Inner+before, e.Outer+before, e.Count-before
		}
		if e.Count > 0 {
			out = append(out, idmap.Extent{Inner: e.Inner + 1, Outer: e.Outer, Count: e.Count})
		}
	}
	return append(out, idmap.Extent{Inner: inner, Outer: own, Count: 1})
}

// grantOf reads the book and the host's accounts, as a grant for the holder. One without a line has a
// grant of their own IDs.
func grantOf(holder registry.Holder) (*registry.Grant, error) {
	book, host, err := registry.Current()
	if err != nil {
		return nil, err
	}
	return book.GrantOrOwn(holder, host), nil
}

// judge asks the book, and says whether setgroups is to be denied.
func (p *plan) judge(grant *registry.Grant, setgroups string) error {
	var err error
	if p.verdict, err = grant.Permits(p.hostUIDs, p.hostGIDs); err != nil {
		return err
	}
	if err := p.verdict.CheckOwned(); err != nil {
		return err
	}
	around, err := os.ReadFile("/proc/self/setgroups")
	if err != nil {
		return err
	}
	p.deniedAround = string(around) != setgroupsAllow+"\n"
	given := p.deniedAround || p.verdict.Flags.DenySetgroups
	if setgroups == setgroupsAllow && given {
		return fmt.Errorf("--setgroups %s: it is denied%s: leave the option out", setgroups, p.whyDenied(setgroups))
	}
	p.denySetgroups = setgroups == setgroupsDeny || p.verdict.OwnGroup || given
	return nil
}

// identity finds who the program is run as: the caller, where they are mapped,
// else inner 0.
func (p *plan) identity(o execOptions) error {
	for _, side := range []struct {
		kind, option string
		m            idmap.Map
		self         int
		asked, is    *uint32
	}{
		{"UID", "--setuid", p.uids, os.Getuid(), o.uid, &p.uid},
		{"GID", "--setgid", p.gids, os.Getgid(), o.gid, &p.gid},
	} {
		inner, mapped := side.m.ToInner(uint32(side.self))
		_, root := side.m.ToOuter(0)
		switch {
		case side.asked != nil:
			if _, ok := side.m.ToOuter(*side.asked); !ok {
				return fmt.Errorf("%s %d: the map %s has no such inner %s", side.option, *side.asked, side.m, side.kind)
			}
			*side.is = *side.asked
		case mapped:
			*side.is = inner
		case !root:
			return fmt.Errorf("the map %s has neither inner %s 0 nor your own: say by %s which one is to be taken", side.m, side.kind, side.option)
		}
	}
	inner, mapped := p.uids.ToInner(uint32(os.Getuid()))
	p.rootFirst = mapped && inner == 0
	own, mapped := p.gids.ToInner(uint32(os.Getgid()))
	switch {
	case !p.denySetgroups:
		// Who is somebody else inside has nothing to do with the caller's groups.
		p.dropGroups = o.gid != nil || !mapped || own != p.gid
	case o.gid != nil:
		return fmt.Errorf("--setgid %d: it gives up your supplementary groups, and setgroups is denied%s", *o.gid, p.whyDenied(o.maps.setgroups))
	}
	return nil
}

// whyDenied is the reason that setgroups is denied for.
func (p *plan) whyDenied(asked string) string {
	switch {
	case p.deniedAround:
		return " in the user namespace that you are in"
	case p.verdict.Flags.DenySetgroups:
		i := slices.IndexFunc(p.verdict.Lines, func(l registry.Line) bool { return l.Flags.DenySetgroups })
		return " by the flag deny-setgroups of " + p.verdict.Lines[i].Where()
	case p.verdict.OwnGroup:
		return " since your own group is mapped, and none of a line (CVE-2018-7169)"
	case asked == setgroupsDeny:
		return " as asked for"
	}
	return ""
}
