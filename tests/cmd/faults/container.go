// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The containers, and what is called on them.

// status is how far a container is, as far as its worker knows.
type status int

const (
	statusNone    status = iota
	statusUnclear        // something was killed
	statusCreated
	statusRunning
)

// container is one of a worker's.
type container struct {
	engine, id string
	cgroup     string // a name of its own each time, so that what is left of the last one is known
	bundle     string
	status     status
	calls      []*call // that may still run
	removals   int64   // [world.removals] before it was made
}

// call is one run of userns-runtime.
type call struct {
	cmd    *exec.Cmd
	args   string
	output *os.File
	done   chan struct{}
	err    error // once done
	// removals is [world.removals] when it began.
	removals int64
}

func (c *container) stateDir() string  { return filepath.Join(c.engine, c.id) }
func (c *container) stateFile() string { return filepath.Join(c.stateDir(), "state.json") }

// cgroupDirs is those of the container, in each hierarchy.
func (c *container) cgroupDirs() []string {
	one, _ := filepath.Glob("/sys/fs/cgroup/*/" + c.cgroup)
	return append(one, "/sys/fs/cgroup/"+c.cgroup)
}

func cgroupProcesses(dir string) (out []int) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// processes is all that runs in the container's cgroups.
func (c *container) processes() (out []int) {
	for _, dir := range c.cgroupDirs() {
		for _, pid := range cgroupProcesses(dir) {
			if !slices.Contains(out, pid) && alive(pid) {
				out = append(out, pid)
			}
		}
	}
	return out
}

// runs says whether the container's own process runs, and not runc's any more.
func (c *container) runs() bool {
	return slices.ContainsFunc(c.processes(), func(pid int) bool { return strings.HasPrefix(arguments(pid), "sleep ") })
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// renew makes the slot a container that isn't there yet.
func (k *worker) renew(c *container, id string) error {
	slot := 0
	for i := range k.slots {
		if c == &k.slots[i] {
			slot = i
		}
	}
	if id == "" {
		// A few names only, so that the same ones come again, and want their IDs back.
		id = fmt.Sprintf("%s-%d-%d-%d", k.cgroup, k.number, slot, k.rng.IntN(2))
	}
	return k.furnish(c, id, k.engines[k.rng.IntN(len(k.engines))], fmt.Sprintf("bundle-%d-%d", k.number, slot))
}

// furnish gives a container its bundle.
func (w *world) furnish(c *container, id, engine, bundle string) error {
	*c = container{
		id: id, engine: engine, bundle: filepath.Join(w.root, bundle), removals: w.removals.Load(),
		cgroup: fmt.Sprintf("%s-cgroup-%d", w.cgroup, w.cgroups.Add(1)),
	}
	if !exists(c.bundle) {
		if out, err := exec.Command("cp", "-a", w.bundle, c.bundle).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, out)
		}
	}
	spec := maps.Clone(w.spec)
	linux, ok := spec["linux"].(map[string]any)
	process, ok2 := spec["process"].(map[string]any)
	if !ok || !ok2 {
		return errors.New("config.json of the bundle has no process or no linux")
	}
	linux, process = maps.Clone(linux), maps.Clone(process)
	linux["cgroupsPath"] = "/" + c.cgroup
	process["args"] = []string{"sleep", "1000"}
	spec["linux"], spec["process"] = linux, process
	return writeNew(filepath.Join(c.bundle, "config.json"), spec)
}

// call starts userns-runtime on a container.
func (w *world) call(c *container, verb string, args ...string) (*call, error) {
	out, err := os.CreateTemp(w.root, "output-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(out.Name()); err != nil {
		return nil, err
	}
	all := append([]string{"--config", w.config, "--root", c.engine, verb}, args...)
	a := &call{
		cmd: exec.Command(w.ours, all...), args: strings.Join(all[4:], " "), output: out,
		done: make(chan struct{}), removals: w.removals.Load(),
	}
	a.cmd.Stdout, a.cmd.Stderr = out, out
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	w.note("%d: %s (%s)", a.cmd.Process.Pid, a.args, filepath.Base(c.engine))
	c.calls = append(c.calls, a)
	go func() {
		a.err = a.cmd.Wait()
		w.note("%d: ended: %v %s", a.cmd.Process.Pid, a.err, a.said())
		close(a.done)
	}()
	return a, nil
}

func (a *call) pid() int { return a.cmd.Process.Pid }

func (a *call) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// kill sends SIGKILL, to this process and to none that has its number later.
func (a *call) kill() { _ = a.cmd.Process.Kill() }

// said is what the call wrote.
func (a *call) said() string {
	text, err := io.ReadAll(io.NewSectionReader(a.output, 0, 4096))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

// wait waits for a call's end; what goes on for ever is a problem.
func (w *world) wait(a *call) {
	select {
	case <-a.done:
	case <-time.After(20 * time.Second):
		w.problem("%s: process %d doesn't end: %s", a.args, a.pid(), describe(a.pid()))
		resume(a.pid())
		a.kill()
		<-a.done
	}
}

// excused says whether a failure may have come of something that was deleted meanwhile.
func (w *world) excused(a *call) bool { return a.removals%2 != 0 || w.removals.Load() != a.removals }

// must calls what has to succeed.
func (k *worker) must(c *container, verb string, args ...string) bool {
	for range 50 {
		a, err := k.call(c, verb, args...)
		if err != nil {
			k.problem("%v", err)
			return false
		}
		if k.wait(a); a.err == nil {
			return true
		}
		if k.broken() {
			return false
		}
		if !k.excused(a) {
			k.problem("%s %s: %v: %s", verb, strings.Join(args, " "), a.err, a.said())
			return false
		}
		if verb == "create" || verb == "run" {
			was := *c
			k.takeDown(c)
			if err := k.furnish(c, was.id, was.engine, filepath.Base(was.bundle)); err != nil {
				k.problem("%v", err)
				return false
			}
		}
	}
	k.problem("%s: it fails again and again", verb)
	return false
}

// ensure sees to it that a container is created, or runs; id is "" for any name.
func (k *worker) ensure(c *container, want status, id string) bool {
	if c.status == want {
		return true
	}
	k.takeDown(c)
	if err := k.renew(c, id); err != nil {
		k.problem("%v", err)
		return false
	}
	if want == statusRunning && k.rng.IntN(2) == 0 {
		if !k.must(c, "run", "-d", "-b", c.bundle, c.id) {
			return false
		}
	} else {
		if !k.must(c, "create", "-b", c.bundle, c.id) {
			return false
		}
		if want == statusRunning && !k.must(c, "start", c.id) {
			return false
		}
	}
	c.status = want
	k.started.Add(1)
	k.look()
	return true
}

// takeDown deletes a container as an engine does, whatever has become of it, and clears
// up what runc leaves of one that was killed.
func (k *worker) takeDown(c *container) {
	if c.id == "" {
		return
	}
	sound := c.status == statusCreated || c.status == statusRunning
	for _, a := range c.calls {
		resume(a.pid())
	}
	for range 2 {
		a, err := k.call(c, "delete", "-f", c.id)
		if err != nil {
			k.problem("%v", err)
			return
		}
		k.wait(a)
		if sound && a.err != nil && !k.excused(a) {
			k.problem("delete -f %s: %v: %s", c.id, a.err, a.said())
		}
		if sound && len(c.processes()) > 0 {
			k.problem("delete -f %s has left %s", c.id, describe(c.processes()[0]))
		}
		// An init waits for ever for a runc that was killed.
		gone := eventually(5*time.Second, func() bool {
			left := c.processes()
			for _, pid := range left {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			return len(left) == 0
		})
		if !gone {
			k.problem("processes of %s don't end: %v", c.id, c.processes())
		}
		if !exists(c.stateFile()) {
			break
		}
		sound = false
	}
	if exists(c.stateFile()) {
		k.problem("delete -f has left %s", c.stateFile())
	}
	for _, a := range c.calls {
		k.wait(a)
		a.output.Close()
	}
	// Without a state.json, runc knows nothing of the directory and the cgroup.
	if err := os.RemoveAll(c.stateDir()); err != nil {
		k.problem("%v", err)
	}
	eventually(time.Second, func() bool {
		left := false
		for _, dir := range c.cgroupDirs() {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				left = true
			}
		}
		return !left
	})
	*c = container{}
	k.look()
}

// initOf is the first process of a container, as runc's state has it; 0 if there is none.
func initOf(c *container) int {
	text, err := os.ReadFile(c.stateFile())
	if err != nil {
		return 0
	}
	var state struct {
		Pid int `json:"init_process_pid"`
	}
	if json.Unmarshal(text, &state) != nil {
		return 0
	}
	return state.Pid
}
