// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// ErrExists says that there is a container of that ID already, or that one is being
// started.
var ErrExists = errors.New("container with given ID already exists")

// Request is a wish for IDs.
type Request struct {
	Key   Key
	Owner string
	// Names is what else the book may call the owner: pins of any of these, and containers where a
	// pin is wanted, aren't in the way.
	Names []string

	// Rooms is where a range may be taken from, and Name what its first choice
	// depends on: the container's ID, if it is empty.
	Rooms []Room
	Name  string

	// Exactly is the IDs to take, and no others; then Rooms isn't looked at.
	Exactly idmap.Set
	// UserNS is the inode number of a user namespace that is there already; 0
	// for one that isn't yet. Whatever else is in it may have the same IDs.
	UserNS uint64

	// Shared lets entries of one owner that all say so lie over each other.
	Shared bool

	handle string  // of a pin's namespace: see Entry
	uid    *uint32 // likewise
}

// Lease is an entry that the caller has locked.
type Lease struct {
	// Range is what was taken of the rooms; empty if the IDs were given.
	Range idmap.Range

	store *Store
	file  *os.File
	name  name
	entry Entry
}

// HeldError says that IDs can't be taken, since somebody has some of them.
type HeldError struct {
	IDs idmap.Set // those in question
	By  Status
	// Who is that in words, where By doesn't say it.
	Who string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("IDs %s are held by %s", e.IDs, cmp.Or(e.Who, e.By.String()))
}

// FullError says that no room is left.
type FullError struct {
	Size    uint32   // IDs that were wanted, of the last room
	Places  uint64   // containers that all rooms together have room for
	Holders []Status // those that have IDs there
}

// namedHolders is how many of them a message names.
const namedHolders = 5

func (e *FullError) Error() string {
	var names []string
	for i, h := range e.Holders {
		if i == namedHolders {
			names = append(names, fmt.Sprintf("and %d more (`usernsctl leases` lists them)", len(e.Holders)-i))
			break
		}
		names = append(names, h.String())
	}
	return fmt.Sprintf("no %d IDs in a row are left: there is room for %d containers, and %d hold IDs there: %s",
		e.Size, e.Places, len(e.Holders), strings.Join(names, ", "))
}

// String says who holds an entry, in a message.
func (s Status) String() string {
	switch {
	case s.Rebuilt:
		return fmt.Sprintf("process %d, in user namespace %d, which nobody has a lease for", s.PID, s.UserNS)
	case s.ID == "":
		return fmt.Sprintf("an entry of which no more is known than that it has %s", s.Ranges)
	}
	text := fmt.Sprintf("container %s of %s (%s)", printable(s.ID), printable(s.Owner), printable(s.Root))
	if s.IsPin() {
		text = "pin " + printable(s.ID)
	}
	switch s.State {
	case StillOpen:
		text += ", which isn't mounted any more, but somebody"
		if s.Alive != 0 {
			text = strings.TrimSuffix(text, "somebody") + fmt.Sprintf("process %d", s.Alive)
		}
		return text + " has its user namespace open or mounted elsewhere, and could enter it"
	case Process:
		if s.Alive == 0 {
			return text + ", of which processes can't be told from here"
		}
		return text + fmt.Sprintf(", which has ended, but process %d has its user namespace, or some of its IDs", s.Alive)
	case Starting:
		return text + fmt.Sprintf(", which process %d starts or runs", s.PID)
	}
	return text
}

// printable is a name as it can be shown on a terminal.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// Acquire takes IDs that nobody holds, and gives them locked: see [Lease.Keep]. The IDs
// of entries that have ended are free, and those entries go.
//
// Errors wrap [ErrExists], or are a [*HeldError] or a [*FullError]; then, as on any
// error, nothing was taken.
func (s *Store) Acquire(r Request) (*Lease, error) {
	for tries := 1; ; tries++ {
		l, err := s.acquire(r)
		if !errors.Is(err, fs.ErrNotExist) {
			return l, err
		}
		// The directory was deleted meanwhile; it is made again.
		if tries == 100 {
			return nil, fmt.Errorf("%w: it is deleted again and again: find out by whom", err)
		}
	}
}

func (k Key) check() error {
	if utf8.ValidString(k.Root) && utf8.ValidString(k.ID) {
		return nil
	}
	return fmt.Errorf("lease: --root %q, container ID %q: expected UTF-8: what is kept of them couldn't be found again", k.Root, k.ID)
}

func (s *Store) acquire(r Request) (*Lease, error) {
	if err := r.Key.check(); err != nil {
		return nil, err
	}
	sec, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer sec.unlock()
	before, err := sec.checkKey(r.Key)
	if err != nil {
		return nil, err
	}
	l := &Lease{store: s}
	l.entry = Entry{
		Key: r.Key, Owner: r.Owner, Shared: r.Shared, UserNS: r.UserNS, Handle: r.handle, UID: r.uid,
		PIDNS: s.own.pid, PID: os.Getpid(), Ranges: r.Exactly,
	}
	if r.Exactly.Empty() {
		if l.Range, err = sec.choose(r); err != nil {
			return nil, err
		}
		l.entry.Ranges = idmap.NewSet(l.Range)
	} else if err := sec.vacate(r); err != nil {
		return nil, err
	}
	sec.sweep()
	for _, n := range before {
		// Of the same IDs, in the same namespace: the new one answers for what is left.
		if n.text == l.entry.name().text {
			if err := sec.remove(n); err != nil {
				return nil, err
			}
		}
	}
	if l.file, l.name, err = sec.write(l.entry); err != nil {
		return nil, err
	}
	return l, nil
}

// checkKey refuses a second container of one ID, and removes what has ended of an
// earlier one. Entries of an earlier one of which a process is left stay.
func (sec *section) checkKey(k Key) (left []name, err error) {
	text := k.text()
	all, err := sec.collect(sec.named(func(n name) bool { return n.isOf(text) }))
	if err != nil {
		return nil, err
	}
	for _, j := range all {
		switch {
		case j.Key != k && j.ID != "":
			// Of another container whose key has the same text. A file that says nothing is of
			// one who ended before it began.
		case j.State != Process && j.State != StillOpen:
			return nil, fmt.Errorf("lease: %w: %s", ErrExists, j.Status)
		default:
			left = append(left, j.name)
		}
	}
	return left, nil
}

// named is the entries whose names are wanted.
func (sec *section) named(wanted func(name) bool) (out []name) {
	for _, n := range sec.names {
		if wanted(n) {
			out = append(out, n)
		}
	}
	return out
}

// vacate removes what has ended of the entries that have some of the very IDs that are wanted, and
// refuses if another one holds.
func (sec *section) vacate(r Request) error {
	all, err := sec.near(r.Exactly)
	if err != nil {
		return err
	}
	for _, j := range all {
		sameNS := r.UserNS != 0 && r.UserNS == j.UserNS
		sharing := r.Shared && j.Shared && r.Owner == j.Owner
		if !sameNS && !sharing && !r.mayOverlap(j.Status) {
			return r.heldBy(j.Status)
		}
	}
	return nil
}

// near removes what has ended of the entries that have some of ids, and gives the others.
func (sec *section) near(ids idmap.Set) ([]judged, error) {
	names, err := sec.overlapping(ids)
	if err != nil {
		return nil, err
	}
	return sec.collect(names)
}

// choose finds a range in the rooms: in the first that has one, since what a container
// is allowed may depend on the room.
func (sec *section) choose(r Request) (idmap.Range, error) {
	name := r.Name
	if name == "" {
		name = r.Key.ID
	}
	for _, room := range r.Rooms {
		ids, ok, err := sec.chooseIn(r, room, name)
		if ok || err != nil {
			return ids, err
		}
	}
	// Each of those that may have ended is looked at only now.
	full := &FullError{}
	for _, room := range r.Rooms {
		holders, err := sec.near(room.Free)
		if err != nil {
			return idmap.Range{}, err
		}
		ids, ok, err := sec.chooseIn(r, room, name)
		if ok || err != nil {
			return ids, err
		}
		full.Size, full.Places = room.Size, full.Places+room.places()
		for _, j := range holders {
			if !r.mayOverlap(j.Status) {
				full.Holders = append(full.Holders, j.Status)
			}
		}
	}
	return idmap.Range{}, full
}

// chooseIn finds a range in one room; ok is false if there is none beside all entries.
func (sec *section) chooseIn(r Request, room Room, name string) (ids idmap.Range, ok bool, err error) {
	favourites := room.favouritesOf(name)
	places := slices.DeleteFunc(slices.Clone(favourites), func(place idmap.Range) bool { return !room.Free.Contains(place) })
	ids, ok, near, err := sec.firstClear(r, places)
	if err != nil {
		return idmap.Range{}, false, err
	}
	// Those in the way may have ended.
	if len(near) > 0 {
		if _, err := sec.collect(near); err != nil {
			return idmap.Range{}, false, err
		}
		if ids, ok, _, err = sec.firstClear(r, places); err != nil {
			return idmap.Range{}, false, err
		}
	}
	if ok || len(favourites) == 0 {
		return ids, ok, nil
	}
	names, err := sec.inWay(r, sec.names)
	if err != nil {
		return idmap.Range{}, false, err
	}
	var held []idmap.Range
	for _, n := range names {
		ranges, err := sec.ranges(n)
		if err != nil {
			return idmap.Range{}, false, err
		}
		held = append(held, ranges...)
	}
	ids, ok = room.fit(favourites[0], idmap.NewSet(held...))
	return ids, ok, nil
}

// firstClear is the first of the places that no entry has some of; near is the entries in those
// before it.
func (sec *section) firstClear(r Request, places []idmap.Range) (place idmap.Range, ok bool, near []name, err error) {
	for _, place := range places {
		over, err := sec.overlapping(idmap.NewSet(place))
		if err == nil {
			over, err = sec.inWay(r, over)
		}
		if err != nil {
			return idmap.Range{}, false, nil, err
		}
		if len(over) == 0 {
			return place, true, near, nil
		}
		near = append(near, over...)
	}
	return idmap.Range{}, false, near, nil
}

// swept is how many entries each start looks at in passing.
const swept = 4

// sweep removes what has ended of a few entries, any ones. A container that was run
// in the foreground leaves its entry behind, and so does one that was killed; those
// that come after it take it away. It is a favour: no start fails of it.
func (sec *section) sweep() {
	// Not the same ones each time, or those behind some that live on would stay.
	first := 0
	if len(sec.names) > swept {
		first = rand.IntN(len(sec.names) - swept + 1) //nolint:gosec // nothing is secret about it
	}
	_, _ = sec.collect(sec.names[first:min(len(sec.names), first+swept)])
}

// collect removes those of the entries that have ended, and gives the others.
func (sec *section) collect(names []name) (left []judged, err error) {
	all, err := sec.statuses(names)
	if err != nil {
		return nil, err
	}
	for _, j := range all {
		if j.State != Ended {
			left = append(left, j)
		} else if err := sec.remove(j.name); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// SetUserNS records the user namespace that was made for the IDs, by its inode number. A
// lease whose file was deleted meanwhile is an error: what is alive by now has taken
// its place.
func (l *Lease) SetUserNS(inode uint64) error {
	sec, err := l.section(l.store.lockExisting)
	if err != nil {
		return err
	}
	defer sec.unlock()
	l.entry.UserNS = inode
	if _, err := l.file.WriteAt(l.entry.text(), 0); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	return nil
}

// section locks the directory, if the lease's file is still there.
func (l *Lease) section(lock func() (*section, error)) (*section, error) {
	sec, err := lock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lease: %s: %w", l.store.path, errLost)
	}
	if err != nil {
		return nil, err
	}
	if err := sec.checkIs(l); err != nil {
		sec.unlock()
		return nil, err
	}
	return sec, nil
}

var errLost = errors.New("it was deleted while the container was being started: start it again")

// checkIs says whether the lease's file is still the one of that name.
func (sec *section) checkIs(l *Lease) error {
	var locked, now unix.Stat_t
	if err := unix.Fstat(int(l.file.Fd()), &locked); err != nil {
		return fmt.Errorf("lease: %w", &os.PathError{Op: "fstat", Path: l.file.Name(), Err: err})
	}
	err := unix.Fstatat(int(sec.dir.Fd()), l.name.text, &now, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && (now.Dev != locked.Dev || now.Ino != locked.Ino) {
		return fmt.Errorf("lease: %s: %w", filepath.Join(l.store.path, l.name.text), errLost)
	}
	if err != nil {
		return fmt.Errorf("lease: %w", &os.PathError{Op: "stat", Path: l.file.Name(), Err: err})
	}
	return nil
}

// Keep hands the lock to the program that this one becomes: in a descriptor from
// lowest on, which isn't closed on execve(2). Until that program, and all it gives the
// descriptor to, have ended, the IDs are held.
func (l *Lease) Keep(lowest int) error {
	_, err := linux.KeepAcrossExec(l.file, lowest)
	return err
}

// Close lets go of the lock, for a caller who doesn't become another program.
func (l *Lease) Close() { _ = l.file.Close() }

// Abandon gives the IDs back, of a container that wasn't started.
func (l *Lease) Abandon() error {
	defer l.file.Close()
	sec, err := l.store.lockAndLoad()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sec.unlock()
	if err := sec.checkIs(l); err != nil {
		if errors.Is(err, errLost) {
			return nil
		}
		return err
	}
	return sec.remove(l.name)
}

// Release removes the entries of a container that the low-level runtime has deleted.
// One that isn't over stays: of a container of that ID that is being started meanwhile, or
// with a process left in its namespace. It also removes what was found alive once, and
// isn't any more.
func (s *Store) Release(k Key) error {
	sec, err := s.lockAndLoad()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sec.unlock()
	text := k.text()
	_, err = sec.collect(sec.named(func(n name) bool { return n.isOf(text) || strings.HasPrefix(n.key(), alivePrefix) }))
	return err
}
