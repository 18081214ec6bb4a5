// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

var (
	pinned = Version{"runc", 1, 5, "1.5.2"}
	old    = Version{"runc", 1, 1, "1.1.5+ds1"}
	crun   = Version{"crun", 1, 8, "1.8.1"}
)

func TestKnown(t *testing.T) {
	for _, row := range []struct {
		v     Version
		known bool
		lacks int
	}{
		{pinned, true, 0},
		{Version{"runc", 1, 2, "1.2.0"}, true, 0},
		{old, true, 3},
		{Version{"runc", 1, 0, "1.0.3"}, false, 3},
		{crun, true, 6},
		{Version{"crun", 1, 7, "1.7"}, false, 6},
		{Version{"youki", 2, 0, "2.0.0"}, false, 0},
		{Version{}, false, 0},
	} {
		if err := row.v.Known(); (err == nil) != row.known || err != nil && !strings.Contains(err.Error(), "runc 1.2 or later is needed") {
			t.Errorf("%v: %v", row.v, err)
		}
		if lacks := row.v.Lacks(); len(lacks) != row.lacks {
			t.Errorf("%v lacks %d: %q", row.v, len(lacks), lacks)
		}
	}
}

func TestArgvForCrun(t *testing.T) {
	for _, row := range []struct{ argv, want string }{
		{"x create --bundle B -pid-file=P c", "x --root=/R create --bundle=B --pid-file=P -- c"},
		{"x --log L --log-format json --debug --systemd-cgroup run -d --no-pivot -b B c", "x --debug --log=L --log-format=json --root=/R --systemd-cgroup run --bundle=B --no-pivot --detach -- c"},
		{"x exec -t -e A=b -e C --cap CAP_CHOWN c sh -c true", "x --root=/R exec --env=A=b --env=C --tty --cap=CAP_CHOWN -- c sh -c true"},
		{"x delete -f c", "x --root=/R delete --force -- c"},
		{"x --root S state c", "x --root=/R state c"},
		// What one of them takes for a value, the other mustn't take for a verb.
		{"x --log exec state c", "x --log=exec --root=/R state c"},
		{"x -log exec kill c 9", "x --log=exec --root=/R kill c 9"},
		{"x --rootless exec list", "x --root=/R --rootless=exec list"},
		{"x --version", "x --version"},
		{"x", "x --help"},
		{"x run --help", "x --help"},
		{"x help run", "x --help"},
	} {
		inv, err := ParseArgs(strings.Fields(row.argv))
		if err != nil {
			t.Errorf("%s: %v", row.argv, err)
			continue
		}
		got, err := inv.ArgvFor(crun, "/R")
		if err != nil || strings.Join(sorted(got), " ") != strings.Join(sorted(strings.Fields(row.want)), " ") || got[0] != "x" {
			t.Errorf("%s: %q, %v, want %q", row.argv, got, err, row.want)
		}
		for _, v := range []Version{pinned, old} {
			if got, err := inv.ArgvFor(v, "/R"); err != nil || !slices.Equal(got, inv.Argv()) {
				t.Errorf("%s, %v: %q, %v", row.argv, v, got, err)
			}
		}
	}
}

// sorted has the flags before the verb, and those behind it, in their own order each.
func sorted(argv []string) []string {
	var out, flags []string
	for _, word := range argv[1:] {
		if strings.HasPrefix(word, "--") && word != "--" {
			flags = append(flags, word)
			continue
		}
		slices.Sort(flags)
		out, flags = append(append(out, flags...), word), nil
	}
	slices.Sort(flags)
	return append(out, flags...)
}

func TestRefusedForCrun(t *testing.T) {
	for _, row := range []struct{ argv, want string }{
		{"x run --keep c", "run: --keep: crun has no such flag"},
		{"x create --pidfd-socket P c", "create: --pidfd-socket: crun has no such flag"},
		{"x exec --additional-gids 5 c true", "exec: --additional-gids: crun has no such flag"},
		{"x exec --no-new-privs=false c true", "exec: --no-new-privs: crun has no such flag"},
		{"x restore c", "restore: --"},
		{"x events c", `"events": crun hasn't got it`},
	} {
		inv, err := ParseArgs(strings.Fields(row.argv))
		if err != nil {
			t.Errorf("%s: %v", row.argv, err)
			continue
		}
		if strings.HasPrefix(row.argv, "x restore") {
			if err := crun.Refuse("restore"); err == nil {
				t.Error("restore isn't refused")
			}
			continue
		}
		if got, err := inv.ArgvFor(crun, "/R"); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %q, %v, want %q", row.argv, got, err, row.want)
		}
	}
	if pinned.Refuse("restore") != nil || old.Refuse("restore") == nil || old.Refuse("run") != nil {
		t.Error("restore")
	}
}

func TestCheckSpecForCrun(t *testing.T) {
	with := func(change func(*specs.Spec)) *specs.Spec {
		s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}}}
		change(s)
		return s
	}
	for name, row := range map[string]struct {
		spec *specs.Spec
		want string // "" if it is fine
	}{
		"nothing":     {with(func(*specs.Spec) {}), ""},
		"annotation":  {with(func(s *specs.Spec) { s.Annotations = map[string]string{"run.oci.x": ""} }), "annotations: run.oci.x"},
		"wasm":        {with(func(s *specs.Spec) { s.Annotations = map[string]string{"module.wasm.image/variant": ""} }), "annotations: module.wasm"},
		"another":     {with(func(s *specs.Spec) { s.Annotations = map[string]string{"x.run.oci.": ""} }), ""},
		"sys_admin":   {with(func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{sysAdmin} }), "process.capabilities: CAP_SYS_ADMIN"},
		"its bound":   {with(func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_CHOWN", sysAdmin} }), "process.capabilities: CAP_SYS_ADMIN"},
		"lower case":  {with(func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"cap_sys_admin"} }), "expected a name as in capabilities(7)"},
		"by number":   {with(func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"21"} }), "expected a name as in capabilities(7)"},
		"no list":     {with(func(s *specs.Spec) { s.Process.Capabilities = nil }), "there are none listed"},
		"no process":  {with(func(s *specs.Spec) { s.Process = nil }), ""},
		"empty lists": {with(func(s *specs.Spec) { s.Process.Capabilities = &specs.LinuxCapabilities{} }), ""},
	} {
		err := crun.CheckSpec(row.spec)
		if row.spec.Process != nil {
			err = errors.Join(err, crun.CheckCaps("process.capabilities", row.spec.Process))
		}
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
		if err := old.CheckSpec(row.spec); err != nil {
			t.Errorf("%s: runc: %v", name, err)
		}
		if err := old.CheckCaps("", &specs.Process{}); err != nil {
			t.Errorf("%s: runc: %v", name, err)
		}
	}
}

// crun gets all that runc reads, and in the letters of the specification: a seccomp filter that
// nobody here judges is lost otherwise.
func TestSpecForCrun(t *testing.T) {
	for edited, want := range map[string]string{
		`{"OCIVERSION": "1.0.2", "process": null}`: `{"ociVersion":"1.0.2"}`,
		// What nobody judges comes along.
		`{"ociVersion": "1.0.2", "linux": {"RESOURCES": {"pids": {"limit": 7}}, "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}}`: `{"ociVersion":"1.0.2","linux":{"resources":{"pids":{"limit":7}},"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}`,
		// What is none of a specification's doesn't.
		`{"ociVersion": "1.0.2", "x": 1}`: `{"ociVersion":"1.0.2"}`,
	} {
		if got, err := old.Spec([]byte(edited), new(specs.Spec)); err != nil || string(got) != edited {
			t.Errorf("runc: %s, %v", got, err)
		}
		if got, err := crun.Spec([]byte(edited), new(specs.Spec)); err != nil || string(got) != want {
			t.Errorf("crun: %s, %v, want %s", got, err, want)
		}
	}
}
