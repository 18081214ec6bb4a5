// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/shim"
)

// Flags of plan alone.
const (
	flagBundle  = "bundle"
	flagID      = "id"
	flagConfig  = "config"
	flagPidFile = "pid-file"
)

func (p *program) planVerb() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "show what would become of a container, and touch nothing",
		UsageText: programName + " plan --bundle DIR [--owner NAME] [--root DIR] [--id ID] [--pid-file FILE] [--config FILE] [--json]",
		Description: "The decision that userns-runtime create would make now: whose container it is and by which lines, the range\n" +
			"it would get, every change to its config.json and why, who root inside would be on what is bound in. Exit code 3\n" +
			"says that it would be refused.",
		Flags: []cli.Flag{
			text(flagBundle, "`DIR` of the bundle, with config.json in it"),
			text(flagOwner, "`NAME` of the owner, as userns-runtime --owner"),
			text(flagRoot, "state `DIR` of the engine, as userns-runtime --root (/run/runc)"),
			text(flagID, "`ID` of the container (the name of the bundle's directory)"),
			text(flagPidFile, "`FILE` of the engine, as userns-runtime create --pid-file: Podman's own files are known by it"),
			text(flagConfig, "configuration `FILE`"),
			jsonFlag("the decision"),
		},
		Action: p.plan,
	}
}

// planJSON is a decision as JSON.
type planJSON struct {
	Decision string `json:"decision"` // "granted", "refused"
	Error    string `json:"error,omitempty"`
	shim.Foreseen
}

func (p *program) plan(c *cli.Context) error {
	if _, err := arguments(c, 0); err != nil {
		return err
	}
	if c.String(flagBundle) == "" {
		return misused(verbOf(c), "--%s: is missing: expected the directory of a bundle", flagBundle)
	}
	asked := shim.Asked{Bundle: c.String(flagBundle), Root: c.String(flagRoot), ID: c.String(flagID), Config: c.String(flagConfig), PidFile: c.String(flagPidFile)}
	if c.IsSet(flagOwner) {
		owner, err := ownerOf(c, c.String(flagOwner))
		if err != nil {
			return err
		}
		asked.Owner = owner
	}
	if err := p.needsRoot(c); err != nil {
		return err
	}
	seen, err := shim.Foresee(asked)
	if err != nil {
		return failed(programName+" plan --help", "plan: %w", err)
	}
	if err := p.showPlan(c, seen); err != nil || seen.Refused == nil {
		return err
	}
	return &failure{code: exitFound}
}

func (p *program) showPlan(c *cli.Context, seen shim.Foreseen) error {
	out := planJSON{Decision: "granted", Foreseen: seen}
	if seen.Refused != nil {
		out.Decision, out.Error = "refused", seen.Refused.Error()
	}
	if c.Bool(flagJSON) {
		return p.json(out)
	}
	p.out.WriteString("decision: " + out.Decision + "\n")
	for line := range strings.SplitSeq(out.Error, "\n") {
		if line != "" {
			p.out.WriteString("  " + visible(line) + "\n")
		}
	}
	for _, row := range []struct{ name, value string }{
		{"owner", out.Owner}, {"by", out.OwnerBy}, {"lines", strings.Join(out.Lines, ", ")}, {"flags", out.Flags},
		{"UIDs", out.UIDs}, {"GIDs", out.GIDs}, {"bundle", out.Bundle}, {"root filesystem", string(out.Rootfs)}, {"runtime", out.Runtime},
	} {
		value := visible(row.value)
		if (row.name == "UIDs" || row.name == "GIDs") && value != "" {
			value += mapOrigin(out.Asked)
		}
		if value != "" {
			fmt.Fprintf(&p.out, "%s: %s\n", row.name, value)
		}
	}
	if len(out.Binds) > 0 {
		rows := [][]string{{"BOUND IN AT", "FROM", "ROOT INSIDE IS", "WHY"}}
		for _, b := range out.Binds {
			rows = append(rows, []string{b.Destination, b.Source, b.As, b.Why})
		}
		p.out.WriteByte('\n')
		if err := p.table(rows); err != nil {
			return err
		}
	}
	for i, sentence := range out.Confined {
		if i == 0 {
			p.out.WriteString("\nhad in name only:\n")
		}
		p.out.WriteString("  " + visible(sentence) + "\n")
	}
	if len(out.Changes) > 0 {
		p.out.WriteString("\nchanges to " + oci.ConfigName + ", as the low-level runtime will see it:\n")
	}
	for _, change := range out.Changes {
		fmt.Fprintf(&p.out, "@@ %s @@ %s\n", visible(strings.Join(change.Path, ".")), visible(change.Why))
		p.side("-", change.Before)
		p.side("+", change.After)
	}
	return nil
}

func mapOrigin(asked bool) string {
	if asked {
		return " (inner:outer:count, as the bundle has it)"
	}
	return " (inner:outer:count, chosen by what is held now)"
}

// side shows one side of a change, if there is one.
func (p *program) side(sign string, value any) {
	if value == nil {
		return
	}
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		text = fmt.Appendf(nil, "%v", value)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		p.out.WriteString(sign + " " + visible(line) + "\n")
	}
}
