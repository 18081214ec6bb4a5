// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// attributes is what a rewritten file keeps of the one before.
type attributes struct {
	uid, gid     uint32
	mode         uint32 // the twelve bits of chmod(2)
	timed        bool
	atime, mtime unix.Timespec
	xattrs       map[string][]byte
}

// attributesOf is those of an open file.
func attributesOf(f *os.File) (at attributes, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return at, err
	}
	at = attributes{st.Uid, st.Gid, st.Mode & 0o7777, true, st.Atim, st.Mtim, nil}
	at.xattrs, err = xattrsOf(f)
	return at, err
}

// set gives them to a new file of root's. The owner comes first, since chown(2) clears bits of the mode,
// and the times last.
func (at attributes) set(f *os.File) error {
	fd := int(f.Fd())
	if err := unix.Fchown(fd, int(at.uid), int(at.gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, at.mode); err != nil {
		return err
	}
	have, err := xattrsOf(f)
	if err != nil {
		return err
	}
	for name, value := range at.xattrs {
		if old, ok := have[name]; ok && bytes.Equal(old, value) {
			continue // such as the label that a policy gives, and forbids to set
		}
		if err := unix.Fsetxattr(fd, name, value, 0); err != nil {
			return err
		}
	}
	if !at.timed {
		return nil
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, linux.FDPath(f), []unix.Timespec{at.atime, at.mtime}, 0)
}

// xattrsOf is a file's extended attributes (xattr(7)).
func xattrsOf(f *os.File) (map[string][]byte, error) {
	buffer := make([]byte, 64<<10) // the kernel's limit for a list and for a value
	n, err := unix.Flistxattr(int(f.Fd()), buffer)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := make(map[string][]byte)
	for name := range bytes.SplitSeq(bytes.Clone(buffer[:n]), []byte{0}) {
		// Those two are about the bytes of a file: the kernel makes them anew.
		if len(name) == 0 || string(name) == "security.ima" || string(name) == "security.evm" {
			continue
		}
		n, err := unix.Fgetxattr(int(f.Fd()), string(name), buffer)
		if err != nil {
			return nil, err
		}
		all[string(name)] = bytes.Clone(buffer[:n])
	}
	return all, nil
}
