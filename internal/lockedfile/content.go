// SPDX-License-Identifier: Apache-2.0

package lockedfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// content is a file as it was read.
type content struct {
	data []byte
	stat unix.Stat_t
	attributes
}

// attributes is what a file has beside its content and its times.
type attributes struct {
	owned    bool // uid and gid are to be set
	uid, gid uint32
	mode     uint32 // the twelve bits of chmod(2)
	xattrs   []xattr
}

type xattr struct {
	name  string
	value []byte
}

const accessACL = "system.posix_acl_access" // xattr(7)

// contentXattrs are about the bytes of a file, and wrong for others: the kernel
// makes them anew (Documentation/ABI/testing/ima_policy and evm of Linux).
var contentXattrs = map[string]bool{"security.ima": true, "security.evm": true}

func (t target) stat(name string, st *unix.Stat_t) error {
	_, err := retry(func() (int, error) { return 0, unix.Fstatat(t.fd(), name, st, unix.AT_SYMLINK_NOFOLLOW) })
	return err
}

// regular says whether there is a file of that name; anything else in its place
// is an error.
func (t target) regular(name string) (found bool, err error) {
	var st unix.Stat_t
	err = t.stat(name, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, t.fail(name, "stat", err)
	}
	return true, t.judge(name, st.Mode)
}

func (t target) judge(name string, mode uint32) error {
	kind := "a socket"
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFLNK:
		kind = "a symbolic link"
	case unix.S_IFDIR:
		kind = "a directory"
	case unix.S_IFIFO:
		kind = "a FIFO"
	case unix.S_IFCHR, unix.S_IFBLK:
		kind = "a device"
	}
	return fmt.Errorf("%s: is %s: expected a regular file, or none: move it away", t.path(name), kind)
}

// read is the file as it is, nil if there is none. One that is written to
// meanwhile is ErrChanged; of a write that had begun before, half may be read, since
// the kernel sets the time first: see unchanged.
func (t target) read() (*content, error) {
	// Looked at before it is opened, since opening a device can have effects.
	found, err := t.regular(t.name)
	if err != nil || !found {
		return nil, err
	}
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Openat(t.fd(), t.name, flags, 0) })
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%s: %w", t.path(t.name), ErrChanged)
	case err != nil:
		return nil, t.fail(t.name, "open", err)
	}
	f := os.NewFile(uintptr(fd), t.path(t.name))
	defer f.Close()
	var c content
	if err := unix.Fstat(fd, &c.stat); err != nil {
		return nil, t.fail(t.name, "stat", err)
	}
	if err := t.judge(t.name, c.stat.Mode); err != nil {
		return nil, err
	}
	if c.stat.Size > maxSize {
		return nil, fmt.Errorf("%s: %d bytes: expected at most %d: move it away", t.path(t.name), c.stat.Size, maxSize)
	}
	// One byte more than there should be, to see the end.
	c.data = make([]byte, c.stat.Size+1)
	n, err := io.ReadFull(f, c.data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, t.fail(t.name, "read", err)
	}
	c.data = c.data[:n]
	c.owned, c.uid, c.gid, c.mode = true, c.stat.Uid, c.stat.Gid, c.stat.Mode&0o7777
	if c.xattrs, err = xattrsOf(fd); err != nil {
		return nil, t.fail(t.name, "extended attributes", err)
	}
	var after unix.Stat_t
	if err := unix.Fstat(fd, &after); err != nil {
		return nil, t.fail(t.name, "stat", err)
	}
	if int64(n) != c.stat.Size || !sameState(&c.stat, &after) {
		return nil, fmt.Errorf("%s: %w", t.path(t.name), ErrChanged)
	}
	return &c, nil
}

// sameState says whether nothing was done to a file between two looks, as far as
// its times are fine enough to tell. The time of access is of no interest.
func sameState(a, b *unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

// unchanged is ErrChanged if the file isn't what it was when it was read. Its
// content is read again: two writes within one tick of the clock have one time, and
// so have the beginning and the end of one.
func (t target) unchanged(old *content) error {
	now, err := t.read()
	if err != nil {
		return err
	}
	if (old == nil) != (now == nil) || old != nil && (!sameState(&old.stat, &now.stat) || !bytes.Equal(old.data, now.data)) {
		return fmt.Errorf("%s: %w", t.path(t.name), ErrChanged)
	}
	return nil
}

// replaceable refuses what a rename can't replace, before anything is written.
func (t target) replaceable(name string) error {
	found, err := t.regular(name)
	if err != nil || !found {
		return err
	}
	var st unix.Statx_t
	_, err = retry(func() (int, error) { return 0, unix.Statx(t.fd(), name, unix.AT_SYMLINK_NOFOLLOW, 0, &st) })
	if err != nil {
		return t.fail(name, "statx", err)
	}
	if st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 {
		return fmt.Errorf("%s: is immutable or append-only: expected a file that can be replaced: chattr -i -a %[1]s", t.path(name))
	}
	return nil
}

// write makes a file with that content and those attributes, and flushes it to
// disk. It is the owner's alone until all of it is there.
func (t target) write(name string, data []byte, attrs attributes) (err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Openat(t.fd(), name, flags, 0o600) })
	if err != nil {
		return t.fail(name, "create", err)
	}
	f := os.NewFile(uintptr(fd), t.path(name))
	defer func() {
		if closed := f.Close(); err == nil && closed != nil {
			err = t.fail(name, "close", closed)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return t.fail(name, "write", err)
	}
	if err := t.set(name, fd, attrs); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return t.fail(name, "flush to disk", err)
	}
	return nil
}

// set gives an open file its attributes. The order matters: a change of the owner
// clears bits of the mode and file capabilities, and an ACL that the directory
// gave would make chmod(2) mean its mask.
func (t target) set(name string, fd int, attrs attributes) error {
	if attrs.owned {
		if err := unix.Fchown(fd, int(attrs.uid), int(attrs.gid)); err != nil {
			return t.fail(name, fmt.Sprintf("give it to UID %d, GID %d", attrs.uid, attrs.gid), err)
		}
	}
	err := unix.Fremovexattr(fd, accessACL)
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return t.fail(name, "remove the ACL of its directory", err)
	}
	if err := unix.Fchmod(fd, attrs.mode); err != nil {
		return t.fail(name, "change mode", err)
	}
	have, err := xattrsOf(fd)
	if err != nil {
		return t.fail(name, "extended attributes", err)
	}
	for _, x := range attrs.xattrs {
		if hasXattr(have, x) {
			continue // such as the label that a policy gives, and forbids to set
		}
		if err := unix.Fsetxattr(fd, x.name, x.value, 0); err != nil {
			return t.fail(name, "extended attribute "+x.name, err)
		}
	}
	return nil
}

func hasXattr(all []xattr, want xattr) bool {
	for _, x := range all {
		if x.name == want.name && bytes.Equal(x.value, want.value) {
			return true
		}
	}
	return false
}

// xattrsOf is the extended attributes that go with a file to its new content.
func xattrsOf(fd int) ([]xattr, error) {
	names, err := whole(func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []xattr
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" || contentXattrs[name] {
			continue
		}
		value, err := whole(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
		switch {
		case errors.Is(err, unix.ENODATA): // removed between the two calls
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		default:
			all = append(all, xattr{name, value})
		}
	}
	return all, nil
}

// whole calls with a buffer that is long enough: 64 KiB is the kernel's limit for
// a value and for a list of names (xattr(7)).
func whole(call func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 64<<10)
	n, err := retry(func() (int, error) { return call(buf) })
	if err != nil {
		return nil, err
	}
	return bytes.Clone(buf[:n]), nil
}
