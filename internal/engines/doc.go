// SPDX-License-Identifier: Apache-2.0

// Package engines makes userns-runtime the default runtime of Docker, containerd, Podman
// and CRI-O, by an edit of the file that decides there, and takes it back.
//
// An edit is of the text, never a file written anew from what was understood of it: what
// isn't meant stays byte for byte, comments, order and indentation among it. It is checked
// before it is written: what the text says may differ in nothing but what was meant.
//
// What a file was before, and what was written, is kept below [StateDir], so that undo gives
// back the very bytes, and sees what others wrote since. It is written before the file is. A
// kill at any moment leaves the old or the new file, and a state that the next run finishes.
//
// It decides nothing about owners and ranges, doesn't know which containers are alive, and
// calls no engine: it looks at their command lines in /proc, since what stands there wins over
// a file, and the administrator tells them to read it again.
//
// Errors are "PATH:LINE:COLUMN: what was seen: what mends it".
package engines
