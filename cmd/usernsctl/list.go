// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func (p *program) listVerb() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "show the lines of the book and its drop-ins",
		UsageText: programName + " list [OWNER] [--json]",
		Flags:     []cli.Flag{jsonFlag("the lines")},
		Action:    p.list,
	}
}

func (p *program) list(c *cli.Context) error {
	words, err := arguments(c, 0, "OWNER")
	if err != nil {
		return err
	}
	for _, w := range words {
		if _, err := ownerOf(c, w); err != nil {
			return err
		}
	}
	book, err := p.book(c)
	if err != nil {
		return err
	}
	lines := book.Lines()
	if len(words) > 0 {
		if lines, err = linesOf(book, "list", words[0]); err != nil {
			return err
		}
	}
	leases, err := census.Leases()
	// The directory is root's alone; the book is everybody's to read.
	unknown := errors.Is(err, fs.ErrPermission)
	if err != nil && !unknown {
		return failed("", "list: %w", err)
	}
	shown := []lineJSON{}
	rows := [][]string{{"OWNER", "START", "LENGTH", "CONTAINERS", "HELD", "FLAGS", "WHERE"}}
	for _, l := range lines {
		line := toJSON(l)
		held := "?"
		if !unknown {
			// Pins are beside the containers that there is room for.
			n := len(slices.DeleteFunc(census.Held(leases, idmap.NewSet(l.Range)), func(l lease.Status) bool { return l.IsPin() }))
			line.Held, held = &n, fmt.Sprint(n)
		}
		shown = append(shown, line)
		containers := "any"
		if n, limited := roomFor(l); limited {
			containers = fmt.Sprint(n)
		}
		rows = append(rows, []string{l.Owner, fmt.Sprint(l.Range.Start), fmt.Sprint(l.Range.Count), containers, held, l.Flags.String(), l.Where()})
	}
	if c.Bool(flagJSON) {
		return p.json(shown)
	}
	return p.table(rows)
}
