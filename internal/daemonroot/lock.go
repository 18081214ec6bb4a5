// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// lockName is a file, since everybody may open the super-root itself, and could hold it for ever.
const lockName = ".daemon-root.lock"

// patience is for another call on the same super-root; one takes seconds.
var patience = 10 * time.Second

// lock makes calls on one super-root wait for each other, by flock(2) of a file of root's, which ends with
// its holder, however that ends. Who only looks makes none, and waits where there is one.
func (s *super) lock(look bool) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		flags := unix.O_RDWR | unix.O_CREAT
		if look {
			flags = unix.O_RDONLY
		}
		f, err := s.openLock(flags)
		if look && errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// Whoever had it may have removed it, and another call made a new one.
			var held bool
			if held, err = s.isLock(f); held {
				s.held = f
				return nil
			}
		}
		f.Close()
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("%s: lock: %w", s.data(lockName), err)
		case !time.Now().Before(deadline):
			return fmt.Errorf("%s: another call works on it: wait for it, or see which process it is: fuser -v %s", s.path, rootfile.ShellQuote(s.data(lockName)))
		}
	}
}

// openLock refuses a file that others could have open, and so hold.
func (s *super) openLock(flags int) (*os.File, error) {
	path := s.data(lockName)
	fd, err := unix.Openat(s.fd(), lockName, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: open: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: stat: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 || st.Mode&0o077 != 0 {
		f.Close()
		return nil, fmt.Errorf("%s: is %s of UID %d with mode %s: expected a file of root that nobody else can open, and so can't hold: when no call works on it: rm %s",
			path, kind(st.Mode), st.Uid, octal(st.Mode), rootfile.ShellQuote(path))
	}
	return f, nil
}

// isLock says whether an open file is the one that others will find.
func (s *super) isLock(f *os.File) (bool, error) {
	var ours, there unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &ours); err != nil {
		return false, err
	}
	switch err := unix.Fstatat(s.fd(), lockName, &there, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, err
	}
	return ours.Dev == there.Dev && ours.Ino == there.Ino, nil
}

// unlock removes the file while it is still held. If it can't be removed, the next call takes it over.
func (s *super) unlock() {
	if s.held == nil {
		return
	}
	if ours, err := s.isLock(s.held); err == nil && ours {
		_ = unix.Unlinkat(s.fd(), lockName, 0)
	}
	_ = s.held.Close()
}
