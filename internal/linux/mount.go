// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// PrivateMounts puts the calling thread into a mount namespace of its own, into
// which mounts of the old one still come, but none of its own go out
// (recursively slave; mount_namespaces(7)). The caller must have locked the
// goroutine to its thread. The thread's working directory moves along; a file
// opened before stays on the old namespace's mounts, and can't be mounted upon.
func PrivateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "mount(MS_REC|MS_SLAVE)", Path: "/", Err: err}
	}
	return nil
}

// MountTmpfs mounts a new tmpfs on the directory at target, its root with the
// permission bits mode.
func MountTmpfs(target string, mode os.FileMode) error {
	return mountTmpfs(target, mode, unix.MS_NOSUID|unix.MS_NODEV)
}

// MountDevTmpfs is as [MountTmpfs], for device nodes, which can be opened there.
func MountDevTmpfs(target string, mode os.FileMode) error {
	return mountTmpfs(target, mode, unix.MS_NOSUID|unix.MS_NOEXEC)
}

func mountTmpfs(target string, mode os.FileMode, flags uintptr) error {
	options := "mode=" + strconv.FormatUint(uint64(mode.Perm()), 8)
	if err := unix.Mount("tmpfs", target, "tmpfs", flags, options); err != nil {
		return &os.PathError{Op: "mount(tmpfs)", Path: target, Err: err}
	}
	return nil
}

// BindFile binds the file that source is open on, which may be a namespace
// (nsfs), over the file that target is open on. target must have been opened in
// this mount namespace.
func BindFile(source, target *os.File) error {
	if err := unix.Mount(FDPath(source), FDPath(target), "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "mount(MS_BIND)", Path: target.Name(), Err: err}
	}
	return nil
}

// MountID is the number in /proc/self/mountinfo of the mount that f was opened on
// (statx(2), STATX_MNT_ID, since Linux 5.8).
func MountID(f *os.File) (int, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, &os.PathError{Op: "statx(STATX_MNT_ID)", Path: f.Name(), Err: unix.ENOTSUP}
	}
	return int(st.Mnt_id), nil
}

// FDPath is the name in /proc of a file this process has open: it leads to that
// very file, whatever has become of the path it was opened by.
func FDPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// Tree is a mount, and perhaps those below it, detached from every directory
// (open_tree(2), since Linux 5.2). It goes with Close unless it was attached.
type Tree struct{ file *os.File }

// CloneTree is a detached clone of the mount that source, a directory or another
// file, was opened on, with source as its root, and of all mounts below it.
// source must have been opened in this mount namespace.
func CloneTree(source *os.File) (*Tree, error) { return clone(source, unix.AT_RECURSIVE) }

// CloneMount is as [CloneTree], without the mounts below source.
func CloneMount(source *os.File) (*Tree, error) { return clone(source, 0) }

func clone(source *os.File, flags uint) (*Tree, error) {
	fd, err := unix.OpenTree(int(source.Fd()), "",
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: source.Name(), Err: err}
	}
	return &Tree{os.NewFile(uintptr(fd), source.Name())}, nil
}

// IDMap shifts the owners seen through the topmost mount of the tree: what is
// stored as ID n is seen as what ID n of the user namespace is outside
// (mount_setattr(2), MOUNT_ATTR_IDMAP, since Linux 5.12). Device nodes on it
// can't be opened any more (MOUNT_ATTR_NODEV): their owner is shifted as well.
// Mounts below it are left as they are. EINVAL means that the filesystem can't be idmapped, EPERM
// that the caller isn't privileged over the filesystem.
func (t *Tree) IDMap(userns *os.File) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_NODEV, Userns_fd: uint64(userns.Fd())}
	if err := unix.MountSetattr(int(t.file.Fd()), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return &os.PathError{Op: "mount_setattr(MOUNT_ATTR_IDMAP)", Path: t.file.Name(), Err: err}
	}
	return nil
}

// Attrs is what a mount shall be, beside what it is.
type Attrs struct {
	// Set is MOUNT_ATTR_* flags to add.
	Set uint64
	// ATime says that the mode of access times in Set (of which
	// MOUNT_ATTR_RELATIME is 0) replaces the one that the mount has.
	ATime bool
	// Recursive does so to the mounts below it as well.
	Recursive bool
}

// Set changes the topmost mount of the tree, or all of them (mount_setattr(2)).
func (t *Tree) Set(a Attrs) error {
	if a.Set == 0 && !a.ATime {
		return nil
	}
	attr := unix.MountAttr{Attr_set: a.Set}
	if a.ATime {
		attr.Attr_clr = unix.MOUNT_ATTR__ATIME
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if a.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(int(t.file.Fd()), "", flags, &attr); err != nil {
		return &os.PathError{Op: "mount_setattr", Path: t.file.Name(), Err: err}
	}
	return nil
}

// Attach mounts the tree at target: a directory on a directory, another file on
// another file.
func (t *Tree) Attach(target string) error {
	err := unix.MoveMount(int(t.file.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// Open opens, for use as a place (O_PATH), the file at the relative path below the tree's root,
// crossing neither a symbolic link nor a mount (openat2(2)).
func (t *Tree) Open(path string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(int(t.file.Fd()), path, &how)
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: filepath.Join(t.file.Name(), path), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(t.file.Name(), path)), nil
}

// Close lets go of the tree.
func (t *Tree) Close() error { return t.file.Close() }

// Detach takes away the mount at target, for those who look it up from now on:
// whoever has it open or mounted elsewhere keeps it (umount2(2), MNT_DETACH).
func Detach(target string) error {
	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
		return &os.PathError{Op: "umount2(MNT_DETACH)", Path: target, Err: err}
	}
	return nil
}

// OpenPlace opens the file at path for use as a place (O_PATH): nothing is read,
// and a device or FIFO isn't touched. The file's name is where it really is:
// absolute, with no symbolic link in it. directory refuses anything else.
func OpenPlace(path string, directory bool) (*os.File, error) {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if directory {
		flags |= unix.O_DIRECTORY
	}
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	real, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), real), nil
}
