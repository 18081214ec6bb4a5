// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
)

// exec runs a program in a new user namespace of the caller's, and gives its exit code.
func (p *program) exec(args []string) (int, error) {
	o, usages, err := parseExec(args)
	if err != nil {
		return 0, err
	}
	switch {
	case o.help:
		return p.show("exec", "Usage:\n  "+programName+" exec [options] [--] [PROGRAM [ARGUMENT...]]\n\n"+
			"Runs PROGRAM (your SHELL) in a new user namespace that is yours.\n\nOptions:\n"+usages), nil
	case o.version:
		return p.show("exec", programName+" version "+version+"\n"), nil
	}
	caller, err := delegate.Identify()
	if err != nil {
		return 0, err
	}
	made, err := makePlan(caller, o)
	p.log("exec", made, err)
	if err != nil {
		return 0, err
	}
	a, err := p.run(o, made)
	if err != nil {
		return 0, err
	}
	return a.attend()
}

// program is what the child becomes: the caller's shell where they name none.
func (p *program) image(command []string) linux.Program {
	image := linux.Program{Env: p.environ, Argv: command}
	if len(command) == 0 {
		shell := p.variable("SHELL", "")
		if shell == "" {
			shell = "/bin/sh"
		}
		image.File, image.Argv = shell, []string{"-" + shell[strings.LastIndexByte(shell, '/')+1:]}
		return image
	}
	image.File = command[0]
	image.Path = p.variable("PATH", "/bin:/usr/bin")
	return image
}

// run starts the program. Where it fails nothing is left.
func (p *program) run(o execOptions, made plan) (_ *attendant, err error) {
	image := p.image(o.command)
	script, flags := o.script(made)
	child, err := script.Fork(flags, image)
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w%s", err, delegate.CreateHint(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, child.Close())
		}
	}()
	if err := child.Reach(); err != nil {
		return nil, err
	}
	inProc, err := mapChild(child, made)
	if err != nil {
		p.log("exec", made, err)
		return nil, err
	}
	if err := child.Pass(); err != nil {
		return nil, err
	}
	if o.offsets != "" {
		if err := setClocks(child, inProc, o.offsets); err != nil {
			return nil, err
		}
	}
	// What comes now is the caller's own doing.
	if err := linux.DropCapabilities(); err != nil {
		return nil, err
	}
	a := &attendant{child: child, heard: fromTerminal, stops: true}
	if err := child.Become(a.hear); err != nil {
		return nil, notBecome(err, image.File)
	}
	return a, nil
}

// mapChild maps the namespace of the child, and gives its number as /proc counts it: that may be the
// /proc of another PID namespace (unshare --pid without --mount-proc), in which the child's own number
// is somebody else's.
func mapChild(child *linux.Child, made plan) (int, error) {
	pidfd, err := unix.PidfdOpen(child.PID(), 0)
	if err != nil {
		return 0, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	process, err := delegate.OpenProcessFD(pidfd)
	if err != nil {
		return 0, err
	}
	defer process.Close()
	return process.PID(), process.Write(delegate.Namespace{UIDs: made.uids, GIDs: made.gids, DenySetgroups: made.denySetgroups})
}

// setClocks writes the offsets of the child's new time namespace, in which nobody is yet. inProc is the
// number of the child as /proc counts it.
func setClocks(child *linux.Child, inProc int, offsets string) error {
	if err := child.Reach(); err != nil {
		return explainStep(err)
	}
	// The number is the child's until it is waited for.
	f, err := os.OpenFile("/proc/"+strconv.Itoa(inProc)+"/timens_offsets", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(offsets)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return child.Pass()
}

// notBecome is why the program doesn't run, with the exit code of a shell for it.
func notBecome(err error, file string) error {
	var step *linux.StepError
	if !errors.As(err, &step) || step.Step != linux.StepExecve {
		return explainStep(err)
	}
	code := exitNotStarted
	if step.Errno == unix.ENOENT {
		code = exitNotFound
	}
	return &failure{code, fmt.Errorf("%s: can't be executed: %w", file, step.Errno)}
}

// explainStep adds to a step's error what mends it, where that is known.
func explainStep(err error) error {
	var step *linux.StepError
	if !errors.As(err, &step) {
		return err
	}
	switch {
	case strings.HasSuffix(step.Step, ", proc)") && step.Errno == unix.EPERM:
		return fmt.Errorf("%w: a proc filesystem can be mounted in a new PID namespace (--pid --fork), where that of the host isn't covered in part", err)
	case step.Step == "unshare" && step.Errno == unix.ENOSPC:
		return fmt.Errorf("%w: no more namespaces of a kind are allowed: see `sysctl user`", err)
	case strings.HasPrefix(step.Step, "chdir("), strings.HasPrefix(step.Step, "chroot("):
		return fmt.Errorf("%w: expected a directory that you can reach", err)
	}
	return err
}
