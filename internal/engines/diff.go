// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// context is the lines around a change that a diff shows.
const context = 3

// maxDiffLines is how many lines of each side are compared one by one; what is longer is
// shown as taken out and put in whole, between what both begin and end with.
const maxDiffLines = 4000

// Diff is what makes b of a, in the unified form of diff(1), "" if they are the same. The names
// stand in its head; /dev/null is for a file that isn't there. Characters that would do
// something to a terminal are shown as \x1b is.
func Diff(nameA, nameB, a, b string) string {
	if a == b {
		return ""
	}
	edits := editsOf(splitLines(a), splitLines(b))
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", Printable(nameA), Printable(nameB))
	for i := 0; i < len(edits); {
		if edits[i].kind == ' ' {
			i++
			continue
		}
		// From here to where the next change is further away than two contexts.
		start, end := max(0, i-context), i
		for j := i; j < len(edits) && j <= end+2*context; j++ {
			if edits[j].kind != ' ' {
				end = j
			}
		}
		end = min(len(edits), end+1+context)
		hunk(&out, edits, start, end)
		i = end
	}
	return out.String()
}

// edit is one line of a diff; kind is ' ', '-' or '+'.
type edit struct {
	kind byte
	text string
	a, b int // lines of both sides before it
}

func hunk(out *strings.Builder, edits []edit, start, end int) {
	na, nb := 0, 0
	for _, e := range edits[start:end] {
		if e.kind != '+' {
			na++
		}
		if e.kind != '-' {
			nb++
		}
	}
	fmt.Fprintf(out, "@@ -%s +%s @@\n", span(edits[start].a, na), span(edits[start].b, nb))
	for _, e := range edits[start:end] {
		line, whole := strings.CutSuffix(e.text, "\n")
		fmt.Fprintf(out, "%c%s\n", e.kind, Printable(line))
		if !whole {
			out.WriteString("\\ No newline at end of file\n")
		}
	}
}

func span(before, n int) string {
	switch n {
	case 0:
		return fmt.Sprintf("%d,0", before)
	case 1:
		return fmt.Sprint(before + 1)
	}
	return fmt.Sprintf("%d,%d", before+1, n)
}

// splitLines keeps the newlines: a last line without one is another line.
func splitLines(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// editsOf is the lines of both sides in an order that makes b of a, with as many lines in
// common as there can be (a longest common subsequence).
func editsOf(a, b []string) (edits []edit) {
	i, j := 0, 0
	add := func(kind byte, text string) {
		edits = append(edits, edit{kind, text, i, j})
		if kind != '+' {
			i++
		}
		if kind != '-' {
			j++
		}
	}
	endA, endB := len(a), len(b)
	for i < endA && i < endB && a[i] == b[i] {
		add(' ', a[i])
	}
	for endA > i && endB > j && a[endA-1] == b[endB-1] {
		endA, endB = endA-1, endB-1
	}
	middleA, middleB := a[i:endA], b[j:endB]
	var longest [][]int
	if len(middleA) <= maxDiffLines && len(middleB) <= maxDiffLines {
		longest = common(middleA, middleB)
	}
	for x, y := 0, 0; x < len(middleA) || y < len(middleB); {
		switch {
		case longest != nil && x < len(middleA) && y < len(middleB) && middleA[x] == middleB[y]:
			add(' ', middleA[x])
			x, y = x+1, y+1
		case y == len(middleB) || x < len(middleA) && (longest == nil || longest[x+1][y] >= longest[x][y+1]):
			add('-', middleA[x])
			x++
		default:
			add('+', middleB[y])
			y++
		}
	}
	for i < len(a) {
		add(' ', a[i])
	}
	return edits
}

// common is, for each place in both, how many lines the rests have in common, in order.
func common(a, b []string) [][]int {
	n := make([][]int, len(a)+1)
	for i := range n {
		n[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				n[i][j] = n[i+1][j+1] + 1
			} else {
				n[i][j] = max(n[i+1][j], n[i][j+1])
			}
		}
	}
	return n
}

// Printable is text as it can be shown on a terminal without doing anything there: control
// characters but tabs, bytes that aren't UTF-8, and what turns the direction of writing, as
// \x1b and \u202e.
func Printable(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1, r < 0x80 && r != '\t' && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r >= 0x80 && !unicode.IsGraphic(r), r == '\u2028', r == '\u2029':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(text[i : i+n])
		}
		i += n
	}
	return b.String()
}
