// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Audit is a file of JSON lines that many processes append to at once. It may
// be used from several goroutines.
type Audit struct{ path string }

// OpenAudit names the file. Nothing is touched before the first Write.
func OpenAudit(path string) *Audit { return &Audit{path: path} }

// Write appends record, in JSON, as one line by one write(2) with O_APPEND,
// which Linux keeps whole beside other writers on a local filesystem (open(2);
// NFS doesn't). It isn't synced to disk.
//
// A missing file is created with mode 0640, and a missing parent directory,
// though not its parents, with 0750, both less the umask. The file is opened
// for each record, so that it can be rotated by renaming. Anything but a
// regular file is refused, and a symlink too.
//
// A write cut short, as on a full disk, is an error. Its beginning stays in
// the file, since cutting it off could hit another writer's line.
func (a *Audit) Write(record any) error {
	if err := a.write(record); err != nil {
		return fmt.Errorf("audit: %s: %w", a.path, err)
	}
	return nil
}

// Check says whether [Audit.Write] could write, as far as that can be told without writing.
func (a *Audit) Check() error {
	fd, err := a.openFile(0)
	if err == nil {
		return os.NewSyscallError("close", unix.Close(fd))
	}
	if errors.Is(err, unix.ENOENT) {
		dir := filepath.Dir(a.path)
		if err = unix.Access(dir, unix.W_OK); errors.Is(err, unix.ENOENT) {
			dir = filepath.Dir(dir) // in which it would be made
			err = unix.Access(dir, unix.W_OK)
		}
		if err == nil {
			return nil
		}
		err = &os.PathError{Op: "access", Path: dir, Err: err}
	}
	return fmt.Errorf("audit: %s: %w", a.path, err)
}

func (a *Audit) write(record any) error {
	line, err := jsonLine(record, false)
	if err != nil {
		return fmt.Errorf("make a record: %w", err)
	}
	fd, err := a.open()
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, line)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Write(fd, line)
	}
	err = os.NewSyscallError("write", err)
	if err == nil && n < len(line) {
		err = fmt.Errorf("only %d of %d bytes were written: the disk may be full", n, len(line))
	}
	// A filesystem may tell only at close that the data went nowhere.
	return errors.Join(err, os.NewSyscallError("close", unix.Close(fd)))
}

func (a *Audit) open() (int, error) {
	fd, err := a.openFile(unix.O_CREAT)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	merr := unix.Mkdir(filepath.Dir(a.path), 0o750)
	if merr != nil && !errors.Is(merr, unix.EEXIST) {
		return -1, fmt.Errorf("make its directory: %w", os.NewSyscallError("mkdir", merr))
	}
	return a.openFile(unix.O_CREAT)
}

func (a *Audit) openFile(create int) (int, error) {
	// O_NONBLOCK: a FIFO put in this place mustn't stop every container.
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := open(a.path, flags|create, 0o640)
	switch {
	case errors.Is(err, unix.ELOOP):
		return -1, fmt.Errorf("is a symlink, expected a regular file: %w", err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.EISDIR):
		return -1, fmt.Errorf("not a regular file: %w", err)
	case err != nil:
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("not a regular file (type and mode %#o)", st.Mode)
	}
	return fd, nil
}

// jsonLine is v as JSON and a newline. Newlines in values are escaped, and
// bytes that aren't UTF-8 become U+FFFD, so one record is always one line.
func jsonLine(v any, escapeHTML bool) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(escapeHTML)
	err := enc.Encode(v)
	return b.Bytes(), err
}
