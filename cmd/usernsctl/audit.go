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

const flagPaths = "paths"

func (p *program) auditVerb() *cli.Command {
	return &cli.Command{
		Name:      "audit",
		Usage:     "hold the book against the host and all that is running",
		UsageText: programName + " audit [--paths DIR] [--json]",
		Description: "What check finds, and: processes that have IDs of the book without a lease, containers that hold what isn't\n" +
			"granted any more or run under other flags than the book says by now, IDs with two owners, lines of nobody, pins\n" +
			"that aren't as they were made. With --paths, also files below DIR that containers have left with IDs which nobody has\n" +
			"now. Exit code 3 says that there is an error; warnings alone are 0.",
		Flags: []cli.Flag{
			text(flagPaths, "find files of granted IDs below `DIR`, on its filesystem"),
			jsonFlag("the findings"),
		},
		Action: p.audit,
	}
}

func (p *program) audit(c *cli.Context) error {
	if _, err := arguments(c, 0); err != nil {
		return err
	}
	if c.IsSet(flagPaths) && c.String(flagPaths) == "" {
		return misused(verbOf(c), "--%s: is empty: expected a directory", flagPaths)
	}
	book, host, err := p.look(c)
	if err != nil {
		return err
	}
	var found []registry.Conflict
	for _, f := range host.Audit(book, census.Record) {
		found = append(found, f.Conflict)
		if rest := f.IDs.Ranges(); len(rest) > 1 && c.Bool(flagJSON) {
			// One for each of its ranges, as a program would look for them.
			for _, f.Range = range rest[1:] {
				found = append(found, f.Conflict)
			}
		}
	}
	found = slices.Concat(found, host.Warnings, p.pinFindings(book), staleFindings(book, host.World.Host))
	if c.IsSet(flagPaths) {
		left, err := p.left(host, book, c.String(flagPaths), c.Bool(flagJSON))
		if err != nil {
			return err
		}
		found = append(found, left...)
	}
	return p.findings(c, found)
}

// maxLeft and maxLeftJSON are how many files of one line, and how many that can't be looked at, are
// named in words and in JSON: a container may leave millions.
const (
	maxLeft     = 20
	maxLeftJSON = 10000
)

// leftovers is what was found of one line.
type leftovers struct {
	line  registry.Line
	named []census.Left
	count map[uint32]int // by ID
}

// left is a finding for the first few files that were left below dir, of each line, and for what
// couldn't be looked into.
func (p *program) left(host *census.Census, book *registry.Book, dir string, asJSON bool) (found []registry.Conflict, err error) {
	most := maxLeft
	if asJSON {
		most = maxLeftJSON
	}
	byLine := make(map[string]*leftovers)
	var order []*leftovers
	failures := 0
	err = host.Files(book, dir, census.Files{
		Found: func(f census.Left) {
			of := byLine[f.Line.Where()]
			if of == nil {
				of = &leftovers{line: f.Line, count: make(map[uint32]int)}
				byLine[f.Line.Where()] = of
				order = append(order, of)
			}
			if of.count[f.ID]++; len(of.named) < most {
				of.named = append(of.named, f)
			}
		},
		Mount: func(path string) {
			p.warn("audit: %s: something is mounted there, which wasn't looked into: %s", path, command("audit", "--"+flagPaths, path))
		},
		Failed: func(path string, err error) {
			if failures++; failures <= most {
				found = append(found, registry.Conflict{
					Severity: registry.Error, Where: path, Message: fmt.Sprintf("%s: can't be looked at, so whose it is isn't known: %s", path, err),
				})
			}
		},
	})
	if err != nil {
		return nil, failed("", "audit: --%s: %w", flagPaths, err)
	}
	if failures > most {
		found = append(found, registry.Conflict{Severity: registry.Error, Where: dir, Message: fmt.Sprintf("%s: %d more files can't be looked at", dir, failures-most)})
	}
	// A container that was started meanwhile has its files, and a walk takes long.
	host, err = census.Take(census.HostPaths())
	if err != nil {
		return nil, failed("", "audit: %w", err)
	}
	// Whose containers root's engines start is root's business, account or not.
	accounts := engines.NewAccounts(host.World.Host)
	roots, err := rootsOwners(accounts)
	if err != nil {
		return nil, failed("", "audit: %w", err)
	}
	inUse := host.InUse()
	for _, of := range order {
		_, isRoots := roots[accounts.Login(of.line.Owner)]
		for i := range of.named {
			of.named[i].Account = of.named[i].Account && !isRoots
		}
		found = append(found, of.findings(dir, inUse, asJSON)...)
	}
	return found, nil
}

// findings is those whose ID nobody has.
func (of *leftovers) findings(dir string, inUse idmap.Set, asJSON bool) (found []registry.Conflict) {
	more := 0
	for id, n := range of.count {
		if !inUse.Touches(idmap.Range{Start: id, Count: 1}) {
			more += n
		}
	}
	slices.SortFunc(of.named, func(a, b census.Left) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range of.named {
		if !inUse.Touches(idmap.Range{Start: f.ID, Count: 1}) {
			found = append(found, leftOver(f))
			more--
		}
	}
	if more > 0 {
		hint := ""
		if !asJSON {
			hint = ": " + command("audit", "--"+flagPaths, dir, "--"+flagJSON) + fmt.Sprintf(" names up to %d", maxLeftJSON)
		}
		found = append(found, registry.Conflict{
			Severity: leftOver(of.named[0]).Severity, Where: dir, Other: of.line.Where(),
			Message: fmt.Sprintf("%s: %d more files belong to IDs of %s (%s), which no container has now%s", dir, more, of.line.Owner, of.line.Where(), hint),
		})
	}
	return found
}

// leftOver is a file that was left as a finding. An account's own namespaces, as those of a
// rootless engine, may have files of theirs while none of them lives.
func leftOver(f census.Left) registry.Conflict {
	out := registry.Conflict{Severity: registry.Error, Where: f.Path, Other: f.Line.Where()}
	mend := "the next container with that ID owns it: if nobody needs it any more, remove it, or give it to somebody: chown -h"
	if f.Account {
		out.Severity = registry.Warning
		mend = fmt.Sprintf("it is left by a container, or %s keeps it in a namespace of their own, as rootless engines do", f.Line.Owner)
	}
	out.Message = fmt.Sprintf("%s: belongs to UID %d, GID %d of %s (%s), which no container has now: %s", f.Path, f.UID, f.GID, f.Line.Owner, f.Line.Where(), mend)
	return out
}
