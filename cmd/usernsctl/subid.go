// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func (p *program) exportSubIDVerb() *cli.Command {
	return &cli.Command{
		Name:      "export-subid",
		Usage:     "write the book's IDs of users to /etc/subuid and /etc/subgid",
		UsageText: programName + " export-subid [OWNER...] [--dry-run] [--undo] [--json]",
		Description: "newuidmap, and by it rootless Podman and Docker, then give a user what the book does. Of all owners\n" +
			"without OWNER, but for those whom the configuration gives to root's containers. Lines with a flag that\n" +
			"newuidmap doesn't enforce aren't written, nor those of owners without an account. Entries of others are never touched. Call it again when the book has changed.",
		Flags: []cli.Flag{
			text(flagOwner, "`OWNER`, one more"),
			yes(flagDryRun, "write nothing, and show what would be"),
			yes(flagUndo, "remove what was written"),
			jsonFlag("the entries"),
		},
		Action: p.exportSubID,
	}
}

// subIDJSON is an entry of subuid or subgid, and what happens to it, as JSON.
type subIDJSON struct {
	State string `json:"state"` // added, removed, kept, present
	Owner string `json:"owner"`
	Start uint32 `json:"start"`
	Count uint32 `json:"count"`
	File  string `json:"file"`
	Where string `json:"where,omitempty"` // file:line of what others wrote, if it is present
}

func (p *program) exportSubID(c *cli.Context) error {
	verb := verbOf(c)
	names, err := ownersOf(c)
	if err != nil {
		return err
	}
	if !c.Bool(flagDryRun) {
		if err := p.needsRoot(c); err != nil {
			return err
		}
	}
	paths := census.HostPaths()
	// Judged before they are changed: who else can write to them can map what they like.
	uids, err := engines.ReadSubIDs(paths.SubUID, 0)
	if err != nil {
		return failed("", "%s: %w", verb, err)
	}
	gids, err := engines.ReadSubIDs(paths.SubGID, 0)
	if err != nil {
		return failed("", "%s: %w", verb, err)
	}
	var out export
	do := func(uids, gids *engines.SubIDFile) (newUIDs, newGIDs []byte, err error) {
		out, err = exported(c, names, uids, gids)
		return out.uids, out.gids, err
	}
	if c.Bool(flagDryRun) {
		_, _, err = do(uids, gids)
	} else {
		err = engines.EditSubIDs(paths.SubUID, paths.SubGID, do)
	}
	if err != nil {
		return changeFailed(verb, paths.SubUID, err)
	}
	for _, w := range out.passed {
		p.warn("%s", w.Why)
	}
	// What is alive only root can know.
	if os.Geteuid() == 0 {
		if host, err := census.Take(paths); err != nil {
			out.warnings = append(out.warnings, fmt.Sprintf("who has IDs of the entries now isn't known: %s", err))
		} else {
			out.warnings = slices.Concat(out.warnings, sharedWithRoot(out.changes, host.Leases), mappedStill(out.changes, host.Unleased()))
		}
	}
	for _, w := range out.warnings {
		p.warn("%s", w)
	}
	shown := []subIDJSON{}
	rows := [][]string{{"STATE", "OWNER", "START", "COUNT", "FILE"}}
	for _, ch := range out.changes {
		shown = append(shown, subIDJSON{ch.State, ch.Owner, ch.Range.Start, ch.Range.Count, ch.File, ch.Where})
		file := ch.File
		if ch.Where != "" {
			file = ch.Where
		}
		rows = append(rows, []string{ch.State, ch.Owner, fmt.Sprint(ch.Range.Start), fmt.Sprint(ch.Range.Count), file})
	}
	if c.Bool(flagJSON) {
		return p.json(shown)
	}
	return p.table(rows)
}

// ownersOf is the owners that are asked for, none for all.
func ownersOf(c *cli.Context) ([]string, error) {
	names := c.Args().Slice()
	if c.IsSet(flagOwner) {
		names = append(names, c.String(flagOwner))
	}
	for _, name := range names {
		if _, err := ownerOf(c, name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// export is what becomes of both files, and of which owners nothing is exported.
type export struct {
	uids, gids []byte
	changes    []engines.SubIDChange
	passed     []engines.Passed
	warnings   []string // what else keeps the IDs from being what the book says
}

// exported makes the new text of both files. The book is read here, under the locks, so that of two
// exports at once the later one writes the later book.
func exported(c *cli.Context, names []string, uids, gids *engines.SubIDFile) (out export, err error) {
	verb := verbOf(c)
	host, err := registry.LoadHost(census.HostPaths().Passwd, census.HostPaths().Group)
	if err != nil {
		return export{}, failed("", "%s: %w", verb, err)
	}
	accounts := engines.NewAccounts(host)
	chosen := chosenOf(names, accounts)
	var more []engines.SubIDChange
	if c.Bool(flagUndo) {
		out.uids, out.changes = engines.RemoveSubIDs(uids, chosen)
		out.gids, more = engines.RemoveSubIDs(gids, chosen)
		out.changes = append(out.changes, more...)
		return out, nil
	}
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if err != nil {
		return export{}, failed(programName+" check", "%s: %w", verb, err)
	}
	if err := known(book, verb, names, accounts, slices.Concat(uids.Ours(), gids.Ours())); err != nil {
		return export{}, err
	}
	withheld, err := out.withhold(book, names, accounts, slices.Concat(uids.Ours(), gids.Ours()))
	if err != nil {
		return export{}, failed("", "%s: whom root's containers belong to isn't known: %w", verb, err)
	}
	plan := engines.PlanSubIDs(book, host, engines.Host{}.Unheld(), func(login string) bool { return chosen(login) && !withheld[login] })
	if all := plan.Conflicts(uids, gids); len(all) > 0 {
		return export{}, failed(programName+" check", "%s: %s", verb, strings.Join(all, "\n"+verb+": "))
	}
	out.uids, out.changes = plan.Apply(uids)
	out.gids, more = plan.Apply(gids)
	out.changes, out.passed = append(out.changes, more...), append(out.passed, plan.Passed...)
	if err := out.nothingFor(verb, names, accounts); err != nil {
		return export{}, err
	}
	out.warnings = slices.Concat(out.warnings, plan.Around(uids), plan.Around(gids))
	source, err := engines.SubIDSource("/etc/nsswitch.conf")
	if err != nil {
		return export{}, failed("", "%s: %w", verb, err)
	}
	if source != "" {
		out.warnings = append(out.warnings, fmt.Sprintf("/etc/nsswitch.conf: subid: %s: shadow's tools ask %[1]s, and don't read /etc/subuid and /etc/subgid", source))
	}
	return out, nil
}

// chosenOf says of an owner whether they are asked for, under whichever of their names.
func chosenOf(names []string, accounts engines.Accounts) func(owner string) bool {
	logins := make(map[string]bool)
	for _, name := range names {
		logins[accounts.Login(name)] = true
	}
	return func(owner string) bool { return len(names) == 0 || logins[accounts.Login(owner)] }
}

// known refuses an owner who is asked for and whom neither the book nor what was exported has.
func known(book *registry.Book, verb string, names []string, accounts engines.Accounts, ours []engines.SubIDEntry) error {
	for _, name := range names {
		login := accounts.Login(name)
		same := func(owner string) bool { return accounts.Login(owner) == login }
		if slices.ContainsFunc(ours, func(e engines.SubIDEntry) bool { return same(e.Owner) }) ||
			slices.ContainsFunc(book.Lines(), func(l registry.Line) bool { return same(l.Owner) }) {
			continue
		}
		if _, err := linesOf(book, verb, name); err != nil {
			return err
		}
	}
	return nil
}

// nothingFor is the failure of a call that names an owner for whom there is nothing to be done.
func (e export) nothingFor(verb string, names []string, accounts engines.Accounts) error {
	var all []string
	for _, name := range names {
		login := accounts.Login(name)
		if slices.ContainsFunc(e.changes, func(ch engines.SubIDChange) bool { return ch.Owner == login }) {
			continue
		}
		var why []string
		for _, w := range e.passed {
			if w.Owner == login {
				why = append(why, verb+": "+w.Why)
			}
		}
		if why == nil {
			why = append(why, fmt.Sprintf("%s: owner %s: has no line that grants anything", verb, name))
		}
		all = append(all, why...)
	}
	if all == nil {
		return nil
	}
	return failed(programName+" list", "%s", strings.Join(all, "\n"))
}
