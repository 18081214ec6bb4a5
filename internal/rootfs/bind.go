// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// Bind is a bind mount of a container that is staged in the private mount
// namespace with its final owners and flags, which lock as it crosses into the
// container's user namespace (mount_namespaces(7), "Restrictions on mount
// namespaces"). From [TakeBind] on it shows what was there then, whatever becomes of the path.
type Bind struct {
	Source *os.File // what was opened, as a place
	tree   *linux.Tree
}

// TakeBind opens the file or directory at path and clones its mount; with
// recursive, also those below it.
func TakeBind(path string, recursive bool) (*Bind, error) {
	source, err := linux.OpenPlace(path, false)
	if err != nil {
		return nil, err
	}
	clone := linux.CloneMount
	if recursive {
		clone = linux.CloneTree
	}
	tree, err := clone(source)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return &Bind{source, tree}, nil
}

// Shift shifts the owners to the user namespace; mounts below keep theirs.
// [ErrNoIDMap] says that the filesystem doesn't allow it; then nothing has changed.
func (b *Bind) Shift(userns *os.File) error {
	if err := b.tree.IDMap(userns); err != nil {
		return noIDMap(b.Source, err)
	}
	return nil
}

// Close lets go of what was taken and isn't staged.
func (b *Bind) Close() error { return errors.Join(b.tree.Close(), b.Source.Close()) }

// Stage gives it its flags, and mounts it on target, a path that isn't there yet in an
// existing directory. Then it is done with.
func (b *Bind) Stage(target string, attrs ...linux.Attrs) error {
	defer b.Source.Close()
	defer b.tree.Close()
	for _, a := range attrs {
		if err := b.tree.Set(a); err != nil {
			return err
		}
	}
	if err := mountpoint(b.Source, target); err != nil {
		return err
	}
	return b.tree.Attach(target)
}

// mountpoint makes what source can be mounted on: a directory for a directory, a
// file for anything else.
func mountpoint(source *os.File, target string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(source.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: source.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.Mkdir(target, 0o700)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	return f.Close()
}

// ErrForeign is wrapped when a file isn't on the filesystem of the directory that
// it seems to lie below.
var ErrForeign = errors.New("it lies on another filesystem")

// Own is what an engine keeps for containers in a directory of its.
type Own struct {
	// Dir is the engine's directory.
	Dir string
	// Top is the highest file or directory below it that is a container's, of those that
	// path lies in; ok is false where there is none.
	Top func(path string) (top string, ok bool)
}

// CheckOwn says whether the file may be shifted as what an engine keeps for
// containers. It establishes that
//
//   - it lies in something of a container's, on the mount that the engine's directory
//     lies on, or on a tmpfs all of whose mounts lie in such places, as engines
//     make them ([ErrForeign]): what only seems to lie there may be any file of the
//     host, bound there;
//   - nobody but root can walk to what is the container's ([ErrExposed]). Directories
//     below that don't count, since root inside may open them to anyone.
func CheckOwn(file *os.File, own Own) error {
	path, ok := own.Top(file.Name())
	if !ok {
		return fmt.Errorf("%s: it is nothing of a container's in %s", file.Name(), own.Dir)
	}
	dir, err := linux.OpenPlace(own.Dir, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	top, err := linux.OpenPlace(path, false)
	if err != nil {
		return err
	}
	defer top.Close()
	mounts, err := Mounts()
	if err != nil {
		return err
	}
	home, err := mountOf(dir, mounts)
	if err != nil {
		return err
	}
	at, err := mountOf(file, mounts)
	if err != nil {
		return err
	}
	by := ""
	if at.ID == home.ID {
		by, err = exposedBy(top, mounts)
	} else {
		by, err = own.tmpfs(at, mounts)
		if errors.Is(err, ErrForeign) {
			err = fmt.Errorf("%s: %w", file.Name(), err)
		}
	}
	if err == nil && by != "" {
		err = fmt.Errorf("%s: %w (by %s)", file.Name(), ErrExposed, by)
	}
	return err
}

// tmpfs refuses a mount that isn't one of a tmpfs of an engine's for containers. by is
// a path by which others than root can walk to it.
func (own Own) tmpfs(at *mountinfo.Info, mounts []*mountinfo.Info) (by string, err error) {
	if at.FSType != "tmpfs" || at.Root != "/" {
		return "", fmt.Errorf("%w than %s", ErrForeign, own.Dir)
	}
	known := walker{}
	for _, m := range mounts {
		if m.Major != at.Major || m.Minor != at.Minor {
			continue
		}
		top, ok := own.Top(m.Mountpoint)
		if !ok {
			return "", fmt.Errorf("%w than %s, which is mounted on %s too", ErrForeign, own.Dir, m.Mountpoint)
		}
		if nosuid(m) {
			continue
		}
		if closed, err := known.closedAbove(top); err != nil || !closed {
			return m.Mountpoint, err
		}
	}
	return "", nil
}
