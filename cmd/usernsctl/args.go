// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Flags of several verbs.
const (
	flagStart      = "start"
	flagLength     = "length"
	flagContainers = "containers"
	flagSize       = "size"
	flagFlags      = "flags"
	flagOwner      = "owner"
	flagForce      = "force"
	flagAll        = "all"
	flagJSON       = "json"
	flagRoot       = "root"
	flagDryRun     = "dry-run"
	flagUndo       = "undo"
)

func text(name, usage string) cli.Flag { return &cli.StringFlag{Name: name, Usage: usage} }

func yes(name, usage string) cli.Flag { return &cli.BoolFlag{Name: name, Usage: usage} }

func jsonFlag(what string) cli.Flag { return yes(flagJSON, "show "+what+" as JSON") }

// flagsFirst puts a verb's flags before its other arguments, as the parser of urfave/cli
// wants them: without it `add alice --size 4096` had three arguments and no flag. A
// flag is given once, since of two the parser would take the last without a word.
func flagsFirst(verb *cli.Command, args []string) ([]string, error) {
	valued := map[string]bool{"help": false, "h": false}
	var names []string
	for _, f := range verb.Flags {
		for _, name := range f.Names() {
			doc, ok := f.(cli.DocGenerationFlag)
			valued[name] = ok && doc.TakesValue()
			names = append(names, name)
		}
	}
	var flags, others []string
	seen := make(map[string]bool)
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			others = append(others, args...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			others = append(others, arg)
			continue
		}
		name, _, equals := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		takes, known := valued[name]
		switch {
		case !known:
			near := ""
			if word, ok := registry.Nearest(name, names); ok {
				near = ": did you mean --" + word + "?"
			}
			return nil, misused(verb.Name, "flag %s: unknown%s", arg, near)
		case seen[name]:
			return nil, misused(verb.Name, "flag --%s: given twice: keep one", name)
		case takes && !equals && len(args) == 0:
			return nil, misused(verb.Name, "flag --%s: has no value: expected one behind it", name)
		}
		seen[name] = true
		flags = append(flags, arg)
		if takes && !equals {
			flags = append(flags, args[0])
			args = args[1:]
		}
	}
	return slices.Concat(flags, []string{"--"}, others), nil
}

// noVerb is the failure of a command line whose first word isn't a verb.
func noVerb(app *cli.App, word string) error {
	var names []string
	for _, c := range app.Commands {
		if c.Name != "help" {
			names = append(names, c.Name)
		}
	}
	hint := programName + " --help"
	if word == "" {
		return &failure{exitUsage, fmt.Errorf("no verb: expected one of %s", strings.Join(names, ", ")), hint}
	}
	if near, ok := registry.Nearest(word, names); ok {
		return &failure{exitUsage, fmt.Errorf("verb %q: unknown: did you mean %s?", word, near), hint}
	}
	return &failure{exitUsage, fmt.Errorf("verb %q: unknown: expected one of %s", word, strings.Join(names, ", ")), hint}
}

// arguments is the words behind a verb, as many as it takes, of which the first
// least ones have to be there.
func arguments(c *cli.Context, least int, names ...string) ([]string, error) {
	words := c.Args().Slice()
	switch {
	case len(words) < least:
		return nil, misused(c.Command.Name, "%s is missing", names[len(words)])
	case len(words) > len(names) && len(names) == 0:
		return nil, misused(c.Command.Name, "%q: expected no argument", words[0])
	case len(words) > len(names):
		return nil, misused(c.Command.Name, "%q: expected nothing behind %s", words[len(names)], names[len(names)-1])
	}
	return words, nil
}

// ownerOf reads an owner. The rest of what a name can't have is the book's to say.
func ownerOf(c *cli.Context, name string) (string, error) {
	switch {
	case name == "":
		return "", misused(c.Command.Name, "owner: is empty: expected a login name, a UID, or an orchestrator's name")
	case strings.Contains(name, ":"):
		return "", misused(c.Command.Name, "owner %q: holds ':', which ends a name in the book: expected a name without colons", name)
	}
	return name, nil
}

// lineOf reads what says which line is meant: OWNER, and --start where that is given.
func lineOf(c *cli.Context) (owner string, start uint32, placed bool, err error) {
	words, err := arguments(c, 1, "OWNER")
	if err != nil {
		return "", 0, false, err
	}
	if owner, err = ownerOf(c, words[0]); err != nil {
		return "", 0, false, err
	}
	start, placed, err = number(c, flagStart, 0)
	return owner, start, placed, err
}

// number reads a flag's decimal number, from least on; given is false where there is no
// such flag.
func number(c *cli.Context, name string, least uint32) (n uint32, given bool, err error) {
	if !c.IsSet(name) {
		return 0, false, nil
	}
	n, err = idmap.ParseID(c.String(name))
	if err != nil || n < least || n == idmap.Invalid {
		return 0, true, misused(c.Command.Name, "--%s: %q: expected a decimal number from %d to %d", name, c.String(name), least, idmap.Invalid-1)
	}
	return n, true, nil
}

// flagsOf reads the flags of a line.
func flagsOf(c *cli.Context) (registry.Flags, error) {
	f, err := registry.ParseFlags(c.String(flagFlags))
	if err == nil {
		err = errors.Join(f.Unenforced()...)
	}
	if err != nil {
		return registry.Flags{}, misused(c.Command.Name, "--%s: %w", flagFlags, err)
	}
	return f, nil
}

// lengthOf is how many IDs so many containers need.
func lengthOf(c *cli.Context, containers, size uint32) (uint32, error) {
	if n := uint64(containers) * uint64(size); n < uint64(idmap.Invalid) {
		return uint32(n), nil
	}
	return 0, misused(c.Command.Name, "%d containers of %d IDs: expected fewer than %d IDs together", containers, size, idmap.Invalid)
}

// command is a command line of ours, for a hint.
func command(words ...string) string {
	text := programName
	for _, w := range words {
		text += " " + rootfile.ShellQuote(w)
	}
	return text
}
