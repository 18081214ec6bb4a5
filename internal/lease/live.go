// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// LiveNS is a user namespace with a process in it, other than the caller's own.
type LiveNS struct {
	// Inode is its number (namespaces(7)); the kernel gives it again, once it is
	// free. 0 if the caller may not know: then there may be several of one namespace.
	Inode      uint64
	PID        int       // a process in it
	UIDs, GIDs idmap.Map // counted on the host
	// Has is the IDs that PID has itself, where the namespace has no maps yet: a process
	// keeps its own in a new one. Then there is one of these for each process.
	Has idmap.Set
	// Staged says that no process is in it as far as is known, but that PID is one that
	// starts a container there: it has the namespace mounted at [StagedNS]. Its
	// maps aren't known then.
	Staged bool
}

// StagedNS is where a program that starts a container has its user namespace, in a
// mount namespace of its own. The low-level runtime, and the process that it makes and
// that will enter the user namespace in a moment, are in that.
const StagedNS = "/run/userns-runtime/mnt/userns"

// IDs is those that processes in the namespace can have, of users and of groups. An extent
// with the host's root in it isn't a range that was handed out: it is the host's own IDs, as
// systemd maps them all for some services (PrivateUsers=full).
func (l LiveNS) IDs() idmap.Set {
	var ranges []idmap.Range
	for _, e := range slices.Concat(l.UIDs, l.GIDs) {
		if r := e.OuterRange(); !r.Contains(0) {
			ranges = append(ranges, r)
		}
	}
	return idmap.NewSet(ranges...).Union(l.Has)
}

// unmapped says that the namespace has no maps, or only one of the two.
func (l LiveNS) unmapped() bool { return !l.Staged && (len(l.UIDs) == 0 || len(l.GIDs) == 0) }

// Live finds all user namespaces that processes are in, in /proc. Processes that
// have ended, and wait to be asked for their status, don't count.
//
// Processes come and go while it looks. /proc is listed again until every process that was
// listed could be looked at, or nothing has come: so one that leaves the namespace's life to
// a child, again and again, is found too. If that takes too long it is an error.
//
// A process outside of the caller's PID namespace isn't found.
func Live() ([]LiveNS, error) {
	s, err := newScan()
	if err != nil {
		return nil, fmt.Errorf("live user namespaces: %w", err)
	}
	for range passes {
		settled, err := s.pass()
		if err != nil {
			return nil, fmt.Errorf("live user namespaces: %w", err)
		}
		if settled {
			return s.found, nil
		}
	}
	return nil, fmt.Errorf("live user namespaces: %w", errRestless)
}

// passes is how often /proc is listed at most.
const passes = 50

var errRestless = errors.New("processes are started and end faster than they can be looked at")

// scan is one look at all processes.
type scan struct {
	own    maps
	here   uint64          // the caller's user namespace
	known  map[uint64]bool // user namespaces that need no second look
	stages map[uint64]bool // and mount namespaces
	looked map[string]bool // processes
	found  []LiveNS
}

func newScan() (*scan, error) {
	s := &scan{known: map[uint64]bool{}, stages: map[uint64]bool{}, looked: map[string]bool{}}
	mount, err := namespaceOf("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	if s.here, err = namespaceOf("/proc/self/ns/user"); err != nil {
		return nil, err
	}
	s.known[s.here], s.stages[mount] = true, true
	s.own, err = mapsOf("self", maps{})
	return s, err
}

// pass looks at the processes that weren't looked at yet. It settles it if there are
// none, or none of them has ended before it could be looked at.
func (s *scan) pass() (settled bool, err error) {
	pids, err := processes()
	if err != nil {
		return false, err
	}
	settled = true
	for _, pid := range pids {
		if s.looked[pid] {
			continue
		}
		s.looked[pid] = true
		gone, err := s.look(pid)
		if err != nil {
			return false, err
		}
		settled = settled && !gone
	}
	return settled, nil
}

// look looks at one process; gone says that it has ended before that.
func (s *scan) look(pid string) (gone bool, err error) {
	l, ok, err := liveIn(pid, s.known, s.own)
	// Of a process that ends while it is looked at, the kernel says many things (EACCES,
	// EINVAL).
	for tries := 0; err != nil && tries < 10 && !ended(err) && !ended(lstat("/proc/"+pid)); tries++ {
		l, ok, err = liveIn(pid, s.known, s.own)
	}
	if err != nil {
		if ended(err) || ended(lstat("/proc/"+pid)) {
			return true, nil
		}
		return false, err
	}
	if l.Inode == s.here {
		l, ok = stagedBy(pid, s.stages)
	}
	if !ok {
		return false, nil
	}
	if l.Inode != 0 && !l.Staged && !l.unmapped() {
		s.known[l.Inode] = true
	}
	s.found = append(s.found, l)
	return false, nil
}

func lstat(path string) error {
	_, err := os.Lstat(path)
	return err
}

// stagedBy is the namespace that a process is going to start a container in; seen is the
// mount namespaces that are known already. What is mounted there is read, and nothing of it
// is touched: a filesystem may belong to somebody who never answers. What may not be
// looked at has more privileges than root here has, and is none of ours.
func stagedBy(pid string, seen map[uint64]bool) (l LiveNS, ok bool) {
	mount, err := namespaceOf("/proc/" + pid + "/ns/mnt")
	if err != nil || seen[mount] {
		return LiveNS{}, false
	}
	table, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		return LiveNS{}, false
	}
	seen[mount] = true
	at := strings.Index(string(table), " "+StagedNS+" ")
	if at < 0 {
		return LiveNS{}, false
	}
	// Before the mount point stands its root, which of a namespace is its number.
	before := strings.Fields(string(table[:at]))
	inode, ok := namespaceNumber(before[len(before)-1])
	number, err := strconv.Atoi(pid)
	return LiveNS{Inode: inode, PID: number, Staged: true}, ok && err == nil
}

// ended says whether err is what the kernel says of a process that is gone.
func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, errEnded)
}

// errEnded is said of a process that has ended, and that nobody has asked for its status yet: it
// may have left a child, as one that is gone may have.
var errEnded = errors.New("it has ended")

// liveIn is the namespace of a process; ok is false if it is known, of which then no more
// than the number is given. Of a process that has ended it is an error: see [ended].
func liveIn(pid string, known map[uint64]bool, own maps) (l LiveNS, ok bool, err error) {
	inode, err := namespaceOf("/proc/" + pid + "/ns/user")
	if errors.Is(err, fs.ErrPermission) {
		inode, err = 0, nil // the maps are everybody's to read
	}
	if err != nil || known[inode] {
		return LiveNS{Inode: inode}, false, err
	}
	running, err := runs(pid)
	if err == nil && !running {
		err = errEnded
	}
	if err != nil {
		return LiveNS{}, false, err
	}
	m, err := mapsOf(pid, own)
	if err != nil {
		return LiveNS{}, false, err
	}
	if inode == 0 && m.uids.Equal(own.uids) && m.gids.Equal(own.gids) {
		return LiveNS{}, false, nil // in the caller's own
	}
	number, err := strconv.Atoi(pid)
	if err != nil {
		return LiveNS{}, false, err
	}
	if inode != 0 {
		// The process may have entered another one between the two looks.
		again, err := namespaceOf("/proc/" + pid + "/ns/user")
		if err != nil {
			return LiveNS{}, false, err
		}
		if again != inode {
			return liveIn(pid, known, own)
		}
	}
	l = LiveNS{Inode: inode, PID: number, UIDs: m.uids, GIDs: m.gids}
	if l.unmapped() {
		l.Has, err = idsOf(pid, own)
	}
	return l, true, err
}

// processes is the numbers in /proc, in the order that the kernel lists them:
// rising.
func processes() ([]string, error) {
	all, err := listDir("/proc")
	if err != nil {
		return nil, err
	}
	pids := all[:0]
	for _, name := range all {
		if name[0] >= '1' && name[0] <= '9' {
			pids = append(pids, name)
		}
	}
	return pids, nil
}

// runs says whether a process has a thread that hasn't ended. Of one whose first
// thread has ended, others may be alive.
func runs(pid string) (bool, error) {
	threads, err := listDir("/proc/" + pid + "/task")
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		stat, err := os.ReadFile("/proc/" + pid + "/task/" + thread + "/stat")
		if ended(err) {
			continue
		}
		if err != nil {
			return false, err
		}
		// The second field, in parentheses, may have anything in it (proc(5)).
		state := strings.TrimSpace(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if state != "" && state[0] != 'Z' && state[0] != 'X' {
			return true, nil
		}
	}
	return false, nil
}

// idsOf is the IDs that a process has, counted on the host: real, effective, saved, of the
// filesystem, and its groups (proc(5), /proc/PID/status).
func idsOf(pid string, own maps) (idmap.Set, error) {
	path := "/proc/" + pid + "/status"
	status, err := os.ReadFile(path)
	if err != nil {
		return idmap.Set{}, err
	}
	var ranges []idmap.Range
	for line := range strings.Lines(string(status)) {
		name, values, _ := strings.Cut(line, ":")
		m := own.gids
		switch name {
		case "Uid":
			m = own.uids
		case "Gid", "Groups":
		default:
			continue
		}
		for _, value := range strings.Fields(values) {
			id, err := idmap.ParseID(value)
			if err != nil {
				return idmap.Set{}, fmt.Errorf("%s: %s: %w", path, name, err)
			}
			if outer, ok := m.ToOuter(id); ok {
				ranges = append(ranges, idmap.Range{Start: outer, Count: 1})
			}
		}
	}
	return idmap.NewSet(ranges...), nil
}

// withMaps learns the maps of a namespace that is staged.
func (l LiveNS) withMaps() (LiveNS, error) {
	own, err := mapsOf("self", maps{})
	if err != nil {
		return l, err
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(l.PID) + "/root" + StagedNS)
	if err != nil {
		return l, err
	}
	defer ns.Close()
	child, err := linux.ParkInUserNS(int(ns.Fd()))
	if err != nil {
		return l, err
	}
	defer child.Close()
	m, err := mapsOf(strconv.Itoa(child.PID()), own)
	l.UIDs, l.GIDs = m.uids, m.gids
	return l, err
}

// maps is those of a user namespace.
type maps struct{ uids, gids idmap.Map }

// mapsOf is the maps of a process, counted in the caller's namespace and then
// through its own maps; of the caller itself these are nothing.
func mapsOf(pid string, own maps) (m maps, err error) {
	for _, side := range []struct {
		file string
		own  idmap.Map
		m    *idmap.Map
	}{{"uid_map", own.uids, &m.uids}, {"gid_map", own.gids, &m.gids}} {
		path := "/proc/" + pid + "/" + side.file
		text, err := os.ReadFile(path)
		if err != nil {
			return maps{}, err
		}
		if *side.m, err = hostMap(string(text), side.own); err != nil {
			return maps{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	return m, nil
}

// hostMap reads a map that was read in a namespace whose map is own. What own
// doesn't hold isn't the caller's to give to anybody, and is left out.
func hostMap(text string, own idmap.Map) (idmap.Map, error) {
	if own == nil || own.Equal(idmap.Host()) {
		return idmap.ParseMap(text)
	}
	var out idmap.Map
	for line := range strings.Lines(text) {
		m, err := idmap.ParseMap(line)
		if err != nil {
			continue // the kernel shows -1 for what the reader's namespace doesn't map
		}
		out = append(out, parts(m[0], own)...)
	}
	return out, nil
}

// parts is what own holds of an extent, counted on the host.
func parts(e idmap.Extent, own idmap.Map) (out idmap.Map) {
	for _, o := range own {
		if both, ok := e.OuterRange().Intersect(o.InnerRange()); ok {
			out = append(out, idmap.Extent{
				Inner: e.Inner + (both.Start - e.Outer), Outer: o.Outer + (both.Start - o.Inner), Count: both.Count,
			})
		}
	}
	return out
}
