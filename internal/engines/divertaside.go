// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// What is set aside of a setuid program is a copy. The file itself keeps whoever has it open, or
// has another name of it, so it loses what it gives to its callers: as soon as ours is in its place. Until then it has
// a name of ours, by which the next run finds it if this one is killed.

// olds is that name, beside the second one, and copying the one of a copy that isn't whole.
func (d *diverter) olds(path string) string    { return beside(d.second(path), "old") }
func (d *diverter) copying(path string) string { return beside(d.second(path), "new") }

func beside(path, what string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".usernsctl-"+what)
}

// setAside gives what is at a path its second name, or, of a setuid program, a copy of it. One that
// is there an upgrade has put there since dpkg was told, or a killed run did.
func (d *diverter) setAside(path string) error {
	second := d.second(path)
	if !d.setuid {
		if err := os.Link(d.path(path), d.path(second)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", second, linkError(err))
		}
		checkpoint()
		return nil
	}
	if _, err := os.Lstat(d.path(second)); errors.Is(err, fs.ErrNotExist) {
		if err := d.copyAside(path, second); err != nil {
			return fmt.Errorf("%s: %w", second, linkError(err))
		}
	}
	if err := d.disarm(path); err != nil { // what an earlier one has left
		return err
	}
	if err := os.Link(d.path(path), d.path(d.olds(path))); err != nil {
		return fmt.Errorf("%s: %w", d.olds(path), linkError(err))
	}
	checkpoint()
	return nil
}

func (d *diverter) copyAside(path, second string) error {
	name := d.path(d.copying(path))
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	from, err := os.Open(d.path(path))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(copyWhole(from, to), to.Close()); err != nil {
		return err
	}
	checkpoint()
	return d.rename(d.copying(path), second)
}

// copyWhole copies content, owner, attributes, mode and time, in this order: each takes some of
// those behind it away.
func copyWhole(from, to *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.Chown(int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = copyAttributes(from, to)
	}
	if err == nil {
		err = unix.Fchmod(int(to.Fd()), st.Mode&0o7777)
	}
	if err == nil {
		err = os.Chtimes(linux.FDPath(to), time.Time{}, time.Unix(st.Mtim.Unix()))
	}
	if err == nil {
		err = to.Sync()
	}
	return err
}

func copyAttributes(from, to *os.File) error {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX, and XATTR_SIZE_MAX
	n, err := unix.Flistxattr(int(from.Fd()), list)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if attr == "" {
			continue
		}
		value := make([]byte, 64<<10)
		size, err := unix.Fgetxattr(int(from.Fd()), attr, value)
		if err == nil {
			err = unix.Fsetxattr(int(to.Fd()), attr, value[:size], 0)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", attr, err)
		}
	}
	return nil
}

// disarm takes from the file itself, if ours stands in its place, what it gives to its callers, and
// then the name that it was kept by.
func (d *diverter) disarm(path string) error {
	if !d.setuid {
		return nil
	}
	old := d.path(d.olds(path))
	info, err := os.Lstat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.olds(path), unpath(err))
	}
	if there, err := os.Lstat(d.path(path)); err != nil || !os.SameFile(info, there) {
		if err := os.Chmod(old, info.Mode().Perm()); err != nil {
			return fmt.Errorf("%s: %w", d.olds(path), unpath(err))
		}
		if err := unix.Lremovexattr(old, "security.capability"); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("%s: %w", d.olds(path), err)
		}
	}
	if err := os.Remove(old); err != nil {
		return fmt.Errorf("%s: %w", d.olds(path), unpath(err))
	}
	checkpoint()
	return nil
}

// isCopy says whether what is at a path, and wasn't replaced yet, has its copy by the second name.
func (d *diverter) isCopy(path string) bool {
	if info, err := os.Lstat(d.path(path)); !d.setuid || err != nil || !info.Mode().IsRegular() {
		return false
	}
	first, err := os.ReadFile(d.path(path))
	second, err2 := os.ReadFile(d.path(d.second(path)))
	return err == nil && err2 == nil && bytes.Equal(first, second)
}
