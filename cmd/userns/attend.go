// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// passedOn is the signals that a program gets which this one is sent. Those that stop
// and continue are the kernel's and the shell's business: see attend.
var passedOn = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
}

// attendant is this process for the program that its child becomes.
type attendant struct {
	child *linux.Child
	// heard says of a signal whether the program gets it anyway.
	heard func(syscall.Signal) bool
	// stops says that it stops when the program stops, for a shell to see it. Where whoever is inside stops the
	// program against its will, and there is no shell, that would only keep from it what it is told.
	stops bool
}

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
			if !a.stops {
				// One that is stopped hears it, as by timeout(1).
				_ = unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0)
			}
		}
	}()
	return nil
}

// attend waits for the program that the child has become, and may stop and go on with it. It gives the
// exit code, or ends this process by the signal that ended the program. term is the program's own
// terminal, or nil.
func (a *attendant) attend(term *terminal) (int, error) {
	defer term.end()
	child, options := a.child, 0
	if a.stops {
		options = unix.WUNTRACED
	}
	for {
		status, err := child.Wait(options)
		switch {
		case err != nil:
			return 0, closing(child, err)
		case status.Stopped():
			// A terminal's Ctrl-Z has stopped this process as well, maybe right here. Then the shell has continued
			// both by now, and to stop once more would take a second `fg`.
			if on, err := child.Continued(); err != nil || on {
				if err != nil {
					return 0, closing(child, err)
				}
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
