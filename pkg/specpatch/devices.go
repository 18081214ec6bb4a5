// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"path"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// DefaultDevices is the nodes that every container has (runtime-spec
// config-linux.md, "Default Devices"): their major and minor numbers.
var DefaultDevices = map[string][2]int64{
	"/dev/null": {1, 3}, "/dev/zero": {1, 5}, "/dev/full": {1, 7},
	"/dev/random": {1, 8}, "/dev/urandom": {1, 9}, "/dev/tty": {5, 0},
}

// IsDefaultDevice says whether a device of a specification is one of [DefaultDevices].
func IsDefaultDevice(d specs.LinuxDevice) bool {
	numbers, ok := DefaultDevices[d.Path]
	return ok && d.Type == "c" && numbers == [2]int64{d.Major, d.Minor}
}

// DeviceKind is whose a device of a specification is to be.
type DeviceKind int

const (
	// DeviceDefault is one that every container has, or that the low-level runtime makes in its
	// own way.
	DeviceDefault DeviceKind = iota
	// DeviceAsked is one that somebody has asked for: the device cgroup has a rule for its very
	// number, or for all of its driver's and not for all there are. It is the container's, with the
	// owner and mode that it is to have inside.
	DeviceAsked
	// DeviceHosts is there since all devices are (--privileged). It stays the host's: were root
	// inside its owner, they would have the host's disks.
	DeviceHosts
)

// KindOf says whose a device is to be.
func KindOf(l *specs.Linux, d specs.LinuxDevice) DeviceKind {
	switch {
	case IsDefaultDevice(d), path.Clean(d.Path) == "/dev/ptmx": // a link into the container's own devpts
		return DeviceDefault
	case d.Type == "p": // a FIFO is nobody's but its maker's
		return DeviceAsked
	case l.Resources == nil:
		return DeviceHosts
	}
	rules := l.Resources.Devices
	// Beside such a rule all devices are there, and one for a driver's says nothing of whom it is about.
	all := slices.ContainsFunc(rules, func(r specs.LinuxDeviceCgroup) bool {
		return r.Allow && r.Access != "m" && anyNumber(r.Major) && anyNumber(r.Minor)
	})
	asked := slices.ContainsFunc(rules, func(r specs.LinuxDeviceCgroup) bool {
		return r.Allow && ruleType(r.Type) == ruleType(d.Type) && r.Major != nil && *r.Major == d.Major &&
			(anyNumber(r.Minor) && !all || r.Minor != nil && *r.Minor == d.Minor)
	})
	if asked {
		return DeviceAsked
	}
	return DeviceHosts
}

// ruleType is the type of a device as the device cgroup has it, to which an unbuffered
// character device is one like others.
func ruleType(kind string) string {
	if kind == "u" {
		return "c"
	}
	return kind
}

// DeviceOwner is the owner that a device is to have inside.
func DeviceOwner(d specs.LinuxDevice) (uid, gid uint32) {
	if d.UID != nil {
		uid = *d.UID
	}
	if d.GID != nil {
		gid = *d.GID
	}
	return uid, gid
}

// checkDevices refuses devices that can't be made, or whose owner doesn't exist in the
// namespace.
func checkDevices(spec *specs.Spec, plan Plan) error {
	if spec.Linux == nil || plan.Rootless {
		return nil // a caller without privilege gets the host's nodes, as they are
	}
	var found findings
	for i, d := range spec.Linux.Devices {
		field := "linux.devices[" + strconv.Itoa(i) + "]"
		if !slices.Contains([]string{"c", "b", "u", "p"}, d.Type) {
			found.refuse("%s: %s: type %q: expected c, b, u or p", field, d.Path, d.Type)
			continue
		}
		if !path.IsAbs(d.Path) {
			found.refuse("%s: path %q: expected an absolute path", field, d.Path)
		}
		if KindOf(spec.Linux, d) != DeviceAsked {
			continue
		}
		uid, gid := DeviceOwner(d)
		for _, it := range []struct {
			name string
			id   uint32
			m    idmap.Map
		}{{"uid", uid, plan.UIDs}, {"gid", gid, plan.GIDs}} {
			if _, ok := it.m.ToOuter(it.id); !ok {
				found.unmapped(field+": "+d.Path+": "+it.name, it.id, it.m)
			}
		}
	}
	return found.join()
}

// devices makes bind mounts of what was staged: in a user namespace the low-level runtime
// binds what the host has at a device's path, which may be another one, or none.
func (p *patcher) devices() {
	linux := p.spec.Linux
	if len(p.plan.Devices) == 0 {
		return
	}
	kept := []specs.LinuxDevice{}
	var made []specs.Mount
	for i, d := range linux.Devices {
		staged, ok := p.plan.Devices[i]
		switch {
		case !ok:
			kept = append(kept, d)
		case staged != "":
			made = append(made, specs.Mount{Destination: d.Path, Type: "bind", Source: staged, Options: []string{"bind"}})
		}
	}
	for i := len(linux.Devices) - 1; i >= 0; i-- { // from the end, so that the numbers stay true
		if staged, ok := p.plan.Devices[i]; ok {
			why := "its node is mounted there, with the owner that it is to have inside"
			if staged == "" {
				why = "the host's node can't be bound in"
			}
			p.change(linux.Devices[i], nil, why, "linux", "devices", strconv.Itoa(i))
		}
	}
	linux.Devices = kept
	if len(made) == 0 {
		return
	}
	const why = "the node of a device is mounted there"
	if len(p.spec.Mounts) == 0 {
		p.change(nil, made, why, "mounts")
	} else {
		for _, m := range made {
			p.change(nil, m, why, "mounts", "-")
		}
	}
	p.spec.Mounts = append(slices.Clone(p.spec.Mounts), made...)
}
