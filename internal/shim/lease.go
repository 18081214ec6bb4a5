// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// choose takes a range of the grant that nobody holds, for a bundle that doesn't ask
// for maps, and makes the maps of it.
func (p *plan) choose(c *call, grant *registry.Grant, owner ownership) error {
	size, name, err := c.annotated(p.bundle.Spec.Annotations)
	if err != nil {
		return err
	}
	if c.rootless() {
		if size != 0 {
			return fmt.Errorf("annotation %s: containers that %s starts without root have all the same range: leave it out", annotation(config.AnnotationSize), owner.Name)
		}
		p.uids, p.gids, err = c.rootlessMaps(grant)
		return err
	}
	if grant.Shared() {
		if size != 0 {
			return fmt.Errorf("annotation %s: the first line of %s is shared, whose containers have all the same range: leave it out", annotation(config.AnnotationSize), owner.Name)
		}
		p.uids, p.gids, err = grant.First()
		return err
	}
	all, err := grant.Rooms(size)
	if err != nil {
		return err
	}
	request := lease.Request{Owner: owner.Name, Names: holder(c.subject, owner).Names, Name: name}
	for _, r := range all {
		request.Rooms = append(request.Rooms, lease.Room{IDs: r.Line.Range, Free: r.Free.Subtract(c.stuckIDs()), Size: r.Size})
	}
	ids, err := p.acquire(c, request)
	if err != nil {
		return explainFull(err, owner, all)
	}
	p.uids = idmap.Map{{Inner: 0, Outer: ids.Start, Count: ids.Count}}
	p.gids = slices.Clone(p.uids)
	return nil
}

// hold takes the IDs of maps that were asked for, or that are shared: the very ones.
func (p *plan) hold(c *call, owner ownership) error {
	request := lease.Request{Owner: owner.Name, Names: holder(c.subject, owner).Names}
	uids, gids := p.uids.Outer(), p.gids.Outer()
	if !c.subject.IsRoot() {
		// Their own are theirs in every process, whatever is held.
		uids = uids.Subtract(idmap.NewSet(idmap.Range{Start: c.subject.UID, Count: 1}))
		gids = gids.Subtract(idmap.NewSet(idmap.Range{Start: c.subject.GID, Count: 1}))
	}
	if request.Exactly = uids.Union(gids); request.Exactly.Empty() {
		return nil
	}
	request.Shared = p.verdict.Flags.Shared
	if p.wanted.userns != nil {
		inode, err := linux.Inode(p.wanted.userns)
		if err != nil {
			return err
		}
		request.UserNS = inode
	}
	_, err := p.acquire(c, request)
	if held, ok := errors.AsType[*lease.HeldError](err); ok {
		return fmt.Errorf("%w: wait for its end, map other IDs, or give %s the flag shared, under which containers have the same IDs", held, where(p.verdict))
	}
	return err
}

// acquire takes the IDs, or only looks which ones it would take, and gives the range that was
// chosen. That there is such a container already is said in the low-level runtime's words, which
// engines know.
func (p *plan) acquire(c *call, r lease.Request) (ids idmap.Range, err error) {
	store, err := c.leases()
	if err != nil {
		return idmap.Range{}, err
	}
	r.Key = store.KeyOf(c.engineRoot(), c.inv.ID)
	if p.dry {
		ids, err = store.Foresee(r)
	} else if p.lease, err = store.Acquire(r); err == nil {
		ids = p.lease.Range
	}
	p.taken = err == nil
	if err == nil && !r.Shared {
		err = c.checkStuck(store, r.Key, r.Exactly.Union(idmap.NewSet(ids)))
	}
	if errors.Is(err, lease.ErrExists) {
		return idmap.Range{}, fmt.Errorf("runc %s failed: %w", c.inv.Verb, lease.ErrExists)
	}
	return ids, err
}

// leases is where is kept which IDs are held. It is opened once: later this thread may be in a mount
// namespace of its own, by which no container is known.
func (c *call) leases() (*lease.Store, error) {
	if c.store != nil {
		return c.store, nil
	}
	var err error
	if c.subject.IsRoot() {
		c.store, err = lease.Open()
	} else {
		c.store, err = lease.OpenOwn(c.subject.UID)
	}
	return c.store, err
}

// explainFull says how a grant that is full is widened.
func explainFull(err error, owner ownership, all []registry.Room) error {
	full, ok := errors.AsType[*lease.FullError](err)
	if !ok {
		return err
	}
	line := all[len(all)-1].Line
	return fmt.Errorf("grant of %s (%s): %w: widen it: `usernsctl set %s --start %d --containers %d`, or give another line: `usernsctl add %s --containers %d`",
		owner.Name, line.Where(), full, owner.Name, line.Range.Start, 2*full.Places, owner.Name, full.Places)
}

// annotated is what annotations say of the container's range, as far as the configuration
// allows them: how many IDs, 0 for as many as the book says, and the name that its first
// choice depends on, "" for the container's ID.
func (c *call) annotated(annotations map[string]string) (size uint32, name string, err error) {
	value := func(key string) (string, bool) {
		text, ok := annotations[annotation(key)]
		return text, ok && slices.Contains(c.cfg.Annotations, key)
	}
	name, _ = value(config.AnnotationStableName)
	if text, ok := value(config.AnnotationSize); ok {
		if size, err = idmap.ParseID(text); err != nil || size == 0 {
			return 0, "", fmt.Errorf("annotation %s: %q: expected how many IDs the container shall have, such as %d", annotation(config.AnnotationSize), text, registry.DefaultSize)
		}
	}
	return size, name, nil
}

func annotation(key string) string { return config.AnnotationPrefix + key }

// named records the user namespace that was made for the IDs.
func (p *plan) named(userns *os.File) error {
	// Of a container that is restored, CRIU makes another one.
	if p.lease == nil || p.wanted.userns != nil || p.wanted.restored {
		return nil
	}
	inode, err := linux.Inode(userns)
	if err != nil {
		return err
	}
	return p.lease.SetUserNS(inode)
}

// giveBack is called with the reason why the container isn't started, and takes back
// what was taken for it.
func (p *plan) giveBack(c *call, why error) error {
	if ended, is := errors.AsType[endedError](why); is {
		return ended // it was started, and has been seen to its end
	}
	why = errors.Join(why, p.undoChown(c))
	if p.copied != nil {
		why = errors.Join(why, p.copied.remove())
	}
	if p.lease == nil {
		return why
	}
	// An entry that stays has ended with this process, and is taken over.
	return errors.Join(why, p.lease.Abandon())
}

// endedError is the status of a low-level runtime that has said itself what there
// was to say.
type endedError int

func (e endedError) Error() string {
	return fmt.Sprintf("the low-level runtime ended with status %d", int(e))
}

// delete has the low-level runtime delete the container, and then gives its IDs back.
//
// It works on a bad day: whatever is wrong with the leases, the container is
// deleted as it would be without us, and what isn't given back is free all the same
// once nothing is left of the container (package lease).
func (c *call) delete(low string) error {
	store, key, ok := c.leaseOf()
	copied := c.copied()
	if !ok && copied == "" && !c.chowned() {
		return c.execLow(low)
	}
	cmd, err := c.childLow(low)
	if err != nil {
		return err
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("low-level runtime: %w", err)
	}
	// What couldn't be undone keeps its IDs, and the engine is told; all else is for the next start.
	undone := c.undoDeleted()
	if ok {
		_ = store.Release(key) // see above
	}
	if copied != "" {
		c.sweepCopies()
	}
	if exit == nil && undone != nil {
		return undone
	}
	return endedError(statusOf(exit))
}

// copied is where the copy is that the container was started from, without root; "" if there is none.
func (c *call) copied() string {
	if !c.rootless() || c.subject.IsRoot() {
		return ""
	}
	dir := c.copyOf()
	if _, err := os.Lstat(dir); err != nil {
		return ""
	}
	return dir
}

// leaseOf is where the IDs of the container are kept; ok is false if none seem to be.
func (c *call) leaseOf() (store *lease.Store, key lease.Key, ok bool) {
	var err error
	if c.subject, err = delegate.Identify(); err != nil || !c.mayMount() {
		return nil, lease.Key{}, false
	}
	if store, err = c.leases(); err != nil {
		return nil, lease.Key{}, false
	}
	key = store.KeyOf(c.engineRoot(), c.inv.ID)
	holds, err := store.Holds(key)
	return store, key, holds && err == nil
}
