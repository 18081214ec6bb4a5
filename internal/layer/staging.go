// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// staging is where a tree is made that is to become the directory at path, all of it or
// nothing. For a directory NAME it uses, beside it,
//
//   - .NAME.unpack, mode 0700, so that nobody else reaches what isn't complete, such as
//     a program whose setuid bit was meant for another owner;
//   - .NAME.unpack/lock, held by flock(2) for as long as the process is alive, so that
//     a stage whose lock is free is a killed process's, and is emptied;
//   - .NAME.unpack/tree, which gets the name NAME at the end (rename(2)).
type staging struct {
	path   string   // of the directory to be made, for messages
	parent linux.FD // its own directory
	at     linux.At // the directory to be made
	self   linux.At // .NAME.unpack
	dir    linux.FD // the same, open
	lock   linux.FD
	tree   linux.FD
	found  *linux.Stat // the empty directory that has the name, nil for none
}

const (
	stageLock = "lock"
	stageTree = "tree"
)

func newStaging(path string) (*staging, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dir, name := filepath.Split(whole)
	if name == "" {
		return nil, fmt.Errorf("%s: is the root directory: expected one that isn't there yet, or is empty", path)
	}
	s := &staging{path: path, dir: -1, lock: -1, tree: -1}
	s.parent, err = linux.OpenDirectory(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: its directory: %w: mkdir -p %s", path, err, filepath.Clean(dir))
	case err != nil:
		return nil, fmt.Errorf("%s: its directory: %w", path, err)
	}
	s.at = linux.At{Dir: s.parent, Name: name}
	s.self = linux.At{Dir: s.parent, Name: "." + name + ".unpack"}
	if err := s.begin(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// begin takes the stage, and looks at what has the name only then: of two that unpack
// to one directory at once, the second sees what the first has made.
func (s *staging) begin() error {
	if err := s.take(); err != nil {
		return err
	}
	err := s.judge()
	if err == nil {
		err = s.prepare()
	}
	if err != nil {
		err = errors.Join(err, s.discard())
	}
	return err
}

// judge looks at what has the name that the tree is to get.
func (s *staging) judge() error {
	const expected = "expected a directory that isn't there yet, or is empty"
	st, err := s.at.Stat()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return inFile(s.path, err)
	case st.Mode&linux.TypeMask == linux.TypeSymlink:
		return fmt.Errorf("%s: is a symbolic link: %s: name what it points to", s.path, expected)
	case !st.IsDir():
		return fmt.Errorf("%s: isn't a directory: %s", s.path, expected)
	}
	above, err := linux.At{Dir: s.parent}.Stat()
	if err != nil {
		return inFile(s.path, err)
	}
	if st.MountID != above.MountID {
		return fmt.Errorf("%s: is a mount point, which can't be replaced as a whole: expected a directory in it", s.path)
	}
	dir, err := s.at.OpenDir()
	if err != nil {
		return inFile(s.path, err)
	}
	defer dir.Close()
	names, err := dir.Names(make([]byte, namesBuffer))
	if err != nil {
		return inFile(s.path, err)
	}
	if len(names) > 0 {
		return fmt.Errorf("%s: isn't empty: %s", s.path, expected)
	}
	s.found = &st
	return nil
}

// take makes the stage or takes over a dead process's, and holds its lock.
func (s *staging) take() error {
	for {
		err := s.self.Mkdir(0o700)
		made := err == nil
		if !made && !errors.Is(err, fs.ErrExist) {
			return s.fail(err)
		}
		s.dir, err = s.self.OpenDir()
		if errors.Is(err, fs.ErrNotExist) { // another has just removed its own
			continue
		}
		if err != nil {
			return s.fail(err)
		}
		if err := s.own(); err != nil {
			return err
		}
		held, err := s.hold()
		if err != nil && made {
			_ = s.self.RemoveDir() // unless somebody has begun to use it
		}
		if held || err != nil {
			return err
		}
		// Whoever had it has removed it meanwhile.
		s.dir.Close()
		s.lock.Close()
		s.dir, s.lock = -1, -1
	}
}

// own refuses a directory that only has the name of a stage: all that is in a stage gets
// removed.
func (s *staging) own() error {
	st, err := linux.At{Dir: s.dir}.Stat()
	if err != nil {
		return s.fail(err)
	}
	me := uint32(os.Geteuid())
	if st.UID != me || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s: is owned by UID %d and has mode %04o: expected one of UID %d that nobody else can enter, as unpack makes it: move it away",
			s.staged(), st.UID, st.Mode&0o7777, me)
	}
	names, err := s.dir.Names(make([]byte, namesBuffer))
	if err != nil {
		return s.fail(err)
	}
	for _, name := range names {
		if name != stageLock && name != stageTree {
			return fmt.Errorf("%s: has %q in it, which unpack doesn't make: expected it to be unpack's own: move it away", s.staged(), name)
		}
	}
	return nil
}

// hold takes the lock, and says whether the stage is still the one that has the name.
func (s *staging) hold() (bool, error) {
	var err error
	if s.lock, err = (linux.At{Dir: s.dir, Name: stageLock}).OpenLock(); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // of a directory that is removed
			return false, nil
		}
		return false, s.fail(err)
	}
	switch err := s.lock.Lock(); {
	case errors.Is(err, linux.ErrWouldBlock):
		return false, fmt.Errorf("%s: another process is unpacking to it: wait for it, or end it: fuser -v %s", s.path, filepath.Join(s.staged(), stageLock))
	case err != nil:
		return false, s.fail(err)
	}
	ours, err := linux.At{Dir: s.dir}.Stat()
	if err != nil {
		return false, s.fail(err)
	}
	found, err := s.self.Stat()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, s.fail(err)
	}
	return ours.Same(&found) && ours.Links > 0, nil
}

// prepare empties the stage and makes the tree's top.
func (s *staging) prepare() error {
	tree := linux.At{Dir: s.dir, Name: stageTree}
	if err := remove(tree); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.fail(fmt.Errorf("remove what a killed process has left: %w", err))
	}
	if err := tree.Mkdir(0o700); err != nil {
		return s.fail(err)
	}
	var err error
	if s.tree, err = tree.OpenDir(); err != nil {
		return s.fail(err)
	}
	return nil
}

// publish gives the tree its name; with sync, once all of it is on disk.
func (s *staging) publish(sync bool) error {
	if sync {
		if err := s.tree.SyncFilesystem(); err != nil {
			return inFile(s.path, err)
		}
	}
	err := linux.At{Dir: s.dir, Name: stageTree}.Rename(s.at)
	switch {
	case errors.Is(err, linux.ErrNotEmpty), errors.Is(err, linux.ErrNotDirectory), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s: was made by somebody else meanwhile: expected nothing there, or an empty directory", s.path)
	case err != nil:
		return inFile(s.path, err)
	}
	if sync {
		if err := s.parent.Sync(); err != nil {
			return fmt.Errorf("%s: is complete, but a power failure may undo it: %w", s.path, err)
		}
	}
	return nil
}

// discard removes the stage with all that is in it.
func (s *staging) discard() error {
	err := remove(linux.At{Dir: s.dir, Name: stageTree})
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		// The lock goes while it is held; whoever has it open sees that the stage has gone.
		err = linux.At{Dir: s.dir, Name: stageLock}.Remove()
	}
	if err == nil {
		err = s.self.RemoveDir()
	}
	if err != nil {
		return fmt.Errorf("%s: is left, for the next unpack to the same directory to remove: %w", s.staged(), err)
	}
	return nil
}

// close lets go of the stage, whatever has become of it.
func (s *staging) close() {
	for _, fd := range []linux.FD{s.tree, s.lock, s.dir, s.parent} {
		if fd >= 0 {
			_ = fd.Close() // nothing was written by it
		}
	}
}

// staged is the path of the stage, for messages.
func (s *staging) staged() string {
	return filepath.Join(filepath.Dir(filepath.Clean(s.path)), s.self.Name)
}

func (s *staging) fail(err error) error { return inFile(s.staged(), err) }
