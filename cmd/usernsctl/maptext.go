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

// terminal is what the picture is shown in.
type terminal struct {
	columns  int
	unicodes bool // the locale is one of UTF-8
	colours  bool
}

// The least and the most columns that a picture is made for. A narrower window wraps it.
const (
	minColumns = 20
	maxColumns = 300
)

const (
	maxTextOwners    = 20 // rows of the table of owners
	maxTextConflicts = 5
	maxTextBesides   = 8
)

// textMap is a picture in letters. Owner number i has the letter 'A'+i, up to Z.
type textMap struct {
	terminal
	*census.Atlas
	keys map[string]int
	fill fill
	sums sums
	out  strings.Builder
	seen map[rune]bool // signs of the bars, for the legend
}

// drawText is the picture of an atlas for a terminal: no line has more columns than that.
func drawText(a *census.Atlas, t terminal) string {
	t.columns = min(max(t.columns, minColumns), maxColumns)
	m := &textMap{terminal: t, Atlas: a, keys: map[string]int{}, fill: fillOf(a), sums: sumsOf(a), seen: map[rune]bool{}}
	for _, o := range a.Owners {
		if o.Lines > 0 {
			m.keys[o.Name] = len(m.keys)
		}
	}
	m.overview()
	for i, r := range a.Regions {
		m.region(i+1, r)
	}
	m.legend()
	m.owners()
	m.besides()
	m.say("", m.sums.granting()+".")
	m.say("", m.sums.holding(a)+".")
	if !a.LiveKnown {
		m.say("", "Processes of others can't be looked at: live user namespaces are unknown.")
	}
	for _, text := range roomText(a) {
		m.say("", text+".")
	}
	m.conflicts()
	return m.out.String()
}

// labels is how many columns the names of the bars take.
func (m *textMap) labels() int {
	if m.columns < 40 {
		return 4
	}
	return 10
}

func (m *textMap) label(text string) string {
	n := m.labels()
	return fmt.Sprintf("%-*s", n, shorten(text, n-1, ""))
}

func (m *textMap) overview() {
	m.say("", fmt.Sprintf("All %d host IDs:", idmap.Invalid))
	b := bar{census.Whole, m.columns - m.labels()}
	m.tracks(b, softwareTrack)
	if len(m.Regions) > 0 {
		row := slices.Repeat([]rune{' '}, b.columns)
		for i, r := range m.Regions {
			first, _, _ := b.span(r)
			for first < b.columns-1 && row[first] != ' ' {
				first++
			}
			row[first] = rune('1' + i)
		}
		m.row("part", string(row), nil)
	}
	m.scale(b)
}

func (m *textMap) region(number int, r idmap.Range) {
	b := bar{r, m.columns - m.labels()}
	m.out.WriteByte('\n')
	m.say("", fmt.Sprintf("Part %d: %s, %d IDs", number, r, r.Count))
	m.tracks(b, reservedTrack, accountTrack, subidTrack, softwareTrack)
	m.scale(b)
}

// tracks is the bars of some IDs: the lines, what is held of them, what else is there, and what
// is wrong with it.
func (m *textMap) tracks(b bar, more ...track) {
	lines, any := paint(m.Atlas, lineTrack, b)
	if any || b.ids == census.Whole {
		m.row(lineTrack.label, m.letters(lines), func(i int) string { return m.colour(lines[i]) })
	}
	if any {
		m.row(leaseTrack.label, m.levels(b), func(i int) string { return m.colour(lines[i]) })
	}
	for _, t := range append(more, pinTrack, liveTrack) {
		if cells, any := paint(m.Atlas, t, b); any {
			m.row(t.label, m.signs(cells), nil)
		}
	}
	if cells, any := paint(m.Atlas, conflictTrack, b); any {
		m.row(conflictTrack.label, m.faults(cells), func(i int) string {
			if cells[i].worst == registry.Error {
				return "1;31"
			}
			return "33"
		})
	}
}

// letters is the owners of lines.
func (m *textMap) letters(cells []cell) string {
	return m.signsOf(cells, func(c cell) rune {
		switch key := m.keys[m.Spans[c.first].Owner]; {
		case c.several:
			return '#'
		case key < 26:
			return rune('A' + key)
		}
		return '+'
	})
}

// kindSigns is the signs of what isn't a line.
var kindSigns = map[census.Kind]rune{
	census.KindReserved: 'r', census.KindUser: 'a', census.KindGroup: 'a', census.KindSubUID: 's', census.KindSubGID: 's',
	census.KindAllocator: 'p', census.KindNamespace: 'n', census.KindPin: 'k',
}

func (m *textMap) signs(cells []cell) string {
	return m.signsOf(cells, func(c cell) rune { return kindSigns[m.Spans[c.first].Kind] })
}

func (m *textMap) faults(cells []cell) string {
	return m.signsOf(cells, func(c cell) rune {
		if c.worst == registry.Error {
			return '!'
		}
		return '~'
	})
}

func (m *textMap) signsOf(cells []cell, sign func(cell) rune) string {
	row := make([]rune, len(cells))
	for i, c := range cells {
		row[i] = m.nothing()
		if c.spans > 0 {
			row[i] = sign(c)
		}
		m.seen[row[i]] = true
	}
	return string(row)
}

func (m *textMap) nothing() rune {
	if m.unicodes {
		return '·'
	}
	return '.'
}

// The signs of how much is held, by eighths or tenths.
var (
	blocks = []rune("▁▂▃▄▅▆▇█")
	digits = []rune("123456789X")
)

const (
	signFree    = '-' // granted, and nothing of it held
	signUnknown = '?'
)

func (m *textMap) levels(b bar) string {
	steps := digits
	if m.unicodes {
		steps = blocks
	}
	row := make([]rune, b.columns)
	for i := range row {
		share := m.fill.share(b.column(i))
		switch {
		case share < 0:
			row[i] = m.nothing()
			continue
		case share == 0 && m.fill.unknown:
			row[i] = signUnknown
		case share == 0:
			row[i] = signFree
		case share >= 1:
			row[i] = steps[len(steps)-1]
		default:
			// Only all of it is shown as all.
			row[i] = steps[min(int(share*float64(len(steps))), len(steps)-2)]
		}
		m.seen[row[i]] = true
	}
	return string(row)
}

// colour is that of the owner of a column (ECMA-48, SGR). Red and yellow are for conflicts.
func (m *textMap) colour(c cell) string {
	if c.spans == 0 || c.several {
		return ""
	}
	colours := []string{"36", "32", "35", "34", "1;36", "1;32", "1;35", "1;34"}
	return colours[m.keys[m.Spans[c.first].Owner]%len(colours)]
}

// row writes a bar; colour is that of each column, "" for none.
func (m *textMap) row(label, signs string, colour func(i int) string) {
	m.out.WriteString(m.label(label))
	signs = strings.TrimRight(signs, " ")
	if !m.colours || colour == nil {
		m.out.WriteString(signs + "\n")
		return
	}
	now := ""
	for i, r := range []rune(signs) {
		next := colour(i)
		if r == m.nothing() {
			next = ""
		}
		if next != now {
			m.out.WriteString("\x1b[" + next + "m")
			now = next
		}
		m.out.WriteRune(r)
	}
	if now != "" {
		m.out.WriteString("\x1b[m")
	}
	m.out.WriteByte('\n')
}

// scale writes numbers below a bar: where it begins and ends, and as much between as
// there is room for.
func (m *textMap) scale(b bar) {
	row := slices.Repeat([]rune{' '}, b.columns)
	put := func(at int, text string) {
		from, to := max(at-1, 0), min(at+len(text)+1, len(row))
		if at < 0 || at+len(text) > len(row) || slices.ContainsFunc(row[from:to], func(r rune) bool { return r != ' ' }) {
			return
		}
		copy(row[at:], []rune(text))
	}
	put(0, fmt.Sprint(b.ids.Start))
	last := fmt.Sprint(b.ids.End() - 1)
	put(len(row)-len(last), last)
	for _, id := range roundSteps(b.ids, 1+b.columns/14) {
		at, _, _ := b.span(idmap.Range{Start: id, Count: 1})
		put(at, fmt.Sprint(id))
	}
	m.row("", string(row), nil)
}

func (m *textMap) legend() {
	var parts []string
	add := func(sign rune, text string) {
		if m.seen[sign] {
			parts = append(parts, string(sign)+" "+text)
		}
	}
	add('#', "lines of several owners")
	add('+', "an owner without a letter")
	add(signFree, "free")
	add(signUnknown, "not known to be held")
	if m.unicodes {
		if slices.ContainsFunc(blocks, func(r rune) bool { return m.seen[r] }) {
			parts = append(parts, string(blocks[0])+" to "+string(blocks[len(blocks)-1])+" some to all is held")
		}
	} else if slices.ContainsFunc(digits, func(r rune) bool { return m.seen[r] }) {
		parts = append(parts, "1 to 9 tenths of it are held, about", "X all is held")
	}
	add('r', "reserved")
	add('a', "users and groups")
	add('s', "/etc/subuid, /etc/subgid")
	add('p', "programs that take IDs")
	add('n', "a live user namespace without a lease")
	add('!', "error")
	add('~', "warning")
	add(m.nothing(), "nothing")
	m.out.WriteByte('\n')
	// One below the other where they don't fit beside each other.
	line := ""
	for _, p := range parts {
		if line != "" && cellsOf(line)+3+cellsOf(p) > m.columns {
			m.say("", line)
			line = ""
		}
		if line != "" {
			line += "   "
		}
		line += p
	}
	m.say("", line)
}

func (m *textMap) conflicts() {
	m.say("", m.sums.finding()+".")
	all := gathered(m.Atlas)
	for i, c := range all {
		if i == maxTextConflicts {
			m.say("", fmt.Sprintf("... and more: %s check", programName))
			break
		}
		sign := "! "
		if c.Severity == registry.Warning {
			sign = "~ "
		}
		m.say(sign, c.text(m.script()))
	}
}

// say writes a text, in as many lines as it needs; the sign stands before the first.
func (m *textMap) say(sign, text string) {
	room := m.columns - len(sign)
	for _, line := range wrap(text, room) {
		m.out.WriteString(sign + line + "\n")
		sign = strings.Repeat(" ", len(sign))
	}
}

// wrap breaks a text at spaces, and words that are longer than a line anywhere.
func wrap(text string, columns int) []string {
	var lines []string
	line := ""
	for word := range strings.SplitSeq(text, " ") {
		if line != "" && cellsOf(line)+1+cellsOf(word) <= columns {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for cellsOf(word) > columns {
			head := shorten(word, columns, "")
			lines = append(lines, head)
			word = word[len(head):]
		}
		line = word
	}
	return append(lines, line)
}
