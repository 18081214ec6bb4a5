// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// verbKind is what is done with a verb.
type verbKind int

const (
	verbUnknown     verbKind = iota
	verbGated                // read, judged, re-emitted
	verbOnContainer          // passed through; its first argument is a container
	verbOther                // passed through
)

// kindOf knows the verbs of runc 1.1 to 1.5. A verb that a later runc may add
// could start something, so it is unknown until somebody has read its source.
// So is init, which runc calls itself by.
func kindOf(verb string) verbKind {
	switch verb {
	case "create", "run", "restore", "exec", "delete":
		return verbGated
	case "checkpoint", "events", "kill", "pause", "ps", "resume", "start", "state", "update":
		return verbOnContainer
	case "features", "list", "spec", "help", "h":
		return verbOther
	}
	return verbUnknown
}

// flagDef is one flag and where its value goes. The type of to is its grammar:
// *string, *bool, *int (any base), *[]string and *[]int64 (base 10), as the
// flags of cli v1 read them.
type flagDef struct {
	name, short string
	to          any
	given       *bool // set where runc tells a zero value from none
}

func (g *GlobalFlags) defs() []flagDef {
	return []flagDef{
		{name: "debug", to: &g.Debug},
		{name: "log", to: &g.Log},
		{name: "log-format", to: &g.LogFormat},
		{name: "root", to: &g.Root, given: &g.RootSet},
		{name: "systemd-cgroup", to: &g.SystemdCgroup},
		{name: "rootless", to: &g.Rootless},
	}
}

// defs are the flags of a gated verb, for the parser as for the printer.
func (f *VerbFlags) defs(verb string) []flagDef {
	var (
		bundle        = flagDef{name: "bundle", short: "b", to: &f.Bundle}
		consoleSocket = flagDef{name: "console-socket", to: &f.ConsoleSocket}
		pidfdSocket   = flagDef{name: "pidfd-socket", to: &f.PidfdSocket}
		pidFile       = flagDef{name: "pid-file", to: &f.PidFile}
		preserveFDs   = flagDef{name: "preserve-fds", to: &f.PreserveFDs}
		noPivot       = flagDef{name: "no-pivot", to: &f.NoPivot}
		noNewKeyring  = flagDef{name: "no-new-keyring", to: &f.NoNewKeyring}
		detach        = flagDef{name: "detach", short: "d", to: &f.Detach}
		noSubreaper   = flagDef{name: "no-subreaper", to: &f.NoSubreaper}
	)
	switch verb {
	case "create":
		return []flagDef{bundle, consoleSocket, pidfdSocket, pidFile, noPivot, noNewKeyring, preserveFDs}
	case "run":
		return []flagDef{
			bundle, consoleSocket, pidfdSocket, detach, {name: "keep", to: &f.Keep},
			pidFile, noSubreaper, noPivot, noNewKeyring, preserveFDs,
		}
	case "restore":
		return []flagDef{
			consoleSocket,
			{name: "image-path", to: &f.ImagePath},
			{name: "work-path", to: &f.WorkPath},
			{name: "tcp-established", to: &f.TCPEstablished},
			{name: "ext-unix-sk", to: &f.ExtUnixSk},
			{name: "shell-job", to: &f.ShellJob},
			{name: "file-locks", to: &f.FileLocks},
			{name: "manage-cgroups-mode", to: &f.ManageCgroupsMode},
			bundle, detach, pidFile, noSubreaper, noPivot,
			{name: "empty-ns", to: &f.EmptyNS},
			{name: "auto-dedup", to: &f.AutoDedup},
			{name: "lazy-pages", to: &f.LazyPages},
			{name: "lsm-profile", to: &f.LSMProfile},
			{name: "lsm-mount-context", to: &f.LSMMountContext},
		}
	case "exec":
		return []flagDef{
			consoleSocket, pidfdSocket,
			{name: "cwd", to: &f.Cwd},
			{name: "env", short: "e", to: &f.Env},
			{name: "tty", short: "t", to: &f.TTY},
			{name: "user", short: "u", to: &f.User},
			{name: "additional-gids", short: "g", to: &f.AdditionalGIDs},
			{name: "process", short: "p", to: &f.Process},
			detach, pidFile,
			{name: "process-label", to: &f.ProcessLabel},
			{name: "apparmor", to: &f.AppArmor},
			{name: "no-new-privs", to: &f.NoNewPrivs, given: &f.NoNewPrivsSet},
			{name: "cap", short: "c", to: &f.Cap},
			preserveFDs,
			{name: "cgroup", to: &f.Cgroup},
			{name: "ignore-paused", to: &f.IgnorePaused},
		}
	case "delete":
		return []flagDef{{name: "force", short: "f", to: &f.Force}}
	}
	return nil
}

func (d flagDef) takesValue() bool {
	_, isBool := d.to.(*bool)
	return !isBool
}

// set stores one value. A flag given again overwrites the value before, or adds
// to it where it is a list.
func (d flagDef) set(value string) error {
	switch to := d.to.(type) {
	case *string:
		*to = value
	case *[]string:
		*to = append(*to, value)
	case *bool:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q: expected true or false", value)
		}
		*to = on
	case *int:
		n, err := strconv.ParseInt(value, 0, strconv.IntSize)
		if err != nil {
			return fmt.Errorf("%q: expected a number", value)
		}
		*to = int(n)
	case *[]int64:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%q: expected a decimal number", value)
		}
		*to = append(*to, n)
	default:
		panic(fmt.Sprintf("bug: --%s: no grammar for %T", d.name, d.to))
	}
	if d.given != nil {
		*d.given = true
	}
	return nil
}

// emitFlags appends the flags that were given, each as one word. With a separate
// value, or none, a version of cli v1 could take the next word for it.
func emitFlags(argv []string, defs []flagDef) []string {
	for _, d := range defs {
		flag := "--" + d.name + "="
		given := d.given != nil && *d.given
		switch from := d.to.(type) {
		case *string:
			if given || *from != "" {
				argv = append(argv, flag+*from)
			}
		case *[]string:
			for _, value := range *from {
				argv = append(argv, flag+value)
			}
		case *bool:
			if given || *from {
				argv = append(argv, flag+strconv.FormatBool(*from))
			}
		case *int:
			if given || *from != 0 {
				argv = append(argv, flag+strconv.Itoa(*from))
			}
		case *[]int64:
			for _, value := range *from {
				argv = append(argv, flag+strconv.FormatInt(value, 10))
			}
		default:
			panic(fmt.Sprintf("bug: --%s: no form for %T", d.name, d.to))
		}
	}
	return argv
}

// flagSet reads the words of one level of the command line: runc's own, or a
// verb's.
type flagSet struct {
	of      string // "runc" or the verb, for errors
	defs    []flagDef
	spelled map[string]string // the spelling that was used of a flag, by its name
}

// splitFlag takes a word apart as Go's package flag does: one dash or two, a
// name, and a value after the first "=".
func splitFlag(word string) (name, value string, hasValue bool, err error) {
	name = strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
	if name == word || name == "" || name[0] == '-' || name[0] == '=' {
		return "", "", false, fmt.Errorf("%s: not a flag: expected --NAME or --NAME=VALUE", word)
	}
	name, value, hasValue = strings.Cut(name, "=")
	return name, value, hasValue, nil
}

// lookup finds the flag that a word is.
func (s *flagSet) lookup(word string) (def flagDef, name, value string, hasValue bool, err error) {
	if name, value, hasValue, err = splitFlag(word); err != nil {
		return def, "", "", false, fmt.Errorf("argv: %s: %w", s.of, err)
	}
	for _, d := range s.defs {
		if name == d.name || name == d.short {
			return d, name, value, hasValue, nil
		}
	}
	if isOwn(name) {
		return def, "", "", false, fmt.Errorf("argv: %s: --%s: expected before all of runc's flags, as in userns-runtime --%s=VALUE create",
			s.of, name, name)
	}
	names := make([]string, len(s.defs))
	for i, d := range s.defs {
		names[i] = "--" + d.name
	}
	return def, "", "", false, fmt.Errorf("argv: %s: %s: unknown flag: expected one of %s", s.of, word, strings.Join(names, ", "))
}

// parse reads flags up to the first word that isn't one, or to and with a "--",
// as Go's package flag does, and returns the words from there on.
func (s *flagSet) parse(words []string) ([]string, error) {
	for len(words) > 0 {
		word := words[0]
		if word == "--" {
			return words[1:], nil
		}
		if len(word) < 2 || word[0] != '-' {
			break
		}
		words = words[1:]
		d, name, value, hasValue, err := s.lookup(word)
		if err != nil {
			return nil, err
		}
		if !hasValue {
			switch {
			case !d.takesValue():
				value = "true"
			case len(words) == 0:
				return nil, fmt.Errorf("argv: %s: %s: expected a value: --%s=VALUE", s.of, word, d.name)
			default:
				value, words = words[0], words[1:]
			}
		}
		if err := d.set(value); err != nil {
			return nil, fmt.Errorf("argv: %s: --%s: %w", s.of, d.name, err)
		}
		if before, ok := s.spelled[d.name]; ok && before != name {
			return nil, fmt.Errorf("argv: %s: %s: given as -%s before: expected one spelling of the flag", s.of, word, before)
		}
		if s.spelled == nil {
			s.spelled = map[string]string{}
		}
		s.spelled[d.name] = name
	}
	return words, nil
}

// reorder moves flags before the other words, as cli v1 does for every verb but
// exec and ps. cli v1 doesn't know there which flags take a value: the word
// after any flag without "=" goes with it, so what follows a bool may end the
// flags too early. That quirk is kept, since all versions have it.
//
// Refused is what they reorder differently. cli 1.22.1, in the runc 1.1 of its
// own project, moves every word that begins with a dash and takes none for a
// value; later versions, in Debian's runc 1.1 and in runc 1.2 to 1.5, only move
// flags that the verb has, take other words with a dash for values, and put a
// "--" before the words ahead of it. A flag at the end that lacks its value
// would take the ID for it.
func (s *flagSet) reorder(words []string) ([]string, error) {
	var flags, rest []string
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "--" && len(rest) == 0:
			return slices.Concat(flags, words[i:]), nil
		case word == "--":
			return nil, fmt.Errorf("argv: %s: --: some runcs read it as a second container ID: expected it before %q", s.of, rest[0])
		case !strings.HasPrefix(word, "-"):
			rest = append(rest, word)
			continue
		}
		d, _, _, hasValue, err := s.lookup(word)
		if err != nil {
			return nil, err
		}
		flags = append(flags, word)
		last := i+1 == len(words)
		switch {
		case hasValue || last && !d.takesValue():
		case last:
			return nil, fmt.Errorf("argv: %s: %s: expected a value: --%s=VALUE", s.of, word, d.name)
		case !strings.HasPrefix(words[i+1], "-"):
			i++
			flags = append(flags, words[i])
		case d.takesValue():
			return nil, fmt.Errorf("argv: %s: %s %s: runcs differ in what they read: expected --%s=%s",
				s.of, word, words[i+1], d.name, words[i+1])
		}
	}
	return append(flags, rest...), nil
}
