// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/user"

	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// idMapper is shadow's newuidmap(1) or newgidmap(1): one side of a process' user
// namespace, mapped by the book instead of /etc/subuid or /etc/subgid.
type idMapper struct {
	name string // of the program
	id   string // what is mapped
	side mapSide
}

// mapSide is where one of the two maps is kept.
type mapSide struct {
	self    func() int                           // the caller's real ID in their own user namespace
	of      func(delegate.Caller) idmap.Map      // that namespace's map
	in      func(*delegate.Namespace) *idmap.Map // the map to be written
	noted   func(*decision) *string              // as the log has it
	permits func(*registry.Grant, idmap.Map) (registry.Verdict, error)
}

var idMappers = []idMapper{
	{"newuidmap", "uid", mapSide{
		self:    os.Getuid,
		of:      func(c delegate.Caller) idmap.Map { return c.UIDs },
		in:      func(n *delegate.Namespace) *idmap.Map { return &n.UIDs },
		noted:   func(d *decision) *string { return &d.UIDs },
		permits: (*registry.Grant).PermitsUIDs,
	}},
	{"newgidmap", "gid", mapSide{
		self:    os.Getgid,
		of:      func(c delegate.Caller) idmap.Map { return c.GIDs },
		in:      func(n *delegate.Namespace) *idmap.Map { return &n.GIDs },
		noted:   func(d *decision) *string { return &d.GIDs },
		permits: (*registry.Grant).PermitsGIDs,
	}},
}

// idMapperOf is the one that a program's name calls for; nil for none.
func idMapperOf(name string) *idMapper {
	for i := range idMappers {
		if idMappers[i].name == name {
			return &idMappers[i]
		}
	}
	return nil
}

// errUsage asks for shadow's usage to be told besides.
var errUsage = errors.New("")

// run is the program, whose exit codes are shadow's: 0, or 1 for everything else.
// Nothing is written before everything is judged.
func (m *idMapper) run(p *program) int {
	err := m.mapIDs(p)
	if err == nil {
		return exitFine
	}
	for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
		if line != "" {
			_, _ = fmt.Fprintf(p.stderr, "%s: %s\n", m.name, line) // there is nowhere left to say that it failed
		}
	}
	if errors.Is(err, errUsage) {
		_, _ = fmt.Fprintf(p.stderr, "usage: %s <pid|fd:fd> <%[2]s> <lower%[2]s> <count> [ <%[2]s> <lower%[2]s> <count> ] ...\n", m.name, m.id)
	}
	return exitFailed
}

func (m *idMapper) mapIDs(p *program) error {
	if len(p.args) == 0 {
		return errUsage
	}
	caller, err := delegate.Identify()
	if err != nil {
		return err
	}
	d := decision{Verb: m.name, Subject: caller.Name, UID: caller.UID, Target: p.args[0]}
	if err = m.mapAs(p, caller, &d); err != nil {
		d.logged(err)
	}
	return err
}

// mapAs is all that is done once it is known who asks.
func (m *idMapper) mapAs(p *program, caller delegate.Caller, d *decision) error {
	target, err := m.target(p)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := checkOwnGroup(caller); err != nil {
		return err
	}
	want, err := parseTriples(p.args[1:])
	if err != nil {
		return err
	}
	verdict, err := m.judge(caller, want, d)
	if err != nil {
		return err
	}
	namespace := delegate.Namespace{DenySetgroups: verdict.Flags.DenySetgroups || verdict.OwnGroup}
	*m.side.in(&namespace) = want
	// Not afterwards: whoever calls this program can end it as soon as the map is there.
	d.logged(nil)
	return target.Write(namespace)
}

// target takes hold of the process that the first argument names, by its number or
// by "fd:" and the number of a descriptor.
func (m *idMapper) target(p *program) (*delegate.Process, error) {
	text := p.args[0]
	number, byFD := strings.CutPrefix(text, "fd:")
	n, err := idmap.ParseID(number)
	if err != nil || n > 1<<31-1 {
		return nil, fmt.Errorf("%q: expected the number of a process, or fd: and that of a descriptor, in decimal digits%w", text, errUsage)
	}
	if byFD {
		return delegate.OpenProcessFD(int(n))
	}
	return delegate.OpenProcess(int(n))
}

// checkOwnGroup refuses, as shadow does, a caller whose real group isn't that of
// their account: what they run for the moment as another group must not become
// theirs for good.
func checkOwnGroup(c delegate.Caller) error {
	account, err := user.LookupUid(int(c.UID))
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries) || errors.Is(err, fs.ErrNotExist):
		return nil // a user by number alone has no other group
	case err != nil:
		return fmt.Errorf("the group of UID %d: %w", c.UID, err)
	case uint32(account.Gid) != c.GID:
		return fmt.Errorf("the real group of %s is %d, and their account's is %d: call it as the latter: newgrp, sg", c.Name, c.GID, account.Gid)
	}
	return nil
}

// parseTriples reads the arguments behind the target. Unlike shadow it takes
// decimal digits only, without signs, spaces, 0x and leading zeros.
func parseTriples(args []string) (idmap.Map, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("nothing to map: expected three numbers for each range%w", errUsage)
	}
	if len(args)%3 != 0 {
		return nil, fmt.Errorf("%d numbers: expected three for each range%w", len(args), errUsage)
	}
	var m idmap.Map
	for i := 0; i < len(args); i += 3 {
		// A colon would make four of three.
		text := strings.Join(args[i:i+3], ":")
		e, err := idmap.ParseExtent(text)
		if err != nil {
			return nil, fmt.Errorf("range %d: %w", i/3+1, err)
		}
		m = append(m, e)
	}
	return m, m.Validate()
}

// judge asks the book. want is counted in the caller's user namespace.
func (m *idMapper) judge(caller delegate.Caller, want idmap.Map, d *decision) (registry.Verdict, error) {
	onHost, err := want.Through(m.side.of(caller))
	if err != nil {
		return registry.Verdict{}, fmt.Errorf("%s map: %w", m.id, err)
	}
	*m.side.noted(d) = onHost.String()
	holder := caller.Holder()
	if holder.Own != nil {
		holder.Own.SetgroupsDenied = true // wherever they map their own group
	}
	// For the caller's own ID no line is needed, so that a book that can't be read is in nobody's way.
	grant := (&registry.Book{}).GrantOrOwn(holder, registry.Host{})
	if len(want) != 1 || want[0].Count != 1 || want[0].Outer != uint32(m.side.self()) || caller.IsRoot() {
		if grant, err = grantOf(holder); err != nil {
			return registry.Verdict{}, err
		}
	}
	verdict, err := m.side.permits(grant, onHost)
	if err != nil {
		return registry.Verdict{}, err
	}
	d.allowedBy(verdict)
	return verdict, verdict.CheckOwned()
}
