// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrIdentity says that the calling thread couldn't be given back what it was.
// The process must not go on.
var ErrIdentity = errors.New("the thread is not what it was")

// AsFileOwner runs do with the filesystem IDs of the calling thread set to uid and
// gid, and with the capabilities that it had (credentials(7), "filesystem user
// ID"; a change of it takes some away, capabilities(7)). The goroutine must be locked to
// its thread. What do makes belongs to these IDs, and a mount remembers them.
//
// It establishes that the thread is afterwards what it was, or gives an error
// wrapping [ErrIdentity]. The parent-death signal is lost, and the process can't be
// traced by others than root any more (fs.suid_dumpable), until its next execve(2).
func AsFileOwner(uid, gid uint32, do func() error) (err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	oldUID, oldGID := unix.Geteuid(), unix.Getegid()
	defer func() {
		if backErr := fileOwner(uint32(oldUID), uint32(oldGID), &caps); backErr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", ErrIdentity, backErr))
		}
	}()
	if err := fileOwner(uid, gid, &caps); err != nil {
		return err
	}
	return do()
}

// fileOwner sets the filesystem IDs, the group first since changing the user may
// take the right to, and then the capabilities.
func fileOwner(uid, gid uint32, caps *[2]unix.CapUserData) error {
	for _, id := range []struct {
		call string
		set  func(int) (int, error)
		to   uint32
	}{{"setfsgid", unix.SetfsgidRetGid, gid}, {"setfsuid", unix.SetfsuidRetUid, uid}} {
		if _, err := id.set(int(id.to)); err != nil {
			return os.NewSyscallError(id.call, err)
		}
		// These calls can't fail; only the next one tells what became of them.
		if is, err := id.set(-1); err != nil || uint32(is) != id.to {
			return os.NewSyscallError(id.call, fmt.Errorf("the ID is %d, expected %d", is, id.to))
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &caps[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return nil
}

// InNamespace runs do on a thread of its own that has joined the namespace ns is
// open on, of the kind unix.CLONE_NEWNET or unix.CLONE_NEWNS (setns(2)). The
// thread ends afterwards, so nothing else is ever in that namespace.
//
// In a mount namespace / and the working directory are its own. do must not
// start goroutines that touch files.
func InNamespace(ns *os.File, kind int, do func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		if kind == unix.CLONE_NEWNS {
			// setns(2) refuses a thread that shares its directories with others.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				result <- os.NewSyscallError("unshare(CLONE_FS)", err)
				return
			}
		}
		if err := unix.Setns(int(ns.Fd()), kind); err != nil {
			result <- &os.PathError{Op: "setns", Path: ns.Name(), Err: err}
			return
		}
		result <- do()
	}()
	return <-result
}

// AsEffectiveUser runs do on a thread of its own whose effective, and with it its
// filesystem UID is uid, with the capabilities that it had before (credentials(7),
// setresuid(2)): a user namespace made by do belongs to uid. Its real and saved UID and
// its groups stay those of the caller, who needs CAP_SETUID. The thread ends
// afterwards, so nothing is to be given back, and children that are bound to it by
// their parent-death signal end with it. do must not start goroutines.
//
// From then on until its next execve(2) the process isn't dumpable: to the kernel
// uid must not become somebody who may trace it, or a child that do makes (ptrace(2), "Ptrace
// access mode checking").
func AsEffectiveUser(uid uint32, do func() error) error {
	if uid == ^uint32(0) { // setresuid(2) would change nothing
		return os.NewSyscallError("setresuid", unix.EINVAL)
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		if err := effectiveUser(uid); err != nil {
			result <- err
			return
		}
		result <- do()
	}()
	return <-result
}

// effectiveUser changes the calling thread only, which os/user's and Go's own
// functions for it don't.
func effectiveUser(uid uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	const unchanged = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, uintptr(uid), unchanged); errno != 0 {
		return os.NewSyscallError("setresuid", errno)
	}
	// The change has set it to fs.suid_dumpable, which some host may have at 1.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl(PR_SET_DUMPABLE)", err)
	}
	header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &caps[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return nil
}

// OwningUserNS opens the user namespace that owns the namespace ns is open on
// (NS_GET_USERNS, ioctl_ns(2)). EPERM says that it isn't the caller's own, nor
// one below it.
func OwningUserNS(ns *os.File) (*os.File, error) {
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return nil, &os.PathError{Op: "ioctl(NS_GET_USERNS)", Path: ns.Name(), Err: err}
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "of "+ns.Name()), nil
}

// Inode is the inode number of what f is open on: of a namespace its number (namespaces(7)).
func Inode(f *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return st.Ino, nil
}

// SameFile says whether two files are open on one inode, as two descriptors of
// one namespace are.
func SameFile(a, b *os.File) (bool, error) {
	var stA, stB unix.Stat_t
	if err := unix.Fstat(int(a.Fd()), &stA); err != nil {
		return false, &os.PathError{Op: "fstat", Path: a.Name(), Err: err}
	}
	if err := unix.Fstat(int(b.Fd()), &stB); err != nil {
		return false, &os.PathError{Op: "fstat", Path: b.Name(), Err: err}
	}
	return stA.Dev == stB.Dev && stA.Ino == stB.Ino, nil
}
