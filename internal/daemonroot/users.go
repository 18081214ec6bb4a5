// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// maxNamed is how many users of a super-root a message names.
const maxNamed = 10

// use is that something below a super-root is in use.
type use struct {
	pid int
	rel string // from the super-root
	why string // with the path
}

// free refuses to touch these names in the super-root while something of them is in use, by a dockerd, an
// open file, a mount; what isn't among them may be. Processes that can't be looked at, since they have more
// privileges than the caller, are a warning.
func (s *super) free(names []string) (warnings []string, err error) {
	daemons, err := s.daemons()
	if err != nil {
		return nil, err
	}
	touches := func(rel string) bool {
		first, _, _ := strings.Cut(rel, "/")
		return slices.Contains(names, first)
	}
	var busy []string
	for _, d := range daemons {
		if d.rel == "" || touches(d.rel) {
			busy = append(busy, fmt.Sprintf("%s is the data root of dockerd, process %d%s: stop it: systemctl stop docker.socket docker.service, or: kill %[2]d", s.data(d.rel), d.pid, d.by))
		}
	}
	if len(busy) > 0 { // to whom all the rest belongs, as a rule
		return nil, s.inUse(busy)
	}
	uses, hidden, err := s.uses()
	if err != nil {
		return nil, err
	}
	named := make(map[int]bool)
	for _, u := range uses {
		if touches(u.rel) && !named[u.pid] {
			named[u.pid] = true // with one of the things that it has
			busy = append(busy, u.why)
		}
	}
	if len(busy) > 0 {
		return nil, s.inUse(busy)
	}
	if len(hidden) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s: whether it is in use by processes that have more privileges than this one can't be seen: %s", s.path, some(hidden)))
	}
	return warnings, nil
}

func (s *super) inUse(busy []string) error {
	more := ""
	if len(busy) > maxNamed {
		more = fmt.Sprintf("\nand %d more", len(busy)-maxNamed)
		busy = busy[:maxNamed]
	}
	return fmt.Errorf("%s: what is to be moved is in use: expected nobody who uses it: end them first:\n%s%s", s.path, strings.Join(busy, "\n"), more)
}

// where is a place in a filesystem, whatever is mounted where: the device by its numbers in
// proc_pid_mountinfo(5), and the path from that filesystem's root.
type where struct {
	major, minor int
	path         string
}

// below is the path from the super-root to a place; ok is false if it isn't below it.
func (w where) below(super where) (rel string, ok bool) {
	if w.major != super.major || w.minor != super.minor {
		return "", false
	}
	rel, err := filepath.Rel(super.path, w.path)
	return rel, err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
}

// at is the place of a path, of those that are reached by a mount. ok is false if it isn't.
func at(m *mountinfo.Info, path string) (w where, ok bool) {
	rel, err := filepath.Rel(m.Mountpoint, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return where{}, false
	}
	return where{m.Major, m.Minor, filepath.Join(m.Root, rel)}, true
}

// scan is a look at all processes.
type scan struct {
	*super
	here   where
	proc   string
	mounts map[string]map[int]*mountinfo.Info
	found  []use
	hidden []string // processes that can't be looked at
}

// uses is what is in use below the super-root, by processes that the caller can see, in any mount
// namespace. Processes that end meanwhile use nothing; hidden is those that can't be looked at.
func (s *super) uses() (found []use, hidden []string, err error) {
	sc := &scan{super: s, proc: cmp.Or(s.host.Proc, "/proc"), mounts: map[string]map[int]*mountinfo.Info{}}
	if err := sc.locate(); err != nil {
		return nil, nil, err
	}
	pids, err := processes(sc.proc)
	if err != nil {
		return nil, nil, err
	}
	for _, pid := range pids {
		switch err := sc.process(pid); {
		case err == nil, ended(err):
		case errors.Is(err, fs.ErrPermission):
			sc.hidden = append(sc.hidden, strconv.Itoa(pid))
		default:
			return nil, nil, fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return sc.found, sc.hidden, nil
}

// locate finds the super-root's own place.
func (sc *scan) locate() error {
	id, err := linux.MountID(sc.dir)
	if err != nil {
		return fmt.Errorf("%s: %w", sc.path, bare(err))
	}
	mounts, err := sc.table("/proc/thread-self")
	if err != nil {
		return err
	}
	m, ok := mounts[id]
	if ok {
		sc.here, ok = at(m, sc.path)
	}
	if !ok {
		return fmt.Errorf("%s: its mount isn't in /proc/self/mountinfo: expected it there: call this outside of a chroot", sc.path)
	}
	sc.mounted(os.Getpid(), "", mounts)
	return nil
}

// processes is their numbers, without the caller's.
func processes(proc string) (pids []int, err error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// ended says whether an error means that a process is gone.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// table is the mounts of a process's namespace, by their numbers. Those of one namespace are read once.
func (sc *scan) table(dir string) (map[int]*mountinfo.Info, error) {
	ns, err := os.Readlink(dir + "/ns/mnt")
	if err != nil {
		return nil, err
	}
	// A process in a chroot sees less of it, and by other paths.
	root, err := os.Readlink(dir + "/root")
	if err != nil {
		return nil, err
	}
	key := ns + " " + root
	if table, ok := sc.mounts[key]; ok {
		return table, nil
	}
	f, err := os.Open(dir + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, err
	}
	table := make(map[int]*mountinfo.Info)
	for _, m := range all {
		m.Mountpoint = filepath.Join(root, m.Mountpoint)
		table[m.ID] = m
	}
	sc.mounts[key] = table
	return table, nil
}

// process looks at the mounts of one process, if nobody with the same ones was there before, and at its
// files.
func (sc *scan) process(pid int) error {
	dir := filepath.Join(sc.proc, strconv.Itoa(pid))
	who := fmt.Sprintf("process %d", pid)
	if name, err := os.ReadFile(dir + "/comm"); err == nil {
		who += " (" + strings.TrimSuffix(string(name), "\n") + ")"
	}
	known := len(sc.mounts)
	table, err := sc.table(dir)
	if err != nil {
		return err
	}
	if len(sc.mounts) > known {
		sc.mounted(pid, ", where "+who+" is", table)
	}
	for _, link := range []struct{ name, what string }{{"cwd", "works in"}, {"root", "has as its root"}, {"exe", "runs"}} {
		if err := sc.file(pid, who+" "+link.what, filepath.Join(dir, link.name), table); err != nil {
			return err
		}
	}
	for _, of := range []struct{ dir, what string }{{"fd", "has open"}, {"map_files", "has mapped"}} {
		entries, err := os.ReadDir(filepath.Join(dir, of.dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := sc.file(pid, who+" "+of.what, filepath.Join(dir, of.dir, e.Name()), table); err != nil && !ended(err) {
				return err
			}
		}
	}
	return nil
}

// mounted finds mounts of something below the super-root, and mounts on something below it, both by
// their place and not by their path: in a container, paths mean something else. there says in whose
// namespace.
func (sc *scan) mounted(pid int, there string, table map[int]*mountinfo.Info) {
	for _, m := range table {
		source := where{m.Major, m.Minor, m.Root}
		if rel, ok := source.below(sc.here); ok {
			sc.found = append(sc.found, use{pid, rel, fmt.Sprintf("%s is mounted at %s%s", sc.data(rel), m.Mountpoint, there)})
			continue
		}
		parent, ok := table[m.Parent]
		if !ok {
			continue
		}
		point, ok := at(parent, m.Mountpoint)
		if !ok {
			continue
		}
		if rel, ok := point.below(sc.here); ok {
			sc.found = append(sc.found, use{pid, rel, fmt.Sprintf("%s has %s (%s) mounted on it%s: end the container that it is of; if it is another filesystem for some of dockerd's data, unmount it, and mount it below %s afterwards",
				sc.data(rel), m.Source, m.FSType, there, sc.data(unmappedData))})
		}
	}
}

// file looks at what a link in /proc leads to, by the mount that the process has it on.
func (sc *scan) file(pid int, what, link string, table map[int]*mountinfo.Info) error {
	path, err := os.Readlink(link)
	if err != nil {
		return err
	}
	// Sockets, pipes and the like have no path. exe and root may be of nobody any more.
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, link, unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return err
	}
	m, ok := table[int(st.Mnt_id)]
	if !ok {
		// On a mount that is nowhere (any more), or outside of its root: by its path, then.
		if sc.below(path) && path != sc.path {
			rel, _ := filepath.Rel(sc.path, path)
			sc.found = append(sc.found, use{pid, rel, fmt.Sprintf("%s %s", what, path)})
		}
		return nil
	}
	if place, ok := at(m, path); ok {
		if rel, ok := place.below(sc.here); ok {
			sc.found = append(sc.found, use{pid, rel, fmt.Sprintf("%s %s", what, sc.data(rel))})
		}
	}
	return nil
}
