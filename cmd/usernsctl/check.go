// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func (p *program) checkVerb() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "find conflicts in the book, and with the host",
		UsageText: programName + " check [FILE] [--json]",
		Description: "With FILE, the book is judged as if FILE were one more drop-in. Exit code 3 says that there is an error;\n" +
			"warnings alone are 0.",
		Flags:  []cli.Flag{jsonFlag("the findings")},
		Action: p.check,
	}
}

// findingJSON is one finding as JSON.
type findingJSON struct {
	Severity string     `json:"severity"`
	Where    string     `json:"where"`           // file:line; "" where it isn't one line's
	Other    string     `json:"other,omitempty"` // what it conflicts with
	Range    *rangeJSON `json:"range,omitempty"`
	Message  string     `json:"message"`
}

func (p *program) check(c *cli.Context) error {
	words, err := arguments(c, 0, "FILE")
	if err != nil {
		return err
	}
	var file string
	var data []byte
	if len(words) > 0 {
		file = words[0]
		if data, err = readCandidate(file); err != nil {
			return err
		}
	}
	found, err := conflicts(file, data)
	if err != nil {
		return err
	}
	return p.findings(c, found)
}

// findings shows what was found; that there is an error among it is the exit code.
func (p *program) findings(c *cli.Context, found []registry.Conflict) error {
	errs, warnings := 0, 0
	shown := []findingJSON{}
	for _, f := range found {
		if f.Severity == registry.Error {
			errs++
		} else {
			warnings++
		}
		out := findingJSON{Severity: f.Severity.String(), Where: f.Where, Other: f.Other, Message: f.Message}
		if f.Range.Count > 0 {
			out.Range = &rangeJSON{f.Range.Start, f.Range.Count}
		}
		shown = append(shown, out)
		if !c.Bool(flagJSON) {
			fmt.Fprintf(&p.out, "%s: %s\n", f.Severity, visible(f.Message))
		}
	}
	if c.Bool(flagJSON) {
		if err := p.json(shown); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(&p.out, "%s, %s\n", plural(errs, "error"), plural(warnings, "warning"))
	}
	if errs > 0 {
		return &failure{code: exitFound}
	}
	return nil
}

// maxCandidate is more than a file of the book may have, which says so itself.
const maxCandidate = 256<<20 + 1 // bytes

// readCandidate reads a file that isn't installed yet, so that anybody may own it.
func readCandidate(path string) ([]byte, error) {
	if path == "" {
		return nil, misused("check", "FILE is empty: expected the name of a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, failed("", "check: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCandidate))
	if err != nil {
		return nil, failed("", "check: %w", err)
	}
	return data, nil
}

// conflicts is all that is wrong with the book, and with file as one more drop-in of it.
// What keeps the book from being read is an error as any other: no container starts.
func conflicts(file string, data []byte) ([]registry.Conflict, error) {
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if errors.Is(err, registry.ErrNoBook) && file != "" {
		book, err = &registry.Book{}, nil
	}
	if err != nil {
		return unreadable(err), nil
	}
	if file != "" {
		path, err := filepath.Abs(file)
		if err != nil {
			return nil, failed("", "check: %w", err)
		}
		if slices.ContainsFunc(book.Lines(), func(l registry.Line) bool { return l.File == path }) {
			return nil, misused("check", "%s: is part of the book already: expected a file that isn't: leave it out", file)
		}
		if book, err = book.With(file, data); err != nil {
			return unreadable(err), nil
		}
	}
	world, warnings, err := census.HostPaths().World()
	if err != nil {
		return nil, failed("", "check: %w", err)
	}
	return slices.Concat(registry.Check(book, world), warnings, staleFindings(book, world.Host)), nil
}

// unreadable is the reasons for which a book is refused, one a line of the error's text.
func unreadable(err error) []registry.Conflict {
	var out []registry.Conflict
	for message := range strings.SplitSeq(err.Error(), "\n") {
		message = strings.TrimPrefix(message, "book: ")
		where, _, _ := strings.Cut(message, ": ")
		out = append(out, registry.Conflict{Severity: registry.Error, Where: where, Message: message})
	}
	return out
}
