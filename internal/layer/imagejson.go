// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// jsonText is a JSON text of an image in which some values are replaced, and every
// other byte stays as it is: order, spaces, numbers, members that nobody here knows.
type jsonText struct {
	name  string // for errors
	text  []byte
	edits []jsonEdit
}

// jsonEdit is other text for the bytes from start to end.
type jsonEdit struct {
	start, end int
	text       []byte
}

// jsonValue is one value of a document.
type jsonValue struct {
	doc        *jsonText
	field      string // for errors
	start, end int
}

// jsonMember is a member of an object. The place of its name is that of a string.
type jsonMember struct {
	name       string
	key, value jsonValue
}

// parseJSONText takes a text that is one JSON value, which begins with opening: '{' or '['.
func parseJSONText(name string, text []byte, opening byte) (*jsonText, jsonValue, error) {
	what := map[byte]string{'{': "an object", '[': "an array"}[opening]
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 || trimmed[0] != opening {
		return nil, jsonValue{}, fmt.Errorf("%s: expected %s in JSON", name, what)
	}
	if !utf8.Valid(text) {
		return nil, jsonValue{}, fmt.Errorf("%s: isn't UTF-8, which JSON is written in (RFC 8259, section 8.1)", name)
	}
	var raw json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		at := int64(len(text))
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = syntax.Offset
		}
		return nil, jsonValue{}, fmt.Errorf("%s: byte %d: %w", name, at, err)
	}
	doc := &jsonText{name: name, text: text}
	start := bytes.IndexByte(text, opening)
	return doc, jsonValue{doc: doc, start: start, end: start + len(trimmed)}, nil
}

func (p jsonValue) raw() []byte { return p.doc.text[p.start:p.end] }

func (p jsonValue) fail(format string, args ...any) error {
	where := p.doc.name
	if p.field != "" {
		where += ": " + p.field
	}
	return fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...))
}

func (p jsonValue) sub(field string, start, end int) jsonValue {
	return jsonValue{p.doc, field, p.start + start, p.start + end}
}

// next is where the next name or value begins, of an array or object whose opening the
// decoder has taken.
func (p jsonValue) next(decoder *json.Decoder) int {
	start := int(decoder.InputOffset())
	for strings.IndexByte(" \t\r\n,:", p.raw()[start]) >= 0 {
		start++
	}
	return start
}

// step finds the next value.
func (p jsonValue) step(decoder *json.Decoder, field string) (jsonValue, error) {
	start := p.next(decoder)
	var value json.RawMessage
	if err := decoder.Decode(&value); err != nil {
		return jsonValue{}, p.fail("%w", err)
	}
	return p.sub(field, start, int(decoder.InputOffset())), nil
}

// object is the members of an object.
func (p jsonValue) object() ([]jsonMember, error) {
	if raw := p.raw(); len(raw) == 0 || raw[0] != '{' {
		return nil, p.fail("expected an object")
	}
	decoder := json.NewDecoder(bytes.NewReader(p.raw()))
	if _, err := decoder.Token(); err != nil {
		return nil, p.fail("%w", err)
	}
	var items []jsonMember
	for decoder.More() {
		if len(items) == maxJSONElements {
			return nil, p.fail("expected at most %d members", maxJSONElements)
		}
		start := p.next(decoder)
		token, err := decoder.Token()
		if err != nil {
			return nil, p.fail("%w", err)
		}
		name, _ := token.(string)
		field := strings.TrimPrefix(p.field+"."+name, ".")
		key := p.sub(field, start, int(decoder.InputOffset()))
		value, err := p.step(decoder, field)
		if err != nil {
			return nil, err
		}
		items = append(items, jsonMember{name, key, value})
	}
	return items, nil
}

// array is the elements of an array.
func (p jsonValue) array() ([]jsonValue, error) {
	if raw := p.raw(); len(raw) == 0 || raw[0] != '[' {
		return nil, p.fail("expected an array")
	}
	decoder := json.NewDecoder(bytes.NewReader(p.raw()))
	if _, err := decoder.Token(); err != nil {
		return nil, p.fail("%w", err)
	}
	var elements []jsonValue
	for decoder.More() {
		if len(elements) == maxJSONElements {
			return nil, p.fail("expected at most %d elements", maxJSONElements)
		}
		element, err := p.step(decoder, fmt.Sprintf("%s[%d]", p.field, len(elements)))
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	return elements, nil
}

// get is the member of an object that is called so; ok is false where there is none, or it
// is null. One that is there twice, perhaps in other letters, is an error: readers
// differ in which one counts.
func (p jsonValue) get(name string) (value jsonValue, ok bool, err error) {
	items, err := p.object()
	if err != nil {
		return jsonValue{}, false, err
	}
	return pick(p, items, name)
}

// pick is get, of an object whose members are known.
func pick(p jsonValue, items []jsonMember, name string) (value jsonValue, ok bool, err error) {
	for _, it := range items {
		if !strings.EqualFold(it.name, name) {
			continue
		}
		if ok || it.name != name {
			return jsonValue{}, false, p.fail("member %q is there twice, or in other letters: expected one %q", it.name, name)
		}
		value, ok = it.value, true
	}
	return value, ok && !value.null(), nil
}

func (p jsonValue) null() bool { return string(p.raw()) == "null" }

// string is the value of a JSON string.
func (p jsonValue) string() (string, error) {
	var text string
	if raw := p.raw(); raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return "", p.fail("expected a string")
	}
	return text, nil
}

// text is a member that is a string, "" where there is none.
func (p jsonValue) text(name string) (string, error) {
	value, ok, err := p.get(name)
	if err != nil || !ok {
		return "", err
	}
	return value.string()
}

// size is the value of a number of bytes.
func (p jsonValue) size() (int64, error) {
	var n int64
	if json.Unmarshal(p.raw(), &n) != nil || n < 0 {
		return 0, p.fail("expected a number of bytes")
	}
	return n, nil
}

// put replaces the value. Each place is replaced once, and none inside of another.
func (p jsonValue) put(value any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return p.fail("%w", err)
	}
	p.doc.edits = append(p.doc.edits, jsonEdit{p.start, p.end, bytes.TrimSuffix(b.Bytes(), []byte("\n"))})
	return nil
}

// without replaces an object by what is left of it without some of its members.
func (p jsonValue) without(items []jsonMember, gone func(name string) bool) {
	text := []byte("{")
	for _, it := range items {
		if gone(it.name) {
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(text, p.doc.text[it.key.start:it.value.end]...)
	}
	p.doc.edits = append(p.doc.edits, jsonEdit{p.start, p.end, append(text, '}')})
}

// bytes is the text with all replacements.
func (d *jsonText) bytes() []byte {
	if len(d.edits) == 0 {
		return d.text
	}
	slices.SortFunc(d.edits, func(a, b jsonEdit) int { return cmp.Compare(a.start, b.start) })
	var out []byte
	at := 0
	for _, e := range d.edits {
		out = append(append(out, d.text[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, d.text[at:]...)
}
