// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lockedfile"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// subIDPatience is how long another program may change accounts meanwhile.
const subIDPatience = 30 * time.Second

// EditSubIDs changes /etc/subuid and /etc/subgid, which lie in one directory, together. change
// gets both as they are and gives the new text of each, nil for none; it may be called
// again with newer ones. If it fails nothing is written.
//
// Both are held by the locks of shadow's tools (usermod(8), useradd(8)), so that no change
// of theirs is lost, nor one of this: the lock of lckpwdf(3), which all of them take
// first, and a file FILE.lock with the number of the process. One that is left by a process
// that was killed is taken over, here and there. Each file is replaced by a rename, as
// [lockedfile.Edit] does it: first subgid, then subuid. A crash between the two leaves the
// first new and the second old, each whole, and the next call completes it. Where the second
// can't be written the first is put back.
func EditSubIDs(subuid, subgid string, change func(uids, gids *SubIDFile) (newUIDs, newGIDs []byte, err error)) error {
	accounts, err := lockAccounts(filepath.Join(filepath.Dir(subuid), ".pwd.lock"), subIDPatience)
	if err != nil {
		return err
	}
	defer accounts.Close()
	unlock, err := lockSubID(subuid, subIDPatience)
	if err != nil {
		return err
	}
	defer unlock()
	var before, after, other []byte // of subgid; and of subuid, as it is to be
	written := false
	err = lockedfile.Edit(subuid, 0o644, func(uids []byte) ([]byte, error) {
		err := editOne(subgid, func(gids []byte) (_ []byte, err error) {
			u, err := ParseSubIDs(subuid, uids)
			if err != nil {
				return nil, err
			}
			g, err := ParseSubIDs(subgid, gids)
			if err != nil {
				return nil, err
			}
			var text []byte
			other, text, err = change(u, g)
			if err == nil && text != nil && !bytes.Equal(text, gids) && !written {
				before, after, written = bytes.Clone(gids), text, true
			} else if err == nil && text != nil {
				after = text
			}
			return text, err
		})
		if err != nil {
			return nil, err
		}
		return other, nil
	})
	if err == nil || !written {
		return err
	}
	if now, readErr := os.ReadFile(subuid); readErr == nil && bytes.Equal(now, other) {
		return err // it was written all the same, and the error says what is uncertain about it
	}
	undone := editOne(subgid, func(now []byte) ([]byte, error) {
		if !bytes.Equal(now, after) {
			return nil, nil // never written, or others have changed it since
		}
		if before == nil {
			before = []byte{} // there was no file: an empty one is the same to every reader
		}
		return before, nil
	})
	if undone != nil {
		return errors.Join(err, fmt.Errorf("%s: is written, and %s isn't: call it again once that can be written: %w", subgid, subuid, undone))
	}
	return err
}

// editOne is [lockedfile.Edit] under shadow's lock of the file. lockedfile takes the lock
// file that it finds, and removes it at its end.
func editOne(path string, change func([]byte) ([]byte, error)) error {
	unlock, err := lockSubID(path, subIDPatience)
	if err != nil {
		return err
	}
	defer unlock()
	return lockedfile.Edit(path, 0o644, change)
}

// lockAccounts takes the lock of lckpwdf(3), for the caller to close. It belongs to the open
// file, so it ends with its process, however that ends.
func lockAccounts(path string, patience time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	deadline := time.Now().Add(patience)
	for {
		whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &whole)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES):
			f.Close()
			return nil, fmt.Errorf("%s: lock: %w", path, err)
		case time.Now().After(deadline):
			f.Close()
			return nil, fmt.Errorf("%s: is held by a program that changes accounts, such as vipw: wait for its end, and try again: fuser -v %[1]s", path)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// lockSubID makes FILE.lock, as shadow does: a link, so that it has the number of its process
// from the first instant. The caller holds the lock of lckpwdf(3), as all do that make the name
// of what is linked; so a file of that name is a killed one's.
func lockSubID(path string, patience time.Duration) (unlock func(), err error) {
	lock := path + ".lock"
	dir, name := filepath.Split(path)
	temp := filepath.Join(dir, "."+name+".usernsctl")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove what a killed export has left: %w", err)
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp) //nolint:errcheck // the next one removes it
	_, err = f.WriteString(strconv.Itoa(os.Getpid()))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	ours, err := os.Lstat(temp)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(patience)
	for {
		err := os.Link(temp, lock)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		pid, err := lockHolder(lock)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case pid == 0:
			if err := os.Remove(lock); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			continue
		case time.Now().After(deadline):
			return nil, fmt.Errorf("%s: is held by process %d: wait for its end (ps -fp %[2]d), or, if that is no program that changes accounts, remove it: rm %[1]s", lock, pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return func() {
		if now, err := os.Lstat(lock); err == nil && os.SameFile(now, ours) {
			_ = os.Remove(lock) // a later one sees that its process has ended
		}
	}, nil
}

// lockHolder is the process that holds a lock file, 0 if it has ended. One of our own number
// is of a process that had it before: the lock of lckpwdf(3) is ours.
func lockHolder(lock string) (pid int, err error) {
	text, err := rootfile.Read(lock, 64, uint32(os.Geteuid()))
	if err != nil {
		return 0, err
	}
	pid, err = strconv.Atoi(strings.Trim(string(text), "\x00\n "))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%s: holds %.20q: expected the number of a process, as shadow's tools write it: remove it when none of them is running: rm %[1]s", lock, text)
	}
	if pid == os.Getpid() || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return 0, nil
	}
	return pid, nil
}
