// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"fmt"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StepExecve is the step of a [StepError] whose child came as far as its program.
const StepExecve = "execve"

// Program is what a child becomes.
type Program struct {
	// File is the program's path, or a name to be looked for.
	File string
	// Path is where a name without a slash is looked for, as in the environment
	// variable: directories separated by colons, of which an empty one is the
	// working directory (exec(3)).
	Path string
	Argv []string
	Env  []string
}

// image is a [Program] as execve(2) takes it, for each place where it may be.
type image struct {
	candidates *candidate
	count      int
	env        **byte
	shell      *byte
}

type candidate struct {
	path        *byte
	argv        **byte
	interpreted **byte // for the shell, which gets the path first
}

// shell executes what has no known format, as execvp(3) does.
const shell = "/bin/sh"

func (p Program) image() (*image, error) {
	argv, err := syscall.SlicePtrFromStrings(p.Argv)
	if err != nil {
		return nil, fmt.Errorf("arguments: %w: one has a NUL byte", err)
	}
	env, err := syscall.SlicePtrFromStrings(p.Env)
	if err != nil {
		return nil, fmt.Errorf("environment: %w: a variable has a NUL byte", err)
	}
	sh, err := syscall.BytePtrFromString(shell)
	if err != nil {
		return nil, err
	}
	var all []candidate
	for _, path := range p.paths() {
		at, err := syscall.BytePtrFromString(path)
		if err != nil {
			return nil, fmt.Errorf("program %q: it has a NUL byte", path)
		}
		interpreted := []*byte{sh, at}
		if len(argv) > 1 { // the last one is nil
			interpreted = append(interpreted, argv[1:]...)
		} else {
			interpreted = append(interpreted, nil)
		}
		all = append(all, candidate{at, &argv[0], &interpreted[0]})
	}
	return &image{candidates: &all[0], count: len(all), env: &env[0], shell: sh}, nil
}

// paths is where the program may be, at least one.
func (p Program) paths() []string {
	if p.File == "" || strings.Contains(p.File, "/") {
		return []string{p.File}
	}
	var paths []string
	for dir := range strings.SplitSeq(p.Path, ":") {
		if dir != "" {
			dir += "/"
		}
		paths = append(paths, dir+p.File)
	}
	return paths
}

// become returns only when no candidate could be executed, with the error that
// execvp(3) gives then: a program that the caller may not execute is told rather
// than one that isn't there.
//
//go:norace
//go:nosplit
func become(p *image) syscall.Errno {
	var errno syscall.Errno
	denied := false
	for i := 0; i < p.count; i++ {
		c := (*candidate)(unsafe.Add(unsafe.Pointer(p.candidates), uintptr(i)*unsafe.Sizeof(candidate{})))
		errno = execve(c.path, c.argv, p.env)
		if errno == syscall.ENOEXEC {
			return execve(p.shell, c.interpreted, p.env)
		}
		switch errno {
		case syscall.EACCES:
			denied = true
		case syscall.ENOENT, syscall.ENOTDIR, syscall.ESTALE, syscall.ENODEV, syscall.ETIMEDOUT:
		default:
			return errno
		}
	}
	if denied {
		return syscall.EACCES
	}
	return errno
}

//go:norace
//go:nosplit
func execve(path *byte, argv, env **byte) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(env)))
	return errno
}

// RestoreFileLimit gives this process the soft RLIMIT_NOFILE that it was started
// with, for the programs that its children become. Go raises it at the start, remembers
// what it was for its own exec alone, and puts it back there first: also for one that fails.
func RestoreFileLimit() {
	_ = syscall.Exec("", nil, nil) // no file has no name: ENOENT
}

// DieBy ends this process by a signal, as if it had never been caught or blocked, and
// without a core. Where that doesn't end it, it gives the exit code that a shell has for it.
func DieBy(signal syscall.Signal) int {
	// By the system calls themselves: Go's own handling of some signals shows a trace.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	var standard [4]uintptr
	set := uint64(1) << (signal - 1)
	const unblock = 1 // SIG_UNBLOCK
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(&standard)), 0, 8, 0, 0)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unblock, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0)
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), signal)
	return 128 + int(signal)
}
