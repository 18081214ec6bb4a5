// SPDX-License-Identifier: Apache-2.0

package census

import (
	"strconv"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// Kin is where a live user namespace comes from (ioctl_ns(2)).
type Kin struct {
	// Creator is the UID of who made it, counted on the host. They have every capability in it.
	Creator uint32
	// Parents is the namespaces that it lies in, by their inode numbers, the nearest first; the
	// caller's own isn't among them.
	Parents []uint64
}

// kinOf looks at all that can be looked at. A process that has ended meanwhile, or entered
// another namespace, tells nothing.
func kinOf(live []lease.LiveNS) map[uint64]Kin {
	own, err := inodeOf("/proc/thread-self/ns/user")
	if err != nil {
		return nil
	}
	out := make(map[uint64]Kin, len(live))
	for _, ns := range live {
		if ns.Inode == 0 || ns.Staged {
			continue
		}
		if kin, ok := kinAt("/proc/"+strconv.Itoa(ns.PID)+"/ns/user", ns.Inode, own); ok {
			out[ns.Inode] = kin
		}
	}
	return out
}

func kinAt(path string, inode, own uint64) (kin Kin, ok bool) {
	ns, err := linux.OpenNamespace(path)
	if err != nil {
		return Kin{}, false
	}
	defer ns.Close()
	line, _ := linux.Lineage(ns) // it may lie in one that the caller may not see
	if len(line) == 0 || line[0].Inode != inode {
		return Kin{}, false
	}
	kin.Creator = line[0].Owner
	for _, parent := range line[1:] {
		if parent.Inode != own {
			kin.Parents = append(kin.Parents, parent.Inode)
		}
	}
	return kin, true
}

// inodeOf is the number of the namespace that a path leads to.
func inodeOf(path string) (uint64, error) {
	ns, err := linux.OpenNamespace(path)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	return linux.Inode(ns)
}
