// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// cleanPath is the name of an entry, or the target of a hard link, as a path below the
// top: without the slashes of an absolute name, "." and "..", and empty for the top
// itself. One that climbs beyond the top is refused, of an absolute name as well.
func cleanPath(name string) (string, error) {
	if strings.Contains(name, "..") {
		depth := 0
		for part := range strings.SplitSeq(name, "/") {
			switch part {
			case "", ".":
			case "..":
				depth--
			default:
				depth++
			}
			if depth < 0 {
				return "", errors.New(`climbs by ".." beyond the top: expected a path below it`)
			}
		}
	}
	return path.Clean("/" + name)[1:], nil
}

// split is the directory of a clean path, "" for the top, and the name in it.
func split(clean string) (dir, base string) {
	i := strings.LastIndexByte(clean, '/')
	return clean[:max(i, 0)], clean[i+1:]
}

// inEntry says of which entry, or file in a directory, an error is.
func inEntry(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%q: %w", shortened(name), bare(err))
}

// shortened is a name for a message, of which a hostile archive has very long ones.
func shortened(name string) string {
	const most = 300 // bytes: more than a file's own name
	if len(name) <= most {
		return name
	}
	return name[:most/2] + "..." + name[len(name)-most/2:]
}

// inFile is as inEntry, of a path.
func inFile(at string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", at, bare(err))
}

// bare drops the path from the error of a system call, which is but the last name of the
// one that is put before it, and adds what mends it.
func bare(err error) error {
	in, ok := errors.AsType[*os.PathError](err)
	if !ok || err != error(in) { //nolint:errorlint // one that is wrapped has its words already
		return err
	}
	return fmt.Errorf("%s: %w%s", in.Op, in.Err, mend(in.Err))
}

// mend is what to do about an error, after a colon, as far as its number tells.
func mend(err error) string {
	switch {
	case errors.Is(err, linux.ErrNoSpace), errors.Is(err, linux.ErrQuota):
		return ": make room on the filesystem: df and df -i tell how much there is"
	case errors.Is(err, linux.ErrReadOnly):
		return ": mount it read-write: mount -o remount,rw"
	}
	return ""
}
