// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
)

// findTarget finds what the caller names, and takes hold of it. A name that could be two things is
// refused.
func findTarget(caller delegate.Caller, name string, without []string) (*delegate.Target, error) {
	kind, rest, marked := strings.Cut(name, ":")
	if !marked || kind != "pin" && kind != "id" && kind != "pid" {
		kind, rest = "", name
	}
	var pid int
	if n, err := strconv.Atoi(rest); err == nil && n > 0 && strconv.Itoa(n) == rest {
		pid = n
	} else if kind == "pid" {
		return nil, fmt.Errorf("%q: expected the number of a process, such as pid:1234", name)
	}
	records, err := recordsOf(caller, kind, rest)
	if err != nil {
		return nil, err
	}
	var pin *delegate.Pin
	if kind == "" || kind == "pin" {
		if pin, err = pinOf(caller, rest, kind == "pin"); err != nil {
			return nil, err
		}
	}
	isPID := kind == "pid" || kind == "" && pid != 0
	var ways []string
	if isPID {
		ways = append(ways, "pid:"+rest)
	}
	for _, r := range records {
		ways = append(ways, "id:"+r.ID+" (of "+r.Root+")")
	}
	if pin != nil {
		ways = append(ways, "pin:"+pin.Name)
	}
	switch {
	case len(ways) > 1:
		return nil, fmt.Errorf("%q: it is %s: say which one, and of two containers of one ID the PID of a process in it", name, strings.Join(ways, ", and "))
	case isPID:
		return delegate.OpenTarget(pid, without)
	case len(records) == 1:
		return containerTarget(records[0], without)
	case pin != nil:
		return pinTarget(caller, *pin, without)
	}
	return nil, fmt.Errorf("%q: there is no pin, container or process of that name that is yours: containers are only under a grant with the flag owned: see `%s list`", name, programName)
}

// recordsOf is what root has published of the caller's containers with that ID, or whose ID begins so.
func recordsOf(caller delegate.Caller, kind, id string) ([]lease.Published, error) {
	if kind != "" && kind != "id" || id == "" {
		return nil, nil
	}
	all, err := lease.OwnersRecords(caller.UID)
	if err != nil {
		return nil, err
	}
	exact := slices.DeleteFunc(slices.Clone(all), func(p lease.Published) bool { return p.ID != id })
	if len(exact) > 0 {
		return exact, nil
	}
	return slices.DeleteFunc(all, func(p lease.Published) bool { return !strings.HasPrefix(p.ID, id) }), nil
}

// pinOf is the caller's pin of that name, which may come after their own and a slash; nil if there is
// none. Where the name is said to be a pin's, that is an error.
func pinOf(caller delegate.Caller, name string, must bool) (*delegate.Pin, error) {
	if owner, rest, ok := strings.Cut(name, "/"); ok && (owner == caller.Name || owner == strconv.FormatUint(uint64(caller.UID), 10)) {
		name = rest
	}
	pin, err := delegate.PinOf(caller.Name, name)
	if err == nil && !must {
		// What is there is judged when it is opened.
		if _, statErr := os.Lstat(pin.Path()); statErr != nil {
			return nil, nil
		}
	}
	if err != nil {
		if must {
			return nil, err
		}
		return nil, nil
	}
	return &pin, nil
}

func pinTarget(caller delegate.Caller, pin delegate.Pin, without []string) (*delegate.Target, error) {
	if len(without) > 0 {
		return nil, fmt.Errorf("--without %s: pin %s is a user namespace alone: leave it out", strings.Join(without, ","), pin)
	}
	grant, err := grantOf(caller.Holder())
	if err != nil {
		return nil, err
	}
	if len(grant.Lines()) == 0 {
		_, _, err := grant.First() // says so, and what mends it
		return nil, err
	}
	ns, is, err := pin.Open(caller, grant)
	if err != nil {
		return nil, err
	}
	if is.UIDs, err = is.UIDs.Into(caller.UIDs); err == nil {
		is.GIDs, err = is.GIDs.Into(caller.GIDs)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pin %s: %w", pin, err), ns.Close())
	}
	return delegate.PinTarget(ns, is), nil
}

// containerTarget takes hold of the first process of a container.
func containerTarget(r lease.Published, without []string) (*delegate.Target, error) {
	for range 3 {
		pid, err := firstProcess(r)
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", r.ID, err)
		}
		target, err := delegate.OpenTarget(pid, without)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended in between; another one may be the first now
		}
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", r.ID, err)
		}
		// The number may have become another's.
		if is, err := target.UserNS(); err != nil || is != r.UserNS {
			target.Close()
			continue
		}
		return target, nil
	}
	return nil, fmt.Errorf("container %s: its processes end faster than they can be looked at", r.ID)
}

// member is a process of a container, as far as it is to be chosen by.
type member struct {
	pid, depth int // PID namespaces that it is in
	init       bool
	cgroup     bool // it is in the container's own
	start      uint64
}

// firstProcess is the process of a container that came first: the first one of its PID namespace,
// where it has its own.
func firstProcess(r lease.Published) (int, error) {
	var all []member
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	link := fmt.Sprintf("user:[%d]", r.UserNS)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if is, err := os.Readlink("/proc/" + e.Name() + "/ns/user"); err != nil || is != link {
			continue // others' can't be looked into
		}
		if m, ok := memberOf(pid, r.Cgroup); ok {
			all = append(all, m)
		}
	}
	if slices.ContainsFunc(all, func(m member) bool { return m.cgroup }) {
		all = slices.DeleteFunc(all, func(m member) bool { return !m.cgroup })
	} else if roots(all) > 1 {
		return 0, errors.New("several containers share its user namespace, and none of their processes is in the cgroup that it was started in: say the PID of a process in it")
	}
	if len(all) == 0 {
		return 0, errors.New("no process runs in it: start it first")
	}
	return slices.MinFunc(all, before).pid, nil
}

// roots is how many PID namespaces there are whose first process isn't in one of another's.
func roots(all []member) (n int) {
	if len(all) == 0 {
		return 0
	}
	top := slices.MinFunc(all, func(a, b member) int { return a.depth - b.depth }).depth
	for _, m := range all {
		if m.init && m.depth == top {
			n++
		}
	}
	return n
}

// before says which of two came first.
func before(a, b member) int {
	if a.init != b.init {
		if a.init {
			return -1
		}
		return 1
	}
	if a.depth != b.depth {
		return a.depth - b.depth
	}
	if a.start != b.start {
		if a.start < b.start {
			return -1
		}
		return 1
	}
	return a.pid - b.pid
}

func memberOf(pid int, cgroup string) (member, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return member{}, false
	}
	m := member{pid: pid}
	for line := range strings.Lines(string(status)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(numbers)
			m.depth = len(fields)
			m.init = m.depth > 1 && fields[m.depth-1] == "1"
		}
	}
	start, err := linux.StartTime(dir)
	if err != nil {
		return member{}, false
	}
	if m.start, err = strconv.ParseUint(start, 10, 64); err != nil {
		return member{}, false
	}
	text, err := os.ReadFile(dir + "/cgroup")
	if err != nil {
		return member{}, false
	}
	m.cgroup = cgroup != "" && slices.Contains(delegate.CgroupNames(string(text)), cgroup)
	return m, true
}
