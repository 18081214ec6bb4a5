// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// Method is how a root filesystem was made to fit its user namespace.
type Method string

const (
	// AsIs binds the directory unchanged: whoever chose the maps has prepared
	// the owners for them.
	AsIs Method = "as-is"
	// IDMap shifts the owners on an idmapped mount of the directory.
	IDMap Method = "idmap"
)

// Request is a root filesystem to prepare.
type Request struct {
	// Source is the directory on disk. It must have been opened in the
	// caller's current mount namespace.
	Source *os.File
	// Target is an existing directory, on which the root filesystem is mounted.
	Target string
	// UserNS is the user namespace to shift the owners to; nil leaves them.
	UserNS *os.File
	// Within is the directories that a source whose owners are shifted must lie
	// below, not be: real paths. Root inside is root of everything in it.
	Within []string
	// AllowExposed shifts a directory that others than root can reach; see
	// [Exposed].
	AllowExposed bool
}

// Prepare mounts the root filesystem on the target, and says how. Mounts below
// the source come along, unshifted: nobody has said that root inside may be
// root there.
//
// Refused are a source that isn't a directory; and, where owners are shifted, one
// that lies elsewhere ([ErrOutside]), one that others can reach ([ErrExposed]),
// and one whose filesystem can't be idmapped ([ErrNoIDMap]).
// On error nothing is mounted.
func Prepare(r Request) (Method, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Source.Fd()), &st); err != nil {
		return "", fmt.Errorf("root filesystem: %w", &os.PathError{Op: "fstat", Path: r.Source.Name(), Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", fmt.Errorf("root filesystem: %s: it isn't a directory", r.Source.Name())
	}
	if r.UserNS != nil {
		if err := r.checkShift(); err != nil {
			return "", err
		}
	}
	tree, err := linux.CloneTree(r.Source)
	if err != nil {
		return "", fmt.Errorf("root filesystem: %w", err)
	}
	defer tree.Close()

	method := AsIs
	if r.UserNS != nil {
		method = IDMap
		if err := tree.IDMap(r.UserNS); err != nil {
			return "", explainIDMap(r.Source, err)
		}
	}
	if err := tree.Attach(r.Target); err != nil {
		return "", fmt.Errorf("root filesystem: %w", err)
	}
	return method, nil
}

// ErrOutside is wrapped when a directory whose owners would be shifted isn't one
// that anybody has set aside for root filesystems.
var ErrOutside = errors.New("it isn't set aside for root filesystems")

// checkShift refuses a source of which root inside may not be root.
func (r Request) checkShift() error {
	if !slices.ContainsFunc(r.Within, func(dir string) bool {
		below, ok := under(dir, r.Source.Name())
		return ok && below != ""
	}) {
		return fmt.Errorf("root filesystem: %s: %w, and root inside would be root of all that is in it: expected one strictly below %s: "+
			"move it there, or name a directory above it, which holds nothing else, in rootfs-dirs of the configuration",
			r.Source.Name(), ErrOutside, strings.Join(r.Within, " or "))
	}
	if r.AllowExposed {
		return nil
	}
	return refuseExposed(r.Source)
}

// ErrNoIDMap is wrapped when the owners on a filesystem can't be shifted.
var ErrNoIDMap = errors.New("owners on it can't be shifted")

func explainIDMap(source *os.File, err error) error {
	kind := "unknown filesystem"
	var st unix.Statfs_t
	if statErr := unix.Fstatfs(int(source.Fd()), &st); statErr == nil {
		kind = filesystemName(st.Type)
	}
	why := ""
	switch {
	case errors.Is(err, unix.EINVAL) && kind == "overlay":
		why = ": an overlay has to be rebuilt from shifted layers, which this build doesn't do yet: unpack the image into a directory on ext4, xfs, btrfs or tmpfs"
	case errors.Is(err, unix.EINVAL):
		why = ": this kernel has no idmapped mounts for " + kind + ": move the root filesystem to ext4, xfs, btrfs or tmpfs (`df -T " + source.Name() + "` shows where it is)"
	case errors.Is(err, unix.EPERM):
		why = ": it needs CAP_SYS_ADMIN over the filesystem, which a user namespace has only over filesystems mounted inside it"
	}
	return fmt.Errorf("root filesystem: %s: on %s: %w%s: %w", source.Name(), kind, ErrNoIDMap, why, err)
}

// filesystemName is the name in /proc/filesystems of a statfs(2) f_type that
// people meet as a container's root filesystem; others by number.
func filesystemName(magic int64) string {
	switch uint32(magic) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.RAMFS_MAGIC:
		return "ramfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.SQUASHFS_MAGIC:
		return "squashfs"
	}
	return "filesystem type 0x" + strconv.FormatUint(uint64(uint32(magic)), 16)
}

// Open opens the directory at path for [Request.Source]. The file's name is
// where it really is: absolute, with no symbolic link in it.
func Open(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	real, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("root filesystem: %w", err)
	}
	return os.NewFile(uintptr(fd), real), nil
}
