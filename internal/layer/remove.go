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
	next := 0
	return clearOf(dir, func(a linux.At) error { return flatten(a, &next) })
}

// flatten removes a directory, and moves those in it to its own one, under names that
// are counted up.
func flatten(a linux.At, next *int) error {
	dir, err := openToEmpty(a)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := clearOf(dir, func(in linux.At) error { return moveUp(in, a.Dir, next) }); err != nil {
		return err
	}
	return a.RemoveDir()
}

// clearOf removes all that is in a directory, of directories by a call. It begins anew
// until nothing is listed: what was moved up meanwhile may not have been.
func clearOf(dir linux.FD, directory func(a linux.At) error) error {
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
				a := linux.At{Dir: dir, Name: name}
				err := a.Remove()
				if errors.Is(err, linux.ErrIsDirectory) {
					err = directory(a)
				}
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
	}
	return nil
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
