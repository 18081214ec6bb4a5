// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A runtime sees no --privileged, but what an engine makes of it: Docker 20.10, Podman 4.3 and
// ctr 1.6 all give every capability they know of (Docker doesn't know of the last three of the
// kernel's), no masked and no read-only path, a writable /sys, and all devices. Whoever adds up
// some of these by hand has no --privileged, and as much. So each by itself is
// a privileged container here, but for devices, which have a flag of their own.
//
// Of the capabilities CAP_SYS_ADMIN is the one that counts. With it root inside unmounts
// what masks a path, and mounts /sys anew as it likes; without it the others do nothing
// in a user namespace that a container needs to be refused for.

const privilegedCap = "CAP_SYS_ADMIN"

// maskedPaths and readonlyPaths are those that all engines have, and `runc spec` too.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// CheckPrivileged refuses a specification that asks for what engines give a privileged
// container. Capabilities that the flags drop don't count. The error wraps [ErrRefused] for each reason.
func CheckPrivileged(spec *specs.Spec, flags ProcessFlags) error {
	var found findings
	if p := spec.Process; p != nil {
		if p.Capabilities == nil && !flags.drops(privilegedCap) {
			found.refuse("process.capabilities: it is missing, which leaves the process all of them: name those that it needs")
		}
		found.privilegedCaps("process.capabilities", p.Capabilities, flags)
	}
	if l := spec.Linux; l != nil {
		found.upwards("linux.maskedPaths", l.MaskedPaths)
		found.upwards("linux.readonlyPaths", l.ReadonlyPaths)
		found.bare("linux.maskedPaths", "masked", l.MaskedPaths, maskedPaths)
		found.bare("linux.readonlyPaths", "read-only", slices.Concat(l.ReadonlyPaths, l.MaskedPaths), readonlyPaths)
	}
	for i, m := range spec.Mounts {
		if IsBind(m) {
			continue
		}
		if place, ok := map[string]string{"proc": "/proc", "sysfs": "/sys"}[m.Type]; ok && path.Clean(m.Destination) != place {
			found.refuse("mounts[%d]: %s: another %s than the one whose paths are masked: expected it on %s alone", i, m.Destination, m.Type, place)
		}
		if m.Type == "sysfs" && !isReadonly(m.Options) {
			found.refuse("mounts[%d]: %s: sysfs that can be written, as of a privileged container (--privileged): give it the option ro", i, m.Destination)
		}
	}
	return found.join()
}

// isReadonly reads options as runc does: the last word counts. For crun the recursive one does, wherever it stands.
func isReadonly(options []string) bool {
	if slices.Contains(options, "rrw") {
		return false
	}
	for _, option := range slices.Backward(options) {
		if option == "ro" || option == "rw" {
			return option == "ro"
		}
	}
	return false
}

// CheckPrivilegedProcess refuses a process to be exec'd that asks for more than a container may that
// isn't privileged. field is where its capabilities stand. Without any it has those of the container.
func CheckPrivilegedProcess(field string, process *specs.Process, flags ProcessFlags) error {
	var found findings
	found.privilegedCaps(field, process.Capabilities, flags)
	return found.join()
}

func (f *findings) privilegedCaps(field string, caps *specs.LinuxCapabilities, flags ProcessFlags) {
	if caps == nil || flags.drops(privilegedCap) {
		return
	}
	for _, set := range capSets(caps) {
		if slices.ContainsFunc(*set.names, func(name string) bool { return isCap(name, privilegedCap) }) {
			f.refuse("%s.%s: %s, by which root inside does what a privileged container may (--privileged, --cap-add SYS_ADMIN, --cap-add ALL): leave it out",
				field, set.name, privilegedCap)
			return
		}
	}
}

// bare refuses paths that aren't covered, and are in every container that isn't privileged.
func (f *findings) bare(field, how string, have, want []string) {
	var missing []string
	for _, wanted := range want {
		if !slices.ContainsFunc(have, func(h string) bool { return covers(h, wanted) }) {
			missing = append(missing, wanted)
		}
	}
	if len(missing) > 0 {
		f.refuse("%s: %s isn't %s, as of a privileged container (--privileged, --security-opt systempaths=unconfined, unmask=): add it",
			field, strings.Join(missing, ", "), how)
	}
}

// upwards refuses paths with ".." in them. Behind a symbolic link of the image's such a path leads elsewhere; and
// runc takes it for the one without, which it then leaves out as covered already.
func (f *findings) upwards(field string, paths []string) {
	for i, p := range paths {
		if slices.Contains(strings.Split(p, "/"), "..") {
			f.refuse("%s[%d]: %s: behind a symbolic link .. leads elsewhere: write the path without it", field, i, p)
		}
	}
}

// covers says whether a path is at another one, or above it.
func covers(at, name string) bool {
	at = path.Clean(at)
	return at == name || strings.HasPrefix(name, at+"/")
}

// isCap says whether a name, in any spelling that some low-level runtime knows, is that of a capability.
func isCap(name, capability string) bool {
	name = strings.ToUpper(strings.TrimSpace(name))
	return name == capability || "CAP_"+name == capability
}
