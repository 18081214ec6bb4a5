// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotProc says that a file isn't where it should be in the kernel's /proc.
var ErrNotProc = errors.New("not the kernel's /proc")

// procRoot is the inode of the directory that a proc filesystem is mounted by
// (kernel: include/linux/proc_ns.h, PROC_ROOT_INO).
const procRoot = 1

// OpenProc opens /proc for [OpenBelow], and establishes that it is the root of a
// proc filesystem.
func OpenProc() (*os.File, error) {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc", Err: err}
	}
	f := os.NewFile(uintptr(fd), "/proc")
	is, err := OnProc(f)
	if err == nil && is {
		var inode uint64
		inode, err = Inode(f)
		is = inode == procRoot
	}
	if err == nil && !is {
		err = fmt.Errorf("/proc: %w: mount it there", ErrNotProc)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// OnProc says whether f is open on a proc filesystem.
func OnProc(f *os.File) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "fstatfs", Path: f.Name(), Err: err}
	}
	return uint32(st.Type) == unix.PROC_SUPER_MAGIC, nil
}

// OpenBelow opens name below the directory dir, with O_* flags. Nothing that is
// mounted over a part of the way is passed, and no link that leads out (openat2(2), since
// Linux 5.6).
func OpenBelow(dir *os.File, name string, flags int) (*os.File, error) {
	path := dir.Name() + "/" + name
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), path), nil
		case unix.EINTR, unix.EAGAIN: // a rename elsewhere in the filesystem
			continue
		}
		return nil, &os.PathError{Op: "openat2", Path: path, Err: err}
	}
}

// UserNSOf opens the user namespace of the process whose directory in /proc is
// open as dir. The caller must be allowed to look into the process (ptrace(2),
// PTRACE_MODE_READ_FSCREDS).
func UserNSOf(dir *os.File) (*os.File, error) {
	ns, err := NamespaceOf(dir, "user")
	if err != nil {
		return nil, err
	}
	if _, err := UserNSOwner(ns); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", ns.Name(), err), ns.Close())
	}
	return ns, nil
}

// NamespaceOf is [UserNSOf] for any kind of namespace, as /proc/PID/ns names it (namespaces(7)).
// That it is one of that kind is for the caller to find out, where that matters.
func NamespaceOf(dir *os.File, kind string) (*os.File, error) {
	links, err := OpenBelow(dir, "ns", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer links.Close()
	path := links.Name() + "/" + kind
	// O_NONBLOCK, in case that something else is mounted there.
	fd, err := unix.Openat(int(links.Fd()), kind, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// UserNSParent opens the parent of the user namespace that ns is open on
// (NS_GET_PARENT, ioctl_ns(2)). EPERM says that the parent is none that the
// caller is in, nor below one.
func UserNSParent(ns *os.File) (*os.File, error) {
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		return nil, &os.PathError{Op: "ioctl(NS_GET_PARENT)", Path: ns.Name(), Err: err}
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "the parent of "+ns.Name()), nil
}

// ProcessOfPIDFD is the number of the process that the descriptor fd, a pidfd, is
// open on, as the /proc that is open as proc counts it. It is 0 for one that has
// ended, or isn't seen there, and for any other kind of file (pidfd_open(2), "fdinfo").
func ProcessOfPIDFD(proc *os.File, fd int) (int, error) {
	f, err := OpenBelow(proc, fmt.Sprintf("self/fdinfo/%d", fd), unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	text := make([]byte, 4096)
	n, err := f.ReadAt(text, 0)
	if n == 0 {
		return 0, err
	}
	for line := range strings.Lines(string(text[:n])) {
		var pid int
		if _, err := fmt.Sscanf(line, "Pid:\t%d\n", &pid); err == nil && pid > 0 {
			return pid, nil
		}
	}
	return 0, nil
}

// BootID is what tells this boot of the kernel from all others (random(4), boot_id).
func BootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
}

// ProcessOfDir is the number of the process whose directory in /proc the
// descriptor dir is open on, as that /proc counts it. Other directories there, of
// a thread among them, may give a number too.
func ProcessOfDir(dir int) (int, error) {
	fd, err := unix.Openat(dir, "stat", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return 0, fmt.Errorf("isn't the directory of a process: %w", &os.PathError{Op: "open", Path: "stat", Err: err})
	}
	f := os.NewFile(uintptr(fd), "stat")
	defer f.Close()
	text := make([]byte, 64)
	n, err := f.ReadAt(text, 0)
	if n == 0 {
		return 0, err
	}
	number, _, _ := strings.Cut(string(text[:n]), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 {
		return 0, errors.New("isn't the directory of a process: its file stat begins with no number")
	}
	return pid, nil
}
