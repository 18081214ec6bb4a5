// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// bootOf is the boot ID that the directory is of, "" if nobody has said; and the PID
// namespace of who said so.
func (sec *section) bootOf() (boot string, pidNS uint64, err error) {
	buf := make([]byte, 128)
	n, err := unix.Readlinkat(int(sec.dir.Fd()), bootLink, buf)
	if errors.Is(err, unix.ENOENT) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("lease: %w", &os.PathError{Op: "readlink", Path: filepath.Join(sec.store.path, bootLink), Err: err})
	}
	boot, number, _ := strings.Cut(string(buf[:n]), " ")
	pidNS, _ = strconv.ParseUint(number, 10, 64) // 0 is nobody's
	return boot, pidNS, nil
}

// ofOtherBoot says that nothing in the directory can be alive.
func (sec *section) ofOtherBoot() (bool, error) {
	boot, _, err := sec.bootOf()
	return err == nil && boot != "" && boot != sec.store.boot, err
}

// settle makes a directory fit to be asked: what is of another boot goes, and what
// is alive and has no entry gets one. The link and the seal come last, so that one who
// is ended in the middle leaves all of it to the next.
//
// From a PID namespace below the host's not all can be seen. Who is in one believes the
// host, and themselves; the host, and others, don't believe them, and look again.
func (sec *section) settle() error {
	boot, by, err := sec.bootOf()
	if err != nil {
		return err
	}
	own := sec.store.own.pid
	same := boot == sec.store.boot
	if sec.complete(boot, by) {
		return nil
	}
	if !same && boot != "" {
		for len(sec.names) > 0 {
			if err := sec.remove(sec.names[0]); err != nil {
				return err
			}
		}
	}
	if err := sec.recoverOpen(); err != nil {
		return err
	}
	if err := sec.rebuild(); err != nil {
		return err
	}
	sec.changed = true
	if sec.whole = !same || by == own || own == initPIDNS; !sec.whole {
		return nil
	}
	if err := sec.unlink(bootLink); err != nil {
		return err
	}
	if err := unix.Symlinkat(fmt.Sprintf("%s %d", sec.store.boot, own), int(sec.dir.Fd()), bootLink); err != nil {
		return fmt.Errorf("lease: %w", &os.PathError{Op: "symlink", Path: filepath.Join(sec.store.path, bootLink), Err: err})
	}
	sec.grown++
	return nil
}

// complete says whether all that is alive has an entry, by what the link of the directory says.
func (sec *section) complete(boot string, by uint64) bool {
	return boot == sec.store.boot && sec.whole && (by == sec.store.own.pid || by == initPIDNS)
}

// rebuild makes an entry for each live namespace, unless one answers for it. Which IDs the
// book grants by now is of no matter: it may have been another book, and may be so again.
func (sec *section) rebuild() error {
	found, err := sec.store.found(sec.answered)
	if err != nil {
		return err
	}
	for _, e := range found {
		if err := sec.remove(e.name()); err != nil {
			return err
		}
		f, _, err := sec.write(e)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// found is an entry for each pin, and each live namespace with IDs, for which answered doesn't say that
// there is one.
func (s *Store) found(answered func(LiveNS) (bool, error)) (found []Entry, err error) {
	if found, err = s.foundPins(answered); err != nil {
		return nil, err
	}
	pins := slices.Clone(found)
	alive, err := s.live()
	if err != nil {
		return nil, err
	}
	for _, l := range alive {
		if l.Staged {
			// Those who will enter it aren't there yet, and nothing else shows which IDs they will have.
			if l, err = l.withMaps(); ended(err) {
				continue
			} else if err != nil {
				return nil, fmt.Errorf("lease: user namespace %d, in which process %d starts a container: %w", l.Inode, l.PID, err)
			}
		}
		ids := l.IDs()
		if ids.Empty() || slices.ContainsFunc(pins, func(p Entry) bool { return p.answersFor(l) }) {
			continue
		}
		known, err := answered(l)
		if err != nil {
			return nil, err
		}
		if !known {
			found = append(found, Entry{Ranges: ids, UserNS: l.Inode, PIDNS: s.own.pid, PID: l.PID, Rebuilt: true})
		}
	}
	return found, nil
}

// answered says whether an entry is for that user namespace and all its IDs.
func (sec *section) answered(l LiveNS) (bool, error) {
	near, err := sec.overlapping(l.IDs())
	if err != nil {
		return false, err
	}
	for _, n := range near {
		e, err := sec.read(n)
		if err != nil {
			return false, err
		}
		if e.answersFor(l) {
			return true, nil
		}
	}
	return false, nil
}

// recoverOpen makes an entry again for each that was deleted while a program has it
// locked: the namespace may not be there yet, or without a process.
func (sec *section) recoverOpen() error {
	pids, err := processes()
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	var dir unix.Stat_t
	if err := unix.Fstat(int(sec.dir.Fd()), &dir); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	for _, pid := range pids {
		fds := "/proc/" + pid + "/fd"
		names, err := listDir(fds)
		if ended(err) || errors.Is(err, unix.EACCES) {
			continue // not a process of root's on this host, then
		}
		if err != nil {
			return fmt.Errorf("lease: %w", err)
		}
		for _, fd := range names {
			if n, ok := openEntryOf(fds+"/"+fd, dir.Dev); ok {
				if err := sec.recover(n, pid, fds+"/"+fd); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// openEntryOf is the name of the entry that a descriptor is open on, if its file was
// deleted. Whether it is one is told by its owner and its filesystem, which nobody else can
// have there.
func openEntryOf(link string, dev uint64) (name, bool) {
	to, err := os.Readlink(link)
	if err != nil {
		return name{}, false
	}
	to, deleted := strings.CutSuffix(to, " (deleted)")
	if !deleted || filepath.Base(filepath.Dir(to)) != filepath.Base(Dir) {
		return name{}, false
	}
	n, err := parseName(filepath.Base(to))
	if err != nil {
		return name{}, false
	}
	var st unix.Stat_t
	if err := unix.Stat(link, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Dev != dev {
		return name{}, false
	}
	return n, true
}

func (sec *section) recover(n name, pid, link string) error {
	for _, have := range sec.names {
		if have.text == n.text {
			return nil
		}
	}
	f, err := os.Open(link)
	if ended(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	defer f.Close()
	e, err := readEntry(f, n)
	if err != nil {
		return err
	}
	start, err := linux.StartTime("/proc/" + pid)
	if ended(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	e.recovered, e.start = true, start
	if e.PID, err = strconv.Atoi(pid); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	e.PIDNS = sec.store.own.pid
	copied, err := sec.writeAs(n, e)
	if err != nil {
		return err
	}
	return copied.Close()
}

func listDir(path string) ([]string, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}
