// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
)

// The stage is a mount namespace of our own, in which stageDir has what the
// low-level runtime is given. All containers use the same paths, each in its
// own namespace. It ends with the last process in it; nothing is mounted on the
// host, so nothing is left to unmount, however we end.
const (
	stageUserNS = stageDir + "/userns"
	stageConfig = stageDir + "/" + oci.ConfigName
	// stageRootfs is there on the host too, empty: runc's exec does a chdir to
	// the path it knows the root filesystem by.
	stageRootfs = stageDir + "/rootfs"
)

// makeStageDirs makes the directories that a stage is mounted on. They stay: they
// are as much part of the host as /run/lock is. Root inside must be able to
// walk through them, hence 0711.
func makeStageDirs(root uint32) error {
	for _, dir := range []string{runDir, stageDir, stageRootfs} {
		if err := os.Mkdir(dir, 0o711); err == nil {
			// The caller's umask may have taken bits away.
			err = os.Chmod(dir, 0o711)
			if err != nil {
				return err
			}
		} else if !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%w: %s", err, stageHint())
		}
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: dir, Err: err}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != root || st.Mode&0o133 != 0o111 {
			return fmt.Errorf("%s: UID %d owns it, mode %06o: expected a directory of root, mode 0711: remove it, then %s", dir, st.Uid, st.Mode, stageHint())
		}
	}
	return nil
}

func stageHint() string {
	return fmt.Sprintf("run `sudo install -d -m 0711 %s %s %s`", runDir, stageDir, stageRootfs)
}

// stage is what shall be there when the low-level runtime starts.
type stage struct {
	bundle  *oci.Bundle
	config  []byte // the patched config.json
	userns  *os.File
	request rootfs.Request // Source and Target are filled in here
	rootfs  string         // root.path, which may be relative to the bundle
}

// set moves the calling thread to the stage, with the bundle as its working
// directory. What fails leaves nothing behind: the namespace ends with this
// process.
func (s *stage) set() (rootfs.Method, error) {
	if err := linux.PrivateMounts(); err != nil {
		return "", fmt.Errorf("private mount namespace: %w", err)
	}
	if err := s.bundle.Enter(); err != nil {
		return "", err
	}
	// Opened before stageDir is covered, and in the namespace that it is
	// cloned in.
	source, err := s.openRootfs()
	if err != nil {
		return "", err
	}
	defer source.Close()
	original, err := s.bundle.OpenConfig(".")
	if err != nil {
		return "", err
	}
	defer original.Close()

	if err := linux.MountTmpfs(stageDir, 0o711); err != nil {
		return "", err
	}
	if err := os.Mkdir(stageRootfs, 0o711); err != nil {
		return "", err
	}
	s.request.Source, s.request.Target = source, stageRootfs
	method, err := rootfs.Prepare(s.request)
	if err != nil {
		return "", err
	}
	if err := bindUserNS(s.userns); err != nil {
		return "", err
	}
	return method, s.bindConfig(original)
}

// openRootfs opens the root filesystem, and refuses a path with a symbolic link
// in it, as runc does.
func (s *stage) openRootfs() (*os.File, error) {
	path := s.rootfs
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.bundle.Dir, path)
	}
	source, err := rootfs.Open(path)
	if err != nil {
		return nil, err
	}
	if source.Name() != filepath.Clean(path) {
		return nil, errors.Join(fmt.Errorf("root filesystem: %s: it has a symbolic link in it, which runc doesn't take: expected %s in root.path", path, source.Name()), source.Close())
	}
	return source, nil
}

func bindUserNS(ns *os.File) error {
	mountpoint, err := os.OpenFile(stageUserNS, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	defer mountpoint.Close()
	return linux.BindFile(ns, mountpoint)
}

// bindConfig covers the bundle's config.json with the patched one, which has
// the same mode.
func (s *stage) bindConfig(original *os.File) error {
	f, err := os.OpenFile(stageConfig, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(s.config); err != nil {
		return err
	}
	if err := f.Chmod(s.bundle.Mode()); err != nil {
		return err
	}
	return linux.BindFile(f, original)
}

// absolute replaces a path that was given relative to our working directory,
// before it becomes the bundle. The empty path stays empty.
func absolute(path *string) error {
	if *path == "" || filepath.IsAbs(*path) {
		return nil
	}
	abs, err := filepath.Abs(*path)
	if err == nil {
		*path = abs
	}
	return err
}
