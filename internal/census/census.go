// SPDX-License-Identifier: Apache-2.0

package census

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Paths is where a census looks.
type Paths struct {
	Passwd, Group  string // passwd(5), group(5)
	SubUID, SubGID string // subuid(5), subgid(5)
	// Root stands before the paths by which installed software is known; "" is the
	// host's own.
	Root string
}

// HostPaths is those of the host.
func HostPaths() Paths {
	return Paths{Passwd: "/etc/passwd", Group: "/etc/group", SubUID: "/etc/subuid", SubGID: "/etc/subgid"}
}

// World reads what a book is checked against. The warnings are about lines of subuid
// and subgid that are passed over. It needs no privilege, but to read the files.
func (p Paths) World() (w registry.World, warnings []registry.Conflict, err error) {
	if w.Host, err = registry.LoadHost(p.Passwd, p.Group); err != nil {
		return registry.World{}, nil, fmt.Errorf("census: %w", err)
	}
	var more []registry.Conflict
	if w.SubUIDs, warnings, err = registry.LoadSubIDs(p.SubUID); err != nil {
		return registry.World{}, nil, fmt.Errorf("census: %w", err)
	}
	if w.SubGIDs, more, err = registry.LoadSubIDs(p.SubGID); err != nil {
		return registry.World{}, nil, fmt.Errorf("census: %w", err)
	}
	if w.Installed, err = installed(p.Root); err != nil {
		return registry.World{}, nil, fmt.Errorf("census: %w", err)
	}
	return w, append(warnings, more...), nil
}

// Census is a host's ID space, but for the book.
type Census struct {
	World registry.World
	// Warnings are about lines of subuid and subgid that are passed over.
	Warnings []registry.Conflict
	// Leases are the ranges that are held; those that have ended aren't among them.
	Leases []lease.Status
	// Ended is those of which Leases has none any more, that were held while it was looked what
	// is alive.
	Ended []lease.Status
	// Unkept says that leases are lost, or that none was ever taken: see [lease.Store.Kept].
	Unkept bool
	// Live is the user namespaces with a process in them, other than the caller's.
	Live []lease.LiveNS
	// Kin is where those come from, by their inode number. One that can't be looked at, as when
	// its last process has ended meanwhile, isn't in it.
	Kin map[uint64]Kin
}

// Take looks at everything. It needs root: the leases are root's, and the processes
// of all users are to be seen.
func Take(p Paths) (*Census, error) {
	w, warnings, err := p.World()
	if err != nil {
		return nil, err
	}
	store, err := lease.Open()
	if err != nil {
		return nil, fmt.Errorf("census: %w", err)
	}
	before, err := heldIn(store)
	if err != nil {
		return nil, err
	}
	live, err := lease.Live()
	if err != nil {
		return nil, fmt.Errorf("census: %w", err)
	}
	kin := kinOf(live)
	// Containers come and go while it looks: what is alive may have had a lease, or has one by now.
	c := &Census{World: w, Warnings: warnings, Live: live, Kin: kin}
	if c.Leases, err = heldIn(store); err != nil {
		return nil, err
	}
	c.Ended = slices.DeleteFunc(before, func(l lease.Status) bool {
		return slices.ContainsFunc(c.Leases, func(now lease.Status) bool { return now.Key == l.Key && now.UserNS == l.UserNS })
	})
	kept, err := store.Kept()
	if err != nil {
		return nil, fmt.Errorf("census: %w", err)
	}
	c.Unkept = !kept
	return c, nil
}

// Leases is the ranges that are held on this host, by where they begin. Where the caller
// may not know, the error wraps fs.ErrPermission.
func Leases() ([]lease.Status, error) {
	store, err := lease.Open()
	if err != nil {
		return nil, fmt.Errorf("census: %w", err)
	}
	return heldIn(store)
}

func heldIn(store *lease.Store) ([]lease.Status, error) {
	all, err := store.List()
	if err != nil {
		return nil, fmt.Errorf("census: %w", err)
	}
	all = slices.DeleteFunc(all, func(s lease.Status) bool { return s.State == lease.Ended })
	SortLeases(all)
	return all, nil
}

// SortLeases puts leases in the order of their first IDs, and then of who holds them.
func SortLeases(all []lease.Status) {
	slices.SortStableFunc(all, func(a, b lease.Status) int {
		return cmp.Or(
			slices.CompareFunc(a.Ranges.Ranges(), b.Ranges.Ranges(), func(a, b idmap.Range) int {
				return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Count, b.Count))
			}),
			cmp.Compare(a.Root, b.Root), cmp.Compare(a.ID, b.ID),
		)
	})
}

// Held is those of the leases that have some of the IDs.
func Held(leases []lease.Status, ids idmap.Set) []lease.Status {
	var held []lease.Status
	for _, l := range leases {
		if meets(l.Ranges, ids) {
			held = append(held, l)
		}
	}
	return held
}

func meets(a, b idmap.Set) bool { return !a.Intersect(b).Empty() }

// Use is IDs that a new line has to keep clear of.
type Use struct {
	IDs idmap.Set
	Why string // who uses them, and where that is said: "alice (/etc/usernamespaces:3)"
}

// Uses is everything that a new line has to keep clear of: all lines of the book,
// accounts, /etc/subuid and /etc/subgid, allocators that are installed, and what
// [Census.Alive] finds.
func (c *Census) Uses(b *registry.Book) []Use {
	var uses []Use
	add := func(ids idmap.Range, format string, args ...any) {
		uses = append(uses, Use{idmap.NewSet(ids), fmt.Sprintf(format, args...)})
	}
	for _, l := range b.Lines() {
		add(l.Range, "%s (%s)", l.Owner, l.Where())
	}
	for _, sp := range c.others() {
		switch sp.Kind {
		case KindUser, KindGroup:
			add(sp.Range, "%s %s (%s)", sp.Kind, sp.Owner, sp.Where)
		case KindAllocator:
			add(sp.Range, "%s, for %s", sp.Owner, sp.Note)
		default:
			add(sp.Range, "%s (%s)", sp.Owner, sp.Where)
		}
	}
	return append(uses, c.alive()...)
}

// Alive is what has some of the IDs now: containers that hold them, and processes in user
// namespaces that map them.
func (c *Census) Alive(ids idmap.Set) []Use {
	return slices.DeleteFunc(c.alive(), func(u Use) bool { return !meets(u.IDs, ids) })
}

func (c *Census) alive() []Use {
	var uses []Use
	for _, l := range c.Leases {
		uses = append(uses, Use{l.Ranges, Holder(l)})
	}
	for _, ns := range c.Unleased() {
		uses = append(uses, Use{ns.IDs(), process(ns)})
	}
	return uses
}

// Unleased is the live namespaces with IDs that no lease answers for.
func (c *Census) Unleased() []lease.LiveNS {
	leased := c.leased()
	var out []lease.LiveNS
	for _, ns := range c.Live {
		if ids := ns.IDs(); !ids.Empty() && !leased(ns, ids) {
			out = append(out, ns)
		}
	}
	return out
}

// leased gives a question: whether a lease answers for all IDs of a live namespace, and names it
// better. The namespace, or one that it lies in, is the lease's then. A lease without a namespace is of
// a container that is just being started, and answers for all that has its IDs; or of one that was
// restored (CRIU makes the namespace), and answers for what has those very IDs.
func (c *Census) leased() func(lease.LiveNS, idmap.Set) bool {
	of := make(map[uint64][]idmap.Set)
	restored := make(map[string]bool)
	for _, l := range slices.Concat(c.Leases, c.Ended) {
		if l.UserNS == 0 && l.State != lease.Starting {
			restored[l.Ranges.String()] = true
			continue
		}
		of[l.UserNS] = append(of[l.UserNS], l.Ranges)
	}
	return func(ns lease.LiveNS, ids idmap.Set) bool {
		if ns.Inode == 0 {
			return false
		}
		with := func(inode uint64) bool {
			return slices.ContainsFunc(of[inode], func(held idmap.Set) bool { return held.ContainsSet(ids) })
		}
		return with(0) || len(restored) > 0 && restored[ids.String()] || with(ns.Inode) || slices.ContainsFunc(c.Kin[ns.Inode].Parents, with)
	}
}

// Holder is a lease in words: "container web of /run/runc", "pin alice/default".
func Holder(l lease.Status) string {
	what := "a container that was found alive"
	if l.ID != "" {
		what = fmt.Sprintf("container %s of %s", l.ID, l.Root)
	}
	if l.IsPin() {
		what = "pin " + l.ID
	}
	if pid := Process(l, nil); pid != 0 {
		what += fmt.Sprintf(", process %d", pid)
	}
	return what
}

// Process is a process of a lease that is there now: the one that starts the container, or
// one in its user namespace, if live has that. 0 is that none is known.
func Process(l lease.Status, live []lease.LiveNS) int {
	if l.State == lease.Starting {
		return l.PID
	}
	if i := slices.IndexFunc(live, func(ns lease.LiveNS) bool { return ns.Inode != 0 && ns.Inode == l.UserNS }); i >= 0 {
		return live[i].PID
	}
	return l.Alive
}

func process(ns lease.LiveNS) string {
	name := "?"
	// It may have ended by now.
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", ns.PID)); err == nil {
		name = strings.TrimSuffix(string(text), "\n")
	}
	// A process may call itself anything.
	return fmt.Sprintf("process %d (%s) in a user namespace", ns.PID, strings.Trim(strconv.Quote(name), `"`))
}
