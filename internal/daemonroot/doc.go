// SPDX-License-Identifier: Apache-2.0

// Package daemonroot lays out a super-root: a directory, /var/lib/docker as a
// rule, that holds one root for each identity that dockerd's containers have as
// their root (moby PR 11253, "Daemon root").
//
//	/var/lib/docker                  0755 root:root, the super-root
//	/var/lib/docker/100000.100000    0700 100000:100000, a root, named for the host IDs that inner 0 maps to
//	/var/lib/docker/100000.100000/docker          dockerd's data-root
//	/var/lib/docker/0.0              0700 root:root, the root of what isn't mapped
//	/var/lib/docker/.daemon-root     what a migration has to know afterwards
//
// dockerd takes over owner and mode of its data-root at each start, which is why
// that lies one below. Roots that dockerd's own userns-remap has made have the
// same names, with dockerd's files right in them: they are left alone.
//
// It makes roots, moves the data of a dockerd that knew of no roots into 0.0 and
// back, with the paths that dockerd keeps of its own files, and says what isn't
// as it should be. Each change is a list of steps that is made from what is on
// disk, and of which each beginning leaves what the same list can be made from
// again: so what was killed is finished, or undone, by the next call.
//
// It doesn't know whose an identity is, nor writes daemon.json: see cmd/usernsctl
// and internal/engines.
package daemonroot
