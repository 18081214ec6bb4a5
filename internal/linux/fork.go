// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// forked calls fork on the calling thread with all signals blocked, and gives
// them back in the parent. No signal may find a child with Go's handlers and
// without Go's runtime behind them; SIGKILL can't be blocked, and is what ends it.
// before is the mask of the thread, which a child that becomes a program needs.
//
// fork returns in the parent only. A child that is there although an error is
// returned has its PID with it.
func forked(fork func(before *unix.Sigset_t) (pid uintptr, errno syscall.Errno)) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return 0, os.NewSyscallError("rt_sigprocmask", err)
	}
	pid, errno := fork(&before)
	err := os.NewSyscallError("rt_sigprocmask", unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil))
	if errno != 0 {
		return 0, errors.Join(os.NewSyscallError("clone", errno), err)
	}
	return int(pid), err
}

// endChild kills a child and reaps it.
func endChild(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return os.NewSyscallError("kill", err)
	}
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("wait4", err)
		}
	}
}
