// SPDX-License-Identifier: Apache-2.0

// Package lease hands out ranges of host IDs so that no two containers hold one
// at once, and holds the record of a container: who owns its IDs, which they
// are, and what its grant takes from its processes.
//
// # Entries
//
// Each holder of IDs is an entry: a file in one directory of root's, below /run.
// All that is decided is decided with that directory locked (flock(2)), by the
// ranges of all entries. An entry is over only when all of these are true:
//
//   - nobody has its file locked: whoever starts a container keeps a descriptor
//     across execve(2), until the low-level runtime has ended;
//   - the low-level runtime has no state of the container;
//   - no process lives in a user namespace that maps any of its IDs, but for
//     those that other entries answer for.
//
// So nothing depends on somebody releasing what they took: an entry that was left
// behind is taken over when its IDs are wanted, and swept away in passing.
//
// The directory may be deleted under running containers. It is made again from
// what is alive: the maps of all processes, and the files of entries that are
// still open in programs that are starting containers.
//
// # Records
//
// The record is made when a container is created, and doesn't change when the
// book does. It travels as an annotation in the low-level runtime's own state
// of the container, so it is there exactly as long as the container is, whoever
// deletes it and however it ends, and whatever becomes of the directory.
//
// What the owner of a container's user namespace may know of it lies in a directory that
// only they can look into, beside that of the entries, and goes with its entry
// ([Lease.Publish]).
//
// It doesn't know the book (pkg/registry): the caller says which IDs may be taken.
package lease
