// SPDX-License-Identifier: Apache-2.0

// Package oci speaks with the two neighbours of an OCI runtime shim: it reads
// the command line that an engine gives a runtime, reads and edits the bundle's
// config.json, and finds and becomes the low-level runtime.
//
// It knows runc's grammar and the form of config.json, and no policy: who is
// asking, what is allowed and what must be changed is decided elsewhere.
package oci
