// SPDX-License-Identifier: Apache-2.0

// Command killat runs a program and sends it SIGKILL before the Nth of the system calls by
// which it could change something, counted over all of its threads and children. It prints how
// many there were. It is a test's helper and never shipped.
// With -own, those of its threads alone count, and its children aren't looked at.
// usage: killat [-own] N PROGRAM [ARGS...]; the status is 0 if it was killed, 3 if it ended before
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// changing is the system calls that are counted; of openat(2) those that may make a file, too.
var changing = map[uint64]bool{
	unix.SYS_MKDIRAT: true, unix.SYS_UNLINKAT: true, unix.SYS_RENAMEAT: true, unix.SYS_RENAMEAT2: true, unix.SYS_SYMLINKAT: true,
	unix.SYS_FCHMOD: true, unix.SYS_FCHMODAT: true, unix.SYS_FCHOWN: true, unix.SYS_FCHOWNAT: true, unix.SYS_UTIMENSAT: true,
	unix.SYS_PWRITE64: true, unix.SYS_FTRUNCATE: true, unix.SYS_FLOCK: true, unix.SYS_MOUNT: true, unix.SYS_UMOUNT2: true,
	unix.SYS_LSETXATTR: true, unix.SYS_FSETXATTR: true, unix.SYS_FCHMODAT2: true, unix.SYS_SYNCFS: true,
	unix.SYS_SETNS: true, unix.SYS_SETRESUID: true, unix.SYS_KILL: true, unix.SYS_CLOSE_RANGE: true, unix.SYS_PPOLL: true,
}

func main() {
	args := os.Args[1:]
	own := len(args) > 0 && args[0] == "-own"
	if own {
		args = args[1:]
	}
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: killat [-own] N PROGRAM [ARGS...]")
		os.Exit(2)
	}
	n, err := strconv.Atoi(args[0])
	killed, calls := false, 0
	if err == nil {
		killed, calls, err = run(n, own, args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "killat:", err)
		os.Exit(1)
	}
	fmt.Println(calls)
	if !killed {
		os.Exit(3)
	}
}

// syscallStop is the signal of a stop at a system call (PTRACE_O_TRACESYSGOOD, ptrace(2)).
const syscallStop = unix.SIGTRAP | 0x80

func run(n int, own bool, args []string) (killed bool, calls int, err error) {
	// Who traces is a thread.
	runtime.LockOSThread()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return false, 0, err
	}
	pid := cmd.Process.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return false, 0, fmt.Errorf("wait4: %w", err)
	}
	options := unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if !own {
		options |= unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	}
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		return false, 0, fmt.Errorf("ptrace(PTRACE_SETOPTIONS): %w", err)
	}
	inside := map[int]bool{} // threads that are in a system call
	at := pid
	for signal := 0; ; {
		// It may have been killed meanwhile.
		if err := unix.PtraceSyscall(at, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return killed, calls, fmt.Errorf("ptrace(PTRACE_SYSCALL): %w", err)
		}
		at, err = unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return killed, calls, nil
		case err != nil:
			return killed, calls, fmt.Errorf("wait4: %w", err)
		}
		signal = 0
		switch {
		case !status.Stopped():
			if at == pid {
				return killed, calls, nil
			}
		case status.StopSignal() == syscallStop:
			if inside[at] = !inside[at]; inside[at] && changes(at) {
				if calls++; calls == n {
					killed = true
					if err := unix.Kill(pid, unix.SIGKILL); err != nil {
						return false, calls, fmt.Errorf("kill: %w", err)
					}
				}
			}
		case status.TrapCause() < 0 && status.StopSignal() != unix.SIGSTOP && status.StopSignal() != unix.SIGTRAP:
			signal = int(status.StopSignal())
		}
	}
}

// changes says whether the system call that a thread begins is one that is counted.
func changes(tid int) bool {
	var regs unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &regs) != nil {
		return false
	}
	call, flags := callOf(&regs)
	return changing[call] || call == unix.SYS_OPENAT && flags&unix.O_CREAT != 0
}
