// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/lease"
)

func (p *program) leasesVerb() *cli.Command {
	return &cli.Command{
		Name:      "leases",
		Usage:     "show which container holds which IDs",
		UsageText: programName + " leases [--json]",
		Flags:     []cli.Flag{jsonFlag("the leases")},
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0); err != nil {
				return err
			}
			if err := p.needsRoot(c); err != nil {
				return err
			}
			leases, err := census.Leases()
			if err != nil {
				return failed("", "leases: %w", err)
			}
			// Where it can't be told, a process is all that is missing.
			live, err := lease.Live()
			if err != nil {
				p.warn("leases: %s", err)
			}
			if c.Bool(flagJSON) {
				return p.json(leasesJSON(leases, live))
			}
			rows := [][]string{{"OWNER", "RANGE", "CONTAINER", "ROOT", "STATE", "PID"}}
			for _, l := range leases {
				pid := ""
				if n := census.Process(l, live); n != 0 {
					pid = fmt.Sprint(n)
				}
				rows = append(rows, []string{l.Owner, l.Ranges.String(), l.ID, l.Root, string(l.State), pid})
			}
			return p.table(rows)
		},
	}
}

// leaseJSON is a range that is held as JSON.
type leaseJSON struct {
	Owner     string      `json:"owner"` // "" where it was found alive
	Ranges    []rangeJSON `json:"ranges"`
	Container string      `json:"container"`
	Root      string      `json:"root"`
	State     lease.State `json:"state"`
	PID       int         `json:"pid"`    // one that is there now; 0 if none is known
	UserNS    uint64      `json:"userNS"` // inode number; 0 until it is known
	Shared    bool        `json:"shared"`
	Rebuilt   bool        `json:"rebuilt"`
}

func leasesJSON(leases []lease.Status, live []lease.LiveNS) []leaseJSON {
	out := []leaseJSON{}
	for _, l := range leases {
		out = append(out, leaseJSON{l.Owner, rangesJSON(l.Ranges), l.ID, l.Root, l.State, census.Process(l, live), l.UserNS, l.Shared, l.Rebuilt})
	}
	return out
}
