// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseJSON(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"", "1:1: the file ends: expected a value"},
		{"{", "1:2: the file ends: expected the name of a member"},
		{"{\n  \"a\": 1,\n}", "3:1: found '}': expected the name of a member"},
		{"{\n  \"a\": 1\n  \"b\": 2\n}", "3:3: found '\"': expected ',' or '}'"},
		{"{\n  \"a\": tru\n}", "2:8: \"tru\" isn't a JSON value"},
		{"{\"a\" 1}", "1:6: found '1': expected ':'"},
		{"{\"a\": [1 2]}", "1:10: found '2': expected ',' or ']'"},
		{"{\n\t\"a\": 1,\n\t\"a\": 2\n}", "3:2: member \"a\" is there twice"},
		{"{\"a\": {\"b\": 1, \"\\u0062\": 2}}", "1:16: member \"b\" is there twice"},
		{"\xef\xbb\xbf{}", "1:1: begins with a byte order mark"},
		{"{\"a\": \"\xff\"}", "1:8: isn't UTF-8"},
		{"[]", "1:1: expected an object"},
		{"null", "1:1: expected an object"},
		{"{}\n{}", "2:1: something follows"},
		{"{} // no", "1:4: something follows"},
		{"{\n// no\n}", "2:1: found '/': expected the name"},
		{"{\"a\": \"x\ny\"}", "1:7: \"\\\"x\\ny\\\"\" isn't a JSON value"},
		{"{\"a\": \"x", "1:7: \"\\\"x\" isn't a JSON value"},
		{"{\"a\": \"\\", "1:7: "},
		{"{\"a\": 01}", "1:7: \"01\" isn't"},
		{"{\"a\": \x1b[31m}", "1:7: \"\\x1b\" isn't a JSON value"},
		{strings.Repeat("{\"a\":", 102), "1:506: more than 100 values"},
	} {
		_, err := parseJSON([]byte(row.text))
		if err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%q: got %v, want %s", row.text, err, row.want)
		}
	}
	for _, text := range []string{"{}", " {\"a\": [1, -2.5e3, \"\\\"\", null, true, {}]}\n", "{\"\": {\"\": []}}"} {
		if _, err := parseJSON([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// An object of a runtime, and then a string, as configure puts them in.
func added(t *testing.T, text string) string {
	t.Helper()
	out, err := setJSON([]byte(text), jsonObject{{"path", "/r"}, {"args", []string{"--owner", "a"}}}, "runtimes", "userns")
	if err != nil {
		t.Fatal(err)
	}
	if out, err = setJSON(out, "userns", "default"); err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestSetJSON(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{
			"empty", "{}",
			"{\n  \"runtimes\": {\n    \"userns\": {\n      \"path\": \"/r\",\n      \"args\": [\"--owner\", \"a\"]\n    }\n  },\n  \"default\": \"userns\"\n}",
		},
		{
			"tabs", "{\n\t\"z\": 1.0,\n\t\"a\": \"\\u00e9\"\n}\n",
			"{\n\t\"z\": 1.0,\n\t\"a\": \"\\u00e9\",\n\t\"runtimes\": {\n\t\t\"userns\": {\n\t\t\t\"path\": \"/r\",\n\t\t\t\"args\": [\"--owner\", \"a\"]\n\t\t}\n\t},\n\t\"default\": \"userns\"\n}\n",
		},
		{
			"four spaces, others' runtimes", "{\n    \"runtimes\": {\n        \"x\": {\n            \"path\": \"/x\"\n        }\n    },\n    \"z\": []\n}",
			"{\n    \"runtimes\": {\n        \"x\": {\n            \"path\": \"/x\"\n        },\n        \"userns\": {\n            \"path\": \"/r\",\n            \"args\": [\"--owner\", \"a\"]\n        }\n    },\n    \"z\": [],\n    \"default\": \"userns\"\n}",
		},
		{"one line", `{"z": 1}`, `{"z": 1, "runtimes": {"userns": {"path": "/r", "args": ["--owner", "a"]}}, "default": "userns"}`},
		{"one line, no spaces", `{"z":1}`, `{"z":1,"runtimes":{"userns":{"path":"/r","args":["--owner","a"]}},"default":"userns"}`},
		{"one line in braces with spaces", `{ "z": 1 }`, `{ "z": 1, "runtimes": {"userns": {"path": "/r", "args": ["--owner", "a"]}}, "default": "userns" }`},
		{
			"an object in one line in others", "{\n  \"runtimes\": {\"x\": {\"path\": \"/x\"}}\n}",
			"{\n  \"runtimes\": {\"x\": {\"path\": \"/x\"}, \"userns\": {\"path\": \"/r\", \"args\": [\"--owner\", \"a\"]}},\n  \"default\": \"userns\"\n}",
		},
		{
			"an empty object", "{\n  \"runtimes\": {},\n  \"default\": \"runc\"\n}\n",
			"{\n  \"runtimes\": {\n    \"userns\": {\n      \"path\": \"/r\",\n      \"args\": [\"--owner\", \"a\"]\n    }\n  },\n  \"default\": \"userns\"\n}\n",
		},
		{
			"lines of DOS", "{\r\n  \"z\": 1\r\n}\r\n",
			"{\r\n  \"z\": 1,\r\n  \"runtimes\": {\r\n    \"userns\": {\r\n      \"path\": \"/r\",\r\n      \"args\": [\"--owner\", \"a\"]\r\n    }\r\n  },\r\n  \"default\": \"userns\"\r\n}\r\n",
		},
		{
			"empty lines between members", "{\n  \"y\": 1,\n\n  \"z\": 1\n}",
			"{\n  \"y\": 1,\n\n  \"z\": 1,\n  \"runtimes\": {\n    \"userns\": {\n      \"path\": \"/r\",\n      \"args\": [\"--owner\", \"a\"]\n    }\n  },\n  \"default\": \"userns\"\n}",
		},
		{
			"all indented", "  {\n    \"z\": 1\n  }\n",
			"  {\n    \"z\": 1,\n    \"runtimes\": {\n      \"userns\": {\n        \"path\": \"/r\",\n        \"args\": [\"--owner\", \"a\"]\n      }\n    },\n    \"default\": \"userns\"\n  }\n",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := added(t, row.text); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
	if _, err := setJSON([]byte("{\n \"runtimes\": []}"), "x", "runtimes", "userns"); err == nil || err.Error() != "2:14: runtimes: expected an object: {...}" {
		t.Errorf("got %v", err)
	}
}

// Whatever the text is: where it is taken, the result differs in what was meant alone, the
// bytes before and behind what was there are the same, and a second time changes nothing.
func FuzzSetJSON(f *testing.F) {
	for _, seed := range []string{
		"{}", "{\n\t\"a\": [1, {}],\n\t\"runtimes\": {\"x\": {}}\n}", `{"runtimes":{},"default":"runc"}`, "{\r\n\"default\":\t1\r\n\r\n}",
		"{\"a\"\n:\n1}", "{ \"a\" :1, \n \"b\": 1e400 }", "{\"runtimes\": {\"userns\": {\"path\": []}}}", "{\n\n\n  \"z\"  :  {} \n , \"runtimes\":\n{\n}\n}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		root, err := parseJSON(text)
		before, derr := decodeJSON(text)
		if err != nil {
			return
		}
		if derr != nil {
			t.Fatalf("taken, and encoding/json doesn't: %v", derr)
		}
		value := jsonObject{{"path", "/r"}, {"args", []string{"--owner", "a"}}}
		out, err := setJSON(text, value, "runtimes", "userns")
		if m := root.find("runtimes"); m != nil && !m.value.object {
			if err == nil {
				t.Fatal("runtimes isn't an object, and was changed")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err = setJSON(out, "userns", "default")
		if err != nil {
			t.Fatal(err)
		}
		after, err := decodeJSON(out)
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		runtimes, ok := before["runtimes"].(map[string]any)
		if !ok {
			runtimes = map[string]any{}
			before["runtimes"] = runtimes
		}
		runtimes["userns"] = map[string]any{"path": "/r", "args": []any{"--owner", "a"}}
		before["default"] = "userns"
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("got %v, want %v", after, before)
		}
		if again := added(t, string(out)); again != string(out) {
			t.Fatalf("a second time:\n%s\n%s", out, again)
		}
	})
}
