// SPDX-License-Identifier: Apache-2.0

// Package lockedfile changes one small file of root's, such as
// /etc/usernamespaces, from what it is to what it shall be: it is locked, read,
// changed, written beside itself, flushed to disk and renamed, so that a reader
// sees all of the old content or all of the new at any instant, and no edit of
// two at once is lost.
//
// For a file PATH it uses, all in PATH's directory:
//
//   - PATH.lock, mode 0600, held by flock(2) and removed at the end;
//   - PATH-, the content before the last change, as shadow(5) keeps it;
//   - .NAME.lockedfile and .NAME.lockedfile-, what is being written. They are
//     made under the lock alone, so that one that is found by the holder of the
//     lock is a killed edit's, and is removed.
//
// It doesn't know what the file holds, or whether its owner and mode are safe:
// they are kept. A file that is only read needs no lock: read it as it is.
//
// Errors are "PATH: what failed: what mends it", in one line; the caller puts
// its noun before them.
package lockedfile
