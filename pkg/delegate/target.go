// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// Target is a process whose namespaces are to be entered: of a user namespace that belongs
// to the caller, and what belongs to that. All of them are open, so whatever becomes of the process
// and of its number, what is entered is what was judged.
type Target struct {
	pid int
	dir *os.File
	// Namespaces is what is to be entered, in this order: the user namespace comes first, since
	// it gives the right to the others. A kind that the caller is in already isn't among them.
	Namespaces []Entered
	// State is what the user namespace is, its outer IDs as the caller's own counts them.
	State State
}

// Entered is one namespace to be entered.
type Entered struct {
	Kind string  // as in /proc/PID/ns
	Flag uintptr // CLONE_NEW*
	File *os.File
}

// namespaceKinds is the kinds beside the user namespace, in the order of nsenter(1). The one for
// the process' children doesn't count.
var namespaceKinds = []Entered{
	{Kind: "cgroup", Flag: unix.CLONE_NEWCGROUP},
	{Kind: "ipc", Flag: unix.CLONE_NEWIPC},
	{Kind: "uts", Flag: unix.CLONE_NEWUTS},
	{Kind: "net", Flag: unix.CLONE_NEWNET},
	{Kind: "pid", Flag: unix.CLONE_NEWPID},
	{Kind: "mnt", Flag: unix.CLONE_NEWNS},
	{Kind: "time", Flag: unix.CLONE_NEWTIME},
}

// NamespaceKinds is the kinds of namespaces that can be left out of a [Target].
func NamespaceKinds() []string {
	var kinds []string
	for _, k := range namespaceKinds {
		kinds = append(kinds, k.Kind)
	}
	return kinds
}

// OpenTarget takes hold of the namespaces of the process with this number, as /proc counts it,
// but for the kinds without. It establishes that
//
//   - /proc is the kernel's, and nothing is mounted over what is looked at in it;
//   - the process is in a user namespace directly below the caller's own, which belongs to
//     the caller: see [ErrNotTheirs];
//   - each of its other namespaces belongs to that user namespace, or is the caller's own;
//   - the process was still in that user namespace when all were open.
//
// The caller may lack every capability: what it takes is what an owner has in their
// namespace (user_namespaces(7)).
func OpenTarget(pid int, without []string) (*Target, error) {
	proc, err := linux.OpenProc()
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	defer proc.Close()
	t := &Target{pid: pid}
	if err := t.open(proc, without); err != nil {
		t.Close()
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return t, nil
}

func (t *Target) open(proc *os.File, without []string) (err error) {
	if t.pid <= 0 {
		return errors.New("no process has this number")
	}
	t.dir, err = linux.OpenBelow(proc, strconv.Itoa(t.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("there is none, or it isn't to be seen: %w", err)
	}
	if err != nil {
		return err
	}
	userns, err := linux.UserNSOf(t.dir)
	if err != nil {
		return t.closed(err)
	}
	t.Namespaces = append(t.Namespaces, Entered{Kind: "user", Flag: unix.CLONE_NEWUSER, File: userns})
	if err := judgeOwned(userns, "there is nothing to be entered"); err != nil {
		return err
	}
	for _, kind := range namespaceKinds {
		if slices.Contains(without, kind.Kind) {
			continue
		}
		if err := t.add(kind); err != nil {
			return err
		}
	}
	if t.State, err = stateBelow(t.dir); err != nil {
		return t.closed(err)
	}
	t.State.Owner = uint32(os.Geteuid())
	// Whatever it did meanwhile, what is open belongs to one user namespace, and what was read
	// of that is of a moment when it was in there: nobody comes back from one below.
	now, err := linux.UserNSOf(t.dir)
	if err != nil {
		return t.closed(err)
	}
	defer now.Close()
	if same, err := linux.SameFile(now, userns); err != nil || !same {
		return errors.Join(err, fmt.Errorf("%w: it went to another user namespace meanwhile", ErrSuspicious))
	}
	return nil
}

// add opens one more namespace of the process.
func (t *Target) add(kind Entered) error {
	own, err := linux.OpenNamespace("/proc/self/ns/" + kind.Kind)
	if errors.Is(err, unix.ENOENT) {
		return nil // a kind that this kernel hasn't got
	}
	if err != nil {
		return err
	}
	defer own.Close()
	f, err := linux.NamespaceOf(t.dir, kind.Kind)
	if err != nil {
		return t.closed(err)
	}
	kind.File = f
	t.Namespaces = append(t.Namespaces, kind)
	same, err := linux.SameFile(own, f)
	if err != nil {
		return err
	}
	if same {
		t.Namespaces = t.Namespaces[:len(t.Namespaces)-1]
		return f.Close()
	}
	owner, err := linux.OwningUserNS(f)
	if err == nil {
		defer owner.Close()
		same, err = linux.SameFile(owner, t.Namespaces[0].File)
	}
	if errors.Is(err, unix.EPERM) {
		same, err = false, nil // it lies outside of the caller's own
	}
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("its %s namespace belongs to another user namespace than the process is in, which isn't entered: leave it out: --without %[1]s", kind.Kind)
	}
	return nil
}

// closed says why a process can't be looked into.
func (t *Target) closed(err error) error {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: its user namespace is none that belongs to the caller, or the process can't be traced: %w", ErrNotTheirs, err)
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("it has ended: %w", err)
	}
	return err
}

// stateBelow reads the maps of the process whose directory in /proc is open as dir.
func stateBelow(dir *os.File) (is State, err error) {
	read := func(name string) (string, error) {
		f, err := linux.OpenBelow(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return content(f)
	}
	return stateOf(read)
}

// PID is the number of the process.
func (t *Target) PID() int { return t.pid }

// UserNS is the inode number of the user namespace.
func (t *Target) UserNS() (uint64, error) { return linux.Inode(t.Namespaces[0].File) }

// Enters says whether a namespace of that kind is to be entered.
func (t *Target) Enters(kind string) bool {
	return slices.ContainsFunc(t.Namespaces, func(e Entered) bool { return e.Kind == kind })
}

// CgroupNames is the last parts of the paths of a process' cgroups, of all hierarchies, in the
// text of its /proc/PID/cgroup (cgroups(7)).
func CgroupNames(text string) (names []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		names = append(names, line[strings.LastIndexByte(line, '/')+1:])
	}
	return names
}

// Close lets go of all.
func (t *Target) Close() {
	for _, e := range t.Namespaces {
		_ = e.File.Close() // nothing was written to it
	}
	if t.dir != nil {
		_ = t.dir.Close()
	}
}

// PinTarget is a [Target] that is the namespace of a pin, in which there needn't be a process.
// It takes ns, which [Pin.Open] has judged.
func PinTarget(ns *os.File, is State) *Target {
	return &Target{Namespaces: []Entered{{Kind: "user", Flag: unix.CLONE_NEWUSER, File: ns}}, State: is}
}
