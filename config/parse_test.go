// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := Default()
		change(&c)
		return c
	}
	tests := []struct {
		name, toml string
		want       Config
	}{
		{"empty", "", Default()},
		{"comment", "# x\n", Default()},
		{"CRLF", "default-owner = 'a'\r\n\r\n[audit]\r\nmode = 'require'\r\n",
			with(func(c *Config) { c.DefaultOwner, c.Audit.Mode = "a", AuditRequire })},
		{"runtimes", `runtimes = ["/opt/runc"]`, with(func(c *Config) { c.Runtimes = []string{"/opt/runc"} })},
		{"nobody by default", `default-owner = ""`, with(func(c *Config) { c.DefaultOwner = "" })},
		{"owner that is a number", `default-owner = "1000"`, with(func(c *Config) { c.DefaultOwner = "1000" })},
		{"annotation", `annotations = ["owner"]`, with(func(c *Config) { c.Annotations = []string{"owner"} })},
		{"rootfs dirs", `rootfs-dirs = ["/srv/images"]`, with(func(c *Config) { c.RootfsDirs = []string{"/srv/images"} })},
		{"no rootfs dirs", `rootfs-dirs = []`, with(func(c *Config) { c.RootfsDirs = nil })},
		{"exposed", `exposed-rootfs = "allow"`, with(func(c *Config) { c.ExposedRootfs = ExposedRootfsAllow })},
		{"audit as a table", "[audit]\npath = '/a'\nmode = 'require'", with(func(c *Config) { c.Audit = Audit{"/a", AuditRequire} })},
		{"audit inline", "audit = { path = '/a', mode = 'require' }", with(func(c *Config) { c.Audit = Audit{"/a", AuditRequire} })},
		{"audit dotted", "audit.path = '/a'\naudit.mode = 'require'", with(func(c *Config) { c.Audit = Audit{"/a", AuditRequire} })},
		{"audit in part", "[audit]\nmode = 'require'", with(func(c *Config) { c.Audit.Mode = AuditRequire })},
		{"rules", "[[rule]]\nroot='/b'\nowner='x'\n[[rule]]\nroot='/a'\nowner='x'",
			with(func(c *Config) { c.Rules = []Rule{{"/b", "x"}, {"/a", "x"}} })},
		{"rules inline", "rule = [{root='/',owner='é'}]", with(func(c *Config) { c.Rules = []Rule{{"/", "é"}} })},
		{"pins", "[[pin]]\nowner='alice'\nname='dev'\n[[pin]]\nowner='1000'\nname='dev'",
			with(func(c *Config) { c.Pins = []Pin{{"alice", "dev"}, {"1000", "dev"}} })},
		{"nothing bound", "bind = []\npin = []", Default()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse("c.toml", []byte(tt.toml))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

// The wanted lines are the start of each line of the error, all of them.
func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name, toml string
		want       []string
	}{
		{"not TOML", "a = \n", []string{"c.toml:1: not TOML: "}},
		{"not TOML, later", "\n\n[audit\n", []string{"c.toml:3: not TOML: "}},
		{"a key twice", "shift='auto'\nshift='auto'", []string{"c.toml:2: not TOML: "}},
		{"a table twice", "[audit]\n[audit]", []string{"c.toml:2: not TOML: "}},
		{"not UTF-8", "\n# \xff\n#\n# \xfe", []string{"c.toml:2: not UTF-8", "c.toml:4: not UTF-8"}},

		{"unknown, near", "\nruntime = []", []string{"c.toml:2: unknown key runtime: the nearest known key is runtimes"}},
		{"unknown, underscore", "default_owner = ''", []string{"c.toml:1: unknown key default_owner: the nearest known key is default-owner"}},
		{"unknown, case", "Shift = 'auto'", []string{"c.toml:1: unknown key Shift: the nearest known key is shift"}},
		{"unknown, far", "entirely-different = 1", []string{"c.toml:1: unknown key entirely-different: known keys are runtimes, default-owner, "}},
		{"unknown table", "[[rules]]\nroot = '/'", []string{"c.toml:1: unknown key rules: the nearest known key is rule"}},
		{"unknown in a table", "[audit]\n\npth = '/'", []string{"c.toml:3: unknown key audit.pth: the nearest known key is audit.path"}},
		{"unknown in a list", "[[rule]]\nroot='/a'\nowner='a'\n[[rule]]\nroot='/b'\nowner='b'\nower='b'",
			[]string{"c.toml:7: unknown key rule.ower: the nearest known key is rule.owner"}},
		{"unknown inline", "audit = {\n path='/a',\n pat='/b' }", []string{"c.toml:3: unknown key audit.pat: the nearest known key is audit.path"}},
		{"top key below a table", "[audit]\ndefault-owner = 'x'",
			[]string{"c.toml:2: unknown key audit.default-owner: the nearest known key is default-owner; a key belongs to the [table] above it"}},
		{"table's key at the top", "mode = 'warn'", []string{"c.toml:1: unknown key mode: the nearest known key is audit.mode; a key belongs"}},
		{"quoted dot", `"audit.path" = '/a'`, []string{`c.toml:1: unknown key "audit.path": `}},
		{"sub-table", "[audit.path]\nx = 1", []string{"c.toml:1: audit.path: is a table: expected a string"}},

		{"runtimes not an array", "runtimes = '/usr/bin/runc'", []string{"c.toml:1: runtimes: is a string: expected an array of strings"}},
		{"no runtimes", "runtimes = []", []string{"c.toml:1: runtimes: is empty: expected an array"}},
		{"runtimes, several bad", "runtimes = [\n 'runc',\n '/usr/bin/runc',\n # x\n 7,\n '/usr//bin/runc', '/a/../b', '/a/', '', '/', [] ]",
			[]string{
				`c.toml:2: runtimes: is "runc": expected an absolute path`,
				"c.toml:5: runtimes: is 7: expected a string, an absolute path",
				`c.toml:6: runtimes: is "/usr//bin/runc"`, `c.toml:6: runtimes: is "/a/../b"`, `c.toml:6: runtimes: is "/a/"`,
				`c.toml:6: runtimes: is "": expected`, `c.toml:6: runtimes: is "/": expected`,
				"c.toml:1: runtimes: is an array",
			}},
		{"owner with a colon", "default-owner = 'a:b'", []string{`c.toml:1: default-owner: is "a:b": expected a name as in the book`}},
		{"owner with a space", "default-owner = 'a b'", []string{`c.toml:1: default-owner: is "a b"`}},
		{"owner with a control", `default-owner = "a\u0007"`, []string{`c.toml:1: default-owner: is "a\a"`}},
		{"owner that would be a comment", "default-owner = '#a'", []string{`c.toml:1: default-owner: is "#a"`}},
		{"owner too long", "default-owner = '" + strings.Repeat("a", 257) + "'", []string{`c.toml:1: default-owner: is "aaa`}},
		{"owner a number", "default-owner = 1000", []string{"c.toml:1: default-owner: is 1000: expected a string, a name as"}},
		{"owner a date", "default-owner = 2020-01-01", []string{"c.toml:1: default-owner: is a date or time: expected a string"}},
		{"annotation unknown", "annotations = ['ownr']", []string{`c.toml:1: annotations: is "ownr": expected "owner" or "stable-name" or "size"`}},
		{"annotation with its prefix", "annotations = ['io.userns-runtime.owner']", []string{`c.toml:1: annotations: is "io.userns-runtime.owner": expected "owner"`}},
		{"shift", "shift = 'idmap'", []string{`c.toml:1: shift: is "idmap": expected "auto" or "chown"`}},
		{"shift a bool", "shift = true", []string{`c.toml:1: shift: is true: expected a string, "auto" or "chown"`}},
		{"bind-fallback", "bind-fallback = ''", []string{`c.toml:1: bind-fallback: is "": expected "error" or "plain"`}},
		{"rootfs-dirs, all of it", "rootfs-dirs = ['/']", []string{`c.toml:1: rootfs-dirs: is "/": expected an absolute path of a directory other than /, without "..", "//" or a slash at its end`}},
		{"exposed-rootfs", "exposed-rootfs = 'no'", []string{`c.toml:1: exposed-rootfs: is "no": expected "refuse" or "allow"`}},
		{"audit not a table", "audit = '/a'", []string{"c.toml:1: audit: is a string: expected a table, [audit]"}},
		{"audit a list", "[[audit]]", []string{"c.toml:1: audit: is an array: expected a table, [audit]"}},
		{"audit.path relative", "[audit]\npath = 'a'", []string{`c.toml:2: audit.path: is "a": expected an absolute path of a file`}},
		{"audit.path the root", "[audit]\npath = '/'", []string{`c.toml:2: audit.path: is "/": expected`}},
		{"audit.mode", "[audit]\nmode = 'off'", []string{`c.toml:2: audit.mode: is "off": expected "require" or "warn"`}},
		{"rule a table", "[rule]\nroot='/a'", []string{"c.toml:1: rule: is a table: expected an array of tables, [[rule]]"}},
		{"rule of strings", "rule = ['a']", []string{"c.toml:1: rule: is a string: expected a table, [[rule]]"}},
		{"rule empty", "\n[[rule]]", []string{"c.toml:2: rule: root is missing: expected an absolute path", "c.toml:2: rule: owner is missing: expected a name"}},
		{"rule without owner", "[[rule]]\nroot = '/a'\n[[rule]]\nroot = '/b'\nowner = ''",
			[]string{"c.toml:1: rule: owner is missing", `c.toml:5: rule.owner: is "": expected`}},
		{"rule root relative", "[[rule]]\nroot='run'\nowner='a'", []string{`c.toml:2: rule.root: is "run": expected an absolute path`}},
		{"rule twice", "[[rule]]\nroot='/a'\nowner='a'\n[[rule]]\nroot='/b'\nowner='a'\n[[rule]]\nroot='/a'\nowner='b'",
			[]string{`c.toml:7: rule: "/a" is already in line 1: expected it once`}},
		{"two bad rules aren't one twice", "[[rule]]\nroot='a'\nowner='a'\n[[rule]]\nroot='b'\nowner='a'",
			[]string{`c.toml:2: rule.root: is "a"`, `c.toml:5: rule.root: is "b"`}},

		{"pin without a name", "[[pin]]\nowner='a'", []string{"c.toml:1: pin: name is missing: expected a name"}},
		{"pin without an owner", "[[pin]]\nname='a'", []string{"c.toml:1: pin: owner is missing: expected a name"}},
		{"pin's owner isn't a directory's name", "[[pin]]\nowner='a/b'\nname='..'", []string{`c.toml:2: pin.owner: is "a/b": expected a name`, `c.toml:3: pin.name: is "..": expected a name`}},
		{"pin's name too long", "[[pin]]\nowner='a'\nname='" + strings.Repeat("x", 256) + "'", []string{"c.toml:3: pin.name: is \"xxx"}},
		{"pin's owner is a number", "[[pin]]\nowner=1000\nname='a'", []string{"c.toml:2: pin.owner: is 1000: expected a string"}},
		{"pin twice", "[[pin]]\nowner='a'\nname='b'\n[[pin]]\nowner='a'\nname='b'", []string{`c.toml:4: pin: "a/b" is already in line 1: expected it once`}},
		{"unknown key of a pin", "[[pin]]\nowner='a'\nname='b'\nstart=5", []string{"c.toml:4: unknown key pin.start"}},
		{"several tables wrong", "[[bind]]\npath='a'\n[[pin]]\nowner='a/b'\nname='..'",
			[]string{
				"c.toml:1: bind: owner is missing",
				`c.toml:2: bind.path: is "a"`,
				`c.toml:4: pin.owner: is "a/b"`, `c.toml:5: pin.name: is ".."`,
			}},
		{"bind twice, whoever's", "[[bind]]\npath='/a'\nowner='b'\n[[bind]]\npath='/a'\nowner='b'",
			[]string{`c.toml:4: bind: "/a" is already in line 1`}},

		{"all at once, by line", "zzz = 1\nshift = 3\nruntimes = []\n[audit]\nmode = 'x'\n[[rule]]\nowner = 'b c'",
			[]string{
				"c.toml:1: unknown key zzz", "c.toml:2: shift: is 3", "c.toml:3: runtimes: is empty", "c.toml:5: audit.mode: is \"x\"",
				"c.toml:6: rule: root is missing", `c.toml:7: rule.owner: is "b c"`,
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse("c.toml", []byte(tt.toml))
			if err == nil || !reflect.DeepEqual(got, Config{}) {
				t.Fatalf("got %+v, %v, want an error and nothing", got, err)
			}
			lines := strings.Split(err.Error(), "\n")
			missing := append([]string(nil), tt.want...)
			for _, line := range lines {
				for i, want := range missing {
					if strings.HasPrefix(line, want) {
						missing = append(missing[:i], missing[i+1:]...)
						break
					}
				}
			}
			if len(lines) != len(tt.want) || len(missing) > 0 {
				t.Errorf("got\n%v\nwithout\n%s\n(%d lines, want %d)", err, strings.Join(missing, "\n"), len(lines), len(tt.want))
			}
		})
	}
}

func TestParseOrdersAndCapsErrors(t *testing.T) {
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "key%d = 1\n", 99-i)
	}
	_, err := parse("c.toml", []byte(b.String()))
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxFindings+1 || lines[maxFindings] != "c.toml: and 30 more" {
		t.Fatalf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	for i, line := range lines[:maxFindings] {
		if want := fmt.Sprintf("c.toml:%d: unknown key key%d:", i+1, 99-i); !strings.HasPrefix(line, want) {
			t.Errorf("got %q, want %q", line, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"owner", "ower", 1}, {"shift", "shift", 0},
		{strings.Repeat("a", 65), "a", 64},
	} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q to %q: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// The document names every key of the schema, and no others.
func TestDocumentListsEveryKey(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.SplitSeq(string(doc), "\n") {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			rows[name] = true
		}
	}
	want := []string{AnnotationPrefix + AnnotationOwner, AnnotationPrefix + AnnotationStableName, AnnotationPrefix + AnnotationSize}
	c := Default()
	for _, f := range schema(&c) {
		if f.fields == nil {
			want = append(want, f.name)
		}
		want = append(want, names(f.name, f.fields)...)
	}
	for _, name := range want {
		if !rows[name] {
			t.Errorf("docs/configuration.md has no row for %s", name)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("docs/configuration.md has a row for %s, which is no key", name)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(DefaultTOML))
	f.Add([]byte("audit = { path = [1, {x=2}], \"a.b\" = {} }\n[[rule]]\n[rule.x]\n[a.b.c]\n"))
	f.Add([]byte("rule = [[], {root='/'}, 3]\n\"\" = 1\n\"[\" = 1\n\"]x[.\" = 2"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("c.toml", data)
		if err == nil {
			if len(c.Runtimes) == 0 || c.Audit.Path == "" || c.Shift != ShiftAuto && c.Shift != ShiftChown {
				t.Errorf("accepted, but %+v", c)
			}
			return
		}
		if !reflect.DeepEqual(c, Config{}) {
			t.Errorf("an error and %+v", c)
		}
		last := strings.Count(string(data), "\n") + 1
		for _, line := range strings.Split(err.Error(), "\n") {
			var n int
			if _, serr := fmt.Sscanf(line, "c.toml:%d:", &n); serr != nil && !strings.HasPrefix(line, "c.toml: and ") || n > last {
				t.Errorf("error line %q of a file of %d lines", line, last)
			}
		}
	})
}
