// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Parked is a child process that does nothing but exist inside a user
// namespace, so that the namespace can be mapped and looked at through
// /proc/PID. It has no file open. It dies with the thread that made it, also
// after an exec, at [Parked.Close], or after ten minutes.
//
// The PID can't be reused before Close, since the child isn't reaped. A child in
// a new namespace must be closed before anybody else gets into it: it is as
// privileged on the host as the caller.
type Parked struct{ pid int }

// ParkInNewUserNS starts a child in a new user namespace. The namespace belongs
// to the effective UID of the caller, and is not mapped yet. Errors are
// *os.SyscallError: ENOSPC means that user.max_user_namespaces is reached,
// EPERM that this host or the seccomp filter of the caller doesn't allow user
// namespaces (user_namespaces(7)).
func ParkInNewUserNS() (*Parked, error) { return park(unix.CLONE_NEWUSER, -1, false) }

// ParkInUserNS starts a child that has joined the user namespace that nsfd is
// open on. A Go program can't do so itself: setns(2) refuses CLONE_NEWUSER to a
// process with several threads. Errors are *os.SyscallError.
func ParkInUserNS(nsfd int) (*Parked, error) {
	for tries := 0; ; tries++ {
		p, err := park(0, nsfd, false)
		if !errors.Is(err, ErrChildEnded) || tries == mostKilled {
			return p, err
		}
	}
}

// mostKilled is how often a child may be killed before it is ready, by whoever owns the namespace: as fast as they
// go, they are in time for one of several.
const mostKilled = 20

// ParkInNestedUserNS starts a child that has joined the user namespace that nsfd is open on, and
// is in a new one below it, which belongs to the effective UID of the caller. That must be mapped in the
// one that nsfd is open on, and so must be the effective GID. Errors are *os.SyscallError.
func ParkInNestedUserNS(nsfd int) (*Parked, error) { return park(0, nsfd, true) }

// park forks without exec. The child has one thread, a copy of our memory, and
// no Go runtime behind it: it runs [parkedChild] only, which makes raw system
// calls until it is killed.
func park(flags uintptr, nsfd int, nested bool) (*Parked, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])

	pid, err := forked(func(*unix.Sigset_t) (uintptr, syscall.Errno) {
		return forkParked(flags, nsfd, nested, pipe[1], unix.Getpid())
	})
	unix.Close(pipe[1])
	p := &Parked{pid: pid}
	if err != nil {
		if pid != 0 {
			err = errors.Join(err, p.Close())
		}
		return nil, err
	}
	// The child writes which call failed, and its errno, 0 when it is where it should be.
	var report [2]byte
	if n, err := hear(pid, pipe[0], report[:]); err != nil || n != len(report) {
		_ = p.Close()
		if err == nil {
			err = ErrChildEnded
		}
		return nil, fmt.Errorf("child in a user namespace: %w", err)
	}
	if report[1] != 0 {
		_ = p.Close()
		return nil, os.NewSyscallError([]string{"setns", "unshare"}[report[0]], unix.Errno(report[1]))
	}
	return p, nil
}

// ErrHeldUp says that somebody has kept a child from what it was to do, for all the time that it was given.
var ErrHeldUp = errors.New("whoever owns the user namespace keeps stopping the child that has joined it")

// patience is how long a child may take that somebody stops. One that is let alone takes no millisecond.
var patience = 10 * time.Second

// hear reads what a child says by the pipe, nothing if it has ended. Whoever owns the user namespace that it has
// joined may signal it there, and so stop it, and would hold up the parent: it is continued then.
func hear(pid, pipe int, text []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}
	wait := 50 // milliseconds, which no child takes on a host that isn't busy
	for end := time.Now().Add(patience); ; {
		n, err := unix.Poll(fds, wait)
		if err == nil && n > 0 {
			n, err = unix.Read(pipe, text)
			if err == nil {
				return n, nil
			}
		}
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case time.Now().After(end):
			return 0, ErrHeldUp
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			return 0, os.NewSyscallError("kill", err)
		}
		wait = 1 // it may be stopped again right away
	}
}

// forkParked returns in the parent only. It and [parkedChild] must not split
// the stack, allocate, or be instrumented: on the child's side there is no
// scheduler and no garbage collector.
//
//go:norace
//go:nosplit
func forkParked(flags uintptr, nsfd int, nested bool, report, parent int) (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, flags|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		parkedChild(nsfd, nested, report, parent)
	}
	return pid, errno
}

//go:norace
//go:nosplit
func parkedChild(nsfd int, nested bool, report, parent int) {
	var result [2]byte
	dieWith(parent)
	if nested {
		moreProcesses()
	}
	if nsfd >= 0 {
		result[1] = byte(joinUserNS(nsfd, parent))
	}
	if nested && result[1] == 0 {
		_, _, errno := syscall.RawSyscall(syscall.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0)
		result[0], result[1] = 1, byte(errno)
		undumpable()
		dieWith(parent)
	}
	// What the caller has open is the caller's: a pipe that this child held would
	// never reach its end, and a file could be got at through /proc.
	const last = 1<<32 - 1
	_, _, before := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 0, uintptr(report)-1, 0)
	_, _, after := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, uintptr(report)+1, last, 0)
	if (before != 0 && report > 0) || after != 0 {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(report), uintptr(unsafe.Pointer(&result[0])), uintptr(len(result)))
	syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(report), 0, 0)
	most := unix.Timespec{Sec: 600}
	// Not pause(2), which arm64 doesn't have.
	syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&most)), 0, 0, 0)
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
}

// moreProcesses raises how many processes the child may have as far as it may. All processes in a
// namespace that isn't made directly below the host's are held to that limit of its maker
// together, and by nothing else could they be given more (kernel/user_namespace.c, create_user_ns).
//
//go:norace
//go:nosplit
func moreProcesses() {
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	_, _, errno := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno == 0 {
		return
	}
	_, _, errno = syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, 0, uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno == 0 {
		limit.Cur = limit.Max
		syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	}
}

// dieWith ends the child with the thread that made it; one that was killed before that will
// never end it.
//
//go:norace
//go:nosplit
func dieWith(parent int) {
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	if ppid, _, _ := syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0); int(ppid) != parent {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// undumpable keeps those away from the child who may trace what is in its namespace.
//
//go:norace
//go:nosplit
func undumpable() {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// joinUserNS takes a child into the user namespace that nsfd is open on.
//
// Whoever has CAP_SYS_PTRACE in there may trace its processes, and the child still has the
// caller's host UID, files and mounts. A process that isn't dumpable can be traced only with the
// capability in the namespace its memory comes from, which is the caller's (ptrace(2), "Ptrace
// access mode checking"). New credentials set that anew, to fs.suid_dumpable, which some host may
// have at 1; and another user namespace clears the parent-death signal (PR_SET_PDEATHSIG(2const)).
//
//go:norace
//go:nosplit
func joinUserNS(nsfd, parent int) syscall.Errno {
	undumpable()
	_, _, errno := syscall.RawSyscall(unix.SYS_SETNS, uintptr(nsfd), unix.CLONE_NEWUSER, 0)
	undumpable()
	dieWith(parent)
	return errno
}

// PID is the child's process ID.
func (p *Parked) PID() int { return p.pid }

// UserNS opens the user namespace that the child is in.
func (p *Parked) UserNS() (*os.File, error) { return os.Open(p.proc("ns/user")) }

// WriteFile writes text to /proc/PID/name of the child in one write(2), as
// uid_map, gid_map and setgroups want it (user_namespaces(7)).
func (p *Parked) WriteFile(name, text string) error {
	f, err := os.OpenFile(p.proc(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// ReadFile reads /proc/PID/name of the child.
func (p *Parked) ReadFile(name string) (string, error) {
	text, err := os.ReadFile(p.proc(name))
	return string(text), err
}

// NamespacePath is the path in /proc of the user namespace that the child is in,
// good for as long as the child lives.
func (p *Parked) NamespacePath() string { return p.proc("ns/user") }

func (p *Parked) proc(name string) string { return "/proc/" + strconv.Itoa(p.pid) + "/" + name }

// Close ends the child and reaps it. The namespace lives on while a file is
// open on it.
func (p *Parked) Close() error { return endChild(p.pid) }
