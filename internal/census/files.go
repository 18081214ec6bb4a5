// SPDX-License-Identifier: Apache-2.0

package census

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Left is a file that belongs to an ID which a line of the book grants, and which nobody
// who is alive has. Containers that end leave such files where a directory of the host was
// bound in as it is; the next one that gets the range owns them.
type Left struct {
	Path     string
	UID, GID uint32
	ID       uint32        // the one of the two that is granted, the UID if both are
	Line     registry.Line // that grants it
	// Account says that the line's owner is an account of the host, who may be keeping files in
	// namespaces of their own.
	Account bool
}

// Files is a walk through a directory for files that were left: see [Census.Files].
type Files struct {
	Found func(Left)
	// Mount is called for a place that something is mounted on: that isn't looked into, nor at.
	Mount func(path string)
	// Failed is called for what couldn't be looked at, or into.
	Failed func(path string, err error)
}

// maxDepth is how deep a walk goes: as many directories as a path can name (PATH_MAX), one letter
// each. It is also how many descriptors it needs.
const maxDepth = 2048

// Files walks through dir, but for what is mounted below it. Symbolic links aren't followed, but for
// dir itself; what ends meanwhile is passed over. A file of a shared line isn't left: all containers of
// its owner have the same IDs, and nobody else gets them.
//
// The error is of dir itself.
func (c *Census) Files(b *registry.Book, dir string, f Files) error {
	lines := slices.DeleteFunc(b.Lines(), func(l registry.Line) bool { return l.Flags.Reserved || l.Flags.Shared })
	var granted []idmap.Range
	for _, l := range lines {
		granted = append(granted, l.Range)
	}
	w := walk{Files: f, lines: lines, owners: c.owners(), left: idmap.NewSet(granted...).Subtract(c.InUse())}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return err
	}
	// From a list, since the filesystem of a server that is dead answers no question.
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(real))
	if err != nil {
		return fmt.Errorf("read /proc/self/mountinfo: %w", err)
	}
	w.mounts = make(map[string]bool, len(mounts))
	for _, m := range mounts {
		w.mounts[m.Mountpoint] = m.Mountpoint != real
	}
	root, err := os.OpenFile(real, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s: it isn't a directory: expected one to look through", dir)
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return errors.Join(&os.PathError{Op: "fstat", Path: dir, Err: err}, root.Close())
	}
	w.dev = st.Dev
	w.path = []byte(real)
	w.judge(&st)
	w.through(root, 0)
	return nil
}

// InUse is all IDs that somebody alive has, or holds.
func (c *Census) InUse() idmap.Set {
	var ranges []idmap.Range
	for _, u := range c.alive() {
		ranges = append(ranges, u.IDs.Ranges()...)
	}
	return idmap.NewSet(ranges...)
}

type walk struct {
	Files
	lines  []registry.Line
	owners owners
	left   idmap.Set
	mounts map[string]bool
	dev    uint64
	last   int // line that was found
	// path is where it is. One for all, since a deep tree's would be large together.
	path []byte
}

// at goes one name deeper for a while.
func (w *walk) at(name string, do func()) {
	was := len(w.path)
	if was > 0 && w.path[was-1] != '/' {
		w.path = append(w.path, '/')
	}
	w.path = append(w.path, name...)
	do()
	w.path = w.path[:was]
}

func (w *walk) failed(err error) { w.Failed(string(w.path), err) }

// judge looks at the owner of one file.
func (w *walk) judge(st *unix.Stat_t) {
	id := st.Uid
	if !w.has(id) {
		if id = st.Gid; !w.has(id) {
			return
		}
	}
	if i := w.lineOf(id); i >= 0 {
		w.Found(Left{string(w.path), st.Uid, st.Gid, id, w.lines[i], w.owners[w.lines[i].Owner] != ""})
	}
}

// lineOf is the line that grants an ID. The files of one container come one after the other, and a
// book may have many lines.
func (w *walk) lineOf(id uint32) int {
	if w.last < len(w.lines) && w.lines[w.last].Range.Contains(id) {
		return w.last
	}
	i := slices.IndexFunc(w.lines, func(l registry.Line) bool { return l.Range.Contains(id) })
	if i >= 0 {
		w.last = i
	}
	return i
}

func (w *walk) has(id uint32) bool { return w.left.Touches(idmap.Range{Start: id, Count: 1}) }

// namesAtOnce is how many of a directory are read at once; it may have millions.
const namesAtOnce = 1000

// through looks at what is in a directory, which it closes. It goes by descriptors, so that no path
// is too long, and none is exchanged for another on the way.
func (w *walk) through(dir *os.File, depth int) {
	defer dir.Close()
	if depth == maxDepth {
		w.failed(fmt.Errorf("more than %d directories lie within each other: it isn't looked into", maxDepth))
		return
	}
	for {
		names, err := dir.Readdirnames(namesAtOnce)
		for _, name := range names {
			w.at(name, func() { w.entry(dir, name, depth) })
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			w.failed(err)
			return
		}
	}
}

// entry looks at one name in a directory, and through it if it is one itself.
func (w *walk) entry(dir *os.File, name string, depth int) {
	if w.mounts[string(w.path)] {
		w.Mount(string(w.path))
		return
	}
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return
	case err != nil:
		w.failed(os.NewSyscallError("fstatat", err))
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		// On an overlay, files have other numbers of devices than directories.
		w.judge(&st)
		return
	}
	if st.Dev != w.dev { // mounted since
		w.Mount(string(w.path))
		return
	}
	w.judge(&st)
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP): // replaced
	case err != nil:
		w.failed(os.NewSyscallError("openat", err))
	default:
		w.through(os.NewFile(uintptr(fd), name), depth+1)
	}
}
