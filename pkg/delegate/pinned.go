// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// OnHost runs do in the mount namespace of the host's first process, where pins are:
// on a thread of its own. do must not start goroutines that touch files. The caller needs
// CAP_SYS_ADMIN and CAP_SYS_PTRACE.
func OnHost(do func() error) error {
	mounts, err := linux.OpenNamespace("/proc/1/ns/mnt")
	if err != nil {
		return fmt.Errorf("mount namespace of the host's first process: %w", err)
	}
	defer mounts.Close()
	return linux.InNamespace(mounts, unix.CLONE_NEWNS, do)
}

// Bind makes a pin of the namespace that ns is open on, in the caller's mount
// namespace, in the place of whatever is there: directories get the owner and mode
// that they have to have, and what isn't a directory goes where one has to be.
// It needs the host's root, and that nobody else makes or removes pins meanwhile.
//
// One that ends in the middle leaves an empty file, or nothing, which is no pin.
func (p Pin) Bind(ns *os.File) error {
	if err := p.bind(ns); err != nil {
		return fmt.Errorf("pin %s: %w", p, err)
	}
	return nil
}

func (p Pin) bind(ns *os.File) error {
	path := p.Path()
	// The one above isn't ours to mend.
	above, err := rootfile.OpenDir(filepath.Dir(PinDir), 0)
	if err != nil {
		return err
	}
	above.Close()
	if err := notMounted(filepath.Dir(path)); err != nil {
		return err
	}
	for _, dir := range []string{PinDir, filepath.Dir(path)} {
		if err := makeRootDir(dir); err != nil {
			return err
		}
	}
	// A new file, so that with the old one all mounts on it go, in other mount
	// namespaces too.
	if err := clearAway(path); err != nil {
		return err
	}
	place, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY|unix.O_NOFOLLOW, 0o444)
	if err != nil {
		return err
	}
	defer place.Close()
	if err := linux.BindFile(ns, place); err != nil {
		return errors.Join(err, clearAway(path))
	}
	return nil
}

// notMounted refuses a directory that is mounted at a path: what it is at its own place isn't ours
// to change.
func notMounted(path string) error {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return nil
	case err != nil:
		return &os.PathError{Op: "statx", Path: path, Err: err}
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("%s: another directory is mounted there, which isn't for pins: umount %s", path, rootfile.ShellQuote(path))
	}
	return nil
}

// makeRootDir makes a directory of root's, 0755, in one that nobody else can write to.
func makeRootDir(path string) error {
	for {
		err := os.Mkdir(path, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			if err := clearAway(path); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		dir := os.NewFile(uintptr(fd), path)
		// By whatever umask it was made, or by whomever.
		return errors.Join(dir.Chown(0, 0), dir.Chmod(0o755), dir.Close())
	}
}

// clearAway removes what is at a path, with all that is mounted there. A directory must be empty.
func clearAway(path string) error {
	// As many as there can be: each is somebody's mistake.
	for range maxMounts {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // it isn't a mount point
		}
		if err != nil {
			return &os.PathError{Op: "umount2", Path: path, Err: err}
		}
	}
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("%s: it is a directory with something in it: expected a pin, or nothing: look what it is, and remove it", path)
	}
	return err
}

// maxMounts is how many mounts lie over each other at a pin's place at most.
const maxMounts = 1000

// Unbind takes a pin away, in the caller's mount namespace, and the owner's directory
// if that is empty then. Whoever is in the namespace, has it open, or has it mounted at another
// place, keeps it. That there is none is an error wrapping fs.ErrNotExist. As [Pin.Bind], it mends
// the directories, and needs the host's root.
//
// The owner needn't have an account any more: UID isn't looked at.
func (p Pin) Unbind() error {
	if err := p.unbind(); err != nil {
		return fmt.Errorf("pin %s: %w", p, err)
	}
	return nil
}

func (p Pin) unbind() error {
	if !pinName(p.Owner) || !pinName(p.Name) {
		return fmt.Errorf("it can't be the name of one: %w", fs.ErrNotExist)
	}
	path := p.Path()
	owners := filepath.Dir(path)
	if err := notMounted(owners); err != nil {
		return err
	}
	for _, dir := range []string{PinDir, owners} {
		if _, err := os.Lstat(dir); err != nil {
			return err
		}
		if err := makeRootDir(dir); err != nil {
			return err
		}
	}
	_, err := os.Lstat(path)
	if err == nil {
		err = clearAway(path)
	}
	// Other pins of the owner's are no failure.
	_ = unix.Rmdir(owners)
	return err
}

// PinNames is all that is where pins are, in the caller's mount namespace, whatever it is,
// by owner and name; UIDs aren't known. What isn't in a directory of an owner's isn't among it.
func PinNames() ([]Pin, error) {
	var pins []Pin
	owners, err := dirNames(PinDir)
	if err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	for _, owner := range owners {
		names, err := dirNames(filepath.Join(PinDir, owner))
		if err != nil {
			return nil, fmt.Errorf("pins: %w", err)
		}
		for _, name := range names {
			pins = append(pins, Pin{Owner: owner, Name: name})
		}
	}
	return pins, nil
}

// dirNames is what a directory holds, sorted; nothing if it is none, which a symbolic link isn't.
func dirNames(path string) ([]string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
