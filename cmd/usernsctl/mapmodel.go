// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

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
	leaseTrack    = track{"held", []census.Kind{census.KindLease, census.KindNamespace}}
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
	leases, foreign         int
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
		case census.KindLease, census.KindNamespace:
			// One that holds IDs in several places is one all the same.
			if key := string(sp.Kind) + sp.Where; !holders[key] {
				holders[key] = true
				if sp.Kind == census.KindLease {
					s.leases++
				} else {
					s.foreign++
				}
			}
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
	switch {
	case !a.LeasesKnown:
		text := "Leases are root's to read: what is held is unknown"
		if s.foreign > 0 {
			text += ". Seen: " + plural(s.foreign, "live user namespace")
		}
		return text
	case s.granted == 0 && s.leases == 0:
		return "No container holds IDs" + strings.Replace(foreign, ", and ", "; but ", 1)
	}
	return fmt.Sprintf("%d of these are held, %d are free: %s%s", s.held, s.free, plural(s.leases, "container"), foreign)
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
	text := visible(c.Message, in)
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
	}
	return strconv.FormatUint(min(max(part*100/whole, 1), 99), 10) + "%"
}

// script is which characters a name is shown with.
type script int

const (
	asciiOnly    script = iota
	leftToRight         // what stands beside other words
	anyDirection        // what stands alone
)

func (t terminal) script() script {
	if t.unicodes {
		return leftToRight
	}
	return asciiOnly
}

// visible is a name with nothing in it that a terminal obeys, or that moves, hides or joins
// what stands beside it: such characters are written as Go does, \x1b or \u202e.
func visible(name string, in script) string {
	plain := true
	for i := range len(name) {
		plain = plain && name[i] >= ' ' && name[i] < 0x7f
	}
	if plain {
		return name
	}
	var out strings.Builder
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, name[0])
		case r >= ' ' && r < 0x7f, r > 0x7f && in != asciiOnly && shows(r) && (in == anyDirection || !rightToLeft(r)):
			out.WriteRune(r)
		default:
			out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		name = name[n:]
	}
	return out.String()
}

// shows says whether a character takes a place of its own, to the right of the one before it,
// in whatever it is shown with.
func shows(r rune) bool {
	switch {
	case r == utf8.RuneError, !unicode.IsGraphic(r), unicode.IsMark(r), unicode.IsSpace(r),
		unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), // fillers, which are letters that can't be seen
		r >= 0x1160 && r <= 0x11ff, r >= 0xd7b0 && r <= 0xd7ff,    // parts of Korean syllables, which join
		r >= 0x2300 && r <= 0x2bff,   // signs that are wide in one font, and not in the next
		r >= 0x1f1e6 && r <= 0x1f1ff, // letters that join to flags
		r >= 0x1f3fb && r <= 0x1f3ff, // which change the sign before them
		r >= 0xfdf0 && r <= 0xfdff:   // whole phrases
		return false
	}
	return true
}

// rightToLeft says whether a character is of a script that is written from the right
// (Unicode Standard Annex 9, bidirectional classes R and AL).
func rightToLeft(r rune) bool {
	return r >= 0x590 && r <= 0x8ff || r >= 0xfb1d && r <= 0xfdff || r >= 0xfe70 && r <= 0xfeff ||
		r >= 0x10800 && r <= 0x10fff || r >= 0x1e800 && r <= 0x1efff
}

// cells is how many columns a terminal needs for a text that is visible.
func cellsOf(text string) int {
	n := 0
	for _, r := range text {
		n += runeCells(r)
	}
	return n
}

// wide is the blocks whose characters take two columns (Unicode Standard Annex 11, East
// Asian Width W and F, and signs that are pictures).
var wide = [][2]rune{
	{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0x4dbf}, {0x4e00, 0xa4cf}, {0xa960, 0xa97f}, {0xac00, 0xd7a3},
	{0xf900, 0xfaff}, {0xfe10, 0xfe19}, {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x16fe0, 0x18cff},
	{0x1aff0, 0x1b2ff}, {0x1f000, 0x1faff}, {0x20000, 0x3fffd},
}

func runeCells(r rune) int {
	if r >= wide[0][0] && slices.ContainsFunc(wide, func(w [2]rune) bool { return r >= w[0] && r <= w[1] }) {
		return 2
	}
	return 1
}

// shorten cuts a text that is visible to as many columns, with an ellipsis for what is missing.
func shorten(text string, columns int, ellipsis string) string {
	if cellsOf(text) <= columns {
		return text
	}
	room, end := columns-cellsOf(ellipsis), 0
	if room < 0 {
		return ""
	}
	for i, r := range text {
		if room -= runeCells(r); room < 0 {
			break
		}
		end = i + utf8.RuneLen(r)
	}
	return text[:end] + ellipsis
}
