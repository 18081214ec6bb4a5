// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// take gives the overlay's new copy of a directory what the engine's has of mode,
// owner, extended attributes and times.
func (a *adopter) take(engines, own, parent *os.File, base, path string) error {
	to, err := beneath(parent, base)
	if err != nil {
		return err
	}
	defer to.Close()
	if !sameBirth(to, own) {
		return fmt.Errorf("%s: the container has put another directory there", path)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(engines.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: engines.Name(), Err: err}
	}
	if err := errors.Join(
		os.NewSyscallError("fchown", unix.Fchown(int(to.Fd()), int(st.Uid), int(st.Gid))),
		os.NewSyscallError("fchmod", unix.Fchmod(int(to.Fd()), st.Mode&0o7777)),
		copyXattrs(engines, to),
		a.remember(path, engines),
	); err != nil {
		return err
	}
	// The overlay looks at its copy anew.
	return copyUp(own)
}

// copyXattrs copies the attributes that aren't an overlay's own.
func copyXattrs(from, to *os.File) error {
	buffer := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(from.Fd()), buffer)
	if err != nil {
		return os.NewSyscallError("flistxattr", err)
	}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimSuffix(string(buffer[:n]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		n, err := unix.Fgetxattr(int(from.Fd()), name, value)
		if err == nil {
			err = unix.Fsetxattr(int(to.Fd()), name, value[:n], 0)
		}
		if err != nil {
			return &os.PathError{Op: "fsetxattr(" + name + ")", Path: to.Name(), Err: err}
		}
	}
	return nil
}

// merge moves what is in a copy that was set aside, open as from, to the directory
// to of the layer, and takes the empty copy away. What both have under one name,
// and isn't a directory, is the container's in the end, which is newer; the
// engine's is kept in lostDir.
func (a *adopter) merge(aside string, from, to *os.File) error {
	// More than once: who has the copy open may still make files in it.
	for range 3 {
		if err := mergeInto(from, to); err != nil {
			return err
		}
		err := unix.Unlinkat(int(a.moved.Fd()), aside, unix.AT_REMOVEDIR)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.ENOTEMPTY) {
			return &os.PathError{Op: "unlinkat", Path: from.Name(), Err: err}
		}
	}
	return a.keep(aside)
}

// keep puts a copy with what couldn't be merged where nobody merges it again.
func (a *adopter) keep(aside string) error {
	path := filepath.Join(filepath.Dir(a.moved.Name()), lostDir)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	lost, err := linux.OpenPlace(path, true)
	if err != nil {
		return err
	}
	defer lost.Close()
	if len(aside) > unix.NAME_MAX-20 {
		aside = aside[:unix.NAME_MAX-20]
	}
	name := aside + "." + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := rename(a.moved, aside, lost, name); err != nil {
		return err
	}
	return fmt.Errorf("%s: what the engine and the container made under one name: the engine's is kept there", filepath.Join(path, name))
}

// mergeInto moves entries from one directory to another, where that has none of
// the name, and goes into those that are directories on both sides.
func mergeInto(from, to *os.File) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		names, err := from.Readdirnames(1000)
		for _, name := range names {
			err := rename(from, name, to, name)
			if errors.Is(err, unix.EEXIST) {
				err = mergeBoth(from, to, name)
			}
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		if errors.Is(err, io.EOF) || len(names) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// mergeBoth merges the directory called name, if it is one on both sides and that of
// the container hides nothing; else it stays.
func mergeBoth(from, to *os.File, name string) error {
	inner, err := beneath(from, name)
	if err != nil {
		return nil
	}
	defer inner.Close()
	outer, err := beneath(to, name)
	if err != nil {
		return nil
	}
	defer outer.Close()
	if opaque(outer) || opaque(inner) {
		return nil
	}
	if err := mergeInto(inner, outer); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(from.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return &os.PathError{Op: "unlinkat", Path: inner.Name(), Err: err}
	}
	return nil
}

// rename moves an entry, and replaces none.
func rename(from *os.File, name string, to *os.File, newName string) error {
	err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), newName, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: filepath.Join(from.Name(), name), New: filepath.Join(to.Name(), newName), Err: err}
	}
	return nil
}

// opaque says whether a directory of a layer hides those below.
func opaque(dir *os.File) bool {
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var value [1]byte
		if n, err := unix.Fgetxattr(int(dir.Fd()), attr, value[:]); err == nil && n > 0 {
			return true
		}
	}
	return false
}
