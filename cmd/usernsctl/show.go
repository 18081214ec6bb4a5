// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

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
	out := json.NewEncoder(&p.out)
	out.SetIndent("", "  ")
	// It isn't for a page of HTML, and messages have commands in them.
	out.SetEscapeHTML(false)
	if err := out.Encode(v); err != nil {
		return fmt.Errorf("bug: what is to be shown doesn't become JSON: %w", err)
	}
	return nil
}

// table shows rows of cells; the first is the heading. On a terminal it is as wide as that at
// most: the longest cells are shortened. JSON has all of them whole.
func (p *program) table(rows [][]string) error {
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = visible(cell); cell == "" {
				row[i] = "-"
			}
		}
	}
	if p.width > 0 {
		fit(rows, p.width)
	}
	w := tabwriter.NewWriter(&p.out, 0, 0, columnGap, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// columnGap is how many cells of a terminal are between two columns.
const columnGap = 2

// fit shortens the cells of the widest columns, but no heading, until a row takes no more
// cells of a terminal than width.
func fit(rows [][]string, width int) {
	widths := make([]int, len(rows[0]))
	total := columnGap * (len(widths) - 1)
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], cellsOf(row[i]))
		}
		total += widths[i]
	}
	for ; total > width; total-- {
		widest := -1
		for i := range widths {
			if widths[i] > cellsOf(rows[0][i]) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break // the headings alone are too wide
		}
		widths[widest]--
	}
	for _, row := range rows[1:] {
		for i, cell := range row {
			row[i] = shorten(cell, widths[i], "…")
		}
	}
}

// windowWidth is how many cells the terminal has that f is open on; 0 if it is none
// (ioctl_tty(2), TIOCGWINSZ).
func windowWidth(f any) int {
	file, ok := f.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// plural is "1 error", "2 errors".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
