// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"os"
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
	options := "mode=" + strconv.FormatUint(uint64(mode.Perm()), 8)
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
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

// CloneTree is a detached clone of the mount at dir, with dir as its root, and
// of all mounts below dir. dir must have been opened in this mount namespace.
func CloneTree(dir *os.File) (*Tree, error) {
	fd, err := unix.OpenTree(int(dir.Fd()), "",
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: dir.Name(), Err: err}
	}
	return &Tree{os.NewFile(uintptr(fd), dir.Name())}, nil
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

// Attach mounts the tree on the directory at target.
func (t *Tree) Attach(target string) error {
	err := unix.MoveMount(int(t.file.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// Close lets go of the tree.
func (t *Tree) Close() error { return t.file.Close() }
