// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ends is what the child has of the two pipes.
type ends struct{ report, gate, otherReport, otherGate uintptr }

// forkScript returns in the parent only. It and all that the child calls must not
// split the stack, allocate, or be instrumented: on the child's side there is no
// scheduler and no garbage collector.
//
//go:norace
//go:nosplit
func forkScript(flags uintptr, steps *step, count int, end *ends, program *image) (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, flags|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		runScript(steps, count, end, program)
	}
	return pid, errno
}

// runScript is the child.
//
//go:norace
//go:nosplit
func runScript(steps *step, count int, end *ends, program *image) {
	// While it held the parent's end, its own would never show that the parent is gone.
	syscall.RawSyscall(syscall.SYS_CLOSE, end.otherReport, 0, 0)
	syscall.RawSyscall(syscall.SYS_CLOSE, end.otherGate, 0, 0)
	dieWithEnd(end)
	second := syscall.Errno(0)
	for i := 0; i < count; i++ {
		s := (*step)(unsafe.Add(unsafe.Pointer(steps), uintptr(i)*unsafe.Sizeof(step{})))
		if s.sync {
			say(end, ready, second)
			if !passed(end) {
				syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
			}
			continue
		}
		if s.dies {
			dieWithEnd(end)
			continue
		}
		if s.again {
			if errno := again(end); errno != 0 {
				say(end, i, errno)
				syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
			}
			second = 1
			continue
		}
		if s.alone {
			if errno := closeOthers(end); errno != 0 {
				say(end, i, errno)
				syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
			}
			continue
		}
		for {
			_, _, errno := syscall.RawSyscall6(s.trap, s.args[0], s.args[1], s.args[2], s.args[3], s.args[4], s.args[5])
			if errno == syscall.EINTR {
				continue
			}
			if errno != 0 && errno != s.accept {
				say(end, i, errno)
				syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
			}
			break
		}
	}
	say(end, count, become(program))
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
}

// again returns in the new child only, unless there is none.
//
// That one is the parent's child. The old one stays beside it until the parent ends it, or is gone itself: then it
// ends the new one, who may have been stopped, before it could arm anything, by those it is among now.
//
//go:norace
//go:nosplit
func again(end *ends) syscall.Errno {
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, 0, 0)
	var pidfd int32
	const flags = unix.CLONE_PARENT | unix.CLONE_PIDFD | uintptr(syscall.SIGCHLD)
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(&pidfd)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid != 0 {
		say(end, moved, syscall.Errno(pid))
		passed(end)
		syscall.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(pidfd), uintptr(syscall.SIGKILL), 0, 0, 0, 0)
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
	dieWithEnd(end)
	return 0
}

// closeOthers closes all above 2 but the child's ends of the pipes.
//
//go:norace
//go:nosplit
func closeOthers(end *ends) syscall.Errno {
	const last = 1<<32 - 1
	low, high := end.report, end.gate
	if low > high {
		low, high = high, low
	}
	if errno := closeBetween(3, low); errno != 0 {
		return errno
	}
	if errno := closeBetween(low+1, high); errno != 0 {
		return errno
	}
	return closeBetween(high+1, last)
}

// closeBetween closes from first on to before the last.
//
//go:norace
//go:nosplit
func closeBetween(first, last uintptr) syscall.Errno {
	if first >= last {
		return 0
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, first, last-1, 0)
	return errno
}

// say writes a record.
//
//go:norace
//go:nosplit
func say(end *ends, step int, errno syscall.Errno) {
	record := [2]int32{int32(step), int32(errno)}
	syscall.RawSyscall(syscall.SYS_WRITE, end.report, uintptr(unsafe.Pointer(&record)), recordSize)
}

// dieWithEnd ends the child with the thread that made it, and at once where that is gone. Not by its parent's
// number, as [dieWith]: in a PID namespace that it has joined it has none.
//
//go:norace
//go:nosplit
func dieWithEnd(end *ends) {
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	var gate unix.PollFd
	var none unix.Timespec
	gate.Fd = int32(end.gate)
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&gate)), 1, uintptr(unsafe.Pointer(&none)), 0, 0, 0)
	if errno == 0 && n == 1 && gate.Revents&unix.POLLHUP != 0 {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// passed waits for the parent's byte. The end of the pipe is the end of the parent.
//
//go:norace
//go:nosplit
func passed(end *ends) bool {
	var b [1]byte
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, end.gate, uintptr(unsafe.Pointer(&b)), 1)
		if errno != syscall.EINTR {
			return errno == 0 && n == 1
		}
	}
}
