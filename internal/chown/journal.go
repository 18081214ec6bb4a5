// SPDX-License-Identifier: Apache-2.0

package chown

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Dir has a directory for each root filesystem whose owners aren't as its image says. It lies on
// disk as they do, and outlives a crash of the host.
const Dir = "/var/lib/userns-runtime/chown"

const (
	journalName    = "journal.json"
	newName        = "journal.new"
	journalVersion = 1
	// maxJournal is for some hundred thousand setuid programs.
	maxJournal = 64 << 20 // bytes
)

// State is how far a root filesystem is.
type State string

const (
	// Shifting is one whose owners are being changed, or were when that was ended.
	Shifting State = "shifting"
	// Shifted is one that is the container's.
	Shifted State = "shifted"
	// Restoring is one whose owners are being changed back.
	Restoring State = "restoring"
)

// Journal is what has to be known to undo it, whatever happens.
type Journal struct {
	Version int   `json:"version"`
	State   State `json:"state"`
	// Container is whose root filesystem it is: the engine's --root, the ID, the mount namespace that both
	// paths are of, and the boot that all that is true of.
	EngineRoot string `json:"engineRoot"`
	ID         string `json:"id"`
	MountNS    uint64 `json:"mountNS"`
	Boot       string `json:"boot"`

	// Rootfs is its path, Inode its number there. Place is the path on its filesystem, whose device is Device
	// ("8:1") and which is Filesystem: by that it is found at another mount point.
	Rootfs     string `json:"rootfs"`
	Inode      uint64 `json:"inode"`
	Device     string `json:"device"`
	Filesystem string `json:"filesystem"`
	Place      string `json:"place"`
	// Memory says that it is of a filesystem that ends with the boot.
	Memory bool `json:"memory,omitempty"`
	// AllowExposed says that others than root may reach it (exposed-rootfs of the configuration).
	AllowExposed bool `json:"allowExposed,omitempty"`

	UIDs idmap.Map `json:"uids"`
	GIDs idmap.Map `json:"gids"`
	// Marks is what is taken from files while their owners are changed.
	Marks []mark `json:"marks,omitempty"`
}

// IDs is those that files may have meanwhile, so that nobody else may.
func (j Journal) IDs() idmap.Set { return j.UIDs.Outer().Union(j.GIDs.Outer()) }

// Path is the journal's directory.
func (j Journal) Path() string {
	return filepath.Join(Dir, fmt.Sprintf("%x", sha256.Sum256([]byte(j.Rootfs)))[:32])
}

// overlaps says whether one of two root filesystems is in the other.
func (j Journal) overlaps(o Journal) bool {
	return within(j.Rootfs, o.Rootfs) || within(o.Rootfs, j.Rootfs) || j.Device == o.Device && j.Inode == o.Inode && j.Boot == o.Boot
}

func within(dir, path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// Any says whether there is a journal. It is asked by each start of a container.
func Any() bool {
	d, err := os.Open(Dir)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	return len(names) > 0
}

// List is all journals. One that can't be read is an error: nobody knows which IDs it is about.
func List() ([]Journal, error) {
	d, err := rootfile.OpenDir(Dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Names()
	if err != nil {
		return nil, err
	}
	var out []Journal
	for _, name := range names {
		j, err := read(filepath.Join(Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // not begun yet, or done
		}
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}

// Sweep removes what those left who ended before they had a journal, or after they had removed it.
func Sweep() error {
	above, err := lockDir(Dir, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer above.Close() // who begins waits for it
	names, err := above.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		dir := filepath.Join(Dir, name)
		if _, err := os.Lstat(filepath.Join(dir, journalName)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		for _, path := range []string{filepath.Join(dir, newName), dir} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func read(dir string) (Journal, error) {
	path := filepath.Join(dir, journalName)
	text, err := rootfile.Read(path, maxJournal, 0)
	if err != nil {
		return Journal{}, err
	}
	var j Journal
	if err := json.Unmarshal(text, &j); err != nil {
		return Journal{}, fmt.Errorf("%s: it isn't what this program writes: %w", path, err)
	}
	if j.Version != journalVersion {
		return Journal{}, fmt.Errorf("%s: version %d: expected %d: use the program that wrote it", path, j.Version, journalVersion)
	}
	if err := errors.Join(j.UIDs.Validate(), j.GIDs.Validate()); err != nil {
		return Journal{}, fmt.Errorf("%s: %w", path, err)
	}
	return j, nil
}

// Held is a journal that nobody else may act by.
type Held struct {
	Journal
	dir *os.File
}

// Close lets go of the journal, which stays.
func (h *Held) Close() { _ = h.dir.Close() }

// TakenError says that a root filesystem, or one in it or around it, is another container's.
type TakenError struct{ By Journal }

func (e *TakenError) Error() string {
	return fmt.Sprintf("root filesystem: %s: its owners on disk are those of container %q (engine root %s, UIDs %s) until that is deleted: give this one a copy of its own",
		e.By.Rootfs, e.By.ID, e.By.EngineRoot, e.By.UIDs)
}

// Taken is a [TakenError] if the root filesystem of j is that of another journal.
func Taken(j Journal) error {
	all, err := List()
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.overlaps(j) {
			return &TakenError{other}
		}
	}
	return nil
}

// begin makes the journal, held; nothing was changed yet.
func begin(j Journal) (*Held, error) {
	if err := makeDirs(); err != nil {
		return nil, err
	}
	above, err := lockDir(Dir, true)
	if err != nil {
		return nil, err
	}
	defer above.Close()
	if err := Taken(j); err != nil {
		return nil, err
	}
	// One that is there without a journal is of somebody who ended before they began, or after they ended.
	if err := os.Mkdir(j.Path(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	dir, err := lockDir(j.Path(), true)
	if err != nil {
		return nil, err
	}
	h := &Held{j, dir}
	if err := h.save(); err != nil {
		return nil, errors.Join(err, h.drop())
	}
	return h, nil
}

// hold takes a journal to act by it; an error wrapping fs.ErrNotExist says that it is gone.
func hold(j Journal, wait bool) (*Held, error) {
	dir, err := lockDir(j.Path(), wait)
	if err != nil {
		return nil, err
	}
	now, err := read(j.Path())
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &Held{now, dir}, nil
}

func makeDirs() error {
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{filepath.Dir(Dir), 0o755}, {Dir, 0o700}} {
		err := os.Mkdir(dir.path, dir.mode)
		if err == nil {
			err = os.Chmod(dir.path, dir.mode) // whatever the umask
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// ErrBusy says that somebody else is at it.
var ErrBusy = errors.New("somebody else is at it")

// lockDir takes the lock of the directory at path, and gives the directory. The lock goes with
// the descriptor. Without wait it is [ErrBusy] if somebody else has it.
func lockDir(path string, wait bool) (*os.File, error) {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		dir := os.NewFile(uintptr(fd), path)
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Flock(fd, how)
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(ErrBusy, dir.Close())
		}
		if err != nil {
			return nil, errors.Join(&os.PathError{Op: "flock", Path: path, Err: err}, dir.Close())
		}
		var locked, now unix.Stat_t
		err = errors.Join(unix.Fstat(fd, &locked), unix.Lstat(path, &now))
		if err == nil && locked.Ino == now.Ino && locked.Dev == now.Dev {
			return dir, nil
		}
		// Whoever had it removed it.
		dir.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, &os.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}

// save writes the journal, so that after a crash of the host there is this one or the one before.
func (h *Held) save() (err error) {
	h.Version = journalVersion
	text, err := json.Marshal(h.Journal)
	if err != nil {
		return err
	}
	fd := int(h.dir.Fd())
	if err := unix.Unlinkat(fd, newName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return h.fail(newName, err)
	}
	to, err := unix.Openat(fd, newName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return h.fail(newName, err)
	}
	f := os.NewFile(uintptr(to), filepath.Join(h.dir.Name(), newName))
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(fd, newName, fd, journalName)
	}
	if err == nil {
		err = h.dir.Sync()
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: make room on %s: see `df` and `df -i`", err, Dir)
	}
	return err
}

func (h *Held) fail(name string, err error) error {
	return &os.PathError{Op: "journal", Path: filepath.Join(h.dir.Name(), name), Err: err}
}

// drop removes the journal, and lets go of it.
func (h *Held) drop() error {
	defer h.dir.Close()
	fd := int(h.dir.Fd())
	for _, name := range []string{newName, journalName} {
		if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return h.fail(name, err)
		}
	}
	if err := os.Remove(h.dir.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
