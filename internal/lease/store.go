// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Dir is the directory of the entries, as the host's first process sees it.
const Dir = "/run/userns-runtime/leases"

// bootLink is a symbolic link in the directory to the boot ID of the kernel. It is
// there once all that was alive has its entry; one of another boot says that none of
// the entries is alive. It isn't a file, so that an empty directory has none.
const bootLink = "boot"

// newName is that of an entry which is being made.
const newName = "new"

// Store is the entries of this host.
type Store struct {
	path string // of the directory
	own  namespaces
	boot string
	// mounts is the mount table of the host's first process; "" of a store that knows no pins.
	mounts string
	// live is [Live], for tests.
	live func() ([]LiveNS, error)
}

// namespaces is those of the caller, by inode number.
type namespaces struct{ mount, pid uint64 }

// initPIDNS is the inode number of the host's own PID namespace (PROC_PID_INIT_INO,
// include/linux/proc_ns.h), from which all processes can be seen.
const initPIDNS = 0xEFFFFFFC

// Open finds the host's directory; it makes nothing. A caller in another mount
// namespace than the host's first process may have another /run, and gets that
// process' one: there must be one directory only. Only where that process may not be
// looked at, for want of CAP_SYS_PTRACE, the caller's own /run has to do.
//
// It must be called before the thread leaves the mount namespace that containers
// are known by.
func Open() (*Store, error) {
	path, mounts := Dir, hostMounts
	here, err := namespaceOf("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	hosts, err := namespaceOf("/proc/1/ns/mnt")
	switch {
	case errors.Is(err, fs.ErrPermission):
		mounts = "/proc/thread-self/mountinfo"
	case err != nil:
		return nil, fmt.Errorf("lease: the mount namespace of the host's first process: %w", err)
	case hosts != here:
		path = "/proc/1/root" + Dir
	}
	s, err := openAt(path, here)
	if err == nil {
		s.mounts = mounts
	}
	return s, err
}

// OpenOwn finds the directory of a user of the host who isn't root, by their UID there:
// in /run/user/UID, which pam_systemd makes when they log in. It is for those who start
// containers in a user namespace of their own. Root's entries and theirs don't know of
// each other, but for what is alive.
func OpenOwn(uid uint32) (*Store, error) {
	here, err := namespaceOf("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	return openAt(filepath.Join(OwnDir(uid), "leases"), here)
}

// OwnDir is what is kept, from login to logout, for a user of the host who isn't root, by their UID there.
func OwnDir(uid uint32) string { return fmt.Sprintf("/run/user/%d/userns-runtime", uid) }

func openAt(path string, mount uint64) (*Store, error) {
	pid, err := namespaceOf("/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	boot, err := linux.BootID()
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	return &Store{path: path, own: namespaces{mount: mount, pid: pid}, boot: boot, live: Live}, nil
}

// KeyOf is the key of the container id under the engine's --root, for callers in
// the mount namespace that the store was opened in.
func (s *Store) KeyOf(root, id string) Key { return Key{Root: root, ID: id, MountNS: s.own.mount} }

// namespaceOf is the inode number of the namespace that a link in /proc leads to
// (namespaces(7)).
func namespaceOf(path string) (uint64, error) {
	to, err := os.Readlink(path)
	if err != nil {
		return 0, err
	}
	number, ok := namespaceNumber(to)
	if !ok {
		return 0, fmt.Errorf("%s: it leads to %q: expected a namespace", path, to)
	}
	return number, nil
}

// namespaceNumber is 4026531837 of "user:[4026531837]".
func namespaceNumber(link string) (uint64, bool) {
	_, inner, ok := strings.Cut(link, ":[")
	inner, closed := strings.CutSuffix(inner, "]")
	number, err := strconv.ParseUint(inner, 10, 64)
	return number, ok && closed && err == nil
}

// section is the directory while it is locked, and what is known of it then.
type section struct {
	store *Store
	dir   *os.File
	names []name

	// whole says that all that is alive has an entry, as far as it ever had; changed, that
	// entries were made or removed.
	whole, changed bool
	// before is the directory as it was, and grown how many names it has more by now.
	before unix.Stat_t
	grown  int64
	// Of the index: how many lines it has, those that are to be struck out, and whether it has to
	// be written anew.
	lines  int
	struck []int64
	anew   bool
}

// lock makes the directory if there is none, locks it, and sees to it that all that
// is alive has an entry. An error that wraps fs.ErrNotExist says that the directory was
// deleted meanwhile.
func (s *Store) lock() (*section, error) {
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	sec, err := s.lockAndLoad()
	if err != nil {
		return nil, err
	}
	if err := sec.settle(); err != nil {
		sec.unlock()
		return nil, err
	}
	return sec, nil
}

// lockExisting locks the directory, if there is one: else the error wraps
// fs.ErrNotExist. What is in it may be of another boot.
func (s *Store) lockExisting() (*section, error) {
	for {
		fd, err := unix.Open(s.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("lease: %w", &os.PathError{Op: "open", Path: s.path, Err: err})
		}
		sec := &section{store: s, dir: os.NewFile(uintptr(fd), s.path)}
		if err := sec.take(); err != nil {
			sec.unlock()
			if errors.Is(err, errReplaced) {
				continue
			}
			return nil, err
		}
		return sec, nil
	}
}

// lockAndLoad is lockExisting, with the names of all entries.
func (s *Store) lockAndLoad() (*section, error) {
	sec, err := s.lockExisting()
	if err != nil {
		return nil, err
	}
	if err := sec.load(); err != nil {
		sec.unlock()
		return nil, err
	}
	return sec, nil
}

var errReplaced = errors.New("it was replaced meanwhile")

// take gets the lock.
func (sec *section) take() error {
	for {
		err := unix.Flock(int(sec.dir.Fd()), unix.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lease: %w", &os.PathError{Op: "flock", Path: sec.store.path, Err: err})
		}
	}
	// Whoever waited for the lock of a directory that was deleted has the lock of
	// nothing.
	var locked, now unix.Stat_t
	if err := unix.Fstat(int(sec.dir.Fd()), &locked); err != nil {
		return fmt.Errorf("lease: %w", &os.PathError{Op: "fstat", Path: sec.store.path, Err: err})
	}
	if err := unix.Lstat(sec.store.path, &now); errors.Is(err, unix.ENOENT) || err == nil && (now.Dev != locked.Dev || now.Ino != locked.Ino) {
		return errReplaced
	} else if err != nil {
		return fmt.Errorf("lease: %w", &os.PathError{Op: "lstat", Path: sec.store.path, Err: err})
	}
	if int(locked.Uid) != os.Geteuid() || locked.Mode&0o077 != 0 {
		return fmt.Errorf("lease: %s: UID %d owns it, mode %04o: expected a directory of root's, mode 0700: run `chown root: %s && chmod 0700 %s`",
			sec.store.path, locked.Uid, locked.Mode&0o7777, sec.store.path, sec.store.path)
	}
	return nil
}

// unlock must be called once. The lock goes with the descriptor.
func (sec *section) unlock() {
	if sec.whole && sec.changed {
		sec.seal()
	}
	_ = sec.dir.Close()
}

// makeDirs makes the directory and the one above it, whatever the umask.
func (s *Store) makeDirs() error {
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{filepath.Dir(s.path), 0o711}, {s.path, 0o700}} {
		err := os.Mkdir(dir.path, dir.mode)
		if err == nil {
			err = os.Chmod(dir.path, dir.mode)
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		above := filepath.Dir(dir.path)
		if _, statErr := os.Stat(above); err != nil && (!errors.Is(err, fs.ErrNotExist) || statErr != nil && dir.path != s.path) {
			// Not wrapped: it wasn't deleted.
			return fmt.Errorf("lease: %s: which IDs are held is kept there, and nothing is started without it: expected a directory %s that the caller may write to", err.Error(), above)
		}
	}
	return nil
}

// write makes the file of an entry, locked by the descriptor that is given back. On error
// there is none.
func (sec *section) write(e Entry) (*os.File, name, error) {
	n := e.name()
	f, err := sec.writeAs(n, e)
	return f, n, err
}

// writeAs is write under a name of the caller's.
func (sec *section) writeAs(n name, e Entry) (*os.File, error) {
	failed := func(err error) (*os.File, error) {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w: make room on %s: see `df -i` and `df`", err, filepath.Dir(filepath.Dir(sec.store.path)))
		}
		return nil, err
	}
	// Under another name first, so that no entry is half there. One that is left there is of
	// somebody who was killed.
	if err := sec.unlink(newName); err != nil {
		return nil, err
	}
	f, err := sec.openAt(newName, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return failed(err)
	}
	sec.grown++
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = f.WriteAt(e.text(), 0)
	}
	if err == nil {
		dir := int(sec.dir.Fd())
		err = unix.Renameat2(dir, newName, dir, n.text, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return failed(fmt.Errorf("lease: %s: %w", filepath.Join(sec.store.path, n.text), errors.Join(err, sec.unlink(newName), f.Close())))
	}
	sec.names, sec.changed = append(sec.names, n), true
	return f, nil
}

// remove removes an entry.
func (sec *section) remove(n name) error {
	if err := sec.unlink(n.text); err != nil {
		return err
	}
	sec.changed = true
	for i, have := range sec.names {
		if have.text == n.text {
			if have.line {
				sec.struck = append(sec.struck, have.at)
			}
			sec.names = slices.Delete(sec.names, i, i+1)
			break
		}
	}
	sec.unpublish(n.key())
	return nil
}

// overlapping is the entries that have some of ids.
func (sec *section) overlapping(ids idmap.Set) ([]name, error) {
	wanted := ids.Ranges()
	var out []name
	for _, n := range sec.names {
		have := []idmap.Range{n.first}
		if n.more {
			var err error
			if have, err = sec.ranges(n); err != nil {
				return nil, err
			}
		}
		if overlap(have, wanted) {
			out = append(out, n)
		}
	}
	return out, nil
}

// ranges is the IDs of an entry.
func (sec *section) ranges(n name) ([]idmap.Range, error) {
	ranges, inside := n.ranges()
	if !inside {
		return ranges, nil
	}
	e, err := sec.read(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // removed by hand
	}
	return e.Ranges.Ranges(), err
}

func overlap(a, b []idmap.Range) bool {
	for _, r := range a {
		if slices.ContainsFunc(b, r.Overlaps) {
			return true
		}
	}
	return false
}

// read is what an entry's file says.
func (sec *section) read(n name) (Entry, error) {
	f, err := sec.openAt(n.text, unix.O_RDWR)
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	return readEntry(f, n)
}
