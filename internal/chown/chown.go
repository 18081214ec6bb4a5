// SPDX-License-Identifier: Apache-2.0

package chown

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// Try says what [Shift] would refuse, as far as it can be told without a change.
func Try(j Journal, root *os.File) error {
	if err := j.refuse(root); err != nil {
		return refused(root, err)
	}
	if err := Taken(j); err != nil {
		return err
	}
	_, err := look(root, shift{uids: j.UIDs, gids: j.GIDs}, true)
	return refused(root, err)
}

func refused(root *os.File, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("root filesystem: %s: its owners can't be changed on disk (shift = 'chown'): %w", root.Name(), err)
}

// refuse refuses what needs no look at the files, and fills in what can be told without.
func (j *Journal) refuse(root *os.File) error {
	if err := checkMaps(j.UIDs, j.GIDs); err != nil {
		return err
	}
	var on unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &on); err != nil {
		return &os.PathError{Op: "fstatfs", Path: root.Name(), Err: err}
	}
	if on.Flags&unix.ST_RDONLY != 0 {
		return errors.New("it is mounted read-only: expected one that can be written to")
	}
	kind := uint32(on.Type)
	j.Memory = kind == unix.RAMFS_MAGIC || kind == unix.TMPFS_MAGIC
	j.State = Shifting
	return nil
}

// Shift changes the owners below root to those outside, by a journal that has all but how the tree is.
// What fails is undone. The root filesystem must be the caller's own until [Held.Restore]: of what
// others write to it meanwhile, nobody knows whose it is.
func Shift(j Journal, root *os.File, progress Progress) error {
	if err := j.refuse(root); err != nil {
		return refused(root, err)
	}
	h, err := begin(j)
	if err != nil {
		return err
	}
	found, err := look(root, shift{uids: h.UIDs, gids: h.GIDs}, true)
	if err == nil {
		err = h.begun(Shifting)(found.marks) // nothing was changed yet
	}
	if err != nil {
		return errors.Join(refused(root, err), h.drop())
	}
	err = rounds(root, shift{uids: h.UIDs, gids: h.GIDs}, found, nil, h.begun(Shifting), progress)
	if err == nil {
		err = h.settled(root, Shifted)
	}
	if err != nil {
		err = fmt.Errorf("root filesystem: %s: its owners couldn't be changed on disk (shift = 'chown'): %w", root.Name(), err)
		return errors.Join(err, h.Restore(root, nil))
	}
	h.Close()
	return nil
}

// begun writes down what a round will take from files.
func (h *Held) begun(state State) func([]mark) error {
	return func(marks []mark) error {
		h.State, h.Marks = state, marks
		return h.save()
	}
}

// settled waits until all of it is on disk before the journal forgets how to do it.
func (h *Held) settled(root *os.File, to State) error {
	if err := flush(root); err != nil {
		return err
	}
	h.State, h.Marks = to, nil
	return h.save()
}

// Hold takes a journal to undo what it says; ok is false if somebody else has done so. Without wait it
// is [ErrBusy] while somebody else does.
func Hold(j Journal, wait bool) (h *Held, ok bool, err error) {
	h, err = hold(j, wait)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return h, err == nil, err
}

// Is says whether a directory is the one of the journal.
func (j Journal) Is(root *os.File) bool {
	st, err := linux.At{Dir: linux.FD(root.Fd())}.Stat()
	return err == nil && st.IsDir() && st.Inode == j.Inode
}

// Restore gives the files below root the owners that they have inside, and removes the journal. On error
// it stays, and says what was begun. It lets go of it in any case.
func (h *Held) Restore(root *os.File, progress Progress) error {
	failed := func(err error) error {
		h.Close()
		return fmt.Errorf("root filesystem: %s: its owners on disk are still those of container %q, and its IDs stay taken: %w: mend that and run `usernsctl gc`", root.Name(), h.ID, err)
	}
	back := shift{h.UIDs, h.GIDs, true}
	found, err := look(root, back, false)
	if err == nil {
		err = rounds(root, back, found, h.Marks, h.begun(Restoring), progress)
	}
	if err == nil {
		err = flush(root)
	}
	if err != nil {
		return failed(err)
	}
	return h.drop()
}

// Forget removes the journal of a root filesystem that is gone.
func (h *Held) Forget() error { return h.drop() }
