// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"io"
	"strconv"

	"golang.org/x/sys/unix"
)

// FD is an open file, for those who open a million of them: an [os.File] costs two
// system calls and a finalizer more for each. Whoever got it closes it, once.
type FD int

// OpenDirectory opens the directory at path for reading, and follows symbolic links.
func OpenDirectory(path string) (FD, error) {
	return At{unix.AT_FDCWD, path}.open("open", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func (f FD) self() At { return At{Dir: f} }

func (f FD) path() string { return "/proc/self/fd/" + strconv.Itoa(int(f)) }

// scopedTries is how often a path is resolved anew that a rename or a mount anywhere
// on the host has got in the way of (openat2(2), EAGAIN).
const scopedTries = 10_000

// DirInRoot opens the directory at path for reading, as a process would whose root
// directory f is: symbolic links are followed, and they and ".." don't lead out
// (openat2(2), RESOLVE_IN_ROOT, since Linux 5.6).
func (f FD) DirInRoot(path string) (FD, error) {
	return f.open2(path, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS|unix.RESOLVE_NO_XDEV)
}

// DirBeneath opens the directory at path below f for reading, where no name of the
// path may be a symbolic link or a mount.
func (f FD) DirBeneath(path string) (FD, error) {
	return f.open2(path, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
}

func (f FD) open2(path string, flags, resolve uint64) (FD, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	a := At{f, path}
	for n := 0; ; n++ {
		var fd int
		err := a.retry("openat2", func() (err error) {
			fd, err = unix.Openat2(int(f), path, &how)
			return err
		})
		switch {
		case err == nil:
			return FD(fd), nil
		case !errors.Is(err, unix.EAGAIN) || n == scopedTries:
			return -1, err
		}
	}
}

// Names is the next names in a directory, in no order; none at its end. buf is
// memory to use.
func (f FD) Names(buf []byte) (names []string, err error) {
	for len(names) == 0 {
		var n int
		err := f.self().retry("getdents64", func() (err error) {
			n, err = unix.ReadDirent(int(f), buf)
			return err
		})
		if err != nil || n == 0 {
			return nil, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names) // which leaves "." and ".." out
	}
	return names, nil
}

// Rewind makes [FD.Names] begin at the first name again.
func (f FD) Rewind() error {
	return f.self().retry("lseek", func() error {
		_, err := unix.Seek(int(f), 0, unix.SEEK_SET)
		return err
	})
}

// WriteAt writes all of p at the offset, as [io.WriterAt].
func (f FD) WriteAt(p []byte, offset int64) (done int, err error) {
	for done < len(p) {
		var n int
		err := f.self().retry("pwrite64", func() (err error) {
			n, err = unix.Pwrite(int(f), p[done:], offset+int64(done))
			return err
		})
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, f.self().fail("pwrite64", io.ErrShortWrite)
		}
		done += n
	}
	return done, nil
}

// ReadAt reads until p is full or the file ends, as [io.ReaderAt].
func (f FD) ReadAt(p []byte, offset int64) (done int, err error) {
	for done < len(p) {
		var n int
		err := f.self().retry("pread64", func() (err error) {
			n, err = unix.Pread(int(f), p[done:], offset+int64(done))
			return err
		})
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

// Truncate sets the size in bytes; what is added is a hole.
func (f FD) Truncate(size int64) error {
	return f.self().retry("ftruncate", func() error { return unix.Ftruncate(int(f), size) })
}

// NextData is the next part of the file that isn't a hole, at or behind offset, as
// the filesystem tells (lseek(2), SEEK_DATA); start is end if there is none.
func (f FD) NextData(offset int64) (start, end int64, err error) {
	start, err = f.seek("lseek(SEEK_DATA)", offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	end, err = f.seek("lseek(SEEK_HOLE)", start, unix.SEEK_HOLE)
	return start, end, err
}

func (f FD) seek(op string, offset int64, whence int) (at int64, err error) {
	err = f.self().retry(op, func() (err error) {
		at, err = unix.Seek(int(f), offset, whence)
		return err
	})
	return at, err
}

// Lock takes the exclusive flock(2), without waiting: [ErrWouldBlock] says that
// another open file has it. It ends with the last descriptor of this one, so also with its process.
func (f FD) Lock() error {
	return f.self().retry("flock", func() error { return unix.Flock(int(f), unix.LOCK_EX|unix.LOCK_NB) })
}

// Sync writes the file's content and metadata to disk.
func (f FD) Sync() error {
	return f.self().retry("fsync", func() error { return unix.Fsync(int(f)) })
}

// SyncFilesystem writes all of the file's filesystem to disk (syncfs(2)).
func (f FD) SyncFilesystem() error {
	return f.self().retry("syncfs", func() error { return unix.Syncfs(int(f)) })
}

// Close closes it. Of a file that was written to, the error may be the only one that
// tells of data that was lost (close(2)).
func (f FD) Close() error {
	// Not once more after EINTR: on Linux the descriptor is gone by then.
	if err := unix.Close(int(f)); err != nil && !errors.Is(err, unix.EINTR) {
		return f.self().fail("close", err)
	}
	return nil
}

var (
	_ io.WriterAt = FD(0)
	_ io.ReaderAt = FD(0)
)
