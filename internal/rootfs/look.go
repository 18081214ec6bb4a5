// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// ExposedBy is a path by which others than root can walk to the file or directory at path,
// by the rules by which a container's files are refused ([ErrExposed]); "" if there is none.
// It needs root, whom no directory keeps out.
func ExposedBy(path string) (string, error) {
	file, err := linux.OpenPlace(path, false)
	if err != nil {
		return "", err
	}
	defer file.Close()
	mounts, err := Mounts()
	if err != nil {
		return "", err
	}
	return exposedBy(file, mounts)
}

// TryIDMap says whether the owners in a directory can be shifted, by doing so on a clone of
// its mount, which is attached nowhere and goes at once. [ErrNoIDMap] says that the
// filesystem, or the kernel, doesn't allow it. It needs root.
func TryIDMap(dir string) (err error) {
	source, err := linux.OpenPlace(dir, true)
	if err != nil {
		return err
	}
	defer source.Close()
	tree, err := linux.CloneMount(source)
	if err != nil {
		return err
	}
	defer tree.Close()
	return shift(tree, func(err error) error { return noIDMap(source, err) })
}

// TryTmpfs is as [TryIDMap], of a tmpfs of its own.
func TryTmpfs() error {
	fs, err := linux.OpenFilesystem("tmpfs")
	if err != nil {
		return err
	}
	defer fs.Close()
	tree, err := fs.Mount(0)
	if err != nil {
		return err
	}
	defer tree.Close()
	return shift(tree, func(err error) error { return fmt.Errorf("tmpfs: %w: %w", ErrNoIDMap, err) })
}

// shift shifts the owners of a clone by any namespace; where that can't be, explain says why not.
func shift(tree *linux.Tree, explain func(error) error) error {
	userns, err := anyUserNS()
	if err != nil {
		return err
	}
	defer userns.Close()
	if err := tree.IDMap(userns); err != nil {
		return explain(err)
	}
	return nil
}

// TryOverlay says whether the kernel has overlay, whose module it loads for that, and whether
// it takes layers by descriptor. Nothing is mounted. It needs root.
func TryOverlay() (descriptors bool, err error) {
	fs, err := linux.OpenFilesystem("overlay")
	if err != nil {
		return false, err
	}
	defer fs.Close()
	layer, err := linux.OpenPlace("/", true)
	if err != nil {
		return false, err
	}
	defer layer.Close()
	return fs.SetFile("lowerdir+", layer) == nil, nil
}

// anyUserNS is a new user namespace, to shift owners by. What it maps is an ID that no
// container can have (65534), so that it is in nobody's way while it lives.
func anyUserNS() (userns *os.File, err error) {
	child, err := linux.ParkInNewUserNS()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, child.Close()) }()
	for _, file := range []string{"uid_map", "gid_map"} {
		if err := child.WriteFile(file, "0 65534 1"); err != nil {
			return nil, err
		}
	}
	return child.UserNS()
}

// TryUserNS says whether this kernel makes user namespaces for the caller, by making one.
func TryUserNS() error {
	child, err := linux.ParkInNewUserNS()
	if err != nil {
		return err
	}
	return child.Close()
}
