// SPDX-License-Identifier: Apache-2.0

// Package specpatch decides what an OCI runtime specification must become so
// that its container runs in a given user namespace, and which specifications
// can't.
//
// It is pure: a specification and a [Plan] go in, a new specification and the
// list of changes come out. It reads no file, asks the kernel nothing, and
// doesn't know who may have which IDs (pkg/registry) or how the changes get
// into the bytes of config.json (internal/oci).
package specpatch
