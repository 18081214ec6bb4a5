// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Script is what a child process does between its fork and the program that it
// becomes: system calls, one after the other, without a Go runtime behind it. A
// Go program needs it for what the kernel refuses to a process of several
// threads, such as setns(2) into a user namespace.
//
// All memory that the calls use is prepared before the fork. The zero Script
// does nothing. It can be forked once.
type Script struct {
	// DeathSignal is what the program gets when the thread that forked it ends;
	// 0 is SIGKILL. It is lost where the program raises its privileges, as a setuid
	// program does (PR_SET_PDEATHSIG(2const)). Until the program begins it is SIGKILL.
	DeathSignal syscall.Signal

	steps []step
	keep  []any // what the steps point to
	err   error // the first thing that can't be said to the kernel
}

// step is one system call. It has no slice and no string that the child looks at.
type step struct {
	trap   uintptr
	args   [6]uintptr
	accept syscall.Errno // the error that is as good as success, 0 for none
	sync   bool          // no call, but [Script.Sync]
	again  bool          // no call, but [Script.Again]
	alone  bool          // no call, but [Script.CloseOthers]
	dies   bool          // no call, but [Script.DieWithParent]
	name   string        // for the parent
}

// Call adds a system call. name is what an error calls it, as the man page does.
func (s *Script) Call(name string, trap uintptr, args ...uintptr) {
	s.CallAccepting(0, name, trap, args...)
}

// CallAccepting adds a system call that may fail in one way.
func (s *Script) CallAccepting(accept syscall.Errno, name string, trap uintptr, args ...uintptr) {
	added := step{name: name, trap: trap, accept: accept}
	if copy(added.args[:], args) < len(args) && s.err == nil {
		s.err = fmt.Errorf("%s: %d arguments: a system call takes %d at most", name, len(args), len(added.args))
	}
	s.steps = append(s.steps, added)
}

// DieWithParent arms SIGKILL for the parent's death, which a change of IDs or of the user namespace takes
// away. Any child sees at the next [Script.Sync] that the parent is gone, but for one that somebody has stopped:
// so it is for right after a change in a place where others may do that. The child's first step is one, and so is
// what follows [Script.Again].
func (s *Script) DieWithParent() {
	s.steps = append(s.steps, step{dies: true, name: "prctl(PR_SET_PDEATHSIG)"})
}

// Sync adds a place at which the child stops until [Child.Pass]. [Script.DieWithParent] is part of it: a child
// that has passed dies with its parent, however short the time was.
func (s *Script) Sync() {
	s.DieWithParent()
	s.steps = append(s.steps, step{sync: true, name: "sync"})
}

// Again has the child leave what comes to a child of its own, beside it: a PID namespace that was
// joined is only for those who come after (setns(2)). The parent has it for its child from
// the next [Child.Reach] on. Up to there the old one sees to it that the new one ends with the parent,
// even if somebody in that namespace has stopped it. It can be had once, after no [Script.Sync].
func (s *Script) Again() {
	s.steps = append(s.steps, step{again: true, name: "clone"})
}

// CloseOthers closes what the child has open above 2, but for its own pipes. Until they are closed, a
// name that somebody else made may lead to what is open, by /proc/self/fd, whether it is
// closed by execve(2) or not.
func (s *Script) CloseOthers() {
	s.steps = append(s.steps, step{alone: true, name: "close_range"})
}

// Text is the address of a text for a call. A NUL byte in it, which would end it
// there, is an error of [Script.Fork].
func (s *Script) Text(text string) uintptr {
	p, err := syscall.BytePtrFromString(text)
	if err != nil {
		if s.err == nil {
			s.err = fmt.Errorf("%q: has a NUL byte", text)
		}
		return 0
	}
	return Keep(s, p)
}

// Keep is the address of p for a call. The memory stays where it is until the
// fork; what the child writes to it, the parent doesn't see.
func Keep[T any](s *Script, p *T) uintptr {
	s.keep = append(s.keep, p)
	return uintptr(unsafe.Pointer(p))
}

// Child is a process that [Script.Fork] made.
type Child struct {
	pid    int
	first  int  // the one that is beside it yet, after a [Script.Again]; 0 for none
	moved  bool // it is the one that an Again has made
	steps  []step
	report int // read end: records of the child
	gate   int // write end: a byte lets it pass a Sync
}

// StepError is why a child didn't become its program.
type StepError struct {
	Step  string // the system call
	Errno syscall.Errno
}

func (e *StepError) Error() string { return e.Step + ": " + e.Errno.Error() }

// Unwrap gives the errno.
func (e *StepError) Unwrap() error { return e.Errno }

// ErrChildEnded says that a child was ended by somebody else before it became
// its program.
var ErrChildEnded = errors.New("the child was ended before it was its program")

// A record is the index of a step and an errno. ready is the index at a Sync, with 1 in place of the
// errno after an Again, and moved at an Again, with the number of the new child in that place.
const (
	recordSize = 8
	ready      = -1
	moved      = -2
)

// Fork starts the child, in new namespaces by flags (clone(2), CLONE_NEW*). Its
// steps begin at once, and stop at the first Sync. One more comes after the last
// of them, so that the parent's death isn't missed. Then the signals that this program
// handles have their default action, the mask of the calling thread is in force,
// descriptors above 2 are closed, and the child becomes the program.
//
// The thread that calls must stay until the child has ended: see DeathSignal.
// Errors are *os.SyscallError; the caller must [Child.Close] what it got.
func (s *Script) Fork(flags uintptr, program Program) (*Child, error) {
	image, err := program.image()
	if s.err != nil {
		err = s.err
	}
	if err != nil {
		return nil, err
	}
	var report, gate [2]int
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		unix.Close(report[0])
		unix.Close(report[1])
		return nil, os.NewSyscallError("pipe2", err)
	}
	end := ends{report: uintptr(report[1]), gate: uintptr(gate[0]), otherReport: uintptr(report[0]), otherGate: uintptr(gate[1])}
	pid, err := forked(func(before *unix.Sigset_t) (uintptr, syscall.Errno) {
		s.finish(before)
		return forkScript(flags, &s.steps[0], len(s.steps), &end, image)
	})
	unix.Close(report[1])
	unix.Close(gate[0])
	c := &Child{pid: pid, steps: s.steps, report: report[0], gate: gate[1]}
	s.steps, s.keep = nil, nil
	if err != nil {
		if pid == 0 {
			unix.Close(c.report)
			unix.Close(c.gate)
			return nil, err
		}
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// finish adds what comes right before the program.
func (s *Script) finish(mask *unix.Sigset_t) {
	s.Sync()
	if s.DeathSignal != 0 {
		s.Call("prctl(PR_SET_PDEATHSIG)", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(s.DeathSignal))
	}
	// Between the mask and the program a signal must not find a handler. A
	// struct sigaction of zeros is SIG_DFL on every architecture; its first word is the handler.
	const ignored = 1
	var none [4]uintptr
	standard := Keep(s, &none)
	for sig := uintptr(1); sig <= 64; sig++ {
		var is [4]uintptr
		_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&is)), 8, 0, 0)
		if errno == 0 && is[0] > ignored {
			s.Call("rt_sigaction", unix.SYS_RT_SIGACTION, sig, standard, 0, 8)
		}
	}
	const last = 1<<32 - 1
	s.Call("close_range", unix.SYS_CLOSE_RANGE, 3, last, unix.CLOSE_RANGE_CLOEXEC)
	copied := *mask
	s.Call("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, Keep(s, &copied), 0, 8)
}

// PID is the child's process ID, which can't be reused before [Child.Wait] has
// seen its end or [Child.Close].
func (c *Child) PID() int { return c.pid }

// Reach waits until the child stands at its next [Script.Sync]. A step that failed
// on the way is a *StepError, a child that is gone ErrChildEnded.
func (c *Child) Reach() error {
	step, errno, err := c.readOrEnd()
	switch {
	case err != nil:
		return err
	case step == moved:
		if err := c.move(int(int32(errno))); err != nil {
			return err
		}
		if step, errno, err = c.readOrEnd(); err != nil {
			return err
		}
	case !c.moved && c.afterAgain(step, errno):
		// The two speak in whatever order.
		said, pid, err := c.readOrEnd()
		if err == nil && said != moved {
			err = c.failed(said, pid)
		}
		if err == nil {
			err = c.move(int(int32(pid)))
		}
		if err != nil {
			return err
		}
	}
	if err := c.endFirst(); err != nil {
		return err
	}
	if step != ready {
		return c.failed(step, errno)
	}
	return nil
}

// afterAgain says whether a record is from a child that an Again has made.
func (c *Child) afterAgain(at int32, errno syscall.Errno) bool {
	again := slices.IndexFunc(c.steps, func(s step) bool { return s.again })
	return again >= 0 && (at == ready && errno != 0 || int(at) > again)
}

// Pass lets the child go on from the Sync that it stands at.
func (c *Child) Pass() error {
	for {
		_, err := unix.Write(c.gate, []byte{1})
		switch err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EPIPE:
			return ErrChildEnded
		default:
			return os.NewSyscallError("write", err)
		}
	}
}

// Become lets the child go on from the last Sync, and waits until it is its
// program. A program that can't be executed is a *StepError of the step "execve".
// Afterwards the child is to be waited for. What has to be there when the program begins is
// made by ready, once nothing but the program is left to begin; its error is Become's. It can be nil.
func (c *Child) Become(ready func() error) error {
	if err := c.Reach(); err != nil {
		return err
	}
	if ready != nil {
		if err := ready(); err != nil {
			return err
		}
	}
	if err := c.Pass(); err != nil {
		return err
	}
	step, errno, err := c.read()
	switch {
	case errors.Is(err, ErrChildEnded):
		return nil // its end of the pipe was closed by execve, or by a signal: Wait tells
	case err != nil:
		return err
	}
	return c.failed(step, errno)
}

// move takes the child's own child for it. Whose number the child has said must be
// a child of this process: it is going to be killed by it, and -1 is everybody.
func (c *Child) move(pid int) error {
	if pid <= 0 {
		return fmt.Errorf("child: %d isn't the number of its own child", pid)
	}
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return fmt.Errorf("child: %d isn't its own child: %w", pid, os.NewSyscallError("waitid", err))
	}
	c.first, c.pid, c.moved = c.pid, pid, true
	return nil
}

// endFirst ends the one that is beside the child yet.
func (c *Child) endFirst() error {
	if c.first == 0 {
		return nil
	}
	first := c.first
	c.first = 0
	return endChild(first)
}

// readOrEnd is read, for a child whose own child may have the other end of the pipe open when it
// is gone.
func (c *Child) readOrEnd() (step int32, errno syscall.Errno, err error) {
	pidfd, err := unix.PidfdOpen(c.pid, 0)
	if err != nil {
		return 0, 0, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	fds := []unix.PollFd{{Fd: int32(c.report), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, 0, os.NewSyscallError("poll", err)
		}
		break
	}
	if fds[0].Revents == 0 {
		// It may have spoken between the two looks of poll(2).
		if n, err := unix.Poll(fds[:1], 0); err != nil || n == 0 {
			return 0, 0, ErrChildEnded
		}
	}
	return c.read()
}

func (c *Child) failed(step int32, errno syscall.Errno) error {
	switch {
	case step >= 0 && int(step) < len(c.steps):
		return &StepError{c.steps[step].name, errno}
	case int(step) == len(c.steps):
		return &StepError{StepExecve, errno}
	}
	return fmt.Errorf("child: record %d, %d: expected one of %d steps", step, int(errno), len(c.steps))
}

func (c *Child) read() (step int32, errno syscall.Errno, err error) {
	var record [recordSize]byte
	for {
		n, err := unix.Read(c.report, record[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, 0, ErrChildEnded
		case n != recordSize:
			return 0, 0, fmt.Errorf("child: %d bytes: expected a record of %d", n, recordSize)
		}
		break
	}
	return int32(binary.NativeEndian.Uint32(record[:4])), syscall.Errno(binary.NativeEndian.Uint32(record[4:])), nil
}

// Wait waits for the child to end, or, with unix.WUNTRACED, to stop (wait4(2)).
// Signals that arrive meanwhile are no error.
func (c *Child) Wait(options int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(c.pid, &status, options, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, os.NewSyscallError("wait4", err)
		}
		if status.Exited() || status.Signal() > 0 { // -1 where none has ended it
			c.pid = 0
		}
		return status, nil
	}
}

// Continued says whether the child, which has stopped, goes on since, or has ended. It doesn't wait, and its end is
// still to be waited for.
func (c *Child) Continued() (bool, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WCONTINUED|unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD: // none that could still be continued
			return true, nil
		case err != nil:
			return false, os.NewSyscallError("waitid", err)
		}
		return info.Signo != 0, nil
	}
}

// Close ends the child, if it hasn't ended, and reaps it. It frees what the child
// was told by, and must be called once.
func (c *Child) Close() error {
	unix.Close(c.report)
	unix.Close(c.gate)
	err := c.endFirst()
	if c.pid == 0 {
		return err
	}
	return errors.Join(err, endChild(c.pid))
}
