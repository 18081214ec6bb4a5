// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/shim"
)

func (p *program) gcVerb() *cli.Command {
	return &cli.Command{
		Name:        "gc",
		Usage:       "remove what ended containers have left of their leases, and of owners changed on disk",
		UsageText:   programName + " gc [--json]",
		Description: "Nothing depends on it: such leases are taken over when their IDs are wanted, and the next start changes owners back (shift = 'chown').",
		Flags:       []cli.Flag{jsonFlag("what was removed")},
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0); err != nil {
				return err
			}
			if err := p.needsRoot(c); err != nil {
				return err
			}
			store, err := lease.Open()
			if err != nil {
				return failed("", "gc: %w", err)
			}
			// First, since files have the IDs of leases that look ended. What can't be undone may stay so, and leases
			// are collected all the same.
			left, undone := shim.UndoChowned(store)
			for _, l := range left {
				undone = errors.Join(undone, l.Err)
			}
			removed, err := store.Collect()
			if err = errors.Join(undone, err); err != nil {
				return failed("", "gc: %w", err)
			}
			census.SortLeases(removed)
			if c.Bool(flagJSON) {
				return p.json(leasesJSON(removed, nil))
			}
			held, err := census.Leases()
			if err != nil {
				return failed("", "gc: %w", err)
			}
			for _, l := range left {
				fmt.Fprintf(&p.out, "changed the owners back of %s, of container %s\n", l.Rootfs, l.ID)
			}
			for _, l := range removed {
				fmt.Fprintf(&p.out, "removed %s: %s\n", l.Ranges, census.Holder(l))
			}
			fmt.Fprintf(&p.out, "%s removed, %d still held\n", plural(len(removed), "lease"), len(held))
			return nil
		},
	}
}
