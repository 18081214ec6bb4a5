// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The invariant, told from the host alone.

// leases is where userns-runtime keeps its entries.
const (
	runDir    = "/run/userns-runtime"
	leasesDir = runDir + "/leases"
)

// extent is IDs of the host in a row: from start up to, and without, end.
type extent struct{ start, end uint64 }

// resident is a user namespace, and a process that lives in it.
type resident struct {
	ns    string // "user:[4026532300]"
	pid   int
	start string
	ids   []extent
}

// ownUserNS is the user namespace of this program.
func ownUserNS() (string, error) { return os.Readlink("/proc/self/ns/user") }

// residents finds the user namespaces other than own that processes live in.
func residents(own string) ([]resident, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	known := map[string]bool{own: true}
	var out []resident
	for _, pid := range all {
		r, ok := residentOf(pid, known)
		if ok {
			known[r.ns] = true
			out = append(out, r)
		}
	}
	return out, nil
}

// residentOf is the user namespace of a process that lives; ok is false if it is known, or
// has no IDs yet.
func residentOf(pid int, known map[string]bool) (r resident, ok bool) {
	ns, err := os.Readlink(procPath(pid, "ns/user"))
	if err != nil || known[ns] {
		return r, false
	}
	p, ok := readStat(procPath(pid, "stat"))
	if !ok || !alive(pid) {
		return r, false
	}
	r = resident{ns: ns, pid: pid, start: p.start}
	r.ids = append(outer(pid, "uid_map"), outer(pid, "gid_map")...)
	return r, len(r.ids) > 0
}

// outer is the host's IDs of a map. A line of it is inner, outer and count
// (user_namespaces(7)).
func outer(pid int, file string) (out []extent) {
	text, err := os.ReadFile(procPath(pid, file))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		start, err := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err == nil && err2 == nil {
			out = append(out, extent{start, start + count})
		}
	}
	return out
}

// still says whether a process that was seen is there, and where it was.
func (r resident) still() bool {
	ns, err := os.Readlink(procPath(r.pid, "ns/user"))
	p, ok := readStat(procPath(r.pid, "stat"))
	return err == nil && ns == r.ns && ok && p.start == r.start && alive(r.pid)
}

// overlap is a part that two have in common.
func overlap(a, b []extent) (extent, bool) {
	for _, x := range a {
		for _, y := range b {
			if both := (extent{max(x.start, y.start), min(x.end, y.end)}); both.start < both.end {
				return both, true
			}
		}
	}
	return extent{}, false
}

// look judges all processes. Processes come and go while it does, so of two that seem to
// have an ID in common, each must be there when the other is looked at.
func (w *world) look() {
	w.looks.Add(1)
	all, err := residents(w.ownNS)
	if err != nil {
		w.problem("%v", err)
		return
	}
	for i, a := range all {
		for _, b := range all[:i] {
			ids, shared := overlap(a.ids, b.ids)
			// a was seen after b: that b is there now says that both were, then.
			if shared && b.still() && a.still() {
				w.overlaps.Add(1)
				w.problem("user namespaces %s and %s both have the IDs [%d-%d):\n  %s\n  %s\n  entries:\n%s",
					b.ns, a.ns, ids.start, ids.end, describe(b.pid), describe(a.pid), entries())
			}
		}
	}
}

// watch looks again and again, until stop is closed.
func (w *world) watch(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
			w.look()
		}
	}
}

// entries is what lies in the directory of leases, in a message.
func entries() string {
	names, err := os.ReadDir(leasesDir)
	if err != nil {
		return "    " + err.Error()
	}
	var out strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(leasesDir, name.Name()))
		if err != nil {
			continue // a link, or gone
		}
		fmt.Fprintf(&out, "    %s %s\n", name.Name(), strings.TrimSpace(string(text)))
	}
	return out.String()
}

// leftEntries is the names of the files that lie there.
func leftEntries() (out []string) {
	names, _ := os.ReadDir(leasesDir)
	for _, name := range names {
		if name.Type().IsRegular() {
			out = append(out, name.Name())
		}
	}
	return out
}
