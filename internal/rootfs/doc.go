// SPDX-License-Identifier: Apache-2.0

// Package rootfs makes a container's root filesystem appear, at a directory of
// the caller's private mount namespace, with the owners that the container's
// user namespace expects. Nothing on disk is changed.
//
// It doesn't choose ranges or create namespaces (pkg/delegate), and it leaves
// the mounts that a spec asks for inside the root filesystem to runc.
package rootfs
