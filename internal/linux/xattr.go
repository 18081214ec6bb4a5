// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Extended attributes (xattr(7)). The calls that take a name in an open directory are
// of Linux 6.13, so what isn't open goes by the directory's name in /proc. The errors'
// Op has the attribute's name.

// path is the file's name for calls that follow no symbolic link.
func (a At) path() string { return a.Dir.path() + "/" + a.Name }

// SetXattr gives an attribute its value, whether it is there or not.
func (a At) SetXattr(name string, value []byte) error {
	return a.retry("setxattr("+name+")", func() error {
		if a.Name == "" {
			return unix.Fsetxattr(int(a.Dir), name, value, 0)
		}
		return unix.Lsetxattr(a.path(), name, value, 0)
	})
}

// RemoveXattr removes an attribute; [ErrNoXattr] says that there is none.
func (a At) RemoveXattr(name string) error {
	return a.retry("removexattr("+name+")", func() error {
		if a.Name == "" {
			return unix.Fremovexattr(int(a.Dir), name)
		}
		return unix.Lremovexattr(a.path(), name)
	})
}

// Xattrs is the names of all attributes, in the filesystem's order. A filesystem that
// has no attributes has none.
func (a At) Xattrs() ([]string, error) {
	list, err := a.sized("listxattr", func(buf []byte) (int, error) {
		if a.Name == "" {
			return unix.Flistxattr(int(a.Dir), buf)
		}
		return unix.Llistxattr(a.path(), buf)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00"), nil
}

// Xattr is the value of an attribute; [ErrNoXattr] says that there is none.
func (a At) Xattr(name string) ([]byte, error) {
	return a.sized("getxattr("+name+")", func(buf []byte) (int, error) {
		if a.Name == "" {
			return unix.Fgetxattr(int(a.Dir), name, buf)
		}
		return unix.Lgetxattr(a.path(), name, buf)
	})
}

// sized makes a call that gives at most 64 KiB, as much as the kernel has of lists and
// values (xattr(7), "limits").
func (a At) sized(op string, call func([]byte) (int, error)) ([]byte, error) {
	for _, size := range []int{256, 64 << 10} {
		buf := make([]byte, size)
		var n int
		err := a.retry(op, func() (err error) {
			n, err = call(buf)
			return err
		})
		if !errors.Is(err, unix.ERANGE) {
			return buf[:max(n, 0)], err
		}
	}
	return nil, &os.PathError{Op: op, Path: a.Name, Err: unix.ERANGE}
}
