// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEditJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		raw   string
		edits []Edit
		want  string
	}{
		"nothing to do":            {`{ "a" : 1 }`, nil, `{ "a" : 1 }`},
		"replace, rest untouched":  {`{"z":1.50,"a" : {"b":[ 1,2 ], "x":"<&>"},"a2":null}`, []Edit{{[]string{"a", "b"}, true}}, `{"z":1.50,"a" : {"b":true, "x":"<&>"},"a2":null}`},
		"add to an object":         {"{\n\t\"a\": 1\n}\n", []Edit{{[]string{"b"}, "x"}}, "{\n\t\"a\": 1,\n\t\"b\": \"x\"\n}\n"},
		"add to an empty object":   {`{}`, []Edit{{[]string{"b"}, 1}}, `{"b": 1}`},
		"add to an empty array":    {`{"l": [ ]}`, []Edit{{[]string{"l", "-"}, 1}}, `{"l": [1 ]}`},
		"make objects on the way":  {`{}`, []Edit{{[]string{"a", "b", "c"}, 1}}, `{"a": {"b": {"c": 1}}}`},
		"null on the way":          {`{"a": null}`, []Edit{{[]string{"a", "b"}, 1}}, `{"a": {"b": 1}}`},
		"element of an array":      {`{"l":[{"t":"pid","x":1},{"t":"user"}]}`, []Edit{{[]string{"l", "1", "path"}, "/p"}}, `{"l":[{"t":"pid","x":1},{"t":"user","path": "/p"}]}`},
		"append to an array":       {`{"l":[ 1, 2 ]}`, []Edit{{[]string{"l", "-"}, 3}}, `{"l":[ 1, 2, 3 ]}`},
		"take out the first":       {`{ "a":1, "b":2 }`, []Edit{{[]string{"a"}, nil}}, `{ "b":2 }`},
		"take out the last":        {`{ "a":1, "b":2 }`, []Edit{{[]string{"b"}, nil}}, `{ "a":1 }`},
		"take out the only one":    {`{ "a":1 }`, []Edit{{[]string{"a"}, nil}}, `{  }`},
		"take out what isn't":      {`{"a":1}`, []Edit{{[]string{"b"}, nil}, {[]string{"c", "d"}, nil}}, `{"a":1}`},
		"key with quotes, dots":    {`{"annotations":{"a.b/c":"1"}}`, []Edit{{[]string{"annotations", `x"y.z`}, `<"&>`}}, `{"annotations":{"a.b/c":"1","x\"y.z": "<\"&>"}}`},
		"escaped name is the name": {`{"\u0061": 1}`, []Edit{{[]string{"a"}, 2}}, `{"\u0061": 2}`},
		"numbers kept":             {`{"n": 12345678901234567890, "e": 1E400, "a": 0}`, []Edit{{[]string{"a"}, 1}}, `{"n": 12345678901234567890, "e": 1E400, "a": 1}`},
		"braces inside of strings": {`{"s": "}{][,:", "a": 0}`, []Edit{{[]string{"a"}, 1}}, `{"s": "}{][,:", "a": 1}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := EditJSON([]byte(tc.raw), tc.edits)
			if err != nil || string(got) != tc.want {
				t.Fatalf("got  %s %v\nwant %s", got, err, tc.want)
			}
		})
	}
	for name, edit := range map[string]Edit{
		"into a string":         {[]string{"s", "x"}, 1},
		"beyond an array":       {[]string{"l", "7"}, 1},
		"a name in an array":    {[]string{"l", "x"}, 1},
		"not a value for JSON":  {[]string{"f"}, func() {}},
		"negative array index":  {[]string{"l", "-1"}, 1},
		"take out of an number": {[]string{"n", "x"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := EditJSON([]byte(`{"s":"","l":[1],"n":5}`), []Edit{edit}); err == nil {
				t.Fatalf("got %s", got)
			}
		})
	}
}

func TestCheckJSON(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200)
	for name, tc := range map[string]struct {
		raw       string
		message   string // "" when it is fine
		ambiguous bool
	}{
		"object":              {` {"a": [1, {"b": null}]} ` + "\n", "", false},
		"same name elsewhere": {`{"a": {"a": 1}, "b": {"a": 1}}`, "", false},
		"empty":               {"", "empty", false},
		"spaces":              {" \n", "empty", false},
		"array":               {`[1]`, "expected a JSON object", false},
		"truncated":           {`{"a": [1, `, "unexpected EOF", false},
		"truncated string":    {`{"a": "x`, "unexpected EOF", false},
		"twice":               {`{"a": 1, "b": {"c": 1, "c": 1}}`, `"c" is there twice`, true},
		"twice, escaped":      {`{"a": 1, "\u0061": 2}`, `"a" is there twice`, true},
		"twice, other case":   {`{"linux": 1, "Linux": 2}`, `"Linux" is there twice`, true},
		"twice, long s":       {`{"process": 1, "proceſs": 2}`, `is there twice`, true},
		"twice, Kelvin":       {`{"k": 1, "\u212a": 2}`, `is there twice`, true},
		"case that is data":   {`{"annotations": {"a": 1, "A": 2}, "linux": {"sysctl": {"x": 1, "X": 2}}}`, "", false},
		"twice, in data":      {`{"annotations": {"a": 1, "a": 2}}`, `is there twice`, true},
		"something follows":   {`{} {}`, "something follows", true},
		"not UTF-8":           {"{\"a\": \"\xff\"}", "UTF-8", false},
		"byte order mark":     {"\ufeff{}", "invalid character", false},
		"too deep":            {deep, "inside of each other", false},
		"comment":             {`{} // x`, "something follows", true},
		"no comma":            {`{"a":1 "b":2}`, "invalid character", false},
		"comma before end":    {`{"a":1,}`, "invalid character", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckJSON([]byte(tc.raw))
			if tc.message == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.message) || errors.Is(err, ErrAmbiguous) != tc.ambiguous {
				t.Fatalf("got %v, expected %q, ambiguous %v", err, tc.message, tc.ambiguous)
			}
		})
	}
}

// What is edited reads as what was meant, and all else as before.
func FuzzEditJSON(f *testing.F) {
	f.Add(`{"a":{"b":[1,{"c":"d"}]},"e":null}`, "a", "b", "x")
	f.Add(`{"linux":{"namespaces":[{"type":"mount"}]}}`, "linux", "namespaces", "-")
	f.Add(`{"annotations":{}}`, "annotations", "io.x", "")
	f.Fuzz(func(t *testing.T, raw, first, second, value string) {
		if CheckJSON([]byte(raw)) != nil || !utf8.ValidString(first) || !utf8.ValidString(second) || !utf8.ValidString(value) {
			return
		}
		edited, err := EditJSON([]byte(raw), []Edit{{[]string{first, second}, value}})
		if err != nil {
			return
		}
		if err := CheckJSON(edited); err != nil {
			t.Fatalf("%s became %s: %v", raw, edited, err)
		}
		var before, after map[string]any
		if err := json.Unmarshal([]byte(raw), &before); err != nil {
			return // numbers that no float64 holds
		}
		if err := json.Unmarshal(edited, &after); err != nil {
			t.Fatalf("%s became %s: %v", raw, edited, err)
		}
		switch in := after[first].(type) {
		case map[string]any:
			if in[second] != value {
				t.Fatalf("%s became %s", raw, edited)
			}
		case []any:
			if !reflect.DeepEqual(in[len(in)-1], value) && second == "-" {
				t.Fatalf("%s became %s", raw, edited)
			}
		default:
			t.Fatalf("%s became %s", raw, edited)
		}
		delete(before, first)
		delete(after, first)
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%s became %s: other members changed", raw, edited)
		}
	})
}
