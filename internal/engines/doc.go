// SPDX-License-Identifier: Apache-2.0

// Package engines edits the files of other programs by which they are told of the
// book: it makes the new text, shows it before it is written, and takes back what
// it has written. What others wrote in the same files stays as it is.
//
// It doesn't judge the book or the host, and speaks to no daemon.
package engines
