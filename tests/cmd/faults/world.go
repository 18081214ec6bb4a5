// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lease"
)

const (
	// Workers act at once; each has so many containers, of which one lives while
	// something is done to the other.
	workers = 4
	slots   = 2
	// A step is tried so often before it counts as one that can't be met.
	tries = 80
	// remembered is how many of the last actions a problem is told with.
	remembered = 40
)

// world is what all workers share.
type world struct {
	options
	ownNS   string
	spec    map[string]any // config.json of the bundle
	engines []string       // directories for --root: two engines on one grant
	before  string         // mounts

	started, looks, overlaps, cgroups atomic.Int64
	// removals is odd while something below /run/userns-runtime is being deleted.
	removals atomic.Int64
	removing sync.Mutex

	mu       sync.Mutex
	problems []string
	last     []string
	steps    []tally
	began    time.Time
}

func newWorld(o options) (*world, error) {
	w := &world{options: o, began: time.Now(), steps: make([]tally, len(steps))}
	for i, s := range steps {
		w.steps[i].Step = s.name
	}
	var err error
	if w.ownNS, err = ownUserNS(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(o.bundle, "config.json"))
	if err == nil {
		err = json.Unmarshal(text, &w.spec)
	}
	if err != nil {
		return nil, fmt.Errorf("-bundle: %w", err)
	}
	for _, name := range []string{"docker", "podman"} {
		dir := filepath.Join(o.root, name)
		if err := os.Mkdir(dir, 0o711); err != nil {
			return nil, fmt.Errorf("-root: %w", err)
		}
		w.engines = append(w.engines, dir)
	}
	w.before, err = mounts()
	return w, err
}

// mounts is the mount table without the numbers.
func mounts() (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		out = append(out, strings.Join(f[3:5], " "))
	}
	slices.Sort(out)
	return strings.Join(out, "\n"), nil
}

// note remembers what is done.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf("%9.3f ", time.Since(w.began).Seconds()) + fmt.Sprintf(format, args...)
	if w.last = append(w.last, text); len(w.last) > remembered {
		w.last = w.last[1:]
	}
}

// problem is what mustn't be. The first ends the game; those that follow from it are
// of no interest.
func (w *world) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.problems) == 0 {
		w.problems = append(w.problems, fmt.Sprintf(format, args...)+"\n  last actions:\n    "+strings.Join(w.last, "\n    "))
	}
}

func (w *world) broken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.problems) > 0
}

// count adds to the tally of a step.
func (w *world) count(step, kills, tries int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps[step].Kills += kills
	w.steps[step].Tries += tries
}

// play is the whole run.
func (w *world) play() result {
	first := w.firstChoice()
	stop := make(chan struct{})
	var watching, working sync.WaitGroup
	watching.Go(func() { w.watch(stop) })
	for i := range workers {
		working.Go(func() { w.work(i) })
	}
	working.Wait()
	if !w.broken() {
		w.judgeEnd(first)
	}
	close(stop)
	watching.Wait()
	if w.broken() {
		w.clear()
	}

	r := result{
		Seed: w.seed, Steps: w.steps, Containers: w.started.Load(), Looks: w.looks.Load(), Overlaps: w.overlaps.Load(),
		Problems: w.problems, Seconds: time.Since(w.began).Seconds(),
	}
	for _, t := range w.steps {
		r.Kills += t.Kills
	}
	return r
}

// work is one worker: it does its share of the kills. What it chooses follows from the seed
// and the number of the kill alone.
func (w *world) work(number int) {
	k := &worker{world: w, number: number}
	for i := number; i < w.kills && !w.broken(); i += workers {
		k.rng = rand.New(rand.NewPCG(w.seed, uint64(i)))
		slot := &k.slots[i/workers%slots]
		k.fault(i%len(steps), slot)
		if k.rng.IntN(2) == 0 {
			k.takeDown(slot)
		}
	}
	for i := range k.slots {
		k.takeDown(&k.slots[i])
	}
}

// worker does one thing after the other.
type worker struct {
	*world
	number int
	rng    *rand.Rand
	slots  [slots]container
}

// fault kills something at a step, trying until it is met.
func (k *worker) fault(step int, c *container) {
	for try := 1; try <= tries && !k.broken(); try++ {
		met := steps[step].do(k, c, chance{rng: k.rng, try: try})
		k.look()
		k.lookAtLeases()
		if k.rng.IntN(4) == 0 {
			k.collect() // at any time, as root may call `usernsctl gc`
			k.askUtility()
		}
		if met {
			k.note("worker %d: killed at %q, try %d", k.number, steps[step].name, try)
			k.count(step, 1, try)
			// What is left of it may need its IDs still.
			if c.id != "" && k.rng.IntN(3) == 0 {
				k.another(c)
			}
			return
		}
	}
	if !k.broken() {
		k.problem("step %q: not met in %d tries", steps[step].name, tries)
	}
}

// lookAtLeases judges what the leases say: no two that hold lie over each other.
func (w *world) lookAtLeases() {
	all, err := leasesOf()
	if err != nil {
		w.problem("leases: %v", err)
		return
	}
	for i, a := range all {
		for _, b := range all[:i] {
			// Of what was found alive there may be an entry beside a copy of the one that
			// was lost, whose start then fails.
			if a.State == lease.Ended || b.State == lease.Ended || a.Rebuilt || b.Rebuilt {
				continue
			}
			if both := a.Ranges.Intersect(b.Ranges); !both.Empty() {
				w.problem("leases: %s are held twice: %+v and %+v", both, a, b)
			}
		}
	}
}

func leasesOf() ([]lease.Status, error) {
	store, err := lease.Open()
	if err != nil {
		return nil, err
	}
	return store.List()
}

// collect is `usernsctl gc`.
func (w *world) collect() {
	store, err := lease.Open()
	if err == nil {
		_, err = store.Collect()
	}
	if err != nil {
		w.problem("gc: %v", err)
	}
}

// firstChoice is the IDs that a container of a certain name gets, where nobody holds any.
func (w *world) firstChoice() []extent {
	k := &worker{world: w, number: workers, rng: rand.New(rand.NewPCG(w.seed, 0))}
	c := &k.slots[0]
	if !k.ensure(c, statusRunning, w.cgroup+"-last") {
		return nil
	}
	var ids []extent
	for _, pid := range c.processes() {
		ids = outer(pid, "uid_map")
	}
	k.takeDown(c)
	return ids
}

// judgeEnd looks at what is left when all containers have been deleted.
func (w *world) judgeEnd(first []extent) {
	// Whoever has been killed may not be gone yet.
	if !eventually(3*time.Second, func() bool { return len(w.leftProcesses()) == 0 }) {
		w.problem("processes are left: %s", strings.Join(w.leftProcesses(), ", "))
	}
	if w.collect(); len(leftEntries()) > 0 {
		all, err := leasesOf()
		w.problem("entries that nobody holds are left: %+v %v\n%s", all, err, entries())
	}
	if after, err := mounts(); err != nil || after != w.before {
		w.problem("mounts: %v\n--- before\n%s\n--- after\n%s", err, w.before, after)
	}
	for _, dir := range w.engines {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			w.problem("states are left in %s: %v %v", dir, left, err)
		}
	}
	if left := w.leftCgroups(); len(left) > 0 {
		w.problem("cgroups are left: %v", left)
	}
	for i, t := range w.steps {
		if t.Kills == 0 && w.kills > i {
			w.problem("step %q: killed nothing", t.Step)
		}
	}
	if again := w.firstChoice(); !w.broken() && (len(again) == 0 || !slices.Equal(first, again)) {
		w.problem("one more container got the IDs %v, and not its first choice, %v", again, first)
	}
	if left := leftEntries(); len(left) > 0 {
		w.problem("the last container has left entries: %v", left)
	}
}

// leftProcesses is what runs of ours, of runc's, or in another user namespace.
func (w *world) leftProcesses() (out []string) {
	all, err := pids()
	if err != nil {
		return []string{err.Error()}
	}
	for _, pid := range all {
		ns, err := os.Readlink(procPath(pid, "ns/user"))
		if err != nil || !alive(pid) {
			continue
		}
		if p := program(pid); ns != w.ownNS || p == w.ours || p == w.runc || isInit(pid) {
			out = append(out, describe(pid))
		}
	}
	return out
}

func (w *world) leftCgroups() (out []string) {
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), w.cgroup+"-") {
			out = append(out, path)
		}
		return nil // what is gone by now is no matter
	})
	return out
}

// clear ends what a run that has found something leaves.
func (w *world) clear() {
	eventually(5*time.Second, func() bool {
		left := w.leftCgroups()
		for _, dir := range left {
			for _, pid := range cgroupProcesses(dir) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			_ = os.Remove(dir)
		}
		return len(left) == 0
	})
	for _, dir := range w.engines {
		_ = os.RemoveAll(dir)
	}
}

// writeNew replaces a file by one of that content.
func writeNew(path string, content any) error {
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
