// SPDX-License-Identifier: Apache-2.0

package census

import (
	"cmp"
	"slices"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

const (
	// maxRegions is how many parts of the space are shown larger: more aren't seen at a glance.
	maxRegions = 6
	// low is the end of the 16 bits of IDs that accounts are in. They are a region of their
	// own, unless something lies across their end.
	low = 65536
	// least is how long a range counts when regions are told apart, so that accounts with high
	// numbers, each of one ID, don't become one each.
	least = 65536
)

// regions is the parts of the space in which something is: what is used is in one of them, and
// the gaps between them are longer than what they keep apart, unless there would be more than
// [maxRegions]. Then only the longest gaps count. They are a little longer than what is in them,
// to round numbers.
func regions(used idmap.Set) []idmap.Range {
	hulls := clusters(used)
	if len(hulls) > maxRegions {
		hulls = widestGaps(hulls, maxRegions)
	}
	out := make([]idmap.Range, 0, len(hulls))
	for i, h := range hulls {
		from, to := uint64(h.Start), h.End()
		if to <= low && from < low {
			out = append(out, idmap.Range{Start: 0, Count: low})
			continue
		}
		grid := uint64(1)
		for grid*32 <= to-from {
			grid *= 2
		}
		floor, ceiling := uint64(0), uint64(idmap.Invalid)
		if i > 0 {
			floor = max(hulls[i-1].End(), uint64(out[i-1].Start)+uint64(out[i-1].Count))
		}
		if i+1 < len(hulls) {
			ceiling = uint64(hulls[i+1].Start)
		}
		from = max(floor, (from-min(from, grid))/grid*grid)
		to = min(ceiling, (to+2*grid-1)/grid*grid)
		out = append(out, idmap.Range{Start: uint32(from), Count: uint32(to - from)})
	}
	return out
}

// clusters joins ranges that are nearer to each other than they are long together.
func clusters(used idmap.Set) []idmap.Range {
	weight := func(r idmap.Range) uint64 { return max(uint64(r.Count), least) }
	var stack []idmap.Range
	for _, r := range used.Ranges() {
		if r.Start == idmap.Invalid {
			continue
		}
		stack = append(stack, idmap.Range{Start: r.Start, Count: min(r.Count, idmap.Invalid-r.Start)})
		for len(stack) > 1 {
			a, b := stack[len(stack)-2], stack[len(stack)-1]
			apart := a.End() <= low && b.Start >= low
			if gap := uint64(b.Start) - a.End(); apart || gap > weight(a)+weight(b) && b.Start >= low {
				break
			}
			stack = append(stack[:len(stack)-2], hull(a, b))
		}
	}
	return stack
}

// widestGaps keeps the n-1 longest gaps, and the one above the accounts.
func widestGaps(hulls []idmap.Range, n int) []idmap.Range {
	type gap struct {
		before int // the hull that it lies before
		length uint64
	}
	var gaps []gap
	for i := 1; i < len(hulls); i++ {
		g := gap{i, uint64(hulls[i].Start) - hulls[i-1].End()}
		if hulls[i-1].End() <= low && hulls[i].Start >= low {
			g.length = 1 << 33
		}
		gaps = append(gaps, g)
	}
	slices.SortStableFunc(gaps, func(a, b gap) int { return cmp.Compare(b.length, a.length) })
	cut := make(map[int]bool)
	for _, g := range gaps[:n-1] {
		cut[g.before] = true
	}
	out := []idmap.Range{hulls[0]}
	for i := 1; i < len(hulls); i++ {
		if cut[i] {
			out = append(out, hulls[i])
		} else {
			out[len(out)-1] = hull(out[len(out)-1], hulls[i])
		}
	}
	return out
}

func hull(a, b idmap.Range) idmap.Range {
	return idmap.Range{Start: a.Start, Count: uint32(max(a.End(), b.End()) - uint64(a.Start))}
}

// room is where a line of the usual size has room, and the longest row of free IDs.
func room(used idmap.Set) (next, largest idmap.Range) {
	for _, in := range rooms() {
		for _, r := range gaps(used, in) {
			if next.Count == 0 && r.Count >= registry.DefaultSize {
				next = idmap.Range{Start: r.Start, Count: registry.DefaultSize}
			}
		}
	}
	for _, r := range gaps(used, idmap.Range{Start: lowest, Count: idmap.Invalid - lowest}) {
		if r.Count > largest.Count {
			largest = r
		}
	}
	return next, largest
}

// gaps is what is free of a range.
func gaps(used idmap.Set, in idmap.Range) []idmap.Range {
	var out []idmap.Range
	at := uint64(in.Start)
	add := func(to uint64) {
		if to > at {
			out = append(out, idmap.Range{Start: uint32(at), Count: uint32(to - at)})
		}
	}
	for _, r := range used.Ranges() {
		if uint64(r.Start) >= in.End() {
			break
		}
		add(uint64(r.Start))
		at = max(at, r.End())
	}
	add(in.End())
	return out
}
