// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func (p *program) importSubIDVerb() *cli.Command {
	return &cli.Command{
		Name:      "import-subid",
		Usage:     "give owners a line for what /etc/subuid and /etc/subgid give them",
		UsageText: programName + " import-subid [OWNER...] [--flags FLAGS] [--dry-run] [--json]",
		Description: "A line grants the same numbers for UIDs and GIDs, so IDs that only one of the files gives are left out,\n" +
			"with a warning. Without OWNER, all owners that have an account, as far as can be; with OWNER, all of it\n" +
			"or nothing. The files stay as they are.",
		Flags: []cli.Flag{
			text(flagFlags, "`FLAGS` of the lines, with commas"),
			yes(flagDryRun, "write nothing, and show what would be"),
			jsonFlag("the lines"),
		},
		Action: p.importSubID,
	}
}

// What becomes of IDs that are to be imported.
const (
	stateAdded   = "added"
	statePresent = "present" // the book grants them to the owner already
	stateLeft    = "left out"
)

// importJSON is some IDs of an owner, and what becomes of them.
type importJSON struct {
	State  string `json:"state"`
	Owner  string `json:"owner"`
	Start  uint32 `json:"start"`
	Length uint32 `json:"length"`
	From   string `json:"from"`            // the entry, as file:line
	Where  string `json:"where,omitempty"` // the line of the book, as file:line
	Reason string `json:"reason,omitempty"`
	// lone says that it is left out since only one of the files gives it.
	lone bool
}

func (r importJSON) ids() idmap.Range { return idmap.Range{Start: r.Start, Count: r.Length} }

func (p *program) importSubID(c *cli.Context) error {
	verb := verbOf(c)
	names, err := ownersOf(c)
	if err != nil {
		return err
	}
	flags, err := flagsOf(c)
	if err != nil {
		return err
	}
	// The dry run too: what is alive on the host is root's to see.
	if err := p.needsRoot(c); err != nil {
		return err
	}
	var im importer
	err = edit(verb, func(change *registry.Change) error {
		im = importer{verb: verb, names: names, flags: flags, book: change.Book}
		if err := im.read(); err != nil {
			return err
		}
		if err := im.judge(); err != nil {
			return err
		}
		if c.Bool(flagDryRun) {
			return nil
		}
		for _, r := range im.rows {
			if r.State == stateAdded {
				change.Add(im.line(r))
			}
		}
		after, err := change.Result()
		if err != nil {
			return failed("", "%s: %w", verb, err)
		}
		im.place(after)
		return nil
	})
	if err != nil {
		return err
	}
	for _, w := range im.warnings {
		p.warn("%s", w)
	}
	if restricting := (engines.Host{}).Unheld()(flags); restricting != "" && slices.ContainsFunc(im.rows, func(r importJSON) bool { return r.State == stateAdded }) {
		p.warn("--%s %s: newuidmap and newgidmap don't enforce that, and the entries stay: remove them where it has to hold", flagFlags, restricting)
	}
	rows := [][]string{{"STATE", "OWNER", "START", "LENGTH", "FROM", "WHERE"}}
	for _, r := range im.rows {
		if r.State == stateLeft {
			p.warn("%s", r.Reason)
		}
		rows = append(rows, []string{r.State, r.Owner, fmt.Sprint(r.Start), fmt.Sprint(r.Length), r.From, r.Where})
	}
	if c.Bool(flagJSON) {
		return p.json(append([]importJSON{}, im.rows...))
	}
	return p.table(rows)
}

// importer is one import.
type importer struct {
	verb     string
	names    []string // of the owners that are asked for; none for all
	flags    registry.Flags
	book     *registry.Book
	accounts engines.Accounts
	rows     []importJSON
	warnings []string
}

// line is the line of the book that a row makes.
func (im *importer) line(r importJSON) registry.Line {
	return registry.Line{Owner: r.Owner, Range: r.ids(), Flags: im.flags}
}

// row says what becomes of IDs that an entry gives.
func (im *importer) row(state, owner string, ids idmap.Range, from, where, reason string) {
	im.rows = append(im.rows, importJSON{State: state, Owner: owner, Start: ids.Start, Length: ids.Count, From: from, Where: where, Reason: reason})
}

func (im *importer) leave(owner string, ids idmap.Range, from, format string, args ...any) {
	im.row(stateLeft, owner, ids, from, "", fmt.Sprintf("%s: %s of %s: %s", from, ids, owner, fmt.Sprintf(format, args...)))
}

// read finds what both files give to the owners, and what of that the book has.
func (im *importer) read() error {
	paths := census.HostPaths()
	host, err := registry.LoadHost(paths.Passwd, paths.Group)
	if err != nil {
		return failed("", "%s: %w", im.verb, err)
	}
	im.accounts = engines.NewAccounts(host)
	var files [2]*engines.SubIDFile
	for i, path := range []string{paths.SubUID, paths.SubGID} {
		if files[i], err = engines.ReadSubIDs(path, 0); err != nil {
			return failed("", "%s: %w", im.verb, err)
		}
		im.warnings = append(im.warnings, files[i].Odd()...)
	}
	uids, gids := files[0].Entries(), files[1].Entries()
	if err := im.asked(slices.Concat(uids, gids)); err != nil {
		return err
	}
	im.both(uids, gids, paths)
	return nil
}

// asked refuses names that have no entry.
func (im *importer) asked(entries []registry.SubID) error {
	var owners []string
	for _, e := range entries {
		owners = append(owners, im.accounts.Login(e.Owner))
	}
	for _, name := range im.names {
		if slices.Contains(owners, im.accounts.Login(name)) {
			continue
		}
		if near, ok := registry.Nearest(name, owners); ok {
			return failed(command(im.verb, near), "%s: owner %q: has no entry in /etc/subuid: did you mean %s?", im.verb, name, near)
		}
		return failed("getsubids "+command(name)[len(programName)+1:], "%s: owner %q: has no entry in /etc/subuid", im.verb, name)
	}
	return nil
}

// both makes the rows: added for all that can be, as far as the files and the book's lines of the
// same owner say.
func (im *importer) both(uids, gids []registry.SubID, paths census.Paths) {
	chosen := chosenOf(im.names, im.accounts)
	of := func(entries []registry.SubID) map[string]idmap.Set {
		ranges := make(map[string][]idmap.Range)
		for _, e := range entries {
			login := im.accounts.Login(e.Owner)
			ranges[login] = append(ranges[login], e.Range)
		}
		sets := make(map[string]idmap.Set)
		for login, r := range ranges {
			sets[login] = idmap.NewSet(r...)
		}
		return sets
	}
	uidsOf, gidsOf := of(uids), of(gids)
	lines := make(map[string][]registry.Line)
	for _, l := range im.book.Lines() {
		login := im.accounts.Login(l.Owner)
		lines[login] = append(lines[login], l)
	}
	seen := make(map[string]idmap.Set)
	take := func(e registry.SubID, other map[string]idmap.Set, lacks string) (login string, both idmap.Set) {
		login = im.accounts.Login(e.Owner)
		if !chosen(e.Owner) {
			return login, idmap.Set{}
		}
		ids := idmap.NewSet(e.Range).Subtract(seen[login])
		if _, ok := im.accounts.Find(e.Owner); !ok && len(im.names) == 0 {
			for _, r := range ids.Ranges() {
				im.leave(login, r, e.Where, "has no account in /etc/passwd: name it to import it all the same: %s", command(im.verb, login))
			}
			seen[login] = seen[login].Union(ids)
			return login, idmap.Set{}
		}
		for _, r := range ids.Subtract(other[login]).Ranges() {
			im.leave(login, r, e.Where, "%s doesn't give them: a line grants the same numbers for UIDs and GIDs", lacks)
			im.rows[len(im.rows)-1].lone = true
		}
		return login, ids.Intersect(other[login])
	}
	for _, e := range uids {
		login, both := take(e, gidsOf, paths.SubGID)
		seen[login] = seen[login].Union(both)
		for _, l := range lines[login] {
			had := both.Intersect(idmap.NewSet(l.Range))
			both = both.Subtract(had)
			for _, r := range had.Ranges() {
				if l.Flags.Reserved && !im.flags.Reserved {
					im.leave(login, r, e.Where, "is reserved by %s", l.Where())
					continue
				}
				if had, want := l.Flags.String(), im.flags.String(); want != "" && had != want {
					im.warnings = append(im.warnings, fmt.Sprintf("%s: %q: is there already, and keeps its flags: to give it others: %s",
						l.Where(), l, command("set", l.Owner, "--"+flagStart, fmt.Sprint(l.Range.Start), "--"+flagFlags, want)))
				}
				im.row(statePresent, login, r, e.Where, l.Where(), "")
			}
		}
		for _, r := range both.Ranges() {
			if size := im.flags.ContainerSize(); r.Count < size && !im.flags.Reserved {
				im.leave(login, r, e.Where, "has %d IDs, fewer than the %d of one container: for smaller ones: %s",
					r.Count, size, command(im.verb, login, "--"+flagFlags, im.smaller(r.Count)))
				continue
			}
			im.row(stateAdded, login, r, e.Where, "", "")
		}
	}
	for _, e := range gids {
		take(e, uidsOf, paths.SubUID)
	}
}

// smaller is the flags with containers of so many IDs.
func (im *importer) smaller(size uint32) string {
	f := im.flags
	f.Size = size
	return f.String()
}

// judge holds the rows that are to be added against the book and the host, and leaves out those
// that collide.
func (im *importer) judge() error {
	host, err := census.Take(census.HostPaths())
	if err != nil {
		return failed("", "%s: %w", im.verb, err)
	}
	var adding []int
	for i, r := range im.rows {
		if r.State == stateAdded {
			adding = append(adding, i)
		}
	}
	im.sift(host, adding)
	var refused []string
	for _, r := range im.rows {
		if r.State == stateLeft && !r.lone {
			refused = append(refused, im.verb+": "+r.Reason)
		}
	}
	if len(refused) > 0 && len(im.names) > 0 {
		return failed(programName+" check", "%s", strings.Join(refused, "\n"))
	}
	return im.nothing()
}

// nothing is the failure of a call that names an owner of whom nothing can be imported.
func (im *importer) nothing() error {
	var why []string
	for _, name := range im.names {
		login := im.accounts.Login(name)
		if slices.ContainsFunc(im.rows, func(r importJSON) bool { return r.Owner == login && r.State != stateLeft }) {
			continue
		}
		for _, r := range im.rows {
			if r.Owner == login {
				why = append(why, im.verb+": "+r.Reason)
			}
		}
	}
	if len(why) == 0 {
		return nil
	}
	return failed("", "%s", strings.Join(why, "\n"))
}

// place fills in where the lines that are added have come to be.
func (im *importer) place(after *registry.Book) {
	at := make(map[string]string)
	for _, l := range after.Lines() {
		if l.File == registry.Path {
			at[l.String()] = l.Where()
		}
	}
	for i, r := range im.rows {
		if r.State == stateAdded {
			im.rows[i].Where = at[im.line(r).String()]
		}
	}
}
