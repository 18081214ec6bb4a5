// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Edit sets one place of a JSON text, or takes it out.
type Edit struct {
	// Path is the member names and array indexes that lead there; "-" is one
	// past the end of an array (as in RFC 6901).
	Path []string
	// Value is what the place shall hold; nil takes it out.
	Value any
}

// EditJSON makes the edits in a JSON text that [CheckJSON] has passed. Bytes
// outside of the edited places stay as they are: order, spaces, numbers, and
// members that no type of ours knows.
//
// Objects on the way that are missing, or null, are made. Taking out what isn't
// there changes nothing.
func EditJSON(raw []byte, edits []Edit) ([]byte, error) {
	for _, edit := range edits {
		var value []byte
		if edit.Value != nil {
			var err error
			if value, err = marshal(edit.Value); err != nil {
				return nil, fmt.Errorf("%s: %w", strings.Join(edit.Path, "."), err)
			}
		}
		edited, err := editAt(raw, edit.Path, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(edit.Path, "."), err)
		}
		raw = edited
	}
	return raw, nil
}

func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// member is one member of an object or one element of an array, as offsets into
// the text it was found in.
type member struct {
	name             string // of an object's member
	start            int    // of the name, or the element
	valueStart, stop int    // of the value
}

// editAt gives raw with value at path; a nil value takes the place out.
func editAt(raw []byte, path []string, value []byte) ([]byte, error) {
	if len(path) == 0 {
		return value, nil
	}
	if isNull(raw) && value != nil {
		raw = []byte("{}")
	}
	members, err := split(raw)
	if err != nil {
		return nil, err
	}
	i, err := find(raw, members, path[0])
	if err != nil {
		return nil, err
	}
	if i < 0 {
		if value == nil {
			return raw, nil
		}
		inner, err := editAt([]byte("null"), path[1:], value)
		if err != nil {
			return nil, err
		}
		return insert(raw, members, path[0], inner)
	}
	m := members[i]
	if value == nil && len(path) == 1 {
		return remove(raw, members, i), nil
	}
	inner, err := editAt(raw[m.valueStart:m.stop], path[1:], value)
	if err != nil {
		return nil, err
	}
	return slices.Concat(raw[:m.valueStart], inner, raw[m.stop:]), nil
}

func isNull(raw []byte) bool { return string(bytes.TrimSpace(raw)) == "null" }

func isArray(raw []byte) bool { return len(raw) > 0 && bytes.TrimSpace(raw)[0] == '[' }

// find is the index of the member that one step of a path names, -1 when it
// isn't there (yet).
func find(raw []byte, members []member, name string) (int, error) {
	if !isArray(raw) {
		return slices.IndexFunc(members, func(m member) bool { return m.name == name }), nil
	}
	if name == "-" {
		return -1, nil
	}
	i, err := strconv.Atoi(name)
	if err != nil || i < 0 || i >= len(members) {
		return 0, fmt.Errorf("%q isn't one of the %d elements of an array", name, len(members))
	}
	return i, nil
}

// split finds the members of the object, or the elements of the array, raw.
func split(raw []byte) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	opening, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	if opening != json.Delim('{') && opening != json.Delim('[') {
		return nil, fmt.Errorf("expected an object or an array, found %v", opening)
	}
	var members []member
	for decoder.More() {
		var m member
		m.start = skip(raw, int(decoder.InputOffset()), " \t\r\n,")
		if opening == json.Delim('{') {
			name, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			m.name, _ = name.(string)
		}
		m.valueStart = skip(raw, int(decoder.InputOffset()), " \t\r\n,:")
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		m.stop = int(decoder.InputOffset())
		members = append(members, m)
	}
	return members, nil
}

func skip(raw []byte, i int, cutset string) int {
	for i < len(raw) && strings.IndexByte(cutset, raw[i]) >= 0 {
		i++
	}
	return i
}

// insert adds a member after the last one, with the white space that stands
// before that one.
func insert(raw []byte, members []member, name string, value []byte) ([]byte, error) {
	added := value
	if !isArray(raw) {
		key, err := marshal(name)
		if err != nil {
			return nil, err
		}
		added = slices.Concat(key, []byte(": "), value)
	}
	if len(members) == 0 {
		i := bytes.IndexAny(raw, "{[") + 1
		return slices.Concat(raw[:i], added, raw[i:]), nil
	}
	last := members[len(members)-1]
	return slices.Concat(raw[:last.stop], []byte(","), spaceBefore(raw, last.start), added, raw[last.stop:]), nil
}

func spaceBefore(raw []byte, i int) []byte {
	start := i
	for start > 0 && strings.IndexByte(" \t\r\n", raw[start-1]) >= 0 {
		start--
	}
	return raw[start:i]
}

// remove takes out a member and the comma that parted it from its neighbour.
func remove(raw []byte, members []member, i int) []byte {
	m := members[i]
	switch {
	case i+1 < len(members):
		return slices.Concat(raw[:m.start], raw[members[i+1].start:])
	case i > 0:
		return slices.Concat(raw[:members[i-1].stop], raw[m.stop:])
	}
	return slices.Concat(raw[:m.start], raw[m.stop:])
}
