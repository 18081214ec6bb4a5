// SPDX-License-Identifier: Apache-2.0

// Package chown changes the owners in a directory, on disk, to those that a container's
// user namespace has outside, and back: for root filesystems on which the kernel can't
// show other owners than there are. What it is about to do is in a journal before it is
// done, so that it can be undone from wherever it was ended.
//
// It doesn't know whose container it is, nor whether that has ended (internal/lease), and
// never leaves the filesystem of the directory that it was given.
package chown
