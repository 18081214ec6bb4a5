// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	number := func(n uint32) Account { return Account{ID: n} }
	name := func(n string) Account { return Account{Name: n} }
	for text, want := range map[string]Spec{
		"alice":         {User: name("alice")},
		"alice:users":   {User: name("alice"), Group: &Account{Name: "users"}},
		"alice:100007":  {User: name("alice"), Group: &Account{ID: 100007}},
		"100000":        {User: number(100000), Group: &Account{ID: 100000}},
		"100000:100007": {User: number(100000), Group: &Account{ID: 100007}},
		"default":       {Default: true, User: name("dockroot"), Group: &Account{Name: "dockroot"}},
		"0:0":           {Group: &Account{}},
		"0":             {Group: &Account{}},
		"4294967294":    {User: number(4294967294), Group: &Account{ID: 4294967294}},
		"k8s.io_pod-1":  {User: name("k8s.io_pod-1")},
		"machine$":      {User: name("machine$")},
	} {
		got, err := ParseSpec(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got.Default != want.Default || got.User != want.User || (got.Group == nil) != (want.Group == nil) || got.Group != nil && *got.Group != *want.Group {
			t.Errorf("%q: got %+v, expected %+v", text, got, want)
		}
		if got.Unmapped() != (text == "0:0" || text == "0") {
			t.Errorf("%q: unmapped: %v", text, got.Unmapped())
		}
		if again, err := ParseSpec(got.String()); err != nil || again.String() != got.String() {
			t.Errorf("%q: is written %q, which is %+v, %v", text, got, again, err)
		}
	}
}

func TestParseSpecRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":               "user is empty",
		":":              "user is empty",
		":users":         "user is empty",
		"alice:":         "group is empty",
		"a:b:c":          "more than one ':'",
		"1:2:3":          "more than one ':'",
		"007":            "without leading zeros",
		"4294967295":     "from 0 to 4294967294",
		"99999999999":    "from 0 to 4294967294",
		"100000:users":   `group "users" behind a number`,
		"0:5":            "root of the host isn't mapped",
		"root":           "root of the host isn't mapped",
		"root:root":      "root of the host isn't mapped",
		"5:0":            "the host's group 0",
		"alice:root":     "the host's group 0",
		"alice:0":        "the host's group 0",
		"-alice":         "isn't a name",
		"+alice":         "isn't a name",
		"a b":            "isn't a name",
		"alice\n":        "isn't a name",
		"../etc":         "isn't a name",
		"al\x1b[1mice":   "isn't a name",
		"al\u202eice":    "isn't a name",
		"default:users ": "isn't a name",
		"1.5":            "", // a name, which nobody has
	} {
		_, err := ParseSpec(text)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "expected user, user:group") {
			t.Errorf("%q: got %v, expected %q", text, err, want)
		}
	}
}

func TestParseIdentity(t *testing.T) {
	for _, id := range []Identity{{}, {100000, 100000}, {1, 4294967294}} {
		if got, ok := ParseIdentity(id.String()); !ok || got != id {
			t.Errorf("%s: got %v, %v", id, got, ok)
		}
	}
	for _, name := range []string{"", "0", "0.", ".0", "0.0.0", "00.0", "0.00", "1.-1", "a.b", "1,1", "4294967296.0", " 1.1", "1.1 ", "overlay2"} {
		if id, ok := ParseIdentity(name); ok {
			t.Errorf("%q: is taken for %s", name, id)
		}
	}
}

func TestSuperRoot(t *testing.T) {
	for path, want := range map[string]string{
		DataRoot("/var/lib/docker", Identity{5, 6}): "/var/lib/docker",
		"/var/lib/docker/0.0/docker/":               "/var/lib/docker",
		"/0.0/docker":                               "/",
		"0.0/docker":                                ".",
		"/var/lib/docker":                           "",
		"/var/lib/docker/5.6":                       "",
		"/var/lib/docker/5.6/docker/x":              "",
		"/var/lib/docker/05.6/docker":               "",
		"/var/lib/docker/5/docker":                  "",
		"":                                          "",
	} {
		if got := SuperRoot(path); got != want {
			t.Errorf("%q: got %q, expected %q", path, got, want)
		}
	}
}
