// SPDX-License-Identifier: Apache-2.0

// Package rootfile reads files and directories that decide what root will do,
// and refuses those that somebody else than host root could have written.
// What was judged is what is read: a file is held by its descriptor from the
// first look to the last byte.
//
// It judges the last name of a path alone. The directories above are their
// owners' business, as they are for every file in /etc. It doesn't know what
// the files hold, or as which UID host root shows in this process's user
// namespace: the caller computes that from [OwnUIDMap] (pkg/idmap, RootAs).
//
// Nothing here uses [os.File], which would set up its poller for a few small
// files on the way of every container that starts.
//
// Errors are "PATH: what was seen: expected what: the command that mends it",
// in one line; the caller puts its noun before them.
package rootfile
