// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// rangeJSON is IDs as JSON.
type rangeJSON struct {
	Start uint32 `json:"start"`
	Count uint32 `json:"count"`
}

func rangesJSON(ids idmap.Set) []rangeJSON {
	out := []rangeJSON{}
	for _, r := range ids.Ranges() {
		out = append(out, rangeJSON{r.Start, r.Count})
	}
	return out
}

// lineJSON is a line of the book as JSON.
type lineJSON struct {
	Owner  string   `json:"owner"`
	Start  uint32   `json:"start"`
	Length uint32   `json:"length"`
	Flags  []string `json:"flags"`
	Size   uint32   `json:"size"` // IDs per container
	// Containers is how many the line has room for; null if that isn't limited.
	Containers *uint32 `json:"containers"`
	// Held is how many leases have IDs of it; left out where that isn't looked at, or not
	// the caller's to know.
	Held  *int   `json:"held,omitempty"`
	File  string `json:"file"`
	Line  int    `json:"line"`
	Where string `json:"where"`
}

func toJSON(l registry.Line) lineJSON {
	flags := []string{}
	if text := l.Flags.String(); text != "" {
		flags = strings.Split(text, ",")
	}
	out := lineJSON{
		Owner: l.Owner, Start: l.Range.Start, Length: l.Range.Count, Flags: flags, Size: l.Flags.ContainerSize(),
		File: l.File, Line: l.Number, Where: l.Where(),
	}
	if n, limited := roomFor(l); limited {
		out.Containers = &n
	}
	return out
}

// roomFor is how many containers a line has room for, if that is limited.
func roomFor(l registry.Line) (n uint32, limited bool) {
	switch {
	case l.Flags.Reserved:
		return 0, true
	case l.Flags.Shared && l.Range.Count >= l.Flags.ContainerSize():
		return 0, false
	}
	return l.Range.Count / l.Flags.ContainerSize(), true
}

// json shows a value.
func (p *program) json(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("bug: what is to be shown doesn't become JSON: %w", err)
	}
	p.out.Write(append(text, '\n'))
	return nil
}

// table shows rows of cells; the first is the heading.
func (p *program) table(rows [][]string) error {
	w := tabwriter.NewWriter(&p.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			}
		}
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// plural is "1 error", "2 errors".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
