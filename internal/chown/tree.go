// SPDX-License-Identifier: Apache-2.0

package chown

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// Progress is called now and then with how many of all files are done. It may be nil.
type Progress func(done, all int)

// passes is how often a tree is gone over at most: until nothing is left to do, since an engine
// may write to it meanwhile.
const passes = 5

var errRestless = errors.New("owners that were changed are others again: either its filesystem keeps none (FUSE, some of the network), " +
	"and it has to be copied to one that does, or somebody writes to it meanwhile: stop that, and try again")

// survey is what a tree is found to be before anything is changed.
type survey struct {
	files int
	marks []mark // of files whose owner is to be changed; not of all that there are, if
	more  bool
}

// maxMarks is how many files that lose something are changed in one round, each with a journal of its own: root
// inside may make millions of setuid programs.
var maxMarks = 10000

// look goes over the tree and changes nothing. With fresh it refuses what couldn't be undone,
// or would change more than the tree.
func look(root *os.File, s shift, fresh bool) (survey, error) {
	var out survey
	type links struct {
		seen, all uint32
		path      string
	}
	several := map[[3]uint64]*links{}
	err := walk(root, func(f *file) error {
		out.files++
		have, err := f.xattrs()
		if err != nil {
			return err
		}
		if m, ok := markOf(f, have); ok && s.changes(f) {
			if len(out.marks) < maxMarks {
				out.marks = append(out.marks, m)
			} else {
				out.more = true
			}
		}
		if !fresh {
			return nil
		}
		if what, id := outerID(f, have, s.uids, s.gids); what != "" {
			return fmt.Errorf("%s is %d, one of the container's own IDs on the host (UIDs %s, GIDs %s): afterwards it couldn't be told from one that was shifted: "+
				"`chown` it to the ID that it shall have inside", what, id, s.uids, s.gids)
		}
		if f.stat.Links > 1 && !f.stat.IsDir() {
			key := [3]uint64{uint64(f.stat.DevMajor), uint64(f.stat.DevMinor), f.stat.Inode}
			if several[key] == nil {
				several[key] = &links{path: f.path()}
			}
			several[key].seen++
			several[key].all = f.stat.Links
		}
		return nil
	})
	if err != nil {
		return survey{}, err
	}
	var shared []string
	for _, l := range several {
		if l.seen < l.all {
			shared = append(shared, fmt.Sprintf("%s has %d names, %d of them here", l.path, l.all, l.seen))
		}
	}
	if len(shared) > 0 {
		slices.Sort(shared)
		more := ""
		if n := len(shared) - 3; n > 0 {
			shared, more = shared[:3], fmt.Sprintf(", and %d more", n)
		}
		return survey{}, fmt.Errorf("%s%s: its owner would change elsewhere too: copy the root filesystem without hard links to others (cp -a)",
			strings.Join(shared, "; "), more)
	}
	return out, nil
}

// rounds changes the whole tree; begun is told the marks of a round before it begins. before is those of one that
// was ended in the middle.
func rounds(root *os.File, s shift, first survey, before []mark, begun func([]mark) error, progress Progress) error {
	for found, err := first, error(nil); ; found, err = look(root, s, false) {
		if err != nil {
			return err
		}
		found.take(before)
		before = nil
		if err := begun(found.marks); err != nil {
			return err
		}
		if err := change(root, s, found.marks, found.files, progress); err != nil || !found.more {
			return err
		}
		// The next journal knows nothing of these files.
		if err := flush(root); err != nil {
			return err
		}
		progress = nil
	}
}

// flush waits until all that was done to the tree's filesystem is on disk.
func flush(root *os.File) error {
	fd, err := linux.At{Dir: linux.FD(root.Fd()), Name: "."}.OpenDir()
	if err != nil {
		return err
	}
	return errors.Join(fd.SyncFilesystem(), fd.Close())
}

// take adds what files have lost by a change that was ended in the middle: only its marks know that.
func (v *survey) take(before []mark) {
	have := make(map[fileID]int, len(v.marks))
	for i, m := range v.marks {
		have[m.ID] = i
	}
	for _, m := range before {
		i, ok := have[m.ID]
		if !ok {
			v.marks = append(v.marks, m)
		} else if now := &v.marks[i]; now.Size == m.Size && now.MTime == m.MTime {
			now.Mode |= m.Mode & killed
			if now.Caps == nil {
				now.Caps = m.Caps
			}
		}
	}
}

// changes says whether the file's owner is to be changed.
func (s shift) changes(f *file) bool {
	return s.uid(f.stat.UID) != f.stat.UID || s.gid(f.stat.GID) != f.stat.GID
}

// change goes over the tree until all of it is as s says, but for files that would lose what no mark
// tells of.
func change(root *os.File, s shift, marks []mark, files int, progress Progress) error {
	byID := make(map[fileID]mark, len(marks))
	for _, m := range marks {
		byID[m.ID] = m
	}
	for pass := range passes {
		changed, done := 0, 0
		err := walk(root, func(f *file) error {
			did, err := s.apply(f, byID)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return explain(named(f.path(), err))
			}
			if did {
				changed++
			}
			if done++; pass == 0 && progress != nil && (done%1024 == 0 || done == files) {
				progress(min(done, files), files)
			}
			return err
		})
		if err != nil || changed == 0 {
			return err
		}
	}
	return errRestless
}

// explain says what keeps root from a change.
func explain(err error) error {
	switch {
	case errors.Is(err, linux.ErrNoSpace), errors.Is(err, linux.ErrQuota):
		return fmt.Errorf("%w: make room there, see `df` and `df -i`", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: it may be immutable, see `lsattr -d`, or of a filesystem that lets nobody change owners", err)
	}
	return err
}

// apply changes the owner of one file, and gives it back what that takes away.
func (s shift) apply(f *file, marks map[fileID]mark) (changed bool, err error) {
	have, err := f.xattrs()
	if err != nil {
		return false, err
	}
	m, marked := marks[f.id]
	marked = marked && m.is(f)
	if _, loses := markOf(f, have); loses && !marked && s.changes(f) {
		return false, nil // in a later round
	}
	for _, name := range []string{xattrACL, xattrDefaultACL} {
		if to := s.acl(have[name]); !slices.Equal(to, have[name]) {
			if err := f.at.SetXattr(name, to); err != nil {
				return false, err
			}
			changed = true
		}
	}
	mode, caps := f.stat.Mode&twelve, have[xattrCaps]
	if marked {
		mode |= m.Mode & killed
		if caps == nil {
			caps = m.Caps
		}
	}
	now, nowCaps := f.stat.Mode&twelve, have[xattrCaps]
	if uid, gid := s.uid(f.stat.UID), s.gid(f.stat.GID); uid != f.stat.UID || gid != f.stat.GID {
		if err := f.at.Chown(uid, gid); err != nil {
			return false, err
		}
		changed = true
		if !f.stat.IsDir() && !f.isSymlink() {
			now, nowCaps = now&^killed, nil // as far as the kernel takes them: setting them twice does no harm
		}
	}
	if now != mode {
		if err := f.at.Chmod(mode); err != nil {
			return changed, err
		}
		changed = true
	}
	if to := s.caps(caps); caps != nil && !slices.Equal(to, nowCaps) {
		if err := f.at.SetXattr(xattrCaps, to); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}
