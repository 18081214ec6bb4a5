// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// place is where IDs are in a bar of others: at least one unit wide, and inside of it.
func (m *svgMap) place(in, ids idmap.Range) (x, width float64) {
	both, ok := in.Intersect(ids)
	if !ok {
		return svgLeft, 0
	}
	scale := float64(svgRight-svgLeft) / float64(in.Count)
	width = max(float64(both.Count)*scale, 1)
	return min(svgLeft+float64(both.Start-in.Start)*scale, svgRight-width), width
}

// stretch is spans that are drawn as one: a wide one alone, or narrow ones of neighbouring slots.
type stretch struct {
	span    int         // index of the first
	spans   int         // how many
	ids     idmap.Range // where they are
	several bool        // of them belong to different owners
	worst   registry.Severity
}

// runs is what is drawn of a track: as many as there are slots at most, and those that are
// wide enough to be drawn by themselves, no more than two of them over each other.
func (m *svgMap) runs(b bar, t track) []stretch {
	cells := make([]cell, b.columns)
	var alone, out []stretch
	var over []uint64 // where those end that are drawn alone, and haven't ended
	for i, s := range m.Spans {
		if !slices.Contains(t.kinds, s.Kind) {
			continue
		}
		first, last, ok := b.span(s.Range)
		if !ok {
			continue
		}
		over = slices.DeleteFunc(over, func(end uint64) bool { return end <= uint64(s.Range.Start) })
		// Of many on top of each other, only the last would be seen.
		if _, w := m.place(b.ids, s.Range); w >= narrow && len(over) < 2 {
			both, _ := b.ids.Intersect(s.Range)
			alone = append(alone, stretch{i, 1, both, false, s.Severity})
			over = append(over, s.Range.End())
			continue
		}
		for c := first; c <= last; c++ {
			cells[c].add(m.Atlas, i)
		}
	}
	for i, c := range cells {
		if c.spans == 0 {
			continue
		}
		ids := b.column(i)
		if n := len(out); n > 0 && i > 0 && cells[i-1].spans > 0 && out[n-1].like(m.Atlas, c) {
			// One that lies in several slots is counted in each of them, so the number is no more
			// than a bound, and isn't said.
			out[n-1].ids.Count = uint32(ids.End() - uint64(out[n-1].ids.Start))
			out[n-1].spans = max(out[n-1].spans, c.spans, 2)
			continue
		}
		out = append(out, stretch{c.first, c.spans, ids, c.several, c.worst})
	}
	out = append(alone, out...)
	// What is drawn last is seen best.
	slices.SortStableFunc(out, func(a, b stretch) int { return int(a.worst - b.worst) })
	return out
}

// like says whether a cell looks as a run does.
func (r stretch) like(a *census.Atlas, c cell) bool {
	x, y := a.Spans[r.span], a.Spans[c.first]
	return r.several == c.several && r.worst == c.worst && (r.several || x.Owner == y.Owner && x.Kind == y.Kind)
}

// lineBar is the lines of the book, each in the pattern of its owner, filled as far as it is held.
func (m *svgMap) lineBar(b bar, height float64) {
	m.label(lineTrack.label, height/2+4)
	fmt.Fprintf(&m.body, "<rect class=\"track\" x=\"%d\" y=\"%s\" width=\"%d\" height=\"%s\"/>\n", svgLeft, num(m.y), svgRight-svgLeft, num(height))
	for _, r := range m.runs(b, lineTrack) {
		x, w := m.place(b.ids, r.ids)
		class, fill := "line", "mixed"
		if r.several {
			class = "run"
			m.seen["mixed"] = true
		} else {
			fill, _ = m.fills(m.Spans[r.span].Owner)
		}
		if w < 3 {
			class = "run"
		}
		fmt.Fprintf(&m.body, "<rect class=\"%s\" fill=\"url(#um-%s)\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\">%s</rect>\n",
			class, fill, num(x), num(m.y), num(w), num(height), m.tooltip(r))
	}
	m.seen["free"] = !m.fill.unknown && m.sums.granted > 0
	m.holding(b, height)
	m.y += height + 4
}

// holding draws how much is held over the lines, in one path for each pattern.
func (m *svgMap) holding(b bar, height float64) {
	cells, _ := paint(m.Atlas, lineTrack, b)
	paths := map[string]*strings.Builder{}
	var order []string
	for i := 0; i < len(cells); {
		share, fill := m.holdsAt(b, cells, i)
		from := i
		for i++; i < len(cells); i++ {
			if s, f := m.holdsAt(b, cells, i); s != share || f != fill {
				break
			}
		}
		if share < 0 || share == 0 && !m.fill.unknown {
			continue
		}
		if share == 0 {
			fill, share = "u", 1
			m.seen["unknown"] = true
		} else {
			m.seen["held"] = true
		}
		if paths[fill] == nil {
			paths[fill] = &strings.Builder{}
			order = append(order, fill)
		}
		h := max(share*height, 2)
		fmt.Fprintf(paths[fill], "M%d %sh%dv%sh-%[3]dz", svgLeft+from*slot, num(m.y+height-h), (i-from)*slot, num(h))
	}
	for _, fill := range order {
		fmt.Fprintf(&m.body, "<path class=\"over\" fill=\"url(#um-%s)\" d=\"%s\"/>\n", fill, paths[fill])
	}
}

// holdsAt is how much of a slot is held, to a hundredth, and in which pattern that is drawn.
func (m *svgMap) holdsAt(b bar, cells []cell, i int) (share float64, fill string) {
	if cells[i].spans == 0 {
		return -1, ""
	}
	share = m.fill.share(b.column(i))
	if share > 0 {
		share = max(float64(int(share*100)), 1) / 100
	}
	if cells[i].several {
		return share, "hm"
	}
	_, fill = m.fills(m.Spans[cells[i].first].Owner)
	return share, fill
}

// tooltip is what a browser shows of a run; once there are very many, the rest have none.
func (m *svgMap) tooltip(r stretch) string {
	text := "<title>" + escaped(m.told(r)) + "</title>"
	if m.tooltips += len(text); m.tooltips > maxTooltips {
		return ""
	}
	return text
}

// told is a run in words.
func (m *svgMap) told(r stretch) string {
	s := m.Spans[r.span]
	if r.spans > 1 {
		if r.several {
			return fmt.Sprintf("%s, several, in %s", s.Kind.Plural(), r.ids)
		}
		return fmt.Sprintf("%s of %s in %s", s.Kind.Plural(), isolated(s.Owner), r.ids)
	}
	text := s.Range.String()
	if s.Range.Count == 1 {
		text = fmt.Sprint(s.Range.Start)
	}
	switch s.Kind {
	case census.KindLine:
		text = fmt.Sprintf("%s: %s, %s", isolated(s.Owner), text, plural(int(s.Range.Count), "ID"))
		if m.LeasesKnown {
			text += fmt.Sprintf(", %d held by %d", s.Held, s.Holders)
		}
		text += " (" + shownAs(s.Where, leftToRight) + ")"
		if flags := s.Flags.String(); flags != "" {
			text += " " + flags
		}
	case census.KindConflict:
		text = s.Severity.String() + ": " + shownAs(s.Note, leftToRight)
	case census.KindNamespace:
		text = shownAs(s.Where, leftToRight) + ": " + text
	case census.KindAllocator:
		text = fmt.Sprintf("%s, for %s: %s", s.Owner, s.Note, text)
	default:
		text = fmt.Sprintf("%s %s: %s (%s)", s.Kind, isolated(s.Owner), text, shownAs(s.Where, leftToRight))
	}
	return text
}

// strip is a thin bar of what isn't a line; there is none where there is nothing of it.
func (m *svgMap) strip(b bar, t track) {
	b.columns /= 2
	runs := m.runs(b, t)
	if len(runs) == 0 {
		return
	}
	m.label(t.label, 9)
	for _, r := range runs {
		x, w := m.place(b.ids, r.ids)
		if w < slot {
			x, w = min(x, svgRight-slot), slot
		}
		class := t.label
		if t.label == conflictTrack.label {
			class = r.worst.String()
		}
		m.seen[class] = true
		fmt.Fprintf(&m.body, "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"10\">%s</rect>\n", class, num(x), num(m.y), num(w), m.tooltip(r))
	}
	m.y += 15
}

func (m *svgMap) label(text string, down float64) {
	y := m.y
	m.y += down
	m.text(svgMargin, "s", text)
	m.y = y
}

// names writes owners above their lines, where there is room for them.
func (m *svgMap) names(r idmap.Range) {
	type group struct {
		owner string
		ids   idmap.Range
	}
	var groups []group
	for _, s := range m.Spans {
		if s.Kind != census.KindLine && s.Kind != census.KindReserved {
			continue
		}
		both, ok := r.Intersect(s.Range)
		if !ok {
			continue
		}
		if n := len(groups); n > 0 && groups[n-1].owner == s.Owner {
			if last := &groups[n-1].ids; both.End() > last.End() {
				last.Count = uint32(both.End() - uint64(last.Start))
			}
			continue
		}
		groups = append(groups, group{s.Owner, both})
	}
	m.y += 20
	named := false
	covered := uint64(0) // where the lines before end
	for i, g := range groups {
		x, w := m.place(r, g.ids)
		// What is mostly under or over others isn't told apart by a name.
		before := covered
		covered = max(covered, g.ids.End())
		half := uint64(g.ids.Start) + uint64(g.ids.Count)/2
		if w < narrow || before > half || i+1 < len(groups) && uint64(groups[i+1].ids.Start) < half {
			continue
		}
		// A name may go on over what isn't anybody's, up to the next line.
		end := float64(svgRight)
		if i+1 < len(groups) {
			end, _ = m.place(r, groups[i+1].ids)
		}
		if w = min(max(w, 90), end-x-6); w >= 5*sizes["m"]*monoEm {
			m.clipped(x, w, "m", g.owner)
			named = true
		}
	}
	m.y += 6
	if !named {
		m.y -= 11
	}
}

// axis is the numbers below a bar.
func (m *svgMap) axis(b bar) {
	m.y++
	var path strings.Builder
	fmt.Fprintf(&path, "M%d %sH%d", svgLeft, num(m.y), svgRight)
	m.y += 16
	free := 0.0
	for _, id := range roundSteps(b.ids, 9) {
		x, w := m.place(b.ids, idmap.Range{Start: id, Count: 1})
		x += w / 2
		fmt.Fprintf(&path, "M%s %sv4", num(x), num(m.y-16))
		text := fmt.Sprint(id)
		half := textWidth(text, sizes["ax"]) / 2
		// The first and the last stay inside of the picture.
		at := min(x, svgRight-half)
		if at-half >= free {
			m.text(at, "ax c", text)
			free = at + half + 8
		}
	}
	fmt.Fprintf(&m.body, "<path class=\"rule\" d=\"%s\"/>\n", &path)
}
