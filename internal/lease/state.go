// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// State is why an entry holds its IDs, or that it doesn't any more.
type State string

const (
	// Starting is an entry that a program has locked: one that is starting the
	// container, or the low-level runtime that it has become, which stays for as
	// long as a container does that was started in the foreground.
	Starting State = "starting"
	// Container is one of a container that the low-level runtime knows.
	Container State = "container"
	// Process is one with a process left in the user namespace: what was found
	// alive, or what has entered the namespace and outlived the container. It is
	// also what can't be told from the caller's PID namespace.
	Process State = "process"
	// Pinned is one of a pin whose namespace is mounted on the host.
	Pinned State = "pinned"
	// StillOpen is one of a pin that isn't mounted any more, and whose namespace somebody has open or
	// mounted elsewhere, who could enter it yet.
	StillOpen State = "open"
	// Ended is one that holds nothing any more.
	Ended State = "ended"
)

// Status is an entry and its state.
type Status struct {
	Entry
	State State
	// Alive is a process in the namespace, or one that has some of the IDs; of the state
	// [Process], where it can be told.
	Alive int
}

// judged is an entry whose state was looked at.
type judged struct {
	name
	Status
}

// statuses judges entries. What is alive is looked for after all of their locks were tried,
// and only then: what a program leaves behind that had an entry locked can be seen
// from the end of the lock on.
func (sec *section) statuses(names []name) ([]judged, error) {
	out := make([]judged, 0, len(names))
	over := false
	for _, n := range names {
		status, err := sec.firstLook(n)
		if err != nil {
			return nil, err
		}
		over = over || status.State == Ended
		out = append(out, judged{n, status})
	}
	if !over {
		return out, nil
	}
	alive, err := sec.store.live()
	restless := errors.Is(err, errRestless)
	if err != nil && !restless {
		return nil, err
	}
	for i := range out {
		if out[i].State != Ended {
			continue
		}
		if restless {
			out[i].State = Process // for all that can be told; no start fails of it
			continue
		}
		if err := sec.lived(out[i].name, &out[i].Status, alive); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// firstLook is the state of an entry without a look at what is alive.
func (sec *section) firstLook(n name) (Status, error) {
	f, err := sec.openAt(n.text, unix.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		ranges, _ := n.ranges()
		return Status{Entry: Entry{Ranges: idmap.NewSet(ranges...)}, State: Ended}, nil // removed by hand
	}
	if err != nil {
		return Status{}, err
	}
	defer f.Close()
	e, err := readEntry(f, n)
	if err != nil {
		return Status{}, err
	}
	state, err := sec.inUse(f, e)
	return Status{Entry: e, State: state}, err
}

// inUse says whether a program has the entry locked, or the low-level runtime
// knows its container. In this order: who had it locked has left state, or a
// process, by the time that the lock is gone.
func (sec *section) inUse(f *os.File, e Entry) (State, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return Starting, nil
	}
	if err != nil {
		return "", fmt.Errorf("lease: %w", &os.PathError{Op: "flock", Path: f.Name(), Err: err})
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		return "", fmt.Errorf("lease: %w", &os.PathError{Op: "flock", Path: f.Name(), Err: err})
	}
	if e.recovered {
		// The number is one of that PID namespace.
		if e.PIDNS != sec.store.own.pid {
			return Starting, nil
		}
		if start, err := linux.StartTime("/proc/" + strconv.Itoa(e.PID)); err == nil && start == e.start {
			return Starting, nil
		}
	}
	if e.IsPin() {
		return sec.store.pinState(e)
	}
	has, err := sec.store.hasState(e.Key)
	if err != nil {
		return "", err
	}
	if has {
		return Container, nil
	}
	return Ended, nil
}

// lived looks for processes in an entry's namespace, and for others that have some
// of its IDs: with one it hasn't ended. Those that another entry answers for don't count.
func (sec *section) lived(n name, e *Status, alive []LiveNS) error {
	if e.IsPin() {
		return sec.pinLived(e, alive)
	}
	if own := sec.store.own.pid; e.PIDNS != 0 && e.PIDNS != own && own != initPIDNS {
		e.State = Process // for all that can be seen from here
		return nil
	}
	var mine []LiveNS
	for _, l := range alive {
		if l.Staged && l.Inode == e.UserNS || !l.IDs().Intersect(e.Ranges).Empty() {
			mine = append(mine, l)
		}
	}
	if mine == nil {
		return nil
	}
	others, err := sec.overlapping(e.Ranges)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.text == n.text {
			continue
		}
		if mine, err = sec.notOf(other, e.Entry, mine); err != nil {
			return err
		}
	}
	if len(mine) > 0 {
		e.State, e.Alive = Process, mine[0].PID
	}
	return nil
}

// notOf is the namespaces that another entry doesn't answer for: it does so for the
// namespace it was made for, and if that is e's too, only while it is in use itself.
func (sec *section) notOf(other name, e Entry, alive []LiveNS) ([]LiveNS, error) {
	f, err := sec.openAt(other.text, unix.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return alive, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	o, err := readEntry(f, other)
	if err != nil || o.UserNS == 0 {
		return alive, err
	}
	if o.UserNS == e.UserNS {
		if state, err := sec.inUse(f, o); err != nil || state == Ended {
			return alive, err
		}
	}
	return slices.DeleteFunc(alive, o.answersFor), nil
}

// answersFor says whether the entry is the one of a live namespace; a pin's is for those as well that
// its owner makes inside.
func (e Entry) answersFor(l LiveNS) bool {
	if !e.Ranges.ContainsSet(l.IDs()) {
		return false
	}
	if l.Inode == e.UserNS || !e.IsPin() || e.UserNS == 0 || l.Inode == 0 {
		return l.Inode == e.UserNS
	}
	lies, err := l.liesIn(e.UserNS)
	return lies && err == nil
}

// The file that the low-level runtime makes for a container in the directory of that name below its --root: runc's
// (libcontainer), and crun's.
const (
	RuncStateName = "state.json"
	CrunStateName = "status"
)

// hasState says whether the low-level runtime has state of the container. The path is one
// of the mount namespace of whoever started the container; where no process is in
// that any more, nobody can ask for the container either.
func (s *Store) hasState(k Key) (bool, error) {
	path, err := s.StatePath(k)
	if err != nil || path == "" {
		return false, err
	}
	_, err = os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Lstat(filepath.Join(filepath.Dir(path), CrunStateName))
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
		return false, nil
	}
	return true, nil //nolint:nilerr // what can't be looked at may be there
}

// StatePath is where the low-level runtime keeps its state of a container, as a path for the
// caller, whatever mount namespace it is in; "" if nobody is in that any more.
func (s *Store) StatePath(k Key) (string, error) {
	if k.ID == "" {
		return "", nil
	}
	root := ""
	if k.MountNS != s.own.mount {
		pid, err := processIn(k.MountNS)
		if err != nil || pid == "" {
			return "", err
		}
		root = "/proc/" + pid + "/root"
	}
	return root + filepath.Join(k.Root, k.ID, RuncStateName), nil
}

// processIn is the number of a process in a mount namespace; "" if there is none.
func processIn(mount uint64) (string, error) {
	pids, err := processes()
	if err != nil {
		return "", fmt.Errorf("lease: %w", err)
	}
	for _, pid := range pids {
		if in, err := namespaceOf("/proc/" + pid + "/ns/mnt"); err == nil && in == mount {
			return pid, nil
		}
	}
	return "", nil
}

// List is all entries with their states, in no order. It makes nothing.
func (s *Store) List() ([]Status, error) {
	sec, all, err := s.judgeAll()
	if sec == nil {
		return nil, err
	}
	defer sec.unlock()
	out := make([]Status, len(all))
	for i, j := range all {
		out[i] = j.Status
	}
	return out, nil
}

// Kept says whether leases are kept: whether the directory is there, and whole. If not, the next
// start makes it again from what is alive.
func (s *Store) Kept() (bool, error) {
	sec, err := s.lockAndLoad()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer sec.unlock()
	boot, by, err := sec.bootOf()
	return err == nil && sec.complete(boot, by), err
}

// Collect removes the entries that have ended, and gives them.
func (s *Store) Collect() (removed []Status, err error) {
	sec, all, err := s.judgeAll()
	if sec == nil {
		return nil, err
	}
	defer sec.unlock()
	for _, j := range all {
		if j.State != Ended {
			continue
		}
		if err := sec.remove(j.name); err != nil {
			return removed, err
		}
		removed = append(removed, j.Status)
	}
	// What those left who were killed while they made an entry.
	if err := sec.unlink(newName); err != nil || len(sec.names) > 0 {
		return removed, err
	}
	return removed, sec.unlink(indexName)
}

// judgeAll judges all entries there are, and gives the directory locked; nil if there is none,
// and on error.
func (s *Store) judgeAll() (*section, []judged, error) {
	sec, err := s.lockAndLoad()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	all, err := sec.statuses(sec.names)
	var otherBoot bool
	if err == nil {
		otherBoot, err = sec.ofOtherBoot()
	}
	if err != nil {
		sec.unlock()
		return nil, nil, err
	}
	for i := range all {
		if otherBoot {
			all[i].State = Ended
		}
	}
	return sec, all, nil
}
