// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// script is what the child does, in the order of unshare(1), and the namespaces that it is
// made in. It stops a first time when its user namespace is to be mapped, and a second time
// for its clocks, if they are to be set.
func (o execOptions) script(p plan) (*linux.Script, uintptr) {
	s := &linux.Script{DeathSignal: o.deathSignal}
	flags := uintptr(unix.CLONE_NEWUSER)
	later := o.namespaces
	if o.fork {
		// The child is the one that unshare --fork would fork.
		flags |= later & unix.CLONE_NEWPID
		later &^= unix.CLONE_NEWPID
	}
	// The files by which it is mapped belong to root otherwise (proc(5)). Nothing
	// in it is worth tracing: it has no privilege but those inside.
	s.Call("prctl(PR_SET_DUMPABLE)", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)
	s.Sync()
	if later != 0 {
		s.Call("unshare", unix.SYS_UNSHARE, later)
	}
	if o.offsets != "" {
		s.Sync()
	}
	o.mounts(s)
	if p.dropGroups {
		s.Call("setgroups", unix.SYS_SETGROUPS, 0, 0)
	}
	gid, uid := uintptr(p.gid), uintptr(p.uid)
	s.Call("setresgid("+strconv.Itoa(int(gid))+")", unix.SYS_SETRESGID, gid, gid, gid)
	s.Call("setresuid("+strconv.Itoa(int(uid))+")", unix.SYS_SETRESUID, uid, uid, uid)
	if o.keepCaps && (!p.rootFirst || p.uid == 0) {
		keepCapabilities(s)
	}
	return s, flags
}

// mounts adds what is done to the mounts and directories.
func (o execOptions) mounts(s *linux.Script) {
	const private = unix.MS_REC | unix.MS_PRIVATE
	none := s.Text("none")
	mount := o.namespaces&unix.CLONE_NEWNS != 0
	if mount && o.propagation != 0 {
		s.Call("mount(/): propagation", unix.SYS_MOUNT, none, s.Text("/"), 0, o.propagation, 0)
	}
	if o.root != "" {
		s.Call("chroot("+o.root+")", unix.SYS_CHROOT, s.Text(o.root))
		s.Call("chdir(/)", unix.SYS_CHDIR, s.Text("/"))
	}
	if o.wd != "" {
		s.Call("chdir("+o.wd+")", unix.SYS_CHDIR, s.Text(o.wd))
	}
	if o.mountProc != "" {
		at := s.Text(o.mountProc)
		if o.root != "" || o.propagation != private {
			// Not yet a mount, maybe: EINVAL.
			s.CallAccepting(unix.EINVAL, "mount("+o.mountProc+"): private", unix.SYS_MOUNT, none, at, 0, private, 0)
		}
		proc := s.Text("proc")
		s.Call("mount("+o.mountProc+", proc)", unix.SYS_MOUNT, proc, at, proc, unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, 0)
	}
}

// keepCapabilities adds all capabilities inside to those that a program gets which has none of its own
// (capabilities(7), "Ambient").
func keepCapabilities(s *linux.Script) {
	var all linux.CapSet
	var known []uintptr
	for c := uintptr(0); c < 64; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err != nil {
			break
		}
		all |= linux.Caps(int(c))
		known = append(known, c)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	for i := range sets {
		half := uint32(all >> (32 * i))
		sets[i] = unix.CapUserData{Effective: half, Permitted: half, Inheritable: half}
	}
	s.Call("capset", unix.SYS_CAPSET, linux.Keep(s, &header), linux.Keep(s, &sets))
	for _, c := range known {
		s.Call(fmt.Sprintf("prctl(PR_CAP_AMBIENT_RAISE, %d)", c), unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0)
	}
}
