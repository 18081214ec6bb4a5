// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/daemonroot"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// What --root default needs: a system user and group that nobody logs in as, and a line in the book.

// accountTools is where the tools of shadow-utils are looked for, whatever PATH is.
var accountTools = []string{"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}

// madeDefault is what was missing of the default owner.
type madeDefault struct {
	commands [][]string     // that make the accounts, by the system's own tools
	line     *registry.Line // in the book; foreseen where nothing is changed
}

// makeDefault makes what is missing of [daemonroot.DefaultName]: what is there stays as it is.
func (p *program) makeDefault(c *cli.Context, dry bool) (made madeDefault, err error) {
	const name = daemonroot.DefaultName
	host, err := registry.LoadHost("/etc/passwd", "/etc/group")
	if err != nil {
		return made, failed("", "%s: %w", verbOf(c), err)
	}
	named := func(a registry.Account) bool { return a.Name == name }
	if !slices.ContainsFunc(host.Groups, named) {
		made.commands = append(made.commands, []string{"groupadd", "--system", name})
	}
	if !slices.ContainsFunc(host.Users, named) {
		made.commands = append(made.commands, []string{
			"useradd", "--system", "--gid", name, "--no-create-home", "--home-dir", "/nonexistent",
			"--shell", "/usr/sbin/nologin", "--comment", "root in containers of Docker", name,
		})
	}
	if !dry {
		for _, words := range made.commands {
			if err := runTool(words); err != nil {
				return made, failed("", "%s: %w", verbOf(c), err)
			}
		}
	}
	book, err := p.book(c)
	if err != nil {
		return made, err
	}
	if hasGrant(book, host, name) {
		return made, nil
	}
	w := wanted{}
	w.line.Owner = name
	if w.line.Range.Count, err = lengthOf(c, firstContainers, registry.DefaultSize); err != nil {
		return made, err
	}
	if dry {
		made.line, err = foreseen(c, book, w)
		return made, err
	}
	line, err := p.give(c, w)
	made.line = &line
	// Its warning is of a moment ago.
	p.warnings = slices.DeleteFunc(p.warnings, func(w string) bool { return strings.HasPrefix(w, registry.Path+": there is no book") })
	return made, err
}

// foreseen is the line that give would write.
func foreseen(c *cli.Context, book *registry.Book, w wanted) (*registry.Line, error) {
	host, err := census.Take(census.HostPaths())
	if err != nil {
		return nil, failed("", "%s: %w", verbOf(c), err)
	}
	w.line.Range, err = host.Place(book, w.line.Range.Count)
	if err != nil {
		return nil, failed(programName+" list", "%s: %w", verbOf(c), err)
	}
	return &w.line, nil
}

// runTool calls one of shadow-utils' tools.
func runTool(words []string) error {
	for _, dir := range accountTools {
		path := dir + words[0]
		if _, err := os.Stat(path); err != nil {
			continue
		}
		cmd := exec.Command(path, words[1:]...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
		out, err := cmd.CombinedOutput()
		if said := strings.TrimSpace(string(out)); err != nil && said != "" {
			return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.ReplaceAll(said, "\n", ": "))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", strings.Join(words, " "), err)
		}
		return nil
	}
	return fmt.Errorf("%s: isn't there: expected the system's own tool (package passwd): install it, or make the user and group %s by hand", words[0], daemonroot.DefaultName)
}

// identity is the identity of a --root as it was given, and whose it is by the book, of which the default is
// made if it is missing. What was made, or would be, is among the steps.
func (p *program) identity(c *cli.Context, dry bool) (owner string, id daemonroot.Identity, steps []rootStep, err error) {
	spec, err := rootOf(c)
	if err != nil {
		return "", id, nil, err
	}
	if spec.Default {
		made, err := p.makeDefault(c, dry)
		if err != nil {
			return "", id, nil, err
		}
		for _, words := range made.commands {
			steps = append(steps, rootStep{Step: daemonroot.Step{Action: words[0], Path: daemonroot.DefaultName}, command: shell(words)})
		}
		if made.line != nil {
			steps = append(steps, rootStep{
				Step:    daemonroot.Step{Action: actionAdd, Path: registry.Path},
				Line:    made.line.String(),
				command: command("add", daemonroot.DefaultName, "--"+flagContainers, fmt.Sprint(firstContainers)),
			})
		}
		if dry && made.line != nil {
			start := made.line.Range.Start
			return daemonroot.DefaultName, daemonroot.Identity{UID: start, GID: start}, steps, nil
		}
		if dry {
			spec.Group = nil // which may be missing as yet
		}
	}
	owner, id.UID, id.GID, err = resolveRoot(spec)
	return owner, id, steps, underVerb(c, err)
}

// underVerb puts the verb before an error that has none, and leaves the rest of a failure as it is.
func underVerb(c *cli.Context, err error) error {
	var f *failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return &failure{f.code, fmt.Errorf("%s: %w", verbOf(c), f.err), f.hint}
	}
	return failed("", "%s: %w", verbOf(c), err)
}

// identityOwner is whose an identity is by the book; why says that nobody has it.
func identityOwner(id daemonroot.Identity) (owner string, why error) {
	if id == daemonroot.Unmapped {
		return "", nil
	}
	owner, _, _, why = resolveRoot(daemonroot.Spec{User: daemonroot.Account{ID: id.UID}, Group: &daemonroot.Account{ID: id.GID}})
	return owner, why
}
