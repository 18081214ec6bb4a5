// SPDX-License-Identifier: Apache-2.0

package registry

import "github.com/userns-runtime/userns-runtime/pkg/idmap"

// Software is a program that takes IDs by itself.
type Software string

// The software of [Allocators]. A caller may tell that it is installed by its
// program, such as systemd-nspawn or kubelet.
const (
	Systemd       Software = "systemd"
	SystemdNspawn Software = "systemd-nspawn"
	SystemdHomed  Software = "systemd-homed"
	Incus         Software = "incus"
	Kubelet       Software = "kubelet"
)

// Allocator is a range that software takes IDs from without asking the book.
type Allocator struct {
	Software Software
	Use      string
	Range    idmap.Range
}

// Allocators is the defaults that are known: those of systemd from
// https://systemd.io/UIDS-GIDS, Incus' from its documentation of idmaps (used
// where /etc/subuid has no line for root), kubelet's from KEP-127 (65536 IDs
// for each of 110 pods, above the host's own 65536).
func Allocators() []Allocator {
	return []Allocator{
		{SystemdHomed, "home directories", inclusive(60001, 60513)},
		{SystemdNspawn, "host users in containers", inclusive(60514, 60577)},
		{Systemd, "dynamic users of services", inclusive(61184, 65519)},
		{Kubelet, "pods", idmap.Range{Start: 65536, Count: 110 * 65536}},
		{SystemdNspawn, "containers", inclusive(0x00080000, 0x6fffffff)},
		{Incus, "containers", idmap.Range{Start: 1000000, Count: 1000000000}},
		{Systemd, "foreign files", inclusive(0x7ffe0000, 0x7ffeffff)},
	}
}

func inclusive(first, last uint32) idmap.Range {
	return idmap.Range{Start: first, Count: last - first + 1}
}
