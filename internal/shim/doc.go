// SPDX-License-Identifier: Apache-2.0

// Package shim is the OCI runtime that stands in front of runc. It is the only
// package that knows the order of things: who asks, what they own, what the
// bundle wants, what is made, and what is handed to runc.
//
// Everything it decides by is in the packages below it. It isn't a
// containerd-shim.
package shim
