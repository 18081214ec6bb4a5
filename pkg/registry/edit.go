// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/lockedfile"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// newBook is what a book begins with that an edit has made.
const newBook = `# The book of user namespaces: who may map which UIDs and GIDs of this host.
# A line is USER:START:LENGTH:FLAGS, such as alice:200000:65536:deny-setgroups
# See: man 5 usernamespaces. To change and check it: usernsctl
`

// Edit changes the book's own file at path. do gets the book as it is now,
// drop-ins included, and says what to change; where there is no book yet it gets
// an empty one. Edits at once wait for each other, so what do decides is decided
// on what it is applied to. If somebody writes the file by hand meanwhile do is
// called again, with the book as it is then; it must not call Edit.
//
// A book that [Load] refuses is refused with the same error, and left alone. If
// do fails, that is Edit's error as it is; then, or if do changes nothing,
// nothing is written. The new text is judged whole before it is written, so that
// a book that can't be read is never left. What isn't changed stays byte for byte:
// comments, blank lines, order and spelling. The file before is kept as path-, as
// shadow(5) does; a new one has mode 0644 and says in a comment what it is.
//
// Whether lines overlap with others isn't judged: that needs the host's accounts
// and more. It is for do to give [Change.Result] to [Check].
func Edit(path, dropins string, do func(*Change) error) error {
	return edit(path, func() (*Book, error) { return Load(path, dropins) }, do)
}

func edit(path string, load func() (*Book, error), do func(*Change) error) error {
	var ours error // the callback's, which is to come out as it is
	err := lockedfile.Edit(path, 0o644, func(text []byte) (_ []byte, err error) {
		defer func() { ours = err }()
		c, err := begin(path, load, text)
		if err != nil {
			return nil, err
		}
		if err := do(c); err != nil {
			return nil, err
		}
		if _, err := c.Result(); err != nil {
			return nil, err
		}
		return c.edited(), nil
	})
	if err == nil || ours != nil && !errors.Is(err, lockedfile.ErrChanged) {
		return err
	}
	return fmt.Errorf("book: %w", err)
}

// begin reads the book once more, as every reader does, with the same judgement
// of its files; and holds it against the text that is going to be edited, so that
// no other text can slip in between the two.
func begin(path string, load func() (*Book, error), text []byte) (*Change, error) {
	b, err := load()
	if errors.Is(err, ErrNoBook) {
		b, err = &Book{}, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Change{Book: b, path: path, fresh: text == nil, changed: make(map[int]replacement)}
	if len(b.sources) > 0 && b.sources[0].file == path {
		c.own = b.sources[0]
	}
	if (c.own.data == nil) != (text == nil) || !bytes.Equal(c.own.data, text) {
		return nil, fmt.Errorf("book: %s: %w", path, lockedfile.ErrChanged)
	}
	return c, nil
}

// Change collects what an [Edit] shall do to the book's own file.
type Change struct {
	// Book is the book as it was read. No method changes it.
	Book *Book

	path    string
	fresh   bool   // there is no file yet
	own     source // the book's own file; empty if it is fresh
	changed map[int]replacement
	added   []string
	bad     problems // lines that can't be written
}

// replacement is what becomes of a line, whose index in own.entries is its key.
type replacement struct {
	text    string
	removed bool
}

// Add puts a line at the end of the book's own file. File and Number of the line
// are not looked at. One that the book can't hold is the error of
// [Change.Result] and of [Edit].
func (c *Change) Add(l Line) {
	text, errs := spell(l)
	for _, err := range errs {
		c.bad.add(fmt.Errorf("book: %s: new line %.100q: %w", c.path, text, err))
	}
	c.added = append(c.added, text)
}

// Remove takes a line of c.Book.Lines() out, and nothing else: a comment above it
// stays. A line of a drop-in is an error, since its file is another's to edit; so
// is a line that has been removed or replaced already.
func (c *Change) Remove(l Line) error {
	i, err := c.find(l)
	if err != nil {
		return err
	}
	c.changed[i] = replacement{removed: true}
	return nil
}

// Replace puts a line in the place of another one, which is subject to what
// [Change.Remove] says. File and Number of the new line are not looked at. A line
// that says the same already keeps its spelling.
func (c *Change) Replace(l, with Line) error {
	i, err := c.find(l)
	if err != nil {
		return err
	}
	text, errs := spell(with)
	if len(errs) > 0 {
		for i, err := range errs {
			errs[i] = fmt.Errorf("book: %s: replaced by %.100q: %w", l.Where(), text, err)
		}
		return errors.Join(errs...)
	}
	if text == l.String() {
		text = string(c.textOf(i))
	}
	c.changed[i] = replacement{text: text}
	return nil
}

// find is the index in own.entries of a line that may be changed.
func (c *Change) find(l Line) (int, error) {
	if l.File != c.path {
		return 0, fmt.Errorf("book: %s: is not a line of %s: expected one of it, since a drop-in belongs to what has installed it: edit that file: %s",
			l.Where(), c.path, rootfile.ShellQuote(l.File))
	}
	i, found := slices.BinarySearchFunc(c.own.entries, l.Number, func(e entry, number int) int { return int(e.number) - number })
	if !found || c.own.line(i, c.Book.sets.sets).String() != l.String() {
		return 0, fmt.Errorf("book: %s: is not %q: expected a line of the book as it is now: look at it again: usernsctl list", l.Where(), l)
	}
	if was, ok := c.changed[i]; ok {
		what := "replaced"
		if was.removed {
			what = "removed"
		}
		return 0, fmt.Errorf("book: %s: %q has been %s already: expected one change of a line: make it the last one", l.Where(), l, what)
	}
	return i, nil
}

// Result is the book as it would be, with the numbers that lines would have, for
// [Check] and [Book.Grant]. Its error is what keeps it from being written: an owner,
// a range or a flag that a line can't have, or a file that would be too long.
func (c *Change) Result() (*Book, error) {
	if err := c.bad.join(); err != nil {
		return nil, err
	}
	if len(c.changed) == 0 && len(c.added) == 0 {
		return c.Book, nil
	}
	b := &Book{}
	// As With does: the lines of drop-ins keep their indexes.
	b.sets.sets = slices.Clone(c.Book.sets.sets)
	if err := b.add(c.path, c.edited()); err != nil {
		return nil, err
	}
	others := c.Book.sources
	if !c.fresh {
		others = others[1:]
	}
	b.sources = append(b.sources, others...)
	return b, nil
}

// edited is the new text of the file, nil if nothing is to be changed.
func (c *Change) edited() []byte {
	if len(c.changed) == 0 && len(c.added) == 0 {
		return nil
	}
	text := make([]byte, 0, len(c.own.data)+len(newBook)+100*len(c.added))
	if c.fresh {
		text = append(text, newBook...)
	}
	done := 0
	for i := range c.own.entries {
		change, ok := c.changed[i]
		if !ok {
			continue
		}
		start := int(c.own.entries[i].owner)
		end := start + len(c.textOf(i))
		text = append(text, c.own.data[done:start]...)
		if change.removed {
			end = min(end+1, len(c.own.data)) // with the end of the line, if it has one
		}
		text = append(text, change.text...)
		done = end
	}
	text = append(text, c.own.data[done:]...)
	if len(text) > 0 && text[len(text)-1] != '\n' && len(c.added) > 0 {
		text = append(text, '\n')
	}
	for _, line := range c.added {
		text = append(text, line...)
		text = append(text, '\n')
	}
	return text
}

// textOf is a line of the file as it is spelled there, without its end.
func (c *Change) textOf(i int) []byte {
	text := c.own.data[c.own.entries[i].owner:]
	if end := bytes.IndexByte(text, '\n'); end >= 0 {
		text = text[:end]
	}
	return text
}

// spell is the text of a line, and everything that keeps that from being read back
// as the same line, in the words of the line's fields.
func spell(l Line) (string, []error) {
	text := l.String()
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	// What would end its field, or make the line another thing, can't be told
	// from the text any more.
	odd := oddBytes([]byte(l.Owner))
	switch {
	case odd != nil:
		add(fmt.Errorf("user %.100q: %w", l.Owner, odd))
	case strings.HasPrefix(l.Owner, "#"):
		add(fmt.Errorf("user %.100q: begins with '#', as a comment does: expected a name that doesn't", l.Owner))
	case strings.Contains(l.Owner, ":"):
		add(fmt.Errorf("user %.100q: holds ':', which ends a name: expected a name without colons", l.Owner))
	default:
		add(checkOwner([]byte(l.Owner)))
	}
	_, err := scanRange(decimal(l.Range.Start), decimal(l.Range.Count))
	add(err)
	if err := checkCaps(l.Flags.DropCaps); err != nil {
		add(err)
		return text, errs
	}
	var sets flagSets
	_, bad := sets.intern([]byte(l.Flags.String()))
	return text, append(errs, bad...)
}

// checkCaps keeps a name from being read back as two, or as another flag.
func checkCaps(names []string) error {
	for _, name := range names {
		if _, ok := slices.BinarySearch(capabilities[:], name); !ok {
			return fmt.Errorf("flag %q: %w", flagDropCaps, unknownCap(name))
		}
	}
	return nil
}

func decimal(id uint32) []byte { return strconv.AppendUint(nil, uint64(id), 10) }
