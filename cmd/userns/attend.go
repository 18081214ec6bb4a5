// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// passedOn is the signals that a program gets which this one is sent. Those that stop
// and continue are the kernel's and the shell's business: see attend.
var passedOn = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
}

// ending is those of them by which somebody wants an end.
var ending = []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM}

// attendant is this process for the program that its child becomes.
type attendant struct {
	child *linux.Child
	// heard says of a signal whether the program gets it anyway.
	heard func(syscall.Signal) bool
	// stops says that it stops when the program stops, for a shell to see it. Where whoever is inside stops the
	// program against its will, and there is no shell, that would only keep from it what it is told.
	stops bool
	// term is the program's own terminal, or nil.
	term *terminal
	// kept is closed when the program has ended, and nobody is told how: see watch.
	kept chan struct{}
}

// patience is how long this process waits for what the kernel does at once, unless somebody else prevents it.
const patience = 5 * time.Second

// hear passes on signals to the child from now on, until this process ends; before, one ends this process and
// the child with it. So it is for right before the program begins, which may catch them. Where others may stop the
// child before it could hear anything, it is for right after.
func (a *attendant) hear() error {
	pidfd, err := unix.PidfdOpen(a.child.PID(), 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	passed := slices.Clone(passedOn)
	if !a.stops {
		passed = append(passed, unix.SIGCONT)
	}
	a.kept = make(chan struct{})
	go a.watch(pidfd)
	signals := make(chan os.Signal, 16)
	// One that is ignored stays so, here and in the program.
	signal.Notify(signals, slices.DeleteFunc(passed, signal.Ignored)...)
	go func() {
		for s := range signals {
			number := s.(syscall.Signal)
			if a.heard(number) {
				continue
			}
			_ = unix.PidfdSendSignal(pidfd, number, nil, 0) // it has ended, or will not hear
			if slices.Contains(ending, number) {
				a.term.hurry()
			}
			if !a.stops {
				// One that is stopped hears it, as by timeout(1).
				_ = unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0)
			}
		}
	}()
	return nil
}

// errKept is why the exit code of a program isn't known.
var errKept = errors.New("the program has ended, and whoever traces it keeps its exit code")

// watch says a little after the program has ended that this process hasn't been told so. Whoever traces the program
// is told first, and may never look (ptrace(2)); and where that is somebody in a container, they would hold up
// who has entered it.
func (a *attendant) watch(pidfd int) {
	ended := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(ended, -1); err == nil {
			break
		} else if err != unix.EINTR {
			return
		}
	}
	time.Sleep(patience)
	// Only one that nobody has waited for can be sent a signal.
	if unix.PidfdSendSignal(pidfd, 0, nil, 0) != unix.ESRCH {
		close(a.kept)
	}
}

// wait waits for the child to end, or, by the options, to stop.
func (a *attendant) wait(options int) (unix.WaitStatus, error) {
	type told struct {
		status unix.WaitStatus
		err    error
	}
	answer := make(chan told, 1)
	go func() {
		status, err := a.child.Wait(options)
		answer <- told{status, err}
	}()
	select {
	case is := <-answer:
		return is.status, is.err
	case <-a.kept:
		return 0, errKept // who is still waiting ends with this process
	}
}

// attend waits for the program that the child has become, and may stop and go on with it. It gives the
// exit code, or ends this process by the signal that ended the program.
func (a *attendant) attend() (int, error) {
	child, options, term := a.child, 0, a.term
	defer term.end()
	if a.stops {
		options = unix.WUNTRACED
	}
	for {
		status, err := a.wait(options)
		switch {
		case errors.Is(err, errKept):
			return 0, err // to close the child would be to wait for it
		case err != nil:
			return 0, closing(child, err)
		case status.Stopped():
			// A terminal's Ctrl-Z has stopped this process as well, maybe right here. Then the shell has continued
			// both by now, and to stop once more would take a second `fg`.
			on, err := child.Continued()
			if err != nil {
				return 0, closing(child, err)
			}
			if on {
				continue
			}
			// The shell sees this process, and continues it or its whole group.
			term.restore()
			if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
				return 0, closing(child, os.NewSyscallError("kill", err))
			}
			if err := term.raw(); err != nil {
				return 0, closing(child, err)
			}
			// It isn't waited for yet: the number is its own.
			if err := unix.Kill(child.PID(), unix.SIGCONT); err != nil {
				return 0, closing(child, os.NewSyscallError("kill", err))
			}
		case status.Exited():
			return status.ExitStatus(), child.Close()
		case status.Signal() > 0: // -1 where none has ended it
			if err := child.Close(); err != nil {
				return 0, err
			}
			term.end()
			return linux.DieBy(status.Signal()), nil
		}
	}
}

// closing ends a child whose parent can't go on.
func closing(child *linux.Child, err error) error {
	_ = child.Close() // the first error is the one to be told
	return err
}

// fromTerminal says of a signal whether the terminal has sent it to the program as
// well, since it sends it to all processes of its foreground group (termios(3), ISIG).
// The same signal sent to this process alone isn't told apart, and isn't passed on then.
func fromTerminal(s syscall.Signal) bool {
	if s != unix.SIGINT && s != unix.SIGQUIT {
		return false
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
