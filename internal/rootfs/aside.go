// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// check refuses layers that nobody has set aside for root filesystems, that are
// overlays themselves, and an upper one that others can walk to: root inside may
// leave a setuid program there.
func (o *overlay) check() error {
	if err := o.checkAside(); err != nil {
		return err
	}
	for _, layer := range o.layers.all() {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(layer.Fd()), &st); err != nil {
			return fmt.Errorf("root filesystem: %w", &os.PathError{Op: "fstatfs", Path: layer.Name(), Err: err})
		}
		if uint32(st.Type) == unix.OVERLAYFS_SUPER_MAGIC {
			return fmt.Errorf("root filesystem: %s: its layer %s lies on an overlay itself: %w: put the engine's data on ext4, xfs, btrfs or tmpfs",
				o.request.Source.Name(), layer.Name(), ErrNoIDMap)
		}
	}
	if o.layers.upper == nil || o.request.AllowExposed {
		return nil
	}
	// The list of the request is older than the layers are open.
	mounts, err := Mounts()
	if err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	return refuseExposed(o.layers.upper, mounts)
}

// checkAside refuses an overlay that isn't an engine's for a container: that of a live
// system's /, say, or one with / as a layer. Root inside is root of all that is
// in the layers.
//
// An engine mounts it beside the upper layer or in the bundle, and keeps all layers in one place:
// directories of one directory.
func (o *overlay) checkAside() error {
	merged := o.request.Source.Name()
	first := o.layers.all()[0].Name() // the upper one, if there is one
	bases := slices.Clone(o.request.Within)
	if store := grandparent(first); store != "/" && store != "." {
		bases = append(bases, store)
	}
	within := func(path string, bases []string) bool {
		return slices.ContainsFunc(bases, func(dir string) bool {
			below, ok := under(dir, path)
			return ok && below != ""
		})
	}
	beside := o.layers.upper != nil && filepath.Dir(merged) == filepath.Dir(first)
	if o.layers.upper == nil {
		beside = within(merged, bases)
	}
	if !beside && !within(merged, o.request.Within) {
		return outside(fmt.Sprintf("%s: an overlay", merged), append([]string{filepath.Dir(first)}, o.request.Within...))
	}
	for _, layer := range o.layers.all() {
		if !within(layer.Name(), bases) {
			return outside(fmt.Sprintf("%s: an overlay: its layer %s", merged, layer.Name()), bases)
		}
	}
	return nil
}
