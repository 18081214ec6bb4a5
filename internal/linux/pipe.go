// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// SetPipeSize gives a pipe room for so many bytes, rounded up to a power of two of pages
// (F_SETPIPE_SZ, fcntl(2)). It is EBADF for what isn't a pipe, and EPERM beyond what a
// user may have (/proc/sys/fs/pipe-max-size, pipe-user-pages-soft).
func SetPipeSize(f *os.File, size int) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, size); err != nil {
		return &os.PathError{Op: "fcntl(F_SETPIPE_SZ)", Path: f.Name(), Err: err}
	}
	return nil
}
