// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
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
	// Overlay builds a second overlay from idmapped clones of the layers.
	Overlay Method = "overlay"
	// Chown binds the directory, whose owners on disk were changed for as long as the
	// container is there (package chown).
	Chown Method = "chown"
)

// Request is a root filesystem to prepare.
type Request struct {
	// Source is the root filesystem, a directory or the root of an overlay. It
	// must have been opened in the caller's current mount namespace.
	Source *os.File
	// Target is an existing directory, on which the root filesystem is mounted.
	Target string
	// Mounts is the mounts of the caller's mount namespace, listed after Source was
	// opened: see [Mounts].
	Mounts []*mountinfo.Info
	// UserNS is the user namespace to shift the owners to; nil leaves them, and
	// then what is below isn't looked at.
	UserNS *os.File

	// Chowned says that the owners on disk are those outside already, or will be by the time
	// of [Prepare]. It needs no UserNS, and is refused all that a shifted source is.
	Chowned bool

	// RootUID and RootGID are what inner 0 is outside, as the caller's user
	// namespace counts it; HasRoot says that there is an inner 0. An overlay
	// needs it.
	RootUID, RootGID uint32
	HasRoot          bool
	// Scratch is an existing directory of the caller's own mount namespace, in which
	// directories may be made and mounts come and go. An overlay needs it.
	Scratch string
	// StringLayers mounts an overlay as kernels before 6.13 want it, for a test;
	// on those it is done unasked.
	StringLayers bool

	// Within is the directories that a source whose owners are shifted must lie
	// below, not be: real paths. Root inside is root of everything in it. An
	// overlay may also lie beside its upper layer, and its layers beside that.
	Within []string
	// AllowExposed shifts what others than root can reach; see [ErrExposed].
	AllowExposed bool
	// NoDevices has device nodes closed on what is mounted below a directory too, and not only on itself.
	NoDevices bool
}

// Prepare mounts the root filesystem on the target, and says how. Mounts below
// a source that is a directory come along, unshifted: nobody has said that root
// inside may be root there.
//
// Refused are a source that isn't a directory; and, where owners are shifted, one
// that lies elsewhere ([ErrOutside]), one that others can reach, of an overlay its
// upper layer ([ErrExposed]), an overlay whose layers can't be found
// ([ErrLayers]), and what lies on a filesystem that can't be idmapped
// ([ErrNoIDMap]).
// On error nothing is mounted on the target. It must be called on a locked
// thread, and loses the parent-death signal of that.
func Prepare(r Request) (Method, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Source.Fd()), &st); err != nil {
		return "", fmt.Errorf("root filesystem: %w", &os.PathError{Op: "fstat", Path: r.Source.Name(), Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", fmt.Errorf("root filesystem: %s: it isn't a directory", r.Source.Name())
	}
	method := r.Method()
	var err error
	switch method {
	case Overlay:
		err = r.prepareOverlay(r.overlay())
	case IDMap, Chown:
		if err = r.checkShift(); err == nil {
			err = r.bind()
		}
	default:
		err = r.bind()
	}
	if err != nil {
		return "", err
	}
	return method, nil
}

// Try finds out what [Prepare] would refuse, as far as it can be told without
// making anything: it mounts nothing, and needs neither Target nor Scratch.
func (r Request) Try() error {
	switch r.Method() {
	case Overlay:
		return r.tryOverlay(r.overlay())
	case IDMap, Chown:
		if err := r.checkShift(); err != nil {
			return err
		}
	}
	tree, err := r.clone()
	if err != nil {
		return err
	}
	return tree.Close()
}

// Method is the one that [Prepare] will take, or refuse to.
func (r Request) Method() Method {
	switch {
	case r.Chowned:
		return Chown
	case r.UserNS == nil:
		return AsIs
	case r.overlay() != nil:
		return Overlay
	}
	return IDMap
}

// overlay is the mount of the overlay that the source is the root of, nil if it
// is anything else.
func (r Request) overlay() *mountinfo.Info {
	info, err := mountOf(r.Source, r.Mounts)
	if err == nil && info.FSType == "overlay" && info.Root == "/" && info.Mountpoint == r.Source.Name() {
		return info
	}
	return nil
}

// Layered says whether the source is an overlay of layers, the kernel's or one of FUSE, for which
// a change of any file is a copy in the upper one.
func (r Request) Layered() bool {
	info, err := mountOf(r.Source, r.Mounts)
	return r.Method() == Overlay || err == nil && info.FSType == "fuse.fuse-overlayfs"
}

// bind mounts the source itself, shifted if it is to be.
func (r Request) bind() error {
	tree, err := r.clone()
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := tree.Attach(r.Target); err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	return nil
}

// clone is a clone of the source's mount, shifted if it is to be, that is mounted nowhere yet.
func (r Request) clone() (*linux.Tree, error) {
	tree, err := linux.CloneTree(r.Source)
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %w", err)
	}
	// Device nodes of an image are nobody's to open, whoever owns them.
	err = tree.Set(linux.Attrs{Set: unix.MOUNT_ATTR_NODEV, Recursive: r.NoDevices})
	if err != nil {
		err = fmt.Errorf("root filesystem: %w", err)
	} else if r.UserNS != nil {
		if err = tree.IDMap(r.UserNS); err != nil {
			err = explainIDMap(r.Source, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return tree, nil
}

// mountOf is the mount that f was opened on.
func mountOf(f *os.File, mounts []*mountinfo.Info) (*mountinfo.Info, error) {
	id, err := linux.MountID(f)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if m.ID == id {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s: its mount, number %d, isn't in /proc/self/mountinfo", f.Name(), id)
}

// ErrOutside is wrapped when a directory whose owners would be shifted isn't one
// that anybody has set aside for root filesystems.
var ErrOutside = errors.New("it isn't set aside for root filesystems")

func outside(what string, within []string) error {
	return fmt.Errorf("root filesystem: %s: %w, and root inside would be root of all that is in it: expected one strictly below %s: "+
		"move it there, or name a directory above it, which holds nothing else, in rootfs-dirs of the configuration",
		what, ErrOutside, strings.Join(within, " or "))
}

// checkShift refuses a source of which root inside may not be root.
func (r Request) checkShift() error {
	if !slices.ContainsFunc(r.Within, func(dir string) bool {
		below, ok := under(dir, r.Source.Name())
		return ok && below != ""
	}) {
		return outside(r.Source.Name(), r.Within)
	}
	if r.AllowExposed {
		return nil
	}
	return refuseExposed(r.Source, r.Mounts)
}

// ErrNoIDMap is wrapped when the owners on a filesystem can't be shifted.
var ErrNoIDMap = errors.New("owners on it can't be shifted")

func explainIDMap(source *os.File, err error) error {
	return fmt.Errorf("root filesystem: %w", noIDMap(source, err))
}

// noIDMap says of a failure to shift the owners of source where it lies, and what
// mends it.
func noIDMap(source *os.File, err error) error {
	kind := "unknown filesystem"
	var st unix.Statfs_t
	if statErr := unix.Fstatfs(int(source.Fd()), &st); statErr == nil {
		kind = filesystemName(st.Type)
	}
	why := ""
	switch {
	case errors.Is(err, unix.EINVAL) && kind == "overlay":
		why = ": it is a directory inside of an overlay, and only a whole one can be rebuilt from shifted layers: put it on ext4, xfs, btrfs or tmpfs, " + orChown
	case errors.Is(err, unix.EINVAL):
		why = ": this kernel has no idmapped mounts for " + kind + ": move it to ext4, xfs, btrfs or tmpfs (`df -T " + source.Name() + "` shows where it is), " + orChown
	case errors.Is(err, unix.EPERM):
		why = ": it needs CAP_SYS_ADMIN over the filesystem, which a user namespace has only over filesystems mounted inside it"
	}
	return fmt.Errorf("%s: on %s: %w%s: %w", source.Name(), kind, ErrNoIDMap, why, err)
}

// orChown is the way out that is told where one may not choose the filesystem.
const orChown = "or, for a root filesystem, set shift = 'chown' in the configuration, which changes the owners on disk until the container is deleted"

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
	f, err := linux.OpenPlace(path, true)
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %w", err)
	}
	return f, nil
}

// Mounts is the mounts of the calling thread's mount namespace.
//
// The kernel gives the number of a mount that has gone to the next one. So a file must
// be opened, which holds its mount, before its mount is looked for in a list: in an older
// one it could be another.
func Mounts() ([]*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("read /proc/self/mountinfo: %w", err)
	}
	return mounts, nil
}
