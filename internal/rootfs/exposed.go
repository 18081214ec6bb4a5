// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrExposed is wrapped when a directory whose owners would be shifted can be
// reached by somebody on the host who isn't root.
var ErrExposed = errors.New("others than root can reach it")

// Root inside may leave a setuid program in its own root filesystem. Through an
// idmapped mount it is stored as root's, so whoever can reach it by any path on
// the host becomes root there. A directory is safe when, on every path to it,
// some directory above it is closed to all but root.

func refuseExposed(dir *os.File, mounts []*mountinfo.Info) error {
	by, err := exposedBy(dir, mounts)
	if err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	if by == "" {
		return nil
	}
	return fmt.Errorf("root filesystem: %s: %w (by %s), and root inside could leave a setuid program there that is root's outside: "+
		"move it below a directory that only root can enter, as `install -d -m 0700 DIR` makes one, or accept it with exposed-rootfs = 'allow' in the configuration",
		dir.Name(), ErrExposed, by)
}

// exposedBy is a path by which others than root can walk to the file, or if it is
// a directory to something below it; "" if there is none.
func exposedBy(file *os.File, mounts []*mountinfo.Info) (string, error) {
	home, err := mountOf(file, mounts)
	if err != nil {
		return "", err
	}
	paths, err := places(file.Name(), home, mounts)
	if err != nil {
		return "", err
	}
	known := walker{}
	for _, path := range paths {
		if closed, err := known.closedAbove(path); err != nil || !closed {
			return path, err
		}
	}
	// An overlay shows its layers at a place of its own. To know whose they are
	// takes a look at each layer, so it comes after the cheap question.
	for _, m := range mounts {
		if m.FSType != "overlay" || nosuid(m) {
			continue
		}
		closed, err := known.closedAbove(m.Mountpoint)
		if err != nil {
			return m.Mountpoint, err
		}
		if !closed && layersTouch(m.VFSOptions, paths) {
			return m.Mountpoint, nil
		}
	}
	return "", nil
}

// places is all paths at which the file at path, which lies on the mount home,
// or one below it, can be found in the mount namespace that mounts lists:
// through its own mount, and through every other mount of the same filesystem
// that shows it or a part of it. Mounts without setuid programs (nosuid) are left out.
//
// path must be absolute and free of symbolic links.
func places(path string, home *mountinfo.Info, mounts []*mountinfo.Info) ([]string, error) {
	below, ok := under(home.Mountpoint, path)
	if !ok {
		return nil, fmt.Errorf("%s: it doesn't lie below its mount point %s", path, home.Mountpoint)
	}
	// The place of the file in its filesystem.
	place := filepath.Join(home.Root, below)

	var paths []string
	for _, m := range mounts {
		if m.Major != home.Major || m.Minor != home.Minor || nosuid(m) {
			continue
		}
		if below, ok := under(m.Root, place); ok {
			paths = append(paths, filepath.Join(m.Mountpoint, below))
		} else if _, ok := under(place, m.Root); ok {
			paths = append(paths, m.Mountpoint)
		}
	}
	return paths, nil
}

// layersTouch says whether a layer of an overlay is one of the paths, or lies
// above or below one. A layer that can't be found, since it is named relative to
// a directory that only its mounter knows, may be one.
func layersTouch(options string, paths []string) bool {
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		if name != "lowerdir" && name != "upperdir" && name != "lowerdir+" && name != "datadir+" {
			continue
		}
		for layer := range strings.SplitSeq(value, ":") {
			if layer == "" {
				continue // between two colons: what follows holds data only
			}
			// Engines name layers by symbolic links.
			if real, err := filepath.EvalSymlinks(layer); err == nil {
				layer = real
			}
			if !filepath.IsAbs(layer) || strings.Contains(layer, `\`) {
				return true
			}
			for _, path := range paths {
				_, above := under(layer, path)
				_, below := under(path, layer)
				if above || below {
					return true
				}
			}
		}
	}
	return false
}

func nosuid(m *mountinfo.Info) bool {
	for option := range strings.SplitSeq(m.Options, ",") {
		if option == "nosuid" {
			return true
		}
	}
	return false
}

// under is the part of path below dir; ok is false when it doesn't lie there.
func under(dir, path string) (below string, ok bool) {
	if dir == "/" {
		return strings.TrimPrefix(path, "/"), true
	}
	rest, ok := strings.CutPrefix(path, dir)
	if !ok || (rest != "" && rest[0] != '/') {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), true
}

// walker remembers what it knows of directories.
type walker map[string]bool

// closedAbove says whether some directory above path lets in nobody but root.
// The file at path itself doesn't count: root inside owns it, and may open
// it to anyone. A path that isn't there (hidden below another mount) can't be
// walked by anybody and is closed.
func (w walker) closedAbove(path string) (bool, error) {
	dir := filepath.Dir(path)
	if known, ok := w[dir]; ok {
		return known, nil
	}
	var st unix.Stat_t
	err := unix.Lstat(dir, &st)
	is := false
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		is = true
	case err != nil:
		return false, &os.PathError{Op: "lstat", Path: dir, Err: err}
	case closed(&st) && !hasACL(dir, &st):
		is = true
	case dir != "/":
		if is, err = w.closedAbove(dir); err != nil {
			return false, err
		}
	}
	w[dir] = is
	return is, nil
}

// closed says whether the mode lets in nobody but root. Root's own group may
// be let in, as Docker does with its data root (0710).
func closed(st *unix.Stat_t) bool {
	if st.Uid != 0 || st.Mode&unix.S_IXOTH != 0 {
		return false
	}
	return st.Mode&unix.S_IXGRP == 0 || st.Gid == 0
}

// hasACL says whether an access control list may let in more than the mode
// shows. The group bits are the list's mask then (acl(5)), so without S_IXGRP
// it lets in nobody else. An error other than "there is none" counts as a list.
func hasACL(dir string, st *unix.Stat_t) bool {
	if st.Mode&unix.S_IXGRP == 0 {
		return false
	}
	_, err := unix.Lgetxattr(dir, "system.posix_acl_access", nil)
	return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP)
}
