// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func (p *program) delVerb() *cli.Command {
	return &cli.Command{
		Name:      "del",
		Usage:     "take a line away",
		UsageText: programName + " del OWNER [flags]",
		Description: "Refused if the owner has several lines and it isn't said which, and while containers hold IDs of\n" +
			"the line.",
		Flags: []cli.Flag{
			text(flagStart, "the line that begins at this `ID`"),
			yes(flagAll, "all lines of the owner"),
			yes(flagForce, "under running containers too: they keep their IDs until they end"),
			jsonFlag("what was removed"),
		},
		Action: p.del,
	}
}

func (p *program) del(c *cli.Context) error {
	owner, start, placed, err := lineOf(c)
	if err != nil {
		return err
	}
	all := c.Bool(flagAll)
	if all && placed {
		return misused("del", "--%s and --%s: expected one of them", flagAll, flagStart)
	}
	if err := p.needsRoot(c); err != nil {
		return err
	}
	forced := []string{"del", owner, "--" + flagForce}
	switch {
	case all:
		forced = append(forced, "--"+flagAll)
	case placed:
		forced = append(forced, "--"+flagStart, fmt.Sprint(start))
	}
	var removed []registry.Line
	err = edit("del", func(change *registry.Change) error {
		removed = nil
		if all {
			if removed, err = linesOf(change.Book, "del", owner); err != nil {
				return err
			}
		} else {
			line, err := oneLine(change.Book, c, owner)
			if err != nil {
				return err
			}
			removed = []registry.Line{line}
		}
		host, err := census.Take(census.HostPaths())
		if err != nil {
			return failed("", "del: %w", err)
		}
		for _, l := range removed {
			if !c.Bool(flagForce) {
				if err := heldBack("del", command(forced...), l, granted(l), host); err != nil {
					return err
				}
			}
			if err := change.Remove(l); err != nil {
				return failed(programName+" list", "del: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.warnOfStale(owner, removed[0].Range)
	if c.Bool(flagJSON) {
		shown := []lineJSON{}
		for _, l := range removed {
			shown = append(shown, toJSON(l))
		}
		if !all {
			return p.json(shown[0])
		}
		return p.json(shown)
	}
	for _, l := range removed {
		fmt.Fprintf(&p.out, "%s: removed %s\n", l.Where(), l)
	}
	return nil
}
