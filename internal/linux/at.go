// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// At is a file: the one called Name in the open directory Dir or, with an empty
// Name, the one that Dir itself is open on. A symbolic link is never followed,
// whatever is done to it. Name is one name, without a slash.
type At struct {
	Dir  FD
	Name string
}

// Stat is what a file is (statx(2)).
type Stat struct {
	Mode                uint32 // type, and the twelve bits of chmod(2)
	UID, GID            uint32
	Size                int64 // bytes
	Blocks              int64 // of 512 bytes, that are allocated
	Links               uint32
	Major, Minor        uint32 // of the device that it is a node of
	DevMajor, DevMinor  uint32 // of the filesystem that it is on
	Inode               uint64
	MountID             uint64 // of the mount that it was reached by (since Linux 5.8)
	ATime, MTime, CTime time.Time
}

// Types of files in the mode of a [Stat] (inode(7)).
const (
	TypeMask    uint32 = unix.S_IFMT
	TypeRegular uint32 = unix.S_IFREG
	TypeDir     uint32 = unix.S_IFDIR
	TypeSymlink uint32 = unix.S_IFLNK
	TypeChar    uint32 = unix.S_IFCHR
	TypeBlock   uint32 = unix.S_IFBLK
	TypeFIFO    uint32 = unix.S_IFIFO
	TypeSocket  uint32 = unix.S_IFSOCK
)

// IsDir says whether it is a directory.
func (s *Stat) IsDir() bool { return s.Mode&TypeMask == TypeDir }

// Same says whether both are of one file.
func (s *Stat) Same(as *Stat) bool {
	return s.Inode == as.Inode && s.DevMajor == as.DevMajor && s.DevMinor == as.DevMinor
}

// Numbers of errors for errors.Is, for packages that may not make system calls.
// Those that the standard library has a name for aren't among them: fs.ErrExist,
// fs.ErrNotExist, errors.ErrUnsupported.
var (
	ErrNotDirectory error = unix.ENOTDIR
	ErrIsDirectory  error = unix.EISDIR
	ErrNotEmpty     error = unix.ENOTEMPTY
	ErrLoop         error = unix.ELOOP // also a symbolic link where none may be
	ErrCrossMount   error = unix.EXDEV // also a path that leaves where it has to stay
	ErrBusy         error = unix.EBUSY
	ErrWouldBlock   error = unix.EWOULDBLOCK
	ErrNoSpace      error = unix.ENOSPC
	ErrReadOnly     error = unix.EROFS
	ErrQuota        error = unix.EDQUOT
	ErrNoXattr      error = unix.ENODATA // there is no such attribute
)

// retry calls again when a signal interrupts, as package os does, and gives an
// error the form that this package promises.
func (a At) retry(op string, call func() error) error {
	for {
		err := call()
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EINTR):
			return a.fail(op, err)
		}
	}
}

func (a At) fail(op string, err error) error {
	name := a.Name
	if name == "" {
		name = "fd " + strconv.Itoa(int(a.Dir))
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

// Stat looks at the file (statx(2)).
func (a At) Stat() (Stat, error) {
	const (
		flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH | unix.AT_NO_AUTOMOUNT
		mask  = unix.STATX_BASIC_STATS | unix.STATX_MNT_ID
	)
	var st unix.Statx_t
	err := a.retry("statx", func() error { return unix.Statx(int(a.Dir), a.Name, flags, mask, &st) })
	if err != nil {
		return Stat{}, err
	}
	stamp := func(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }
	return Stat{
		Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid, Size: int64(st.Size), Blocks: int64(st.Blocks),
		Links: st.Nlink, Major: st.Rdev_major, Minor: st.Rdev_minor, DevMajor: st.Dev_major, DevMinor: st.Dev_minor,
		Inode: st.Ino, MountID: st.Mnt_id, ATime: stamp(st.Atime), MTime: stamp(st.Mtime), CTime: stamp(st.Ctime),
	}, nil
}

// Create makes a regular file that isn't there yet, and opens it for writing
// (O_EXCL). Of mode the umask takes its part.
func (a At) Create(mode uint32) (FD, error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	return a.open("openat", flags, mode)
}

// OpenFile opens a regular file for reading, without a new access time if that may
// be had. A FIFO isn't waited for, and a terminal doesn't become the caller's: what
// was opened is for the caller to look at.
func (a At) OpenFile() (FD, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := a.open("openat", flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // another's file
		return a.open("openat", flags, 0)
	}
	return fd, err
}

// OpenLock opens a regular file that flock(2) is to be held on, and makes it with
// mode 0600 if it isn't there.
func (a At) OpenLock() (FD, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	return a.open("openat", flags, 0o600)
}

// OpenDir opens a directory for reading, without a new access time if that may be
// had.
func (a At) OpenDir() (FD, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := a.open("openat", flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // another's directory
		return a.open("openat", flags, 0)
	}
	return fd, err
}

func (a At) open(op string, flags int, mode uint32) (FD, error) {
	var fd int
	err := a.retry(op, func() (err error) {
		fd, err = unix.Openat(int(a.Dir), a.Name, flags, mode)
		return err
	})
	if err != nil {
		return -1, err
	}
	return FD(fd), nil
}

// Mkdir makes a directory. Of mode the umask takes its part.
func (a At) Mkdir(mode uint32) error {
	return a.retry("mkdirat", func() error { return unix.Mkdirat(int(a.Dir), a.Name, mode) })
}

// Mknod makes a device node or a FIFO: mode is its type and permissions, of which the
// umask takes its part.
func (a At) Mknod(mode, major, minor uint32) error {
	return a.retry("mknodat", func() error {
		return unix.Mknodat(int(a.Dir), a.Name, mode, int(unix.Mkdev(major, minor)))
	})
}

// Symlink makes a symbolic link.
func (a At) Symlink(target string) error {
	return a.retry("symlinkat", func() error { return unix.Symlinkat(target, int(a.Dir), a.Name) })
}

// Link gives the file old another name. Of a symbolic link the link itself gets
// it.
func (a At) Link(old At) error {
	return a.retry("linkat", func() error { return unix.Linkat(int(old.Dir), old.Name, int(a.Dir), a.Name, 0) })
}

// ReadLink is where a symbolic link points to.
func (a At) ReadLink() (string, error) {
	buf := make([]byte, unix.PathMax) // no link is longer
	var n int
	err := a.retry("readlinkat", func() (err error) {
		n, err = unix.Readlinkat(int(a.Dir), a.Name, buf)
		return err
	})
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Remove takes the name of anything but a directory away.
func (a At) Remove() error {
	return a.retry("unlinkat", func() error { return unix.Unlinkat(int(a.Dir), a.Name, 0) })
}

// RemoveDir removes an empty directory.
func (a At) RemoveDir() error {
	return a.retry("unlinkat(AT_REMOVEDIR)", func() error { return unix.Unlinkat(int(a.Dir), a.Name, unix.AT_REMOVEDIR) })
}

// Rename gives the file another name, and replaces what has it, of directories an
// empty one alone (rename(2)).
func (a At) Rename(to At) error {
	return a.retry("renameat", func() error { return unix.Renameat(int(a.Dir), a.Name, int(to.Dir), to.Name) })
}

// Chown changes the owner, which for others than directories takes setuid and setgid
// bits away, and file capabilities (chown(2)).
func (a At) Chown(uid, gid uint32) error {
	return a.retry("fchownat", func() error {
		return unix.Fchownat(int(a.Dir), a.Name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	})
}

// Chmod sets the twelve bits of chmod(2), for a symbolic link EOPNOTSUPP.
func (a At) Chmod(mode uint32) error {
	if a.Name == "" {
		return a.retry("fchmod", func() error { return unix.Fchmod(int(a.Dir), mode) })
	}
	err := a.retry("fchmodat2", func() error { return unix.Fchmodat(int(a.Dir), a.Name, mode, unix.AT_SYMLINK_NOFOLLOW) })
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	// Before Linux 6.6 there was no such call; a link says the same.
	fd, err := a.open("openat", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer fd.Close()
	return a.retry("fchmodat", func() error { return unix.Fchmodat(unix.AT_FDCWD, fd.path(), mode, 0) })
}

// SetTimes sets the times of last access and of last change of the content, to the
// nanosecond as far as the filesystem has them; a zero one stays as it is.
func (a At) SetTimes(atime, mtime time.Time) error {
	spec := func(t time.Time) unix.Timespec {
		if t.IsZero() {
			return unix.Timespec{Nsec: unix.UTIME_OMIT}
		}
		return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
	}
	times := []unix.Timespec{spec(atime), spec(mtime)}
	return a.retry("utimensat", func() error {
		return unix.UtimesNanoAt(int(a.Dir), a.Name, times, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	})
}
