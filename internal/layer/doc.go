// SPDX-License-Identifier: Apache-2.0

// Package layer reads, writes and shifts the layers of container images: tar
// archives whose owners are counted inside of a user namespace or, once shifted,
// on the host. It holds a codec for tar, which keeps what archive/tar doesn't
// (raw headers, the maps of sparse files), the filter that translates the IDs of
// a stream and leaves all else byte for byte as it is, and the compression of
// layers.
//
// The formats are v7, ustar, old GNU and pax (tar(5) of libarchive; POSIX.1-2017,
// pax, "ustar Interchange Format" and "pax Header Block"; GNU tar's manual,
// "Basic Tar Format" and "Storing Sparse Files").
//
// An archive is input from strangers. What is truncated or corrupt, and what two
// readers would understand differently, is an error that names the entry and the
// byte of the archive, uncompressed. What is kept in memory has a limit.
//
// A whole image is shifted by its layers, and by writing anew whatever names them:
// [ImageShift].
//
// It doesn't know which map is right (pkg/registry), nor how an engine keeps its
// layers.
package layer
