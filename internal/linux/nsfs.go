// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// nsfsRoot stands for the kernel's own mount of nsfs where open_by_handle_at(2) wants a mount
// (FD_NSFS_ROOT, include/uapi/linux/fcntl.h, since Linux 6.18).
const nsfsRoot = -10003

// ErrNoHandles says that this kernel doesn't tell by a handle whether a namespace is alive, or
// not to this caller.
var ErrNoHandles = errors.New("namespaces have no file handles here (Linux 6.18, CAP_SYS_ADMIN)")

// NamespaceHandle names the namespace that ns is open on for as long as the host is up: unlike its
// inode number, it is never given to another one (name_to_handle_at(2) on nsfs). A handle that
// [NamespaceLives] could do nothing with is ErrNoHandles.
func NamespaceHandle(ns *os.File) (string, error) {
	handle, _, err := unix.NameToHandleAt(int(ns.Fd()), "", unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return "", ErrNoHandles
	}
	if err != nil {
		return "", &os.PathError{Op: "name_to_handle_at", Path: ns.Name(), Err: err}
	}
	text := strconv.Itoa(int(handle.Type())) + ":" + hex.EncodeToString(handle.Bytes())
	lives, err := NamespaceLives(text)
	if err == nil && !lives {
		return "", ErrNoHandles // it is open here: what isn't found was hidden
	}
	return text, err
}

// NamespaceLives says whether anybody has the namespace of a [NamespaceHandle]: a process in it, or
// in one below it, a file that is open on it, in flight too, or a mount. Without CAP_SYS_ADMIN over
// the namespace the kernel says as well that it doesn't, so it must be asked by whoever has that.
func NamespaceLives(handle string) (bool, error) {
	kind, bytes, _ := strings.Cut(handle, ":")
	number, err := strconv.ParseInt(kind, 10, 32)
	data, err2 := hex.DecodeString(bytes)
	if err := errors.Join(err, err2); err != nil {
		return false, fmt.Errorf("namespace handle %q: %w", handle, err)
	}
	if all, err := overAll(); err != nil || !all {
		return false, errors.Join(ErrNoHandles, err)
	}
	fd, err := unix.OpenByHandleAt(nsfsRoot, unix.NewFileHandle(int32(number), data), unix.O_RDONLY|unix.O_CLOEXEC)
	switch {
	case err == nil:
		_ = unix.Close(fd)
		return true, nil
	case errors.Is(err, unix.ESTALE):
		return false, nil
	case errors.Is(err, unix.EBADF), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		return false, ErrNoHandles
	}
	return false, os.NewSyscallError("open_by_handle_at", err)
}

// initUserNS is the inode number of the host's own user namespace (PROC_USER_INIT_INO,
// include/linux/proc_ns.h).
const initUserNS = 0xEFFFFFFD

// overAll says whether the calling thread has CAP_SYS_ADMIN over all user namespaces.
func overAll() (bool, error) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/user", &own); err != nil {
		return false, &os.PathError{Op: "stat", Path: "/proc/thread-self/ns/user", Err: err}
	}
	_, caps, err := capget()
	return own.Ino == initUserNS && CapSet(caps[0].Effective)&Caps(unix.CAP_SYS_ADMIN) != 0, err
}

// UserNS is a user namespace: its inode number (namespaces(7)), and the UID that it belongs to, counted in
// the caller's own.
type UserNS struct {
	Inode uint64
	Owner uint32
}

// Lineage is the user namespace that ns is open on, and those that it lies in, the nearest first, as far up as
// the caller may see: to their own, if it lies in that. What it has beside an error is as far as it came.
func Lineage(ns *os.File) (line []UserNS, err error) {
	at := ns
	for {
		var is UserNS
		if is.Inode, err = Inode(at); err != nil {
			return line, err
		}
		if is.Owner, err = UserNSOwner(at); err != nil {
			return line, fmt.Errorf("%s: %w", at.Name(), err)
		}
		line = append(line, is)
		above, err := OwningUserNS(at)
		if errors.Is(err, unix.EPERM) {
			return line, nil // the caller's own, or one beside it
		}
		if err != nil {
			return line, err
		}
		defer above.Close() // 32 at most: so deep they can be (user_namespaces(7))
		at = above
	}
}

// Within says whether the user namespace that ns is open on is the one of that inode number, or
// lies in it, as far up as the caller may see.
func Within(ns *os.File, inode uint64) (bool, error) {
	line, err := Lineage(ns)
	if slices.ContainsFunc(line, func(is UserNS) bool { return is.Inode == inode }) {
		return true, nil
	}
	return false, err
}
