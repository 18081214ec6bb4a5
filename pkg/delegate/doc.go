// SPDX-License-Identifier: Apache-2.0

// Package delegate hands a range of IDs over: it creates the user namespace
// that maps it, and reads the maps of a namespace that is there already.
//
// It writes what it is told. Whether the caller may have the range is decided
// before, by registry.Grant.Permits; files aren't shifted here (internal/rootfs).
package delegate
