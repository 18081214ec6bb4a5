// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// giveStdio gives the pipes and sockets on descriptors 0 to 2 that belong to the
// caller to root inside: a process that opens /dev/stdout opens the pipe anew,
// and has to own it. The low-level runtime then gives them to the user that the
// process runs as, which root inside may do.
//
// Only those without a name are given: a FIFO, a file, a terminal or /dev/null
// would stay changed on the host.
func (c *call) giveStdio(uids, gids idmap.Map) error {
	uid, user := rootIn(uids, c.subject.UIDs)
	gid, group := rootIn(gids, c.subject.GIDs)
	if !user || !group {
		return nil
	}
	for fd := range 3 {
		var fs unix.Statfs_t
		var st unix.Stat_t
		if unix.Fstatfs(fd, &fs) != nil || unix.Fstat(fd, &st) != nil {
			continue // closed
		}
		if kind := uint32(fs.Type); kind != unix.PIPEFS_MAGIC && kind != unix.SOCKFS_MAGIC {
			continue
		}
		if int(st.Uid) != os.Geteuid() {
			continue
		}
		if err := unix.Fchown(fd, int(uid), int(gid)); err != nil {
			return &os.PathError{Op: "fchown", Path: fmt.Sprintf("descriptor %d", fd), Err: err}
		}
	}
	return nil
}

// rootIn is what inner 0 of a map, counted on the host, is in the caller's
// namespace.
func rootIn(m, own idmap.Map) (uint32, bool) {
	outer, ok := m.ToOuter(0)
	if !ok {
		return 0, false
	}
	return own.ToInner(outer)
}
