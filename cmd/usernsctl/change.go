// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// edit changes the book. What do decides it decides under the book's lock, so that of
// two calls at once the second sees what the first has done.
func edit(verb string, do func(*registry.Change) error) error {
	return changeFailed(verb, registry.Path, registry.Edit(registry.Path, registry.DropInDir, do))
}

// changeFailed is the failure of a change of a file in /etc, with a command that tells more.
func changeFailed(verb, path string, err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	hint := programName + " check"
	switch {
	case errors.Is(err, unix.EROFS):
		hint = "findmnt -T " + path
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		hint = "df /etc"
	case errors.Is(err, unix.EPERM):
		hint = "lsattr -d /etc " + path
	case path != registry.Path:
		hint = ""
	}
	return failed(hint, "%s: %w", verb, err)
}

// result is the book as it would be. What keeps it from being written is what was asked for, since
// the book as it is has been read.
func result(c *cli.Context, change *registry.Change) (*registry.Book, error) {
	after, err := change.Result()
	if err != nil {
		return nil, misused(verbOf(c), "%w", err)
	}
	return after, nil
}

// wanted is a line that is to be made.
type wanted struct {
	line   registry.Line // its range has no start unless it is placed
	placed bool
	first  bool // there must be no other line yet
}

// wantedOf reads the flags that init and add have in common.
func wantedOf(c *cli.Context, owner string, containers uint32) (w wanted, err error) {
	if w.line.Owner, err = ownerOf(c, owner); err != nil {
		return wanted{}, err
	}
	if w.line.Flags, err = flagsOf(c); err != nil {
		return wanted{}, err
	}
	size, sized, err := number(c, flagSize, 1)
	if err != nil {
		return wanted{}, err
	}
	if sized {
		if had := w.line.Flags.Size; had != 0 && had != size {
			return wanted{}, misused(verbOf(c), "--%s %d, and the flag size=%d: expected one of them", flagSize, size, had)
		}
		if size != registry.DefaultSize {
			w.line.Flags.Size = size
		}
	}
	size = w.line.Flags.ContainerSize()
	n, counted, err := number(c, flagContainers, 1)
	if err != nil {
		return wanted{}, err
	}
	if counted {
		containers = n
	}
	length, long, err := number(c, flagLength, 1)
	switch {
	case err != nil:
		return wanted{}, err
	case long && counted:
		return wanted{}, misused(verbOf(c), "--%s and --%s: expected one of them", flagLength, flagContainers)
	case long && length < size && !w.line.Flags.Reserved:
		return wanted{}, misused(verbOf(c), "--%s %d: is less than the %d IDs of one container: expected more, or smaller containers: --%s %d",
			flagLength, length, size, flagSize, length)
	case !long:
		if length, err = lengthOf(c, containers, size); err != nil {
			return wanted{}, err
		}
	}
	w.line.Range.Count = length
	w.line.Range.Start, w.placed, err = number(c, flagStart, 0)
	return w, err
}

// write gives the line, and shows it.
func (p *program) write(c *cli.Context, w wanted) error {
	written, err := p.give(c, w)
	if err != nil {
		return err
	}
	if c.Bool(flagJSON) {
		return p.json(toJSON(written))
	}
	fmt.Fprintf(&p.out, "%s: %s\n", written.Where(), written)
	return nil
}

// give finds a place for the line, if it has none, judges it, and writes it.
func (p *program) give(c *cli.Context, w wanted) (written registry.Line, err error) {
	verb := verbOf(c)
	var warnings []string
	err = edit(verb, func(change *registry.Change) error {
		line := w.line
		if has := change.Book.Lines(); w.first && len(has) > 0 {
			return failed(w.elsewhere(), "%s: there is a book with %s already (%s): expected none: a further line is made by add",
				verb, plural(len(has), "line"), has[0].Where())
		}
		host, err := census.Take(census.HostPaths())
		if err != nil {
			return failed("", "%s: %w", verb, err)
		}
		if !w.placed {
			if line.Range, err = host.Place(change.Book, line.Range.Count); err != nil {
				return failed(programName+" list", "%s: %w", verb, err)
			}
		}
		change.Add(line)
		after, err := result(c, change)
		if err != nil {
			return err
		}
		collisions, more := host.Collisions(change.Book, after, line.Owner, granted(line))
		if len(collisions) > 0 {
			hint := programName + " check"
			if w.placed {
				hint = w.elsewhere()
			}
			return collided(hint, verb, line, collisions)
		}
		// Where a line is proposed in any case, nobody needs to be told about the place.
		warnings = nil
		if w.placed || !slices.ContainsFunc(registry.Roomy(), func(r idmap.Range) bool { return idmap.NewSet(r).Contains(line.Range) }) {
			warnings = more
		}
		own := slices.DeleteFunc(after.Lines(), func(l registry.Line) bool { return l.File != registry.Path })
		written = own[len(own)-1]
		return nil
	})
	if err != nil {
		return registry.Line{}, err
	}
	p.warnings = append(p.warnings, warnings...)
	p.warnOfStale(written.Owner, written.Range)
	return written, nil
}

// elsewhere is the command that makes the same line in a free place.
func (w wanted) elsewhere() string {
	words := []string{"add", w.line.Owner, "--" + flagLength, fmt.Sprint(w.line.Range.Count)}
	if flags := w.line.Flags.String(); flags != "" {
		words = append(words, "--"+flagFlags, flags)
	}
	return command(words...)
}

func collided(hint, verb string, line registry.Line, collisions []string) error {
	for i, text := range collisions {
		collisions[i] = fmt.Sprintf("%s: %q: %s", verb, line, text)
	}
	return failed(hint, "%s", strings.Join(collisions, "\n"))
}

// granted is the IDs that a line gives to its owner.
func granted(l registry.Line) idmap.Set {
	if l.Flags.Reserved {
		return idmap.Set{}
	}
	return idmap.NewSet(l.Range)
}

func grants(l registry.Line) bool { return !l.Flags.Reserved }

// hasGrant says whether a line grants something to an owner, who is known by login name and by UID.
func hasGrant(book *registry.Book, host registry.Host, owner string) bool {
	names := []string{owner}
	if account, ok := engines.NewAccounts(host).Find(owner); ok {
		names = append(names, account.Login, account.UID)
	}
	_, err := book.Grant(registry.Holder{Names: names}, host)
	return err == nil
}

// nearOwner is the owner of a line that grants something who may have been meant.
func nearOwner(book *registry.Book, owner string) (string, bool) {
	var owners []string
	for _, l := range book.Lines() {
		if grants(l) {
			owners = append(owners, l.Owner)
		}
	}
	return registry.Nearest(owner, owners)
}

// linesOf is the lines of an owner; that there are none is a failure that names the owner
// who may have been meant.
func linesOf(b *registry.Book, verb, owner string) ([]registry.Line, error) {
	all := b.Lines()
	var names []string
	for _, l := range all {
		names = append(names, l.Owner)
	}
	lines := slices.DeleteFunc(all, func(l registry.Line) bool { return l.Owner != owner })
	if len(lines) > 0 {
		return lines, nil
	}
	if near, ok := registry.Nearest(owner, names); ok {
		return nil, failed(command(verb, near), "%s: owner %q: has no line: did you mean %s?", verb, owner, near)
	}
	return nil, failed(programName+" list", "%s: owner %q: has no line", verb, owner)
}

// oneLine is the line of an owner that is meant: the only one, or the one that begins
// at --start.
func oneLine(b *registry.Book, c *cli.Context, owner string) (registry.Line, error) {
	verb := verbOf(c)
	lines, err := linesOf(b, verb, owner)
	if err != nil {
		return registry.Line{}, err
	}
	start, given, err := number(c, flagStart, 0)
	if err != nil {
		return registry.Line{}, err
	}
	fit := lines
	if given {
		fit = slices.DeleteFunc(slices.Clone(lines), func(l registry.Line) bool { return l.Range.Start != start })
	}
	if len(fit) == 1 {
		return fit[0], nil
	}
	hint := command(verb, owner, "--"+flagStart, fmt.Sprint(lines[0].Range.Start))
	var text strings.Builder
	switch {
	case len(fit) > 1 && given:
		fmt.Fprintf(&text, "%s: owner %s: has %d lines that begin at %d: expected one: remove the others by hand", verb, owner, len(fit), start)
		hint = "sudoedit " + registry.Path
		lines = fit
	case len(fit) > 1:
		fmt.Fprintf(&text, "%s: owner %s: has %d lines: expected --%s, for one of them", verb, owner, len(fit), flagStart)
	default:
		fmt.Fprintf(&text, "%s: owner %s: has no line that begins at %d: expected the start of one of these", verb, owner, start)
	}
	for _, l := range lines {
		fmt.Fprintf(&text, "\n%s: %s", l.Where(), l)
	}
	return registry.Line{}, failed(hint, "%s", text.String())
}

// maxNamed is how many holders a message names.
const maxNamed = 10

// heldBack is the failure of a change that takes IDs away under those who have them.
func heldBack(verb, hint string, line registry.Line, lost idmap.Set, host *census.Census) error {
	held := host.Alive(lost)
	if len(held) == 0 {
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s: %q: has %s of its IDs:", verb, line.Where(), line, plural(len(held), "holder"))
	for i, u := range held {
		if i == maxNamed {
			fmt.Fprintf(&text, "\nand %d more", len(held)-i)
			break
		}
		fmt.Fprintf(&text, "\n%s: %s", u.IDs, u.Why)
	}
	fmt.Fprintf(&text, "\n%s: with --%s they keep their IDs until they end, and add gives those to nobody before", verb, flagForce)
	return failed(hint, "%s", text.String())
}
