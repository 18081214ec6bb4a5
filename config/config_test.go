// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestDefaultTOMLIsDefault(t *testing.T) {
	got, err := parse("default.toml", []byte(DefaultTOML))
	if err != nil {
		t.Fatal(err)
	}
	// list makes an array that is there and empty nil, as the literal is.
	if want := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("default.toml\n got %+v\nwant %+v", got, want)
	}
	// Each key must be set, or the comparison above says nothing about it.
	c := Default()
	for _, f := range schema(&c) {
		if f.name == "rule" || f.name == "bind" || f.name == "pin" {
			continue
		}
		for _, name := range append([]string{f.name}, names("", f.fields)...) {
			if !regexp.MustCompile(`(?m)^\[?` + regexp.QuoteMeta(name) + `( =|\])`).MatchString(DefaultTOML) {
				t.Errorf("default.toml doesn't set %s", name)
			}
		}
	}
}

func TestDefaultIsNotShared(t *testing.T) {
	a := Default()
	a.Runtimes[0] = "/changed"
	if Default().Runtimes[0] == "/changed" {
		t.Error("a change of one Default is seen in the next")
	}
}

func TestExamples(t *testing.T) {
	read := func(name string) (Config, error) {
		data, err := os.ReadFile(filepath.Join("examples", name))
		if err != nil {
			t.Fatal(err)
		}
		return parse(name, data)
	}
	entries, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, e := range entries {
		seen = append(seen, e.Name())
		// A book, and what engines read.
		if e.Name() == "usernamespaces" || e.Name() == "engines" {
			continue
		}
		if _, err := read(e.Name()); err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
	if got, want := strings.Join(seen, " "), "developers.toml docker.toml engines kubernetes.toml usernamespaces"; got != want {
		t.Errorf("examples: %s, expected %s", got, want)
	}
	k, _ := read("kubernetes.toml")
	if owner, ok := k.OwnerByRoot("/run/containerd/runc/k8s.io"); owner != "kubernetes" || !ok || k.Audit.Mode != AuditRequire {
		t.Errorf("kubernetes.toml: owner %q %v, audit %q", owner, ok, k.Audit.Mode)
	}
	d, _ := read("docker.toml")
	if owner, ok := d.OwnerByRoot("/run/docker/runtime-runc/moby"); owner != "dockroot" || !ok || d.DefaultOwner != "" {
		t.Errorf("docker.toml: owner %q %v, default %q", owner, ok, d.DefaultOwner)
	}
	dev, _ := read("developers.toml")
	if len(dev.Annotations) != 1 || dev.Annotations[0] != AnnotationOwner {
		t.Errorf("developers.toml: annotations %q", dev.Annotations)
	}
}

// grants are the lines of a book in text, which may be a comment's.
func grants(t *testing.T, text string) []idmap.Range {
	t.Helper()
	var all []idmap.Range
	line := regexp.MustCompile(`(?m)^(?:#     )?[^:\s#]+:([1-9][0-9]*):([1-9][0-9]*):(?:(?:deny-setgroups|no-new-privs|reserved|shared|size=[1-9][0-9]*)(?:,|$))*$`)
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		start, err := idmap.ParseID(m[1])
		count, cerr := idmap.ParseID(m[2])
		if err != nil || cerr != nil {
			t.Fatalf("%s: %v, %v", m[0], err, cerr)
		}
		r := idmap.Range{Start: start, Count: count}
		// systemd.io/UIDS-GIDS: its containers end below 0x70000000, and its
		// foreign UIDs begin at 0x7ffe0000.
		if err := r.Validate(); err != nil || start < 0x70000000 || r.End() > 0x7ffe0000 {
			t.Errorf("%s: %v, or where systemd hands out IDs", m[0], err)
		}
		for _, o := range all {
			if o.Overlaps(r) {
				t.Errorf("%s: %v is granted twice", m[0], r)
			}
		}
		all = append(all, r)
	}
	return all
}

// pkg/registry, which this package may not import, reads the book; here it is
// only held to the form and the flags that every build enforces.
func TestExampleBook(t *testing.T) {
	for name, want := range map[string]int{"usernamespaces": 5, "docker.toml": 1, "kubernetes.toml": 2, "developers.toml": 3} {
		data, err := os.ReadFile(filepath.Join("examples", name))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(grants(t, string(data))); got != want {
			t.Errorf("%s: %d grants, expected %d", name, got, want)
		}
		if name != "usernamespaces" {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if strings.TrimSpace(line) != "" && line[0] != '#' && len(grants(t, strings.TrimSpace(line))) != 1 {
				t.Errorf("%s: not a grant: %s", name, line)
			}
		}
	}
}

func TestOwnerByRoot(t *testing.T) {
	rules := []Rule{
		{"/run/containerd", "any"},
		{"/run/containerd/runc/k8s.io", "kubernetes"},
		{"/run/containerd/runc", "runc"},
		{"/run/docker", "dockroot"},
	}
	everything := append([]Rule{{"/", "rest"}}, rules...)
	tests := []struct {
		name  string
		rules []Rule
		root  string
		want  string // "" for no owner
	}{
		{"exact", rules, "/run/containerd/runc/k8s.io", "kubernetes"},
		{"below", rules, "/run/containerd/runc/k8s.io/x/y", "kubernetes"},
		{"nearest ancestor, not first", rules, "/run/containerd/runc/moby", "runc"},
		{"far ancestor", rules, "/run/containerd/other", "any"},
		{"only part of a component", rules, "/run/containerd2/runc", ""},
		{"only part of the last component", rules, "/run/containerd/runc/k8s.io2", "runc"},
		{"above every rule", rules, "/run", ""},
		{"elsewhere", rules, "/var/run/docker", ""},
		{"slash at the end", rules, "/run/docker/", "dockroot"},
		{"dots", rules, "/run/docker/../containerd/./runc", "runc"},
		{"root of all", everything, "/home/x", "rest"},
		{"root itself", everything, "/", "rest"},
		{"nearer than the root of all", everything, "/run/docker/x", "dockroot"},
		{"relative", everything, "run/docker", ""},
		{"empty", everything, "", ""},
		{"no rules", nil, "/run/docker", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Config{Rules: tt.rules, DefaultOwner: "default"}.OwnerByRoot(tt.root)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("%s: got %q, %v, want %q", tt.root, got, ok, tt.want)
			}
		})
	}
}
