// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names of containers, directories, processes and accounts are other people's: nothing of them may
// reach a terminal as it is.

// script is which characters a name is shown with.
type script int

const (
	asciiOnly    script = iota
	leftToRight         // what stands beside other words
	anyDirection        // what stands alone
)

// visible is a text as it is shown among others.
func visible(text string) string { return shownAs(text, leftToRight) }

// shownAs is a name with nothing in it that a terminal obeys, or that moves, hides or joins
// what stands beside it: such characters are written as Go does, \x1b or \u202e.
func shownAs(name string, in script) string {
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
