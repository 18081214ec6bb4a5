// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// A caller who isn't root in their user namespace can have neither a mount namespace for a stage nor
// owners shifted. Their containers are the low-level runtime's own rootless ones: it makes the
// namespace itself, by newuidmap and newgidmap, which judge by the book whatever we have said
// before. Root inside is the caller, so the root filesystem stays as it is. What the low-level
// runtime is given is a copy of the bundle, in a directory of the caller's that only they can
// look into.

// idmapDirs is where this project's newuidmap and newgidmap are installed, first of which there is.
var idmapDirs = []string{"/usr/libexec/userns-runtime", "/usr/local/libexec/userns-runtime"}

// rootless says whether the caller starts containers without any privilege.
func (c *call) rootless() bool { return !c.mayMount() }

// rootlessMaps is the caller as root inside, and behind it as many IDs of their first line as a
// container of that line has beside root: see [registry.Grant.First]. Containers of one user may
// have the same IDs, as their root is the same user in any case.
func (c *call) rootlessMaps(grant *registry.Grant) (uids, gids idmap.Map, err error) {
	first, _, err := grant.First()
	if err != nil {
		return nil, nil, err
	}
	of := func(own uint32) idmap.Map {
		m := idmap.Map{{Inner: 0, Outer: own, Count: 1}}
		if first[0].Count > 1 {
			m = append(m, idmap.Extent{Inner: 1, Outer: first[0].Outer, Count: first[0].Count - 1})
		}
		return m
	}
	return of(c.subject.UID), of(c.subject.GID), nil
}

// makeRootless is make, for a rootless container.
func (p *plan) makeRootless(c *call, low string, version oci.Version, owner ownership, d *decision) error {
	if c.inv.Verb == "restore" {
		return errors.New("restore takes root: CRIU makes the container's processes with their IDs: start the container anew, or ask root for it")
	}
	if p.bundle.Spec.Root == nil || p.bundle.Spec.Linux == nil {
		return p.patchError(specpatch.Check(p.bundle.Spec, p.plan))
	}
	if p.wanted.userns != nil || len(p.wanted.joins.files) > 0 {
		return p.patchError(errors.New("linux.namespaces: path: a container that is started without root joins no namespace: leave the paths out, or ask root for it"))
	}
	uids, gids, err := p.localMaps(c)
	if err != nil {
		return err
	}
	if !uids.Equal(singleOf(uids)) || !gids.Equal(singleOf(gids)) {
		if err := c.ownIDMapFirst(); err != nil {
			return err
		}
	}
	root := p.bundle.Spec.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(p.bundle.Dir, root)
	}
	record := lease.Record{
		Owner: owner.Name, Flags: p.verdict.Flags.String(), UIDs: p.uids, GIDs: p.gids,
		Lines: d.Lines, Method: "as-is", Rootfs: root, Runtime: low + " (" + version.String() + ")",
	}
	p.plan = specpatch.Plan{
		UIDs: uids, GIDs: gids, Rootless: true, Rootfs: root, Record: record.String(), Binds: map[int]string{}, Hosts: map[int]string{},
		ProcessFlags: processFlags(p.verdict.Flags),
	}
	p.plan.DenySetgroups = p.plan.DenySetgroups || p.verdict.OwnGroup
	for i, m := range p.bundle.Spec.Mounts {
		if kind := specpatch.HostsFilesystem(p.bundle.Spec, m); kind != "" {
			if p.plan.Hosts[i], err = callersMount(kind); err != nil {
				return p.patchError(fmt.Errorf("mounts[%d]: %s: %w", i, m.Destination, err))
			}
		}
		// The low-level runtime reads them relative to the bundle.
		if specpatch.IsBind(m) && !filepath.IsAbs(m.Source) {
			p.plan.Binds[i] = filepath.Join(p.bundle.Dir, m.Source)
		}
	}
	if p.wanted.needsSysfs(p.bundle.Spec) {
		p.plan.Sysfs = "/sys"
	}
	spec, changes, err := specpatch.Apply(p.bundle.Spec, p.plan)
	if err != nil {
		return p.patchError(err)
	}
	d.Changes, d.Rootfs = slices.Concat(p.left, changes), "as-is"
	patched, err := p.bundle.Patched(edits(changes), spec)
	if err != nil || p.dry {
		return err
	}
	if console := &c.inv.Flags.ConsoleSocket; *console != "" && !filepath.IsAbs(*console) {
		*console = filepath.Join(p.bundle.Dir, *console)
	}
	if p.copied, err = c.copyBundle(patched); err != nil {
		return fmt.Errorf("private copy of the bundle: %w", err)
	}
	c.inv.Flags.Bundle = p.copied.dir
	return nil
}

// callersMount is where the host has a filesystem mounted that a caller without privilege can
// only bind.
func callersMount(kind string) (string, error) {
	path := map[string]string{"proc": "/proc", "mqueue": "/dev/mqueue"}[kind]
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the host has no %s to bind: give the container a namespace of its own, or have root mount it: %w", path, err)
	}
	return path, nil
}

// singleOf is the first ID of a map alone: what a user may map without newuidmap.
func singleOf(m idmap.Map) idmap.Map {
	return idmap.Map{{Inner: m[0].Inner, Outer: m[0].Outer, Count: 1}}
}

// ownIDMapFirst puts our newuidmap and newgidmap first where the low-level runtime looks for them. The
// system's would go by /etc/subuid.
func (c *call) ownIDMapFirst() error {
	for _, dir := range idmapDirs {
		if !isProgram(filepath.Join(dir, "newuidmap")) || !isProgram(filepath.Join(dir, "newgidmap")) {
			continue
		}
		path := dir
		var environ []string
		for _, v := range c.environ {
			if old, ok := strings.CutPrefix(v, "PATH="); ok {
				if path == dir && old != "" {
					path += ":" + old // the first one counts
				}
				continue
			}
			environ = append(environ, v)
		}
		environ = append(environ, "PATH="+path)
		c.environ = environ
		return nil
	}
	return fmt.Errorf("newuidmap and newgidmap of this project are in none of %s, and others don't go by the book: have root install them (`make install`)", strings.Join(idmapDirs, ", "))
}

func isProgram(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0
}

// bundleCopy is a directory with the patched config.json, and a link to the state that the low-level
// runtime has of the container while there is one. Whoever starts it has the directory locked.
type bundleCopy struct {
	dir  string
	lock *os.File
}

// The names in a copy.
const copyState = "state"

// copiesDir is where the caller's copies are.
func (c *call) copiesDir() string { return filepath.Join(lease.OwnDir(c.subject.UID), "bundles") }

// callersDir is [lease.OwnDir], where nobody else can write to the directory that it is to be in.
func callersDir(uid uint32) (string, error) {
	path := lease.OwnDir(uid)
	above := filepath.Dir(path)
	var st unix.Stat_t
	if err := unix.Lstat(above, &st); err != nil {
		return "", fmt.Errorf("%w: it is made at login (pam_systemd), or by root: install -d -o %d -m 0700 %s", &os.PathError{Op: "lstat", Path: above, Err: err}, uid, above)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return "", fmt.Errorf("%s: UID %d owns it, mode %06o: expected a directory of UID %d's that nobody else can write to", above, st.Uid, st.Mode, uid)
	}
	return path, nil
}

// copyOf is where the copy for the container is.
func (c *call) copyOf() string {
	sum := sha256.Sum256([]byte(c.engineRoot() + "\x00" + c.inv.ID))
	return filepath.Join(c.copiesDir(), hex.EncodeToString(sum[:16]))
}

// copyBundle makes the copy, and sweeps those away of which no container is left.
func (c *call) copyBundle(patched []byte) (*bundleCopy, error) {
	if _, err := callersDir(c.subject.UID); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.copiesDir(), 0o700); err != nil {
		return nil, err
	}
	c.sweepCopies()
	dir := c.copyOf()
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("runc %s failed: %w", c.inv.Verb, lease.ErrExists)
		}
		return nil, err
	}
	copied := &bundleCopy{dir: dir}
	if err := copied.fill(filepath.Join(c.engineRoot(), c.inv.ID, lease.RuncStateName), patched); err != nil {
		return nil, errors.Join(err, copied.remove())
	}
	return copied, nil
}

func (b *bundleCopy) fill(state string, patched []byte) (err error) {
	if b.lock, err = lockDir(b.dir); err != nil {
		return err
	}
	if err := os.Symlink(state, filepath.Join(b.dir, copyState)); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(b.dir, oci.ConfigName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(patched)
	return errors.Join(err, f.Close())
}

func lockDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&os.PathError{Op: "flock", Path: dir, Err: err}, f.Close())
	}
	return f, nil
}

// sweepCopies removes copies that nobody has locked, and of whose container the low-level runtime has no
// state. It is a favour: what can't be removed stays.
func (c *call) sweepCopies() {
	entries, err := os.ReadDir(c.copiesDir())
	if err != nil {
		return
	}
	for _, e := range entries {
		dir := filepath.Join(c.copiesDir(), e.Name())
		lock, err := lockDir(dir)
		if err != nil {
			continue
		}
		copied := &bundleCopy{dir: dir, lock: lock}
		if _, err := os.Stat(filepath.Join(dir, copyState)); errors.Is(err, os.ErrNotExist) {
			_ = copied.remove()
		} else {
			_ = lock.Close()
		}
	}
}

// keep hands the lock to the program that this one becomes.
func (b *bundleCopy) keep(lowest int) error {
	_, err := linux.KeepAcrossExec(b.lock, lowest)
	return err
}

// remove takes the copy away, and lets go of the lock.
func (b *bundleCopy) remove() error {
	err := os.RemoveAll(b.dir)
	if b.lock != nil {
		err = errors.Join(err, b.lock.Close())
	}
	return err
}
