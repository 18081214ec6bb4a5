// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

const (
	// maxSize, in bytes, is far above any sensible file.
	maxSize = 1 << 20
	// overflowUID stands for every user outside of the user namespace
	// (user_namespaces(7); the default of /proc/sys/kernel/overflowuid).
	overflowUID = 65534
)

// Load reads the file as [Read] does; if there is none it returns [Default].
func Load(path string) (Config, error) {
	c, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	return c, err
}

// Read reads the file, which must be a regular one, not a symlink, owned by
// the host's root, not writable by group or others, and no larger than 1 MiB.
// Keys that it doesn't hold are as in [Default]. A missing file is an
// [fs.ErrNotExist]. Any other error tells everything that is wrong, a line for
// each; the Config beside it is empty.
func Read(path string) (Config, error) {
	data, err := readTrusted(path, "/proc/self/uid_map")
	if err != nil {
		return Config{}, fmt.Errorf("config: %s: %w", path, err)
	}
	return parse(path, data)
}

// readTrusted looks at the file by descriptor from the first check to the last
// byte, so that what was judged is what is read. uidMap is the file with the
// map of our user namespace.
func readTrusted(path, uidMap string) ([]byte, error) {
	fd, err := openRead(path)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("is a symlink: expected a regular file; put the file itself there: %w", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()

	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("type and mode %#o: expected a regular file", st.Mode)
	}
	var wrong []error
	if err := ownedByRoot(st.Uid, uidMap); err != nil {
		wrong = append(wrong, fmt.Errorf("%w; mend with: chown root %s", err, path))
	}
	if st.Mode&0o022 != 0 {
		wrong = append(wrong, fmt.Errorf("mode %#o: expected one that lets neither group nor others write; mend with: chmod go-w %s",
			st.Mode&0o7777, path))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}

	if st.Size > maxSize {
		return nil, fmt.Errorf("%d bytes: expected at most %d", st.Size, maxSize)
	}
	return readAll(fd, int(st.Size))
}

// openRead and readAll go past package os, which would set up its poller for
// two small files on the way of every container that starts.
func openRead(path string) (int, error) {
	// O_NONBLOCK: a FIFO in its place must be refused, not waited for.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	for {
		fd, err := unix.Open(path, flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, os.NewSyscallError("open", err)
		}
	}
}

// readAll reads to the end of a file of at most that many bytes.
func readAll(fd, most int) ([]byte, error) {
	data := make([]byte, most+1) // one more shows a file that grows
	for n := 0; n < len(data); {
		got, err := unix.Read(fd, data[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, os.NewSyscallError("read", err)
		case got == 0:
			return data[:n], nil
		default:
			n += got
		}
	}
	return nil, fmt.Errorf("more than %d bytes: it grew while it was read", most)
}

// ownedByRoot refuses a UID, as seen from our user namespace, that isn't the
// host's root. Inside a rootless engine's namespace 0 is the user; root has no
// ID there and shows as overflowUID, as does everyone else outside.
func ownedByRoot(uid uint32, uidMap string) error {
	text, err := readMap(uidMap)
	if err != nil {
		// Not wrapped: a host without /proc isn't one without this file.
		return fmt.Errorf("whose file it is: %s: %v", uidMap, err)
	}
	m, err := idmap.ParseMap(string(text))
	if err != nil {
		return fmt.Errorf("whose file it is: %s: %w", uidMap, err)
	}
	root, mapped := m.ToInner(0)
	if !mapped {
		root = overflowUID
	}
	switch {
	case uid == root:
		return nil
	case mapped:
		return fmt.Errorf("owned by UID %d: expected root", uid)
	default:
		return fmt.Errorf("owned by UID %d of this user namespace: expected the host's root, which shows as %d here", uid, overflowUID)
	}
}

func readMap(path string) ([]byte, error) {
	fd, err := openRead(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	return readAll(fd, 64<<10) // the kernel's longest is 340 lines of 33 bytes
}
