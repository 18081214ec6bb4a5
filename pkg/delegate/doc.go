// SPDX-License-Identifier: Apache-2.0

// Package delegate hands a range of IDs over. It identifies who asks ([Identify]),
// creates the user namespace that maps the range ([Create]), writes the maps of one
// that another process of the caller's has made ([Process]), keeps one without a
// process in it ([Pin]), takes hold of one to be entered ([Target]), and reads what a
// namespace is that is there already ([Look]).
//
// It writes what it is told, where it is allowed to be written. Whether the caller may
// have the range is decided before, by registry.Grant.Permits; only a pin is judged here each
// time it is opened, since it outlives what was decided. Nothing here becomes another
// program: who enters a [Target] does that (cmd/userns). Files aren't shifted
// (internal/rootfs), and who else has the IDs isn't known (internal/lease).
package delegate
