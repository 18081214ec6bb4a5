// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// confined is what a container was asked to have and doesn't, since it is the host's: for the audit
// line of --privileged, and of capabilities that are asked for one by one.
type confined struct {
	// hosts is the devices that are there as the host's, absent why some of them aren't.
	hosts, absent []string
}

// hostsCapabilities is those that the kernel looks for in the host's user namespace alone
// (capabilities(7), user_namespaces(7)). In a container they are had, and of no effect. Two of them,
// CAP_MKNOD and CAP_AUDIT_WRITE, engines give to every container, so they aren't worth a word.
var hostsCapabilities = []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_BLOCK_SUSPEND", "CAP_IPC_LOCK", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE",
	"CAP_SYSLOG", "CAP_SYS_MODULE", "CAP_SYS_PACCT", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
}

// mostNames is how many of a long list are told.
const mostNames = 8

// reports is the sentences of the audit line. dropped is capabilities that the grant takes away: those the container
// hasn't got in any way.
func (c confined) reports(spec *specs.Spec, dropped []string) []string {
	var out []string
	if process := spec.Process; process != nil && process.Capabilities != nil {
		var vain []string
		for _, name := range hostsCapabilities {
			if slices.Contains(process.Capabilities.Bounding, name) && !slices.Contains(dropped, name) {
				vain = append(vain, name)
			}
		}
		if len(vain) > 0 {
			out = append(out, strings.Join(vain, ", ")+": had over what is the container's alone, while the kernel asks for the like in the host's user namespace")
		}
	}
	if len(c.hosts) > 0 {
		out = append(out, "devices: root inside is nobody on them, and opens what others may: "+some(c.hosts)+
			": ask for one by --device without --privileged, and it is root's inside")
	}
	if len(c.absent) > 0 {
		out = append(out, "devices that aren't there: "+some(c.absent))
	}
	return out
}

func some(names []string) string {
	if len(names) <= mostNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNames], ", "), len(names)-mostNames)
}
