// SPDX-License-Identifier: Apache-2.0

package census

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Sight is a census by somebody who may not be root: what could be seen, and what not.
type Sight struct {
	Census
	// LeasesKnown says that the leases could be read. Where it is false there are none in
	// Leases, and an ID that nothing seems to hold may be held all the same.
	LeasesKnown bool
	// LiveKnown says that the processes of all users could be looked at.
	LiveKnown bool
	// Names is the processes of Live, by their numbers, in words.
	Names map[int]string
}

// Survey looks at everything that the caller may see. What only root may know is no error:
// see LeasesKnown and LiveKnown.
func Survey(p Paths) (*Sight, error) {
	s := &Sight{LeasesKnown: true, Names: map[int]string{}}
	var err error
	if s.World, s.Warnings, err = p.World(); err != nil {
		return nil, err
	}
	// With hidepid=2 the processes of others aren't even there (proc(5)).
	_, err = os.Lstat("/proc/1")
	hidden := errors.Is(err, fs.ErrNotExist)
	if s.Leases, err = Leases(); errors.Is(err, fs.ErrPermission) || hidden && err != nil {
		s.LeasesKnown, err = false, nil
	}
	if err != nil {
		return nil, err
	}
	s.LiveKnown = !hidden
	if s.Live, err = lease.Live(); errors.Is(err, fs.ErrPermission) {
		s.LiveKnown, err = false, nil
	}
	if err != nil {
		return nil, fmt.Errorf("census: %w", err)
	}
	s.Kin = kinOf(s.Live)
	for _, ns := range s.foreign() {
		s.Names[ns.PID] = process(ns)
	}
	return s, nil
}

// foreign is the live namespaces that no lease answers for, each once. Where the numbers of
// namespaces may not be known, those with the same IDs are taken for one.
func (s *Sight) foreign() []lease.LiveNS {
	seen := make(map[string]bool)
	var out []lease.LiveNS
	for _, ns := range s.Unleased() {
		if key := fmt.Sprint(ns.Inode, ns.IDs()); !seen[key] {
			seen[key] = true
			out = append(out, ns)
		}
	}
	return out
}

// Kind is what has the IDs of a [Span], or of a [Claim].
type Kind string

// The kinds, in the order in which spans that begin at one ID are listed.
const (
	KindLine      Kind = "line"      // a line of the book that grants
	KindReserved  Kind = "reserved"  // a line of the book that only reserves
	KindAllocator Kind = "allocator" // software that is installed, and takes IDs by itself
	KindSubUID    Kind = "subuid"
	KindSubGID    Kind = "subgid"
	KindUser      Kind = "user"
	KindGroup     Kind = "group"
	KindPin       Kind = "pin"       // what a pin holds, beside its owner's containers
	KindContainer Kind = "container" // what a container holds
	KindNamespace Kind = "namespace" // a live user namespace that no lease answers for
	KindConflict  Kind = "conflict"  // a finding of [registry.Check]
)

// Plural is several of a kind, in words.
func (k Kind) Plural() string {
	switch k {
	case KindReserved:
		return "reserved lines"
	case KindSubUID, KindSubGID:
		return "lines of " + string(k)
	default:
		return string(k) + "s"
	}
}

var kinds = []Kind{
	KindLine, KindReserved, KindAllocator, KindSubUID, KindSubGID, KindUser, KindGroup, KindPin, KindContainer, KindNamespace, KindConflict,
}

// Span is IDs in a row, and what has them. Spans may lie over each other.
type Span struct {
	Range idmap.Range // empty for a conflict that isn't about certain IDs
	Kind  Kind
	// Owner is whose they are: an owner of the book or of subuid, an account's name, a
	// program. "" is that it isn't known, or that it is a conflict.
	Owner string
	// Where is what says so: "/etc/usernamespaces:3", "container web of /run/runc".
	Where string
	// Held is how many of a line's IDs somebody alive holds, and Holders how many leases and
	// namespaces that is. See Sight.LeasesKnown for what these numbers are worth.
	Held    uint64
	Holders int
	Flags   registry.Flags // of a line
	// Severity and Note are a conflict's: how bad, and the whole of it in words.
	Severity registry.Severity
	Note     string // of an allocator: what for
}

// Owner is all lines of one owner of the book.
type Owner struct {
	Name     string
	First    idmap.Range // the first of the lines, by its IDs
	Lines    int         // that grant
	Reserved int         // lines that only reserve
	IDs      uint64      // that are granted, each counted once
	Held     uint64      // of those
	Free     uint64      // those that are neither held nor reserved
	Holders  int         // leases and live namespaces that have some of the IDs
}

// Atlas is who has which IDs of a host, in the order of the IDs.
type Atlas struct {
	Spans     []Span
	Owners    []Owner       // by what they have, most first
	Regions   []idmap.Range // where something is, apart from each other and rising
	Conflicts []registry.Conflict

	// LeasesKnown and LiveKnown are those of the [Sight].
	LeasesKnown, LiveKnown bool

	Granted, Reserved idmap.Set // by lines of the book
	Held              idmap.Set // by leases and live namespaces
	Used              idmap.Set // by anything
	// HeldOfGranted is how many IDs are both, FreeOfGranted how many are granted and neither
	// held nor reserved.
	HeldOfGranted, FreeOfGranted uint64
	// Next is where a line of [registry.DefaultSize] IDs has room, as [Census.Place]
	// finds it; empty if there is none. Largest is the longest row of IDs that nothing uses,
	// above the accounts of the host.
	Next, Largest idmap.Range
}

// Whole is the ID space: all numbers but (uid_t)-1, which is nobody's.
var Whole = idmap.Range{Start: 0, Count: idmap.Invalid}

// Atlas puts together what is seen and what the book says. It looks at nothing itself, and
// takes a time that grows with what there is, not with its square (but for those who hold several
// ranges, each of which is held against each line).
func (s *Sight) Atlas(b *registry.Book) *Atlas {
	a := &Atlas{LeasesKnown: s.LeasesKnown, LiveKnown: s.LiveKnown}
	a.Conflicts = append(registry.Check(b, s.World), s.Warnings...)
	h := s.holders()
	lines := b.Lines()
	a.Spans = make([]Span, 0, len(lines)+len(h.spans)+len(a.Conflicts))
	var granted, reserved []idmap.Range
	for _, l := range lines {
		if l.Flags.Reserved {
			reserved = append(reserved, l.Range)
			a.Spans = append(a.Spans, Span{Range: l.Range, Kind: KindReserved, Owner: l.Owner, Where: l.Where(), Flags: l.Flags})
			continue
		}
		granted = append(granted, l.Range)
		a.Spans = append(a.Spans, Span{
			Range: l.Range, Kind: KindLine, Owner: l.Owner, Where: l.Where(), Flags: l.Flags, Held: h.ids.In(l.Range), Holders: h.count(l.Range),
		})
	}
	a.Spans = append(a.Spans, s.others()...)
	a.Spans = append(a.Spans, h.spans...)
	a.Granted, a.Reserved, a.Held = idmap.NewSet(granted...), idmap.NewSet(reserved...), idmap.NewSet(h.ranges...)
	a.HeldOfGranted = a.Granted.Len() + a.Held.Len() - a.Granted.Union(a.Held).Len()
	taken := a.Held.Union(a.Reserved)
	a.FreeOfGranted = a.Granted.Union(taken).Len() - taken.Len()
	a.owners(lines, h, NewTally(taken))

	used := make([]idmap.Range, 0, len(a.Spans))
	zoomed := make([]idmap.Range, 0, len(a.Spans))
	for _, sp := range a.Spans {
		used = append(used, sp.Range)
		// Of what software might take, not much need be taken: it is shown, but not zoomed to.
		if sp.Kind != KindAllocator {
			zoomed = append(zoomed, sp.Range)
		}
	}
	a.Used = idmap.NewSet(used...)
	a.Regions = regions(idmap.NewSet(zoomed...))
	a.Next, a.Largest = room(a.Used)

	for _, c := range a.Conflicts {
		a.Spans = append(a.Spans, Span{Range: c.Range, Kind: KindConflict, Where: c.Where, Severity: c.Severity, Note: c.Message})
	}
	slices.SortStableFunc(a.Spans, func(x, y Span) int {
		return cmp.Or(
			cmp.Compare(x.Range.Start, y.Range.Start), cmp.Compare(y.Range.Count, x.Range.Count),
			cmp.Compare(slices.Index(kinds, x.Kind), slices.Index(kinds, y.Kind)), strings.Compare(x.Owner, y.Owner), strings.Compare(x.Where, y.Where),
		)
	})
	return a
}

// others is what has IDs beside the book, and isn't alive.
func (c *Census) others() []Span {
	var out []Span
	one := func(id uint32) idmap.Range { return idmap.Range{Start: id, Count: 1} }
	for _, u := range c.World.Host.Users {
		out = append(out, Span{Range: one(u.ID), Kind: KindUser, Owner: u.Name, Where: u.Where})
	}
	for _, g := range c.World.Host.Groups {
		out = append(out, Span{Range: one(g.ID), Kind: KindGroup, Owner: g.Name, Where: g.Where})
	}
	for _, id := range c.World.SubUIDs {
		out = append(out, Span{Range: id.Range, Kind: KindSubUID, Owner: id.Owner, Where: id.Where})
	}
	for _, id := range c.World.SubGIDs {
		out = append(out, Span{Range: id.Range, Kind: KindSubGID, Owner: id.Owner, Where: id.Where})
	}
	for _, al := range registry.Allocators() {
		if slices.Contains(c.World.Installed, al.Software) {
			out = append(out, Span{Range: al.Range, Kind: KindAllocator, Owner: string(al.Software), Where: string(al.Software) + ", which is installed", Note: al.Use})
		}
	}
	return out
}

// owners adds the lines up, for each owner.
func (a *Atlas) owners(lines []registry.Line, h *holders, taken Tally) {
	all := make(map[string]*Owner)
	ids := make(map[string][]idmap.Range)
	var names []string
	for _, l := range lines {
		o := all[l.Owner]
		if o == nil {
			o = &Owner{Name: l.Owner, First: l.Range}
			all[l.Owner] = o
			names = append(names, l.Owner)
		}
		if l.Range.Start < o.First.Start {
			o.First = l.Range
		}
		if l.Flags.Reserved {
			o.Reserved++
			continue
		}
		o.Lines++
		ids[l.Owner] = append(ids[l.Owner], l.Range)
	}
	for _, name := range names {
		o := all[name]
		for _, r := range idmap.NewSet(ids[name]...).Ranges() {
			o.IDs += uint64(r.Count)
			o.Held += h.ids.In(r)
			o.Free += uint64(r.Count) - taken.In(r)
			// One that lies in two ranges apart from each other is counted in both.
			o.Holders += h.count(r)
		}
		a.Owners = append(a.Owners, *o)
	}
	slices.SortStableFunc(a.Owners, func(x, y Owner) int {
		return cmp.Or(cmp.Compare(y.IDs, x.IDs), cmp.Compare(x.First.Start, y.First.Start), strings.Compare(x.Name, y.Name))
	})
}

// holders is what is alive: its ranges for the sums, and as spans.
type holders struct {
	ranges        []idmap.Range
	ids           Tally
	starts, lasts []uint32    // of those that hold one range, each sorted
	scattered     []scattered // those that hold several
	spans         []Span
}

// scattered is one who holds several ranges, from the first ID to the last.
type scattered struct {
	first, last uint32
	ranges      []idmap.Range
}

func (s *Sight) holders() *holders {
	h := &holders{}
	add := func(ids idmap.Set, span Span) {
		ranges := ids.Ranges()
		h.ranges = append(h.ranges, ranges...)
		for _, r := range ranges {
			span.Range = r
			h.spans = append(h.spans, span)
		}
		if len(ranges) == 1 {
			h.starts = append(h.starts, ranges[0].Start)
			h.lasts = append(h.lasts, ranges[0].Start+(ranges[0].Count-1))
		} else if len(ranges) > 1 {
			last := ranges[len(ranges)-1]
			h.scattered = append(h.scattered, scattered{ranges[0].Start, last.Start + (last.Count - 1), ranges})
		}
	}
	for _, l := range s.Leases {
		if l.IsPin() {
			// It is in nobody's way who may have the IDs: what it has is free for them.
			for _, r := range l.Ranges.Ranges() {
				h.spans = append(h.spans, Span{Range: r, Kind: KindPin, Owner: l.Owner, Where: Holder(l)})
			}
			continue
		}
		add(l.Ranges, Span{Kind: KindContainer, Owner: l.Owner, Where: Holder(l)})
	}
	for _, ns := range s.foreign() {
		where := s.Names[ns.PID]
		if where == "" {
			where = fmt.Sprintf("process %d in a user namespace", ns.PID)
		}
		add(ns.IDs(), Span{Kind: KindNamespace, Where: where})
	}
	h.ids = NewTally(idmap.NewSet(h.ranges...))
	slices.Sort(h.starts)
	slices.Sort(h.lasts)
	return h
}

// count is how many have some IDs of a range.
func (h *holders) count(r idmap.Range) int {
	begun, _ := slices.BinarySearchFunc(h.starts, r.End(), func(start uint32, end uint64) int { return cmp.Compare(uint64(start), end) })
	ended, _ := slices.BinarySearch(h.lasts, r.Start)
	n := begun - ended
	for i := range h.scattered {
		// Most are elsewhere, which is seen without going through their ranges.
		l := &h.scattered[i]
		if uint64(l.first) < r.End() && l.last >= r.Start && slices.ContainsFunc(l.ranges, r.Overlaps) {
			n++
		}
	}
	return n
}

// Tally counts the IDs of a set that lie in a range, without going through all of the set.
type Tally struct {
	ranges []idmap.Range
	before []uint64 // how many IDs are in the ranges before
}

// NewTally makes the counter of a set.
func NewTally(ids idmap.Set) Tally {
	t := Tally{ranges: ids.Ranges()}
	n := uint64(0)
	for _, r := range t.ranges {
		t.before = append(t.before, n)
		n += uint64(r.Count)
	}
	return t
}

// In is how many IDs of the set lie in a range.
func (t Tally) In(r idmap.Range) uint64 { return t.below(r.End()) - t.below(uint64(r.Start)) }

// below is how many IDs of the set are less than id.
func (t Tally) below(id uint64) uint64 {
	i, _ := slices.BinarySearchFunc(t.ranges, id, func(r idmap.Range, id uint64) int { return cmp.Compare(uint64(r.Start), id) })
	if i == 0 {
		return 0
	}
	last := t.ranges[i-1]
	return t.before[i-1] + min(id, last.End()) - uint64(last.Start)
}
