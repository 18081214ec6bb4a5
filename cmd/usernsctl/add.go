// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/urfave/cli/v2"
)

func (p *program) addVerb() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "give an owner a line",
		UsageText: programName + " add OWNER [flags]",
		Description: "Finds a free place, or judges the one that --start gives, against the book and its drop-ins, accounts,\n" +
			"/etc/subuid and /etc/subgid of others, software that is installed, and all that is running.",
		Flags: []cli.Flag{
			text(flagContainers, "room for `N` containers at once (1)"),
			text(flagLength, "so many `IDS` in all, instead of --containers"),
			text(flagSize, "`IDS` per container (65536)"),
			text(flagStart, "begin at this `ID`"),
			text(flagFlags, "`FLAGS` of the line, with commas"),
			jsonFlag("the line"),
		},
		Action: func(c *cli.Context) error {
			words, err := arguments(c, 1, "OWNER")
			if err != nil {
				return err
			}
			w, err := wantedOf(c, words[0], 1)
			if err != nil {
				return err
			}
			if err := p.needsRoot(c); err != nil {
				return err
			}
			return p.write(c, w)
		},
	}
}
