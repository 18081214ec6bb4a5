// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// OwnedNS is a user namespace that belongs to the caller, and lies directly in their own.
type OwnedNS struct {
	Inode uint64 // its number (namespaces(7))
	PID   int    // the process in it with the lowest number
	// State is what it is, its outer IDs as the caller's own namespace counts them.
	State State
}

// Owned finds the caller's user namespaces that processes are in which they may look into. Processes
// come and go meanwhile.
func Owned() ([]OwnedNS, error) {
	proc, err := linux.OpenProc()
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []OwnedNS
	seen := map[uint64]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, ok := ownedBy(proc, pid, seen); ok {
			all = append(all, ns)
		}
	}
	return all, nil
}

// ownedBy is the namespace of one process; ok is false if it is nothing of the caller's, or was seen.
func ownedBy(proc *os.File, pid int, seen map[uint64]bool) (OwnedNS, bool) {
	dir, err := linux.OpenBelow(proc, strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return OwnedNS{}, false
	}
	defer dir.Close()
	ns, err := linux.UserNSOf(dir)
	if err != nil {
		return OwnedNS{}, false
	}
	defer ns.Close()
	inode, err := linux.Inode(ns)
	if err != nil || seen[inode] || judgeOwned(ns, "") != nil {
		return OwnedNS{}, false
	}
	is, err := stateBelow(dir)
	if err != nil {
		return OwnedNS{}, false
	}
	is.Owner = uint32(os.Geteuid())
	seen[inode] = true
	return OwnedNS{Inode: inode, PID: pid, State: is}, true
}

// String is its number, as /proc/PID/ns/user shows it.
func (n OwnedNS) String() string { return fmt.Sprintf("user:[%d]", n.Inode) }
