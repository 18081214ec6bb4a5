// SPDX-License-Identifier: Apache-2.0

package census

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Left is a file that belongs to an ID which a line of the book grants, and which nobody
// who is alive has. Containers that end leave such files where a directory of the host was
// bound in as it is; the next one that gets the range owns them.
type Left struct {
	Path     string
	UID, GID uint32
	Line     registry.Line // that grants the UID; if none does, the GID
}

// Files walks through dir, on its filesystem alone, and calls found for each file that was
// left. Symbolic links aren't followed; what ends meanwhile is passed over. mounts is the
// directories that other filesystems are mounted on, which weren't looked into.
//
// Errors of single directories are joined, and don't end the walk.
func (c *Census) Files(b *registry.Book, dir string, found func(Left)) (mounts []string, err error) {
	lines := slices.DeleteFunc(b.Lines(), func(l registry.Line) bool { return l.Flags.Reserved })
	var granted, alive []idmap.Range
	for _, l := range lines {
		granted = append(granted, l.Range)
	}
	for _, u := range c.alive() {
		alive = append(alive, u.IDs.Ranges()...)
	}
	left := searched(idmap.NewSet(granted...).Subtract(idmap.NewSet(alive...)).Ranges())
	lineOf := func(id uint32) (registry.Line, bool) {
		i := slices.IndexFunc(lines, func(l registry.Line) bool { return l.Range.Contains(id) })
		if i < 0 {
			return registry.Line{}, false
		}
		return lines[i], true
	}
	var root unix.Stat_t
	if err := unix.Lstat(dir, &root); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if root.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fmt.Errorf("%s: it isn't a directory: expected one to look through", dir)
	}
	var errs []error
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("bug: lstat of %s gives no owner", path)
		}
		if st.Dev != root.Dev {
			mounts = append(mounts, path)
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		user, group := left.has(st.Uid), left.has(st.Gid)
		if !user && !group {
			return nil
		}
		id := st.Uid
		if !user {
			id = st.Gid
		}
		if line, ok := lineOf(id); ok {
			found(Left{path, st.Uid, st.Gid, line})
		}
		return nil
	})
	return mounts, errors.Join(append(errs, err)...)
}

// searched is IDs in which many are looked for: ranges in order, none of which touch.
type searched []idmap.Range

func (s searched) has(id uint32) bool {
	_, found := slices.BinarySearchFunc(s, id, func(r idmap.Range, id uint32) int {
		switch {
		case r.Contains(id):
			return 0
		case r.Start > id:
			return 1
		}
		return -1
	})
	return found
}
