// SPDX-License-Identifier: Apache-2.0

package chown

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// file is one name in the tree. Root inside made it as deep as it liked, so that a path can be
// longer than all that fits into memory: there is one only for people.
type file struct {
	at   linux.At
	in   *file  // the directory; nil for the tree's root
	id   fileID // of the path
	stat linux.Stat
}

// fileID stands for a path.
type fileID [16]byte

// entry is the file of that name in the directory, which is open on dir.
func (f *file) entry(dir linux.FD, name string) *file {
	sum := sha256.Sum256(append(f.id[:], name...))
	return &file{at: linux.At{Dir: dir, Name: name}, in: f, id: fileID(sum[:len(fileID{})])}
}

// path is the path below the tree's root, which is "."; of a deep one its end.
func (f *file) path() string {
	if f.in == nil {
		return "."
	}
	path := f.at.Name
	for up := f.in; up.in != nil; up = up.in {
		if len(path) > 1024 {
			return ".../" + path
		}
		path = up.at.Name + "/" + path
	}
	return path
}

func (f *file) isSymlink() bool { return f.stat.Mode&linux.TypeMask == linux.TypeSymlink }

// errMoved says that somebody else is at work in the tree.
var errMoved = errors.New("it was moved or replaced meanwhile")

// walker visits a tree. Root inside made it as deep as it liked, so no more than two
// directories are open at a time: the way back is by "..", to the very directory it came from.
type walker struct {
	mount uint64
	visit func(*file) error
	buf   []byte
}

// walk visits the directory and all below it on its mount. A mount that lies in it isn't the
// container's root filesystem. What is gone when it is looked at is left out.
func walk(root *os.File, visit func(*file) error) error {
	fd, err := linux.At{Dir: linux.FD(root.Fd()), Name: "."}.OpenDir()
	if err != nil {
		return err
	}
	top := &file{at: linux.At{Dir: fd}}
	if top.stat, err = top.at.Stat(); err != nil {
		return errors.Join(err, fd.Close())
	}
	w := &walker{mount: top.stat.MountID, visit: visit, buf: make([]byte, 32<<10)}
	if err := visit(top); err != nil {
		return errors.Join(err, fd.Close())
	}
	fd, err = w.below(fd, top)
	if fd >= 0 {
		err = errors.Join(err, fd.Close())
	}
	return err
}

// level is a directory that is being visited, and the names in it that weren't yet.
type level struct {
	of   *file
	rest []string
}

// below visits what is in the directory, which is open. It gives the descriptor that the
// directory is open on then; -1 if it isn't. It doesn't call itself: of a tree that is deep
// enough, the stack would end this program, and every later one that has it to undo.
func (w *walker) below(dir linux.FD, of *file) (linux.FD, error) {
	names, err := w.names(dir, of)
	if err != nil {
		return dir, err
	}
	for levels := []level{{of, names}}; ; {
		at := &levels[len(levels)-1]
		if len(at.rest) == 0 {
			if levels = levels[:len(levels)-1]; len(levels) == 0 {
				return dir, nil
			}
			if dir, err = w.leave(dir, levels[len(levels)-1].of); err != nil {
				return dir, err
			}
			continue
		}
		f := at.of.entry(dir, at.rest[0])
		at.rest = at.rest[1:]
		if f.stat, err = f.at.Stat(); err == nil && f.stat.MountID != w.mount {
			continue
		}
		if err == nil {
			err = w.visit(f)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return dir, named(f.path(), err)
		}
		if !f.stat.IsDir() {
			continue
		}
		child, err := w.enter(f)
		if err != nil {
			return dir, named(f.path(), err)
		}
		if child < 0 {
			continue // it is something else by now, and the next pass finds it
		}
		if err := dir.Close(); err != nil {
			return child, err
		}
		dir = child
		if names, err = w.names(dir, f); err != nil {
			return dir, err
		}
		levels = append(levels, level{f, names})
	}
}

// names is all names in a directory, which is open.
func (w *walker) names(dir linux.FD, of *file) (names []string, err error) {
	for {
		some, err := dir.Names(w.buf)
		if err != nil {
			return nil, named(of.path(), err)
		}
		if len(some) == 0 {
			return names, nil
		}
		names = append(names, some...)
	}
}

// enter opens the directory f; -1 if it is none any more.
func (w *walker) enter(f *file) (linux.FD, error) {
	child, err := f.at.OpenDir()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, linux.ErrNotDirectory) || errors.Is(err, linux.ErrLoop) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	return w.same(child, f)
}

// leave closes a directory, and opens the one that it lies in.
func (w *walker) leave(dir linux.FD, to *file) (linux.FD, error) {
	back, err := linux.At{Dir: dir, Name: ".."}.OpenDir()
	if err = errors.Join(err, dir.Close()); err != nil {
		return -1, named(to.path(), err)
	}
	back, err = w.same(back, to)
	return back, named(to.path(), err)
}

// same closes what isn't the directory that it was.
func (w *walker) same(fd linux.FD, as *file) (linux.FD, error) {
	now, err := linux.At{Dir: fd}.Stat()
	if err != nil || !now.Same(&as.stat) || now.MountID != w.mount {
		return -1, errors.Join(errMoved, err, fd.Close())
	}
	return fd, nil
}

// fileError is an error at a path below the tree's root.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Error() string { return fmt.Sprintf("%s: %v", e.path, e.err) }
func (e *fileError) Unwrap() error { return e.err }

// named says where an error is, once.
func named(path string, err error) error {
	if err == nil {
		return nil
	}
	if _, is := errors.AsType[*fileError](err); is {
		return err
	}
	if of, is := errors.AsType[*fs.PathError](err); is && of == err { //nolint:errorlint // the path alone is replaced
		err = fmt.Errorf("%s: %w", of.Op, of.Err)
	}
	return &fileError{path, err}
}
