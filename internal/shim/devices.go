// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// stageDevices gives root inside the nodes that every container has. In a user
// namespace runc can't make them, and binds the host's, which are nobody's there.
// So in the stage others, with the same numbers, are mounted over the host's: runc
// binds those. The host's own aren't touched.
//
// A caller who may not make nodes goes on without.
func (p *plan) stageDevices(request rootfs.Request) error {
	if !request.HasRoot {
		return nil
	}
	if err := os.Mkdir(stageDevices, 0o711); err != nil {
		return err
	}
	if err := linux.MountDevTmpfs(stageDevices, 0o711); err != nil {
		return err
	}
	for path, numbers := range specpatch.DefaultDevices {
		node := filepath.Join(stageDevices, filepath.Base(path))
		err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(uint32(numbers[0]), uint32(numbers[1]))))
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "mknod", Path: node, Err: err}
		}
		// The caller's umask may have taken bits away.
		//nolint:gosec // G302: everybody may use these devices
		if err := errors.Join(os.Chmod(node, 0o666), os.Lchown(node, int(request.RootUID), int(request.RootGID))); err != nil {
			return err
		}
		if err := bindOver(node, path); err != nil {
			return err
		}
	}
	return nil
}

// bindOver mounts the file at source over the one at target, if there is one.
func bindOver(source, target string) error {
	on, err := linux.OpenPlace(target, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer on.Close()
	from, err := linux.OpenPlace(source, false)
	if err != nil {
		return err
	}
	defer from.Close()
	return linux.BindFile(from, on)
}
