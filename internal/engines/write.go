// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/userns-runtime/userns-runtime/internal/lockedfile"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// errForeign is that a file isn't what it was when it was looked at.
var errForeign = errors.New("was changed by somebody else meanwhile: try again")

// replace makes a file what it shall be, if it still is what it was; nil is that there is no
// file. Owner, mode and attributes stay, and a symbolic link does: what it leads to is changed.
func (s *store) replace(st *state, was, shall []byte) error {
	target, err := s.resolve(st.File)
	if err != nil {
		return err
	}
	if shall == nil {
		return s.remove(target, was)
	}
	if err := s.setAside(target, st); err != nil {
		return err
	}
	checkpoint()
	mode := os.FileMode(0o644)
	if was == nil && st.Before != "" {
		mode = 0o600 // of a file that somebody removed meanwhile: it isn't known who might read it
	}
	err = lockedfile.Edit(target, mode, func(old []byte) ([]byte, error) {
		if !bytes.Equal(old, was) || (old == nil) != (was == nil) {
			return nil, fmt.Errorf("%s: %w", st.File, errForeign)
		}
		return shall, nil
	})
	checkpoint()
	return errors.Join(err, s.settle(st))
}

// remove takes away a file that we made.
func (s *store) remove(target string, was []byte) error {
	data, err := os.ReadFile(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !bytes.Equal(data, was) {
		return fmt.Errorf("%s: %w", s.name(target), errForeign)
	}
	if err == nil {
		err = os.Remove(target)
	}
	if err == nil {
		err = syncDir(filepath.Dir(target))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name(target), unpath(err))
	}
	checkpoint()
	return nil
}

// lockedfile keeps the content before as FILE-. Ours is in the state; a file of that name that
// was there before is somebody's, and is put aside meanwhile.
func backupOf(target string) (backup, aside string) {
	dir, name := filepath.Split(target)
	return target + "-", filepath.Join(dir, "."+name+"-.usernsctl")
}

func (s *store) setAside(target string, st *state) error {
	if err := s.settle(st); err != nil {
		return err
	}
	backup, aside := backupOf(target)
	if _, err := os.Lstat(backup); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Rename(backup, aside); err != nil {
		return fmt.Errorf("%s: put aside: %w", s.name(backup), linkError(err))
	}
	return nil
}

// linkError is an error of rename(2) or symlink(2) without the paths.
func linkError(err error) error {
	if in, ok := errors.AsType[*os.LinkError](err); ok {
		return in.Err
	}
	return unpath(err)
}

// settle gives FILE- back to whose it is, or removes what lockedfile has left there of a
// change of ours.
func (s *store) settle(st *state) error {
	target, err := s.resolve(st.File)
	if err != nil {
		return err
	}
	if err := s.sweepEdit(target); err != nil {
		return err
	}
	backup, aside := backupOf(target)
	if _, err := os.Lstat(aside); err == nil {
		if err := os.Rename(aside, backup); err != nil {
			return fmt.Errorf("%s: give back: %w", s.name(backup), linkError(err))
		}
		return nil
	}
	if st.Backup {
		return nil
	}
	data, err := os.ReadFile(backup)
	if err != nil {
		return nil //nolint:nilerr // there is none, as there was none
	}
	if sum := hash(data); sum == st.Before || sum == st.After || st.Previous != nil && sum == *st.Previous {
		if err := os.Remove(backup); err != nil {
			return fmt.Errorf("%s: %w", s.name(backup), unpath(err))
		}
	}
	return nil
}

// sweepEdit has lockedfile remove what a killed edit of it has left, which the next edit would, if
// there is one.
func (s *store) sweepEdit(target string) error {
	dir, name := filepath.Split(target)
	left := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	}
	if !left(name+".lock") && !left("."+name+".lockedfile") && !left("."+name+".lockedfile-") {
		return nil
	}
	return lockedfile.Edit(target, 0o644, func([]byte) ([]byte, error) { return nil, nil })
}

// hasBackup says whether there is a FILE-.
func (h Host) hasBackup(file string) (bool, error) {
	target, err := h.resolve(file)
	if err != nil {
		return false, err
	}
	_, err = os.Lstat(target + "-")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%s-: %w", file, unpath(err))
	}
	return err == nil, nil
}

// missingDirs is the directories above a path that aren't there, outermost first.
func (h Host) missingDirs(path string) (dirs []string) {
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(h.path(dir)); err == nil {
			break
		}
		dirs = append([]string{dir}, dirs...)
	}
	return dirs
}

func (s *store) makeDirs(dirs []string) error {
	for _, dir := range dirs {
		err := os.Mkdir(s.path(dir), 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = os.Chmod(s.path(dir), 0o755) // whatever the umask
		}
		if err == nil {
			err = syncDir(filepath.Dir(s.path(dir)))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", dir, unpath(err))
		}
		checkpoint()
	}
	return nil
}

// removeDirs takes away directories that we made, those that are empty.
func (s *store) removeDirs(dirs []string) (removed []string) {
	for i := len(dirs) - 1; i >= 0; i-- {
		switch err := os.Remove(s.path(dirs[i])); {
		case err == nil:
			removed = append(removed, dirs[i])
			checkpoint()
		case !errors.Is(err, fs.ErrNotExist):
			return removed // somebody has put something there, and it is theirs now
		}
	}
	return removed
}

// linkState says whether there is a link to the program, or nothing in its place; anything else is
// an error.
func (h Host) linkState(link string) (there bool, err error) {
	info, err := os.Lstat(h.path(link))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", link, unpath(err))
	}
	shown := rootfile.ShellQuote(link)
	if info.Mode().Type() == fs.ModeSymlink {
		found, err := h.resolve(link)
		if err != nil {
			return false, err
		}
		if program, err := h.resolve(filepath.Join(filepath.Dir(link), ProgramName)); err == nil && found == program {
			return true, nil
		}
	}
	return false, fmt.Errorf("%s: is there already, and isn't a symbolic link to %s: move it away, or remove it: rm %s", link, ProgramName, shown)
}

func (s *store) makeLink(link string) error {
	err := os.Symlink(ProgramName, s.path(link))
	if errors.Is(err, fs.ErrExist) {
		_, err = s.linkState(link)
		return err
	}
	if err == nil {
		err = syncDir(filepath.Dir(s.path(link)))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", link, linkError(err))
	}
	checkpoint()
	return nil
}

// removeLinks takes away the links that we made, but for those that another engine's file
// names: that one is to remove them.
func (s *store) removeLinks(st *state) (removed []string, err error) {
	others, err := s.sharers(st)
	if err != nil {
		return nil, err
	}
	for _, l := range st.Links {
		if !l.Made {
			continue
		}
		handed, err := s.handOver(l.Path, st, others)
		if err != nil {
			return removed, err
		}
		to, err := os.Readlink(s.path(l.Path))
		if handed || err != nil || to != ProgramName {
			continue // it is gone, or somebody else's by now
		}
		if err := os.Remove(s.path(l.Path)); err != nil {
			return removed, fmt.Errorf("%s: %w", l.Path, unpath(err))
		}
		removed = append(removed, l.Path)
		checkpoint()
	}
	return removed, nil
}

// sharers is the states of all engines, where they count: if links are to be taken away.
func (s *store) sharers(st *state) ([]*state, error) {
	if !slices.ContainsFunc(st.Links, func(l stateLink) bool { return l.Made }) {
		return nil, nil
	}
	return s.states()
}

// handOver makes a link another engine's, if there is one that needs it.
func (s *store) handOver(link string, from *state, others []*state) (done bool, err error) {
	for _, o := range others {
		i := slices.IndexFunc(o.Links, func(l stateLink) bool { return l.Path == link })
		if o.dir == from.dir || i < 0 {
			continue
		}
		if !o.Links[i].Made {
			o.Links[i].Made = true
			return true, s.save(o)
		}
		return true, nil
	}
	return false, nil
}
