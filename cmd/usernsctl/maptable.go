// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// ownerRow is an owner in words, for the tables of both pictures.
type ownerRow struct {
	name, ids, full, held, free string
	by, lines, first            string
}

// rowOf is the row of an owner; what isn't known is "?".
func rowOf(a *census.Atlas, o census.Owner) ownerRow {
	r := ownerRow{
		name: o.Name, ids: fmt.Sprint(o.IDs), full: percent(o.Held, o.IDs), held: fmt.Sprint(o.Held), free: fmt.Sprint(o.Free),
		by: fmt.Sprint(o.Holders), lines: fmt.Sprint(o.Lines), first: o.First.String(),
	}
	if !a.LeasesKnown {
		r.full, r.held, r.free, r.by = "?", "?", "?", "?"
	}
	if o.Reserved > 0 {
		r.lines = fmt.Sprintf("%d+%dr", o.Lines, o.Reserved)
	}
	if o.Lines == 0 {
		r.full, r.held, r.free, r.by = "-", "-", "-", "-"
	}
	return r
}

// owners writes the table of owners: as many of its columns as there is room for.
func (m *textMap) owners() {
	if len(m.Owners) == 0 {
		return
	}
	ellipsis := "..."
	if m.unicodes {
		ellipsis = "…"
	}
	heading := []string{"OWNER", "IDS", "FULL", "HELD", "FREE", "BY", "LINES", "FIRST"}
	rows := [][]string{heading}
	keys := []string{" "}
	for i, o := range m.Owners {
		if i == maxTextOwners {
			break
		}
		r := rowOf(m.Atlas, o)
		key := "r"
		if k, grants := m.keys[o.Name]; grants {
			key = "+"
			if k < 26 {
				key = string(rune('A' + k))
			}
		}
		keys = append(keys, key)
		rows = append(rows, []string{shownAs(r.name, m.script()), r.ids, r.full, r.held, r.free, r.by, r.lines, r.first})
	}
	widths := make([]int, len(heading))
	for _, row := range rows {
		for c, text := range row {
			widths[c] = max(widths[c], cellsOf(text))
		}
	}
	// The name gives way first, down to what is left in the narrowest window.
	least := min(widths[0], max(5, m.columns/4))
	used, shown := 2+least, 1
	for shown < len(heading) && used+2+widths[shown] <= m.columns {
		used += 2 + widths[shown]
		shown++
	}
	widths[0] = min(widths[0], least+m.columns-used)
	m.out.WriteByte('\n')
	for i, row := range rows {
		line := keys[i] + " " + padded(shorten(row[0], widths[0], ellipsis), widths[0], true)
		for c := 1; c < shown; c++ {
			// Numbers stand below each other by their ends.
			line += "  " + padded(row[c], widths[c], c == len(heading)-1)
		}
		m.out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if n := len(m.Owners) - maxTextOwners; n > 0 {
		lines, ids := 0, uint64(0)
		for _, o := range m.Owners[maxTextOwners:] {
			lines += o.Lines + o.Reserved
			ids += o.IDs
		}
		m.say("  ", fmt.Sprintf("and %s with %s, %d IDs: %s list", plural(n, "more owner"), plural(lines, "line"), ids, programName))
	}
	m.out.WriteByte('\n')
}

// beside is one who has IDs without the book.
type beside struct {
	kind  census.Kind
	who   string
	ids   idmap.Range
	where string
}

// besides is who has IDs without the book, by their first IDs, but for the accounts. A user who
// has the same as UIDs and as GIDs is one.
func besides(a *census.Atlas) []beside {
	var out []beside
	at := make(map[string]int)
	for _, s := range a.Spans {
		who := s.Owner
		switch s.Kind {
		case census.KindSubUID, census.KindSubGID:
			key := fmt.Sprint(s.Range, " ", who)
			if i, ok := at[key]; ok {
				out[i].where += ", " + s.Where
				continue
			}
			at[key] = len(out)
		case census.KindNamespace:
			who = s.Where
			s.Where = ""
		case census.KindAllocator:
			who += ", for " + s.Note
			s.Where = "installed"
		default:
			continue
		}
		out = append(out, beside{s.Kind, who, s.Range, s.Where})
	}
	return out
}

// besides writes who has IDs without the book.
func (m *textMap) besides() {
	all := besides(m.Atlas)
	if len(all) == 0 {
		return
	}
	m.say("", "Beside the book:")
	for i, b := range all {
		if i == maxTextBesides {
			m.say("  ", fmt.Sprintf("and %d more: %s map --json", len(all)-i, programName))
			break
		}
		text := b.ids.String() + " " + shownAs(b.who, m.script())
		if b.where != "" {
			text += " (" + shownAs(b.where, m.script()) + ")"
		}
		m.say(string(kindSigns[b.kind])+" ", text)
	}
	m.out.WriteByte('\n')
}

// padded fills a text up with spaces, on its right or on its left.
func padded(text string, columns int, left bool) string {
	space := strings.Repeat(" ", max(columns-cellsOf(text), 0))
	if left {
		return text + space
	}
	return space + text
}
