// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"io/fs"
	"strconv"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// namesBuffer is memory for the names of a directory, in bytes.
const namesBuffer = 32 << 10

// remove removes a file of any type, a directory with all that is in it.
func remove(a linux.At) error {
	err := a.Remove()
	if !errors.Is(err, linux.ErrIsDirectory) {
		return err
	}
	dir, err := openToEmpty(a)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := empty(dir); err != nil {
		return err
	}
	return a.RemoveDir()
}

// empty removes all that is in a directory. However deep it is, two directories are open
// at a time: those in its directories are moved up into itself first.
func empty(dir linux.FD) error {
	buf := make([]byte, namesBuffer)
	next := 0
	for again := true; again; {
		again = false
		if err := dir.Rewind(); err != nil {
			return err
		}
		for {
			names, err := dir.Names(buf)
			if err != nil {
				return err
			}
			if len(names) == 0 {
				break
			}
			for _, name := range names {
				again = true // what was moved up may not have been listed
				a := linux.At{Dir: dir, Name: name}
				err := a.Remove()
				if errors.Is(err, linux.ErrIsDirectory) {
					err = flatten(a, &next)
				}
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
	}
	return nil
}

// flatten removes a directory, and moves those in it to its own one, under names that
// are counted up.
func flatten(a linux.At, next *int) error {
	dir, err := openToEmpty(a)
	if err != nil {
		return err
	}
	defer dir.Close()
	buf := make([]byte, namesBuffer)
	for again := true; again; {
		again = false
		if err := dir.Rewind(); err != nil {
			return err
		}
		for {
			names, err := dir.Names(buf)
			if err != nil {
				return err
			}
			if len(names) == 0 {
				break
			}
			again = true
			for _, name := range names {
				in := linux.At{Dir: dir, Name: name}
				err := in.Remove()
				if errors.Is(err, linux.ErrIsDirectory) {
					err = moveUp(in, a.Dir, next)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return a.RemoveDir()
}

func moveUp(a linux.At, to linux.FD, next *int) error {
	for {
		err := a.Rename(linux.At{Dir: to, Name: strconv.Itoa(*next)})
		if !errors.Is(err, linux.ErrNotEmpty) && !errors.Is(err, linux.ErrNotDirectory) && !errors.Is(err, fs.ErrExist) {
			return err
		}
		*next++ // somebody has the name
	}
}

// openToEmpty opens a directory that its owner may have no right to read, which
// stops everybody but root.
func openToEmpty(a linux.At) (linux.FD, error) {
	dir, err := a.OpenDir()
	if errors.Is(err, fs.ErrPermission) && a.Chmod(0o700) == nil {
		return a.OpenDir()
	}
	return dir, err
}
