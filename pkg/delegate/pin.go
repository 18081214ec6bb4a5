// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// PinDir holds a directory for each owner of pins, and that a file for each pin, on
// which the namespace is mounted. All of it is root's, and writable by nobody else.
const PinDir = "/run/userns"

// DefaultPinName is the name of a pin that is given none.
const DefaultPinName = "default"

// Pin names a user namespace that is kept without a process in it: by a mount on
// /run/userns/OWNER/NAME, in the mount namespace of the host's first process. It
// belongs to an account of the host, maps the whole of that account's first line
// of the book from inner 0 on, and is made by root, with the same IDs after each
// boot.
type Pin struct {
	Owner string // login name; of an account without one its UID
	UID   uint32 // of that account, counted on the host
	Name  string
}

// PinError says that what is at a pin's place isn't the pin as it was made, or as
// the book says by now, so nobody should join it. Making the pin anew mends it.
type PinError struct {
	Path, Seen, Expected string
	// Mend is the command that makes the pin anew.
	Mend string
	// Missing says that nothing is there at all.
	Missing bool
}

func (e *PinError) Error() string {
	return fmt.Sprintf("%s: %s: expected %s: have root run `%s`", e.Path, e.Seen, e.Expected, e.Mend)
}

// PinOf is the pin name of an account, which is given by its login name or UID,
// and must be in passwd(5): somebody has to own the namespace.
func PinOf(owner, name string) (Pin, error) {
	account, err := AccountOf(owner)
	if errors.Is(err, ErrNoAccount) {
		return Pin{}, fmt.Errorf("pin %s/%s: %w, so nobody could own it: expected a login name, or the UID of one", owner, name, err)
	}
	if err != nil {
		return Pin{}, fmt.Errorf("pin %s/%s: %w", owner, name, err)
	}
	p := Pin{Owner: OwnerNames(account)[0], UID: uint32(account.Uid), Name: name}
	for _, part := range []struct{ what, text string }{{"owner", p.Owner}, {"name", p.Name}} {
		if !pinName(part.text) {
			return Pin{}, fmt.Errorf("pin %s/%s: %s %q: expected at most %d bytes, printable, without spaces, colons and slashes, and not . or ..: it becomes a file's name",
				owner, name, part.what, part.text, unix.NAME_MAX)
		}
	}
	return p, nil
}

// pinName says whether a text can be the name of a pin's file or directory: what
// the book takes for an owner, and a file system for a name.
func pinName(text string) bool {
	return text != "" && len(text) <= unix.NAME_MAX && utf8.ValidString(text) && text != "." && text != ".." && text[0] != '#' &&
		!strings.ContainsFunc(text, func(c rune) bool {
			return c == ':' || c == '/' || unicode.IsSpace(c) || !unicode.IsPrint(c)
		})
}

func (p Pin) String() string { return p.Owner + "/" + p.Name }

// Path is where the pin is.
func (p Pin) Path() string { return filepath.Join(PinDir, p.Owner, p.Name) }

// Holder is the pin's owner as the book knows them. The account's own IDs aren't
// part of a pin.
func (p Pin) Holder() registry.Holder {
	names := []string{p.Owner}
	if number := strconv.FormatUint(uint64(p.UID), 10); number != p.Owner {
		names = append(names, number)
	}
	return registry.Holder{Names: names}
}

// Namespace is what the pin's namespace has to be by the book, and what the book
// says to that. A grant that restricts by other means than deny-setgroups is refused: nothing else
// holds in a namespace against who owns it.
func (p Pin) Namespace(g *registry.Grant) (Namespace, registry.Verdict, error) {
	lines := g.Lines()
	if len(lines) == 0 {
		return Namespace{}, registry.Verdict{}, fmt.Errorf("pin %s: no line of the book grants anything to %s: add one: usernsctl add %s", p, p.Owner, rootfile.ShellQuote(p.Owner))
	}
	line := lines[0].Range
	uids := idmap.Map{{Inner: 0, Outer: line.Start, Count: line.Count}}
	gids := slices.Clone(uids)
	verdict, err := g.Permits(uids, gids)
	if err != nil {
		return Namespace{}, registry.Verdict{}, fmt.Errorf("pin %s: %w", p, err)
	}
	if flags := verdict.Flags.BrokenByOwner(); flags != "" {
		return Namespace{}, registry.Verdict{}, fmt.Errorf("pin %s: %s: flags %s can't hold in a user namespace that belongs to %s, who has every capability in it: take them from the line, or give %[3]s another one",
			p, verdict.Lines[0].Where(), flags, p.Owner)
	}
	return Namespace{UIDs: uids, GIDs: gids, DenySetgroups: verdict.Flags.DenySetgroups, Owner: &p.UID}, verdict, nil
}

// Open opens the pin's namespace as the caller's own mount namespace has it, and
// establishes that it is what the pin was made as, and what the book says by now:
//
//   - the directories are root's, writable by nobody else, and no symbolic links;
//   - a user namespace is mounted there, and belongs to the pin's account;
//   - its maps are those of [Pin.Namespace], and setgroups is denied in it if that
//     says so, and only then.
//
// What isn't so is a [*PinError]. The caller needs CAP_SYS_ADMIN in the namespace,
// as its owner has. What is given back is what was judged; State is counted on the
// host.
func (p Pin) Open(c Caller, g *registry.Grant) (*os.File, State, error) {
	want, _, err := p.Namespace(g)
	if err != nil {
		return nil, State{}, err
	}
	ns, err := p.open(idmap.RootAs(c.UIDs))
	if err != nil {
		return nil, State{}, err
	}
	is, err := p.judge(c, want, ns)
	if err != nil {
		return nil, State{}, errors.Join(err, ns.Close())
	}
	return ns, is, nil
}

func (p Pin) judge(c Caller, want Namespace, ns *os.File) (State, error) {
	owner, err := linux.UserNSOwner(ns)
	if errors.Is(err, linux.ErrNotUserNS) {
		return State{}, p.wrong("it is a namespace of another kind", "a user namespace")
	}
	if err != nil {
		return State{}, fmt.Errorf("pin %s: %w", p, err)
	}
	// Before it is looked into, which others may not.
	if host, ok := c.UIDs.ToOuter(owner); !ok || host != p.UID {
		return State{}, p.wrong(fmt.Sprintf("it belongs to UID %d, who has every capability in it", owner), fmt.Sprintf("one that belongs to %s (UID %d)", p.Owner, p.UID))
	}
	is, err := Look(ns)
	if err != nil {
		return State{}, fmt.Errorf("pin %s: %w", p, err)
	}
	is.Owner = p.UID
	if is.UIDs, err = is.UIDs.Through(c.UIDs); err == nil {
		is.GIDs, err = is.GIDs.Through(c.GIDs)
	}
	if err != nil {
		return State{}, fmt.Errorf("pin %s: %w", p, err)
	}
	if !is.UIDs.Equal(want.UIDs) || !is.GIDs.Equal(want.GIDs) {
		return State{}, p.wrong(fmt.Sprintf("it maps UIDs %s and GIDs %s", is.UIDs, is.GIDs), fmt.Sprintf("%s, as the book has it", want.UIDs))
	}
	if is.DenySetgroups != want.DenySetgroups {
		verb := map[bool]string{true: "denies", false: "allows"}
		return State{}, p.wrong(fmt.Sprintf("it %s setgroups", verb[is.DenySetgroups]), fmt.Sprintf("one that %s it, as the book has it", verb[want.DenySetgroups]))
	}
	return is, nil
}

// wrong is that something else is there than should be.
func (p Pin) wrong(seen, expected string) error {
	return &PinError{Path: p.Path(), Seen: seen, Expected: expected, Mend: p.mend()}
}

func (p Pin) mend() string { return "usernsctl pin " + rootfile.ShellQuote(p.String()) }

// open opens what is mounted at the pin's place. root is the UID as which the
// host's root shows to the caller.
func (p Pin) open(root uint32) (*os.File, error) {
	path := p.Path()
	for _, dir := range []string{filepath.Dir(PinDir), PinDir, filepath.Dir(path)} {
		d, err := rootfile.OpenDir(dir, root)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, p.missing()
		}
		if err != nil {
			return nil, &PinError{Path: path, Seen: err.Error(), Expected: "directories that root alone could have written", Mend: p.mend()}
		}
		d.Close()
	}
	// From here on nobody but root can put anything else there.
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); errors.Is(err, unix.ENOENT) {
		return nil, p.missing()
	} else if err != nil {
		return nil, fmt.Errorf("pin %s: %w", p, &os.PathError{Op: "lstat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil, p.wrong("it is a symbolic link", "a mounted user namespace")
	}
	ns, err := linux.OpenNamespace(path)
	if errors.Is(err, linux.ErrNotNamespace) {
		seen := "it isn't a namespace"
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 {
			seen = "it is an empty file: the namespace was unmounted, or was there before the last boot"
		}
		return nil, p.wrong(seen, "a mounted user namespace")
	}
	if err != nil {
		return nil, fmt.Errorf("pin %s: %w", p, err)
	}
	return ns, nil
}

func (p Pin) missing() error {
	return &PinError{Path: p.Path(), Seen: "there is nothing", Expected: "a pin that was made", Mend: p.mend(), Missing: true}
}
