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

// hearing is what makes this process pass on its signals to the child, until this process ends. It is for
// right before the program begins: sooner, a signal ends this process and the child with it; later,
// one would end this process under a program that would have caught it. heard says of a
// signal whether the program gets it anyway.
func hearing(child *linux.Child, heard func(syscall.Signal) bool) func() error {
	return func() error {
		pidfd, err := unix.PidfdOpen(child.PID(), 0)
		if err != nil {
			return os.NewSyscallError("pidfd_open", err)
		}
		signals := make(chan os.Signal, 16)
		// One that is ignored stays so, here and in the program.
		signal.Notify(signals, slices.DeleteFunc(slices.Clone(passedOn), signal.Ignored)...)
		go func() {
			for s := range signals {
				if number := s.(syscall.Signal); !heard(number) {
					_ = unix.PidfdSendSignal(pidfd, number, nil, 0) // it has ended, or will not hear
				}
			}
		}()
		return nil
	}
}

// attend waits for the program that the child has become, stops when it stops and
// goes on with it. It gives the exit code, or ends this process by the signal that ended
// the program. term is the program's own terminal, or nil.
func attend(child *linux.Child, term *terminal) (int, error) {
	defer term.end()
	for {
		status, err := child.Wait(unix.WUNTRACED)
		switch {
		case err != nil:
			return 0, closing(child, err)
		case status.Stopped():
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
