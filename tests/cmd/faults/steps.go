// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The steps of the way, and how each is met: the process is watched in /proc until it
// has come to the step, goes on for a moment, is stopped, looked at, and killed
// if it is there still.

// chance is what is chosen for one try.
type chance struct {
	rng *rand.Rand
	try int
}

// pause is how far into a step its victim may go; in the end not at all, so that short
// ones are met too.
func (ch chance) pause(most time.Duration) {
	if most >>= (ch.try - 1) / 2; most > 10*time.Microsecond {
		time.Sleep(time.Duration(ch.rng.Int64N(int64(most))))
	}
}

// phase is how far a call that starts a container has come.
type phase int

const (
	phaseShim      phase = iota // ours, without a lease
	phaseLeased                 // it has one, without a user namespace
	phaseNamed                  // the lease has a user namespace
	phaseRunc                   // it is runc, which has made nothing
	phaseDirectory              // there is a directory for the state
	phaseState                  // there is a state
	phaseRunning                // the container's own process runs
	phaseOver                   // it has ended
)

// lengths is about how long a phase lasts, here.
var lengths = [...]time.Duration{
	phaseShim: 4 * time.Millisecond, phaseLeased: time.Millisecond, phaseNamed: 6 * time.Millisecond, phaseRunc: 16 * time.Millisecond,
	phaseDirectory: 30 * time.Millisecond, phaseState: 8 * time.Millisecond, phaseRunning: 10 * time.Millisecond, phaseOver: 0,
}

// phaseOf looks how far it is.
func (w *world) phaseOf(a *call, c *container) phase {
	if a.ended() {
		return phaseOver
	}
	switch program(a.pid()) {
	case w.ours:
		leased, named := leaseOf(a.pid())
		switch {
		case named:
			return phaseNamed
		case leased:
			return phaseLeased
		}
		return phaseShim
	case w.runc:
		switch {
		case c.runs():
			return phaseRunning
		case exists(c.stateFile()):
			return phaseState
		case exists(c.stateDir()):
			return phaseDirectory
		}
		return phaseRunc
	}
	return phaseOver
}

// leaseOf says whether a process has an entry open, and whether that names a user namespace.
func leaseOf(pid int) (leased, named bool) {
	fds, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		return false, false
	}
	for _, fd := range fds {
		link := procPath(pid, "fd/"+fd.Name())
		to, err := os.Readlink(link)
		if err != nil || !strings.Contains(to, leasesDir+"/") {
			continue
		}
		leased = true
		text, err := os.ReadFile(link)
		var entry struct {
			UserNS uint64 `json:"userNS"`
		}
		if err == nil && json.Unmarshal(text, &entry) == nil && entry.UserNS != 0 {
			named = true
		}
	}
	return leased, named
}

// meet stops a call in a phase; ok is false if it has gone past it.
func (w *world) meet(a *call, ch chance, want phase, length time.Duration, look func() phase) (ok bool) {
	paused := false
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		at := look()
		if at > want {
			return false
		}
		if at < want {
			time.Sleep(20 * time.Microsecond)
			continue
		}
		if !paused {
			ch.pause(length)
			paused = true
		}
		if !halt(a.pid()) {
			return false
		}
		if at = look(); at == want {
			return true
		}
		resume(a.pid())
	}
	return false
}

// step is one of the way.
type step struct {
	name string
	do   func(*worker, *container, chance) (met bool)
}

var steps = slices.Concat(startSteps("create"), startSteps("run"), []step{
	{"run: runc, while the container runs", killStarting("run", phaseRunning)},
	{"exec: ours", killExec(0)},
	{"exec: runc", killExec(1)},
	{"start: ours", killStart(0)},
	{"start: runc", killStart(1)},
	{"delete: ours, before runc", killDelete(deleteBefore)},
	{"delete: runc", killDelete(deleteDuring)},
	{"delete: ours, after runc", killDelete(deleteAfter)},
	{"the container's init", killInit},
	{"rm -rf " + runDir + " under containers", removeUnder(runDir)},
	{"rm -rf " + leasesDir + " under containers", removeUnder(leasesDir)},
	{"rm -rf " + runDir + " during create", removeDuring(runDir)},
	{"rm -rf " + leasesDir + " during create", removeDuring(leasesDir)},
	{"rm -rf " + leasesDir + ", ended half-way", removeHalf},
})

func startSteps(verb string) []step {
	return []step{
		{verb + ": ours, without a lease", killStarting(verb, phaseShim)},
		{verb + ": ours, with a lease", killStarting(verb, phaseLeased)},
		{verb + ": ours, with a user namespace", killStarting(verb, phaseNamed)},
		{verb + ": runc, no directory", killStarting(verb, phaseRunc)},
		{verb + ": runc, no state.json", killStarting(verb, phaseDirectory)},
		{verb + ": runc, state.json", killStarting(verb, phaseState)},
		{verb + ": runc init", killChild(verb)},
		{verb + ": runc, its init held back", killBehind(verb, false)},
		{verb + ": the same, and the leases removed", killBehind(verb, true)},
	}
}

// begin starts a container anew, by create or run; run is in the foreground or not.
func (k *worker) begin(c *container, verb string, ch chance, foreground bool) *call {
	// At times on what a killed one has left, as an engine does that tries again.
	if c.status != statusUnclear || ch.rng.IntN(4) > 0 {
		k.takeDown(c)
	}
	if c.id == "" {
		if err := k.renew(c, ""); err != nil {
			k.problem("%v", err)
			return nil
		}
	}
	c.status = statusUnclear
	args := []string{"-b", c.bundle, c.id}
	if verb == "run" && !foreground {
		args = append([]string{"-d"}, args...)
	}
	a, err := k.call(c, verb, args...)
	if err != nil {
		k.problem("%v", err)
		return nil
	}
	return a
}

// settles waits until a call has ended, or runs its container in the foreground.
func (a *call) settles(c *container, within time.Duration) bool {
	return eventually(within, func() bool { return a.ended() || c.runs() })
}

// missed lets a call that went past the step go on, and says so.
func (k *worker) missed(a *call, c *container) bool {
	if !a.settles(c, 10*time.Second) {
		k.problem("%s: it neither ends nor runs: %s", a.args, describe(a.pid()))
	}
	k.takeDown(c)
	return false
}

func killStarting(verb string, want phase) func(*worker, *container, chance) bool {
	return func(k *worker, c *container, ch chance) bool {
		a := k.begin(c, verb, ch, want == phaseRunning || verb == "run" && ch.rng.IntN(2) == 0)
		if a == nil {
			return false
		}
		if !k.meet(a, ch, want, lengths[want], func() phase { return k.phaseOf(a, c) }) {
			return k.missed(a, c)
		}
		a.kill()
		k.wait(a)
		return true
	}
}

// inits is the processes of runc's that are becoming the container's first.
func inits(a *call) []int {
	return slices.DeleteFunc(descendants(a.pid()), func(pid int) bool { return !isInit(pid) })
}

// meetInit stops runc where it has an init and no state, and the inits as well.
func (k *worker) meetInit(a *call, c *container, ch chance) (pids []int) {
	if !k.meet(a, ch, phaseDirectory, 0, func() phase {
		at := k.phaseOf(a, c)
		if at == phaseDirectory && len(inits(a)) == 0 {
			return phaseRunc
		}
		return at
	}) {
		return nil
	}
	for _, pid := range inits(a) {
		if halt(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func killChild(verb string) func(*worker, *container, chance) bool {
	return func(k *worker, c *container, ch chance) bool {
		a := k.begin(c, verb, ch, verb == "run" && ch.rng.IntN(2) == 0)
		if a == nil {
			return false
		}
		pids := k.meetInit(a, c, ch)
		if len(pids) == 0 {
			resume(a.pid())
			return k.missed(a, c)
		}
		// Some get a little further.
		for _, pid := range pids {
			resume(pid)
		}
		resume(a.pid())
		ch.pause(10 * time.Millisecond)
		pids = inits(a)
		if len(pids) == 0 {
			return k.missed(a, c)
		}
		met := unix.Kill(pids[ch.rng.IntN(len(pids))], unix.SIGKILL) == nil
		// The first of them may have done its part by then. Rarely, runc waits for
		// one that waits for it, and would for ever.
		if !a.settles(c, 2*time.Second) {
			k.note("%d is killed as well: %s", a.pid(), describe(a.pid()))
			a.kill()
			k.wait(a)
		}
		return met
	}
}

// holdInits stops the inits of a call before any of them is in the container's user
// namespace, and gives runc the time to tell them which one that is.
func (k *worker) holdInits(a *call, c *container) (held []int) {
	for k.phaseOf(a, c) <= phaseDirectory {
		for _, pid := range inits(a) {
			if halt(pid) {
				held = append(held, pid)
			}
		}
		if len(held) > 0 {
			break
		}
	}
	inside := func(pid int) bool {
		ns, err := os.Readlink(procPath(pid, "ns/user"))
		return err != nil || ns != k.ownNS
	}
	// runc puts the first of them into the cgroup, and then tells it.
	told := func() bool {
		return slices.ContainsFunc(c.processes(), func(pid int) bool { return slices.Contains(held, pid) })
	}
	if slices.ContainsFunc(held, inside) || !eventually(time.Second, told) {
		for _, pid := range held {
			resume(pid)
		}
		return nil
	}
	time.Sleep(5 * time.Millisecond)
	return held
}

// killBehind kills runc, whose init hasn't come to the user namespace yet and doesn't for
// a while, as on a busy host. Somebody else who is given its IDs meanwhile would share
// them. With lost, somebody also removes the leases.
func killBehind(verb string, lost bool) func(*worker, *container, chance) bool {
	return func(k *worker, c *container, ch chance) bool {
		a := k.begin(c, verb, ch, false)
		if a == nil {
			return false
		}
		held := k.holdInits(a, c)
		if len(held) == 0 {
			return k.missed(a, c)
		}
		a.kill()
		k.wait(a)
		k.note("inits %v of %s are held back", held, c.id)
		if lost {
			k.removeAll(leasesDir)
		}
		other := k.other(c)
		if other == nil {
			return false
		}
		for _, pid := range held {
			resume(pid)
		}
		k.note("inits %v go on", held)
		for until := time.Now().Add(20 * time.Millisecond); time.Now().Before(until); {
			k.look()
		}
		k.takeDown(other)
		for _, pid := range held {
			if isInit(pid) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		return true
	}
}
