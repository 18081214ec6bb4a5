// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lines is where every value of a file is set, by its path, counting from 1.
// The file must be one that the decoder accepts: the decoder tells the values
// but not their places, the parser below it tells the places.
func lines(data []byte) map[string]int {
	l := liner{data: data, line: 1, lines: map[string]int{}}
	count := map[string]int{}
	prefix := ""
	l.Reset(data)
	for l.NextExpression() {
		switch e := l.Expression(); e.Kind {
		case unstable.Table:
			prefix = l.key("", e)
		case unstable.ArrayTable:
			name := l.key("", e)
			prefix = name + "[" + strconv.Itoa(count[name]) + "]"
			l.lines[prefix] = l.lines[name]
			delete(l.lines, name)
			count[name]++
		case unstable.KeyValue:
			l.value(l.key(prefix, e), e.Value())
		}
	}
	return l.lines
}

type liner struct {
	unstable.Parser
	data   []byte
	offset int // up to here line has been counted
	line   int
	lines  map[string]int
}

// at is the line of an offset. Offsets come in ascending order, so the file is
// walked once.
func (l *liner) at(r unstable.Range) int {
	for ; l.offset < int(r.Offset); l.offset++ {
		if l.data[l.offset] == '\n' {
			l.line++
		}
	}
	return l.line
}

func (l *liner) key(path string, n *unstable.Node) string {
	line := 0
	for parts := n.Key(); parts.Next(); {
		part := parts.Node()
		if line == 0 {
			line = l.at(part.Raw)
		}
		path = join(path, string(part.Data))
	}
	l.lines[path] = line
	return path
}

func (l *liner) value(path string, n *unstable.Node) {
	i := 0
	for children := n.Children(); children.Next(); {
		switch c := children.Node(); {
		case c.Kind == unstable.Comment:
		case n.Kind == unstable.InlineTable:
			l.value(l.key(path, c), c.Value())
		case n.Kind == unstable.Array:
			at := path + "[" + strconv.Itoa(i) + "]"
			if c.Raw.Length > 0 { // an array in an array has no place of its own
				l.lines[at] = l.at(c.Raw)
			}
			l.value(at, c)
			i++
		}
	}
}

// join adds a key to a path, in quotes if it would need them in the file.
func join(path, key string) string {
	bare := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
	}
	if strings.TrimLeftFunc(key, bare) != "" || key == "" {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// names is the paths of all fields, those of tables too.
func names(path string, fields []field) []string {
	var all []string
	for _, f := range fields {
		at := join(path, f.name)
		all = append(all, at)
		all = append(all, names(at, f.fields)...)
	}
	return all
}

// plain is a path without the numbers of list entries, as a person would name
// it: a line number comes beside it.
func plain(path string) string {
	var b strings.Builder
	inside := false
	for _, c := range path {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case !inside:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func table(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

// nearest is the known key that takes the fewest changes of a letter to reach,
// or "" if none is near. The right name in the wrong table is one change away.
func nearest(path string, known []string) string {
	best, fewest := "", 1+max(2, len(path)/3)
	for _, k := range known {
		d := distance(path, k)
		if table(path) != table(k) {
			d = min(d, 1+distance(strings.TrimPrefix(path, table(path)+"."), strings.TrimPrefix(k, table(k)+".")))
		}
		if d < fewest {
			best, fewest = k, d
		}
	}
	return best
}

// distance is Levenshtein's: insertions, deletions and replacements of one
// byte each. Names much longer than any key are all equally far.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
