// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// Host is where an engine's files are looked for.
type Host struct {
	// Root stands before the paths of all files that are looked at and written; "" is the
	// host's own. Paths that are written into files are without it.
	Root string
	// UID is whom they have to belong to: root, but in tests.
	UID uint32
}

func (h Host) path(path string) string { return h.Root + path }

// name is a path without Root, for messages and for what is written.
func (h Host) name(path string) string { return strings.TrimPrefix(path, h.Root) }

// maxFile is the most bytes of an engine's file; a larger one wasn't written by hand.
const maxFile = 16 << 20

// read is a file's content, nil if there is none.
func (h Host) read(path string) ([]byte, error) {
	info, err := os.Stat(h.path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(h.path(path)); err == nil {
			return nil, fmt.Errorf("%s: is a symbolic link to a file that isn't there: make the file, or remove the link: rm %s", path, rootfile.ShellQuote(path))
		}
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, unpath(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: isn't a regular file: move it away", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s: %d bytes: expected at most %d: move it away", path, info.Size(), maxFile)
	}
	data, err := os.ReadFile(h.path(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, unpath(err))
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// unpath is an error without the path, which the message has already.
func unpath(err error) error {
	if in, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", in.Op, in.Err)
	}
	return err
}

// maxLinks is how many symbolic links a path may lead through, as for the kernel
// (path_resolution(7)).
const maxLinks = 40

// Flaw is that somebody else than root could change what a path leads to.
type Flaw struct {
	Path string // what is theirs, or open to them: the file, or a directory or link on the way
	UID  uint32 // whom it belongs to
	Mode uint32 // of it, with its type
}

// Owned says that it is by its owner, and not by its mode.
func (f *Flaw) Owned() bool { return f.UID != 0 }

// Mend is the command that mends it.
func (f *Flaw) Mend() string {
	quoted := rootfile.ShellQuote(f.Path)
	switch {
	case f.Owned() && f.Mode&unix.S_IFMT == unix.S_IFLNK:
		return "chown -h root: " + quoted
	case f.Owned():
		return "chown root: " + quoted
	}
	return "chmod go-w " + quoted
}

func (f *Flaw) Error() string {
	if f.Owned() {
		return fmt.Sprintf("%s: is owned by UID %d, who could change what engines run as root: %s", f.Path, f.UID, f.Mend())
	}
	return fmt.Sprintf("%s: has mode %04o, so others than root could change what engines run as root: %s", f.Path, f.Mode&0o7777, f.Mend())
}

// Judge refuses a path, by a [*Flaw], that others than root could change; see [Host.resolve].
func (h Host) Judge(path string) error {
	_, err := h.resolve(path)
	return err
}

// resolve follows a path to what it means, which may be missing if its directory is there, and
// refuses it where somebody else than root could change what that is: each directory, link and
// file on the way has to belong to root and be writable by nobody else, but for directories
// with the sticky bit, such as /tmp, in which others can't replace what is root's.
func (h Host) resolve(path string) (string, error) {
	rest := strings.Split(filepath.Clean(h.path(path)), "/")
	done := "/"
	var st unix.Stat_t
	if err := unix.Lstat(done, &st); err != nil {
		return "", fmt.Errorf("%s: %w", done, err)
	}
	if err := h.judge(done, &st, true); err != nil {
		return "", err
	}
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = filepath.Dir(done)
			continue
		}
		next := filepath.Join(done, name)
		var st unix.Stat_t
		err := unix.Lstat(next, &st)
		switch {
		case errors.Is(err, unix.ENOENT) && len(rest) == 0:
			return next, nil
		case err != nil:
			return "", fmt.Errorf("%s: %w", h.name(next), err)
		}
		if err := h.judge(next, &st, len(rest) > 0); err != nil {
			return "", err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: %w", h.name(next), unix.ELOOP)
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", fmt.Errorf("%s: %w", h.name(next), unpath(err))
		}
		if filepath.IsAbs(to) {
			done = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return done, nil
}

func (h Host) judge(path string, st *unix.Stat_t, inner bool) error {
	flaw := &Flaw{h.name(path), st.Uid, st.Mode}
	switch {
	case st.Uid != h.UID && st.Uid != 0:
		return flaw
	case st.Mode&unix.S_IFMT == unix.S_IFLNK, inner && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&unix.S_ISVTX != 0:
		return nil
	case st.Mode&0o022 != 0:
		flaw.UID = 0
		return flaw
	}
	return nil
}

// ProgramName is the program that engines are to call.
const ProgramName = "userns-runtime"

// Program is the path of userns-runtime: it lies beside the program whose path is given, which
// is usernsctl's own. The error says what isn't as it has to be.
func (h Host) Program(self string) (string, error) {
	dir, err := h.resolve(filepath.Dir(h.name(self)))
	if err != nil {
		return "", fmt.Errorf("%s: %w", ProgramName, err)
	}
	path := filepath.Join(h.name(dir), ProgramName)
	found, err := h.resolve(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", ProgramName, err)
	}
	info, err := os.Stat(found)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s: isn't there: it has to lie beside %s: make install", path, h.name(self))
	case err != nil:
		return "", fmt.Errorf("%s: %w", path, unpath(err))
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return "", fmt.Errorf("%s: isn't a program: chmod +x %s", path, rootfile.ShellQuote(path))
	}
	return path, nil
}

// linkName is the name beside the program by which it knows an owner.
func linkName(owner string) string { return ProgramName + "-" + owner }

// systemd says whether it is what this host was booted with (sd_booted(3)).
func (h Host) systemd() bool {
	info, err := os.Lstat(h.path("/run/systemd/system"))
	return err == nil && info.IsDir()
}
