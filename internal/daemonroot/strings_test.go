// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEditStrings(t *testing.T) {
	change := func(path []string, value string) string {
		if strings.Join(path, ".") == "a.1.b" {
			return strings.Replace(value, "/old", "/new", 1)
		}
		return value
	}
	for _, row := range []struct{ text, want string }{
		{`{"a":[0,{"b":"/old/x"}],"c":"/old"}`, `{"a":[0,{"b":"/new/x"}],"c":"/old"}`},
		{"{ \"z\" : 1e400 ,\n\t\"a\" : [ {} , { \"b\" :\t\"/old\" , \"B\":\"/old\" } ] }\n", "{ \"z\" : 1e400 ,\n\t\"a\" : [ {} , { \"b\" :\t\"/new\" , \"B\":\"/old\" } ] }\n"},
		{`{"a":[0,{"b":"/old/\u0026\"\\"}]}`, `{"a":[0,{"b":"/new/\u0026\"\\"}]}`},
		{`{"a":[0,{"b":"\/\u006fld"}]}`, `{"a":[0,{"b":"/new"}]}`},
		{`{"a":[0,{"b":"/old","b":"/old/2"}]}`, `{"a":[0,{"b":"/new","b":"/new/2"}]}`},
		{`{"/old":"a.1.b","a":{"1":{"b":"/old"}}}`, `{"/old":"a.1.b","a":{"1":{"b":"/new"}}}`},
		{`{"a":[0,{"b":null}]}`, ``}, {`{"a":[0,{"b":7}]}`, ``}, {`[]`, ``}, {`"x"`, ``}, {`12`, ``},
		{`{"n":12345678901234567890.10,"f":1.0}` + "\n\n", ``},
		// What follows the value, dockerd doesn't read.
		{`{"a":[0,{"b":"/old"}]} {"a":[0,{"b":"/old"}]}`, `{"a":[0,{"b":"/new"}]} {"a":[0,{"b":"/old"}]}`},
		// What it was couldn't be written again.
		{"{\"a\":[0,{\"b\":\"/old/\xff\"}]}", ``},
	} {
		if row.want == "" {
			row.want = row.text
		}
		got, n, err := editStrings([]byte(row.text), change)
		if err != nil || string(got) != row.want || (n > 0) != (row.want != row.text) {
			t.Errorf("%q: got %q, %d, %v, expected %q", row.text, got, n, err, row.want)
		}
	}
	for _, text := range []string{"", " ", "{", `{"a"`, `{"a":}`, `{"a":[0,{"b":"/old"`, "{]", strings.Repeat("[", 1<<20), strings.Repeat(`{"a":`, 1<<16)} {
		if got, _, err := editStrings([]byte(text), change); err == nil {
			t.Errorf("%.20q: got %q, expected an error", text, got)
		}
	}
}

// Whatever the text is, what is done to dockerd's strings is undone to the byte.
func FuzzThereAndBack(f *testing.F) {
	s := &super{path: "/var/lib/docker", given: "/var/lib/docker"}
	names := []string{"volumes", "containers", "mine"}
	for _, path := range []string{
		"/var/lib/docker/volumes/v/_data", "/var/lib/docker", "/var/lib/docker/", "/var/lib/docker//volumes", "/var/lib/docker2/volumes", "/var/lib/docker/1.1/docker",
		"/var/lib/docker/lost+found", "", "/", "volume", "/var/lib/docker/mine/<&>\u2028", "/x,lowerdir=/var/lib/docker/mine",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if strings.Contains(path, "/0.0/") || strings.HasSuffix(path, "/0.0") {
			t.Skip("a path of what isn't there yet")
		}
		text, err := json.Marshal(map[string]any{
			"LogPath": path, "Binds": []string{path + ":/x:ro", path}, "MountOpts": "lowerdir=" + path + ":/y,upperdir=" + path, "Cmd": path,
			"MountPoints": map[string]any{"/a": map[string]any{"Source": path}}, "MountDevice": path,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keepers {
			there, n, err := k.edit(text, s.forward(names))
			if err != nil {
				t.Fatal(err)
			}
			again, m, err := k.edit(there, s.forward(names))
			if err != nil || m != 0 || string(again) != string(there) {
				t.Errorf("%s: a second time changes %d: %s, %v", k.file, m, again, err)
			}
			back, m, err := k.edit(there, s.backward)
			if err != nil || m != n || string(back) != string(text) {
				t.Errorf("%s: %d there, %d back: got %s, expected %s, %v", k.file, n, m, back, text, err)
			}
		}
	})
}

func TestForward(t *testing.T) {
	s := &super{path: "/mnt/d", given: "/var/lib/docker"}
	forward := s.forward([]string{"volumes", "mine"})
	for path, want := range map[string]string{
		"/mnt/d/volumes/v":             "/mnt/d/0.0/docker/volumes/v",
		"/var/lib/docker/volumes":      "/var/lib/docker/0.0/docker/volumes", // before the link was there
		"/var/lib/docker":              "/var/lib/docker/0.0/docker",
		"/var/lib/docker/":             "/var/lib/docker/0.0/docker/",
		"/var/lib/docker/0.0/docker/x": "",
		"/var/lib/docker/9.9/docker/x": "", // another root's
		"/var/lib/docker/lost+found/x": "",
		"/var/lib/docker/volumes2":     "",
		"/var/lib/dockerx":             "",
		"/var/lib":                     "",
		"volumes":                      "",
		"":                             "",
	} {
		if want == "" {
			want = path
		}
		if got := forward(path); got != want {
			t.Errorf("%q: got %q, expected %q", path, got, want)
		}
		if got := s.backward(want); got != path && path != "/var/lib/docker/0.0/docker/x" {
			t.Errorf("%q: back from %q: %q", path, want, got)
		}
	}
}
