// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// overflowID is the ID that the kernel shows for one that isn't mapped in the
// reader's user namespace (user_namespaces(7), "Unmapped user and group IDs").
const overflowID = 65534

// rootUID is the UID as which files of host root show in a user namespace whose
// uid_map is given: the one that UID 0 is mapped to, or the overflow ID where it
// isn't mapped. Then UID 0 isn't host root but whoever made the namespace, so
// never both are right.
//
// A map is counted in the namespace's parent. Where that isn't the host, root
// of the parent is taken for root of the host: nothing shows the difference.
func rootUID(uidMap string) (uint32, error) {
	m, err := idmap.ParseMap(uidMap)
	if err != nil {
		return 0, fmt.Errorf("uid map of this process: %w", err)
	}
	if inner, ok := m.ToInner(0); ok {
		return inner, nil
	}
	return overflowID, nil
}

// openSafe opens path, held by its descriptor from here on, and refuses it
// unless only root could have written it: a symbolic link or anything else than
// a regular file (or a directory, if that is wanted), an owner other than root,
// or write permission for anybody else. Opening never blocks, and never leaves
// a descriptor to children.
//
// dir is the directory that name is below, or nil if name is path itself. A
// missing file is an error wrapping fs.ErrNotExist.
func openSafe(dir *os.File, name, path string, directory bool, root uint32) (*os.File, error) {
	at := unix.AT_FDCWD
	if dir != nil {
		at = int(dir.Fd())
	}
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, unsafeFile(path, "is a symbolic link", kind(directory), "put what it points to in its place")
	case errors.Is(err, unix.ENXIO): // a socket
		return nil, unsafeFile(path, "is neither a file nor a directory", kind(directory), "move it away")
	case err != nil:
		return nil, fmt.Errorf("book: %s: open: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("book: %s: stat: %w", path, err), f.Close())
	}
	if err := checkSafe(path, &st, directory, root); err != nil {
		// Nothing was written: closing can't lose anything.
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func checkSafe(path string, st *unix.Stat_t, directory bool, root uint32) error {
	want := uint32(unix.S_IFREG)
	if directory {
		want = unix.S_IFDIR
	}
	if st.Mode&unix.S_IFMT != want {
		return unsafeFile(path, "is "+fileType(st.Mode), kind(directory), "move it away")
	}
	var bad problems
	if st.Uid != root {
		bad.add(unsafeFile(path, fmt.Sprintf("is owned by UID %d", st.Uid),
			fmt.Sprintf("root, who is UID %d here", root), "chown root: "+shellQuote(path)))
	}
	// An ACL that lets a named user write shows in the group bits, which are
	// its mask (acl(5)).
	if st.Mode&0o022 != 0 {
		bad.add(unsafeFile(path, fmt.Sprintf("has mode %04o, writable by others than its owner", st.Mode&0o7777),
			"no write permission for group and others", "chmod go-w "+shellQuote(path)))
	}
	return bad.join()
}

func unsafeFile(path, seen, expected, mend string) error {
	return fmt.Errorf("book: %s: %s: expected %s: %s", path, seen, expected, mend)
}

func kind(directory bool) string {
	if directory {
		return "a directory"
	}
	return "a regular file"
}

func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "neither a file nor a directory"
}

// readSafe is the whole of a file of the book, opened by openSafe's rules. A
// file that is written to meanwhile is refused: half a line is another grant.
func readSafe(dir *os.File, name, path string, root uint32) (data []byte, err error) {
	f, err := openSafe(dir, name, path, false, root)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	before, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("book: %s: stat: %w", path, err)
	}
	if before.Size() > maxFile {
		return nil, fmt.Errorf("book: %s: %d bytes: expected at most %d: split it into drop-ins", path, before.Size(), maxFile)
	}
	// One byte more than there should be, to see the end.
	data = make([]byte, before.Size()+1)
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("book: %s: read: %w", path, err)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("book: %s: stat: %w", path, err)
	}
	if int64(n) != before.Size() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return nil, fmt.Errorf("book: %s: was written to while it was read: expected it to be replaced whole: try again", path)
	}
	return data[:n], nil
}
