// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Measures of the picture, in its own units; a browser shows one as a pixel.
const (
	svgWidth  = 1000
	svgMargin = 24
	svgLeft   = 112 // where bars begin; their names stand before them
	svgRight  = svgWidth - svgMargin
	barHeight = 34
	// A narrower line isn't drawn by itself, but with all that are in the same slot. It is what
	// bounds the picture, whatever there is.
	narrow      = 6
	slot        = 2
	maxNotes    = 60     // rows of the table of owners
	maxFaults   = 8      // conflicts in words
	maxTooltips = 400000 // bytes
	maxBeside   = 20     // of those who have IDs without the book
)

// svgMap is a picture as SVG (https://www.w3.org/TR/SVG11/).
type svgMap struct {
	*census.Atlas
	fill     fill
	sums     sums
	styles   map[string]int // by owner; those without are drawn alike
	body     strings.Builder
	y        float64 // how far it is drawn
	seen     map[string]bool
	tooltips int // bytes of them
}

// drawSVG is the picture of an atlas. The same atlas is the same text. It is one of at most
// about two million bytes, and needs neither scripts nor fonts nor anything else from elsewhere.
func drawSVG(a *census.Atlas) string {
	m := &svgMap{Atlas: a, fill: fillOf(a), sums: sumsOf(a), styles: map[string]int{}, seen: map[string]bool{}}
	for _, o := range a.Owners {
		if o.Lines > 0 && len(m.styles) < maxStyles {
			m.styles[o.Name] = len(m.styles)
		}
	}
	m.seen["rest"] = m.sums.owners > maxStyles
	m.y = svgMargin + 16
	m.text(svgMargin, "h1", "Who has which IDs of this host")
	m.y += 6
	for _, line := range m.summary() {
		m.paragraph("p", line)
	}
	m.overview()
	for i, r := range a.Regions {
		m.region(i+1, r)
	}
	m.legend()
	m.table()
	m.besides()
	m.faults()
	m.y += svgMargin - 8

	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" class="um" width="%d" height="%s" viewBox="0 0 %[1]d %[2]s" role="img" aria-labelledby="um-t um-d">`+"\n",
		svgWidth, num(m.y))
	fmt.Fprintf(&out, "<title id=\"um-t\">Who has which IDs of this host</title>\n<desc id=\"um-d\">%s</desc>\n", escaped(m.description()))
	out.WriteString(m.head())
	fmt.Fprintf(&out, "<rect class=\"bg\" width=\"%d\" height=\"%s\"/>\n", svgWidth, num(m.y))
	out.WriteString(m.body.String())
	out.WriteString("</svg>\n")
	return out.String()
}

// summary is the numbers, in words.
func (m *svgMap) summary() []string {
	out := []string{m.sums.granting() + ".", m.sums.holding(m.Atlas) + "."}
	if !m.LiveKnown {
		out = append(out, "Processes of others can't be looked at: live user namespaces are unknown.")
	}
	room := roomText(m.Atlas)
	return append(out, strings.Join(room, ". ")+".", m.sums.finding()+".")
}

// description is the picture for those who can't see it.
func (m *svgMap) description() string {
	var out strings.Builder
	out.WriteString(strings.Join(m.summary(), " "))
	for i, r := range m.Regions {
		fmt.Fprintf(&out, " Part %d is %s.", i+1, r)
	}
	for i, o := range m.Owners {
		if i == maxNotes {
			fmt.Fprintf(&out, " And %s.", plural(len(m.Owners)-i, "more owner"))
			break
		}
		r := rowOf(m.Atlas, o)
		fmt.Fprintf(&out, "\n%s: %s from %d, %s IDs, %s held by %s, %s free.", isolated(o.Name), plural(o.Lines+o.Reserved, "line"), o.First.Start, r.ids, r.held, r.by, r.free)
	}
	return out.String()
}

// overview is the whole space in one bar, with numbers where the parts are that follow.
func (m *svgMap) overview() {
	m.y += 36
	m.text(svgMargin, "h2", fmt.Sprintf("All %d IDs", idmap.Invalid))
	m.y += 12
	b := bar{census.Whole, (svgRight - svgLeft) / slot}
	if len(m.Regions) > 0 {
		m.y += 8
		m.badges(b)
	}
	m.lineBar(b, 26)
	m.strip(b, softwareTrack)
	m.strip(b, conflictTrack)
	m.axis(b)
}

// badges are the numbers above the overview, moved aside where they would lie over each other.
func (m *svgMap) badges(b bar) {
	const apart = 24
	at := make([]float64, len(m.Regions))
	for i, r := range m.Regions {
		at[i] = m.middle(b, r)
		if i > 0 {
			at[i] = max(at[i], at[i-1]+apart)
		}
	}
	for i, limit := len(at)-1, float64(svgRight-9); i >= 0; i-- {
		at[i] = min(at[i], limit)
		limit = at[i] - apart
	}
	for i, r := range m.Regions {
		x := m.middle(b, r)
		fmt.Fprintf(&m.body, "<path class=\"lead\" d=\"M%s %sV%sL%s %s\"/>\n", num(at[i]), num(m.y+9), num(m.y+14), num(x), num(m.y+24))
		m.badge(at[i], m.y, i+1)
	}
	m.y += 24
}

func (m *svgMap) middle(b bar, r idmap.Range) float64 {
	x, w := m.place(b.ids, r)
	return x + w/2
}

func (m *svgMap) badge(x, y float64, number int) {
	fmt.Fprintf(&m.body, "<circle class=\"badge\" cx=\"%s\" cy=\"%s\" r=\"9\"/><text class=\"no\" x=\"%[1]s\" y=\"%[3]s\">%d</text>\n", num(x), num(y), num(y+4), number)
}

// region is a part of the space, larger.
func (m *svgMap) region(number int, r idmap.Range) {
	m.y += 34
	m.badge(svgMargin+9, m.y-5, number)
	m.text(svgMargin+28, "h2", fmt.Sprintf("%s, %d IDs", r, r.Count)+m.within(r))
	b := bar{r, (svgRight - svgLeft) / slot}
	m.names(r)
	if _, any := paint(m.Atlas, lineTrack, b); any {
		m.lineBar(b, barHeight)
	}
	for _, t := range []track{reservedTrack, subidTrack, accountTrack, softwareTrack, pinTrack, liveTrack, conflictTrack} {
		m.strip(b, t)
	}
	m.axis(b)
}

// within says what is in a region, for its heading.
func (m *svgMap) within(r idmap.Range) string {
	granted, held := m.fill.of(r)
	if granted == 0 {
		return ""
	}
	if !m.LeasesKnown {
		return fmt.Sprintf(": %d granted", granted)
	}
	return fmt.Sprintf(": %d granted, %d held (%s)", granted, held, percent(held, granted))
}

// legend explains what is in the picture, and nothing else.
func (m *svgMap) legend() {
	type entry struct{ class, text string }
	var entries []entry
	for _, e := range []entry{
		{"free", "granted, free"}, {"held", "granted, and held: as high as the share"}, {"unknown", "not known to be held"}, {"mixed", "lines of several owners"},
		{"rest", "an owner that shares its pattern"},
		{"reserved", "reserved"}, {"subids", "/etc/subuid, /etc/subgid"}, {"accounts", "users and groups"}, {"software", "installed software takes IDs"},
		{"pins", "a pinned user namespace"}, {"live", "a live user namespace without a lease"}, {"error", "error"}, {"warning", "warning"},
	} {
		if m.seen[e.class] {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return
	}
	m.y += 34
	m.text(svgMargin, "h2", "Signs")
	m.y += 22
	x := float64(svgMargin)
	for _, e := range entries {
		w := 28 + textWidth(e.text, sizes["s"]) + 18
		if x+w > svgRight {
			x, m.y = svgMargin, m.y+20
		}
		class, fill := e.class, ""
		switch e.class {
		case "free", "held":
			class, fill = "line", ` fill="url(#um-`+e.class[:1]+`0)"`
		case "unknown":
			fmt.Fprintf(&m.body, "<rect class=\"line\" fill=\"url(#um-f0)\" x=\"%s\" y=\"%s\" width=\"22\" height=\"12\"/>", num(x), num(m.y-10))
		}
		fmt.Fprintf(&m.body, "<rect class=\"%s\"%s x=\"%s\" y=\"%s\" width=\"22\" height=\"12\"/>", class, fill, num(x), num(m.y-10))
		m.text(x+28, "s", e.text)
		x += w
	}
}

// table is the owners in words.
func (m *svgMap) table() {
	if len(m.Owners) == 0 {
		return
	}
	m.y += 34
	m.text(svgMargin, "h2", "Owners")
	m.y += 22
	// Numbers end where their column does.
	columns := []struct {
		name string
		x    float64
		end  bool
		text func(ownerRow) string
	}{
		{"OWNER", svgMargin + 30, false, nil},
		{"IDS", 372, true, func(r ownerRow) string { return r.ids }},
		{"FULL", 420, true, func(r ownerRow) string { return r.full }},
		{"HELD", 508, true, func(r ownerRow) string { return r.held }},
		{"FREE", 596, true, func(r ownerRow) string { return r.free }},
		{"BY", 652, true, func(r ownerRow) string { return r.by }},
		{"LINES", 740, true, func(r ownerRow) string { return r.lines }},
		{"FIRST", 760, false, func(r ownerRow) string { return r.first }},
	}
	for _, c := range columns {
		class := "th"
		if c.end {
			class = "th e"
		}
		m.text(c.x, class, c.name)
	}
	fmt.Fprintf(&m.body, "<path class=\"rule\" d=\"M%d %sH%d\"/>\n", svgMargin, num(m.y+6), svgRight)
	for i, o := range m.Owners {
		m.y += 19
		if i == maxNotes {
			m.text(svgMargin+30, "s", fmt.Sprintf("and %s: %s list", plural(len(m.Owners)-i, "more owner"), programName))
			break
		}
		m.swatch(o)
		m.clipped(columns[0].x, 272, "td", o.Name)
		r := rowOf(m.Atlas, o)
		for _, c := range columns[1:] {
			class := "td"
			if c.end {
				class = "td e"
			}
			m.text(c.x, class, c.text(r))
		}
	}
}

func (m *svgMap) swatch(o census.Owner) {
	const half = 11
	if o.Lines == 0 {
		fmt.Fprintf(&m.body, "<rect class=\"reserved\" x=\"%d\" y=\"%s\" width=\"%d\" height=\"12\"/>", svgMargin, num(m.y-10), 2*half)
		return
	}
	free, held := m.fills(o.Name)
	fmt.Fprintf(&m.body, "<rect fill=\"url(#um-%s)\" x=\"%d\" y=\"%s\" width=\"%d\" height=\"12\"/><rect fill=\"url(#um-%s)\" x=\"%d\" y=\"%[3]s\" width=\"%[4]d\" height=\"12\"/>"+
		"<rect class=\"line\" fill=\"none\" x=\"%[2]d\" y=\"%[3]s\" width=\"%[7]d\" height=\"12\"/>", held, svgMargin, num(m.y-10), half, free, svgMargin+half, 2*half)
}

// besides is who has IDs without the book, in words.
func (m *svgMap) besides() {
	all := besides(m.Atlas)
	if len(all) == 0 {
		return
	}
	m.y += 34
	m.text(svgMargin, "h2", "Beside the book")
	m.y += 3
	for i, b := range all {
		m.y += 19
		if i == maxBeside {
			m.text(svgMargin+30, "s", fmt.Sprintf("and %d more: %s map --json", len(all)-i, programName))
			break
		}
		class := subidTrack.label
		switch b.kind {
		case census.KindNamespace:
			class = liveTrack.label
		case census.KindAllocator:
			class = softwareTrack.label
		default:
		}
		fmt.Fprintf(&m.body, "<rect class=\"%s\" x=\"%d\" y=\"%s\" width=\"22\" height=\"12\"/>", class, svgMargin, num(m.y-10))
		m.text(svgMargin+30, "td", b.ids.String())
		m.clipped(svgMargin+220, 380, "td", b.who)
		m.clipped(svgMargin+620, svgRight-svgMargin-620, "td", b.where)
	}
}

// faults is the worst conflicts in words.
func (m *svgMap) faults() {
	if len(m.Conflicts) == 0 {
		return
	}
	m.y += 34
	m.text(svgMargin, "h2", m.sums.finding())
	m.y += 4
	all := gathered(m.Atlas)
	columns := int((svgRight - svgMargin - 30) / (sizes["m"] * monoEm))
	for i, c := range all {
		if i == maxFaults {
			m.y += 19
			m.text(svgMargin+30, "s", fmt.Sprintf("and more: %s check", programName))
			break
		}
		message := c.text(leftToRight)
		lines := wrap(message, columns)
		if len(lines) > 4 {
			lines = append(lines[:3], shorten(lines[3], columns-2, "")+" …")
		}
		m.y += 5
		fmt.Fprintf(&m.body, "<g><title>%s</title><rect class=\"%s\" x=\"%d\" y=\"%s\" width=\"22\" height=\"12\"/>", escaped(message), c.Severity, svgMargin, num(m.y+5))
		m.seen[c.Severity.String()] = true
		for _, line := range lines {
			m.y += 15
			m.text(svgMargin+30, "m", line)
		}
		m.body.WriteString("</g>\n")
	}
}
