// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func (p *program) setVerb() *cli.Command {
	return &cli.Command{
		Name:        "set",
		Usage:       "change the length or the flags of a line",
		UsageText:   programName + " set OWNER [flags]",
		Description: "Lengthening is judged as add is; narrowing is refused while containers hold IDs that go away.",
		Flags: []cli.Flag{
			text(flagStart, "the line that begins at this `ID`"),
			text(flagLength, "so many `IDS` in all"),
			text(flagContainers, "room for `N` containers at once"),
			text(flagFlags, "`FLAGS` instead of those it has; '' takes all away"),
			yes(flagForce, "narrow it under running containers too: they keep their IDs until they end"),
			jsonFlag("the line, and how it was before,"),
		},
		Action: p.set,
	}
}

// changeOf reads what is to be made of a line.
func changeOf(c *cli.Context) (func(registry.Line) (registry.Line, error), error) {
	if !c.IsSet(flagLength) && !c.IsSet(flagContainers) && !c.IsSet(flagFlags) {
		return nil, misused("set", "nothing to change: expected --%s, --%s or --%s", flagLength, flagContainers, flagFlags)
	}
	length, long, err := number(c, flagLength, 1)
	if err != nil {
		return nil, err
	}
	containers, counted, err := number(c, flagContainers, 1)
	if err != nil {
		return nil, err
	}
	if long && counted {
		return nil, misused("set", "--%s and --%s: expected one of them", flagLength, flagContainers)
	}
	flags, err := flagsOf(c)
	if err != nil {
		return nil, err
	}
	return func(l registry.Line) (registry.Line, error) {
		if c.IsSet(flagFlags) {
			l.Flags = flags
		}
		if counted {
			if length, err = lengthOf(c, containers, l.Flags.ContainerSize()); err != nil {
				return registry.Line{}, err
			}
		}
		if long || counted {
			l.Range.Count = length
		}
		return l, nil
	}, nil
}

func (p *program) set(c *cli.Context) error {
	owner, _, _, err := lineOf(c)
	if err != nil {
		return err
	}
	changed, err := changeOf(c)
	if err != nil {
		return err
	}
	if err := p.needsRoot(c); err != nil {
		return err
	}
	var before, after registry.Line
	var warnings []string
	err = edit("set", func(change *registry.Change) error {
		if before, err = oneLine(change.Book, c, owner); err != nil {
			return err
		}
		if after, err = changed(before); err != nil {
			return err
		}
		if err := change.Replace(before, after); err != nil {
			if before.File != registry.Path {
				return failed(programName+" list", "set: %w", err)
			}
			return misused("set", "%w", err)
		}
		with, err := result(c, change)
		if err != nil {
			return err
		}
		host, err := census.Take(census.HostPaths())
		if err != nil {
			return failed("", "set: %w", err)
		}
		had, has := granted(before), granted(after)
		if !c.Bool(flagForce) {
			if err := heldBack("set", force(c, owner), before, had.Subtract(has), host); err != nil {
				return err
			}
		}
		var collisions []string
		collisions, warnings = host.Collisions(change.Book, with, owner, has.Subtract(had))
		if len(collisions) > 0 {
			return collided(instead(before, after), "set", after, collisions)
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.warnings = append(p.warnings, warnings...)
	p.warnOfStale(after.Owner, after.Range)
	if c.Bool(flagJSON) {
		return p.json(struct {
			lineJSON
			Before lineJSON `json:"before"`
		}{toJSON(after), toJSON(before)})
	}
	if after.String() == before.String() {
		fmt.Fprintf(&p.out, "%s: unchanged %s\n", before.Where(), before)
		return nil
	}
	fmt.Fprintf(&p.out, "%s: was %s\n%s: now %s\n", before.Where(), before, after.Where(), after)
	return nil
}

// force is the same command, and --force.
func force(c *cli.Context, owner string) string {
	words := []string{"set", owner, "--" + flagForce}
	for _, name := range []string{flagStart, flagLength, flagContainers, flagFlags} {
		if c.IsSet(name) {
			words = append(words, "--"+name, c.String(name))
		}
	}
	return command(words...)
}

// instead is the command that gives the owner in another place what the line can't
// have in its own.
func instead(before, after registry.Line) string {
	more := idmap.NewSet(after.Range).Subtract(idmap.NewSet(before.Range)).Len()
	if more < uint64(after.Flags.ContainerSize()) {
		return programName + " check"
	}
	words := []string{"add", after.Owner, "--" + flagLength, fmt.Sprint(more)}
	if flags := after.Flags.String(); flags != "" {
		words = append(words, "--"+flagFlags, flags)
	}
	return command(words...)
}
