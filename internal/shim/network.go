// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// In a network namespace that belongs to the host's user namespace root inside
// can mount no sysfs, set no sysctl, bind no low port. What engines expect of
// it is done here, by the host's root, in that very namespace.

// needsSysfs says whether the container is to have a sysfs that it can't mount.
func (w wanted) needsSysfs(spec *specs.Spec) bool {
	return w.joins.network != networkOwn &&
		slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "sysfs" && !specpatch.IsBind(m) })
}

// stageSys mounts a sysfs of the container's network namespace. It shows what a container
// under plain runc sees: the interfaces of that namespace, and nothing can be written.
func (p *plan) stageSys() error {
	if p.plan.Sysfs == "" {
		return nil
	}
	var sysfs *linux.Tree
	err := p.inNetwork(func() (err error) {
		sysfs, err = mountHosts("sysfs", nil, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
		return err
	})
	if err != nil {
		return err
	}
	defer sysfs.Close()
	if err := os.Mkdir(stageSysfs, 0o700); err != nil {
		return err
	}
	return sysfs.Attach(stageSysfs)
}

// setUpNetwork sets sysctls in a network namespace that an engine made. They stay, so it
// is the last thing that is done.
func (p *plan) setUpNetwork(c *call) error {
	if p.wanted.joins.network != networkEngine {
		return nil
	}
	return p.inNetwork(func() error { return p.setSysctls(c) })
}

// inNetwork runs do in the network namespace that the container will be in, if it
// is there already.
func (p *plan) inNetwork(do func() error) error {
	if file, named := p.wanted.joins.files[specs.NetworkNamespace]; named {
		return linux.InNamespace(file, unix.CLONE_NEWNET, do)
	}
	return do()
}

// netDefaults is what the kernel gives a new network namespace of two sysctls
// without which root inside couldn't do what it can under plain runc: bind a low
// port, and ping. They are changed only from that, so that what somebody has set stays.
var netDefaults = []struct{ key, kernels, wanted string }{
	{"net.ipv4.ip_unprivileged_port_start", "1024", "0"},
	{specpatch.PingGroupRange, "1 0", "0 4294967294"},
}

// setSysctls sets the sysctls that the bundle wants of its network namespace, and
// those of netDefaults. The caller is in that namespace.
func (p *plan) setSysctls(c *call) error {
	gids, err := p.gids.Into(c.subject.GIDs)
	if err != nil {
		return err
	}
	set := map[string]bool{}
	for key, value := range p.bundle.Spec.Linux.Sysctl {
		if !specpatch.IsNetSysctl(key) {
			continue
		}
		key = strings.ReplaceAll(key, "/", ".")
		set[key] = true
		if key == specpatch.PingGroupRange {
			value = outerPingGroups(value, gids)
		}
		if err := writeSysctl(key, value); err != nil {
			return fmt.Errorf("linux.sysctl: %s = %q: %w", key, value, err)
		}
	}
	for _, d := range netDefaults {
		is, err := os.ReadFile(sysctlPath(d.key))
		if err != nil || set[d.key] || strings.Join(strings.Fields(string(is)), " ") != d.kernels {
			continue
		}
		value := d.wanted
		if d.key == specpatch.PingGroupRange {
			value = outerPingGroups(value, gids)
		}
		// Groups above 2^31 can't be written, and the kernel refuses them: nobody
		// but root with CAP_NET_RAW could ping there.
		_ = writeSysctl(d.key, value)
	}
	return nil
}

// outerPingGroups is the groups that may ping as the host counts them. A value
// that is none of the container's groups, "1 0" among them, is the kernel's to
// judge.
func outerPingGroups(value string, gids idmap.Map) string {
	low, high, ok := specpatch.ClampPingGroups(value, gids)
	if !ok {
		return value
	}
	first, _ := gids.ToOuter(low)
	last, _ := gids.ToOuter(high)
	return fmt.Sprintf("%d %d", first, max(first, last))
}

func sysctlPath(key string) string {
	return path.Clean("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
}

// writeSysctl writes below /proc/sys/net, which shows the network namespace of
// the thread that looks.
func writeSysctl(key, value string) error {
	name := sysctlPath(key)
	if !strings.HasPrefix(name, "/proc/sys/net/") {
		return fmt.Errorf("%s: expected a name below /proc/sys/net", name)
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}
