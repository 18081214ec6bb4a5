// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// completionWords is what scripts call: completion words -- WORD..., of which the last, maybe
// empty, is to be completed. The first line of the answer is what it shall be: words, of which
// the other lines are those that fit, each with a tab and what it means; files; or dirs.
const completionWords = "words"

func (p *program) completionVerb() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what makes a shell complete verbs, flags and owners",
		UsageText: programName + " completion bash|zsh|fish",
		Description: "bash: source <(usernsctl completion bash), or save it as\n" +
			"/usr/share/bash-completion/completions/usernsctl. zsh: save it as _usernsctl in a directory of fpath.\n" +
			"fish: usernsctl completion fish | source.",
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) > 1 && words[0] == completionWords {
				kind, fit := complete(c.App.Commands, words[1:])
				fmt.Fprintln(&p.out, kind)
				for _, w := range fit {
					fmt.Fprintf(&p.out, "%s\t%s\n", w.word, w.means)
				}
				return nil
			}
			words, err := arguments(c, 1, "SHELL")
			if err != nil {
				return err
			}
			script, ok := completionScripts[words[0]]
			if !ok {
				return misused("completion", "shell %q: unknown: expected one of bash, zsh, fish", words[0])
			}
			p.out.WriteString(script)
			return nil
		},
	}
}

// What a word can be.
const (
	kindWords = "words"
	kindFiles = "files"
	kindDirs  = "dirs"
)

// fitting is a word that may be meant.
type fitting struct{ word, means string }

// complete says what the last of the words behind the program's name may become. It knows
// verbs and flags from the commands themselves, and what is wanted behind them from their
// UsageText: OWNER, FILE, DIR, or words with | between them.
func complete(commands []*cli.Command, words []string) (kind string, fit []fitting) {
	words = joinValues(words)
	now := words[len(words)-1]
	var verb *cli.Command
	var path []string
	flags := []cli.Flag{cli.HelpFlag, cli.VersionFlag}
	used := make(map[string]bool)
	place, literal := 0, false // of other arguments than flags; after "--"
	var awaited cli.Flag       // whose value is next
	for _, w := range words[:len(words)-1] {
		name, _, equals := strings.Cut(strings.TrimLeft(w, "-"), "=")
		switch {
		case awaited != nil:
			awaited = nil
		case literal || len(w) < 2 || w[0] != '-':
			if sub := find(commands, w); sub != nil && place == 0 {
				verb, commands = sub, sub.Subcommands
				path = append(path, w)
				flags = slices.Clone(sub.Flags)
				if flagNamed(flags, "help") == nil { // which the library gives to the verb that is called alone
					flags = append(flags, cli.HelpFlag)
				}
				continue
			}
			place++
		case w == "--":
			literal = true
		default:
			used[name] = true
			if f := flagNamed(flags, name); f != nil && takesValue(f) && !equals {
				awaited = f
			}
		}
	}
	name, value, equals := strings.Cut(strings.TrimLeft(now, "-"), "=")
	switch {
	case awaited != nil:
		return valuesOf(path, placeholder(awaited), "", now)
	case !literal && strings.HasPrefix(now, "-") && equals:
		if f := flagNamed(flags, name); f != nil && takesValue(f) {
			return valuesOf(path, placeholder(f), strings.TrimSuffix(now, value), value)
		}
		return kindWords, nil
	case !literal && strings.HasPrefix(now, "-"):
		for _, f := range flags {
			if long := "--" + f.Names()[0]; strings.HasPrefix(long, now) && !used[f.Names()[0]] {
				fit = append(fit, fitting{long, usageOf(f)})
			}
		}
		return kindWords, fit
	case len(commands) > 0 && place == 0:
		for _, c := range commands {
			if !c.Hidden && c.Name != "help" && strings.HasPrefix(c.Name, now) {
				fit = append(fit, fitting{c.Name, c.Usage})
			}
		}
		return kindWords, fit
	case verb == nil:
		return kindWords, nil
	}
	return valuesOf(path, placeOf(verb, place), "", now)
}

// joinValues makes --flag = value one word again, which bash hands over as three; but of the
// last two words, where bash completes the value alone, the flag is one and the value the other.
func joinValues(words []string) []string {
	var joined []string
	for i := 0; i < len(words); i++ {
		last := len(joined) - 1
		if words[i] != "=" || last < 0 || !strings.HasPrefix(joined[last], "--") || strings.Contains(joined[last], "=") {
			joined = append(joined, words[i])
			continue
		}
		switch i {
		case len(words) - 1:
			joined = append(joined, "")
		case len(words) - 2:
			i++
			joined = append(joined, words[i])
		default:
			i++
			joined[last] += "=" + words[i]
		}
	}
	return joined
}

func find(commands []*cli.Command, name string) *cli.Command {
	if i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(name) }); i >= 0 {
		return commands[i]
	}
	return nil
}

func flagNamed(flags []cli.Flag, name string) cli.Flag {
	if i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }); i >= 0 {
		return flags[i]
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	doc, ok := f.(cli.DocGenerationFlag)
	return ok && doc.TakesValue()
}

// usageOf is what a flag means, without the marks of its placeholder.
func usageOf(f cli.Flag) string {
	if doc, ok := f.(cli.DocGenerationFlag); ok {
		return strings.ReplaceAll(doc.GetUsage(), "`", "")
	}
	return ""
}

// placeholder is the word of a flag's usage that stands for its value. An owner is one
// whatever stands for it.
func placeholder(f cli.Flag) string {
	if slices.Contains(f.Names(), flagOwner) {
		return "OWNER"
	}
	if doc, ok := f.(cli.DocGenerationFlag); ok {
		if part := strings.Split(doc.GetUsage(), "`"); len(part) > 2 {
			return part[1]
		}
	}
	return ""
}

// placeOf is what stands in the UsageText of a verb for its n-th argument, "" if there is none.
func placeOf(verb *cli.Command, n int) string {
	var places []string
	more := false // the last one may be repeated
	// Of several forms, the first.
	form, _, _ := strings.Cut(verb.UsageText, "\n")
	words := strings.Fields(form)
	if i := slices.Index(words, verb.Name); i >= 0 {
		words = words[i+1:]
	}
	for i := 0; i < len(words); i++ {
		bare := strings.Trim(words[i], "[]")
		switch {
		case strings.HasPrefix(bare, "-"): // a flag, and its value
			if f := flagNamed(verb.Flags, strings.TrimLeft(bare, "-")); f != nil && takesValue(f) {
				i++
			}
		case bare == "flags" || bare == "|" || bare == "and" || bare == "arguments":
		default:
			name := strings.TrimSuffix(bare, "...")
			more = more || name != bare
			places = append(places, name)
		}
	}
	switch {
	case n < len(places):
		return places[n]
	case more:
		return places[len(places)-1]
	}
	return ""
}

// valuesOf is the values that fit where a placeholder stands. prefix is put before each.
func valuesOf(path []string, place, prefix, now string) (kind string, fit []fitting) {
	var values []string
	switch {
	case strings.HasSuffix(place, "FILE"), place == "PATH":
		return kindFiles, nil
	case place == "DIR", place == "BUNDLE":
		return kindDirs, nil
	case place == "OWNER", place == pinPlace && !slices.Contains(path, "unpin"):
		values = ownersKnown(path)
	case place == pinPlace:
		values = pinsKnown()
	case place == "FLAGS":
		// Several, with commas.
		at := strings.LastIndex(now, ",") + 1
		prefix += now[:at]
		had := strings.Split(now[:at], ",")
		values = slices.DeleteFunc(registry.FlagNames(), func(name string) bool { return slices.Contains(had, name) })
		now = now[at:]
	case strings.Contains(place, "|") && place == strings.ToLower(place):
		values = strings.Split(place, "|")
	}
	for _, v := range values {
		if strings.HasPrefix(v, now) {
			fit = append(fit, fitting{prefix + v, ""})
		}
	}
	return kindWords, fit
}

// ownersKnown is the owners whom the book has, or of whom import-subid could make lines. What
// can't be read has none: a shell that completes is no place for an error.
func ownersKnown(path []string) []string {
	var all []string
	if slices.Contains(path, "import-subid") {
		paths := census.HostPaths()
		for _, path := range []string{paths.SubUID, paths.SubGID} {
			if f, err := engines.ReadSubIDs(path, 0); err == nil {
				for _, e := range f.Entries() {
					all = append(all, e.Owner)
				}
			}
		}
	} else if book, err := registry.Load(registry.Path, registry.DropInDir); err == nil {
		for _, l := range book.Lines() {
			all = append(all, l.Owner)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(name string) bool { return !harmless(name) })
}

// pinPlace is what stands for a pin in the UsageText of a verb, without the brackets at its end.
const pinPlace = "OWNER[/NAME"

// pinsKnown is the pins there are, where the caller is.
func pinsKnown() []string {
	pins, err := delegate.PinNames()
	if err != nil {
		return nil
	}
	var all []string
	for _, pin := range pins {
		if harmless(pin.String()) {
			all = append(all, pin.String())
		}
	}
	return all
}

// harmless says whether a name means itself on the command line of every shell. Others are
// never offered: completed and entered, a name such as $(reboot) would be a command.
func harmless(name string) bool {
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-+@/", r)
	}
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, odd)
}
