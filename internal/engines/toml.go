// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlText is a TOML text, what it says, and where it says it.
type tomlText struct {
	text    []byte
	tree    map[string]any
	headers []tomlHeader
	keys    []tomlKey
	// escaped is the offsets of names in headers and keys that have an escape in them.
	escaped []int
}

// tomlHeader is the line of a [table].
type tomlHeader struct {
	path   []string
	offset int // of the first name in it
}

// tomlKey is a key with its value, outside of inline tables.
type tomlKey struct {
	path       []string // from the root
	offset     int      // of its first name
	start, end int      // of the value if that is a string, else 0
}

// parseTOML reads a text. The decoder says what it means but not where, the parser below it
// where; the text must be one that the decoder takes.
func parseTOML(text []byte) (*tomlText, error) {
	t := &tomlText{text: text, tree: map[string]any{}}
	if err := toml.Unmarshal(text, &t.tree); err != nil {
		if in, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := in.Position()
			return nil, &placed{line, column, strings.TrimPrefix(in.Error(), "toml: ")}
		}
		return nil, &placed{1, 1, err.Error()}
	}
	var p unstable.Parser
	p.Reset(text)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		for parts := e.Key(); e.Kind != unstable.Comment && parts.Next(); {
			raw := parts.Node().Raw
			if bytes.IndexByte(text[raw.Offset:raw.Offset+raw.Length], '\\') >= 0 {
				t.escaped = append(t.escaped, int(raw.Offset))
			}
		}
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			names, offset := namesOf(e)
			table = names
			if e.Kind == unstable.Table {
				t.headers = append(t.headers, tomlHeader{names, offset})
			}
		case unstable.KeyValue:
			names, offset := namesOf(e)
			key := tomlKey{path: slices.Concat(table, names), offset: offset}
			if v := e.Value(); v.Kind == unstable.String {
				key.start, key.end = int(v.Raw.Offset), int(v.Raw.Offset+v.Raw.Length)
			}
			t.keys = append(t.keys, key)
		}
	}
	return t, nil
}

func namesOf(e *unstable.Node) (names []string, offset int) {
	for parts := e.Key(); parts.Next(); {
		if names == nil {
			offset = int(parts.Node().Raw.Offset)
		}
		names = append(names, string(parts.Node().Data))
	}
	return names, offset
}

// at is the value at a path of tables; nil if there is none.
func (t *tomlText) at(path ...string) any { return valueAt(t.tree, path...) }

func valueAt(tree map[string]any, path ...string) any {
	var v any = tree
	for _, name := range path {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = table[name]
	}
	return v
}

// line is where a path is said, or the first thing below it; 0 if it isn't.
func (t *tomlText) line(path ...string) int {
	begins := func(p []string) bool { return len(p) >= len(path) && slices.Equal(p[:len(path)], path) }
	for _, k := range t.keys {
		if begins(k.path) {
			return lineOf(t.text, k.offset)
		}
	}
	for _, h := range t.headers {
		if begins(h.path) {
			return lineOf(t.text, h.offset)
		}
	}
	return 0
}

// newline is how the lines of the text end.
func (t *tomlText) newline() string {
	if i := bytes.IndexByte(t.text, '\n'); i > 0 && t.text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// setString gives the text with a string at table.name. It replaces the value that is there,
// or puts a line below the table's header; where there is no header, ok is false.
func (t *tomlText) setString(table []string, name, value string) (text []byte, ok bool) {
	path := append(slices.Clone(table), name)
	for _, k := range t.keys {
		if slices.Equal(k.path, path) {
			return splice(t.text, k.start, k.end, tomlString(value)), k.end > k.start
		}
	}
	for _, h := range t.headers {
		if !slices.Equal(h.path, table) {
			continue
		}
		start := bytes.LastIndexByte(t.text[:h.offset], '\n') + 1
		end := len(t.text)
		line := t.newline()
		if i := bytes.IndexByte(t.text[h.offset:], '\n'); i >= 0 {
			end = h.offset + i + 1
		} else {
			line = "" // which the line before it has not, and gets
		}
		indent := indentOf(t.text, h.offset)
		for _, k := range t.keys { // as the table's own first key is
			if len(k.path) == len(table)+1 && slices.Equal(k.path[:len(table)], table) && k.offset > start {
				indent = indentOf(t.text, k.offset)
				break
			}
		}
		added := indent + name + " = " + tomlString(value) + line
		if line == "" {
			added = t.newline() + added
		}
		return splice(t.text, end, end, added), true
	}
	return nil, false
}

// appendLines gives the text with lines behind its end, which gets a newline if it has none.
func (t *tomlText) appendLines(lines []string) []byte {
	newline := t.newline()
	text := string(t.text)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += newline
	}
	if text != "" {
		text += newline
	}
	return []byte(text + strings.Join(lines, newline) + newline)
}

// tomlTable is the header of a table.
func tomlTable(path ...string) string {
	var parts []string
	for _, name := range path {
		parts = append(parts, tomlName(name))
	}
	return "[" + strings.Join(parts, ".") + "]"
}

// tomlName is a key, in quotes if it needs them.
func tomlName(name string) string {
	bare := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	if name != "" && strings.TrimLeftFunc(name, bare) == "" {
		return name
	}
	return tomlString(name)
}

// tomlString is a basic string: JSON's escapes are TOML's, but that DEL needs one.
func tomlString(text string) string {
	return strings.ReplaceAll(quoteJSON(text), "\x7f", `\u007f`)
}

// tomlValue prints a value that was read from TOML; ok is false for a date, or another type
// that no runtime's settings have.
func tomlValue(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return tomlString(v), true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		text := strconv.FormatFloat(v, 'e', -1, 64)
		return text, !math.IsNaN(v) && !math.IsInf(v, 0)
	case []any:
		var parts []string
		for _, e := range v {
			part, ok := tomlValue(e)
			if !ok {
				return "", false
			}
			parts = append(parts, part)
		}
		return "[" + strings.Join(parts, ", ") + "]", true
	case map[string]any:
		var parts []string
		for _, name := range sortedKeys(v) {
			part, ok := tomlValue(v[name])
			if !ok {
				return "", false
			}
			parts = append(parts, tomlName(name)+" = "+part)
		}
		return "{" + strings.Join(parts, ", ") + "}", true
	}
	return fmt.Sprint(v), false
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// withValue is a copy of a tree with a value at a path; tables on the way are made.
func withValue(tree map[string]any, value any, name string, inner ...string) map[string]any {
	out := make(map[string]any, len(tree)+1)
	maps.Copy(out, tree)
	if len(inner) > 0 {
		table, _ := out[name].(map[string]any)
		value = withValue(table, value, inner[0], inner[1:]...)
	}
	out[name] = value
	return out
}
