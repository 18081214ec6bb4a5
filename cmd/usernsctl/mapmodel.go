// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// What both pictures of the ID space have in common: what is in each column of a bar, and
// which letters a name may be shown with.

// track is what one bar shows: the spans of some kinds.
type track struct {
	label string
	kinds []census.Kind
}

var (
	lineTrack     = track{"lines", []census.Kind{census.KindLine}}
	reservedTrack = track{"reserved", []census.Kind{census.KindReserved}}
	accountTrack  = track{"accounts", []census.Kind{census.KindUser, census.KindGroup}}
	subidTrack    = track{"subids", []census.Kind{census.KindSubUID, census.KindSubGID}}
	softwareTrack = track{"software", []census.Kind{census.KindAllocator}}
	liveTrack     = track{"live", []census.Kind{census.KindNamespace}}
	pinTrack      = track{"pins", []census.Kind{census.KindPin}}
	leaseTrack    = track{"held", []census.Kind{census.KindContainer, census.KindNamespace}}
	conflictTrack = track{"conflicts", []census.Kind{census.KindConflict}}
)

// bar is IDs in a row, cut into columns of the same length.
type bar struct {
	ids     idmap.Range
	columns int
}

// column is the IDs of one column; where there are more columns than IDs, neighbours
// show the same one.
func (b bar) column(i int) idmap.Range {
	count, n := uint64(b.ids.Count), uint64(b.columns)
	from, to := uint64(i)*count/n, (uint64(i)+1)*count/n
	return idmap.Range{Start: b.ids.Start + uint32(from), Count: uint32(max(to, from+1) - from)}
}

// span is the columns that show some of the IDs; ok is false if none does.
func (b bar) span(ids idmap.Range) (first, last int, ok bool) {
	both, ok := b.ids.Intersect(ids)
	if !ok {
		return 0, 0, false
	}
	count, n := uint64(b.ids.Count), uint64(b.columns)
	from, to := uint64(both.Start-b.ids.Start), both.End()-uint64(b.ids.Start)
	// The last column that begins before an ID has it; of several for one ID, all of them.
	last = int((to*n+count-1)/count) - 1
	if first = int(((from+1)*n+count-1)/count) - 1; count < n {
		first = int((from*n + count - 1) / count)
	}
	return first, last, true
}

// cell is what a column of a track shows.
type cell struct {
	first   int  // index of a span in the atlas
	spans   int  // how many there are; 0 is none
	several bool // of them belong to different owners
	worst   registry.Severity
}

// add puts one more span into a cell.
func (c *cell) add(a *census.Atlas, i int) {
	if c.spans == 0 {
		c.first = i
	}
	c.several = c.several || a.Spans[c.first].Owner != a.Spans[i].Owner
	c.spans++
	c.worst = max(c.worst, a.Spans[i].Severity)
}

// paint is the columns of a track. Spans that lie in one column are counted, not kept, so that
// it takes the same room whatever there is.
func paint(a *census.Atlas, t track, b bar) (cells []cell, any bool) {
	cells = make([]cell, b.columns)
	for i, s := range a.Spans {
		if !slices.Contains(t.kinds, s.Kind) {
			continue
		}
		first, last, ok := b.span(s.Range)
		if !ok {
			continue
		}
		any = true
		for c := first; c <= last; c++ {
			cells[c].add(a, i)
		}
	}
	return cells, any
}

// fill is how much of what is granted is held.
type fill struct {
	granted, held, either census.Tally
	unknown               bool // more may be held than can be seen
}

func fillOf(a *census.Atlas) fill {
	return fill{census.NewTally(a.Granted), census.NewTally(a.Held), census.NewTally(a.Granted.Union(a.Held)), !a.LeasesKnown}
}

// of is how many IDs of a range are granted, and how many of these are held.
func (f fill) of(ids idmap.Range) (granted, held uint64) {
	granted = f.granted.In(ids)
	return granted, granted + f.held.In(ids) - f.either.In(ids)
}

// share is from 0 to 1, and below 0 where nothing is granted.
func (f fill) share(ids idmap.Range) float64 {
	granted, held := f.of(ids)
	if granted == 0 {
		return -1
	}
	return float64(held) / float64(granted)
}

// sums is an atlas in numbers.
type sums struct {
	lines, reserved, owners int
	granted, held, free     uint64
	leases, pins, foreign   int
	errors, warnings        int
}

func sumsOf(a *census.Atlas) sums {
	s := sums{granted: a.Granted.Len(), held: a.HeldOfGranted, free: a.FreeOfGranted}
	for _, o := range a.Owners {
		if o.Lines > 0 {
			s.owners++
		}
	}
	holders := map[string]bool{}
	for _, sp := range a.Spans {
		switch sp.Kind {
		case census.KindLine:
			s.lines++
		case census.KindReserved:
			s.reserved++
		case census.KindContainer, census.KindPin, census.KindNamespace:
			// One that holds IDs in several places is one all the same.
			key := string(sp.Kind) + sp.Where
			if holders[key] {
				continue
			}
			holders[key] = true
			*map[census.Kind]*int{census.KindContainer: &s.leases, census.KindPin: &s.pins, census.KindNamespace: &s.foreign}[sp.Kind]++
		default:
		}
	}
	for _, c := range a.Conflicts {
		if c.Severity == registry.Error {
			s.errors++
		} else {
			s.warnings++
		}
	}
	return s
}

// granting says who has which IDs, in a sentence without its end.
func (s sums) granting() string {
	if s.lines == 0 && s.reserved == 0 {
		return "The book grants nothing"
	}
	text := fmt.Sprintf("%s of %s grant%s %d IDs", plural(s.lines, "line"), plural(s.owners, "owner"), third(s.lines), s.granted)
	if s.reserved > 0 {
		text += fmt.Sprintf(", %s only reserve%s", plural(s.reserved, "line"), third(s.reserved))
	}
	return text
}

// third is the ending of a verb of which that many do something.
func third(n int) string {
	if n == 1 {
		return "s"
	}
	return ""
}

// holding says how much of it is held.
func (s sums) holding(a *census.Atlas) string {
	foreign := ""
	if s.foreign > 0 {
		foreign = ", and " + plural(s.foreign, "live user namespace") + " that no lease answers for"
	}
	pinned := ""
	if s.pins > 0 {
		pinned = fmt.Sprintf("; %s, beside the owners' containers", plural(s.pins, "pin"))
	}
	switch {
	case !a.LeasesKnown:
		text := "Leases are root's to read: what is held is unknown"
		if s.foreign > 0 {
			text += ". Seen: " + plural(s.foreign, "live user namespace")
		}
		return text
	case s.granted == 0 && s.leases == 0:
		return "No container holds IDs" + strings.Replace(foreign, ", and ", "; but ", 1) + pinned
	}
	return fmt.Sprintf("%d of these are held, %d are free: %s%s", s.held, s.free, plural(s.leases, "container"), foreign) + pinned
}

// finding says how many conflicts there are.
func (s sums) finding() string {
	if s.errors+s.warnings == 0 {
		return "No conflicts"
	}
	return fmt.Sprintf("Conflicts: %s, %s", plural(s.errors, "error"), plural(s.warnings, "warning"))
}

// alike is conflicts of one kind: all lines that one program might take IDs of say the same.
type alike struct {
	registry.Conflict // the first
	more              int
}

// gathered is the conflicts, errors first, with those together that say the same.
func gathered(a *census.Atlas) []alike {
	var out []alike
	at := make(map[string]int)
	for _, severity := range []registry.Severity{registry.Error, registry.Warning} {
		for _, c := range a.Conflicts {
			if c.Severity != severity {
				continue
			}
			// What isn't a place in a file is a program.
			if c.Other != "" && !strings.Contains(c.Other, "/") {
				key := severity.String() + c.Other
				if i, ok := at[key]; ok {
					out[i].more++
					continue
				}
				at[key] = len(out)
			}
			out = append(out, alike{c, 0})
		}
	}
	return out
}

// text is a conflict in words.
func (c alike) text(in script) string {
	text := shownAs(c.Message, in)
	if c.more > 0 {
		text += fmt.Sprintf(" (and %d more like this)", c.more)
	}
	return text
}

// roundSteps is round numbers in a range, as many as there is room for: 1, 2 or 5 and zeros apart.
func roundSteps(ids idmap.Range, most int) []uint32 {
	step := uint64(1)
	for i := 0; uint64(ids.Count)/step > uint64(most); i++ {
		step = [3]uint64{1, 2, 5}[(i+1)%3]
		for range (i + 1) / 3 {
			step *= 10
		}
	}
	var out []uint32
	for at := (uint64(ids.Start) + step - 1) / step * step; at < ids.End(); at += step {
		out = append(out, uint32(at))
	}
	return out
}

// roomText says where a new line has room.
func roomText(a *census.Atlas) []string {
	if a.Next.Count == 0 {
		return []string{fmt.Sprintf("No %d IDs in a row are free for one more line", registry.DefaultSize)}
	}
	return []string{
		fmt.Sprintf("Room: the next line of %d IDs fits at %d", registry.DefaultSize, a.Next.Start),
		fmt.Sprintf("Longest free row: %s, %d IDs", a.Largest, a.Largest.Count),
	}
}

// percent is a share in words of three letters at most, in which 0% is nothing and 100% is all.
func percent(part, whole uint64) string {
	switch {
	case whole == 0:
		return ""
	case part == 0:
		return "0%"
	case part >= whole:
		return "100%"
	case part*100 < whole:
		return "<1%"
	}
	return strconv.FormatUint(min(part*100/whole, 99), 10) + "%"
}

func (t terminal) script() script {
	if t.unicodes {
		return leftToRight
	}
	return asciiOnly
}
