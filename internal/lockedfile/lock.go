// SPDX-License-Identifier: Apache-2.0

package lockedfile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func lockOf(name string) string { return name + ".lock" }

// lock waits for the lock, at most that long. flock(2) conflicts between open
// files, so it holds between the goroutines of one process as well, and ends with
// its holder, however that ends.
func (t target) lock(patience time.Duration) (*os.File, error) {
	name := lockOf(t.name)
	deadline := time.Now().Add(patience)
	for {
		lock, err := t.openLock(name)
		if err != nil {
			return nil, err
		}
		err = t.wait(lock, deadline)
		if err != nil {
			lock.Close()
			return nil, err
		}
		// The one before removed its file while it held it. Whoever waited for
		// that file has the lock of a file that nobody else will ever open.
		held, err := t.holds(lock)
		if held {
			return lock, nil
		}
		lock.Close()
		if err != nil {
			return nil, err
		}
	}
}

// wait asks again and again, since a flock(2) that blocks can't be given up.
func (t target) wait(lock *os.File, deadline time.Time) error {
	for {
		_, err := retry(func() (int, error) { return 0, unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return t.fail(lockOf(t.name), "lock", err)
		case !time.Now().Before(deadline):
			return fmt.Errorf("%s: is still held by another edit: see which process has it, end it or wait: fuser -v %[1]s", t.path(lockOf(t.name)))
		}
		// Not all at the same instant.
		time.Sleep(time.Millisecond + rand.N(9*time.Millisecond)) //nolint:gosec // nothing to guess
	}
}

// openLock opens the lock file, or makes it. One that others could open is
// refused: they could hold it for ever.
func (t target) openLock(name string) (*os.File, error) {
	const flags = unix.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	for {
		found, err := t.regular(name)
		if err != nil {
			return nil, err
		}
		how := flags
		if !found {
			how |= unix.O_CREAT | unix.O_EXCL
		}
		fd, err := retry(func() (int, error) { return unix.Openat(t.fd(), name, how, 0o600) })
		switch {
		case found && errors.Is(err, unix.ENOENT), !found && errors.Is(err, unix.EEXIST):
			continue // another edit ended, or began
		case err != nil:
			return nil, t.fail(name, "open", err)
		}
		lock := os.NewFile(uintptr(fd), t.path(name))
		if err := t.judgeLock(lock, !found); err != nil {
			lock.Close()
			return nil, err
		}
		return lock, nil
	}
}

func (t target) judgeLock(lock *os.File, made bool) error {
	if made {
		if err := lock.Chmod(0o600); err != nil { // the umask may have taken from it
			t.remove(lockOf(t.name))
			return t.fail(lockOf(t.name), "change mode", err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(lock.Fd()), &st); err != nil {
		return t.fail(lockOf(t.name), "stat", err)
	}
	if me := uint32(os.Geteuid()); st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != me || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s: is owned by UID %d and has mode %04o: expected a file of UID %d that nobody else can open, and so can't hold: remove it when no edit is running: rm %[1]s",
			t.path(lockOf(t.name)), st.Uid, st.Mode&0o7777, me)
	}
	return nil
}

// holds says whether the open file is the one that others will find.
func (t target) holds(lock *os.File) (bool, error) {
	var ours, found unix.Stat_t
	if err := unix.Fstat(int(lock.Fd()), &ours); err != nil {
		return false, t.fail(lockOf(t.name), "stat", err)
	}
	err := t.stat(lockOf(t.name), &found)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, t.fail(lockOf(t.name), "stat", err)
	}
	return ours.Dev == found.Dev && ours.Ino == found.Ino, nil
}

// unlock removes the lock file while it is still held, and lets go of it. If it
// can't be removed the next edit takes it over.
func (t target) unlock(lock *os.File) {
	if held, err := t.holds(lock); err == nil && held {
		t.remove(lockOf(t.name))
	}
	lock.Close()
}
