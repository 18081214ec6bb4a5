// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/census"
)

const flagSVG = "svg"

func (p *program) mapVerb() *cli.Command {
	return &cli.Command{
		Name:      "map",
		Usage:     "show a picture of the host's ID space: who has what, how full it is, what conflicts",
		UsageText: programName + " map [--svg FILE | --json]",
		Description: "It fits the terminal, or 80 columns (COLUMNS says otherwise) where there is none. It has colours on a\n" +
			"terminal only, and none where NO_COLOR is set. With --svg it is a picture for a browser or a report, in FILE\n" +
			"or, as -, on standard output.",
		Flags:  []cli.Flag{text(flagSVG, "write the picture to `FILE`, as SVG"), jsonFlag("the ranges")},
		Action: p.showMap,
	}
}

func (p *program) showMap(c *cli.Context) error {
	if _, err := arguments(c, 0); err != nil {
		return err
	}
	file := c.String(flagSVG)
	switch {
	case c.IsSet(flagSVG) && c.Bool(flagJSON):
		return misused("map", "--svg and --json: are two forms of one picture: expected one of them")
	case c.IsSet(flagSVG) && file == "":
		return misused("map", "--svg: is empty: expected the name of a file, or - for standard output")
	}
	book, err := p.book(c)
	if err != nil {
		return err
	}
	seen, err := census.Survey(census.HostPaths())
	if err != nil {
		return failed("", "map: %w", err)
	}
	atlas := seen.Atlas(book)
	switch {
	case c.Bool(flagJSON):
		return p.json(spansJSON(atlas))
	case file == "-":
		p.out.WriteString(drawSVG(atlas))
		return nil
	case c.IsSet(flagSVG):
		if err := writeWhole(file, drawSVG(atlas)); err != nil {
			return failed("", "map: %w", err)
		}
		return nil
	}
	p.out.WriteString(drawText(atlas, terminalOf(unix.Stdout, os.Getenv))) //nolint:forbidigo // how it looks, and nothing else
	return nil
}

// terminalOf is what standard output is shown in, as the kernel (ioctl_tty(2), TIOCGWINSZ) and
// the environment say: COLUMNS where the kernel doesn't know, the locale (locale(7)), and
// NO_COLOR (https://no-color.org).
func terminalOf(fd int, env func(string) string) terminal {
	t := terminal{columns: 80}
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err == nil && size.Col > 0 {
		t.columns = int(size.Col)
	} else if n, bad := strconv.Atoi(env("COLUMNS")); bad == nil && n > 0 {
		t.columns = n
	}
	t.colours = err == nil && env("NO_COLOR") == "" && env("TERM") != "dumb" && env("TERM") != ""
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(env(name)); locale != "" {
			t.unicodes = strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
			break
		}
	}
	return t
}

// spanJSON is IDs that something has, as JSON. Spans may lie over each other.
type spanJSON struct {
	Start uint32      `json:"start"`
	Count uint32      `json:"count"` // 0 of a conflict that isn't about certain IDs
	Kind  census.Kind `json:"kind"`
	Owner string      `json:"owner"` // "" where it isn't known, and of a conflict
	Where string      `json:"where"` // what says so
	// Held is how many of a line's IDs somebody alive holds, and Holders how many containers and
	// user namespaces that is; null where leases aren't the caller's to know, left out of
	// what isn't a line.
	Held    any      `json:"held,omitempty"`
	Holders any      `json:"holders,omitempty"`
	Flags   []string `json:"flags,omitempty"` // of a line
	// Severity is a conflict's, and Note the whole of it in words.
	Severity string `json:"severity,omitempty"`
	Note     string `json:"note,omitempty"`
}

func spansJSON(a *census.Atlas) []spanJSON {
	out := []spanJSON{}
	for _, s := range a.Spans {
		j := spanJSON{Start: s.Range.Start, Count: s.Range.Count, Kind: s.Kind, Owner: s.Owner, Where: s.Where, Note: s.Note}
		switch s.Kind {
		case census.KindLine:
			held, holders := &s.Held, &s.Holders
			if !a.LeasesKnown {
				held, holders = nil, nil
			}
			j.Held, j.Holders = held, holders
			fallthrough
		case census.KindReserved:
			if text := s.Flags.String(); text != "" {
				j.Flags = strings.Split(text, ",")
			}
		case census.KindConflict:
			j.Severity = s.Severity.String()
		default:
		}
		out = append(out, j)
	}
	return out
}
