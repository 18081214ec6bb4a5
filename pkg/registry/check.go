// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// World is what a book is checked against.
type World struct {
	Host      Host
	SubUIDs   []SubID
	SubGIDs   []SubID
	Installed []Software // whose ranges of [Allocators] are really taken from
}

// Severity says whether a conflict can lead to IDs with two owners.
type Severity int

// Warning is what may well be meant; Error is what must be mended.
const (
	Warning Severity = iota
	Error
)

// String is "warning" or "error".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Conflict is one finding of [Check].
type Conflict struct {
	Severity Severity
	Where    string      // the line of the book (of [LoadSubIDs]' warnings: of its file)
	Other    string      // what it conflicts with: a line of a file, or a [Software]; may be empty
	Range    idmap.Range // the IDs in question; may be empty
	Message  string      // Where, the finding, and what mends it
}

// What ends a check: a book with two million-line halves that overlap has 10^12
// pairs of lines to report.
const (
	maxConflicts = 10000   // errors that are reported; and warnings, of which more are only counted
	maxCounted   = 1000000 // warnings that are only counted
)

// Check finds all conflicts in a book, and between it and the host, in the
// order of the book's lines:
//
//   - lines of two owners overlap (error), or of one owner (warning);
//   - an account of the host lies inside a grant (error);
//   - /etc/subuid or /etc/subgid gives IDs of a grant to another owner (error);
//   - an allocator that doesn't read the book may take them (warning, or error
//     where its software is installed);
//   - a grant is too short for one container of its size (error);
//   - a grant is owned, and by nobody who has an account, or with flags that don't hold
//     then (error).
//
// A reserved line exists to lie over what others use. It conflicts only with
// lines that grant: an error if they are another owner's, since nothing of the
// overlap can be used, and a warning if its own owner's, which is how a hole is
// made in a grant. An owner is known by login name and by UID.
func Check(b *Book, w World) []Conflict {
	c := checker{uids: make(map[string]string), lines: b.Lines()}
	for _, u := range w.Host.Users {
		c.uids[u.Name] = strconv.FormatUint(uint64(u.ID), 10)
	}
	for i, l := range c.lines {
		c.tooShort(i)
		c.owned(i)
		c.spans = append(c.spans, span{ids: l.Range, line: i, meet: nil})
	}
	for _, u := range w.Host.Users {
		c.account(u, "user", "usermod -u")
	}
	for _, g := range w.Host.Groups {
		c.account(g, "group", "groupmod -g")
	}
	for _, s := range slices.Concat(w.SubUIDs, w.SubGIDs) {
		c.subID(s)
	}
	for _, a := range Allocators() {
		c.allocator(a, slices.Contains(w.Installed, a.Software))
	}
	c.sweep()
	slices.SortStableFunc(c.found, func(x, y finding) int { return cmp.Compare(x.line, y.line) })
	out := make([]Conflict, len(c.found))
	for i, f := range c.found {
		out[i] = f.Conflict
	}
	if c.counted > 0 {
		atLeast := ""
		if c.full {
			atLeast = "at least "
		}
		out = append(out, Conflict{Severity: Warning, Message: fmt.Sprintf("%s%d more warnings: these are the first %d", atLeast, c.counted, maxConflicts)})
	}
	if c.full {
		out = append(out, Conflict{Severity: Error, Message: fmt.Sprintf("more than %d conflicts: mend these first", maxConflicts)})
	}
	return out
}

// span is IDs that a line of the book grants or reserves, or that something
// else uses; that says how it meets a line.
type span struct {
	ids  idmap.Range
	line int // index in checker.lines; of no meaning when meet isn't nil
	meet func(line int, both idmap.Range)
}

type finding struct {
	line int
	Conflict
}

type checker struct {
	lines []Line
	uids  map[string]string // login name to decimal UID
	spans []span
	found []finding

	errors, warnings int  // of those found
	counted          int  // warnings beyond
	full             bool // there are more than are to be looked at
}

// add reports a conflict of a line; the format continues the line's place.
func (c *checker) add(severity Severity, line int, other string, ids idmap.Range, format string, args ...any) {
	switch {
	case severity == Error && c.errors == maxConflicts:
		c.full = true
		return
	case severity == Error:
		c.errors++
	case c.warnings == maxConflicts:
		c.counted++
		c.full = c.full || c.counted > maxCounted
		return
	default:
		c.warnings++
	}
	where := c.lines[line].Where()
	message := where + ": " + fmt.Sprintf(format, args...)
	c.found = append(c.found, finding{line, Conflict{severity, where, other, ids, message}})
}

// sweep goes through all spans by their first ID, with those that haven't ended
// at hand, so that only spans that overlap are ever compared.
func (c *checker) sweep() {
	slices.SortStableFunc(c.spans, func(a, b span) int { return cmp.Compare(a.ids.Start, b.ids.Start) })
	var open []span
	for _, next := range c.spans {
		open = slices.DeleteFunc(open, func(s span) bool { return s.ids.End() <= uint64(next.ids.Start) })
		for _, s := range open {
			if c.full {
				return
			}
			both, ok := s.ids.Intersect(next.ids)
			switch {
			case !ok || s.meet != nil && next.meet != nil:
			case s.meet != nil:
				s.meet(next.line, both)
			case next.meet != nil:
				next.meet(s.line, both)
			default:
				c.twoLines(min(s.line, next.line), max(s.line, next.line), both)
			}
		}
		open = append(open, next)
	}
}

func (c *checker) same(a, b string) bool {
	return a == b || c.uids[a] == b || c.uids[b] == a
}

// twoLines reports on the later line, which is the one to blame.
func (c *checker) twoLines(first, second int, both idmap.Range) {
	a, b := c.lines[first], c.lines[second]
	where := a.Where()
	switch same := c.same(a.Owner, b.Owner); {
	case a.Flags.Reserved && b.Flags.Reserved:
		// Both are kept clear of, whoever wrote them.
	case a.Flags.Reserved || b.Flags.Reserved:
		severity := Error
		if same {
			severity = Warning
		}
		c.add(severity, second, where, both, "%s overlaps %s (%s), and one of them is reserved: nothing of it can be granted: shorten one of the lines", both, a.Owner, where)
	case !same:
		c.add(Error, second, where, both, "%s of %s belongs to %s (%s) too: shorten or move one of the lines", both, b.Owner, a.Owner, where)
	case a.Range == b.Range:
		c.add(Warning, second, where, both, "%s is granted to %s by %s already: remove one of the lines", both, b.Owner, where)
	default:
		c.add(Warning, second, where, both, "%s is granted to %s by %s already, and the flags of both lines apply: shorten one of them", both, b.Owner, where)
	}
}

func (c *checker) tooShort(line int) {
	l := c.lines[line]
	if size := l.Flags.ContainerSize(); !l.Flags.Reserved && l.Range.Count < size && !c.full {
		mended := l
		mended.Flags.Size = l.Range.Count
		c.add(Error, line, "", l.Range, "%s has %d IDs, fewer than the %d of one container: lengthen it, or make its containers smaller: write %q",
			l.Range, l.Range.Count, size, mended)
	}
}

// owned reports a line whose containers would all be refused, for what it says beside the
// flag owned.
func (c *checker) owned(line int) {
	l := c.lines[line]
	if !l.Flags.Owned || l.Flags.Reserved || c.full {
		return
	}
	if broken := l.Flags.BrokenByOwner(); broken != "" {
		c.add(Error, line, "", l.Range, "flag owned: %s owns the user namespaces of this grant's containers, and undoes %s there: keep one of them", l.Owner, broken)
	}
	if !c.hasAccount(l.Owner) {
		c.add(Error, line, "", l.Range, "flag owned: %s has no account on this host to own a user namespace: make one (useradd %s), or remove the flag", l.Owner, rootfile.ShellQuote(l.Owner))
	}
}

// hasAccount says whether an owner, by name or number, is a user of the host, but not root.
func (c *checker) hasAccount(owner string) bool {
	if uid, ok := c.uids[owner]; ok {
		return uid != "0"
	}
	for _, uid := range c.uids {
		if uid == owner {
			return uid != "0"
		}
	}
	return false
}

func (c *checker) account(a Account, what, change string) {
	c.other(idmap.Range{Start: a.ID, Count: 1}, func(line int, both idmap.Range) {
		c.add(Error, line, a.Where, both, "%d of %s is the host's %s %s (%s): move the line, or give the account another ID: %s NEW %s",
			a.ID, c.lines[line].Owner, what, a.Name, a.Where, change, rootfile.ShellQuote(a.Name))
	})
}

func (c *checker) subID(s SubID) {
	c.other(s.Range, func(line int, both idmap.Range) {
		if owner := c.lines[line].Owner; !c.same(owner, s.Owner) {
			c.add(Error, line, s.Where, both, "%s of %s belongs to %s by %s: move one of the lines", both, owner, s.Owner, s.Where)
		}
	})
}

func (c *checker) allocator(a Allocator, installed bool) {
	severity, state := Warning, "if it is ever installed"
	if installed {
		severity, state = Error, "which is installed"
	}
	c.other(a.Range, func(line int, both idmap.Range) {
		c.add(severity, line, string(a.Software), both, "%s of %s can be taken for %s by %s, %s: move the line out of %s, or configure %s to keep out",
			both, c.lines[line].Owner, a.Use, a.Software, state, a.Range, a.Software)
	})
}

// other adds something that isn't of the book. Reserved lines don't meet it.
func (c *checker) other(ids idmap.Range, meet func(line int, both idmap.Range)) {
	c.spans = append(c.spans, span{ids: ids, meet: func(line int, both idmap.Range) {
		if !c.lines[line].Flags.Reserved {
			meet(line, both)
		}
	}})
}
