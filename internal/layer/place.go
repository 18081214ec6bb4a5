// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// place is the directory in which entries are being made. It is kept open for as long
// as they are in the same one, and gets its time back when it is left, so that nothing
// has to be remembered of directories.
type place struct {
	path  string   // as entries name it, clean
	fd    linux.FD // -1 for none
	mtime time.Time
	// inherits says that it has a default ACL, of which all that is made in it gets a
	// part (acl(5), "object creation and default ACLs").
	inherits bool
}

// enter opens a directory by its clean path. Symbolic links are followed as a process
// would whose root directory is the top; what isn't there is made.
func (u *unpacking) enter(dir string) error {
	if u.at.fd >= 0 && u.at.path == dir {
		return nil
	}
	if err := u.leave(); err != nil {
		return err
	}
	fd, err := u.openDir(dir)
	if err != nil {
		return err
	}
	at := place{path: dir, fd: fd}
	st, err := linux.At{Dir: fd}.Stat()
	if err == nil {
		at.mtime = st.MTime
		at.inherits, err = hasDefaultACL(fd)
	}
	if err != nil {
		fd.Close()
		return err
	}
	u.at = at
	return nil
}

// leave gives the directory its time back.
func (u *unpacking) leave() error {
	if u.at.fd < 0 {
		return nil
	}
	fd := u.at.fd
	u.at.fd = -1
	defer fd.Close()
	return linux.At{Dir: fd}.SetTimes(time.Time{}, u.at.mtime)
}

func hasDefaultACL(dir linux.FD) (bool, error) {
	_, err := linux.At{Dir: dir}.Xattr(xattrDefault)
	if errors.Is(err, linux.ErrNoXattr) || errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	return err == nil, err
}

// openDir is as [unpacking.enter] says.
func (u *unpacking) openDir(dir string) (linux.FD, error) {
	if dir == "" {
		dir = "."
	}
	fd, err := u.top.DirInRoot(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return u.makeDirs(dir)
	case errors.Is(err, linux.ErrNotDirectory):
		return -1, fmt.Errorf("%s: isn't a directory, or goes through what is none: expected one, for the file that is to be in it", dir)
	}
	return fd, err
}

// maxLinks is how many symbolic links one path may go through, as the kernel has it
// (path_resolution(7)).
const maxLinks = 40

// makeDirs goes one name at a time, since a symbolic link may point to what has to be
// made. Nobody else changes the tree: what a name is doesn't change between two calls.
func (u *unpacking) makeDirs(dir string) (linux.FD, error) {
	w := way{u: u, fd: -1}
	defer w.close()
	if err := w.restart(""); err != nil {
		return -1, err
	}
	rest := strings.Split(dir, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		target, err := w.step(name)
		if err != nil {
			return -1, err
		}
		if target == "" {
			continue
		}
		if links++; links > maxLinks {
			return -1, fmt.Errorf("%s: goes through more than %d symbolic links", dir, maxLinks)
		}
		if target[0] == '/' {
			if err := w.restart(""); err != nil {
				return -1, err
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	fd := w.fd
	w.fd = -1
	return fd, nil
}

// way is one through directories below the top.
type way struct {
	u    *unpacking
	path string // without symbolic links
	fd   linux.FD
}

func (w *way) close() {
	if w.fd >= 0 {
		_ = w.fd.Close()
	}
}

func (w *way) restart(path string) error {
	w.close()
	w.path, w.fd = path, -1
	if path == "" {
		path = "."
	}
	fd, err := w.u.top.DirBeneath(path)
	if err == nil {
		w.fd = fd
	}
	return err
}

// step goes into a directory, which is made if it isn't there, or says where a symbolic
// link of that name points to.
func (w *way) step(name string) (target string, err error) {
	switch name {
	case "", ".":
		return "", nil
	case "..":
		dir, _ := split(w.path) // of the top it is the top, as of a root directory
		return "", w.restart(dir)
	}
	a := linux.At{Dir: w.fd, Name: name}
	next := strings.TrimPrefix(w.path+"/"+name, "/")
	fd, err := a.OpenDir()
	if errors.Is(err, fs.ErrNotExist) {
		if err = w.u.makeDir(a, next); err == nil {
			fd, err = a.OpenDir()
		}
	}
	switch {
	case err == nil:
		w.close()
		w.path, w.fd = next, fd
		return "", nil
	case !errors.Is(err, linux.ErrNotDirectory) && !errors.Is(err, linux.ErrLoop):
		return "", err
	}
	if target, err = a.ReadLink(); err != nil {
		return "", fmt.Errorf("%s: isn't a directory: expected one, for the file that is to be in it", next)
	}
	return target, nil
}

// makeDir makes a directory that the archive has files in and no entry of, at least up to
// here: root's, as a container sees it, with mode 0755.
func (u *unpacking) makeDir(a linux.At, name string) error {
	e := &Entry{Name: name, Type: TypeDir, Mode: 0o755}
	if err := u.translate(e); err != nil {
		return err
	}
	above, err := linux.At{Dir: a.Dir}.Stat()
	if err != nil {
		return err
	}
	if err := a.Mkdir(0o700); err != nil {
		return err
	}
	if err := u.dress(a, e, true); err != nil {
		return err
	}
	return linux.At{Dir: a.Dir}.SetTimes(time.Time{}, above.MTime)
}
