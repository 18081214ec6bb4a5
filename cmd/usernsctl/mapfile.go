// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// maxLinks is as many symbolic links as the kernel follows (path_resolution(7)).
const maxLinks = 40

// writeWhole writes a file, whole or not at all: beside itself first, flushed, and renamed, so that
// whoever looks sees what was there or all of what is new. The caller's own file keeps its
// permissions; a new one, and one that was another's, has 0644 less the umask.
//
// What isn't a regular file is refused. A symbolic link at the end of the path is followed if it is the
// caller's own; another's is refused, since root may well write into a directory of a user, who could
// lead them to any file of the host.
//
// It is written to .NAME.usernsctl in the same directory, which is locked meanwhile; one that was killed leaves
// that, and the next one writes over it.
func writeWhole(path, data string) error {
	target, mode, err := targetOf(path)
	if err != nil {
		return err
	}
	name := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".usernsctl")
	f, err := openBeside(name)
	if err != nil {
		return err
	}
	defer f.Close()
	err = func() error {
		if err := f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.WriteString(data); err != nil {
			return err
		}
		if err := f.Chmod(mode); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		// It may have become a directory, or a link; a link is replaced, not followed.
		return os.Rename(name, target)
	}()
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// targetOf is the file that a path leads to, and the permissions that it has or will have.
func targetOf(path string) (target string, mode fs.FileMode, err error) {
	if path == "" || path[len(path)-1] == '/' {
		return "", 0, fmt.Errorf("%s: is the name of a directory: expected that of a file", path)
	}
	target = path
	for range maxLinks {
		info, err := os.Lstat(target)
		if errors.Is(err, fs.ErrNotExist) {
			target, err = inRealDir(target)
			return target, 0o644 &^ umask(), err
		}
		if err != nil {
			return "", 0, err
		}
		if info.Mode().IsRegular() {
			mode = 0o644 &^ umask()
			if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == os.Geteuid() {
				mode = info.Mode().Perm()
			}
			target, err = inRealDir(target)
			return target, mode, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return "", 0, fmt.Errorf("%s: is not a regular file: expected one, a new name, or - for standard output", target)
		}
		var st unix.Stat_t
		if err := unix.Lstat(target, &st); err != nil {
			return "", 0, &fs.PathError{Op: "lstat", Path: target, Err: err}
		}
		to, err := os.Readlink(target)
		if err != nil {
			return "", 0, err
		}
		if int(st.Uid) != os.Geteuid() {
			return "", 0, fmt.Errorf("%s: is a symbolic link of UID %d to %q, and not yours: expected a file: give the name that it leads to, if that is meant", target, st.Uid, to)
		}
		if !filepath.IsAbs(to) {
			// Not cleaned: what ".." leads to is the kernel's to find.
			to = filepath.Dir(target) + "/" + to
		}
		target = to
	}
	return "", 0, &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
}

// inRealDir is a path without symbolic links, and so without ".." behind one, in its directory: what is
// beside it is then where it is itself.
func inRealDir(path string) (string, error) {
	dir, name := path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	if dir == "" {
		dir = "."
	}
	dir, err := filepath.EvalSymlinks(dir)
	return filepath.Join(dir, name), err
}

// umask is the caller's (proc(5), /proc/PID/status). Where it can't be read, nobody but the caller may
// read the file.
func umask() fs.FileMode {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o077
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "Umask:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(value), 8, 9); err == nil {
				return fs.FileMode(n)
			}
		}
	}
	return 0o077
}

// openBeside opens, and locks, the file that is written to. Nobody else may open it before it
// is renamed, or they could keep it locked.
func openBeside(name string) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		var st, now unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 || int(st.Uid) != os.Geteuid()) {
			err = fmt.Errorf("%s: is in the way, and not what this program left there: expected no such file: rm %s", name, rootfile.ShellQuote(name))
		}
		if err == nil {
			err = flock(f)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		// Who had it locked has renamed it.
		if err := unix.Lstat(name, &now); err == nil && now.Ino == st.Ino && now.Dev == st.Dev {
			return f, nil
		}
		f.Close()
	}
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
