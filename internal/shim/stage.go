// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
)

// The stage is a mount namespace of our own, in which stageDir has what the
// low-level runtime is given. All containers use the same paths, each in its
// own namespace. It ends with the last process in it; nothing is mounted on the
// host, so nothing is left to unmount, however we end.
const (
	stageUserNS = lease.StagedNS
	stageConfig = stageDir + "/" + oci.ConfigName
	// stageRootfs is there on the host too, empty: runc's exec does a chdir to
	// the path it knows the root filesystem by.
	stageRootfs = stageDir + "/rootfs"
	// stageBinds has the bind mounts that aren't left to the low-level runtime.
	stageBinds = stageDir + "/binds"
	stageSysfs = stageDir + "/sysfs"
	// stageHosts has, with a number behind it, what shows a namespace of the host's.
	stageHosts = stageDir + "/hosts"
	// stageDevices has device nodes of root inside.
	stageDevices = stageDir + "/dev"
	// stageBundle takes the place of a bundle that isn't root's.
	stageBundle = stageDir + "/bundle"
	// stageScratch is for mounts that are gone before the low-level runtime starts.
	stageScratch = stageDir + "/scratch"
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

// enterStage gives the calling thread mounts of its own, with the bundle as the
// working directory. From then on what is opened can be mounted elsewhere; what
// fails leaves nothing behind, since the namespace ends with this process.
func (p *plan) enterStage() error {
	if err := linux.PrivateMounts(); err != nil {
		return fmt.Errorf("private mount namespace: %w", err)
	}
	return p.bundle.Enter()
}

// setStage makes what shall be there when the low-level runtime starts. All of it
// was opened before stageDir is covered.
func (p *plan) setStage(c *call, request rootfs.Request, userns *os.File, patched []byte) (rootfs.Method, error) {
	original, err := p.bundle.OpenConfig(".")
	if err != nil {
		return "", err
	}
	defer original.Close()

	if err := linux.MountTmpfs(stageDir, 0o711); err != nil {
		return "", err
	}
	for _, dir := range []string{stageRootfs, stageScratch} {
		if err := os.Mkdir(dir, 0o711); err != nil {
			return "", err
		}
	}
	if err := p.shiftOnDisk(request.Source); err != nil {
		return "", err
	}
	request.Target, request.Scratch = stageRootfs, stageScratch
	method, err := rootfs.Prepare(request)
	if err != nil {
		return "", err
	}
	if err := p.stageBinds(c, userns); err != nil {
		return "", err
	}
	if err := p.stageDevices(request); err != nil {
		return "", err
	}
	if err := p.stageSys(); err != nil {
		return "", err
	}
	if err := p.stageHosts(); err != nil {
		return "", err
	}
	if err := p.wanted.joins.stage(); err != nil {
		return "", err
	}
	if err := bindNamespace(userns, stageUserNS); err != nil {
		return "", err
	}
	if p.cover {
		err = p.coverBundle(patched)
	} else {
		err = bindConfig(p.bundle, original, patched)
	}
	if err != nil {
		return "", err
	}
	return method, p.setUpNetwork(c)
}

// openRootfs opens the root filesystem, and refuses a path with a symbolic link
// in it, as runc does.
func (p *plan) openRootfs() (*os.File, error) {
	path := p.bundle.Spec.Root.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(p.bundle.Dir, path)
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

// bindNamespace mounts a namespace on a new file at path.
func bindNamespace(ns *os.File, path string) error {
	mountpoint, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	defer mountpoint.Close()
	return linux.BindFile(ns, mountpoint)
}

// bindConfig covers the bundle's config.json with the patched one, which has
// the same mode.
func bindConfig(bundle *oci.Bundle, original *os.File, patched []byte) error {
	f, err := createConfig(stageConfig, bundle, patched)
	if err != nil {
		return err
	}
	defer f.Close()
	return linux.BindFile(f, original)
}

// createConfig makes the patched config.json at a path that isn't there, with the
// mode of the bundle's own.
func createConfig(path string, bundle *oci.Bundle, patched []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(patched)
	if err = errors.Join(err, f.Chmod(bundle.Mode())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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
