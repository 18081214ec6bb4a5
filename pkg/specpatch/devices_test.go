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

func numPtr(n int64) *int64 { return &n }

func idPtr(n uint32) *uint32 { return &n }

func TestKindOf(t *testing.T) {
	all := specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}
	none := specs.LinuxDeviceCgroup{Access: "rwm"}
	disk := specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8, Minor: 0}
	for name, tc := range map[string]struct {
		device specs.LinuxDevice
		rules  []specs.LinuxDeviceCgroup
		want   DeviceKind
	}{
		"--device":                     {disk, []specs.LinuxDeviceCgroup{none, {Allow: true, Type: "b", Major: numPtr(8), Minor: numPtr(0)}}, DeviceAsked},
		"one of a driver's":            {disk, []specs.LinuxDeviceCgroup{none, {Allow: true, Type: "b", Major: numPtr(8)}}, DeviceAsked},
		"one of a driver's, as Docker": {disk, []specs.LinuxDeviceCgroup{none, {Allow: true, Type: "b", Major: numPtr(8), Minor: numPtr(-1)}}, DeviceAsked},
		"unbuffered": {
			specs.LinuxDevice{Path: "/dev/x", Type: "u", Major: 9, Minor: 1},
			[]specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: numPtr(9), Minor: numPtr(1)}}, DeviceAsked,
		},
		"a FIFO":                    {specs.LinuxDevice{Path: "/f", Type: "p"}, nil, DeviceAsked},
		"--privileged":              {disk, []specs.LinuxDeviceCgroup{all}, DeviceHosts},
		"all, as Docker's rule":     {disk, []specs.LinuxDeviceCgroup{{Allow: true, Type: "b", Major: numPtr(-1), Minor: numPtr(-1)}}, DeviceHosts},
		"all, by type":              {disk, []specs.LinuxDeviceCgroup{{Allow: true, Type: "b"}}, DeviceHosts},
		"all to make, a driver's":   {disk, []specs.LinuxDeviceCgroup{{Allow: true, Type: "b", Access: "m"}, {Allow: true, Type: "b", Major: numPtr(8)}}, DeviceAsked},
		"all, and a driver's":       {disk, []specs.LinuxDeviceCgroup{all, {Allow: true, Type: "b", Major: numPtr(8)}}, DeviceHosts},
		"all, and its number":       {disk, []specs.LinuxDeviceCgroup{all, {Allow: true, Type: "b", Major: numPtr(8), Minor: numPtr(0)}}, DeviceAsked},
		"denied":                    {disk, []specs.LinuxDeviceCgroup{{Type: "b", Major: numPtr(8), Minor: numPtr(0)}}, DeviceHosts},
		"of another type":           {disk, []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: numPtr(8), Minor: numPtr(0)}}, DeviceHosts},
		"another one":               {disk, []specs.LinuxDeviceCgroup{{Allow: true, Type: "b", Major: numPtr(8), Minor: numPtr(1)}}, DeviceHosts},
		"no rules":                  {disk, nil, DeviceHosts},
		"of every container":        {specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, nil, DeviceDefault},
		"of devpts":                 {specs.LinuxDevice{Path: "/dev//ptmx", Type: "c", Major: 5, Minor: 2}, nil, DeviceDefault},
		"another under such a name": {specs.LinuxDevice{Path: "/dev/null", Type: "b", Major: 1, Minor: 3}, nil, DeviceHosts},
	} {
		l := &specs.Linux{Resources: &specs.LinuxResources{Devices: tc.rules}}
		if got := KindOf(l, tc.device); got != tc.want {
			t.Errorf("%s: got %d, expected %d", name, got, tc.want)
		}
	}
	if got := KindOf(&specs.Linux{}, disk); got != DeviceHosts {
		t.Errorf("without resources: got %d", got)
	}
}

func deviceSpec() *specs.Spec {
	spec := engineSpec()
	spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
		{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, UID: idPtr(5), GID: idPtr(6)},
		{Path: "/dev/gone", Type: "b", Major: 9, Minor: 9},
		{Path: "/dev/sda", Type: "b", Major: 8, Minor: 0},
	}
	spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: numPtr(10), Minor: numPtr(229)}}}
	return spec
}

func TestApplyDevices(t *testing.T) {
	plan := enginePlan
	plan.Devices = map[int]string{1: "/stage/dev/1", 2: ""}
	for name, mounts := range map[string][]specs.Mount{"beside mounts": engineSpec().Mounts, "alone": nil} {
		before := deviceSpec()
		before.Mounts = mounts
		spec, changes, err := Apply(before, plan)
		if err != nil {
			t.Fatal(err)
		}
		if want := slices.Concat(mounts, []specs.Mount{{Destination: "/dev/fuse", Type: "bind", Source: "/stage/dev/1", Options: []string{"bind"}}}); !reflect.DeepEqual(spec.Mounts, want) {
			t.Errorf("%s: mounts: got %+v, expected %+v", name, spec.Mounts, want)
		}
		if want := []specs.LinuxDevice{before.Linux.Devices[0], before.Linux.Devices[3]}; !reflect.DeepEqual(spec.Linux.Devices, want) {
			t.Errorf("%s: devices: got %+v, expected %+v", name, spec.Linux.Devices, want)
		}
		if len(before.Linux.Devices) != 4 {
			t.Errorf("%s: the specification that went in was changed", name)
		}
		at := strings.Join(paths(changes), " ")
		if !strings.Contains(at, "linux.devices.2 linux.devices.1 ") {
			t.Errorf("%s: changes at %s: expected those of devices from the last one on", name, at)
		}
	}
}

func TestApplyRefusesOwnersOfDevices(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*specs.LinuxDevice)
		want   string
	}{
		"within":        {func(*specs.LinuxDevice) {}, ""},
		"root's":        {func(d *specs.LinuxDevice) { d.UID, d.GID = nil, nil }, ""},
		"UID outside":   {func(d *specs.LinuxDevice) { d.UID = idPtr(65536) }, "linux.devices[1]: /dev/fuse: uid: 65536"},
		"GID outside":   {func(d *specs.LinuxDevice) { d.GID = idPtr(70000) }, "linux.devices[1]: /dev/fuse: gid: 70000"},
		"not asked for": {func(d *specs.LinuxDevice) { d.Minor, d.GID = 1, idPtr(70000) }, ""},
	} {
		spec := deviceSpec()
		tc.change(&spec.Linux.Devices[1])
		_, _, err := Apply(spec, enginePlan)
		if tc.want == "" && err != nil || tc.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, expected %q", name, err, tc.want)
		}
		plan := enginePlan
		plan.Rootless = true
		if err := checkDevices(spec, plan); err != nil {
			t.Errorf("%s, rootless: %v", name, err)
		}
	}
}

func TestApplyHostsFilesystems(t *testing.T) {
	spec := engineSpec()
	spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	spec.Mounts[0].Options = []string{"nosuid", "hidepid=2", "noexec"}
	plan := enginePlan
	plan.Hosts = map[int]string{0: "/stage/hosts-0", 2: "/stage/hosts-2"}
	for i, want := range []string{"proc", "", "mqueue", ""} {
		if got := HostsFilesystem(spec, spec.Mounts[i]); got != want {
			t.Errorf("mounts[%d]: got %q, expected %q", i, got, want)
		}
		if got := HostsFilesystem(engineSpec(), spec.Mounts[i]); got != "" {
			t.Errorf("mounts[%d], of a container with its own: got %q", i, got)
		}
	}
	got, _, err := Apply(spec, plan)
	if err != nil {
		t.Fatal(err)
	}
	if want := (specs.Mount{Destination: "/proc", Type: "bind", Source: "/stage/hosts-0", Options: []string{"rbind", "nosuid", "noexec"}}); !reflect.DeepEqual(got.Mounts[0], want) {
		t.Errorf("got %+v, expected %+v", got.Mounts[0], want)
	}
	if want := (specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/stage/hosts-2", Options: []string{"rbind"}}); !reflect.DeepEqual(got.Mounts[2], want) {
		t.Errorf("got %+v, expected %+v", got.Mounts[2], want)
	}
}
