// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func testPlan() Plan {
	m := idmap.Map{{Inner: 0, Outer: 100000, Count: 1000}}
	return Plan{UIDs: m, GIDs: m, UserNS: "/run/ns", Rootfs: "/run/rootfs", Record: "{}"}
}

func testSpec() *specs.Spec {
	return &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{Args: []string{"true"}, User: specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{3, 4}}},
		Root:    &specs.Root{Path: "rootfs", Readonly: true},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}},
	}
}

func paths(changes []Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, strings.Join(c.Path, "."))
	}
	return out
}

func TestApply(t *testing.T) {
	mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 1000}}
	for name, tc := range map[string]struct {
		spec    func(*specs.Spec)
		plan    func(*Plan)
		changes []string
		check   func(*specs.Spec) bool
	}{
		"plain": {
			changes: []string{"linux.namespaces.-", "root.path", "annotations.io.userns-runtime.record"},
			check: func(s *specs.Spec) bool {
				return s.Linux.Namespaces[2] == specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/run/ns"} &&
					s.Root.Path == "/run/rootfs" && s.Root.Readonly && s.Annotations[RecordAnnotation] == "{}" &&
					!s.Process.NoNewPrivileges && len(s.Process.User.AdditionalGids) == 2
			},
		},
		"rootless": {
			spec: func(s *specs.Spec) {
				s.Mounts = []specs.Mount{{Destination: "/d", Type: "bind", Source: "data", Options: []string{"rbind"}}, {Destination: "/sys", Type: "sysfs", Source: "sysfs"}}
			},
			plan: func(p *Plan) {
				p.Rootless, p.UserNS, p.Rootfs, p.Sysfs, p.Binds = true, "", "/bundle/rootfs", "/sys", map[int]string{0: "/bundle/data"}
			},
			changes: []string{
				"linux.namespaces.-", "linux.uidMappings", "linux.gidMappings", "root.path", "mounts.0.source",
				"mounts.1.type", "mounts.1.source", "mounts.1.options", "annotations.io.userns-runtime.record",
			},
			check: func(s *specs.Spec) bool {
				return s.Linux.Namespaces[2] == specs.LinuxNamespace{Type: specs.UserNamespace} && slices.Equal(s.Linux.UIDMappings, mapping) &&
					slices.Equal(s.Linux.GIDMappings, mapping) && s.Root.Path == "/bundle/rootfs" && s.Mounts[0].Source == "/bundle/data" && s.Mounts[1].Source == "/sys"
			},
		},
		"rootless, as the bundle says already": {
			spec: func(s *specs.Spec) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
				s.Linux.UIDMappings, s.Linux.GIDMappings, s.Root.Path = mapping, mapping, "/bundle/rootfs"
			},
			plan:    func(p *Plan) { p.Rootless, p.UserNS, p.Rootfs, p.Record = true, "", "/bundle/rootfs", "" },
			changes: nil,
			check:   func(s *specs.Spec) bool { return slices.Equal(s.Linux.UIDMappings, mapping) },
		},
		"user namespace there": {
			spec: func(s *specs.Spec) {
				s.Linux.Namespaces = append([]specs.LinuxNamespace{{Type: specs.UserNamespace}}, s.Linux.Namespaces...)
			},
			changes: []string{"linux.namespaces.0.path", "root.path", "annotations.io.userns-runtime.record"},
			check: func(s *specs.Spec) bool {
				return s.Linux.Namespaces[0].Path == "/run/ns" && len(s.Linux.Namespaces) == 3
			},
		},
		"maps there": {
			spec: func(s *specs.Spec) {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/7/ns/user"})
				s.Linux.UIDMappings, s.Linux.GIDMappings = mapping, mapping
			},
			changes: []string{"linux.namespaces.2.path", "linux.uidMappings", "linux.gidMappings", "root.path", "annotations.io.userns-runtime.record"},
			check:   func(s *specs.Spec) bool { return s.Linux.UIDMappings == nil && s.Linux.GIDMappings == nil },
		},
		"maps kept for a low-level runtime that wants them": {
			plan:    func(p *Plan) { p.KeepMaps = true },
			changes: []string{"linux.namespaces.-", "linux.uidMappings", "linux.gidMappings", "root.path", "annotations.io.userns-runtime.record"},
			check: func(s *specs.Spec) bool {
				return s.Linux.Namespaces[2].Path == "/run/ns" && slices.Equal(s.Linux.UIDMappings, mapping) && slices.Equal(s.Linux.GIDMappings, mapping)
			},
		},
		"every flag": {
			plan:    func(p *Plan) { p.DenySetgroups, p.NoNewPrivs = true, true },
			changes: []string{"linux.namespaces.-", "root.path", "process.noNewPrivileges", "process.user.additionalGids", "annotations.io.userns-runtime.record"},
			check:   func(s *specs.Spec) bool { return s.Process.NoNewPrivileges && s.Process.User.AdditionalGids == nil },
		},
		"flags that hold already": {
			spec:    func(s *specs.Spec) { s.Process.NoNewPrivileges, s.Process.User.AdditionalGids = true, nil },
			plan:    func(p *Plan) { p.DenySetgroups, p.NoNewPrivs = true, true },
			changes: []string{"linux.namespaces.-", "root.path", "process.noNewPrivileges", "annotations.io.userns-runtime.record"},
			check:   func(s *specs.Spec) bool { return s.Process.NoNewPrivileges },
		},
		"unmapped groups that are dropped": {
			spec:    func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{70000} },
			plan:    func(p *Plan) { p.DenySetgroups = true },
			changes: []string{"linux.namespaces.-", "root.path", "process.user.additionalGids", "annotations.io.userns-runtime.record"},
			check:   func(s *specs.Spec) bool { return s.Process.User.AdditionalGids == nil },
		},
		"no process, annotations kept": {
			spec:    func(s *specs.Spec) { s.Process = nil; s.Annotations = map[string]string{"a": "b"} },
			plan:    func(p *Plan) { p.NoNewPrivs = true },
			changes: []string{"linux.namespaces.-", "root.path", "annotations.io.userns-runtime.record"},
			check:   func(s *specs.Spec) bool { return s.Annotations["a"] == "b" && s.Process == nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec, plan := testSpec(), testPlan()
			if tc.spec != nil {
				tc.spec(spec)
			}
			if tc.plan != nil {
				tc.plan(&plan)
			}
			before, err := json.Marshal(spec)
			if err != nil {
				t.Fatal(err)
			}
			got, changes, err := Apply(spec, plan)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(paths(changes), tc.changes) {
				t.Errorf("changes %v, expected %v", paths(changes), tc.changes)
			}
			for _, c := range changes {
				if c.Why == "" {
					t.Errorf("%v has no reason", c.Path)
				}
			}
			if !tc.check(got) {
				t.Errorf("got %+v", got)
			}
			if after, err := json.Marshal(spec); err != nil || string(after) != string(before) {
				t.Errorf("the given specification was changed to %s %v", after, err)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	ns := func(s *specs.Spec, types ...specs.LinuxNamespace) { s.Linux.Namespaces = types }
	for name, tc := range map[string]struct {
		spec     func(*specs.Spec)
		messages []string
	}{
		"no linux":           {func(s *specs.Spec) { s.Linux = nil }, []string{"linux: it is missing"}},
		"no root":            {func(s *specs.Spec) { s.Root = nil }, []string{"root: it is missing"}},
		"no mount namespace": {func(s *specs.Spec) { ns(s, specs.LinuxNamespace{Type: specs.PIDNamespace}) }, []string{`add {"type": "mount"}`}},
		"mount namespace of another": {
			func(s *specs.Spec) { ns(s, specs.LinuxNamespace{Type: specs.MountNamespace, Path: "/proc/1/ns/mnt"}) },
			[]string{"/proc/1/ns/mnt", "linux.namespaces[0].path"},
		},
		"namespace twice": {
			func(s *specs.Spec) {
				ns(s, specs.LinuxNamespace{Type: specs.MountNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/x"})
			}, []string{"linux.namespaces[2]", `"user" is there twice`},
		},
		"maps alone": {
			func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} },
			[]string{`add {"type": "user"}`},
		},
		"shifted mount": {
			func(s *specs.Spec) {
				s.Mounts = []specs.Mount{{Destination: "/a"}, {Destination: "/b", UIDMappings: []specs.LinuxIDMapping{{Size: 1}}}}
			}, []string{"mounts[1]: /b"},
		},
		"shifted mount by option": {
			func(s *specs.Spec) {
				s.Mounts = []specs.Mount{{Destination: "/a", Options: []string{"ro", "ridmap"}}, {Destination: "/b", Options: []string{"idmap"}}, {Destination: "/c", Options: []string{"idmap=uids=0-0-1"}}}
			}, []string{`mounts[0]: /a: option "ridmap"`, `mounts[1]: /b: option "idmap"`, `mounts[2]: /c: option "idmap=uids=0-0-1"`},
		},
		"filesystem of an unmapped ID": {
			func(s *specs.Spec) {
				s.Mounts = []specs.Mount{
					{Destination: "/dev/pts", Type: "devpts", Options: []string{"newinstance", "gid=1000"}},
					{Destination: "/t", Type: "tmpfs", Options: []string{"uid=1001", "gid=999"}},
					{Destination: "/b", Type: "bind", Options: []string{"uid=5000"}},
				}
			}, []string{"mounts[0]: /dev/pts: option gid=1000: 1000", "mounts[1]: /t: option uid=1001: 1001"},
		},
		"unmapped IDs, all at once": {
			func(s *specs.Spec) {
				s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{0, 1002}}
			},
			[]string{"process.user.uid: 1000", "process.user.gid: 1001", "process.user.additionalGids[1]: 1002", "[0-1000)", "N above 1000"},
		},
		"our annotation, parted elsewhere": {
			func(s *specs.Spec) { s.Annotations = map[string]string{RecordAnnotation + `={"a`: `b"}`} }, []string{"annotations", "another one"},
		},
		"CRIU's configuration": {func(s *specs.Spec) { s.Annotations = map[string]string{"org.criu.config": "/x"} }, []string{"annotations", "/etc/criu/runc.conf"}},
		"runc's label":         {func(s *specs.Spec) { s.Annotations = map[string]string{"bundle": "/elsewhere"} }, []string{"annotations", "another one"}},
		"our annotation":       {func(s *specs.Spec) { s.Annotations = map[string]string{RecordAnnotation: ""} }, []string{"annotations", "may not bring it"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := testSpec()
			tc.spec(spec)
			got, changes, err := Apply(spec, testPlan())
			if !errors.Is(err, ErrRefused) || got != nil || changes != nil {
				t.Fatalf("got %v %v %v", got, changes, err)
			}
			for _, message := range tc.messages {
				if !strings.Contains(err.Error(), message) {
					t.Errorf("%q isn't in %q", message, err)
				}
			}
		})
	}
}

// A bundle may be wrong in a million places; the error stays readable.
func TestApplyRefusesBriefly(t *testing.T) {
	spec := testSpec()
	spec.Process.User.AdditionalGids = make([]uint32, 1000000)
	for i := range spec.Process.User.AdditionalGids {
		spec.Process.User.AdditionalGids[i] = 5000
	}
	_, _, err := Apply(spec, testPlan())
	if err == nil || len(err.Error()) > 4096 || !strings.Contains(err.Error(), "and 999992 more") {
		t.Fatalf("got %.5000v", err)
	}
}

// The last ID of the container is one of its own.
func TestUserAtTheEdge(t *testing.T) {
	spec := testSpec()
	spec.Process.User = specs.User{UID: 999, GID: 999, AdditionalGids: []uint32{0, 999}}
	if _, _, err := Apply(spec, testPlan()); err != nil {
		t.Fatal(err)
	}
}

func TestApplyProcess(t *testing.T) {
	process := &specs.Process{User: specs.User{AdditionalGids: []uint32{}}}
	changes := ApplyProcess(process, ProcessFlags{DenySetgroups: true, NoNewPrivs: true})
	if got := paths(changes); !reflect.DeepEqual(got, []string{"noNewPrivileges", "user.additionalGids"}) {
		t.Fatalf("got %v", got)
	}
	if !process.NoNewPrivileges || process.User.AdditionalGids != nil {
		t.Fatalf("got %+v", process)
	}
	// A reader for whom "NoNewPrivileges" is another name gets the right one.
	if changes := ApplyProcess(process, ProcessFlags{DenySetgroups: true, NoNewPrivs: true}); len(changes) != 1 || changes[0].After != true {
		t.Fatalf("again: got %v", changes)
	}
	if changes := ApplyProcess(process, ProcessFlags{}); changes != nil {
		t.Fatalf("no flags: got %v", changes)
	}
}
