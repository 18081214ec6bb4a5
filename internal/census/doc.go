// SPDX-License-Identifier: Apache-2.0

// Package census is what is known of a host's ID space: the accounts, /etc/subuid
// and /etc/subgid, which of the known allocators are installed, the user namespaces
// that are alive, and the ranges that containers hold (internal/lease). It is held
// against a book (pkg/registry), which the caller brings: where is place for a new
// line, and what does a change of the book collide with.
//
// It writes nothing, and doesn't speak. What it knows is of the moment it was taken:
// a caller who is going to write the book takes it inside of [registry.Edit].
package census
