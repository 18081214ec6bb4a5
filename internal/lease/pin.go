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
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// PinDir is where pins are, in the mount namespace of the host's first process: user namespaces
// that mounts keep, on PinDir/OWNER/NAME. It is delegate.PinDir.
const PinDir = "/run/userns"

// PinKey is the key of a pin's entry. It doesn't depend on the caller.
func PinKey(owner, name string) Key { return Key{Root: PinDir, ID: owner + "/" + name} }

// IsPin says whether it is the key of a pin. No container's is: those have a mount namespace.
func (k Key) IsPin() bool { return k.Root == PinDir && k.MountNS == 0 && k.ID != "" }

// inWay is the names without those of pins that may stay where they are.
func (sec *section) inWay(r Request, names []name) ([]name, error) {
	var out []name
	for _, n := range names {
		if n.pin() {
			e, err := sec.read(n)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if err == nil && r.mayOverlap(Status{Entry: e}) {
				continue
			}
		}
		out = append(out, n)
	}
	return out, nil
}

// OfPin is the request for a pin of the namespace that ns is open on. Each of the namespaces that a pin
// has had one after the other has an entry of its own, for as long as somebody has it.
func (r Request) OfPin(ns *os.File) (Request, error) {
	var err error
	if r.UserNS, err = linux.Inode(ns); err != nil {
		return Request{}, fmt.Errorf("lease: %w", err)
	}
	uid, err := linux.UserNSOwner(ns)
	if err != nil {
		return Request{}, fmt.Errorf("lease: %w", err)
	}
	r.uid = &uid
	r.handle, err = linux.NamespaceHandle(ns)
	if err != nil && !errors.Is(err, linux.ErrNoHandles) {
		return Request{}, fmt.Errorf("lease: %w", err)
	}
	return r, nil
}

// mountedPin is a pin in the mount table.
type mountedPin struct {
	owner, name string
	inode       uint64
	path        string // for the caller
}

// pins is the user namespaces that are mounted where pins are.
func (s *Store) pins() ([]mountedPin, error) {
	table, err := s.userNSMounts()
	if err != nil {
		return nil, err
	}
	var pins []mountedPin
	for _, m := range table {
		below, ok := strings.CutPrefix(m.Mountpoint, PinDir+"/")
		owner, name, two := strings.Cut(below, "/")
		inode, _ := namespaceNumber(m.Root)
		if ok && two && !strings.Contains(name, "/") {
			pins = append(pins, mountedPin{owner, name, inode, s.pinPath(m.Mountpoint)})
		}
	}
	return pins, nil
}

// pinPath is a path of the host's, for the caller.
func (s *Store) pinPath(path string) string {
	if s.mounts == hostMounts {
		return "/proc/1/root" + path
	}
	return path
}

// hostMounts is the mount table of the host's first process.
const hostMounts = "/proc/1/mountinfo"

// userNSMounts is the mounts of user namespaces on the host.
func (s *Store) userNSMounts() ([]*mountinfo.Info, error) {
	if s.mounts == "" {
		return nil, nil
	}
	table, err := mountsIn(s.mounts, func(m *mountinfo.Info) bool {
		_, ok := namespaceNumber(m.Root)
		return ok && m.FSType == "nsfs" && strings.HasPrefix(m.Root, "user:[")
	})
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	return table, nil
}

func mountsIn(path string, wanted func(*mountinfo.Info) bool) ([]*mountinfo.Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) { return !wanted(m), false })
}

// pinState is that of a pin's entry which nobody has locked, without a look at what is alive. A mount
// at another place of the host's keeps the namespace as well. Its number alone, of one that has gone, may be another's.
func (s *Store) pinState(e Entry) (State, error) {
	if gone, err := e.gone(); gone || err != nil {
		return Ended, err
	}
	// The usual case: a host may have many mounts.
	if ns, err := linux.OpenNamespace(s.pinPath(e.Root + "/" + e.ID)); err == nil {
		inode, err := linux.Inode(ns)
		ns.Close()
		if err == nil && inode == e.UserNS {
			return Pinned, nil
		}
	}
	table, err := s.userNSMounts()
	if err != nil {
		return "", err
	}
	for _, m := range table {
		if inode, _ := namespaceNumber(m.Root); inode == e.UserNS {
			return Pinned, nil
		}
	}
	return Ended, nil
}

// pinLived says who has the namespace of a pin that isn't mounted any more: a process in it, or in one
// that lies in it; then whoever could enter it yet. Nothing ends a namespace that somebody
// has open, and its owner may keep that for as long as they like.
func (sec *section) pinLived(e *Status, alive []LiveNS) error {
	if e.UserNS == 0 {
		return nil // it ended before there was one
	}
	if gone, err := e.gone(); gone || err != nil {
		return err
	}
	if e.Handle != "" {
		e.State = StillOpen // also where it can't be told from here, but could be when it was made
	}
	for _, l := range alive {
		// One without maps has none of the IDs, and leads to those who have.
		lies, err := l.liesIn(e.UserNS)
		if lies || err != nil && !l.IDs().Intersect(e.Ranges).Empty() {
			e.State, e.Alive = Process, l.PID
			return nil
		}
	}
	pid, err := openedBy(e.UserNS)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if pid != 0 {
		e.State, e.Alive = StillOpen, pid
	}
	return nil
}

// gone says whether the namespace is known to have gone: the kernel gives its number to others then.
func (e Entry) gone() (bool, error) {
	if e.Handle == "" {
		return false, nil
	}
	lives, err := linux.NamespaceLives(e.Handle)
	if errors.Is(err, linux.ErrNoHandles) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lease: %w", err)
	}
	return !lives, nil
}

// liesIn says whether a live namespace is the one of the inode number, or lies in it.
func (l LiveNS) liesIn(inode uint64) (bool, error) {
	if l.Inode == inode {
		return true, nil
	}
	ns, err := linux.OpenNamespace("/proc/" + strconv.Itoa(l.PID) + "/ns/user")
	if err != nil {
		return false, err
	}
	defer ns.Close()
	return linux.Within(ns, inode)
}

// openedBy is a process that has a user namespace open, or mounted in a mount namespace of
// its own; 0 if none is found. Files that are in flight between processes aren't seen.
func openedBy(inode uint64) (pid int, err error) {
	pids, err := processes()
	if err != nil {
		return 0, err
	}
	root := fmt.Sprintf("user:[%d]", inode)
	seen := map[uint64]bool{} // mount namespaces
	for _, p := range pids {
		proc := "/proc/" + p
		if hasOpen(proc, inode) {
			return strconv.Atoi(p)
		}
		mount, err := namespaceOf(proc + "/ns/mnt")
		if err != nil || seen[mount] {
			continue // it has ended
		}
		table, err := mountsIn(proc+"/mountinfo", func(m *mountinfo.Info) bool { return m.FSType == "nsfs" && m.Root == root })
		if err != nil {
			continue
		}
		seen[mount] = true
		if len(table) > 0 {
			return strconv.Atoi(p)
		}
	}
	return 0, nil
}

// hasOpen says whether a process, by its directory in /proc, has a namespace open. The kernel's own
// words are looked at first (proc(5), /proc/PID/fdinfo): to ask the file itself might be to ask a
// filesystem that never answers.
func hasOpen(proc string, inode uint64) bool {
	names, err := listDir(proc + "/fdinfo")
	if err != nil {
		return false // it has ended
	}
	return slices.ContainsFunc(names, func(fd string) bool {
		info, err := os.ReadFile(filepath.Join(proc, "fdinfo", fd))
		if err != nil || strings.Contains(string(info), "\nino:\t") && !strings.Contains(string(info), fmt.Sprintf("\nino:\t%d\n", inode)) {
			return false
		}
		ns, err := linux.OpenNamespace(filepath.Join(proc, "fd", fd))
		if err != nil {
			return false
		}
		defer ns.Close()
		is, err := linux.Inode(ns)
		return err == nil && is == inode
	})
}

// foundPins is an entry for each pin for which answered doesn't say that there is one. One that
// can't be opened, as something else is mounted over it, nobody can enter either.
func (s *Store) foundPins(answered func(LiveNS) (bool, error)) (found []Entry, err error) {
	pins, err := s.pins()
	if err != nil {
		return nil, err
	}
	for _, p := range pins {
		is, err := lookAtPin(p)
		if errors.Is(err, errNotPin) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lease: pin %s/%s: %w", p.owner, p.name, err)
		}
		if is.ids.Empty() {
			continue
		}
		known, err := answered(LiveNS{Inode: p.inode, UIDs: is.uids, GIDs: is.gids})
		if err != nil {
			return nil, err
		}
		if !known {
			found = append(found, Entry{Key: PinKey(p.owner, p.name), Owner: p.owner, Ranges: is.ids, UserNS: p.inode, Handle: is.handle, UID: &is.uid, PIDNS: s.own.pid})
		}
	}
	return found, nil
}

var errNotPin = errors.New("it isn't the namespace that the mount table shows there")

// pinned is what the namespace of a pin is, counted on the host.
type pinned struct {
	maps
	ids           idmap.Set
	denySetgroups bool
	handle        string
	uid           uint32 // whose it is
}

func lookAtPin(p mountedPin) (is pinned, err error) {
	ns, err := linux.OpenNamespace(p.path)
	if err != nil {
		return pinned{}, fmt.Errorf("%w: %w", errNotPin, err)
	}
	defer ns.Close()
	if inode, err := linux.Inode(ns); err != nil || inode != p.inode {
		return pinned{}, errors.Join(errNotPin, err)
	}
	own, err := mapsOf("self", maps{})
	if err != nil {
		return pinned{}, err
	}
	child, err := linux.ParkInUserNS(int(ns.Fd()))
	if err != nil {
		return pinned{}, err
	}
	defer child.Close()
	if is.maps, err = mapsOf(strconv.Itoa(child.PID()), own); err != nil {
		return pinned{}, err
	}
	setgroups, err := child.ReadFile("setgroups")
	if err != nil {
		return pinned{}, err
	}
	is.denySetgroups = setgroups != "allow\n"
	is.ids = LiveNS{UIDs: is.uids, GIDs: is.gids}.IDs()
	if is.uid, err = linux.UserNSOwner(ns); err != nil {
		return pinned{}, err
	}
	is.handle, err = linux.NamespaceHandle(ns)
	if errors.Is(err, linux.ErrNoHandles) {
		err = nil
	}
	return is, err
}

// PinRecord is what there is to say of a pin as of a container: its maps and flags are read from its
// namespace, since nobody wrote them down. One that isn't mounted has none: the error wraps
// [ErrRecord].
func (s *Store) PinRecord(of Status) (Record, error) {
	pins, err := s.pins()
	if err != nil {
		return Record{}, err
	}
	i := slices.IndexFunc(pins, func(p mountedPin) bool { return PinKey(p.owner, p.name) == of.Key && p.inode == of.UserNS })
	if i < 0 {
		return Record{}, fmt.Errorf("%w: pin %s isn't mounted", ErrRecord, of.ID)
	}
	is, err := lookAtPin(pins[i])
	if err != nil {
		return Record{}, fmt.Errorf("%w: pin %s: %w", ErrRecord, of.ID, err)
	}
	r := Record{Owner: of.Owner, UIDs: is.uids, GIDs: is.gids}
	if is.denySetgroups {
		r.Flags = "deny-setgroups"
	}
	return r, nil
}
