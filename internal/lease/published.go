// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// PublishedDir is the directory of what owners of user namespaces may know, as the host's
// first process sees it. In it is a directory for each, by their UID on the host, which
// only they and root can look into; both belong to root.
const PublishedDir = "/run/userns-runtime/owned"

// Published is what the owner of a container's user namespace may know of it. It tells
// where to look, and proves nothing: whose a namespace is the kernel says.
type Published struct {
	ID string
	// Root is the engine's --root. Two engines may have a container of the same ID.
	Root string
	// UIDs and GIDs are the container's maps, the outer IDs the host's.
	UIDs, GIDs idmap.Map
	// UserNS is the inode number of its user namespace, which the kernel gives again once it
	// is free.
	UserNS uint64
	// Cgroup is the last part of the path of the cgroup that it was started in. Containers that
	// share a user namespace are told apart by it.
	Cgroup string
}

// storedPublished is the form of a Published outside of the process.
type storedPublished struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Root    string `json:"root"`
	UIDMap  string `json:"uidMap"`
	GIDMap  string `json:"gidMap"`
	UserNS  uint64 `json:"userNS"`
	Cgroup  string `json:"cgroup"`
}

// publishedVersion is the version of a published file.
const publishedVersion = 1

func (p Published) text() []byte {
	text, err := json.Marshal(storedPublished{
		Version: publishedVersion, ID: p.ID, Root: p.Root, UIDMap: p.UIDs.Kernel(), GIDMap: p.GIDs.Kernel(), UserNS: p.UserNS, Cgroup: p.Cgroup,
	})
	if err != nil {
		panic("bug: strings and a number don't become JSON: " + err.Error())
	}
	return append(text, '\n')
}

// Publish lets the owner of the container's user namespace find it: uid on the host, local
// as the caller's own user namespace counts it. Of p it fills in what the lease knows. It goes with the entry of the lease. What was
// left there of others that aren't alive any more goes in passing.
func (l *Lease) Publish(uid, local uint32, p Published) error {
	sec, err := l.section(l.store.lockAndLoad)
	if err != nil {
		return err
	}
	defer sec.unlock()
	dir, err := l.store.publishedOf(uid, local)
	if err != nil {
		return fmt.Errorf("lease: what its owner may know of the container: %w", err)
	}
	defer dir.Close()
	sec.sweepPublished(dir)
	p.ID, p.Root, p.UserNS = l.entry.ID, l.entry.Root, l.entry.UserNS
	if err := publish(dir, l.entry.keyText(), p.text()); err != nil {
		return fmt.Errorf("lease: what its owner may know of the container: %w", err)
	}
	return nil
}

// publishedDir is [PublishedDir], wherever the store is.
func (s *Store) publishedDir() string {
	return filepath.Join(filepath.Dir(s.path), filepath.Base(PublishedDir))
}

// publishedOf is the directory for one owner, made if there is none.
func (s *Store) publishedOf(uid, local uint32) (*os.File, error) {
	above := s.publishedDir()
	if err := os.Mkdir(above, 0o711); err == nil {
		// The caller's umask may have taken bits away.
		if err := os.Chmod(above, 0o711); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	path := filepath.Join(above, strconv.FormatUint(uint64(uid), 10))
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	dir, err := openDir(path)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil || int(st.Uid) != os.Geteuid() {
		return nil, errors.Join(fmt.Errorf("%s: UID %d owns it: expected a directory of root's: remove it", path, st.Uid), err, dir.Close())
	}
	// Before anything is in it, and anew, whatever it had.
	if err := linux.GrantRead(dir, local); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: expected a filesystem with POSIX ACLs, as tmpfs is, so that nobody else can look into it", err), dir.Close())
	}
	return dir, nil
}

func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// publish makes the file, whole or not at all. Under the lock nobody else does.
func publish(dir *os.File, name string, text []byte) error {
	at := int(dir.Fd())
	if err := unix.Unlinkat(at, newName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "unlink", Path: filepath.Join(dir.Name(), newName), Err: err}
	}
	fd, err := unix.Openat(at, newName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), newName), Err: err}
	}
	f := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), newName))
	_, err = f.Write(text)
	// The caller's umask may have taken bits away.
	err = errors.Join(err, f.Chmod(0o444), f.Close())
	if err == nil {
		err = unix.Renameat(at, newName, at, name)
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(at, newName, 0))
	}
	return nil
}

// sweepPublished removes the files of one owner that no entry answers for, as when the
// directory of the entries was lost, and whose namespace nobody is in.
func (sec *section) sweepPublished(dir *os.File) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	left := slices.DeleteFunc(names, func(text string) bool {
		return slices.ContainsFunc(sec.names, func(n name) bool { return n.key() == text })
	})
	if len(left) == 0 {
		return
	}
	alive, err := sec.store.live()
	if err != nil {
		return // what may be alive stays
	}
	for _, text := range left {
		p, err := readPublished(dir, text)
		if err == nil && slices.ContainsFunc(alive, func(l LiveNS) bool { return l.Inode == p.UserNS }) {
			continue
		}
		_ = unix.Unlinkat(int(dir.Fd()), text, 0)
	}
}

// unpublish removes what an owner may know of a container whose last entry has gone. It fails
// nobody: what stays leads nowhere.
func (sec *section) unpublish(key string) {
	if slices.ContainsFunc(sec.names, func(n name) bool { return n.key() == key }) {
		return
	}
	above := sec.store.publishedDir()
	owners, err := listDir(above)
	if err != nil {
		return
	}
	for _, owner := range owners {
		dir := filepath.Join(above, owner)
		if unix.Unlink(filepath.Join(dir, key)) == nil {
			_ = unix.Rmdir(dir) // if it was the last
		}
	}
}

// OwnersRecords is what root has published for a user of the host: their containers, in no
// order. Files that can't be read, or are of a later version, are left out: the user may find
// those containers by a process in them.
func OwnersRecords(uid uint32) ([]Published, error) { return ownersRecords(PublishedDir, uid) }

func ownersRecords(above string, uid uint32) ([]Published, error) {
	dir, err := openDir(filepath.Join(above, strconv.FormatUint(uint64(uid), 10)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []Published
	for _, text := range names {
		if p, err := readPublished(dir, text); err == nil {
			all = append(all, p)
		}
	}
	return all, nil
}

func readPublished(dir *os.File, text string) (Published, error) {
	fd, err := unix.Openat(int(dir.Fd()), text, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return Published{}, &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), text), Err: err}
	}
	f := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), text))
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxEntry))
	if err != nil {
		return Published{}, err
	}
	var s storedPublished
	if err := json.Unmarshal(content, &s); err != nil {
		return Published{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if s.Version != publishedVersion || s.ID == "" || s.UserNS == 0 {
		return Published{}, fmt.Errorf("%s: it has version %d, and this build reads %d: it was made by another version of userns-runtime", f.Name(), s.Version, publishedVersion)
	}
	p := Published{ID: s.ID, Root: s.Root, UserNS: s.UserNS, Cgroup: s.Cgroup}
	var errUIDs, errGIDs error
	p.UIDs, errUIDs = idmap.ParseMap(s.UIDMap)
	p.GIDs, errGIDs = idmap.ParseMap(s.GIDMap)
	if err := errors.Join(errUIDs, errGIDs); err != nil {
		return Published{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return p, nil
}
