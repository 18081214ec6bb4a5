// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

const flagPaths = "paths"

func (p *program) auditVerb() *cli.Command {
	return &cli.Command{
		Name:      "audit",
		Usage:     "hold the book against the host and all that is running",
		UsageText: programName + " audit [--paths DIR] [--json]",
		Description: "What check finds, and: processes that have IDs of the book without a lease, containers that hold what isn't\n" +
			"granted any more or run under other flags than the book says by now, IDs with two owners, lines of nobody. With --paths,\n" +
			"also files below DIR that containers have left with IDs which nobody has now. Exit code 3 says that there is an error;\n" +
			"warnings alone are 0.",
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
		return misused(c.Command.Name, "--%s: is empty: expected a directory", flagPaths)
	}
	book, host, err := p.look(c)
	if err != nil {
		return err
	}
	_, warnings, err := census.HostPaths().World()
	if err != nil {
		return failed("", "audit: %w", err)
	}
	found := append(host.Audit(book, census.Record), warnings...)
	if c.IsSet(flagPaths) {
		left, err := p.left(host, book, c.String(flagPaths), c.Bool(flagJSON))
		if err != nil {
			return err
		}
		found = append(found, left...)
	}
	return p.findings(c, found)
}

// maxLeft is how many files of one line are named outside of JSON.
const maxLeft = 20

// left is a finding for each file that was left below dir; in words the first few of each line.
func (p *program) left(host *census.Census, book *registry.Book, dir string, all bool) (found []registry.Conflict, err error) {
	counts := make(map[string]int)
	var order []registry.Line
	mounts, err := host.Files(book, dir, func(f census.Left) {
		where := f.Line.Where()
		if counts[where]++; counts[where] == 1 {
			order = append(order, f.Line)
		}
		if all || counts[where] <= maxLeft {
			found = append(found, registry.Conflict{
				Severity: registry.Error, Where: f.Path, Other: where,
				Message: fmt.Sprintf("%s: belongs to UID %d, GID %d of %s (%s), which nobody has now: the next container with that ID owns it: give it to somebody: chown -h",
					f.Path, f.UID, f.GID, f.Line.Owner, where),
			})
		}
	})
	if err != nil {
		return nil, failed("", "audit: --%s: %w", flagPaths, err)
	}
	for _, line := range order {
		if n := counts[line.Where()]; !all && n > maxLeft {
			found = append(found, registry.Conflict{
				Severity: registry.Error, Where: dir, Other: line.Where(),
				Message: fmt.Sprintf("%s: %d more files belong to IDs of %s (%s), which nobody has now: %s --json names them all",
					dir, n-maxLeft, line.Owner, line.Where(), command("audit", "--"+flagPaths, dir)),
			})
		}
	}
	for _, m := range mounts {
		p.warn("audit: %s: another filesystem is mounted there, which wasn't looked into: %s", visible(m), command("audit", "--"+flagPaths, m))
	}
	return found, nil
}
