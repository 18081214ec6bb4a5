// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/urfave/cli/v2"
)

// What init gives without flags: the owner that the configuration has as shipped
// (default-owner), with room for what one engine is known to run at once.
const (
	firstOwner      = "dockroot"
	firstContainers = 1024
)

func (p *program) initVerb() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "write a first book",
		UsageText: programName + " init [flags]",
		Description: "Writes the first line, with room for many containers, where it collides with nothing on this\n" +
			"host. Refused if the book or a drop-in has a line.",
		Flags: []cli.Flag{
			text(flagOwner, "`NAME` of the owner ("+firstOwner+")"),
			text(flagContainers, "room for `N` containers at once (1024)"),
			text(flagSize, "`IDS` per container (65536)"),
			text(flagFlags, "`FLAGS` of the line, with commas"),
			jsonFlag("the line"),
		},
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0); err != nil {
				return err
			}
			owner := firstOwner
			if c.IsSet(flagOwner) {
				owner = c.String(flagOwner)
			}
			w, err := wantedOf(c, owner, firstContainers)
			if err != nil {
				return err
			}
			if w.line.Flags.Reserved {
				return misused("init", "--%s: reserved: expected a line that has room for containers", flagFlags)
			}
			if err := p.needsRoot(c); err != nil {
				return err
			}
			w.first = true
			return p.write(c, w)
		},
	}
}
