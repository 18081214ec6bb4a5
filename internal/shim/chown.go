// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/chown"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Where the kernel can't shift the owners of a root filesystem, and the configuration says
// shift = 'chown', they are changed on disk before the low-level runtime starts, and back when the
// container is deleted. As long as there is a journal of that, its IDs are nobody else's, whether
// there is a lease of them or not: files have them.

// chooseShift finds out whether the owners have to be changed on disk, and whether they can be.
func (p *plan) chooseShift(c *call, r *rootfs.Request) error {
	may := c.cfg.Shift == config.ShiftChown && r.UserNS != nil
	if !c.subject.IsRoot() || !may && !chown.Any() {
		return nil
	}
	journal, err := p.chownJournal(c, r.Source, r.Mounts)
	if err != nil {
		return err
	}
	if !may {
		return chown.Taken(journal)
	}
	switch err = r.Try(); {
	case !errors.Is(err, rootfs.ErrNoIDMap):
		return chown.Taken(journal) // what else is wrong is said by Prepare
	case r.Layered():
		// Other containers have the lower layers too. A change through the overlay would copy every file of the
		// image into the container's layer, where `docker commit` and `docker diff` would find them, with
		// owners that mean nothing elsewhere; and without the engine's mount there would be no way back.
		return fmt.Errorf("%w (shift = 'chown' doesn't change an overlay: its layers are other containers' too: have the engine use plain directories, Docker's and Podman's storage driver vfs, containerd's snapshotter native)", err)
	}
	if listenFDs(c.environ) > 0 {
		return errors.New("LISTEN_FDS: the sockets that systemd passes on are for the very process that it starts, and with shift = 'chown' the low-level runtime is a child of that: " +
			"put the root filesystem on ext4, xfs, btrfs or tmpfs, or start it without")
	}
	r.Chowned, r.UserNS = true, nil
	if c.dry {
		return chown.Try(journal, r.Source)
	}
	p.chown = &journal
	return nil
}

// chownJournal is all that a journal says but how the tree is.
func (p *plan) chownJournal(c *call, source *os.File, mounts []*mountinfo.Info) (chown.Journal, error) {
	store, err := c.leases()
	if err != nil {
		return chown.Journal{}, err
	}
	key := store.KeyOf(c.engineRoot(), c.inv.ID)
	place, err := rootfs.PlaceOf(source, mounts)
	inode, err2 := linux.Inode(source)
	boot, err3 := linux.BootID()
	return chown.Journal{
		EngineRoot: key.Root, ID: key.ID, MountNS: key.MountNS, Boot: boot,
		Rootfs: source.Name(), Inode: inode, Device: place.Device, Filesystem: place.Filesystem, Place: place.Path,
		AllowExposed: c.cfg.ExposedRootfs == config.ExposedRootfsAllow, UIDs: p.uids, GIDs: p.gids,
	}, errors.Join(err, err2, err3)
}

// shiftOnDisk changes the owners, if that was chosen.
func (p *plan) shiftOnDisk(source *os.File) error {
	if p.chown == nil {
		return nil
	}
	done, progress := onTerminal("changing owners")
	defer done()
	return chown.Shift(*p.chown, source, progress)
}

// onTerminal shows how far it is, if somebody looks at standard error. The gate has no library for
// that: each start of a container would pay for it.
func onTerminal(what string) (done func(), progress chown.Progress) {
	if _, err := unix.IoctlGetTermios(2, unix.TCGETS); err != nil {
		return func() {}, nil
	}
	shown := false
	return func() {
			if shown {
				fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
		}, func(done, all int) {
			shown = true
			fmt.Fprintf(os.Stderr, "\r%s: %d of %d files (%d%%)", what, done, all, 100*done/max(all, 1))
		}
}

// ChownedLeft is a root filesystem whose owners on disk are those of a container that has ended.
type ChownedLeft struct {
	chown.Journal
	// Err is why they couldn't be changed back; nil if they were.
	Err error
}

// UndoChowned changes the owners back of all root filesystems whose containers have ended.
func UndoChowned(store *lease.Store) ([]ChownedLeft, error) {
	return undoAll(store, nil, func(chown.Journal) bool { return true })
}

// undoAll is UndoChowned. own, if it isn't nil, is a container that has ended whatever its lease says.
//
// Root inside may have left millions of files: those of others, which somebody else is at, aren't waited for
// where wait doesn't say so. They are left with [chown.ErrBusy].
func undoAll(store *lease.Store, own *lease.Key, wait func(chown.Journal) bool) ([]ChownedLeft, error) {
	if err := chown.Sweep(); err != nil {
		return nil, err
	}
	all, err := chown.List()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	boot, err := linux.BootID()
	if err != nil {
		return nil, err
	}
	lives, err := living(store, boot, own)
	if err != nil {
		return nil, err
	}
	var out []ChownedLeft
	for _, j := range all {
		if lives(j) {
			continue
		}
		did, err := undoChowned(store, j, boot, wait(j), func(j chown.Journal) (bool, error) {
			lives, err := living(store, boot, own)
			return err == nil && !lives(j), err
		})
		if did || err != nil {
			out = append(out, ChownedLeft{j, err})
		}
	}
	return out, nil
}

// living says whose containers haven't ended, by what is held now. Where leases were lost, or were made again
// from what is alive, nothing says any more whose a namespace is: then one with any of the IDs may be the
// container's.
func living(store *lease.Store, boot string, own *lease.Key) (func(chown.Journal) bool, error) {
	held, err := store.List()
	if err != nil {
		return nil, err
	}
	var alive []lease.LiveNS
	kept, err := store.Kept()
	if err == nil && !kept {
		alive, err = lease.Live()
	}
	return func(j chown.Journal) bool {
		if j.Boot != boot || own != nil && keyOf(j) == *own {
			return false
		}
		return slices.ContainsFunc(held, func(h lease.Status) bool {
			nobodys := h.ID == "" && !h.IsPin() && !h.Ranges.Intersect(j.IDs()).Empty()
			return (h.Key == keyOf(j) || nobodys) && h.State != lease.Ended
		}) || slices.ContainsFunc(alive, func(l lease.LiveNS) bool {
			return l.Staged || !l.IDs().Intersect(j.IDs()).Empty()
		})
	}, err
}

func keyOf(j chown.Journal) lease.Key {
	return lease.Key{Root: j.EngineRoot, ID: j.ID, MountNS: j.MountNS}
}

// undoChowned undoes one. It may be another container's by the time that nobody else acts by it.
func undoChowned(store *lease.Store, j chown.Journal, boot string, wait bool, ended func(chown.Journal) (bool, error)) (did bool, err error) {
	sameBoot := j.Boot == boot
	if sameBoot && store.KeyOf("", "").MountNS != j.MountNS {
		// In one that is no more (an engine's own, which was started again), nobody can.
		path, err := store.StatePath(keyOf(j))
		if err == nil && path != "" {
			err = fmt.Errorf("root filesystem: %s: its owners on disk are those of container %q, which has ended, and its path is one of another mount namespace: run `usernsctl gc` there", j.Rootfs, j.ID)
		}
		if err != nil {
			return false, err
		}
	}
	h, ok, err := chown.Hold(j, wait)
	if errors.Is(err, chown.ErrBusy) {
		err = fmt.Errorf("root filesystem: %s: its owners on disk are those of container %q, which has ended, and are being changed back: %w: try again later", j.Rootfs, j.ID, err)
	}
	if err != nil || !ok {
		return false, err
	}
	if over, err := ended(h.Journal); err != nil || !over {
		h.Close()
		return false, err
	}
	root, err := rootfs.Find(h.Rootfs, rootfs.Place{Device: h.Device, Filesystem: h.Filesystem, Path: h.Place}, sameBoot, h.Is)
	if root == nil && (err == nil || h.Memory && errors.Is(err, fs.ErrNotExist)) {
		return true, h.Forget() // with its files
	}
	if err != nil {
		h.Close()
		return false, fmt.Errorf("root filesystem: %s: its owners on disk are those of container %q, which has ended, and it isn't where it was: mount its filesystem and run `usernsctl gc`; or if it is gone for good: `rm -r %s`", h.Rootfs, h.ID, h.Path())
	}
	defer root.Close()
	if !h.AllowExposed {
		by, err := rootfs.ExposedBy(root.Name())
		if err != nil || by != "" {
			h.Close()
			return false, errors.Join(err, fmt.Errorf("root filesystem: %s: its owners on disk are those of container %q, which has ended, and can't be changed back while others than root can reach it (by %s), since a setuid program of root inside would become one of root: "+
				"close a directory above it (chmod 0700) and run `usernsctl gc`", h.Rootfs, h.ID, by))
		}
	}
	done, progress := onTerminal("changing owners back")
	defer done()
	return true, h.Restore(root, progress)
}

// undoOthers undoes what has ended, before IDs are chosen, and remembers what can't be.
func (c *call) undoOthers() error {
	if c.dry || !c.chowned() {
		return nil
	}
	store, err := c.leases()
	if err != nil {
		return err
	}
	key := store.KeyOf(c.engineRoot(), c.inv.ID)
	left, err := undoAll(store, nil, func(j chown.Journal) bool { return keyOf(j) == key })
	for _, l := range left {
		if l.Err != nil {
			c.stuck = append(c.stuck, l)
		}
	}
	return err
}

// stuckIDs is those that files of ended containers have.
func (c *call) stuckIDs() idmap.Set {
	var ids idmap.Set
	for _, l := range c.stuck {
		ids = ids.Union(l.IDs())
	}
	return ids
}

// checkStuck refuses IDs that files of another container have. It looks again, now that they are held: a
// container may have ended since.
func (c *call) checkStuck(store *lease.Store, key lease.Key, ids idmap.Set) error {
	if c.dry || !c.subject.IsRoot() || !chown.Any() {
		return nil
	}
	left, err := undoAll(store, &key, func(j chown.Journal) bool { return !j.IDs().Intersect(ids).Empty() })
	if err != nil {
		return err
	}
	for _, l := range left {
		if l.Err != nil && !l.IDs().Intersect(ids).Empty() {
			return l.Err
		}
	}
	return nil
}

// undoChown undoes what was done for a container that isn't started.
func (p *plan) undoChown(c *call) error {
	if p.chown == nil {
		return nil
	}
	p.chown = nil
	leaveStage()
	return c.undoOwn(true)
}

// leaveStage takes the root filesystem off this process' own stage, where it would count as one more place
// at which it can be reached.
func leaveStage() { _ = linux.Detach(stageDir) }

// undoOwn changes the owners back of this call's container, if it has ended; over says that it has.
func (c *call) undoOwn(over bool) error {
	store, err := c.leases()
	if err != nil {
		return err
	}
	key := store.KeyOf(c.engineRoot(), c.inv.ID)
	var own *lease.Key
	if over {
		own = &key
	}
	left, err := undoAll(store, own, func(j chown.Journal) bool { return keyOf(j) == key })
	for _, l := range left {
		if keyOf(l.Journal) == key {
			err = errors.Join(err, l.Err)
		}
	}
	return err
}

// chowned says whether owners on disk may be a container's, for a caller who could change them back.
func (c *call) chowned() bool { return c.mayMount() && c.subject.IsRoot() && chown.Any() }

// undoDeleted is undoOwn for a container that the low-level runtime was told to delete.
func (c *call) undoDeleted() error {
	if !c.chowned() {
		return nil
	}
	return c.undoOwn(false)
}

// attend runs the low-level runtime as a child, of a container whose owners on disk have to be changed back
// when that is over: the runtime itself deletes what it has run in the foreground, and what it can't start.
func (c *call) attend(low string, p *plan) error {
	cmd, err := c.childLow(low)
	if err != nil {
		return err
	}
	if err := c.caller.Rearm(); err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	err = cmd.Start()
	if err != nil {
		signal.Stop(signals)
		return fmt.Errorf("low-level runtime: %w", err)
	}
	go forward(signals, cmd.Process)
	err = cmd.Wait()
	signal.Stop(signals)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("low-level runtime: %w", err)
	}
	// Whether it lives on is told by what the runtime left, and by processes: our hold on the lease says that
	// it is starting.
	if p.lease != nil {
		p.lease.Close()
	}
	leaveStage()
	err = c.undoOwn(false)
	status := statusOf(exit)
	if err != nil {
		c.log.Fail(err)
		if status == 0 {
			status = 1
		}
	}
	return endedError(status)
}

// forward hands signals on to the low-level runtime. Those of a terminal it has got from that already.
func forward(signals <-chan os.Signal, to *os.Process) {
	tty := false
	if group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		tty = group == unix.Getpgrp()
	}
	for s := range signals {
		switch s {
		case unix.SIGCHLD, unix.SIGURG: // the latter is the Go runtime's own
			continue
		case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGWINCH:
			if tty {
				continue
			}
		}
		_ = to.Signal(s) // it may be gone
	}
}

// statusOf is the exit status of a low-level runtime; nil is of one that was content.
func statusOf(exit *exec.ExitError) int {
	if exit == nil {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() { //nolint:misspell // the library spells it so
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
