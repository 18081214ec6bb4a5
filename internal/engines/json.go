// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// placed is an error at a place of a text.
type placed struct {
	line, column int // from 1; a column counts bytes, as compilers do
	what         string
}

func (e *placed) Error() string { return fmt.Sprintf("%d:%d: %s", e.line, e.column, e.what) }

func at(text []byte, offset int, format string, args ...any) error {
	before := text[:min(offset, len(text))]
	return &placed{
		1 + bytes.Count(before, []byte("\n")),
		len(before) - bytes.LastIndexByte(before, '\n'),
		fmt.Sprintf(format, args...),
	}
}

// lineOf is the line of an offset.
func lineOf(text []byte, offset int) int {
	return 1 + bytes.Count(text[:min(offset, len(text))], []byte("\n"))
}

// jsonValue is a value of a JSON text, by where it stands there.
type jsonValue struct {
	start, end int
	members    []jsonMember // of an object
	object     bool
}

type jsonMember struct {
	name  string
	start int // of the name
	value jsonValue
}

func (v *jsonValue) find(name string) *jsonMember {
	for i := range v.members {
		if v.members[i].name == name {
			return &v.members[i]
		}
	}
	return nil
}

// maxJSONDepth of values inside of each other; an engine's configuration has less than ten.
const maxJSONDepth = 100

// parseJSON finds the members of the object that a text is (RFC 8259). A name that is there
// twice in one object is an error: readers differ in which one counts.
func parseJSON(text []byte) (*jsonValue, error) {
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return nil, at(text, 0, "begins with a byte order mark, which JSON may not have: take it out: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE")
	}
	if i := invalidUTF8(text); i >= 0 {
		return nil, at(text, i, "isn't UTF-8, which JSON is written in")
	}
	s := scanner{text: text}
	v, err := s.value(0)
	if err != nil {
		return nil, err
	}
	s.space()
	switch {
	case !v.object:
		return nil, at(text, v.start, "expected an object: {...}")
	case s.i < len(text):
		return nil, at(text, s.i, "something follows the object that the file is: expected its end")
	}
	return &v, nil
}

func invalidUTF8(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

type scanner struct {
	text []byte
	i    int
}

func (s *scanner) space() {
	for s.i < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.i]) >= 0 {
		s.i++
	}
}

// is says whether c is next, behind white space, and takes it then.
func (s *scanner) is(c byte) bool {
	s.space()
	if s.i < len(s.text) && s.text[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) expected(what string) error {
	if s.i >= len(s.text) {
		return at(s.text, s.i, "the file ends: expected %s", what)
	}
	r, _ := utf8.DecodeRune(s.text[s.i:])
	return at(s.text, s.i, "found %q: expected %s", r, what)
}

func (s *scanner) value(depth int) (v jsonValue, err error) {
	s.space()
	v.start = s.i
	switch {
	case depth > maxJSONDepth:
		return v, at(s.text, s.i, "more than %d values inside of each other", maxJSONDepth)
	case s.is('{'):
		v.object = true
		err = s.object(&v, depth)
	case s.is('['):
		err = s.array(depth)
	default:
		err = s.scalar()
	}
	v.end = s.i
	return v, err
}

func (s *scanner) object(v *jsonValue, depth int) error {
	if s.is('}') {
		return nil
	}
	seen := make(map[string]bool)
	for {
		s.space()
		m := jsonMember{start: s.i}
		if s.i >= len(s.text) || s.text[s.i] != '"' {
			return s.expected("the name of a member, in double quotes")
		}
		if err := s.scalar(); err != nil {
			return err
		}
		if err := json.Unmarshal(s.text[m.start:s.i], &m.name); err != nil {
			return at(s.text, m.start, "%s", err)
		}
		if seen[m.name] {
			return at(s.text, m.start, "member %q is there twice: keep one", m.name)
		}
		seen[m.name] = true
		if !s.is(':') {
			return s.expected("':'")
		}
		var err error
		if m.value, err = s.value(depth + 1); err != nil {
			return err
		}
		v.members = append(v.members, m)
		switch {
		case s.is('}'):
			return nil
		case !s.is(','):
			return s.expected("',' or '}'")
		}
	}
}

func (s *scanner) array(depth int) error {
	if s.is(']') {
		return nil
	}
	for {
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
		switch {
		case s.is(']'):
			return nil
		case !s.is(','):
			return s.expected("',' or ']'")
		}
	}
}

// scalar is a string, number, true, false or null, which encoding/json judges.
func (s *scanner) scalar() error {
	start := s.i
	if s.i < len(s.text) && s.text[s.i] == '"' {
		for s.i++; s.i < len(s.text) && s.text[s.i] != '"'; s.i++ {
			if s.text[s.i] == '\\' {
				s.i++
			}
		}
		s.i = min(s.i+1, len(s.text))
	} else {
		for s.i < len(s.text) && strings.IndexByte(" \t\r\n,:{}[]\"", s.text[s.i]) < 0 {
			s.i++
		}
		if s.i == start {
			return s.expected("a value")
		}
	}
	if json.Valid(s.text[start:s.i]) {
		return nil
	}
	return at(s.text, start, "%s isn't a JSON value", show(string(s.text[start:min(s.i, start+40)])))
}

// jsonStyle is how a text is laid out.
type jsonStyle struct {
	newline string // "" where all is in one line
	unit    string // of indentation
	colon   string
	comma   string // of what is in one line
}

func styleOf(text []byte, root *jsonValue) jsonStyle {
	s := jsonStyle{"\n", "  ", ": ", ", "}
	if len(root.members) == 0 {
		return s
	}
	first := root.members[0]
	between := string(text[first.start:first.value.start])
	if !strings.HasSuffix(strings.TrimRight(between, " \t"), ":") || strings.HasSuffix(between, ":") {
		s.colon = ":"
	}
	before := string(text[root.start+1 : first.start])
	i := strings.LastIndexByte(before, '\n')
	if i < 0 {
		s.newline = ""
		if s.colon == ":" {
			s.comma = ","
		}
		return s
	}
	if strings.Contains(before, "\r\n") {
		s.newline = "\r\n"
	}
	outer := string(spaceBefore(text, root.end-1))
	s.unit = strings.TrimPrefix(before[i+1:], outer[strings.LastIndexByte(outer, '\n')+1:])
	return s
}

// spaceBefore is the white space that ends at i.
func spaceBefore(text []byte, i int) []byte {
	start := i
	for start > 0 && strings.IndexByte(" \t\r\n", text[start-1]) >= 0 {
		start--
	}
	return text[start:i]
}

// jsonObject is an object to be written; its members stay in order.
type jsonObject []jsonField

type jsonField struct {
	name  string
	value any // string, []string or jsonObject
}

// print lays a value out, of which the line that it stands in has that indentation.
func (s jsonStyle) print(value any, indent string) string {
	switch v := value.(type) {
	case jsonObject:
		inner, comma, end := indent+s.unit, ","+s.newline+indent+s.unit, s.newline+indent
		if s.newline == "" {
			inner, comma, end = "", s.comma, ""
		}
		var parts []string
		for _, f := range v {
			parts = append(parts, quoteJSON(f.name)+s.colon+s.print(f.value, inner))
		}
		return "{" + s.newline + inner + strings.Join(parts, comma) + end + "}"
	case []string:
		var parts []string
		for _, e := range v {
			parts = append(parts, quoteJSON(e))
		}
		return "[" + strings.Join(parts, s.comma) + "]"
	case string:
		return quoteJSON(v)
	}
	panic(fmt.Sprintf("bug: a %T is to be written as JSON", value))
}

func quoteJSON(text string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic("bug: a string doesn't become JSON: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// setJSON gives text with value at path, of which all but the last names are objects that
// are made where they are missing. The text is one that [parseJSON] takes.
func setJSON(text []byte, value any, path ...string) ([]byte, error) {
	root, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	style := styleOf(text, root)
	v := root
	for i, name := range path {
		if !v.object {
			return nil, at(text, v.start, "%s: expected an object: {...}", strings.Join(path[:i], "."))
		}
		m := v.find(name)
		if m == nil {
			for j := len(path) - 1; j > i; j-- {
				value = jsonObject{{path[j], value}}
			}
			return style.insert(text, v, name, value), nil
		}
		v = &m.value
	}
	printed := style.print(value, indentOf(text, v.start))
	if sameJSON(text[v.start:v.end], []byte(printed)) {
		return text, nil
	}
	return splice(text, v.start, v.end, printed), nil
}

// sameJSON says whether two values are the same, however they are written.
func sameJSON(a, b []byte) bool {
	var va, vb any
	return json.Unmarshal(a, &va) == nil && json.Unmarshal(b, &vb) == nil && reflect.DeepEqual(va, vb)
}

// indentOf is the white space that the line of an offset begins with.
func indentOf(text []byte, offset int) string {
	line := text[bytes.LastIndexByte(text[:offset], '\n')+1 : offset]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// insert adds a member behind the last one of an object.
func (s jsonStyle) insert(text []byte, v *jsonValue, name string, value any) []byte {
	if len(v.members) == 0 {
		whole := s.print(jsonObject{{name, value}}, indentOf(text, v.start))
		return splice(text, v.start, v.end, whole)
	}
	last := v.members[len(v.members)-1]
	before := string(spaceBefore(text, last.start))
	i := strings.LastIndexByte(before, '\n')
	if i < 0 {
		// The object is in one line, whatever the rest is.
		line := s
		line.newline = ""
		return splice(text, last.value.end, last.value.end, ","+strings.TrimPrefix(s.comma, ",")+quoteJSON(name)+s.colon+line.print(value, ""))
	}
	// One new line, where there are empty ones between the members.
	indent := before[i+1:]
	return splice(text, last.value.end, last.value.end, ","+s.newline+indent+quoteJSON(name)+s.colon+s.print(value, indent))
}

func splice(text []byte, start, end int, with string) []byte {
	return bytes.Join([][]byte{text[:start], []byte(with), text[end:]}, nil)
}

// decodeJSON is what a text says, numbers as they are written.
func decodeJSON(text []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v map[string]any
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}
	if v == nil {
		return nil, errors.New("expected an object: {...}")
	}
	return v, nil
}

// show makes text of others safe to be read on a terminal, in quotes.
func show(text string) string { return strconv.QuoteToGraphic(text) }
