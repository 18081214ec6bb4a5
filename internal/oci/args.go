// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Invocation is one command line of runc, read once. What is judged are its
// fields, and [Invocation.Argv] is made from them, so that runc can't read
// anything else than what was judged.
//
// The fields may be changed before Argv is called, as the shim does with
// Flags.Bundle or Global.Root.
type Invocation struct {
	// Owner and Config are our own flags, --owner and --config. They stand
	// before everything that is runc's, and runc never sees them. Neither is
	// empty when it is set.
	Owner, Config       string
	OwnerSet, ConfigSet bool

	Global GlobalFlags

	// Verb is runc's subcommand. It is empty when there is none, and when a
	// --help or --version before it keeps runc from looking at it.
	Verb string
	// Help and Version say that runc would print and do nothing else.
	Help, Version bool
	// ID is the container of a gated verb, never empty there unless Help is
	// set; runc alone checks its form. For another verb it is a hint: set only
	// where the words after the verb can be read in one way.
	ID string
	// Flags are those of a gated verb, and zero for all others.
	Flags VerbFlags
	// Args is the command of exec. For a verb that isn't gated it is all that
	// follows the verb, and for other gated verbs it is empty.
	Args []string

	// Raw is argv without our own flags, byte for byte.
	Raw []string
}

// GlobalFlags are runc's flags before the verb. An empty string stands for a
// flag that wasn't given, which runc reads alike.
type GlobalFlags struct {
	Debug         bool
	Log           string // a file, relative to the caller's directory
	LogFormat     string // "", "text" or "json"
	Root          string // where the state is kept; not empty when RootSet
	RootSet       bool
	SystemdCgroup bool
	Rootless      string // "", "auto" or a boolean; runc judges it
}

// VerbFlags are the flags of all gated verbs. Each verb has some of them: those
// it hasn't are never set by [ParseArgs] and never emitted by
// [Invocation.Argv]. An empty string, a false and a 0 stand for a flag that
// wasn't given, which runc reads alike.
type VerbFlags struct {
	Bundle        string // create, run, restore; empty: the caller's directory
	ConsoleSocket string // all but delete
	PidfdSocket   string // create, run, exec; runc >= 1.2
	PidFile       string // all but delete
	PreserveFDs   int    // create, run, exec
	NoPivot       bool   // create, run, restore
	NoNewKeyring  bool   // create, run
	Detach        bool   // run, restore, exec
	NoSubreaper   bool   // run, restore
	Keep          bool   // run; runc >= 1.1
	Force         bool   // delete

	// Of restore alone.
	ImagePath         string
	WorkPath          string
	TCPEstablished    bool
	ExtUnixSk         bool
	ShellJob          bool
	FileLocks         bool
	ManageCgroupsMode string
	EmptyNS           []string
	AutoDedup         bool
	LazyPages         bool
	LSMProfile        string
	LSMMountContext   string

	// Of exec alone.
	Cwd            string
	Env            []string
	TTY            bool
	User           string // UID or UID:GID, unread
	AdditionalGIDs []int64
	Process        string // a file; runc then ignores Args, Cwd, Env, TTY, User, AdditionalGIDs, labels, NoNewPrivs and Cap
	ProcessLabel   string
	AppArmor       string
	// A false NoNewPrivs with NoNewPrivsSet takes the bit from a process whose
	// bundle asks for it.
	NoNewPrivs    bool
	NoNewPrivsSet bool
	Cap           []string
	Cgroup        []string
	IgnorePaused  bool
}

// ParseArgs reads argv, whose first word is the program's name, as runc 1.1 to
// 1.5 do (urfave/cli v1 over Go's package flag). It refuses what runc would
// refuse as a usage error, and what two of those versions, or a reader and
// runc, could read in two ways.
//
// With an error only Global is filled, as far as it was read, so that the error
// can go where --log says.
func ParseArgs(argv []string) (Invocation, error) {
	if len(argv) == 0 {
		return Invocation{}, errors.New("argv: empty: expected the program's name")
	}
	inv, err := parseArgs(argv)
	if err != nil {
		return Invocation{Global: inv.Global}, err
	}
	return inv, nil
}

func parseArgs(argv []string) (inv Invocation, err error) {
	words, ownErr := inv.takeOwn(argv[1:])
	inv.Raw = slices.Concat(argv[:1], words)

	set := flagSet{of: "runc", defs: inv.Global.defs()}
	var version bool
	set.defs = append(set.defs,
		flagDef{name: "help", short: "h", to: &inv.Help},
		flagDef{name: "version", short: "v", to: &version})
	rest, err := set.parse(words)
	if ownErr != nil {
		return inv, ownErr
	}
	if err != nil {
		return inv, err
	}
	if err := inv.Global.check(); err != nil {
		return inv, err
	}
	if inv.Help || version {
		inv.Version = !inv.Help
		return inv, nil
	}
	if len(rest) == 0 {
		inv.Help = true
		return inv, nil
	}

	inv.Verb, rest = rest[0], rest[1:]
	switch kindOf(inv.Verb) {
	case verbGated:
		err = inv.parseVerb(rest)
	case verbOnContainer:
		inv.Args = append(inv.Args, rest...)
		if !slices.ContainsFunc(rest, func(w string) bool { return strings.HasPrefix(w, "-") }) && len(rest) > 0 {
			inv.ID = rest[0]
		}
	case verbOther:
		inv.Args = append(inv.Args, rest...)
		inv.Help = inv.Verb == "help" || inv.Verb == "h"
	default:
		err = fmt.Errorf("argv: %q: unknown command: expected one that runc has: see runc --help", inv.Verb)
	}
	return inv, err
}

// takeOwn takes our own flags from the front and returns what is left for runc.
func (inv *Invocation) takeOwn(words []string) ([]string, error) {
	var first error
	refuse := func(format string, a ...any) {
		if first == nil {
			first = fmt.Errorf("argv: "+format, a...)
		}
	}
	for len(words) > 0 {
		name, value, hasValue, err := splitFlag(words[0])
		if err != nil || !isOwn(name) {
			break
		}
		spelled := words[0]
		words = words[1:]
		if !hasValue && len(words) > 0 {
			value, words = words[0], words[1:]
			// It is as likely that the value was forgotten.
			if strings.HasPrefix(value, "-") {
				refuse("%s %s: expected a value: one that begins with a dash is written --%s=%s", spelled, value, name, value)
			}
		}
		if value == "" {
			refuse("%s: expected a value: --%s=VALUE", spelled, name)
		}
		to, given := &inv.Owner, &inv.OwnerSet
		if name == "config" {
			to, given = &inv.Config, &inv.ConfigSet
		}
		if *given {
			refuse("%s: given twice: expected --%s once", spelled, name)
		}
		*to, *given = value, true
	}
	return words, first
}

func isOwn(name string) bool { return name == "owner" || name == "config" }

// check refuses values of global flags on which versions of runc differ, or
// with which runc does nothing.
func (g *GlobalFlags) check() error {
	switch g.LogFormat {
	case "", "text", "json":
	default:
		err := fmt.Errorf("argv: --log-format: %q: expected text or json", g.LogFormat)
		g.LogFormat = "" // the error has to be logged in some format
		return err
	}
	if g.RootSet && (g.Root == "" || path.Clean(g.Root) == "/") {
		return fmt.Errorf("argv: --root: %q: expected a directory that isn't /", g.Root)
	}
	return nil
}

// parseVerb reads what follows a gated verb.
func (inv *Invocation) parseVerb(words []string) error {
	var help bool
	set := flagSet{of: inv.Verb, defs: inv.Flags.defs(inv.Verb)}
	set.defs = append(set.defs, flagDef{name: "help", short: "h", to: &help})
	if inv.Verb != "exec" {
		var err error
		if words, err = set.reorder(words); err != nil {
			return err
		}
	}
	rest, err := set.parse(words)
	if err != nil {
		return err
	}
	if help {
		inv.Help, inv.Flags = true, VerbFlags{}
		return nil
	}
	switch {
	case len(rest) == 0:
		return fmt.Errorf("argv: %s: expected a container ID after the flags", inv.Verb)
	case len(rest) > 1 && inv.Verb != "exec":
		return fmt.Errorf("argv: %s: %q: expected one container ID and nothing else: put it last: "+
			"a word after a flag that takes none ends the flags", inv.Verb, rest)
	case rest[0] == "":
		return fmt.Errorf("argv: %s: empty container ID", inv.Verb)
	}
	inv.ID = rest[0]
	inv.Args = append(inv.Args, rest[1:]...)
	return nil
}

// Gated says whether the verb is one that is judged: it starts a container or a
// process in one, or removes one.
func (inv Invocation) Gated() bool { return kindOf(inv.Verb) == verbGated }

// Argv is what runc is given. For a gated verb it is one canonical form,
// --flag=value for each flag that was given, then --, the ID and the command,
// which every runc from 1.1 to 1.5 reads as inv says; with Help, nothing but
// the verb's --help; without a verb, nothing but --version or --help. For every
// other verb it is Raw.
func (inv Invocation) Argv() []string {
	if !inv.Gated() && inv.Verb != "" {
		return slices.Clone(inv.Raw)
	}
	var argv []string
	if len(inv.Raw) > 0 {
		argv = append(argv, inv.Raw[0])
	} else {
		argv = append(argv, "runc")
	}
	// Without a verb nothing starts: not what else stands on the line either,
	// however it is read.
	switch {
	case inv.Verb == "" && inv.Version:
		return append(argv, "--version")
	case inv.Verb == "":
		return append(argv, "--help")
	}
	argv = emitFlags(argv, inv.Global.defs())
	argv = append(argv, inv.Verb)
	if inv.Help {
		return append(argv, "--help")
	}
	argv = emitFlags(argv, inv.Flags.defs(inv.Verb))
	argv = append(argv, "--", inv.ID)
	if inv.Verb == "exec" {
		argv = append(argv, inv.Args...)
	}
	return argv
}
