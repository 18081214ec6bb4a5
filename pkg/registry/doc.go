// SPDX-License-Identifier: Apache-2.0

// Package registry reads the book, /etc/usernamespaces and its drop-ins, and
// answers two questions about it: may this holder map these IDs
// ([Grant.Permits]), and does the book contradict itself or the host ([Check]).
//
// A book is read whole or refused whole: one bad line in any of its files, or
// a file that somebody else than root could have written, refuses all of it.
//
// It holds no state, and writes one file on demand: [Edit] changes the book's own,
// and nothing else here writes. It doesn't know who is asking (the caller names the
// [Holder]), which ranges are in use by live containers (internal/lease), or how a
// flag is enforced.
package registry
