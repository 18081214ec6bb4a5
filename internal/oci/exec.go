// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// guardVar is set in the environment of the low-level runtime to our process
// ID. An exec keeps the ID, so a process that finds its own there has been
// started by itself: the "low-level runtime" was this program under another
// name. It can only lead to a refusal, so it needn't be trusted.
const guardVar = "_USERNS_RUNTIME_EXEC"

// ErrRecursion says that the low-level runtime is this program itself.
var ErrRecursion = errors.New("the low-level runtime is userns-runtime itself")

// CheckRecursion refuses, with [ErrRecursion], to go on in a process that has
// become this program by [Exec].
func CheckRecursion(environ []string) error {
	if slices.Contains(environ, guardVar+"="+strconv.Itoa(os.Getpid())) {
		return fmt.Errorf("%w: set `runtimes` in the configuration to the path of runc", ErrRecursion)
	}
	return nil
}

// FindRuntime is the first of the absolute paths that there is. One that is
// there and can't be trusted ends the search: not a program, open to changes by
// others than root, whose UID is given, and the caller, or this program itself
// ([ErrRecursion]).
func FindRuntime(paths []string, root uint32) (string, error) {
	var self unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &self); err != nil {
		return "", &os.PathError{Op: "stat", Path: "/proc/self/exe", Err: err}
	}
	for _, path := range paths {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		switch {
		case errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return "", fmt.Errorf("low-level runtime: %w", &os.PathError{Op: "stat", Path: path, Err: err})
		case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0:
			return "", fmt.Errorf("low-level runtime: %s: it isn't a program", path)
		case st.Dev == self.Dev && st.Ino == self.Ino:
			return "", fmt.Errorf("low-level runtime: %s: %w: set `runtimes` in the configuration to the path of runc", path, ErrRecursion)
		case st.Uid != root && int(st.Uid) != os.Geteuid():
			return "", fmt.Errorf("low-level runtime: %s: UID %d owns it, and could change it: run `chown root: %s`", path, st.Uid, path)
		case st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0:
			return "", fmt.Errorf("low-level runtime: %s: its mode is %04o, so others than its owner could change it: run `chmod go-w %s`", path, st.Mode&0o7777, path)
		}
		return path, nil
	}
	return "", fmt.Errorf("low-level runtime: there is none: looked for %s: install runc 1.2 or later there (`make install` puts it in the first place), or set `runtimes` in the configuration",
		strings.Join(paths, ", "))
}

// Version is a low-level runtime's name and version, as its --version says.
type Version struct {
	Name         string
	Major, Minor int
	Text         string // as printed: "1.1.5+ds1"
}

// String is "runc 1.5.2".
func (v Version) String() string { return v.Name + " " + v.Text }

// AtLeast says whether the version is major.minor or later.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || (v.Major == major && v.Minor >= minor)
}

// ParseVersion reads the first line of --version, "runc version 1.5.2".
func ParseVersion(output string) (Version, error) {
	line, _, _ := strings.Cut(output, "\n")
	name, text, ok := strings.Cut(strings.TrimSpace(line), " version ")
	if !ok || name == "" || strings.ContainsAny(name+text, " /\x00") {
		return Version{}, fmt.Errorf("%q isn't the version of a low-level runtime: expected \"runc version 1.5.2\"", line)
	}
	v := Version{Name: name, Text: text}
	major, rest, _ := strings.Cut(text, ".")
	minor, _, _ := strings.Cut(rest, ".")
	minor, _, _ = strings.Cut(minor, "-")
	for _, number := range []struct {
		text string
		to   *int
	}{{major, &v.Major}, {minor, &v.Minor}} {
		var err error
		if *number.to, err = strconv.Atoi(number.text); err != nil {
			return Version{}, fmt.Errorf("%q isn't the version of a low-level runtime: %w", line, err)
		}
	}
	return v, nil
}

// RuntimeVersion asks the low-level runtime at path for its version, and keeps
// the answer for as long as the file is the same: in the first of the directories
// that can be written, whose parent must be there. What any of them has is taken, so they
// belong to whom the caller trusts. An answer is a symbolic link's target: it is made in
// one step, and there is no half of it. Without a directory nothing is kept.
func RuntimeVersion(path string, cacheDirs ...string) (Version, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Version{}, fmt.Errorf("low-level runtime: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	name := fmt.Sprintf("%x-%x-%x-%x.%x-%x.%x",
		st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
	for _, dir := range cacheDirs {
		known, err := os.Readlink(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if v, err := ParseVersion(known); err == nil {
			return v, nil
		}
	}
	output, err := exec.Command(path, "--version").Output()
	if err != nil {
		return Version{}, fmt.Errorf("low-level runtime: %s --version: %w", path, err)
	}
	if strings.HasPrefix(string(output), "userns-runtime version ") {
		return Version{}, fmt.Errorf("low-level runtime: %s: %w: set `runtimes` in the configuration to the path of runc", path, ErrRecursion)
	}
	v, err := ParseVersion(string(output))
	if err != nil {
		return Version{}, fmt.Errorf("low-level runtime: %s: %w", path, err)
	}
	for _, dir := range cacheDirs {
		if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
			continue
		}
		if err := os.Symlink(v.Name+" version "+v.Text, filepath.Join(dir, name)); err == nil || errors.Is(err, os.ErrExist) {
			break
		}
	}
	return v, nil
}

// Caller is what the engine set up for the process it started, which a Go
// program loses on its way unless it is put back.
type Caller struct {
	deathSignal syscall.Signal
	parent      int
}

// RememberCaller is to be called first, on the main thread.
func RememberCaller() (Caller, error) {
	signal, err := linux.ParentDeathSignal()
	return Caller{signal, os.Getppid()}, err
}

// Rearm sets the parent-death signal of the calling thread again.
func (c Caller) Rearm() error {
	if c.deathSignal == 0 {
		return nil
	}
	if err := linux.SetParentDeathSignal(c.deathSignal); err != nil {
		return err
	}
	// The signal of a parent that died meanwhile is lost.
	if os.Getppid() != c.parent {
		return errors.New("the engine that started this runtime has ended")
	}
	return nil
}

// Exec becomes the low-level runtime at path, called by the name it has there,
// with argv[1:] as its arguments. It must be called on the main thread, whose
// mount namespace, groups and parent-death signal the runtime then has. It
// returns only on failure.
func Exec(path string, argv, environ []string, caller Caller) error {
	environ = append(slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		return strings.HasPrefix(v, guardVar+"=")
	}), guardVar+"="+strconv.Itoa(os.Getpid()))

	if err := caller.Rearm(); err != nil {
		return err
	}
	err := syscall.Exec(path, append([]string{path}, argv[1:]...), environ)
	return fmt.Errorf("low-level runtime: %w", &os.PathError{Op: "execve", Path: path, Err: err})
}
