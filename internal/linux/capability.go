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

// CapSet is a set of capabilities, bit N for capability N (capabilities(7)).
type CapSet uint64

// Caps is the set of these capabilities, unix.CAP_*.
func Caps(caps ...int) (set CapSet) {
	for _, c := range caps {
		set |= 1 << c
	}
	return set
}

// Permitted is the capabilities that the calling thread may use.
func Permitted() (CapSet, error) {
	_, caps, err := capget()
	return CapSet(caps[0].Permitted) | CapSet(caps[1].Permitted)<<32, err
}

// WithCapabilities runs do with exactly those of the capabilities in force that
// are permitted, and no others. The goroutine must be locked to its thread.
//
// It establishes that the thread has afterwards those in force that it had, or
// gives an error wrapping [ErrIdentity].
func WithCapabilities(set CapSet, do func() error) (err error) {
	header, before, err := capget()
	if err != nil {
		return err
	}
	during := before
	for i := range during {
		during[i].Effective = before[i].Permitted & uint32(set>>(32*i))
	}
	if err := unix.Capset(&header, &during[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	defer func() {
		if backErr := unix.Capset(&header, &before[0]); backErr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", ErrIdentity, os.NewSyscallError("capset", backErr)))
		}
	}()
	return do()
}

func capget() (header unix.CapUserHeader, caps [2]unix.CapUserData, err error) {
	header.Version = unix.LINUX_CAPABILITY_VERSION_3
	err = os.NewSyscallError("capget", unix.Capget(&header, &caps[0]))
	return header, caps, err
}

// NoNewPrivs says whether execve(2) can't give this process any privilege, such
// as a file's capabilities (PR_SET_NO_NEW_PRIVS(2const)).
func NoNewPrivs() (bool, error) {
	is, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return is != 0, os.NewSyscallError("prctl(PR_GET_NO_NEW_PRIVS)", err)
}

// NoSuid says whether the mount that path is on gives no privilege to what is
// executed there (mount(8), nosuid).
func NoSuid(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return st.Flags&unix.ST_NOSUID != 0, nil
}

// CheckSuidDumpable refuses a host on which a process that changes its credentials can be traced,
// as it could be when it enters a user namespace of which somebody else has all capabilities:
// it still has memory, descriptors and the UID of where it comes from (proc(5),
// /proc/sys/fs/suid_dumpable).
func CheckSuidDumpable() error {
	const path = "/proc/sys/fs/suid_dumpable"
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// 2 is for root alone.
	if value := strings.TrimSpace(string(text)); value != "0" && value != "2" {
		return fmt.Errorf("fs.suid_dumpable is %s, so that whoever is privileged in a user namespace can trace the process that enters it: have root set it: `sysctl -w fs.suid_dumpable=0`", value)
	}
	return nil
}

// DropCapabilities takes all capabilities from all threads of this process, for
// good. It can't be done in a program with cgo, which is an error (syscall.AllThreadsSyscall).
func DropCapabilities() error {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	if err := roomForSignals(string(text)); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	if errno != 0 {
		return os.NewSyscallError("capset", errno)
	}
	return nil
}

// roomForSignals refuses a process, by its file status in /proc, whose limit leaves no room for a
// signal to each of its threads. That is how Go has them make a system call: it sends each a
// real-time signal, and waits for ever for what the kernel hasn't queued (EAGAIN, RLIMIT_SIGPENDING).
func roomForSignals(status string) error {
	var threads, queued, most uint64
	for line := range strings.Lines(status) {
		_, _ = fmt.Sscanf(line, "Threads:\t%d\n", &threads)
		_, _ = fmt.Sscanf(line, "SigQ:\t%d/%d\n", &queued, &most)
	}
	if threads == 0 {
		return errors.New("/proc/self/status: it doesn't say how many threads there are")
	}
	// Go may have one more by then.
	if free := most - min(queued, most); free <= threads {
		return fmt.Errorf("of %d signals that may be pending (RLIMIT_SIGPENDING, counted for all processes of the user) %d are left: "+
			"%d are needed: raise the limit: ulimit -i", most, free, threads+1)
	}
	return nil
}
