// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxDepth of values inside of each other; what dockerd writes has less than ten.
const maxDepth = 100

// editStrings asks change for each string that is a value in a JSON text, with the names of members and
// the indexes of elements that lead there, and puts its answer in the string's place. All other bytes stay:
// order, spaces, forms of numbers, members that nobody knows. edited is how many strings are others then.
//
// What it writes has the escapes of encoding/json, as what dockerd writes has, so that the same bytes
// come back when a change is undone.
func editStrings(text []byte, change func(path []string, value string) string) (out []byte, edited int, err error) {
	e := editor{text: text, decoder: json.NewDecoder(bytes.NewReader(text)), change: change}
	e.decoder.UseNumber()
	if err := e.value(nil); err != nil {
		return nil, 0, fmt.Errorf("isn't JSON, at byte %d: %w", e.decoder.InputOffset(), err)
	}
	return append(e.out, text[e.done:]...), e.edited, nil
}

type editor struct {
	text    []byte
	decoder *json.Decoder
	change  func(path []string, value string) string
	out     []byte
	done    int // how much of text is in out
	edited  int
}

// value reads the next value, which path leads to.
func (e *editor) value(path []string) error {
	if len(path) > maxDepth {
		return fmt.Errorf("more than %d values inside of each other", maxDepth)
	}
	before := int(e.decoder.InputOffset())
	token, err := e.decoder.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case string:
		return e.replace(before, path, token)
	case json.Delim:
		for i := 0; e.decoder.More(); i++ {
			name := strconv.Itoa(i)
			if token == '{' {
				key, err := e.decoder.Token()
				if err != nil {
					return err
				}
				name, _ = key.(string)
			}
			if err := e.value(append(path, name)); err != nil {
				return err
			}
		}
		_, err := e.decoder.Token() // what closes it
		return err
	}
	return nil
}

// replace is for the string that was just read, and that begins behind an offset.
func (e *editor) replace(before int, path []string, value string) error {
	start := before + bytes.IndexByte(e.text[before:], '"')
	end := int(e.decoder.InputOffset())
	// A decoder puts U+FFFD where a byte isn't UTF-8: what it was would be lost.
	if !utf8.Valid(e.text[start:end]) {
		return nil
	}
	answer := e.change(path, value)
	if answer == value {
		return nil
	}
	quoted, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	e.out = slices.Concat(e.out, e.text[e.done:start], quoted)
	e.done = end
	e.edited++
	return nil
}
