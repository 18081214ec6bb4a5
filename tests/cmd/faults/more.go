// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The steps of the other verbs, and what isn't a kill.

// afterExec is how far a call is that becomes runc: 0 while it is ours, then 1.
func (w *world) afterExec(a *call) phase {
	if a.ended() {
		return phaseOver
	}
	switch program(a.pid()) {
	case w.ours:
		return 0
	case w.runc:
		return 1
	}
	return phaseOver
}

func killExec(want phase) func(*worker, *container, chance) bool {
	return func(k *worker, c *container, ch chance) bool {
		if !k.ensure(c, statusRunning, "") {
			return false
		}
		args := []string{c.id, "sleep", "0.05"}
		if ch.rng.IntN(2) == 0 {
			args = append([]string{"-d"}, args...)
		}
		a, err := k.call(c, "exec", args...)
		if err != nil {
			k.problem("%v", err)
			return false
		}
		met := k.meet(a, ch, want, 20*time.Millisecond, func() phase { return k.afterExec(a) })
		if met {
			a.kill()
		}
		k.wait(a)
		if !met && a.err != nil && !k.excused(a) {
			k.problem("exec: %v: %s", a.err, a.said())
		}
		// What was killed on the way to the container harms nobody in it.
		return met && k.must(c, "exec", c.id, "true")
	}
}

func killStart(want phase) func(*worker, *container, chance) bool {
	return func(k *worker, c *container, ch chance) bool {
		if !k.ensure(c, statusCreated, "") {
			return false
		}
		a, err := k.call(c, "start", c.id)
		if err != nil {
			k.problem("%v", err)
			return false
		}
		met := k.meet(a, ch, want, 6*time.Millisecond, func() phase { return k.afterExec(a) })
		if met {
			a.kill()
		}
		c.status = statusUnclear
		k.wait(a)
		return met
	}
}

// The steps of delete.
const (
	deleteBefore phase = iota
	deleteDuring
	deleteAfter
)

// deletePhase is how far a delete is: it is ours all the time.
func (w *world) deletePhase(a *call, c *container) phase {
	if w.afterExec(a) != 0 {
		return phaseOver
	}
	if len(descendants(a.pid())) > 0 {
		return deleteDuring
	}
	if exists(c.stateFile()) {
		return deleteBefore
	}
	return deleteAfter
}

func killDelete(want phase) func(*worker, *container, chance) bool {
	return func(k *worker, c *container, ch chance) bool {
		if !k.ensure(c, statusRunning, "") {
			return false
		}
		a, err := k.call(c, "delete", "-f", c.id)
		if err != nil {
			k.problem("%v", err)
			return false
		}
		c.status = statusUnclear
		length := map[phase]time.Duration{deleteBefore: 3 * time.Millisecond, deleteDuring: 30 * time.Millisecond}[want]
		met := k.meet(a, ch, want, length, func() phase { return k.deletePhase(a, c) })
		switch {
		case met && want == deleteDuring:
			for _, pid := range descendants(a.pid()) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			resume(a.pid())
		case met:
			a.kill()
		}
		k.wait(a)
		return met
	}
}

// killInit ends the container's first process. While runc knows the container, nobody
// else gets its IDs, unless its entry was lost: of what has no process, nothing is found then.
func killInit(k *worker, c *container, ch chance) bool {
	want := statusRunning
	if ch.rng.IntN(3) == 0 {
		want = statusCreated
	}
	if !k.ensure(c, want, "") {
		return false
	}
	pid := initOf(c)
	ids := outer(pid, "uid_map")
	c.status = statusUnclear
	k.note("kill the init of %s, %d", c.id, pid)
	if pid == 0 || len(ids) == 0 || unix.Kill(pid, unix.SIGKILL) != nil {
		return false
	}
	if !eventually(5*time.Second, func() bool { return len(c.processes()) == 0 }) {
		k.problem("the init of %s was killed, and these live on: %v", c.id, c.processes())
	}
	o := k.other(c)
	if o == nil {
		return false
	}
	if both, shared := overlap(ids, outer(initOf(o), "uid_map")); shared && exists(c.stateFile()) && k.removals.Load() == c.removals {
		k.problem("%s has stopped and isn't deleted, and the IDs [%d-%d) were given to another: entries:\n%s", c.id, both.start, both.end, entries())
	}
	k.takeDown(o)
	return true
}

// remove deletes something of userns-runtime's, while others may go on.
func (w *world) remove(do func() error) {
	w.removing.Lock()
	defer w.removing.Unlock()
	w.removals.Add(1)
	defer w.removals.Add(1)
	if err := do(); err != nil {
		w.problem("rm: %v", err)
	}
}

func (w *world) removeAll(path string) {
	w.remove(func() error {
		w.note("rm -rf %s", path)
		// It may fail on what is made in it meanwhile, as rm does.
		out, err := exec.Command("rm", "-rf", path).CombinedOutput()
		w.note("rm: %v %s", err, out)
		return nil
	})
}

func removeUnder(path string) func(*worker, *container, chance) bool {
	return func(k *worker, c *container, _ chance) bool {
		if !k.ensure(c, statusRunning, "") {
			return false
		}
		k.removeAll(path)
		// The container is as it was, and whoever comes next doesn't get its IDs.
		return k.must(c, "exec", c.id, "true") && k.another(c)
	}
}

// other starts a container of the same name for another engine, whose first choice is the
// same.
func (k *worker) other(c *container) *container {
	engine := k.engines[0]
	if engine == c.engine {
		engine = k.engines[1]
	}
	o := new(container)
	if err := k.furnish(o, c.id, engine, "bundle-other-"+strconv.Itoa(k.number)); err != nil {
		k.problem("%v", err)
		return nil
	}
	if !k.must(o, "create", "-b", o.bundle, o.id) {
		return nil
	}
	o.status = statusCreated
	k.started.Add(1)
	k.look()
	return o
}

// another is such a one that is removed at once.
func (k *worker) another(c *container) bool {
	o := k.other(c)
	if o == nil {
		return false
	}
	k.takeDown(o)
	return true
}

func removeDuring(path string) func(*worker, *container, chance) bool {
	return func(k *worker, c *container, ch chance) bool {
		a := k.begin(c, "create", ch, false)
		if a == nil {
			return false
		}
		want := phase(ch.rng.IntN(int(phaseState)))
		if !k.meet(a, ch, want, lengths[want], func() phase { return k.phaseOf(a, c) }) {
			return k.missed(a, c)
		}
		was, err := os.Stat(leasesDir)
		k.removeAll(path)
		if now, nowErr := os.Stat(leasesDir); err == nil && nowErr == nil && os.SameFile(was, now) {
			// Something was made in it meanwhile. Who is stopped may have it locked.
			resume(a.pid())
			return k.missed(a, c)
		}
		// One who would get the same IDs if nobody had them.
		o := k.other(c)
		resume(a.pid())
		k.wait(a)
		k.look()
		if o == nil {
			return false
		}
		k.takeDown(o)
		return true
	}
}

// removeHalf deletes entries and not yet the rest, as an rm does that is at it, or was
// killed.
func removeHalf(k *worker, c *container, ch chance) bool {
	if !k.ensure(c, statusRunning, "") {
		return false
	}
	ok := false
	k.remove(func() error {
		names := leftEntries()
		slices.Sort(names)
		switch ch.rng.IntN(3) {
		case 0: // what is an entry, with a dot in its name: nothing else there says that it is gone
			names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, ".") })
		case 1:
			names = slices.DeleteFunc(names, func(string) bool { return ch.rng.IntN(2) == 0 })
		}
		k.note("rm %v", names)
		for _, name := range names {
			// Others may have removed it.
			_ = os.Remove(filepath.Join(leasesDir, name))
		}
		ok = k.another(c)
		if ch.rng.IntN(2) == 0 {
			return os.RemoveAll(leasesDir)
		}
		return nil
	})
	return ok
}
