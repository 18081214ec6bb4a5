// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// PingGroupRange is the sysctl that says which groups may open a ping socket
// (icmp(7)): two GIDs, both of which must be mapped where it is written.
const PingGroupRange = "net.ipv4.ping_group_range"

// ClampPingGroups reads a value of [PingGroupRange] and lowers its end to the
// highest GID of the map, which engines write far above what a container has.
// ok is false for what isn't such a value, or begins at a GID that isn't mapped:
// it is the kernel's to refuse.
func ClampPingGroups(value string, gids idmap.Map) (low, high uint32, ok bool) {
	fields := strings.Fields(value)
	if len(fields) != 2 {
		return 0, 0, false
	}
	low, err := idmap.ParseID(fields[0])
	if err != nil {
		return 0, 0, false
	}
	if high, err = idmap.ParseID(fields[1]); err != nil || low > high {
		return 0, 0, false
	}
	if _, ok := gids.ToOuter(low); !ok {
		return 0, 0, false
	}
	if _, ok := gids.ToOuter(high); ok {
		return low, high, true
	}
	highest := low
	for _, e := range gids {
		if last := e.Inner + (e.Count - 1); last <= high && last > highest {
			highest = last
		}
	}
	return low, highest, true
}

// ownsDomain says whether the container has a domain name of its own, and no other
// was asked for.
func (p *patcher) ownsDomain() bool {
	uts, ok := namespace(&p.spec, specs.UTSNamespace)
	return ok && uts.Path == "" && p.spec.Domainname == ""
}

// sysctls takes out what was written already, and lowers the groups that may
// ping to those that there are.
func (p *patcher) sysctls() {
	linux := p.spec.Linux
	if len(linux.Sysctl) == 0 {
		return
	}
	linux.Sysctl = maps.Clone(linux.Sysctl)
	for _, key := range slices.Sorted(maps.Keys(linux.Sysctl)) {
		value := linux.Sysctl[key]
		switch {
		case strings.ReplaceAll(key, "/", ".") == "kernel.domainname" && p.ownsDomain():
			// /proc shows it as the host's root's; setdomainname(2) may be called.
			p.change(value, nil, "only the host's root may write there", "linux", "sysctl", key)
			delete(linux.Sysctl, key)
			p.change(nil, value, "it was given as a sysctl", "domainname")
			p.spec.Domainname = value
		case p.plan.NetSysctls && IsNetSysctl(key):
			p.change(value, nil, "the network namespace belongs to the host, which has set it there", "linux", "sysctl", key)
			delete(linux.Sysctl, key)
		case strings.ReplaceAll(key, "/", ".") == PingGroupRange:
			low, high, ok := ClampPingGroups(value, p.plan.GIDs)
			if clamped := fmt.Sprintf("%d %d", low, high); ok && strings.Join(strings.Fields(value), " ") != clamped {
				p.change(value, clamped, "the container has no groups above", "linux", "sysctl", key)
				linux.Sysctl[key] = clamped
			}
		}
	}
}
