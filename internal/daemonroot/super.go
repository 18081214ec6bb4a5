// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// DefaultData is where dockerd has its data unless it is told otherwise.
const DefaultData = "/var/lib/docker"

// Names in a super-root, and in a root.
const (
	journalName = ".daemon-root"
	lostFound   = "lost+found" // fsck(8)'s, where the super-root is a filesystem
	dataName    = "docker"     // of dockerd's data-root in a root
)

var unmappedData = filepath.Join(Unmapped.String(), dataName)

const (
	superMode = 0o755
	rootMode  = 0o700
	dataMode  = 0o710 // as dockerd 20.10 makes it
)

// Host is where processes and dockerd's own files are looked for; the zero Host is the host's own.
type Host struct {
	// Root stands before the paths of dockerd's pid file and settings, and Proc is where proc(5)
	// is mounted; empty but in tests.
	Root, Proc string
}

// super is a super-root, open and locked. Everything below it is reached by its descriptor.
type super struct {
	host  Host
	path  string // where it really is, with no symbolic link
	given string // how it was called
	dir   *os.File
	held  *os.File // the lock
	stat  unix.Stat_t
	old   *journal // nil if there is none
}

// open opens, judges and locks a super-root, for a change or for a look. A symbolic link in its place is followed, as dockerd
// does, whose files have the path that it leads to. What isn't there is an error wrapping
// fs.ErrNotExist.
func (h Host) open(path string, look bool) (*super, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	place, err := linux.OpenPlace(path, true)
	if err != nil {
		return nil, fmt.Errorf("%s: open: %w", path, bare(err))
	}
	defer place.Close()
	real := place.Name()
	if err := judgeWay(real); err != nil {
		return nil, err
	}
	// Another directory in its place would have been put there by root.
	fd, err := unix.Open(real, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: open: %w", real, err)
	}
	s := &super{host: h, path: real, given: filepath.Clean(path), dir: os.NewFile(uintptr(fd), real)}
	if err := s.begin(look); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *super) begin(look bool) error {
	if err := s.lock(look); err != nil {
		return err
	}
	return s.again()
}

// again looks at what may have changed.
func (s *super) again() error {
	if err := unix.Fstat(s.fd(), &s.stat); err != nil {
		return fmt.Errorf("%s: stat: %w", s.path, err)
	}
	var err error
	s.old, err = s.readJournal()
	return err
}

func checkPath(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("%q: expected the absolute path of a directory, such as %s", path, DefaultData)
	case filepath.Clean(path) == "/":
		return errors.New("/: is the whole filesystem: expected a directory of dockerd's own, such as " + DefaultData)
	}
	return nil
}

// judgeWay refuses a directory that somebody else than root could change, or put another in the place
// of. path has no symbolic links.
func judgeWay(path string) error {
	for at := path; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return fmt.Errorf("%s: stat: %w", at, err)
		}
		quoted := rootfile.ShellQuote(at)
		switch {
		case st.Uid != 0:
			return fmt.Errorf("%s: is owned by UID %d, who could put something else at %s: expected root: chown root: %s", at, st.Uid, path, quoted)
		// With the sticky bit others can't replace what is root's, but they could make more.
		case st.Mode&0o022 != 0 && (at == path || st.Mode&unix.S_ISVTX == 0):
			return fmt.Errorf("%s: has mode %04o, writable by others than root: expected no write permission for group and others: chmod go-w %s", at, st.Mode&0o7777, quoted)
		}
		if at == "/" {
			return nil
		}
	}
}

func (s *super) close() {
	s.unlock()
	_ = s.dir.Close()
}

func (s *super) fd() int { return int(s.dir.Fd()) }

// data is a path below the super-root, in whole.
func (s *super) data(rel ...string) string {
	return filepath.Join(append([]string{s.path}, rel...)...)
}

// openat opens what is at a path below the super-root, with no symbolic link on the way.
func (s *super) openat(rel string, flags int) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(s.fd(), rel, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), s.data(rel)), nil
		// EAGAIN: something was renamed meanwhile, and the way may have led out (openat2(2)).
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.ELOOP):
			return nil, fmt.Errorf("%s: a symbolic link is on the way: expected none below %s: put what it leads to in its place", s.data(rel), s.path)
		default:
			return nil, fmt.Errorf("%s: open: %w", s.data(rel), err)
		}
	}
}

func (s *super) openDir(rel string) (*os.File, error) {
	return s.openat(rel, unix.O_RDONLY|unix.O_DIRECTORY)
}

// look is what is at a path, of which the last name may be a symbolic link; found is false where nothing is.
func (s *super) look(rel string) (st unix.Stat_t, found bool, err error) {
	f, err := s.openat(rel, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) {
		return st, false, nil
	}
	if err != nil {
		return st, false, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, false, fmt.Errorf("%s: stat: %w", s.data(rel), err)
	}
	return st, true, nil
}

// names is what a directory holds, in order; nothing if it isn't there.
func (s *super) names(rel string) ([]string, error) {
	f, err := s.openDir(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("%s: list: %w", s.data(rel), bare(err))
	}
	slices.Sort(names)
	return names, nil
}

// listing is the names in a super-root by what they are.
type listing struct {
	data  []string   // what a dockerd has there that knows of no roots, and all that isn't known
	roots []Identity // by their names
}

// list sorts the names in the super-root, and refuses what is in the place of a root and is no directory.
func (s *super) list() (l listing, err error) {
	names, err := s.names(".")
	if err != nil {
		return l, err
	}
	for _, name := range names {
		id, isRoot := ParseIdentity(name)
		switch {
		case isRoot:
			st, _, err := s.look(name)
			if err != nil {
				return l, err
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return l, fmt.Errorf("%s: is %s in the place of a root: expected a directory: move it away", s.data(name), kind(st.Mode))
			}
			l.roots = append(l.roots, id)
		case !ours(name) && name != lostFound:
			l.data = append(l.data, name)
		}
	}
	return l, nil
}

// ours says whether a name in the super-root is the journal, one that is being written, or the lock.
func ours(name string) bool {
	return name == journalName || name == temporary(journalName) || name == lockName
}

// dockerNames is what dockerd makes in its data-root: 20.10 and its predecessors, and those after it up
// to 29.
var dockerNames = []string{
	"aufs", "btrfs", "buildkit", "builder", "containerd", "containers", "devicemapper", "engine-id", "fuse-overlayfs", "graph", "image",
	"network", "nuke-graph-directory.sh", "overlay", "overlay2", "plugins", "rootfs", "runtimes", "swarm", "tmp", "tmp-old", "trust", "vfs", "volumes",
	"zfs", "unpigz", "key.json", "linkgraph.db", "repositories-aufs", "repositories-overlay", "init", "execdriver",
}

// foreign says whether a name isn't one that dockerd gives.
func foreign(name string) bool {
	return !slices.Contains(dockerNames, name)
}

// isRemap says whether a root is one that dockerd's userns-remap made: its files are right in it, where
// ours has one directory.
func (s *super) isRemap(id Identity) (bool, error) {
	names, err := s.names(id.String())
	if err != nil {
		return false, err
	}
	known := slices.ContainsFunc(names, func(name string) bool { return !foreign(name) })
	return known && !slices.Contains(names, dataName), nil
}

// kind is the type of file in a mode (inode(7)).
func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	}
	return "neither a file nor a directory"
}

// bare is an error without the path and the operation, which the message has already.
func bare(err error) error {
	if in, ok := errors.AsType[*os.PathError](err); ok {
		return in.Err
	}
	return err
}

// temporary is the name under which a file is written before it takes the place of name.
func temporary(name string) string { return "." + strings.TrimPrefix(name, ".") + ".daemon-root" }
