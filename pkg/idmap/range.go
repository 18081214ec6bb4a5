// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Invalid is (uid_t)-1, which the kernel uses for "no ID": it can be neither
// mapped nor granted (kernel: include/linux/uidgid.h, INVALID_UID).
const Invalid uint32 = 1<<32 - 1

// Overflow is the ID that the kernel shows for one that isn't mapped in the
// reader's user namespace (user_namespaces(7), "Unmapped user and group IDs";
// the default of /proc/sys/kernel/overflowuid).
const Overflow uint32 = 65534

// ErrRange is wrapped by every error about a range or extent that no kernel
// could hold: no IDs in it, or IDs at or beyond [Invalid].
var ErrRange = errors.New("impossible range of IDs")

// Range is the IDs from Start to Start+Count-1. A Range with Count 0 holds
// nothing.
type Range struct {
	Start uint32
	Count uint32
}

// End is the first ID after the range. It is 64 bits wide, since a range that
// ends with the last ID there is ends at 1<<32.
func (r Range) End() uint64 { return uint64(r.Start) + uint64(r.Count) }

// Validate refuses, with [ErrRange], a range that is empty or that reaches
// [Invalid].
func (r Range) Validate() error {
	switch {
	case r.Count == 0:
		return fmt.Errorf("%w: %d IDs from %d: expected at least 1", ErrRange, r.Count, r.Start)
	case r.End() > uint64(Invalid):
		return fmt.Errorf("%w: %d IDs from %d reach %d: the last ID there is is %d",
			ErrRange, r.Count, r.Start, r.End()-1, Invalid-1)
	}
	return nil
}

// Contains says whether id lies in the range.
func (r Range) Contains(id uint32) bool {
	return id >= r.Start && uint64(id) < r.End()
}

// Overlaps says whether some ID lies in both ranges.
func (r Range) Overlaps(o Range) bool {
	return r.Count > 0 && o.Count > 0 && uint64(r.Start) < o.End() && uint64(o.Start) < r.End()
}

// Intersect is the IDs that lie in both ranges; ok is false when there are none.
func (r Range) Intersect(o Range) (both Range, ok bool) {
	if !r.Overlaps(o) {
		return Range{}, false
	}
	start := max(r.Start, o.Start)
	return Range{Start: start, Count: uint32(min(r.End(), o.End()) - uint64(start))}, true
}

// String is the half-open form, "[100000-165536)".
func (r Range) String() string { return fmt.Sprintf("[%d-%d)", r.Start, r.End()) }

// Set is IDs, kept as ranges that are sorted, apart from each other and not
// empty. The zero Set holds nothing. Build one with [NewSet]; methods return
// new sets and leave theirs as it was.
type Set struct{ ranges []Range }

// NewSet is the set of all IDs of the ranges, which may come in any order,
// overlap, touch or be empty.
func NewSet(ranges ...Range) Set {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int {
		if a.Start != b.Start {
			if a.Start < b.Start {
				return -1
			}
			return 1
		}
		return 0
	})
	var out []Range
	for _, r := range sorted {
		if r.Count == 0 {
			continue
		}
		last := len(out) - 1
		if last < 0 || uint64(r.Start) > out[last].End() {
			out = append(out, r)
			continue
		}
		// The union of [0, 1<<32) has a count that no uint32 holds; it is
		// clipped by one. Invalid, the ID lost, is never anybody's.
		if r.End() > out[last].End() {
			out[last].Count = uint32(min(r.End()-uint64(out[last].Start), uint64(Invalid)))
		}
	}
	return Set{out}
}

// Ranges is the set's ranges in rising order, none touching the next.
func (s Set) Ranges() []Range { return slices.Clone(s.ranges) }

// Empty says whether the set holds nothing.
func (s Set) Empty() bool { return len(s.ranges) == 0 }

// Len is how many IDs the set holds.
func (s Set) Len() uint64 {
	var n uint64
	for _, r := range s.ranges {
		n += uint64(r.Count)
	}
	return n
}

// Contains says whether every ID of r lies in the set. An empty range lies in
// every set.
func (s Set) Contains(r Range) bool {
	if r.Count == 0 {
		return true
	}
	// The ranges never touch, so r lies in one of them or not at all.
	rest := s.from(r.Start)
	return len(rest) > 0 && rest[0].Start <= r.Start && r.End() <= rest[0].End()
}

// from is the ranges that end behind an ID. Sets may have a range for each container of a host.
func (s Set) from(id uint32) []Range {
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].End() > uint64(id) })
	return s.ranges[i:]
}

// Touches says whether some ID of r lies in the set.
func (s Set) Touches(r Range) bool {
	rest := s.from(r.Start)
	return len(rest) > 0 && rest[0].Overlaps(r)
}

// ContainsSet says whether every ID of o lies in s.
func (s Set) ContainsSet(o Set) bool { return s.Subtract(o).Len() == s.Len()-o.Len() }

// Union is the IDs that lie in either set.
func (s Set) Union(o Set) Set { return NewSet(append(s.Ranges(), o.ranges...)...) }

// Intersect is the IDs that lie in both sets.
func (s Set) Intersect(o Set) Set {
	if len(s.ranges) > len(o.ranges) {
		s, o = o, s
	}
	var out []Range // in rising order, none touching the next, since those of o don't
	for _, a := range s.ranges {
		for _, b := range o.from(a.Start) {
			both, ok := a.Intersect(b)
			if !ok {
				break
			}
			out = append(out, both)
		}
	}
	return Set{out}
}

// Subtract is the IDs of s that don't lie in o.
func (s Set) Subtract(o Set) Set {
	var out []Range // in rising order, none touching the next: something is gone between them
	for _, have := range s.ranges {
		start := uint64(have.Start)
		for _, gone := range o.from(have.Start) {
			if !have.Overlaps(gone) {
				break
			}
			if uint64(gone.Start) > start {
				out = append(out, Range{uint32(start), uint32(uint64(gone.Start) - start)})
			}
			start = max(start, gone.End())
		}
		if start < have.End() {
			out = append(out, Range{uint32(start), uint32(have.End() - start)})
		}
	}
	return Set{out}
}

// FirstFit is the lowest range of count IDs that lies in the set; ok is false
// when there is none, or count is 0.
func (s Set) FirstFit(count uint32) (fit Range, ok bool) {
	if count == 0 {
		return Range{}, false
	}
	for _, r := range s.ranges {
		if r.Count >= count {
			return Range{r.Start, count}, true
		}
	}
	return Range{}, false
}

// String lists the ranges, "[100000-165536), [200000-200001)"; the empty set
// is "nothing".
func (s Set) String() string {
	if s.Empty() {
		return "nothing"
	}
	parts := make([]string, len(s.ranges))
	for i, r := range s.ranges {
		parts[i] = r.String()
	}
	return strings.Join(parts, ", ")
}
