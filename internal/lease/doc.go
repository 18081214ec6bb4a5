// SPDX-License-Identifier: Apache-2.0

// Package lease holds the record of a container: who owns its IDs, which they
// are, and what its grant takes from its processes.
//
// The record is made when a container is created, and doesn't change when the
// book does. It travels as an annotation in the low-level runtime's own state
// of the container, so it is there exactly as long as the container is, whoever
// deletes it and however it ends.
package lease
