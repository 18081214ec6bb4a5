// SPDX-License-Identifier: Apache-2.0

package main

import (
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

// verbOf is the verb that is called, as it is typed: "add", "daemon-root migrate".
func verbOf(c *cli.Context) string { return strings.TrimPrefix(c.Command.HelpName, programName+" ") }

// verbsFirst is the words behind the program's name, or behind a verb with verbs of its own, with each
// flag before the verb's other arguments: see flagsFirst. path is the verbs before them.
func verbsFirst(verbs []*cli.Command, path, args []string) ([]string, error) {
	word := ""
	if len(args) > 0 {
		word = args[0]
	}
	verb := find(verbs, word)
	switch {
	case verb != nil:
	case len(path) == 0 || strings.HasPrefix(word, "-"):
		return args, nil
	default:
		return nil, noVerb(verbs, path, word)
	}
	// Help for a verb's own argument "help" would be a surprise.
	verb.HideHelpCommand = true
	verb.OnUsageError = func(c *cli.Context, err error, _ bool) error { return misused(verbOf(c), "%w", err) }
	path = append(slices.Clone(path), verb.Name)
	rest, err := args[1:], error(nil)
	if len(verb.Subcommands) > 0 {
		rest, err = verbsFirst(verb.Subcommands, path, rest)
	} else {
		rest, err = flagsFirst(strings.Join(path, " "), verb.Flags, rest)
	}
	return append([]string{verb.Name}, rest...), err
}

// flagsFirst puts a verb's flags before its other arguments, as the parser of urfave/cli
// wants them: without it `add alice --size 4096` had three arguments and no flag. A
// flag that isn't a list is given once, since of two the parser would take the last without a word.
func flagsFirst(verb string, known []cli.Flag, args []string) ([]string, error) {
	known = append(slices.Clone(known), cli.HelpFlag)
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
		f := flagNamed(known, name)
		_, list := f.(*cli.StringSliceFlag)
		switch {
		case f == nil:
			near := ""
			var names []string
			for _, k := range known {
				names = append(names, k.Names()...)
			}
			if word, ok := registry.Nearest(name, names); ok {
				near = ": did you mean --" + word + "?"
			}
			return nil, misused(verb, "flag %s: unknown%s", arg, near)
		case seen[f.Names()[0]] && !list:
			return nil, misused(verb, "flag --%s: given twice: keep one", name)
		case takesValue(f) && !equals && len(args) == 0:
			return nil, misused(verb, "flag --%s: has no value: expected one behind it", name)
		}
		seen[f.Names()[0]] = true
		flags = append(flags, arg)
		if takesValue(f) && !equals {
			flags = append(flags, args[0])
			args = args[1:]
		}
	}
	return slices.Concat(flags, []string{"--"}, others), nil
}

// noVerb is the failure of a command line in which a word that should be one of these verbs is none, or
// is missing. path is the verbs before it.
func noVerb(verbs []*cli.Command, path []string, word string) error {
	var names []string
	for _, c := range verbs {
		if c.Name != "help" {
			names = append(names, c.Name)
		}
	}
	before := ""
	if len(path) > 0 {
		before = strings.Join(path, " ") + ": "
	}
	hint := command(append(path, "--help")...)
	if word == "" {
		return &failure{exitUsage, fmt.Errorf("%sno verb: expected one of %s", before, strings.Join(names, ", ")), hint}
	}
	if near, ok := registry.Nearest(word, names); ok {
		return &failure{exitUsage, fmt.Errorf("%sverb %q: unknown: did you mean %s?", before, word, near), hint}
	}
	return &failure{exitUsage, fmt.Errorf("%sverb %q: unknown: expected one of %s", before, word, strings.Join(names, ", ")), hint}
}

// arguments is the words behind a verb, as many as it takes, of which the first
// least ones have to be there.
func arguments(c *cli.Context, least int, names ...string) ([]string, error) {
	words := c.Args().Slice()
	switch {
	case len(words) < least:
		return nil, misused(verbOf(c), "%s is missing", names[len(words)])
	case len(words) > len(names) && len(names) == 0:
		return nil, misused(verbOf(c), "%q: expected no argument", words[0])
	case len(words) > len(names):
		return nil, misused(verbOf(c), "%q: expected nothing behind %s", words[len(names)], names[len(names)-1])
	}
	return words, nil
}

// ownerOf reads an owner. The rest of what a name can't have is the book's to say.
func ownerOf(c *cli.Context, name string) (string, error) {
	switch {
	case name == "":
		return "", misused(verbOf(c), "owner: is empty: expected a login name, a UID, or an orchestrator's name")
	case strings.Contains(name, ":"):
		return "", misused(verbOf(c), "owner %q: holds ':', which ends a name in the book: expected a name without colons", name)
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
		return 0, true, misused(verbOf(c), "--%s: %q: expected a decimal number from %d to %d", name, c.String(name), least, idmap.Invalid-1)
	}
	return n, true, nil
}

// flagsOf reads the flags of a line.
func flagsOf(c *cli.Context) (registry.Flags, error) {
	f, err := registry.ParseFlags(c.String(flagFlags))
	if err != nil {
		return registry.Flags{}, misused(verbOf(c), "--%s: %w", flagFlags, err)
	}
	return f, nil
}

// lengthOf is how many IDs so many containers need.
func lengthOf(c *cli.Context, containers, size uint32) (uint32, error) {
	if n := uint64(containers) * uint64(size); n < uint64(idmap.Invalid) {
		return uint32(n), nil
	}
	return 0, misused(verbOf(c), "%d containers of %d IDs: expected fewer than %d IDs together", containers, size, idmap.Invalid)
}

// command is a command line of ours, for a hint.
func command(words ...string) string { return shell(append([]string{programName}, words...)) }

// shell is a command line as one types it.
func shell(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = rootfile.ShellQuote(w)
	}
	return strings.Join(quoted, " ")
}
