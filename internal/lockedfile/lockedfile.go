// SPDX-License-Identifier: Apache-2.0

package lockedfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	patience = 30 * time.Second // for the lock; an edit takes milliseconds
	tries    = 10               // against a hand that writes the same file
	maxSize  = 512 << 20        // bytes; a larger file wasn't meant to be held in memory
)

// ErrChanged says that the file isn't what it was when it was read. [Edit]
// starts again when the error of change wraps it, and gives it up, wrapped, when
// that happens too often.
var ErrChanged = errors.New("was changed by somebody else meanwhile")

// Edit replaces the content of a file by what change makes of it. change gets
// the content, nil if there is no file, in memory of its own, and may be called
// again with newer content. Nothing is written if it fails, which is then Edit's
// error as it is, or if it gives nil or the same content.
//
// Owner, mode and extended attributes are kept, among them ACLs and labels
// (xattr(7)); a new file is the caller's and has exactly the permissions of mode,
// whatever the umask or an ACL of its directory says. The content before is kept
// as PATH-, by the same owner, mode and attributes. Other hard links to the file
// keep the content before: that is what backups made of hard links need, and what
// shadow's tools do.
//
// Edits of one file wait for each other, in one process or in many, for 30
// seconds at most; change must not edit the same file. Whoever writes without the
// lock, by an editor, is seen by a comparison just before the rename, or before
// change's refusal is believed: then all begins again. A write after that
// comparison is lost. What isn't a regular file is never followed, waited for or
// replaced.
//
// After a nil error the change is on disk. After another, the file is as it was,
// unless the error says that it was written.
func Edit(path string, mode os.FileMode, change func(old []byte) ([]byte, error)) error {
	return edit(path, mode, patience, change)
}

func edit(path string, mode os.FileMode, patience time.Duration, change func([]byte) ([]byte, error)) error {
	t, err := newTarget(path)
	if err != nil {
		return err
	}
	defer t.dir.Close()
	lock, err := t.lock(patience)
	if err != nil {
		return err
	}
	defer t.unlock(lock)
	for _, name := range []string{t.next(), t.nextBackup()} {
		if err := t.sweep(name); err != nil {
			return err
		}
	}
	for n := range tries {
		// An editor that writes in place is done after a moment.
		time.Sleep(time.Duration(n) * 10 * time.Millisecond)
		err := t.edit(lock, mode, change)
		if !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("%s: %w, %d times in a row: find out what writes it, and try again: fuser -v %[1]s", t.path(t.name), ErrChanged, tries)
}

// target is a file to be edited, by its name in an open directory: all that is
// done is done in that one, even if it is renamed meanwhile.
type target struct {
	dir    *os.File
	parent string // path of dir, for messages
	name   string
}

func newTarget(path string) (target, error) {
	parent, name := filepath.Split(path)
	if name == "" || name == "." || name == ".." {
		return target{}, fmt.Errorf("%s: isn't the name of a file", path)
	}
	if parent == "" {
		parent = "."
	}
	fd, err := retry(func() (int, error) {
		return unix.Open(parent, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return target{}, fmt.Errorf("%s: its directory: %w: mkdir -p %s", path, err, filepath.Clean(parent))
	case err != nil:
		return target{}, fmt.Errorf("%s: its directory: %w%s", path, err, mend(err))
	}
	return target{os.NewFile(uintptr(fd), parent), parent, name}, nil
}

func (t target) path(name string) string { return filepath.Join(t.parent, name) }
func (t target) backup() string          { return t.name + "-" }
func (t target) next() string            { return "." + t.name + ".lockedfile" }
func (t target) nextBackup() string      { return "." + t.name + ".lockedfile-" }

func (t target) fd() int { return int(t.dir.Fd()) }

// fail is the error of a system call on one of the target's names.
func (t target) fail(name, op string, err error) error {
	if in, ok := errors.AsType[*os.PathError](err); ok { // which says both already
		err = in.Err
	}
	return fmt.Errorf("%s: %s: %w%s", t.path(name), op, err, mend(err))
}

// mend is what to do about an error, after a colon, as far as its number tells.
func mend(err error) string {
	switch {
	case errors.Is(err, unix.EROFS):
		return ": mount it read-write: mount -o remount,rw"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return ": make room on it, df and df -i tell how much there is"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return ": run it as root, and see what lsattr says of the file and its directory"
	}
	return ""
}

// edit is one attempt, by the holder of the lock. If somebody else changed the
// file meanwhile, its error wraps ErrChanged and nothing is written.
func (t target) edit(lock *os.File, mode os.FileMode, change func([]byte) ([]byte, error)) error {
	old, err := t.read()
	if err != nil {
		return err
	}
	var before []byte
	if old != nil {
		before = bytes.Clone(old.data)
	}
	data, err := change(before)
	if err != nil || data == nil || old != nil && bytes.Equal(data, old.data) {
		// It may have been half of what an editor was about to write.
		if changed := t.unchanged(old); errors.Is(changed, ErrChanged) {
			return changed
		}
		return err
	}
	attrs := attributes{mode: uint32(mode.Perm())}
	if old != nil {
		attrs = old.attributes
		if err := t.replaceable(t.name); err != nil {
			return err
		}
		if err := t.replaceable(t.backup()); err != nil {
			return err
		}
		defer t.remove(t.nextBackup())
		if err := t.write(t.nextBackup(), old.data, attrs); err != nil {
			return err
		}
	}
	defer t.remove(t.next()) // gone by then, if all goes well
	if err := t.write(t.next(), data, attrs); err != nil {
		return err
	}
	if err := t.unchanged(old); err != nil {
		return err
	}
	held, err := t.holds(lock)
	if err != nil {
		return err
	}
	if !held {
		return fmt.Errorf("%s: was removed or replaced by somebody while it was held: try again", t.path(lockOf(t.name)))
	}
	return t.publish(old != nil)
}

// publish puts what was written in its place. The backup comes first: killed
// between the two, it is a copy of the file, which is better than none.
func (t target) publish(backup bool) error {
	if backup {
		if err := t.rename(t.nextBackup(), t.backup(), 0); err != nil {
			return t.fail(t.backup(), "replace", err)
		}
		if err := t.rename(t.next(), t.name, 0); err != nil {
			return t.fail(t.name, "replace", err)
		}
	} else {
		err := t.rename(t.next(), t.name, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) { // as NFS says; it was looked for a moment ago
			err = t.rename(t.next(), t.name, 0)
		}
		switch {
		case errors.Is(err, unix.EEXIST):
			return fmt.Errorf("%s: %w", t.path(t.name), ErrChanged)
		case err != nil:
			return t.fail(t.name, "create", err)
		}
	}
	if err := t.dir.Sync(); err != nil {
		return t.fail(t.name, "was written, but a power failure may undo it", err)
	}
	return nil
}

func (t target) rename(from, to string, flags uint) error {
	_, err := retry(func() (int, error) { return 0, unix.Renameat2(t.fd(), from, t.fd(), to, flags) })
	return err
}

// remove is for what may be gone already, and can't be helped otherwise: the
// next edit removes it.
func (t target) remove(name string) {
	_, _ = retry(func() (int, error) { return 0, unix.Unlinkat(t.fd(), name, 0) })
}

// sweep removes what a killed edit has left under a name that only holders of
// the lock write to.
func (t target) sweep(name string) error {
	found, err := t.regular(name)
	if err != nil || !found {
		return err
	}
	if _, err := retry(func() (int, error) { return 0, unix.Unlinkat(t.fd(), name, 0) }); err != nil {
		return t.fail(name, "remove what a killed edit has left", err)
	}
	return nil
}

// retry calls again when a signal interrupts, as package os does.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
