// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// IsBind says whether the low-level runtime takes a mount for a bind mount: by its
// type, or by one of its options, whatever the type (runtime-spec config.md,
// "Mounts").
func IsBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// SharesNetwork says whether the container has no network namespace of its own
// making: none at all, or one that is there already.
func SharesNetwork(spec *specs.Spec) bool {
	ns, ok := namespace(spec, specs.NetworkNamespace)
	return !ok || ns.Path != ""
}

func namespace(spec *specs.Spec, kind specs.LinuxNamespaceType) (specs.LinuxNamespace, bool) {
	if spec.Linux == nil {
		return specs.LinuxNamespace{}, false
	}
	i := slices.IndexFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
	if i < 0 {
		return specs.LinuxNamespace{}, false
	}
	return spec.Linux.Namespaces[i], true
}

// checkFilesystems refuses filesystems that only the host's root can mount, and that this
// runtime doesn't mount in their place: the kernel would only say EPERM.
func checkFilesystems(spec *specs.Spec, plan Plan) error {
	var found findings
	for i, m := range spec.Mounts {
		if IsBind(m) {
			continue
		}
		if m.Type == "overlay" {
			found.refuse("mounts[%d]: %s: an overlay, whose layers are the host's root's: this build doesn't make it for a container (Podman's -v DIR:DIR:O, --mount type=image): bind a directory instead",
				i, m.Destination)
		}
		if kind := HostsFilesystem(spec, m); kind != "" {
			checkHostsOptions(&found, i, m, plan)
		}
	}
	return found.join()
}

// mounts replaces what was staged.
func (p *patcher) mounts() {
	if len(p.plan.Binds) == 0 && p.plan.Sysfs == "" && len(p.plan.Hosts) == 0 {
		return
	}
	p.spec.Mounts = slices.Clone(p.spec.Mounts)
	for _, i := range slices.Sorted(maps.Keys(p.plan.Binds)) {
		m := &p.spec.Mounts[i]
		why := "it is mounted there with its final owners and flags"
		if p.plan.Rootless {
			why = "the bundle is copied, and what it binds isn't"
		}
		p.change(m.Source, p.plan.Binds[i], why, "mounts", strconv.Itoa(i), "source")
		m.Source = p.plan.Binds[i]
		if p.plan.NoDevices[i] {
			p.noDevices(i, m)
		}
	}
	for i := range p.spec.Mounts {
		if m := &p.spec.Mounts[i]; p.plan.Sysfs != "" && m.Type == "sysfs" && !IsBind(*m) {
			p.sysfs(i, m)
		}
	}
	for _, i := range slices.Sorted(maps.Keys(p.plan.Hosts)) {
		p.hosts(i, &p.spec.Mounts[i], p.plan.Hosts[i])
	}
}

// noDevices takes away what asks for devices on a bind mount that is staged without: the kernel would refuse to
// give them back.
func (p *patcher) noDevices(i int, m *specs.Mount) {
	asks := func(option string) bool { return option == "dev" || option == "rdev" }
	if !slices.ContainsFunc(m.Options, asks) {
		return
	}
	options := slices.DeleteFunc(slices.Clone(m.Options), asks)
	p.change(m.Options, options, "no device can be opened there", "mounts", strconv.Itoa(i), "options")
	m.Options = options
}

// sysfs takes the place of one that the kernel lets only the owner of the network
// namespace mount. It can't be written: it is the host's root's.
func (p *patcher) sysfs(i int, m *specs.Mount) {
	options := []string{"rbind", "ro"}
	for _, option := range m.Options {
		if option != "rw" && option != "ro" {
			options = append(options, option)
		}
	}
	p.bound(i, m, p.plan.Sysfs, options, "the network namespace belongs to the host, which has mounted its sysfs there, read-only")
}

// bound makes a bind mount of another kind of mount.
func (p *patcher) bound(i int, m *specs.Mount, source string, options []string, why string) {
	place := func(name string) []string { return []string{"mounts", strconv.Itoa(i), name} }
	p.change(m.Type, "bind", why, place("type")...)
	p.change(m.Source, source, why, place("source")...)
	p.change(m.Options, options, why, place("options")...)
	m.Type, m.Source, m.Options = "bind", source, options
}

// joined gives the namespaces that are joined by the paths at which what was
// looked at can't be replaced.
func (p *patcher) joined() {
	if len(p.plan.Joined) == 0 {
		return
	}
	linux := p.spec.Linux
	linux.Namespaces = slices.Clone(linux.Namespaces)
	for i := range linux.Namespaces {
		ns := &linux.Namespaces[i]
		if path, ok := p.plan.Joined[ns.Type]; ok && ns.Path != "" {
			p.change(ns.Path, path, "the namespace that was looked at is there", "linux", "namespaces", strconv.Itoa(i), "path")
			ns.Path = path
		}
	}
}

// IsNetSysctl says whether a key of linux.sysctl belongs to a network namespace,
// in either of the forms that sysctl(8) takes.
func IsNetSysctl(key string) bool {
	return strings.HasPrefix(key, "net.") || strings.HasPrefix(key, "net/")
}
