// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

var (
	someCaps = []string{"CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_ADMIN"}
	dropRaw  = ProcessFlags{DropCaps: []string{"CAP_NET_RAW"}, OtherCaps: []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}}
)

func allSets(names ...string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names, Inheritable: names, Ambient: names}
}

func TestApplyProcessDropsCaps(t *testing.T) {
	process := &specs.Process{Capabilities: allSets("CAP_CHOWN", "CAP_NET_RAW", "cap_net_raw", "NET_RAW", " CAP_NET_RAW", "CAP_NET_RAW")}
	before := process.Capabilities
	changes := ApplyProcess(process, dropRaw, "process")
	if want := allSets("CAP_CHOWN"); !reflect.DeepEqual(process.Capabilities, want) {
		t.Errorf("got %+v", process.Capabilities)
	}
	if len(before.Bounding) != 6 {
		t.Errorf("the sets that went in were changed: %q", before.Bounding)
	}
	var paths []string
	for _, change := range changes {
		paths = append(paths, strings.Join(change.Path, "."))
	}
	if want := []string{"bounding", "effective", "permitted", "inheritable", "ambient"}; len(paths) != len(want) || paths[4] != "process.capabilities.ambient" {
		t.Errorf("changes: %q", paths)
	}
	// Without any of them there is nothing to say.
	if changes := ApplyProcess(process, dropRaw, "process"); changes != nil {
		t.Errorf("changed again: %v", changes)
	}
	// One to be exec'd has the container's own then.
	process.Capabilities = nil
	if changes := ApplyProcess(process, dropRaw); changes != nil || process.Capabilities != nil {
		t.Errorf("given %+v", process.Capabilities)
	}
}

func TestApplyDropsWhatIsNotNamed(t *testing.T) {
	plan := enginePlan
	plan.DropCaps, plan.OtherCaps = dropRaw.DropCaps, dropRaw.OtherCaps
	spec, changes, err := Apply(engineSpec(), plan)
	if err != nil {
		t.Fatal(err)
	}
	want := &specs.LinuxCapabilities{Bounding: dropRaw.OtherCaps, Effective: dropRaw.OtherCaps, Permitted: dropRaw.OtherCaps}
	if !reflect.DeepEqual(spec.Process.Capabilities, want) {
		t.Errorf("got %+v", spec.Process.Capabilities)
	}
	if !slices.ContainsFunc(changes, func(c Change) bool { return strings.Join(c.Path, ".") == "process.capabilities" }) {
		t.Errorf("not among the changes: %v", changes)
	}
}

// plainSpec is what engines send for a container that isn't privileged.
func plainSpec() *specs.Spec {
	return &specs.Spec{
		Process: &specs.Process{Capabilities: allSets("CAP_CHOWN", "CAP_NET_RAW")},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "ro"}},
			{Destination: "/host", Type: "bind", Source: "/proc", Options: []string{"rbind", "rw"}},
		},
		Linux: &specs.Linux{MaskedPaths: slices.Clone(maskedPaths), ReadonlyPaths: slices.Clone(readonlyPaths)},
	}
}

func TestCheckPrivileged(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*specs.Spec)
		flags  ProcessFlags
		want   string
	}{
		"none":                {func(*specs.Spec) {}, ProcessFlags{}, ""},
		"no process":          {func(s *specs.Spec) { s.Process = nil }, ProcessFlags{}, ""},
		"--cap-add SYS_ADMIN": {func(s *specs.Spec) { s.Process.Capabilities = allSets(someCaps...) }, ProcessFlags{}, "process.capabilities.bounding: CAP_SYS_ADMIN"},
		"in one set":          {func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"sys_admin"} }, ProcessFlags{}, "process.capabilities.ambient: CAP_SYS_ADMIN"},
		"but dropped":         {func(s *specs.Spec) { s.Process.Capabilities = allSets(someCaps...) }, ProcessFlags{DropCaps: []string{"CAP_SYS_ADMIN"}}, ""},
		"another is dropped":  {func(s *specs.Spec) { s.Process.Capabilities = allSets(someCaps...) }, dropRaw, "CAP_SYS_ADMIN"},
		"none named":          {func(s *specs.Spec) { s.Process.Capabilities = nil }, ProcessFlags{}, "process.capabilities: it is missing"},
		"none named, dropped": {func(s *specs.Spec) { s.Process.Capabilities = nil }, ProcessFlags{DropCaps: []string{"CAP_SYS_ADMIN"}}, ""},
		"nothing masked":      {func(s *specs.Spec) { s.Linux.MaskedPaths = nil }, ProcessFlags{}, "linux.maskedPaths: /proc/acpi, /proc/kcore"},
		"one isn't":           {func(s *specs.Spec) { s.Linux.MaskedPaths[1] = "/proc/kcor" }, ProcessFlags{}, "linux.maskedPaths: /proc/kcore isn't masked"},
		"in another spelling": {func(s *specs.Spec) { s.Linux.MaskedPaths[1] = "//proc/./kcore/" }, ProcessFlags{}, ""},
		"behind a link":       {func(s *specs.Spec) { s.Linux.MaskedPaths[1] = "/link/../proc/kcore" }, ProcessFlags{}, "linux.maskedPaths[1]: /link/../proc/kcore"},
		"before the true one": {func(s *specs.Spec) {
			s.Linux.ReadonlyPaths = append([]string{"/link/../proc/sys"}, s.Linux.ReadonlyPaths...)
		}, ProcessFlags{}, "linux.readonlyPaths[0]: /link/"},
		"one above":         {func(s *specs.Spec) { s.Linux.MaskedPaths[1] = "/proc" }, ProcessFlags{}, ""},
		"nothing read-only": {func(s *specs.Spec) { s.Linux.ReadonlyPaths = nil }, ProcessFlags{}, "linux.readonlyPaths: /proc/bus"},
		"masked is read-only": {func(s *specs.Spec) {
			s.Linux.ReadonlyPaths[3] = "/x"
			s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/proc/sys")
		}, ProcessFlags{}, ""},
		"/sys can be written":    {func(s *specs.Spec) { s.Mounts[1].Options = []string{"rw"} }, ProcessFlags{}, "mounts[1]: /sys: sysfs that can be written"},
		"the last option counts": {func(s *specs.Spec) { s.Mounts[1].Options = []string{"ro", "rw"} }, ProcessFlags{}, "mounts[1]: /sys"},
		"but the recursive one":  {func(s *specs.Spec) { s.Mounts[1].Options = []string{"rrw", "ro"} }, ProcessFlags{}, "mounts[1]: /sys"},
		"and without an option":  {func(s *specs.Spec) { s.Mounts[1].Options = nil }, ProcessFlags{}, "mounts[1]: /sys"},
		"a second proc":          {func(s *specs.Spec) { s.Mounts[0].Destination = "/proc2" }, ProcessFlags{}, "mounts[0]: /proc2: another proc"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := plainSpec()
			tc.change(spec)
			wantRefusal(t, CheckPrivileged(spec, tc.flags), tc.want)
		})
	}
}

func TestCheckPrivilegedProcess(t *testing.T) {
	for _, tc := range []struct {
		caps  *specs.LinuxCapabilities
		flags ProcessFlags
		want  string
	}{
		{nil, ProcessFlags{}, ""}, // the container's
		{allSets("CAP_CHOWN"), ProcessFlags{}, ""},
		{allSets(someCaps...), ProcessFlags{}, "--process: capabilities.bounding: CAP_SYS_ADMIN"},
		{allSets(someCaps...), ProcessFlags{DropCaps: []string{"CAP_SYS_ADMIN"}}, ""},
	} {
		wantRefusal(t, CheckPrivilegedProcess("--process: capabilities", &specs.Process{Capabilities: tc.caps}, tc.flags), tc.want)
	}
}

func wantRefusal(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, expected %q", err, want)
	}
}
