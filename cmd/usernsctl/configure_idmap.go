// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// idMapWord stands for both of shadow's programs where configure expects an engine.
const idMapWord = "newuidmap"

// notIDMap refuses what has a meaning for engines alone.
func notIDMap(c *cli.Context) error {
	for _, flag := range []string{flagFile, flagOwner, flagDivert, flagCutExec} {
		if c.IsSet(flag) {
			return misused("configure", "--%s: has no meaning for %s: leave it out", flag, idMapWord)
		}
	}
	return nil
}

// configureIDMap has newuidmap and newgidmap go by the book, or by /etc/subuid and
// /etc/subgid again.
func (p *program) configureIDMap(do *configuring) error {
	if do.undo {
		if err := p.heldByOurs(); err != nil {
			return err
		}
		out, err := do.host.UndivertIDMap(do.dry)
		if err != nil {
			hint := ""
			if errors.Is(err, engines.ErrNotConfigured) {
				hint = command("configure", "--help")
			}
			return failed(hint, "configure: %w", err)
		}
		p.tell(do, out, "nothing to give back: newuidmap and newgidmap are in their place")
		return nil
	}
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if errors.Is(err, registry.ErrNoBook) {
		return failed(command("init"), "configure: %w", err)
	}
	if err != nil {
		return failed(command("check"), "configure: %w", err)
	}
	left, err := leftOut(book)
	if err != nil {
		return failed("", "configure: %w", err)
	}
	out, err := do.host.DivertIDMap(engines.IDMapDir, do.dry)
	if err != nil {
		return failed("", "configure: %w", err)
	}
	if len(left) > 0 {
		p.warn("configure: %s in /etc/subuid, and no line of the book: newuidmap has nothing for them from now on: %s import-subid, or %s add %s",
			strings.Join(left, ", "), programName, programName, rootfile.ShellQuote(left[0]))
	}
	p.tell(do, out, "already: newuidmap and newgidmap go by the book")
	return nil
}

// heldByOurs refuses to give shadow's their place back while entries were exported with a flag that
// only ours hold: their owners would have the IDs without it at once.
func (p *program) heldByOurs() error {
	now := engines.Host{}.Unheld()
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if errors.Is(err, registry.ErrNoBook) {
		return nil // nor is there a flag
	}
	var then, already []engines.StaleSubID
	var host registry.Host
	if err == nil {
		host, err = registry.LoadHost("/etc/passwd", "/etc/group")
	}
	if err == nil {
		then, err = staleSubIDs(book, host, registry.Flags.Restricting)
	}
	if err == nil {
		already, err = staleSubIDs(book, host, now)
	}
	if err != nil {
		// It may be why newuidmap is wanted back.
		p.warn("configure: whether entries of /etc/subuid give more by shadow's newuidmap than by the book isn't known: %s", err)
		return nil
	}
	var owners []string
	for _, s := range then {
		switch {
		case slices.ContainsFunc(already, func(a engines.StaleSubID) bool { return a.Message == s.Message }):
		case !s.Exported:
			p.warn("configure: %s", s.Message)
		case !slices.Contains(owners, s.Login):
			owners = append(owners, s.Login)
		}
	}
	if len(owners) == 0 {
		return nil
	}
	return failed(command(append([]string{"export-subid", "--" + flagUndo}, owners...)...),
		"configure: %s: IDs were exported of lines with a flag that shadow's newuidmap and newgidmap don't hold: take the entries back first, and export again afterwards",
		engines.Printable(strings.Join(owners, ", ")))
}

// leftOut is who has had IDs by /etc/subuid, and has none by the book: what they run
// in user namespaces wouldn't start any more.
func leftOut(book *registry.Book) ([]string, error) {
	host, err := registry.LoadHost("/etc/passwd", "/etc/group")
	if err != nil {
		return nil, err
	}
	entries, _, err := registry.LoadSubIDs("/etc/subuid")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name := cmp.Or(engines.Printable(e.Owner), "''")
		if !hasGrant(book, host, e.Owner) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, nil
}
