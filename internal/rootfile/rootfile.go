// SPDX-License-Identifier: Apache-2.0

package rootfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// SizeError is the error for a file that is larger than the caller wanted; what
// to do about it depends on the file.
type SizeError struct {
	Path       string
	Size, Most int64 // bytes
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%s: %d bytes: expected at most %d", e.Path, e.Size, e.Most)
}

// Read is the whole of a regular file of at most that many bytes. It refuses a
// symbolic link in its place or any other kind of file, an owner other than
// root, write permission for anybody else, and a file that is written to
// meanwhile: half a line may say something else. It never blocks.
//
// root is the UID as which host root shows in this process's user namespace.
// A missing file is an error wrapping fs.ErrNotExist, one that is too large a
// [*SizeError].
func Read(path string, most int64, root uint32) ([]byte, error) {
	return readAt(unix.AT_FDCWD, path, path, most, root)
}

// Dir is an open directory that only root could have written.
type Dir struct {
	file
	root uint32
}

// OpenDir opens a directory by the rules of [Read], for the caller to close.
// Files that are read through it are in that directory, even if it is renamed
// and another put in its place.
func OpenDir(path string, root uint32) (*Dir, error) {
	f, err := openAt(unix.AT_FDCWD, path, path, unix.S_IFDIR, root)
	if err != nil {
		return nil, err
	}
	return &Dir{f, root}, nil
}

// Close frees the descriptor, and must be called once.
func (d *Dir) Close() { d.close() }

// Names is what the directory holds, in no order, without "." and "..". It can
// be asked for once.
func (d *Dir) Names() ([]string, error) {
	var names []string
	buf := make([]byte, 8<<10)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(d.fd, buf) })
		if err != nil {
			return nil, fmt.Errorf("%s: list: %w", d.path, err)
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// Read is [Read] for one of the directory's [Dir.Names].
func (d *Dir) Read(name string, most int64) ([]byte, error) {
	return readAt(d.fd, name, filepath.Join(d.path, name), most, d.root)
}

// OwnUIDMap is the text of /proc/self/uid_map (user_namespaces(7)). Its errors
// wrap nothing: a host without /proc mustn't pass for one without the file that
// the map is wanted for.
func OwnUIDMap() (string, error) { return uidMap("/proc/self/uid_map") }

func uidMap(path string) (string, error) {
	fd, err := open(unix.AT_FDCWD, path)
	if err != nil {
		return "", fmt.Errorf("uid map of this process: %s: open: %s", path, err.Error())
	}
	f := file{fd: fd, path: path}
	defer f.close()
	data := make([]byte, 64<<10) // the kernel's longest is 340 lines of 33 bytes
	n, err := f.fill(data)
	if err != nil {
		return "", fmt.Errorf("uid map of this process: %s: read: %s", path, err.Error())
	}
	return string(data[:n]), nil
}

// file is an open file, with its state when it was judged.
type file struct {
	fd   int
	path string // for messages
	stat unix.Stat_t
}

func readAt(dir int, name, path string, most int64, root uint32) ([]byte, error) {
	f, err := openAt(dir, name, path, unix.S_IFREG, root)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.read(most)
}

// openAt opens and judges name, below the open directory. want is S_IFREG or
// S_IFDIR.
func openAt(dir int, name, path string, want, root uint32) (file, error) {
	fd, err := open(dir, name)
	switch {
	case errors.Is(err, unix.ELOOP):
		return file{}, refuse(path, "is a symbolic link", kind(want), "put what it points to in its place")
	case errors.Is(err, unix.ENXIO): // a socket
		return file{}, refuse(path, "is "+kind(unix.S_IFSOCK), kind(want), "move it away")
	case err != nil:
		return file{}, fmt.Errorf("%s: open: %w", path, err)
	}
	f := file{fd: fd, path: path}
	err = f.look(&f.stat)
	if err == nil {
		err = judge(path, &f.stat, want, root)
	}
	if err != nil {
		f.close()
		return file{}, err
	}
	return f, nil
}

func open(dir int, name string) (int, error) {
	// O_NONBLOCK: a FIFO must be refused, not waited for. O_NOCTTY: a terminal
	// must be refused, not become ours.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	return retry(func() (int, error) { return unix.Openat(dir, name, flags, 0) })
}

// judge names everything that is wrong at once, and one command against it.
func judge(path string, st *unix.Stat_t, want, root uint32) error {
	if st.Mode&unix.S_IFMT != want {
		return refuse(path, "is "+kind(st.Mode), kind(want), "move it away")
	}
	var seen, expected, mend []string
	if st.Uid != root {
		seen = append(seen, fmt.Sprintf("is owned by UID %d", st.Uid))
		expected = append(expected, fmt.Sprintf("root, who is UID %d here", root))
		mend = append(mend, "chown root: "+ShellQuote(path))
	}
	// An ACL that lets a named user write shows in the group bits, which are
	// its mask (acl(5)).
	if st.Mode&0o022 != 0 {
		seen = append(seen, fmt.Sprintf("has mode %04o, writable by others than its owner", st.Mode&0o7777))
		expected = append(expected, "no write permission for group and others")
		mend = append(mend, "chmod go-w "+ShellQuote(path))
	}
	if seen == nil {
		return nil
	}
	return refuse(path, strings.Join(seen, " and "), strings.Join(expected, ", and "), strings.Join(mend, " && "))
}

func refuse(path, seen, expected, mend string) error {
	return fmt.Errorf("%s: %s: expected %s: %s", path, seen, expected, mend)
}

// kind is the type of file in a mode (inode(7)).
func kind(mode uint32) string {
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

// read is the whole file as it was when it was judged.
func (f *file) read(most int64) ([]byte, error) {
	size := f.stat.Size
	if size > most {
		return nil, &SizeError{f.path, size, most}
	}
	// One byte more than there should be, to see the end.
	data := make([]byte, size+1)
	n, err := f.fill(data)
	if err != nil {
		return nil, fmt.Errorf("%s: read: %w", f.path, err)
	}
	// Not the time of change: a file that is replaced whole by rename(2) while
	// it is read loses its name, and nothing else.
	var after unix.Stat_t
	if err := f.look(&after); err != nil {
		return nil, err
	}
	if int64(n) != size || after.Size != size || after.Mtim != f.stat.Mtim {
		return nil, refuse(f.path, "was written to while it was read", "it to be replaced whole", "try again")
	}
	return data[:n], nil
}

// fill reads until the end of the file or of data.
func (f *file) fill(data []byte) (int, error) {
	n := 0
	for n < len(data) {
		got, err := retry(func() (int, error) { return unix.Read(f.fd, data[n:]) })
		if err != nil {
			return 0, err
		}
		if got == 0 {
			break
		}
		n += got
	}
	return n, nil
}

func (f *file) look(st *unix.Stat_t) error {
	if _, err := retry(func() (int, error) { return 0, unix.Fstat(f.fd, st) }); err != nil {
		return fmt.Errorf("%s: stat: %w", f.path, err)
	}
	return nil
}

// close can't lose anything: nothing was written.
func (f *file) close() { _ = unix.Close(f.fd) }

// retry calls again when a signal interrupts, as package os does.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// ShellQuote makes text one word of a command in a message, bare if it can be.
func ShellQuote(text string) string {
	odd := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("/._-", r)
	}
	if text != "" && !strings.ContainsFunc(text, odd) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
