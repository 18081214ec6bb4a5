// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// Actions of a [Step].
const (
	ActionMkdir   = "mkdir"   // a directory, with Mode and Owner
	ActionMode    = "mode"    // of a directory
	ActionOwner   = "owner"   // of a directory
	ActionMove    = "move"    // by rename(2), to the path To
	ActionRewrite = "rewrite" // so many Paths in a file of dockerd's
	ActionRmdir   = "rmdir"   // an empty directory
	ActionJournal = "journal" // the State of the data is written down
	ActionRemove  = "remove"  // a file of ours
)

// Step is one change on disk.
type Step struct {
	Action string `json:"action"`
	Path   string `json:"path"`
	To     string `json:"to,omitempty"`
	Mode   string `json:"mode,omitempty"`  // "0755"
	Owner  string `json:"owner,omitempty"` // "100000:100000"
	State  string `json:"state,omitempty"`
	Paths  int    `json:"paths,omitempty"`
	was    string // the mode or owner before
	do     func() error
}

// Result is what was done, or would be.
type Result struct {
	Steps    []Step // none if all was as it should be
	Root     string // dockerd's data-root from then on
	Warnings []string
}

// run does the steps of a plan one after the other.
func run(steps []Step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// owner is a directory's owner and group, as chown(1) takes them.
func owner(uid, gid uint32) string { return Identity{uid, gid}.Spec() }

// mkdir makes a directory below the super-root.
func (s *super) mkdir(rel string, mode, uid, gid uint32) Step {
	return Step{Action: ActionMkdir, Path: s.data(rel), Mode: octal(mode), Owner: owner(uid, gid), do: func() error {
		parent, err := s.openDir(filepath.Dir(rel))
		if err != nil {
			return err
		}
		defer parent.Close()
		// As it is to be at once, as far as the umask lets it.
		if err := unix.Mkdirat(int(parent.Fd()), filepath.Base(rel), mode); err != nil {
			return fmt.Errorf("%s: mkdir: %w", s.data(rel), err)
		}
		if err := s.setDir(rel, mode, uid, gid); err != nil {
			return err
		}
		return parent.Sync()
	}}
}

// setDir gives a directory owner and mode, in that order: chown(2) may clear bits.
func (s *super) setDir(rel string, mode, uid, gid uint32) error {
	dir, err := s.openDir(rel)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Fchown(int(dir.Fd()), int(uid), int(gid)); err != nil {
		return fmt.Errorf("%s: give it to %s: %w", s.data(rel), owner(uid, gid), err)
	}
	if err := unix.Fchmod(int(dir.Fd()), mode); err != nil {
		return fmt.Errorf("%s: change mode: %w", s.data(rel), err)
	}
	return nil
}

// chmod changes the mode of a directory.
func (s *super) chmod(rel string, mode uint32) Step {
	return Step{Action: ActionMode, Path: s.data(rel), Mode: octal(mode), do: func() error {
		st, _, err := s.look(rel)
		if err != nil {
			return err
		}
		return s.setDir(rel, mode, st.Uid, st.Gid)
	}}
}

// chown changes the owner of a directory, and nothing else.
func (s *super) chown(rel string, uid, gid uint32) Step {
	return Step{Action: ActionOwner, Path: s.data(rel), Owner: owner(uid, gid), do: func() error {
		st, _, err := s.look(rel)
		if err != nil {
			return err
		}
		return s.setDir(rel, st.Mode&0o7777, uid, gid)
	}}
}

// adjust is the steps that give a directory, which is there, owner and mode. What is closed is closed
// before it changes hands.
func (s *super) adjust(rel string, st unix.Stat_t, mode, uid, gid uint32) (steps []Step) {
	if st.Mode&0o7777 != mode {
		step := s.chmod(rel, mode)
		step.was = octal(st.Mode)
		steps = append(steps, step)
	}
	if st.Uid != uid || st.Gid != gid {
		step := s.chown(rel, uid, gid)
		step.was = owner(st.Uid, st.Gid)
		steps = append(steps, step)
	}
	return steps
}

// left says whether a killed call has left something of a file that it was writing.
func (s *super) left(rel string) (bool, error) {
	_, found, err := s.look(beside(rel))
	return found, err
}

// beside is the path under which a file is written.
func beside(rel string) string {
	return filepath.Join(filepath.Dir(rel), temporary(filepath.Base(rel)))
}

// sweep removes that, of the journal.
func (s *super) sweep() ([]Step, error) {
	found, err := s.left(journalName)
	if err != nil || !found {
		return nil, err
	}
	return []Step{s.remove(beside(journalName))}, nil
}

// remove removes a file of ours.
func (s *super) remove(rel string) Step {
	return Step{Action: ActionRemove, Path: s.data(rel), do: func() error {
		parent, err := s.openDir(filepath.Dir(rel))
		if err != nil {
			return err
		}
		defer parent.Close()
		if err := unix.Unlinkat(int(parent.Fd()), filepath.Base(rel), 0); err != nil {
			return fmt.Errorf("%s: remove: %w", s.data(rel), err)
		}
		return nil
	}}
}

// rmdir removes an empty directory.
func (s *super) rmdir(rel string) Step {
	return Step{Action: ActionRmdir, Path: s.data(rel), do: func() error {
		parent, err := s.openDir(filepath.Dir(rel))
		if err != nil {
			return err
		}
		defer parent.Close()
		if err := unix.Unlinkat(int(parent.Fd()), filepath.Base(rel), unix.AT_REMOVEDIR); err != nil {
			return fmt.Errorf("%s: rmdir: %w", s.data(rel), err)
		}
		return nil
	}}
}

// move renames an entry of one directory into another, and never over anything.
func (s *super) move(name, from, to string) Step {
	path, target := s.data(from, name), s.data(to, name)
	return Step{Action: ActionMove, Path: path, To: target, do: func() error {
		source, err := s.openDir(from)
		if err != nil {
			return err
		}
		defer source.Close()
		dest, err := s.openDir(to)
		if err != nil {
			return err
		}
		defer dest.Close()
		err = unix.Renameat2(int(source.Fd()), name, int(dest.Fd()), name, unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EXDEV):
			return fmt.Errorf("%s: move to %s: %w: they are on two filesystems, or on one that can't rename directories (an overlay): expected one for the whole super-root: with dockerd stopped, copy it to one (cp -a), and have it mounted at %s",
				path, target, err, rootfile.ShellQuote(s.path))
		case errors.Is(err, unix.EEXIST):
			return fmt.Errorf("%s: move to %s: something is there: expected nothing: move one of them away", path, target)
		case err != nil:
			return fmt.Errorf("%s: move to %s: %w", path, target, err)
		}
		return nil
	}}
}
