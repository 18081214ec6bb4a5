// SPDX-License-Identifier: Apache-2.0

// Package linux wraps the Linux system calls that this project needs and that
// the standard library and golang.org/x/sys/unix don't offer in a form that is
// safe to use from a Go program: a child parked in a user namespace, one that goes through
// prepared system calls before it becomes a program, capabilities of one thread, detached
// and idmapped mounts, the parent-death signal.
//
// Each function is one kernel operation. Errors are *os.PathError or
// *os.SyscallError, with the system call as Op, so that a caller can say which
// one failed. There is no policy here: nothing in this package knows what a
// grant, a bundle or a container is.
package linux
