// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/daemonroot"
	"github.com/userns-runtime/userns-runtime/internal/engines"
)

// What --root does of configure docker: dockerd gets a daemon root, and the runtime that root's owner.

// rooting is the daemon root that is asked for.
type rooting struct {
	data     string // the super-root
	dataRoot string // dockerd's, once it is known
	steps    []rootStep
}

// rootingOf reads --root and --data, nil if there is neither.
func rootingOf(c *cli.Context, do *configuring) (*rooting, error) {
	refused := func(flag, why string) (*rooting, error) { return nil, misused("configure", "--%s: %s", flag, why) }
	switch {
	case !c.IsSet(flagRoot) && c.IsSet(flagData):
		return refused(flagData, "is where --"+flagRoot+" has its roots: give that as well, or leave it out")
	case !c.IsSet(flagRoot):
		return nil, nil
	case do.engine != "docker":
		return refused(flagRoot, "is dockerd's: expected configure docker")
	case do.undo:
		return refused(flagRoot, "has no meaning with --"+flagUndo+": leave it out")
	case c.IsSet(flagOwner):
		return refused(flagRoot, "conflicts with --"+flagOwner+": the root says whose the containers are: leave one of them out")
	}
	if _, err := rootOf(c); err != nil {
		return nil, err
	}
	data, err := dataOf(c)
	return &rooting{data: data}, err
}

// rootRequest is r with the root's owner and dockerd's data root in it. What is missing of them is made,
// unless dry is set; then its steps are foreseen.
func (p *program) rootRequest(c *cli.Context, root *rooting, r engines.Request, dry bool) (engines.Request, error) {
	owner, id, steps, err := p.identity(c, dry)
	if err != nil {
		return r, err
	}
	out, err := daemonroot.Host{}.Prepare(root.data, id, dry)
	if err != nil {
		return r, failed("", "configure: %w", err)
	}
	root.steps, root.dataRoot = withSteps(steps, out), out.Root
	r.Owner, r.DataRoot, r.Unmapped = owner, out.Root, id == daemonroot.Unmapped
	return r, nil
}

// already is what is said where an engine's file is as it is to be.
func (do *configuring) already(file string) string {
	if do.root != nil {
		return "already: dockerd's data-root in " + file + " is " + do.root.dataRoot
	}
	return "already: " + file + " has userns-runtime as the default runtime of " + do.engine
}

// tellRoot shows what was done for a root, or would be.
func (p *program) tellRoot(do *configuring) {
	for _, s := range do.root.steps {
		do.result = append(do.result, engines.Step{Action: s.Action, File: s.Path, To: cmp.Or(s.To, s.Owner, s.Mode)})
	}
	p.tellSteps(do.root.steps, do.dry)
}
