// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// The engine's overlay and ours are two caches on the same layers. A name that a
// container has looked up and missed stays missing for it, though the engine
// put a file there meanwhile (docker cp). Each call on the container is a chance
// to make it forget such names; so the file is there after, say, an exec.

// refreshes is the verbs, besides exec, that are such a chance: those that look at a
// running container.
var refreshes = map[string]bool{"state": true, "ps": true, "pause": true, "resume": true, "update": true, "events": true, "checkpoint": true}

// refresh drops what the root filesystem of the container remembers of names. It
// is done as well as can be: that it failed isn't worth a word, and the call goes
// on.
func (c *call) refresh() {
	if os.Geteuid() != 0 || c.inv.ID == "" || strings.ContainsRune(c.inv.ID, '/') || c.inv.ID == ".." {
		return
	}
	pid := readInit(filepath.Join(c.engineRoot(), c.inv.ID, "state.json"))
	if pid <= 0 {
		return
	}
	proc := "/proc/" + strconv.Itoa(pid) + "/ns/"
	if foreign, err := differs(proc+"user", "/proc/self/ns/user"); err != nil || !foreign {
		return // not one of ours
	}
	ns, err := linux.OpenNamespace(proc + "mnt")
	if err != nil {
		return
	}
	defer ns.Close()
	_ = linux.InNamespace(ns, unix.CLONE_NEWNS, func() error { return dropIfOverlay("/") })
}

// dropIfOverlay does so on an overlay alone: on / of a container there could be
// any filesystem by now.
func dropIfOverlay(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || uint32(st.Type) != unix.OVERLAYFS_SUPER_MAGIC {
		return err
	}
	return linux.DropDentries(dir)
}

// differs says whether two namespaces in /proc aren't the same.
func differs(a, b string) (bool, error) {
	one, err := os.Readlink(a)
	if err != nil {
		return false, err
	}
	two, err := os.Readlink(b)
	return one != two, err
}

// readInit is the process that runc's state of a container names as its first,
// 0 if it can't be told. It is among the first members of a long file, and only
// the beginning is read.
func readInit(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	decoder := json.NewDecoder(io.LimitReader(f, 4096))
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return 0
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return 0
		}
		if name == "init_process_pid" {
			var pid int
			if decoder.Decode(&pid) != nil {
				return 0
			}
			return pid
		}
		var skipped json.RawMessage
		if decoder.Decode(&skipped) != nil {
			return 0
		}
	}
	return 0
}
