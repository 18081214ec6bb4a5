// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/daemonroot"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

const flagData = "data"

const rootSpecUsage = "`SPEC` of whose IDs are root: user, user:group, uid, uid:gid, default, or 0:0 for not mapped"

func (p *program) daemonRootVerb() *cli.Command {
	data := text(flagData, "`DIR` of the roots ("+daemonroot.DefaultData+")")
	return &cli.Command{
		Name:      "daemon-root",
		Usage:     "give each dockerd of a host a data root of its own",
		UsageText: programName + " daemon-root prepare|status|migrate|restore [flags]",
		Description: "A super-root, /var/lib/docker, holds one root for each identity that containers have as their root, which\n" +
			"nobody else may enter; dockerd's data-root is the directory docker in it.",
		Subcommands: []*cli.Command{
			{
				Name:        "prepare",
				Usage:       "make the root of an identity, and mend it",
				UsageText:   programName + " daemon-root prepare --root SPEC [flags]",
				Description: "Also the super-root, if there is none. What is there already stays.",
				Flags:       []cli.Flag{rootFlag(rootSpecUsage), data, yes(flagDryRun, "show every step, and do none"), jsonFlag("the steps")},
				Action:      p.prepareRoot,
			},
			{
				Name:        "status",
				Usage:       "show the roots, whose they are, and what is to be mended",
				UsageText:   programName + " daemon-root status [flags]",
				Description: "Exit code 3 says that something is to be mended; the commands that do are shown.",
				Flags:       []cli.Flag{data, jsonFlag("the roots")},
				Action:      p.rootStatus,
			},
			{
				Name:      "migrate",
				Usage:     "move the data of a dockerd that knows of no roots into the root 0.0",
				UsageText: programName + " daemon-root migrate [--root SPEC] [flags]",
				Description: "By rename, on one filesystem, with dockerd stopped. What was killed is finished by the next call, or\n" +
					"undone by restore.",
				Flags:  []cli.Flag{rootFlag(rootSpecUsage + "; its root is prepared afterwards"), data, yes(flagDryRun, "show every step, and do none"), jsonFlag("the steps")},
				Action: p.migrateRoot,
			},
			{
				Name:        "restore",
				Usage:       "move it back, and remove the roots, which have to be empty",
				UsageText:   programName + " daemon-root restore [flags]",
				Description: "With dockerd stopped. What was killed is finished by the next call, or undone by migrate.",
				Flags:       []cli.Flag{data, yes(flagDryRun, "show every step, and do none"), jsonFlag("the steps")},
				Action:      p.restoreRoot,
			},
		},
	}
}

// actionAdd is a line in the book.
const actionAdd = "add"

// rootStep is a step of ours, or one of daemonroot's.
type rootStep struct {
	daemonroot.Step
	Line    string `json:"line,omitempty"` // of the book
	command string // that would do it by hand, where it isn't a change on disk
}

// beginRoot is what the verbs have in common before they do anything.
func (p *program) beginRoot(c *cli.Context) (data string, err error) {
	if _, err := arguments(c, 0); err != nil {
		return "", err
	}
	if data, err = dataOf(c); err != nil {
		return "", err
	}
	return data, p.needsRoot(c)
}

// dataOf reads --data.
func dataOf(c *cli.Context) (string, error) {
	if !c.IsSet(flagData) {
		return daemonroot.DefaultData, nil
	}
	data := c.String(flagData)
	if !strings.HasPrefix(data, "/") {
		return "", misused(verbOf(c), "--%s: %q: expected the absolute path of a directory", flagData, data)
	}
	return data, nil
}

func (p *program) prepareRoot(c *cli.Context) error {
	if !c.IsSet(flagRoot) {
		return misused(verbOf(c), "--%s: is missing: expected whose IDs are root", flagRoot)
	}
	data, err := p.beginRoot(c)
	if err != nil {
		return err
	}
	_, id, steps, err := p.identity(c, c.Bool(flagDryRun))
	if err != nil {
		return err
	}
	out, err := daemonroot.Host{}.Prepare(data, id, c.Bool(flagDryRun))
	if err != nil {
		return failed("", "%s: %w", verbOf(c), err)
	}
	return p.showSteps(c, steps, out, "all is as it should be")
}

func (p *program) migrateRoot(c *cli.Context) error {
	data, err := p.beginRoot(c)
	if err != nil {
		return err
	}
	var id *daemonroot.Identity
	var steps []rootStep
	if c.IsSet(flagRoot) {
		var asked daemonroot.Identity
		if _, asked, steps, err = p.identity(c, c.Bool(flagDryRun)); err != nil {
			return err
		}
		id = &asked
	}
	out, err := daemonroot.Host{}.Migrate(data, id, c.Bool(flagDryRun))
	if err != nil {
		return failed("", "%s: %w", verbOf(c), err)
	}
	return p.showSteps(c, steps, out, "nothing to move: "+data+" has no data outside of roots")
}

func (p *program) restoreRoot(c *cli.Context) error {
	data, err := p.beginRoot(c)
	if err != nil {
		return err
	}
	out, err := daemonroot.Host{}.Restore(data, c.Bool(flagDryRun))
	if err != nil {
		return failed("", "%s: %w", verbOf(c), err)
	}
	return p.showSteps(c, nil, out, "nothing to do: "+data+" has no roots")
}

// showSteps shows what was done, or would be.
func (p *program) showSteps(c *cli.Context, before []rootStep, out daemonroot.Result, nothing string) error {
	for _, w := range out.Warnings {
		p.warn("%s: %s", verbOf(c), w)
	}
	steps := withSteps(before, out)
	if c.Bool(flagJSON) {
		return p.json(append([]rootStep{}, steps...))
	}
	if len(steps) == 0 {
		fmt.Fprintln(&p.out, visible(nothing))
	}
	p.tellSteps(steps, c.Bool(flagDryRun))
	fmt.Fprintf(&p.out, "dockerd's data-root: %s\n", visible(rootfile.ShellQuote(out.Root)))
	return nil
}

// withSteps is steps of ours, and those of daemonroot's behind them.
func withSteps(before []rootStep, out daemonroot.Result) []rootStep {
	for _, s := range out.Steps {
		before = append(before, rootStep{Step: s})
	}
	return before
}

// tellSteps shows steps in words, or as they would be done by hand.
func (p *program) tellSteps(steps []rootStep, dry bool) {
	say := didRoot
	if dry {
		say = plannedRoot
	}
	for _, s := range steps {
		fmt.Fprintln(&p.out, visible(say(s)))
	}
}

// didRoot is a step in words.
func didRoot(s rootStep) string {
	path, to := rootfile.ShellQuote(s.Path), rootfile.ShellQuote(s.To)
	switch s.Action {
	case daemonroot.ActionMkdir:
		return fmt.Sprintf("made %s, mode %s, of %s", path, s.Mode, s.Owner)
	case daemonroot.ActionMode:
		return fmt.Sprintf("gave %s the mode %s", path, s.Mode)
	case daemonroot.ActionOwner:
		return fmt.Sprintf("gave %s to %s", path, s.Owner)
	case daemonroot.ActionMove:
		return fmt.Sprintf("moved %s to %s", path, to)
	case daemonroot.ActionRewrite:
		return fmt.Sprintf("changed %s in %s", plural(s.Paths, "path"), path)
	case daemonroot.ActionJournal:
		return fmt.Sprintf("noted in %s: %s", path, s.State)
	case daemonroot.ActionRmdir, daemonroot.ActionRemove:
		return "removed " + path
	case actionAdd:
		return fmt.Sprintf("wrote into %s: %s", path, s.Line)
	}
	return "did: " + s.command
}

// plannedRoot is a step that isn't done: the command that would do it by hand, as far as there is one.
func plannedRoot(s rootStep) string {
	path, to := rootfile.ShellQuote(s.Path), rootfile.ShellQuote(s.To)
	switch s.Action {
	case daemonroot.ActionMkdir:
		uid, gid, _ := strings.Cut(s.Owner, ":")
		return fmt.Sprintf("install -d -m %s -o %s -g %s %s", s.Mode, uid, gid, path)
	case daemonroot.ActionMode:
		return fmt.Sprintf("chmod %s %s", s.Mode, path)
	case daemonroot.ActionOwner:
		return fmt.Sprintf("chown %s %s", s.Owner, path)
	case daemonroot.ActionMove:
		return fmt.Sprintf("mv -nT %s %s", path, to)
	case daemonroot.ActionRewrite:
		return fmt.Sprintf("change %s in %s", plural(s.Paths, "path"), path)
	case daemonroot.ActionJournal:
		return fmt.Sprintf("note in %s: %s", path, s.State)
	case daemonroot.ActionRmdir:
		return "rmdir " + path
	case daemonroot.ActionRemove:
		return "rm " + path
	}
	return s.command
}

// rootJSON is a root as JSON.
type rootJSON struct {
	Path     string             `json:"path"`
	Kind     string             `json:"kind"`
	Identity string             `json:"identity"` // "100000:100000"; "" of the super-root
	Owner    string             `json:"owner"`    // in the book; "" if it is nobody's
	Mode     string             `json:"mode"`
	Owned    string             `json:"owned"`
	Daemons  []int              `json:"daemons"` // process numbers
	Drift    []daemonroot.Drift `json:"drift"`
}

func (p *program) rootStatus(c *cli.Context) error {
	data, err := p.beginRoot(c)
	if err != nil {
		return err
	}
	roots, err := daemonroot.Host{}.Status(data)
	if err != nil {
		return failed("", "%s: %w", verbOf(c), err)
	}
	out := []rootJSON{}
	found := 0
	for _, r := range roots {
		row := rootJSON{r.Path, r.Kind, "", "", r.Mode, r.Owner, append([]int{}, r.Daemons...), append([]daemonroot.Drift{}, r.Drift...)}
		if r.Kind == daemonroot.KindRoot || r.Kind == daemonroot.KindRemap {
			row.Identity = r.ID.Spec()
		}
		if r.Kind == daemonroot.KindRoot {
			var why error
			if row.Owner, why = identityOwner(r.ID); why != nil {
				row.Drift = append(row.Drift, daemonroot.Drift{What: why.Error()})
			}
		}
		found += len(row.Drift)
		out = append(out, row)
	}
	if c.Bool(flagJSON) {
		err = p.json(out)
	} else {
		err = p.rootTable(data, out)
	}
	if err == nil && found > 0 {
		err = &failure{code: exitFound}
	}
	return err
}

func (p *program) rootTable(data string, roots []rootJSON) error {
	if len(roots) == 0 {
		fmt.Fprintf(&p.out, "%s isn't there: %s makes it\n", visible(rootfile.ShellQuote(data)), command("daemon-root", "prepare", "--"+flagRoot, "SPEC"))
		return nil
	}
	rows := [][]string{{"PATH", "KIND", "IDENTITY", "OWNER", "MODE", "DOCKERD", "TO MEND"}}
	for _, r := range roots {
		daemons := strings.Trim(fmt.Sprint(r.Daemons), "[]")
		mend := ""
		if len(r.Drift) > 0 {
			mend = fmt.Sprint(len(r.Drift))
		}
		rows = append(rows, []string{r.Path, r.Kind, r.Identity, r.Owner, r.Mode, daemons, mend})
	}
	if err := p.table(rows); err != nil {
		return err
	}
	for _, r := range roots {
		for _, d := range r.Drift {
			fmt.Fprintf(&p.out, "\n%s\n", visible(d.What))
			if d.Mend != "" {
				fmt.Fprintf(&p.out, "  mend: %s\n", visible(d.Mend))
			}
		}
	}
	return nil
}
