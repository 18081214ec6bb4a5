// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// HostsFilesystem is the type of a mount, proc or mqueue, that shows a namespace which the
// container has in common with the host. The kernel mounts it only for whoever owns that
// namespace, which is the host's root. "" is any other mount.
func HostsFilesystem(spec *specs.Spec, m specs.Mount) string {
	var kind specs.LinuxNamespaceType
	switch m.Type {
	case "proc":
		kind = specs.PIDNamespace
	case "mqueue":
		kind = specs.IPCNamespace
	default:
		return ""
	}
	if _, own := namespace(spec, kind); own || IsBind(m) {
		return ""
	}
	return m.Type
}

// HostsOptions parts the options of such a mount: those that the filesystem is made with, and
// those of the mount.
func HostsOptions(m specs.Mount) (filesystem, mount []string) {
	for _, option := range m.Options {
		if strings.Contains(option, "=") {
			filesystem = append(filesystem, option)
		} else {
			mount = append(mount, option)
		}
	}
	return filesystem, mount
}

// procOptions is those of proc(5) that name no ID. "gid" does, and would be counted as the host
// counts.
var procOptions = map[string]bool{"hidepid": true, "subset": true}

// checkHostsOptions refuses what a filesystem of the host's can't be mounted with: left out, it
// would show more than was asked for.
func checkHostsOptions(found *findings, i int, m specs.Mount, plan Plan) {
	filesystem, _ := HostsOptions(m)
	for _, option := range filesystem {
		name, _, _ := strings.Cut(option, "=")
		if m.Type != "proc" || !procOptions[name] || plan.Rootless {
			found.refuse("mounts[%d]: %s: option %q: this runtime doesn't mount the host's %s with it: leave it out, or give the container a namespace of its own",
				i, m.Destination, option, m.Type)
		}
	}
}

// hosts takes the place of a filesystem that only the host's root can mount.
func (p *patcher) hosts(i int, m *specs.Mount, source string) {
	_, options := HostsOptions(*m)
	kind := specs.PIDNamespace
	if m.Type == "mqueue" {
		kind = specs.IPCNamespace
	}
	p.bound(i, m, source, append([]string{"rbind"}, options...), "the "+string(kind)+" namespace is the host's, which has mounted it there")
}
