// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// ErrSuspicious is wrapped by errors about something that should not happen
// unless somebody interferes: what was written to the kernel isn't what it
// holds.
var ErrSuspicious = errors.New("possible attack")

// Namespace is what a user namespace to be created shall be.
type Namespace struct {
	// UIDs and GIDs are its maps, the outer IDs as the caller's own user
	// namespace counts them.
	UIDs, GIDs idmap.Map
	// DenySetgroups writes "deny" to /proc/PID/setgroups before the GIDs are
	// mapped. It can never be taken back inside (user_namespaces(7)).
	DenySetgroups bool
	// DenyNested puts the namespace into one more, of root's, that maps the same IDs to themselves and
	// allows no other below it: the kernel counts those that root inside would make there too
	// (user_namespaces(7), namespaces(7) "The /proc/sys/user directory"). Its maps are
	// what they would be without that. It can't be had for another Owner, who would get into both.
	DenyNested bool
	// Owner is the UID that it shall belong to, counted as UIDs is; nil for the
	// effective UID of the caller. Whoever has that UID has every capability in the namespace, from
	// the host and at any moment, and can enter it (user_namespaces(7),
	// "Capabilities"). It needn't be mapped in it.
	Owner *uint32
}

// State is what a user namespace is.
type State struct {
	// UIDs and GIDs are its maps, the outer IDs as the caller's own user
	// namespace counts them.
	UIDs, GIDs idmap.Map
	// DenySetgroups says that setgroups(2) is denied in it.
	DenySetgroups bool
	// Owner is the UID that it belongs to, counted as UIDs is: see [Namespace].
	Owner uint32
}

// Create makes the user namespace and gives it back open; it ends with the last
// file and process that holds it. The caller needs CAP_SETUID and CAP_SETGID over all outer IDs.
//
// For another owner it needs CAP_DAC_OVERRIDE and CAP_SYS_PTRACE as well, and the process isn't
// dumpable afterwards, until its next execve(2).
//
// Maps that no kernel takes are refused before anything is made. It returns
// only when the kernel shows the maps as asked for.
func Create(want Namespace) (*os.File, error) {
	for _, side := range []struct {
		name string
		m    idmap.Map
	}{{"UIDs", want.UIDs}, {"GIDs", want.GIDs}} {
		if err := side.m.Validate(); err != nil {
			return nil, fmt.Errorf("create user namespace: %s: %w", side.name, err)
		}
	}
	if want.Owner == nil {
		return create(want, uint32(os.Geteuid()))
	}
	if want.DenyNested {
		return nil, fmt.Errorf("create user namespace: for UID %d as its owner: %w: nested ones can't be denied to an owner", *want.Owner, ErrUnowned)
	}
	var ns *os.File
	err := linux.AsEffectiveUser(*want.Owner, func() (err error) {
		ns, err = create(want, *want.Owner)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("for UID %d as its owner: %w", *want.Owner, err)
	}
	return ns, nil
}

// create makes the namespace on a thread with the effective UID owner.
func create(want Namespace, owner uint32) (*os.File, error) {
	child, err := parkNew(want)
	if err != nil {
		return nil, fmt.Errorf("create user namespace: %w", err)
	}
	defer child.Close()
	is, err := look(child)
	if err != nil {
		return nil, fmt.Errorf("create user namespace: %w", err)
	}
	if !is.UIDs.Equal(want.UIDs) || !is.GIDs.Equal(want.GIDs) || (want.DenySetgroups && !is.DenySetgroups) {
		return nil, fmt.Errorf("create user namespace: %w: asked for UIDs %s, GIDs %s, setgroups denied %v; the kernel shows %s, %s, %v",
			ErrSuspicious, want.UIDs, want.GIDs, want.DenySetgroups, is.UIDs, is.GIDs, is.DenySetgroups)
	}
	ns, err := child.UserNS()
	if err != nil {
		return nil, fmt.Errorf("create user namespace: %w", err)
	}
	if got, err := linux.UserNSOwner(ns); err != nil || got != owner {
		return nil, errors.Join(fmt.Errorf("create user namespace: %w: asked for owner %d; the kernel shows %d", ErrSuspicious, owner, got), err, ns.Close())
	}
	return ns, nil
}

// parkNew makes the namespace with its maps, and a child in it.
func parkNew(want Namespace) (*linux.Parked, error) {
	if want.DenyNested {
		return parkNested(want)
	}
	child, err := linux.ParkInNewUserNS()
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, CreateHint(err))
	}
	if err := want.write(child.WriteFile); err != nil {
		return nil, errors.Join(err, child.Close())
	}
	return child, nil
}

// write gives a new namespace what it is to have, by the files of a process in it.
func (n Namespace) write(file func(name, text string) error) error {
	if n.DenySetgroups {
		if err := file("setgroups", "deny"); err != nil {
			return err
		}
	}
	// The GIDs first, as shadow does: a failure leaves no namespace whose root
	// user exists.
	if err := file("gid_map", n.GIDs.Kernel()); err != nil {
		return fmt.Errorf("map GIDs %s: %w", n.GIDs, err)
	}
	if err := file("uid_map", n.UIDs.Kernel()); err != nil {
		return fmt.Errorf("map UIDs %s: %w", n.UIDs, err)
	}
	return nil
}

// CreateHint is what mends the error of a user namespace that can't be made, "" if that isn't known.
func CreateHint(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return ": no more user namespaces are allowed: see `sysctl user.max_user_namespaces`"
	case errors.Is(err, unix.EPERM):
		return ": this host doesn't allow it to the caller: see `sysctl kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns`"
	}
	return ""
}

// Look reads what the user namespace that ns is open on is. IDs that the
// caller's own namespace doesn't map can't be shown by the kernel, and are an
// error wrapping [idmap.ErrRange]. A file that isn't a user namespace is
// linux.ErrNotUserNS. Joining needs CAP_SYS_ADMIN in the namespace.
func Look(ns *os.File) (State, error) {
	owner, err := linux.UserNSOwner(ns)
	if err != nil {
		return State{}, fmt.Errorf("look at user namespace %s: %w", ns.Name(), err)
	}
	child, err := linux.ParkInUserNS(int(ns.Fd()))
	if err != nil {
		return State{}, fmt.Errorf("look at user namespace %s: %w", ns.Name(), err)
	}
	defer child.Close()
	is, err := look(child)
	if err != nil {
		return State{}, fmt.Errorf("look at user namespace %s: %w", ns.Name(), err)
	}
	is.Owner = owner
	return is, nil
}

// Stay leaves a process in the user namespace that ns is open on, and gives a
// path that leads there, for a program that this one becomes. The process has
// no file open, can't be traced from inside, and ends when that program does, or
// after ten minutes.
//
// runc (1.2 to 1.5) takes the maps of a namespace at /proc/PID/ns/user from
// beside it. For any other path it joins the namespace in a child that whoever
// has CAP_SYS_PTRACE inside can take over, with the host UID of runc. For a new
// namespace, with nobody in it, such a path will do: the process that stays has
// to be reaped by the host's first process, once runc has ended.
func Stay(ns *os.File) (path string, err error) {
	child, err := linux.ParkInUserNS(int(ns.Fd()))
	if err != nil {
		return "", fmt.Errorf("stay in user namespace %s: %w", ns.Name(), err)
	}
	return child.NamespacePath(), nil
}

func look(child *linux.Parked) (State, error) { return stateOf(child.ReadFile) }

// stateOf reads what a namespace is, but for its owner, from the files of a process in it.
func stateOf(read func(name string) (string, error)) (is State, err error) {
	for _, side := range []struct {
		file string
		m    *idmap.Map
	}{{"uid_map", &is.UIDs}, {"gid_map", &is.GIDs}} {
		text, err := read(side.file)
		if err != nil {
			return State{}, err
		}
		if *side.m, err = idmap.ParseMap(text); err != nil {
			return State{}, fmt.Errorf("%s: %w", side.file, err)
		}
	}
	setgroups, err := read("setgroups")
	if err != nil {
		return State{}, err
	}
	is.DenySetgroups = setgroups != "allow\n"
	return is, nil
}
