// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
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
	root := c.overlayRoot()
	if root == nil {
		return
	}
	defer root.Close()
	_ = linux.DropDentries(root)
}

// adopt does more: the container's overlay takes up directories that the engine
// has made or copied up, though they are in use; and the engine's overlay, at
// the path engines on the host, forgets names too.
//
// The error is for the audit line: the exec goes on.
func (c *call) adopt(engines string) error {
	root := c.overlayRoot()
	if root == nil {
		return nil
	}
	defer root.Close()
	merged, err := rootfs.Open(engines)
	if err != nil {
		return err
	}
	defer merged.Close()
	mounts, err := rootfs.Mounts()
	if err != nil {
		return err
	}
	upper := rootfs.UpperDir(merged, mounts)
	if upper == "" {
		return nil
	}
	return errors.Join(rootfs.Adopt(root, upper), linux.DropDentries(merged))
}

// overlayRoot opens / of the container's mount namespace, nil if there is none
// that is an overlay of ours. Nothing of the container's decides what is opened.
func (c *call) overlayRoot() *os.File {
	if os.Geteuid() != 0 || c.inv.ID == "" || strings.ContainsRune(c.inv.ID, '/') || c.inv.ID == ".." {
		return nil
	}
	var proc *os.File
	for _, name := range []string{lease.RuncStateName, lease.CrunStateName} {
		if proc = openInit(filepath.Join(c.engineRoot(), c.inv.ID, name)); proc != nil {
			break
		}
	}
	if proc == nil {
		return nil
	}
	defer proc.Close()
	at := linux.FDPath(proc) + "/ns/"
	if foreign, err := differs(at+"user", "/proc/self/ns/user"); err != nil || !foreign {
		return nil // not one of ours
	}
	ns, err := linux.OpenNamespace(at + "mnt")
	if err != nil {
		return nil
	}
	defer ns.Close()
	var root *os.File
	err = linux.InNamespace(ns, unix.CLONE_NEWNS, func() error {
		// Not by a path in /proc, which is the container's there.
		fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			root = os.NewFile(uintptr(fd), "/")
		}
		return err
	})
	if err != nil {
		return nil
	}
	if !isHosts(root, linux.FDPath(proc)+"/mountinfo") {
		root.Close()
		return nil
	}
	return root
}

// isHosts says whether root is on an overlay that the host's root has mounted. By
// now there could be any filesystem: one of the container's own, with a server of
// the container's below it (FUSE), would let us wait for ever. In a user namespace
// the kernel mounts an overlay only with the option userxattr.
func isHosts(root *os.File, mountinfoPath string) bool {
	id, err := linux.MountID(root)
	if err != nil {
		return false
	}
	f, err := os.Open(mountinfoPath)
	if err != nil {
		return false
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) { return m.ID != id, m.ID == id })
	if err != nil || len(mounts) != 1 || mounts[0].FSType != "overlay" {
		return false
	}
	return !slices.Contains(strings.Split(mounts[0].VFSOptions, ","), "userxattr")
}

// forgetEngines makes an engine's overlay forget names, as it begins to be used
// beside ours.
func forgetEngines(merged *os.File, method rootfs.Method) {
	if method == rootfs.Overlay {
		_ = linux.DropDentries(merged)
	}
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

// openInit opens the directory in /proc of the process that the low-level runtime's state of a
// container names as its first; nil if that has ended, and another one may have its
// number by now.
func openInit(path string) *os.File {
	pid, start := readInit(path)
	if pid <= 0 {
		return nil
	}
	proc, err := linux.OpenPlace("/proc/"+strconv.Itoa(pid), true)
	if err != nil {
		return nil
	}
	if began, err := linux.StartTime(linux.FDPath(proc)); err != nil || began != start {
		proc.Close()
		return nil
	}
	return proc
}

// readInit is the process that the low-level runtime's state of a container names as its first,
// and when that began; 0 if it can't be told. Both are among the first members of
// a long file, and only the beginning is read.
func readInit(path string) (pid int, start string) {
	f, err := os.Open(path)
	if err != nil {
		return 0, ""
	}
	defer f.Close()
	decoder := json.NewDecoder(io.LimitReader(f, 4096))
	if opening, err := decoder.Token(); err != nil || opening != json.Delim('{') {
		return 0, ""
	}
	var began uint64
	for decoder.More() && (pid == 0 || began == 0) {
		name, err := decoder.Token()
		if err != nil {
			return 0, ""
		}
		var skipped json.RawMessage
		var to any = &skipped
		switch name {
		case "init_process_pid", "pid": // runc's name, and crun's
			to = &pid
		case "init_process_start", "process-start-time":
			to = &began
		}
		if decoder.Decode(to) != nil {
			return 0, ""
		}
	}
	if pid == 0 || began == 0 {
		return 0, ""
	}
	return pid, strconv.FormatUint(began, 10)
}
