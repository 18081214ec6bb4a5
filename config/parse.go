// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// maxFindings is how many errors are spelled out for one file.
const maxFindings = 20

// parse reads a whole file. Its errors are lines of the form
// file:line: what is wrong: what was expected.
func parse(file string, data []byte) (Config, error) {
	r := &reader{}
	c := r.read(data)
	if err := r.err(file); err != nil {
		return Config{}, err
	}
	return c, nil
}

// reader gathers what is wrong with a file. A path is that of a value in it,
// such as audit.mode or rule[2].root.
type reader struct {
	lines    map[string]int
	known    []string
	findings []finding
}

type finding struct {
	line int
	text string
}

func (r *reader) read(data []byte) Config {
	c := Default()
	for i, line := range strings.Split(string(data), "\n") {
		if !utf8.ValidString(line) {
			r.findings = append(r.findings, finding{i + 1, "not UTF-8"})
		}
	}
	if r.findings != nil {
		return c
	}
	var doc map[string]any
	if err := toml.Unmarshal(data, &doc); err != nil {
		var de *toml.DecodeError
		line := 1
		if errors.As(err, &de) {
			line, _ = de.Position()
		}
		r.findings = append(r.findings, finding{line, "not TOML: " + strings.TrimPrefix(err.Error(), "toml: ")})
		return c
	}
	r.lines = lines(data)
	fields := schema(&c)
	r.known = names("", fields)
	r.table("", doc, fields)

	unique(r, "rule", c.Rules, func(e Rule) string { return e.Root })
	unique(r, "bind", c.Binds, func(e Bind) string { return e.Path })
	unique(r, "pin", c.Pins, func(e Pin) string {
		if e.Owner == "" || e.Name == "" {
			return ""
		}
		return e.Owner + "/" + e.Name
	})
	return c
}

// table reads the fields of a table. Keys come in the order of their names;
// findings are sorted by line in the end.
func (r *reader) table(path string, doc map[string]any, fields []field) {
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		at := join(path, name)
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			r.unknown(at)
			continue
		}
		fields[i].read(r, at, doc[name])
	}
	for _, f := range fields {
		if _, ok := doc[f.name]; !ok && f.required {
			r.refuse(path, "%s is missing: expected %s", f.name, f.expected)
		}
	}
}

func (r *reader) unknown(path string) {
	text := "unknown key " + plain(path)
	near := nearest(plain(path), r.known)
	if near == "" {
		text += ": known keys are " + strings.Join(r.known, ", ")
	} else {
		text += ": the nearest known key is " + near
		if table(near) != table(plain(path)) {
			text += "; a key belongs to the [table] above it, and one of no table comes before the first"
		}
	}
	r.findings = append(r.findings, finding{r.line(path), text})
}

func (r *reader) refuse(path, format string, args ...any) {
	text := plain(path) + ": " + fmt.Sprintf(format, args...)
	r.findings = append(r.findings, finding{r.line(path), text})
}

// line is where path is set; of a table that only its keys imply, the first of
// those.
func (r *reader) line(path string) int {
	for ; path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		if n, ok := r.lines[path]; ok {
			return n
		}
		first := 0
		for p, n := range r.lines {
			if rest, ok := strings.CutPrefix(p, path); ok && strings.ContainsRune(".[", rune(rest[0])) && (first == 0 || n < first) {
				first = n
			}
		}
		if first > 0 {
			return first
		}
	}
	return 1
}

func (r *reader) err(file string) error {
	slices.SortStableFunc(r.findings, func(a, b finding) int { return a.line - b.line })
	var errs []error
	for i, f := range r.findings {
		if i == maxFindings {
			errs = append(errs, fmt.Errorf("%s: and %d more", file, len(r.findings)-i))
			break
		}
		errs = append(errs, fmt.Errorf("%s:%d: %s", file, f.line, f.text))
	}
	return errors.Join(errs...)
}

// unique refuses list entries with the same key, naming both lines. An empty
// key is that of an entry which was refused before.
func unique[E any](r *reader, list string, entries []E, key func(E) string) {
	first := make(map[string]int, len(entries))
	for i, e := range entries {
		k := key(e)
		j, again := first[k]
		if k == "" {
			continue
		}
		if !again {
			first[k] = i
			continue
		}
		r.refuse(fmt.Sprintf("%s[%d]", list, i), "%q is already in line %d: expected it once",
			k, r.line(fmt.Sprintf("%s[%d]", list, j)))
	}
}
