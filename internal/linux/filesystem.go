// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Filesystem is a filesystem that is being configured, and isn't mounted yet
// (fsopen(2), since Linux 5.2). Errors have what the kernel says of the reason.
type Filesystem struct{ file *os.File }

// OpenFilesystem begins one of the type kind, as /proc/filesystems names it.
func OpenFilesystem(kind string) (*Filesystem, error) {
	fd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "fsopen", Path: kind, Err: err}
	}
	return &Filesystem{os.NewFile(uintptr(fd), kind)}, nil
}

// SetString sets an option that has a value.
func (f *Filesystem) SetString(option, value string) error {
	return f.explain("fsconfig", option+"="+value, unix.FsconfigSetString(int(f.file.Fd()), option, value))
}

// SetFlag sets an option that has none.
func (f *Filesystem) SetFlag(option string) error {
	return f.explain("fsconfig", option, unix.FsconfigSetFlag(int(f.file.Fd()), option))
}

// SetFile sets an option to the place that a file is open on. overlay takes its
// layers so since Linux 6.13; before it says EINVAL.
func (f *Filesystem) SetFile(option string, value *os.File) error {
	return f.explain("fsconfig", option+"="+value.Name(), unix.FsconfigSetFd(int(f.file.Fd()), option, int(value.Fd())))
}

// Mount makes the filesystem as configured, and gives a mount of it with these
// MOUNT_ATTR_* flags, not yet attached.
func (f *Filesystem) Mount(attrs uint64) (*Tree, error) {
	if err := f.explain("fsconfig(FSCONFIG_CMD_CREATE)", f.file.Name(), unix.FsconfigCreate(int(f.file.Fd()))); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(int(f.file.Fd()), unix.FSMOUNT_CLOEXEC, int(attrs))
	if err != nil {
		return nil, f.explain("fsmount", f.file.Name(), err)
	}
	return &Tree{os.NewFile(uintptr(fd), f.file.Name())}, nil
}

// Close ends the configuration; what was mounted stays.
func (f *Filesystem) Close() { _ = f.file.Close() }

// explain adds the messages that the kernel keeps for whoever configures.
func (f *Filesystem) explain(op, path string, err error) error {
	if err == nil {
		return nil
	}
	err = &os.PathError{Op: op, Path: path, Err: err}
	var said []string
	buffer := make([]byte, 1024)
	for range 16 {
		n, readErr := unix.Read(int(f.file.Fd()), buffer)
		if readErr != nil || n <= 0 {
			break
		}
		// "e " for an error, "w " for a warning, "i " for information.
		if message, ok := strings.CutPrefix(strings.TrimSpace(string(buffer[:n])), "e "); ok {
			said = append(said, message)
		}
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(said, "; "))
}

// GrantRead lets a user look into a directory that is closed to everybody but its owner, by a
// POSIX access control list (acl(5)) that takes the place of its mode and of any list that it
// has. Errors are EOPNOTSUPP where the filesystem has none.
func GrantRead(dir *os.File, uid uint32) error {
	// struct posix_acl_xattr_header and _entry, little-endian (include/uapi/linux/posix_acl_xattr.h).
	const version = 2
	const none = ^uint32(0)
	list := binary.LittleEndian.AppendUint32(nil, version)
	for _, e := range []struct {
		tag, bits uint16
		id        uint32
	}{
		{0x01, 7, none}, // ACL_USER_OBJ
		{0x02, 5, uid},  // ACL_USER
		{0x04, 0, none}, // ACL_GROUP_OBJ
		{0x10, 5, none}, // ACL_MASK
		{0x20, 0, none}, // ACL_OTHER
	} {
		list = binary.LittleEndian.AppendUint16(list, e.tag)
		list = binary.LittleEndian.AppendUint16(list, e.bits)
		list = binary.LittleEndian.AppendUint32(list, e.id)
	}
	if err := unix.Fsetxattr(int(dir.Fd()), "system.posix_acl_access", list, 0); err != nil {
		return &os.PathError{Op: "fsetxattr(system.posix_acl_access)", Path: dir.Name(), Err: err}
	}
	return nil
}

// MountOverlayString mounts an overlay on the directory target by mount(2), whose
// data holds at most a page: for kernels that take no layers by descriptor.
func MountOverlayString(target, data string, flags uintptr) error {
	if len(data) >= os.Getpagesize() {
		return &os.PathError{Op: "mount(overlay)", Path: target, Err: errors.New("the options are longer than a page")}
	}
	if err := unix.Mount("overlay", target, "overlay", flags, data); err != nil {
		return &os.PathError{Op: "mount(overlay)", Path: target, Err: err}
	}
	return nil
}

// DropDentries makes the filesystem that dir is open on forget the names that
// nobody uses, those among them that it remembers not to be there. Nothing else of it
// changes (fspick(2), FSCONFIG_CMD_RECONFIGURE without an option).
func DropDentries(dir *os.File) error {
	fd, err := unix.Fspick(int(dir.Fd()), "", unix.FSPICK_CLOEXEC|unix.FSPICK_NO_AUTOMOUNT|unix.FSPICK_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "fspick", Path: dir.Name(), Err: err}
	}
	defer unix.Close(fd)
	if err := unix.FsconfigReconfigure(fd); err != nil {
		return &os.PathError{Op: "fsconfig(FSCONFIG_CMD_RECONFIGURE)", Path: dir.Name(), Err: err}
	}
	return nil
}
