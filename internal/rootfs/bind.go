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

// Bind is a bind mount of a container that isn't left to the low-level runtime:
// it is staged in the private mount namespace with its final flags, which lock
// as it crosses into the container's user namespace (mount_namespaces(7),
// "Restrictions on mount namespaces").
type Bind struct {
	// Source is the file or directory, opened in the caller's mount namespace.
	Source *os.File
	// Target is a path that isn't there yet, in an existing directory.
	Target string
	// UserNS shifts the owners; nil leaves them.
	UserNS *os.File
	// Recursive brings the mounts below Source along, unshifted.
	Recursive bool
	Attrs     linux.Attrs
}

// Stage mounts it. [ErrNoIDMap] says that the owners can't be shifted there; then
// nothing is mounted.
func (b Bind) Stage() error {
	clone := linux.CloneMount
	if b.Recursive {
		clone = linux.CloneTree
	}
	tree, err := clone(b.Source)
	if err != nil {
		return err
	}
	defer tree.Close()
	if b.UserNS != nil {
		if err := tree.IDMap(b.UserNS); err != nil {
			return noIDMap(b.Source, err)
		}
	}
	if err := tree.Set(b.Attrs); err != nil {
		return err
	}
	if err := mountpoint(b.Source, b.Target); err != nil {
		return err
	}
	return tree.Attach(b.Target)
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

// CheckOwn says whether the file below the directory dir may be shifted as part of what dir
// holds. It establishes that
//
//   - the file lies on the mount that dir lies on, or on a tmpfs that is mounted below dir and
//     nowhere else, as an engine makes one ([ErrForeign]): what only seems to lie below dir may be
//     any file of the host, bound there;
//   - nobody but root can walk to it ([ErrExposed]).
func CheckOwn(file, dir *os.File, mounts []*mountinfo.Info) error {
	home, err := mountOf(dir, mounts)
	if err != nil {
		return err
	}
	at, err := mountOf(file, mounts)
	if err != nil {
		return err
	}
	if at.ID != home.ID {
		if at.FSType != "tmpfs" || at.Root != "/" {
			return fmt.Errorf("%s: %w than %s", file.Name(), ErrForeign, dir.Name())
		}
		for _, m := range mounts {
			if _, ok := under(dir.Name(), m.Mountpoint); !ok && m.Major == at.Major && m.Minor == at.Minor {
				return fmt.Errorf("%s: %w than %s, which is mounted on %s too", file.Name(), ErrForeign, dir.Name(), m.Mountpoint)
			}
		}
	}
	by, err := exposedBy(file, mounts)
	if err == nil && by != "" {
		err = fmt.Errorf("%s: %w (by %s)", file.Name(), ErrExposed, by)
	}
	return err
}
