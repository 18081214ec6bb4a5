// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// The engine's overlay and ours are two caches on the same layers. Names that
// nobody uses are forgotten by linux.DropDentries. A directory that is in use,
// because something is mounted in it or it is somebody's working directory, is
// not: if it was in lower layers alone when the container first saw it, and the engine has copied
// it up since, to put a file there (docker cp), then the container sees no such
// file, and can't write there at all: its own copy would have to take the place
// of a directory that isn't empty (ENOTEMPTY).
//
// So the engine's copy is moved aside, the container's overlay is made to copy
// the directory up itself, and what was in the engine's copy is moved into that.
// A call that is killed on the way leaves the copy aside, and the next one, or the
// next start of the container, moves what is in it.

// movedDir is where, in the work directory, copies are set aside. The name of each is
// its path in the upper layer.
const movedDir = "moved"

// mostDirs is how many directories of an upper layer are looked at.
const mostDirs = 10000

// Adopt makes the overlay with the root directory root and the upper layer at
// the path upper take up what was put into that layer from outside of the
// overlay. Directories below more than mostDirs others, and those whose path is longer
// than a name can be, stay as they are.
//
// What is in the layer is the container's to change at any moment, so nothing there is
// opened but by descriptor, without following a link. root may be of another
// mount namespace.
func Adopt(root *os.File, upper string) error {
	dir, err := linux.OpenPlace(upper, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	moved, err := openMoved(upper)
	if err != nil {
		return err
	}
	defer moved.Close()
	a := adopter{upper: dir, moved: moved, root: root, times: map[string][]unix.Timespec{}}
	if err := a.finish(); err != nil {
		return err
	}
	paths, err := a.directories()
	if err != nil {
		return err
	}
	if err := linux.DropDentries(root); err != nil {
		return err
	}
	var errs []error
	adopted := false
	for _, path := range paths {
		if a.stale(path) {
			adopted = true
			errs = append(errs, a.adopt(path))
		}
	}
	errs = append(errs, a.setTimes())
	if adopted {
		errs = append(errs, linux.DropDentries(root))
	}
	return errors.Join(errs...)
}

// finishMoved moves what a killed call has left aside to where it belongs; to be called
// while no container has the layer.
func finishMoved(upper *os.File) error {
	if _, err := os.Lstat(filepath.Join(filepath.Dir(upper.Name()), WorkDir, movedDir)); err != nil {
		return nil
	}
	moved, err := openMoved(upper.Name())
	if err != nil {
		return err
	}
	defer moved.Close()
	a := adopter{upper: upper, moved: moved, times: map[string][]unix.Timespec{}}
	return errors.Join(a.finish(), a.setTimes())
}

// openMoved makes the directory for copies that are set aside, and locks it:
// one call at a time. The lock goes with the file.
func openMoved(upper string) (*os.File, error) {
	path := filepath.Join(filepath.Dir(upper), WorkDir, movedDir)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(&os.PathError{Op: "flock", Path: path, Err: err}, f.Close())
	}
	return f, nil
}

type adopter struct {
	upper *os.File // the layer
	moved *os.File // for copies set aside, locked
	root  *os.File // the overlay's root directory
	// times is what directories shall have in the end, by their paths.
	times map[string][]unix.Timespec
}

// beneath opens the file at the path below dir, which nobody can lead elsewhere.
func beneath(dir *os.File, path string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(int(dir.Fd()), path, &how)
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: filepath.Join(dir.Name(), path), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), path)), nil
}

const openDir = unix.O_RDONLY | unix.O_DIRECTORY

// directories is the directories in the layer, those above before those below.
func (a *adopter) directories() ([]string, error) {
	var paths []string
	todo := []string{"."}
	for len(todo) > 0 && len(paths) < mostDirs {
		path := todo[0]
		todo = todo[1:]
		dir, err := beneath(a.upper, path, openDir)
		if err != nil {
			continue // gone, or no directory any more
		}
		entries, err := dir.ReadDir(-1)
		if closeErr := dir.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if entry.IsDir() {
				below := filepath.Join(path, entry.Name())
				paths, todo = append(paths, below), append(todo, below)
			}
		}
	}
	return paths, nil
}

// stale says whether the directory is in the layer, and the overlay doesn't know.
// What the overlay says of a directory is what the topmost layer that it knows of
// says; the times of birth of two directories differ.
func (a *adopter) stale(path string) bool {
	if len(name(path)) > unix.NAME_MAX {
		return false
	}
	// Once more in the end: the container may have put another one there meanwhile.
	there, thereErr := birth(a.upper, path)
	seen, seenErr := birth(a.root, path)
	still, stillErr := birth(a.upper, path)
	// It may be gone, or hidden by a mount.
	return thereErr == nil && seenErr == nil && stillErr == nil && there == still && there != seen
}

func birth(dir *os.File, path string) (unix.StatxTimestamp, error) {
	f, err := beneath(dir, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return unix.StatxTimestamp{}, err
	}
	defer f.Close()
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st); err != nil {
		return unix.StatxTimestamp{}, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return unix.StatxTimestamp{}, &os.PathError{Op: "statx(STATX_BTIME)", Path: f.Name(), Err: unix.ENOTSUP}
	}
	return st.Btime, nil
}

func name(path string) string { return base64.RawURLEncoding.EncodeToString([]byte(path)) }

// adopt replaces the engine's copy of a directory by the overlay's own.
func (a *adopter) adopt(path string) error {
	parent, err := beneath(a.upper, filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := a.remember(filepath.Dir(path), parent); err != nil {
		return err
	}
	base := filepath.Base(path)
	// One that hides what is below it is none that was copied up.
	if opaque(parent, base) {
		return nil
	}
	aside := name(path)
	if err := rename(parent, base, a.moved, aside); err != nil {
		return err
	}
	if err := a.copyUp(path); err != nil {
		return errors.Join(fmt.Errorf("copy up %s: %w", path, err), rename(a.moved, aside, parent, base))
	}
	return a.merge(aside, path)
}

// copyUp makes the overlay copy the directory up, by changing nothing of it.
func (a *adopter) copyUp(path string) error {
	f, err := beneath(a.root, path, openDir)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if err := unix.Fchmod(int(f.Fd()), st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "fchmod", Path: path, Err: err}
	}
	return nil
}

// merge moves what is in a copy that was set aside to the directory at path of the layer,
// and takes the empty copy away. What the container has made there meanwhile is
// newer, and stays.
func (a *adopter) merge(aside, path string) error {
	from, err := beneath(a.moved, aside, openDir)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := beneath(a.upper, path, openDir)
	if errors.Is(err, unix.ENOENT) {
		// Nobody has copied it up: it goes back as it is.
		parent, err := beneath(a.upper, filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer parent.Close()
		return rename(a.moved, aside, parent, filepath.Base(path))
	}
	if err != nil {
		return err
	}
	defer to.Close()
	if err := a.remember(path, from); err != nil {
		return err
	}
	// More than once: who has the copy open may still make files in it.
	for range 100 {
		names, err := from.Readdirnames(-1)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for _, entry := range names {
			err := rename(from, entry, to, entry)
			if errors.Is(err, unix.EEXIST) {
				err = os.RemoveAll(filepath.Join(linux.FDPath(from), entry))
			}
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		err = unix.Unlinkat(int(a.moved.Fd()), aside, unix.AT_REMOVEDIR)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.ENOTEMPTY) {
			return &os.PathError{Op: "unlinkat", Path: from.Name(), Err: err}
		}
		if _, err := from.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return &os.PathError{Op: "unlinkat", Path: from.Name(), Err: unix.ENOTEMPTY}
}

// remember keeps the times of dir, which is the directory at path or a copy of it, unless
// some are kept for it.
func (a *adopter) remember(path string, dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: dir.Name(), Err: err}
	}
	if _, ok := a.times[path]; !ok {
		a.times[path] = []unix.Timespec{st.Atim, st.Mtim}
	}
	return nil
}

// setTimes gives directories the times that moving things has taken: through the
// overlay, if it is mounted, since it keeps times itself.
func (a *adopter) setTimes() error {
	root := a.root
	if root == nil {
		root = a.upper
	}
	var errs []error
	for path, times := range a.times {
		f, err := beneath(root, path, openDir)
		if err != nil {
			continue // the container has put something else there
		}
		errs = append(errs, os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, linux.FDPath(f), times, 0)), f.Close())
	}
	return errors.Join(errs...)
}

// finish merges what a killed call has left aside. What can't be merged, because
// the container has put something else in its place, stays aside.
func (a *adopter) finish() error {
	names, err := a.moved.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, aside := range names {
		path, err := base64.RawURLEncoding.DecodeString(aside)
		if err != nil || strings.HasPrefix(string(path), "/") {
			continue
		}
		if err := a.merge(aside, string(path)); err != nil && !isPlace(err) {
			return err
		}
	}
	return nil
}

// isPlace says whether an error is that a path leads to no directory.
func isPlace(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV)
}

func opaque(parent *os.File, base string) bool {
	path := filepath.Join(linux.FDPath(parent), base)
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var value [1]byte
		if n, err := unix.Lgetxattr(path, attr, value[:]); err == nil && n > 0 {
			return true
		}
	}
	return false
}

// rename moves an entry, and replaces none.
func rename(from *os.File, name string, to *os.File, newName string) error {
	err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), newName, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: filepath.Join(from.Name(), name), New: filepath.Join(to.Name(), newName), Err: err}
	}
	return nil
}
