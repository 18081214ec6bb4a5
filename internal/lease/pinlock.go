// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// pinLock is a file beside the directory of the entries. It stays: it is the same one for all.
const pinLock = "pins.lock"

// patience is how long somebody waits for another one who makes or removes pins.
const patience = 30 * time.Second

// LockPins waits for everybody else who makes or removes pins; unlock lets the next one. The lock is
// root's alone to take, and ends with the process.
func (s *Store) LockPins() (unlock func(), err error) {
	path := filepath.Join(filepath.Dir(s.path), pinLock)
	for end := time.Now().Add(patience); ; {
		if err := s.makeDirs(); err != nil {
			return nil, err
		}
		f, err := openLock(path)
		if errors.Is(err, fs.ErrNotExist) && time.Now().Before(end) {
			continue // the directory was deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isAt(f, path) {
			return func() { _ = f.Close() }, nil
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("lease: %w", &os.PathError{Op: "flock", Path: path, Err: err})
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("lease: %s: another process has made or removed pins for %s: see which, and end it: fuser -v %s", path, patience, path)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// openLock opens the file, or makes it. One that somebody else could have open would be held for ever.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Mode().Perm() != 0o600) {
		err = fmt.Errorf("%s: it has mode %v: expected a file with mode 0600: remove it", path, info.Mode())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// isAt says whether a path leads to the very file, which somebody may have removed meanwhile.
func isAt(f *os.File, path string) bool {
	now, err := os.Lstat(path)
	if err != nil {
		return false
	}
	is, err := f.Stat()
	return err == nil && os.SameFile(is, now)
}
