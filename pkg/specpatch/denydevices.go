// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// HostDevices is what of a specification is about devices of the host.
type HostDevices struct {
	Nodes    []specs.LinuxDevice       // linux.devices
	Rules    []specs.LinuxDeviceCgroup // linux.resources.devices
	Networks []string                  // the names in linux.netDevices
}

// ordinary is the character devices that engines allow every container, as major and minor number: those of
// [DefaultDevices], the console, and pseudo terminals. A minor number of -1 is any.
var ordinary = [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}}

// CheckHostDevices refuses all devices but those that every container has. A rule that only lets nodes be
// made doesn't count: in a user namespace nobody can make one. The error wraps [ErrRefused] for each.
func CheckHostDevices(d HostDevices) error {
	var found findings
	for i, node := range d.Nodes {
		if !IsDefaultDevice(node) {
			found.refuse("linux.devices[%d]: %s (--device, --privileged): leave it out", i, node.Path)
		}
	}
	for i, rule := range d.Rules {
		if rule.Allow && rule.Access != "m" && !isOrdinary(rule) {
			found.refuse("linux.resources.devices[%d]: allows %s %s:%s %s, which isn't a device that every container has (--device, --device-cgroup-rule, --privileged): leave it out",
				i, or(rule.Type, "a"), number(rule.Major), number(rule.Minor), rule.Access)
		}
	}
	for _, name := range d.Networks {
		found.refuse("linux.netDevices: %s: a network interface of the host: leave it out", name)
	}
	return found.join()
}

func isOrdinary(rule specs.LinuxDeviceCgroup) bool {
	if rule.Type != "c" || rule.Major == nil {
		return false
	}
	for _, o := range ordinary {
		if *rule.Major == o[0] && (o[1] < 0 || rule.Minor != nil && *rule.Minor == o[1]) {
			return true
		}
	}
	return false
}

// anyNumber says of a rule's number that it is for all: there is none, or it is -1, as runc writes it. The kernel has
// no others below 0, and what runc makes of one is an error.
func anyNumber(n *int64) bool { return n == nil || *n < 0 }

// number is one of a rule's as the kernel writes it.
func number(n *int64) string {
	if anyNumber(n) {
		return "*"
	}
	return strconv.FormatInt(*n, 10)
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
