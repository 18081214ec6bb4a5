// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FileText is a text to be written to a file in one write(2), or, without one, a file to
// be read.
type FileText struct{ Path, Text string }

// fileStep is a FileText as the child takes it.
type fileStep struct {
	path, data *byte
	size       uintptr // of what is written; 0 to read
}

// maxFileText is how much is read of a file.
const maxFileText = 64

// InUserNS opens files in a child that has joined the user namespace ns is open on, and writes or reads them,
// one after the other. What is below /proc/sys/user, and who may map a namespace, depends on
// the user namespace of the process that opens the file (user_namespaces(7)). read is what the last of
// those that are read has, as far as its first bytes go.
//
// It needs CAP_SYS_ADMIN in the namespace. Errors are *os.PathError, or *os.SyscallError of setns.
func InUserNS(ns *os.File, files ...FileText) (read string, err error) {
	steps := make([]fileStep, len(files)+1)
	for i, f := range files {
		if steps[i].path, err = unix.BytePtrFromString(f.Path); err != nil {
			return "", &os.PathError{Op: "open", Path: f.Path, Err: err}
		}
		if f.Text != "" {
			text := []byte(f.Text)
			steps[i].data, steps[i].size = &text[0], uintptr(len(text))
		}
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return "", os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])
	pid, err := forked(func(*unix.Sigset_t) (uintptr, syscall.Errno) {
		return forkFiles(int(ns.Fd()), &steps[0], len(files), pipe[1], unix.Getpid())
	})
	unix.Close(pipe[1])
	if err != nil {
		if pid != 0 {
			err = errors.Join(err, endChild(pid))
		}
		return "", err
	}
	var report []byte
	for {
		var text [recordSize + maxFileText]byte
		n, err := hear(pid, pipe[0], text[:])
		if err != nil {
			return "", errors.Join(fmt.Errorf("child in user namespace %s: %w", ns.Name(), err), endChild(pid))
		}
		if n == 0 {
			break
		}
		report = append(report, text[:n]...)
	}
	if err := endChild(pid); err != nil {
		return "", err
	}
	if len(report) < recordSize {
		return "", fmt.Errorf("child in user namespace %s: %w", ns.Name(), ErrChildEnded)
	}
	at, errno := int32(binary.NativeEndian.Uint32(report)), syscall.Errno(binary.NativeEndian.Uint32(report[4:]))
	switch {
	case errno == 0:
		return string(report[recordSize:]), nil
	case at < 0:
		return "", os.NewSyscallError("setns", errno)
	}
	f := files[at]
	op := "read"
	if f.Text != "" {
		op = "write"
	}
	return "", &os.PathError{Op: op, Path: f.Path, Err: errno}
}

// forkFiles returns in the parent only: see [forkParked].
//
//go:norace
//go:nosplit
func forkFiles(nsfd int, steps *fileStep, count, report, parent int) (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		filesChild(nsfd, steps, count, report, parent)
	}
	return pid, errno
}

// filesChild writes a record, and behind it what was read.
//
//go:norace
//go:nosplit
func filesChild(nsfd int, steps *fileStep, count, report, parent int) {
	var text [maxFileText]byte
	var length uintptr
	dieWith(parent)
	at := int32(-1)
	errno := joinUserNS(nsfd, parent)
	for i := 0; i < count && errno == 0; i++ {
		at = int32(i)
		s := (*fileStep)(unsafe.Add(unsafe.Pointer(steps), uintptr(i)*unsafe.Sizeof(fileStep{})))
		mode := uintptr(unix.O_WRONLY)
		if s.size == 0 {
			mode = unix.O_RDONLY
		}
		const here = -100 // AT_FDCWD
		directory := here
		var fd uintptr
		fd, _, errno = syscall.RawSyscall6(syscall.SYS_OPENAT, uintptr(directory), uintptr(unsafe.Pointer(s.path)), mode, 0, 0, 0)
		if errno != 0 {
			break
		}
		if s.size == 0 {
			length, _, errno = syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&text[0])), maxFileText)
		} else {
			_, _, errno = syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(s.data)), s.size)
		}
		syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	}
	var record [2]uint32
	record[0], record[1] = uint32(at), uint32(errno)
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(report), uintptr(unsafe.Pointer(&record[0])), recordSize)
	if errno == 0 && length > 0 {
		syscall.RawSyscall(syscall.SYS_WRITE, uintptr(report), uintptr(unsafe.Pointer(&text[0])), length)
	}
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
}
