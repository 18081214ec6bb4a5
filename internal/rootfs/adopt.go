// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// The engine's overlay and ours are two caches on the same layers. Names that
// nobody uses are forgotten by linux.DropDentries. A directory that is in use,
// because something is mounted in it or it is somebody's working directory, is
// not: if it was in lower layers alone when the container first saw it, and the
// engine has copied it up since, to put a file there (docker cp), then the
// container sees no such file, and can't write there at all: its own copy would
// have to take the place of a directory that isn't empty.
//
// So the engine's copy is moved aside, the container's overlay is made to copy
// the directory up itself, and what was in the engine's copy is moved into that.
// A call that is killed on the way leaves the copy aside, and the next one, or
// the next start of the container, moves what is in it.
//
// The container changes its files meanwhile as it likes. Whether a directory is
// one of these is therefore asked of the kernel, by a change of nothing on the
// overlay's own (fchown of -1, -1): only for one of these it says ENOTEMPTY. What
// is moved is known by its time of birth before and after, nothing is resolved by
// path twice, and nothing is removed that isn't an empty directory of the
// engine's.

// Directories in the work directory: for copies that are set aside, each by the
// name of its path in the upper layer; and for what both the engine and the
// container had made under one name, of which the container's stays.
const (
	movedDir = "moved"
	lostDir  = "lost"
)

// An exec waits for no more than this.
const (
	mostEntries = 20000
	mostTime    = time.Second
)

// Adopt makes the overlay with the root directory root and the upper layer at
// the path upper take up what was put into that layer from outside of the
// overlay. It looks at mostEntries of the layer, for mostTime; what is beyond, and
// directories whose path is longer than a name can be, stay as they are. If
// another call is at it nothing is done.
//
// What is in the layer is the container's to change at any moment, so nothing
// there is opened but by descriptor, without following a link. root may be of
// another mount namespace.
func Adopt(root *os.File, upper string) error {
	dir, err := linux.OpenPlace(upper, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	moved, err := openMoved(upper)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer moved.Close()
	a := adopter{upper: dir, moved: moved, root: root, until: time.Now().Add(mostTime), times: map[string][]unix.Timespec{}}
	errs := []error{a.finish(), linux.DropDentries(root), a.walk()}
	if len(a.times) > 0 {
		errs = append(errs, a.setTimes(), linux.DropDentries(root))
	}
	return errors.Join(errs...)
}

// finishMoved moves what a killed call has left aside to where it belongs; to be
// called while no container has the layer. What fails is no reason not to start:
// nothing is lost, and the next exec says what is left.
func finishMoved(upper *os.File) {
	if _, err := os.Lstat(filepath.Join(filepath.Dir(upper.Name()), WorkDir, movedDir)); err != nil {
		return
	}
	moved, err := openMoved(upper.Name())
	if err != nil {
		return
	}
	defer moved.Close()
	a := adopter{upper: upper, moved: moved, times: map[string][]unix.Timespec{}}
	_ = errors.Join(a.finish(), a.setTimes())
}

// openMoved makes the directory for copies that are set aside, and locks it: one
// call at a time. The lock goes with the file.
func openMoved(upper string) (*os.File, error) {
	path := filepath.Join(filepath.Dir(upper), WorkDir, movedDir)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&os.PathError{Op: "flock", Path: path, Err: err}, f.Close())
	}
	return f, nil
}

type adopter struct {
	upper *os.File  // the layer
	moved *os.File  // for copies set aside, locked
	root  *os.File  // the overlay's root directory; nil where it isn't mounted
	until time.Time // when it has taken long enough
	// times is what directories shall have in the end, by their paths.
	times map[string][]unix.Timespec
}

// beneath opens the directory at the path below dir, which nobody can lead
// elsewhere.
func beneath(dir *os.File, path string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(int(dir.Fd()), path, &how)
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: filepath.Join(dir.Name(), path), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), path)), nil
}

// walk goes through the directories of the layer, those above before those below,
// and adopts.
func (a *adopter) walk() error {
	var errs []error
	seen := 0
	for todo := []string{"."}; len(todo) > 0; todo = todo[1:] {
		dir, err := beneath(a.upper, todo[0])
		if err != nil {
			continue // gone, or no directory any more
		}
		for {
			entries, err := dir.ReadDir(1000)
			for _, entry := range entries {
				if seen++; seen > mostEntries || time.Now().After(a.until) {
					return errors.Join(append(errs, dir.Close())...)
				}
				if entry.IsDir() {
					below := filepath.Join(todo[0], entry.Name())
					todo = append(todo, below)
					errs = append(errs, a.adopt(dir, entry.Name(), below))
				}
			}
			if err != nil {
				break
			}
		}
		dir.Close()
	}
	return errors.Join(errs...)
}

// birth is when the file that f is open on was made, which tells it from every
// other one that had its path.
func birth(f *os.File) (unix.StatxTimestamp, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st); err != nil {
		return unix.StatxTimestamp{}, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return unix.StatxTimestamp{}, &os.PathError{Op: "statx(STATX_BTIME)", Path: f.Name(), Err: unix.ENOTSUP}
	}
	return st.Btime, nil
}

func sameBirth(a, b *os.File) bool {
	one, err := birth(a)
	two, otherErr := birth(b)
	return err == nil && otherErr == nil && one == two
}

func asideName(path string) string { return base64.RawURLEncoding.EncodeToString([]byte(path)) }

// copyUp makes the overlay copy its directory up, by changing nothing of it.
// ENOTEMPTY says that the layer has another directory there that the overlay
// doesn't know. Where it knows, and where the other one is empty, it succeeds.
func copyUp(dir *os.File) error {
	return os.NewSyscallError("fchown", unix.Fchown(int(dir.Fd()), -1, -1))
}

// adopt replaces the engine's copy of the directory base of parent, a directory
// of the layer, by the overlay's own, if it is one that the overlay doesn't know.
func (a *adopter) adopt(parent *os.File, base, path string) error {
	aside := asideName(path)
	if len(aside) > unix.NAME_MAX {
		return nil
	}
	// What can't be opened is gone meanwhile, or hidden by a mount.
	engines, err := beneath(parent, base)
	if err != nil {
		return nil
	}
	defer engines.Close()
	own, err := beneath(a.root, path)
	if err != nil {
		return nil
	}
	defer own.Close()
	// One that hides what is below it is none that was copied up.
	if sameBirth(engines, own) || opaque(engines) {
		return nil
	}
	before, err := birth(own)
	if err != nil {
		return err
	}
	switch err := copyUp(own); {
	case err == nil:
		if after, err := birth(own); err != nil || after == before {
			return err // it had its own all the time
		}
		// It has taken the place of an empty one.
		return a.take(engines, own, parent, base, path)
	case !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST):
		return nil
	}
	if err := a.remember(filepath.Dir(path), parent); err != nil {
		return err
	}
	if err := rename(parent, base, a.moved, aside); err != nil {
		return nil // nothing is done yet
	}
	back := func() error { return rename(a.moved, aside, parent, base) }
	is, err := beneath(a.moved, aside)
	if err != nil {
		return back() // something else has taken its name
	}
	defer is.Close()
	if !sameBirth(is, engines) {
		return back()
	}
	if err := copyUp(own); err != nil {
		return errors.Join(fmt.Errorf("copy up %s: %w", path, err), back())
	}
	if err := a.take(engines, own, parent, base, path); err != nil {
		return errors.Join(err, back())
	}
	to, err := beneath(parent, base)
	if err != nil || !sameBirth(to, own) {
		return errors.Join(err, back())
	}
	defer to.Close()
	return a.merge(aside, engines, to)
}

// remember keeps the times of dir, which is the directory at path or a copy of it,
// unless some are kept for it.
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
		f, err := beneath(root, path)
		if err != nil {
			continue // the container has put something else there
		}
		errs = append(errs, os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, linux.FDPath(f), times, 0)), f.Close())
	}
	return errors.Join(errs...)
}

// finish moves what a killed call has left aside to where it belongs: as a whole if
// nothing is there, else into the directory that is. With anything else there it is
// kept in lostDir.
func (a *adopter) finish() error {
	names, err := a.moved.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	var errs []error
	for _, aside := range names {
		path, err := base64.RawURLEncoding.DecodeString(aside)
		if err != nil || !filepath.IsLocal(string(path)) {
			continue
		}
		errs = append(errs, a.putBack(aside, string(path)))
	}
	return errors.Join(errs...)
}

func (a *adopter) putBack(aside, path string) error {
	parent, err := beneath(a.upper, filepath.Dir(path))
	if err != nil {
		return a.keep(aside)
	}
	defer parent.Close()
	if err := a.remember(filepath.Dir(path), parent); err != nil {
		return err
	}
	err = rename(a.moved, aside, parent, filepath.Base(path))
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	from, err := beneath(a.moved, aside)
	if err != nil {
		return a.keep(aside)
	}
	defer from.Close()
	to, err := beneath(parent, filepath.Base(path))
	if err != nil {
		return a.keep(aside)
	}
	defer to.Close()
	if opaque(to) {
		return a.keep(aside)
	}
	if err := a.remember(path, from); err != nil {
		return err
	}
	return a.merge(aside, from, to)
}
