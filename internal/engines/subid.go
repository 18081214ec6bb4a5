// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// subIDMark begins a comment that says which entry of the file was written by us:
//
//	# usernsctl export-subid: alice 200000 65536
//	alice:200000:65536
//
// A comment above and one below all of them wouldn't do: useradd(8) sorts the file by
// the numbers and puts comments, which are no entries to it, behind them in any order.
// So each entry has its own, which finds it wherever it is. It has one colon, so that
// no program takes it for an entry.
//
// usermod --del-subuids leaves of an entry what is before and behind the IDs that it takes, and
// the comment. So where a comment's entry isn't there, entries of the same owner that lie inside
// of it are ours too: they were made of it.
const subIDMark = "# usernsctl export-subid: "

// maxSubIDLine is one more than shadow reads of a line, in bytes; it passes over longer ones.
const maxSubIDLine = 1024

// SubIDEntry is an entry of /etc/subuid or /etc/subgid (subuid(5)).
type SubIDEntry struct {
	Owner string // a login name or a decimal UID
	Range idmap.Range
}

// String is the entry as a line of the file.
func (e SubIDEntry) String() string {
	return fmt.Sprintf("%s:%d:%d", e.Owner, e.Range.Start, e.Range.Count)
}

func (e SubIDEntry) mark() string {
	return fmt.Sprintf("%s%s %d %d", subIDMark, e.Owner, e.Range.Start, e.Range.Count)
}

// SubIDFile is the text of /etc/subuid or /etc/subgid, as it was read.
type SubIDFile struct {
	path  string
	lines []subIDLine
}

type subIDLine struct {
	text  string     // with its end
	entry SubIDEntry // zero if it isn't one that every reader reads alike
	mark  SubIDEntry // zero if it isn't our comment
	ours  bool       // an entry that one of our comments names, or what is left of one
}

// ParseSubIDs reads the text of a file; path is its name, for errors and places. What it
// can't read it keeps. Only NUL bytes are refused, since of what is behind them every
// reader makes something else.
func ParseSubIDs(path string, text []byte) (*SubIDFile, error) {
	f := &SubIDFile{path: path}
	marks := make(map[SubIDEntry]int)
	for line := range strings.Lines(string(text)) {
		bare := strings.TrimSuffix(line, "\n")
		if strings.IndexByte(bare, 0) >= 0 {
			return nil, fmt.Errorf("%s:%d: holds a NUL byte: expected text: write the line again", path, len(f.lines)+1)
		}
		l := subIDLine{text: line}
		if entry, ok := strings.CutPrefix(bare, subIDMark); ok {
			if e, ok := exactEntry(strings.ReplaceAll(entry, " ", ":")); ok && e.mark() == bare {
				l.mark = e
				marks[e]++
			}
		} else if e, ok := exactEntry(bare); ok {
			l.entry = e
		}
		f.lines = append(f.lines, l)
	}
	has := make(map[SubIDEntry]bool)
	for i := range f.lines {
		if l := &f.lines[i]; l.entry.Owner != "" && marks[l.entry] > 0 {
			marks[l.entry]--
			l.ours = true
			has[l.entry] = true
		}
	}
	f.fragments(marks, has)
	return f, nil
}

// fragments finds what is left of entries that our comments name and that aren't there.
func (f *SubIDFile) fragments(marks map[SubIDEntry]int, has map[SubIDEntry]bool) {
	ranges := make(map[string][]idmap.Range)
	for e := range marks {
		if !has[e] {
			ranges[e.Owner] = append(ranges[e.Owner], e.Range)
		}
	}
	sets := make(map[string]idmap.Set)
	for owner, r := range ranges {
		sets[owner] = idmap.NewSet(r...)
	}
	for i := range f.lines {
		if l := &f.lines[i]; l.entry.Owner != "" && sets[l.entry.Owner].Contains(l.entry.Range) {
			l.ours = true
		}
	}
}

// exactEntry reads a line that is written so that every reader of the file reads the same.
func exactEntry(line string) (SubIDEntry, bool) {
	if len(line) >= maxSubIDLine {
		return SubIDEntry{}, false
	}
	field := strings.Split(line, ":")
	if len(field) != 3 {
		return SubIDEntry{}, false
	}
	start, err := idmap.ParseID(field[1])
	count, err2 := idmap.ParseID(field[2])
	e := SubIDEntry{field[0], idmap.Range{Start: start, Count: count}}
	return e, err == nil && err2 == nil && e.Range.Validate() == nil && plainName(e.Owner)
}

// plainName says whether every reader of the file takes the name for the same one: without
// spaces and control characters, no comment, and not of NIS, whose names begin with + or -.
func plainName(name string) bool {
	odd := func(r rune) bool { return r == ':' || r == ' ' || !strconv.IsPrint(r) }
	return name != "" && !strings.ContainsFunc(name, odd) && !strings.ContainsRune("#+-", rune(name[0]))
}

// Ours is the entries that were exported.
func (f *SubIDFile) Ours() []SubIDEntry {
	var all []SubIDEntry
	for _, l := range f.lines {
		if l.ours {
			all = append(all, l.entry)
		}
	}
	return all
}

// Entries is all entries that every reader reads alike, ours among them, in their order.
func (f *SubIDFile) Entries() []registry.SubID {
	var all []registry.SubID
	for i, l := range f.lines {
		if l.entry.Owner != "" {
			all = append(all, registry.SubID{Owner: l.entry.Owner, Range: l.entry.Range, Where: f.where(i)})
		}
	}
	return all
}

// Odd is the lines that are no entries that every reader reads alike, each in words with its
// file:line. Comments and blank lines aren't among them.
func (f *SubIDFile) Odd() []string {
	var all []string
	for i, l := range f.lines {
		if text := strings.TrimSpace(l.text); l.entry.Owner == "" && text != "" && text[0] != '#' {
			all = append(all, fmt.Sprintf("%s: %.100q: is passed over: expected USER:START:COUNT, in decimal numbers without leading zeros and spaces: mend or remove the line",
				f.where(i), strings.TrimSuffix(l.text, "\n")))
		}
	}
	return all
}

// others is the entries that others wrote, by their owners. Only those that every reader reads
// alike count: of another, shadow may see nothing.
func (f *SubIDFile) others() byOwner {
	all := make(byOwner)
	for i, l := range f.lines {
		if owner := l.entry.Owner; owner != "" && !l.ours {
			all[owner] = append(all[owner], registry.SubID{Owner: owner, Range: l.entry.Range, Where: f.where(i)})
		}
	}
	return all
}

// byOwner is entries by the owner that they name.
type byOwner map[string][]registry.SubID

// of is those of an account, under both of its names.
func (b byOwner) of(a Account) []registry.SubID { return slices.Concat(b[a.Login], b[a.UID]) }

// Foreign is what a new entry has to keep clear of: all but our entries of those owners
// that are about to be written anew. Where readers make two things of a line it is both; see
// [registry.ParseSubID].
func (f *SubIDFile) Foreign(renewed func(owner string) bool) []registry.SubID {
	var all []registry.SubID
	for i, l := range f.lines {
		if strings.HasPrefix(l.text, "#") || l.ours && renewed(l.entry.Owner) {
			continue
		}
		owner, ranges, _ := registry.ParseSubID(strings.TrimSuffix(l.text, "\n"))
		for _, r := range ranges {
			all = append(all, registry.SubID{Owner: owner, Range: r, Where: f.where(i)})
		}
	}
	return all
}

func (f *SubIDFile) where(i int) string { return fmt.Sprintf("%s:%d", f.path, i+1) }

// With is the text of the file with these entries as ours, and no others. Ours that stay
// stay where they are, each with a comment of its own, and new ones come last; what others wrote stays byte for byte. So
// does a last line without an end: new ones come before it, or they would be part of it.
func (f *SubIDFile) With(want []SubIDEntry) []byte {
	missing := make(map[SubIDEntry]bool)
	for _, e := range want {
		missing[e] = true
	}
	keep := make(map[SubIDEntry]bool)
	for _, l := range f.lines {
		if l.ours && missing[l.entry] {
			missing[l.entry] = false
			keep[l.entry] = true
		}
	}
	var added strings.Builder
	for _, e := range want {
		if missing[e] {
			missing[e] = false
			fmt.Fprintf(&added, "%s\n%s\n", e.mark(), e)
		}
	}
	text := []byte{}
	marks := make(map[SubIDEntry]bool)
	for _, l := range f.lines {
		marks[l.mark] = true
	}
	marked, kept := make(map[SubIDEntry]bool), make(map[SubIDEntry]bool)
	for _, l := range f.lines {
		switch {
		case l.mark.Owner != "" && (!keep[l.mark] || marked[l.mark]), l.ours && (!keep[l.entry] || kept[l.entry]):
			continue
		case l.mark.Owner != "":
			marked[l.mark] = true
		case l.ours:
			kept[l.entry] = true
			if !marks[l.entry] {
				text = append(text, l.entry.mark()+"\n"...)
			}
		}
		text = append(text, l.text...)
	}
	at := bytes.LastIndexByte(text, '\n') + 1
	return slices.Insert(text, at, []byte(added.String())...)
}
