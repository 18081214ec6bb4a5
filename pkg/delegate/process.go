// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// ErrNotTheirs is wrapped by errors about a process, or its user namespace, that
// the caller has no say over.
var ErrNotTheirs = errors.New("not the caller's")

// ErrMapped is wrapped by the error for a map that has been written already. A
// map is written once (user_namespaces(7)).
var ErrMapped = errors.New("mapped already")

// Process is a process of the caller's in a user namespace that they have made,
// to be mapped from outside.
//
// It is held by its directory in /proc from the first look to the last. That is
// the process' own: nothing can be opened through it once the process has been
// reaped, whoever has its number then. A pidfd would add nothing.
type Process struct {
	pid int
	dir *os.File
	ns  *os.File
}

// OpenProcess takes hold of the process with this number, as /proc counts it. It
// establishes that
//
//   - /proc is the kernel's, and nothing is mounted over what is looked at in it;
//   - the process has the caller's real UID and GID for its effective ones;
//   - its user namespace is one directly below the caller's, and belongs to the caller.
//
// Errors about somebody else's process or namespace wrap [ErrNotTheirs]. The
// effective IDs of this process must be the real ones.
func OpenProcess(pid int) (*Process, error) {
	proc, err := linux.OpenProc()
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	defer proc.Close()
	return openProcess(proc, pid)
}

// OpenProcessFD is [OpenProcess] for the process that a descriptor is open on: its
// directory in /proc, or a pidfd. The descriptor stays open.
func OpenProcessFD(fd int) (*Process, error) {
	proc, err := linux.OpenProc()
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	defer proc.Close()
	p, err := openProcessFD(proc, fd)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return p, nil
}

func openProcess(proc *os.File, pid int) (*Process, error) {
	p := &Process{pid: pid}
	err := p.open(proc)
	if err == nil {
		err = p.judge()
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return p, nil
}

// openProcessFD finds the number, takes hold by the number, and then asks whether
// that is the same process: in between, the number may have become another's.
func openProcessFD(proc *os.File, fd int) (*Process, error) {
	var given, st unix.Stat_t
	if err := unix.Fstat(fd, &given); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if err := unix.Fstat(int(proc.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if given.Dev == st.Dev && given.Mode&unix.S_IFMT == unix.S_IFDIR {
		pid, err := linux.ProcessOfDir(fd)
		if err != nil {
			return nil, err
		}
		p, err := openProcess(proc, pid)
		if err != nil {
			return nil, err
		}
		if err := unix.Fstat(int(p.dir.Fd()), &st); err == nil && st.Dev == given.Dev && st.Ino == given.Ino {
			return p, nil
		}
		p.Close()
		return nil, fmt.Errorf("isn't the directory of process %d: expected a descriptor of /proc/PID: %w", pid, ErrNotTheirs)
	}
	pid, err := linux.ProcessOfPIDFD(proc, fd)
	if err != nil {
		return nil, err
	}
	if pid == 0 {
		return nil, fmt.Errorf("is neither the directory of a process in /proc nor a pidfd of one that lives: %w", ErrNotTheirs)
	}
	p, err := openProcess(proc, pid)
	if err != nil {
		return nil, err
	}
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != nil {
		p.Close()
		return nil, os.NewSyscallError("pidfd_send_signal", err)
	}
	return p, nil
}

func (p *Process) open(proc *os.File) (err error) {
	if p.pid <= 0 {
		return errors.New("no process has this number")
	}
	p.dir, err = linux.OpenBelow(proc, strconv.Itoa(p.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("there is none, or it isn't to be seen: %w", err)
	}
	return err
}

// judge asks whether the caller may map the namespace of the process.
func (p *Process) judge() (err error) {
	// What /proc/PID itself says is the effective IDs, also of a process that isn't
	// dumpable, whose files there belong to root (proc(5)).
	var st unix.Stat_t
	if err := unix.Fstat(int(p.dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if int(st.Uid) != os.Getuid() || int(st.Gid) != os.Getgid() {
		return fmt.Errorf("%w: it runs as UID %d and GID %d, and UID %d, GID %d asks", ErrNotTheirs, st.Uid, st.Gid, os.Getuid(), os.Getgid())
	}
	if p.ns, err = linux.UserNSOf(p.dir); err != nil {
		return fmt.Errorf("its user namespace can't be looked at: %w", err)
	}
	return judgeOwned(p.ns, "make one first: unshare --user")
}

// judgeOwned establishes that a user namespace lies directly in the caller's own, and belongs to
// them. instead is what mends it where it is the caller's own. What isn't theirs is an error
// wrapping [ErrNotTheirs].
func judgeOwned(ns *os.File, instead string) error {
	own, err := os.Open("/proc/self/ns/user")
	if err != nil {
		return err
	}
	defer own.Close()
	if same, err := linux.SameFile(own, ns); err != nil || same {
		return errors.Join(err, fmt.Errorf("%w: it is in the caller's own user namespace: %s", ErrNotTheirs, instead))
	}
	parent, err := linux.UserNSParent(ns)
	if err != nil {
		return fmt.Errorf("%w: its user namespace doesn't lie in the caller's own: %w", ErrNotTheirs, err)
	}
	defer parent.Close()
	if same, err := linux.SameFile(own, parent); err != nil || !same {
		return errors.Join(err, fmt.Errorf("%w: its user namespace doesn't lie directly in the caller's own: ask from the one in between", ErrNotTheirs))
	}
	owner, err := linux.UserNSOwner(ns)
	if err != nil {
		return err
	}
	if int(owner) != os.Geteuid() {
		return fmt.Errorf("%w: its user namespace belongs to UID %d", ErrNotTheirs, owner)
	}
	return nil
}

// PID is the number of the process.
func (p *Process) PID() int { return p.pid }

// Close lets go of it.
func (p *Process) Close() {
	for _, f := range []*os.File{p.dir, p.ns} {
		if f != nil {
			_ = f.Close() // nothing was written to it
		}
	}
}

// Write denies setgroups, if so wanted, and writes the maps: the GIDs, then the
// UIDs. A side that is empty is left as it is. IDs beyond the caller's own, alone,
// need CAP_SETUID or CAP_SETGID, which is in force in the calling thread only
// around the one write; what else the thread may do is not. The goroutine must be locked to its
// thread. Whether the caller may have the IDs was decided before, by registry.Grant.
//
// All that can be looked at beforehand is. It returns only when the kernel
// shows the maps as asked for, in the namespace that was judged.
func (p *Process) Write(want Namespace) error {
	if err := p.write(want); err != nil {
		return fmt.Errorf("process %d: %w", p.pid, err)
	}
	return nil
}

func (p *Process) write(want Namespace) error {
	if want.Owner != nil {
		return errors.New("bug: its user namespace has an owner already")
	}
	sides := []side{
		{"GIDs", "gid_map", want.GIDs, unix.CAP_SETGID},
		{"UIDs", "uid_map", want.UIDs, unix.CAP_SETUID},
	}
	for _, s := range sides {
		if len(s.m) == 0 {
			continue
		}
		if err := writable(s.m); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := p.with(s.file, unix.O_RDONLY, s.unwritten); err != nil {
			return err
		}
	}
	if want.DenySetgroups {
		if err := p.denySetgroups(); err != nil {
			return err
		}
	}
	for _, s := range sides {
		if len(s.m) == 0 {
			continue
		}
		err := linux.WithCapabilities(s.capabilities(), func() error {
			return p.with(s.file, unix.O_RDWR, s.write)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// with opens a file of the process, which stays bound to the user namespace that
// the process is in at that moment, and establishes that this is the one that was
// judged: a process can leave a namespace for one below it, and never comes back.
func (p *Process) with(name string, flags int, do func(*os.File) error) error {
	f, err := linux.OpenBelow(p.dir, name, flags|unix.O_NOFOLLOW)
	if err != nil {
		return p.gone(err)
	}
	defer f.Close()
	now, err := linux.UserNSOf(p.dir)
	if err != nil {
		return p.gone(err)
	}
	defer now.Close()
	if same, err := linux.SameFile(now, p.ns); err != nil || !same {
		return errors.Join(err, fmt.Errorf("%w: it went to another user namespace meanwhile", ErrSuspicious))
	}
	return do(f)
}

// gone says so when a process has ended.
func (p *Process) gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("it has ended: %w", err)
	}
	return err
}

// side is one map to be written.
type side struct {
	name, file string
	m          idmap.Map
	capability int
}

// capabilities is what the kernel wants for it: to map the root of the caller's
// namespace also CAP_SETFCAP (user_namespaces(7)), which only a root there has.
func (s side) capabilities() linux.CapSet {
	set := linux.Caps(s.capability)
	if _, root := s.m.ToInner(0); root && s.capability == unix.CAP_SETUID {
		set |= linux.Caps(unix.CAP_SETFCAP)
	}
	return set
}

// unwritten refuses a map that is there already.
func (s side) unwritten(f *os.File) error {
	switch is, err := content(f); {
	case err != nil:
		return err
	case is != "":
		return fmt.Errorf("%s: %w, once and for all: make a new user namespace", f.Name(), ErrMapped)
	}
	return nil
}

func (s side) write(f *os.File) error {
	if err := s.unwritten(f); err != nil {
		return err
	}
	if n, err := unix.Write(int(f.Fd()), []byte(s.m.Kernel())); err != nil {
		return fmt.Errorf("map %s %s: %w%s", s.name, s.m, &os.PathError{Op: "write", Path: f.Name(), Err: err}, s.hint(err))
	} else if n != len(s.m.Kernel()) {
		return fmt.Errorf("map %s %s: %w: %d of %d bytes were taken", s.name, s.m, ErrSuspicious, n, len(s.m.Kernel()))
	}
	text, err := content(f)
	if err != nil {
		return err
	}
	if is, err := idmap.ParseMap(text); err != nil || !is.Equal(s.m) {
		return errors.Join(fmt.Errorf("map %s: %w: asked for %s; the kernel shows %s", s.name, ErrSuspicious, s.m, is), err)
	}
	return nil
}

func (p *Process) denySetgroups() error {
	const deny = "deny"
	return p.with("setgroups", unix.O_RDWR, func(f *os.File) error {
		is, err := content(f)
		if err != nil || is == deny+"\n" {
			return err
		}
		if _, err := unix.Write(int(f.Fd()), []byte(deny)); err != nil {
			err = fmt.Errorf("deny setgroups: %w", &os.PathError{Op: "write", Path: f.Name(), Err: err})
			if errors.Is(err, unix.EPERM) {
				err = fmt.Errorf("%w: its GIDs are mapped already, with setgroups allowed: map its UIDs first", err)
			}
			return err
		}
		if is, err = content(f); err != nil || is != deny+"\n" {
			return errors.Join(err, fmt.Errorf("deny setgroups: %w: the kernel shows %q", ErrSuspicious, is))
		}
		return nil
	})
}

// content is all of a file in /proc, from its beginning.
func content(f *os.File) (string, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	return string(text), err
}

// writable refuses a map that the kernel wouldn't take, for reasons that have
// nothing to do with its IDs.
func writable(m idmap.Map) error {
	if err := m.Validate(); err != nil {
		return err
	}
	// It takes less than a page in one write(2) (user_namespaces(7)).
	if n, most := len(m.Kernel()), os.Getpagesize()-1; n > most {
		return fmt.Errorf("%w: %d extents are %d bytes of text: the kernel takes %d: map fewer extents", idmap.ErrMap, len(m), n, most)
	}
	return nil
}
