// SPDX-License-Identifier: Apache-2.0

// Package idmap holds the arithmetic of user and group ID mappings: ranges of
// IDs, sets of ranges, and maps from the IDs inside a user namespace to the
// IDs outside of it.
//
// The words are those of user_namespaces(7) and util-linux: an extent maps
// count IDs from inner to outer. Ranges are printed half-open, [100000-165536),
// as newuidmap does.
//
// It is pure. It doesn't know who owns a range (pkg/registry), what the kernel
// will accept beyond the form of a map (pkg/delegate), or what a file holds.
// An empty [Map] maps nothing; it never stands for the identity.
package idmap
