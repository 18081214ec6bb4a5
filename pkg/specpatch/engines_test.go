// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// What engines ask for, beyond a bundle that runc spec wrote.

var enginePlan = Plan{
	UIDs:   idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}},
	GIDs:   idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}},
	UserNS: "/stage/userns", Rootfs: "/stage/rootfs",
}

func engineSpec() *specs.Spec {
	return &specs.Spec{
		Process: &specs.Process{},
		Root:    &specs.Root{Path: "/engine/merged"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "rw"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue"},
			{Destination: "/v", Type: "bind", Source: "/engine/volume", Options: []string{"rbind", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.NetworkNamespace, Path: "/run/netns/x"},
			},
			Sysctl: map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "8192", "net/ipv4/ping_group_range": "0 2147483647"},
		},
	}
}

func TestApplyReplacesWhatIsStaged(t *testing.T) {
	plan := enginePlan
	plan.Binds = map[int]string{3: "/stage/binds/3"}
	plan.Joined = map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "/stage/ns-network"}
	plan.Sysfs, plan.NetSysctls = "/stage/sysfs", true
	before := engineSpec()
	spec, changes, err := Apply(before, plan)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, engineSpec()) {
		t.Error("the specification that went in was changed")
	}
	want := engineSpec()
	want.Root.Path = plan.Rootfs
	want.Mounts[1] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/stage/sysfs", Options: []string{"rbind", "ro", "nosuid"}}
	want.Mounts[3].Source = "/stage/binds/3"
	want.Linux.Namespaces[3].Path = "/stage/ns-network"
	want.Linux.Namespaces = append(want.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: plan.UserNS})
	want.Linux.Sysctl = map[string]string{"kernel.msgmax": "8192"}
	if !reflect.DeepEqual(spec, want) {
		t.Errorf("got  %+v %+v\nwant %+v %+v", spec, spec.Linux, want, want.Linux)
	}
	for _, change := range changes {
		if change.Why == "" || reflect.DeepEqual(change.Before, change.After) {
			t.Errorf("a change of nothing, or without a reason: %+v", change)
		}
	}
}

func TestApplyClampsPingGroups(t *testing.T) {
	for value, want := range map[string]string{
		"0 2147483647": "0 65535", "0\t2147483647": "0 65535", "5 100000": "5 65535",
		"0 0": "0 0", "1 0": "1 0", "70000 80000": "70000 80000", "nonsense": "nonsense", "0 -1": "0 -1",
	} {
		spec := engineSpec()
		spec.Linux.Sysctl = map[string]string{PingGroupRange: value}
		got, changes, err := Apply(spec, enginePlan)
		if err != nil || got.Linux.Sysctl[PingGroupRange] != want {
			t.Errorf("%q: got %q %v, expected %q", value, got.Linux.Sysctl[PingGroupRange], err, want)
		}
		changed := false
		for _, change := range changes {
			changed = changed || strings.Join(change.Path, " ") == "linux sysctl "+PingGroupRange
		}
		if changed != (want != value) {
			t.Errorf("%q: listed as changed: %v", value, changed)
		}
	}
}

// Docker gives a domain name as a sysctl, which root inside can't write.
func TestApplyDomainname(t *testing.T) {
	const key = "kernel.domainname"
	for name, tc := range map[string]struct {
		uts  []specs.LinuxNamespace
		had  string
		want string // the domain name in the end
		kept bool   // the sysctl
	}{
		"its own":               {[]specs.LinuxNamespace{{Type: specs.UTSNamespace}}, "", "example.org", false},
		"another one was asked": {[]specs.LinuxNamespace{{Type: specs.UTSNamespace}}, "x", "x", true},
		"the host's":            {nil, "", "", true},
		"another container's":   {[]specs.LinuxNamespace{{Type: specs.UTSNamespace, Path: "/proc/7/ns/uts"}}, "", "", true},
	} {
		spec := engineSpec()
		spec.Domainname = tc.had
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, tc.uts...)
		spec.Linux.Sysctl = map[string]string{key: "example.org"}
		got, _, err := Apply(spec, enginePlan)
		if err != nil {
			t.Fatal(err)
		}
		if _, kept := got.Linux.Sysctl[key]; got.Domainname != tc.want || kept != tc.kept {
			t.Errorf("%s: got %q, sysctl kept: %v", name, got.Domainname, kept)
		}
	}
}

func TestClampPingGroups(t *testing.T) {
	two := idmap.Map{{Inner: 0, Outer: 5000, Count: 10}, {Inner: 100, Outer: 9000, Count: 10}}
	for value, want := range map[string][2]uint32{"0 50": {0, 9}, "0 105": {0, 105}, "0 200": {0, 109}, "3 3": {3, 3}, "101 4000000000": {101, 109}} {
		if low, high, ok := ClampPingGroups(value, two); !ok || low != want[0] || high != want[1] {
			t.Errorf("%q: got %d %d %v", value, low, high, ok)
		}
	}
	for _, value := range []string{"", "0", "1 0", "50 60", "0 4294967296", "-1 5", "0 5 6"} {
		if low, high, ok := ClampPingGroups(value, two); ok {
			t.Errorf("%q: got %d %d", value, low, high)
		}
	}
}

func TestApplyRefusesWhatIsTheHosts(t *testing.T) {
	mode := func(change func(*specs.Spec)) *specs.Spec {
		spec := engineSpec()
		change(spec)
		return spec
	}
	drop := func(kind specs.LinuxNamespaceType) func(*specs.Spec) {
		return func(spec *specs.Spec) {
			var kept []specs.LinuxNamespace
			for _, ns := range spec.Linux.Namespaces {
				if ns.Type != kind {
					kept = append(kept, ns)
				}
			}
			spec.Linux.Namespaces = kept
		}
	}
	device := func(path, kind string, major, minor int64) func(*specs.Spec) {
		return func(spec *specs.Spec) {
			spec.Linux.Devices = append(spec.Linux.Devices, specs.LinuxDevice{Path: path, Type: kind, Major: major, Minor: minor})
		}
	}
	option := func(i int, option string) func(*specs.Spec) {
		return func(spec *specs.Spec) { spec.Mounts[i].Options = append(spec.Mounts[i].Options, option) }
	}
	both := func(one, two func(*specs.Spec)) func(*specs.Spec) {
		return func(spec *specs.Spec) { one(spec); two(spec) }
	}
	for name, tc := range map[string]struct {
		spec *specs.Spec
		want string
	}{
		"--network=host":              {mode(drop(specs.NetworkNamespace)), ""},
		"the six of every container":  {mode(device("/dev/null", "c", 1, 3)), ""},
		"a device of no kind":         {mode(device("/dev/x", "q", 1, 3)), `/dev/x: type "q"`},
		"a device without a place":    {mode(device("x", "c", 1, 3)), `path "x"`},
		"proc with an ID of the host": {mode(both(drop(specs.PIDNamespace), option(0, "gid=5"))), `/proc: option "gid=5"`},
		"mqueue with an option":       {mode(both(drop(specs.IPCNamespace), option(2, "x=y"))), `/dev/mqueue: option "x=y"`},
		"proc's own options":          {mode(both(drop(specs.PIDNamespace), option(0, "hidepid=2"))), ""},
		"an overlay as a volume": {mode(func(spec *specs.Spec) {
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/o", Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b"}})
		}), "/o: an overlay"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Apply(tc.spec, enginePlan)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, expected %q", err, tc.want)
			}
		})
	}
	// Bound from the host they are mounts like any other.
	spec := mode(drop(specs.PIDNamespace))
	spec.Mounts[0] = specs.Mount{Destination: "/proc", Type: "proc", Source: "/proc", Options: []string{"rbind"}}
	if _, _, err := Apply(spec, enginePlan); err != nil {
		t.Errorf("a bind of /proc: %v", err)
	}
}
