// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// Place is where a directory is, wherever its filesystem is mounted.
type Place struct {
	Device     string // of the filesystem: "8:1"
	Filesystem string // what it is, for another may have the number by now: "nfs4 server:/export ..."
	Path       string // on it
}

// PlaceOf is the place of an open directory, by mounts that were listed after it was opened.
func PlaceOf(dir *os.File, mounts []*mountinfo.Info) (Place, error) {
	m, err := mountOf(dir, mounts)
	if err != nil {
		return Place{}, err
	}
	below, ok := under(m.Mountpoint, dir.Name())
	if !ok {
		return Place{}, errors.New(dir.Name() + ": it doesn't lie below its mount point " + m.Mountpoint)
	}
	return Place{device(m), filesystem(m), filepath.Join(m.Root, below)}, nil
}

func device(m *mountinfo.Info) string { return strconv.Itoa(m.Major) + ":" + strconv.Itoa(m.Minor) }

// filesystem is what a mount says of its filesystem, but for whether it may be written to.
func filesystem(m *mountinfo.Info) string {
	options := slices.DeleteFunc(strings.Split(m.VFSOptions, ","), func(o string) bool { return o == "ro" || o == "rw" })
	return m.FSType + " " + m.Source + " " + strings.Join(options, ",")
}

// Find opens the directory that was known by the path, and had this place then, on whichever mount it is
// now. is says whether an open directory is the one.
//
// nil without an error says that it is gone: its filesystem is there, and it isn't. Not to be found is
// an error that wraps fs.ErrNotExist. Numbers of devices are given anew at each boot, and those of filesystems
// without a device as they are mounted, so that a number alone doesn't say that it is there; sameBoot says
// that it means what it did then.
func Find(path string, place Place, sameBoot bool, is func(*os.File) bool) (*os.File, error) {
	mounts, err := Mounts()
	if err != nil {
		return nil, err
	}
	paths := []string{path}
	there := false
	numbered := strings.HasPrefix(place.Device, "0:")
	for _, m := range mounts {
		if device(m) != place.Device || numbered && !sameBoot {
			continue
		}
		if below, ok := under(m.Root, place.Path); ok {
			there = there || sameBoot && filesystem(m) == place.Filesystem
			paths = append(paths, filepath.Join(m.Mountpoint, below))
		}
	}
	for _, path := range paths {
		dir, err := linux.OpenPlace(path, true)
		if err != nil {
			continue // it isn't here
		}
		if is(dir) {
			return dir, nil
		}
		dir.Close()
	}
	if there {
		return nil, nil
	}
	return nil, &os.PathError{Op: "find", Path: path, Err: fs.ErrNotExist}
}
