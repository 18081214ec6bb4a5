// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNotNamespace says that a file is no namespace.
var ErrNotNamespace = errors.New("not a namespace")

// ErrNotUserNS says that a file isn't open on a user namespace.
var ErrNotUserNS = errors.New("not a user namespace")

// ParentDeathSignal is the signal that the calling thread gets when its parent
// dies, 0 for none (PR_GET_PDEATHSIG(2const)).
func ParentDeathSignal() (syscall.Signal, error) {
	var signal int32
	if err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0); err != nil {
		return 0, os.NewSyscallError("prctl(PR_GET_PDEATHSIG)", err)
	}
	return syscall.Signal(signal), nil
}

// SetParentDeathSignal arms it for the calling thread. It is kept over
// execve(2), unless that raises privileges, and lost on a change of IDs.
func SetParentDeathSignal(signal syscall.Signal) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(signal), 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl(PR_SET_PDEATHSIG)", err)
	}
	return nil
}

// StartTime is when the process began whose directory in /proc is proc, in ticks
// since the boot (proc(5), field 22 of /proc/PID/stat). Together with its number it
// names a process for as long as the host is up. A process that is gone is an error
// wrapping fs.ErrNotExist or ESRCH.
func StartTime(proc string) (string, error) {
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return "", err
	}
	start := startTime(string(stat))
	if start == "" {
		return "", fmt.Errorf("%s/stat: it has no time of start", proc)
	}
	return start, nil
}

// DropGroups takes all supplementary groups from the calling thread, which must
// be the one that execs (setgroups(2)). It changes no other thread.
func DropGroups() error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("setgroups", errno)
	}
	return nil
}

// OpenNamespace opens the namespace (nsfs) that path leads to, by a bind mount or
// a link in /proc. Anything else is looked at without being opened, which for a
// device or a FIFO would do something, and is [ErrNotNamespace].
func OpenNamespace(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return nil, &os.PathError{Op: "fstatfs", Path: path, Err: err}
	}
	if uint32(st.Type) != unix.NSFS_MAGIC {
		return nil, &os.PathError{Op: "open", Path: path, Err: ErrNotNamespace}
	}
	opened, err := unix.Open(FDPath(f), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(opened), path), nil
}

// UserNSOwner is the UID that owns the user namespace ns is open on, as this
// process' user namespace counts it (NS_GET_OWNER_UID, ioctl_ns(2)). It is
// [ErrNotUserNS] when ns is anything else.
func UserNSOwner(ns *os.File) (uint32, error) {
	var uid uint32
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, ns.Fd(), unix.NS_GET_OWNER_UID, uintptr(unsafe.Pointer(&uid)))
	switch errno {
	case 0:
		return uid, nil
	case unix.EINVAL, unix.ENOTTY:
		return 0, ErrNotUserNS
	}
	return 0, &os.PathError{Op: "ioctl(NS_GET_OWNER_UID)", Path: ns.Name(), Err: errno}
}

// KeepAcrossExec gives f's descriptor a number of at least lowest and takes off
// its close-on-exec flag. The caller closes what it got.
func KeepAcrossExec(f *os.File, lowest int) (fd int, err error) {
	fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD, lowest)
	if err != nil {
		return -1, &os.PathError{Op: "fcntl(F_DUPFD)", Path: f.Name(), Err: err}
	}
	return fd, nil
}

// MemFile is a file in memory that holds data and can't be changed any more
// (memfd_create(2), sealed).
func MemFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, errors.Join(&os.PathError{Op: "fcntl(F_ADD_SEALS)", Path: name, Err: err}, f.Close())
	}
	return f, nil
}

// startTime is when a process began, of its line in /proc/PID/stat; "" if it has none.
// The second field, in parentheses, may have anything in it.
func startTime(stat string) string {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}
