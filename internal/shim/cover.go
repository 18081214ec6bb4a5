// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
)

// An engine that chooses the maps itself (Podman with --userns=auto) gives the
// bundle's directory to root inside. Whoever has that ID on the host, in another
// container with the same maps say, could rename a file over config.json, which
// takes our mount on it away, and runc would read one that nobody judged. So the
// whole directory is covered by one of root's, with everything bound into it.

// checkPrivate refuses a bundle that could be changed while it is judged, and
// remembers whether it has to be covered.
func (p *plan) checkPrivate(c *call) error {
	uids, err := p.uids.Into(c.subject.UIDs)
	if err != nil {
		uids = nil // nobody inside then; namespace gives the error
	}
	p.cover, err = p.bundle.CheckPrivate(func(uid uint32) bool {
		_, inside := uids.ToInner(uid)
		return inside && p.wanted.ownRootfs()
	})
	if err != nil || !p.cover {
		return err
	}
	// What runc makes in the covering directory nobody would ever see.
	for _, it := range []struct{ flag, path string }{{"--pid-file", c.inv.Flags.PidFile}, {"--log", c.inv.Global.Log}} {
		if it.path == "" {
			continue
		}
		if dir, err := filepath.EvalSymlinks(filepath.Dir(it.path)); err == nil && dir == p.bundle.Dir {
			return fmt.Errorf("bundle: %s: root inside owns it, so a file that runc makes there isn't to be trusted: %s %s: expected it in another directory", p.bundle.Dir, it.flag, it.path)
		}
	}
	return nil
}

// coverBundle mounts a directory of root's over the bundle's, that has the
// patched config.json, and all else that is there.
func (p *plan) coverBundle(patched []byte) error {
	if err := os.Mkdir(stageBundle, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(p.bundle.Dir)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == oci.ConfigName {
			continue
		}
		if err := coverEntry(filepath.Join(p.bundle.Dir, entry.Name()), filepath.Join(stageBundle, entry.Name())); err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
	}
	config := filepath.Join(stageBundle, oci.ConfigName)
	f, err := createConfig(config, p.bundle, patched)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	cover, err := linux.OpenPlace(stageBundle, true)
	if err != nil {
		return err
	}
	defer cover.Close()
	tree, err := linux.CloneTree(cover)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := tree.Attach(p.bundle.Dir); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return os.Chdir(p.bundle.Dir)
}

// coverEntry makes at target what is at source: a symbolic link anew, all else
// bound with what is mounted below.
func coverEntry(source, target string) error {
	if to, err := os.Readlink(source); err == nil {
		return os.Symlink(to, target)
	}
	taken, err := rootfs.TakeBind(source, true)
	if err != nil {
		return err
	}
	return taken.Stage(target)
}
