// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// roots is the state directories by which an engine's containers are known, as patterns of
// path/filepath for their ends, and what a [[rule]] of the configuration would name.
var roots = []struct{ engine, matches, usual string }{
	// dockerd: EXEC-ROOT/runtime-NAME/CONTAINERD-NAMESPACE
	{"docker", "/runtime-*/*", "/run/docker/runtime-runc/moby"},
	{"containerd", "/containerd/runc/*", "/run/containerd/runc/k8s.io"},
	// Which is runc's own, and so that of everybody who calls it by hand.
	{"podman", "/run/runc", "/run/runc"},
	{"crio", crioRoot, crioRoot},
}

// endsAs says whether as many of the last names of a path as the pattern has match it.
func endsAs(path, pattern string) bool {
	names := strings.Split(path, "/")
	n := strings.Count(pattern, "/")
	if len(names) <= n {
		return false
	}
	ok, err := filepath.Match(pattern, "/"+strings.Join(names[len(names)-n:], "/"))
	return ok && err == nil
}

// Concerns says whether a container with that state directory may be the engine's: one of a
// directory that is no known engine's may be anybody's.
func Concerns(name, root string) bool {
	known := false
	for _, r := range roots {
		if endsAs(root, r.matches) {
			if r.engine == name {
				return true
			}
			known = true
		}
	}
	return !known
}

// StateRoot is the state directory that the engine's containers have, for the rules of the
// configuration.
func StateRoot(name string) string {
	for _, r := range roots {
		if r.engine == name {
			return r.usual
		}
	}
	return ""
}

// Container is one that the low-level runtime knows of.
type Container struct {
	Root, ID string // its state directory's directory, and its name
	pid      int    // its first process
}

// InUserNS says whether a container's first process is in another user namespace than the caller.
func (c Container) InUserNS() bool {
	there, err := os.Stat("/proc/" + strconv.Itoa(c.pid) + "/ns/user")
	if err != nil {
		return false
	}
	here, err := os.Stat("/proc/thread-self/ns/user")
	return err == nil && !os.SameFile(here, there)
}

// Containers is what the low-level runtime knows of in the places that engines have for it.
func (h Host) Containers() (found []Container) {
	for _, pattern := range []string{"/run/docker/runtime-*/*/*/state.json", "/run/containerd/runc/*/*/state.json", "/run/runc/*/state.json", crioRoot + "/*/state.json"} {
		files, err := filepath.Glob(h.path(pattern))
		if err != nil {
			continue // a pattern that can't be one
		}
		for _, file := range files {
			dir := filepath.Dir(h.name(file))
			// As runc writes it: libcontainer, BaseState.
			var state struct {
				PID int `json:"init_process_pid"`
			}
			if text, err := os.ReadFile(file); err != nil || json.Unmarshal(text, &state) != nil {
				state.PID = 0 // it is just being written, or removed
			}
			found = append(found, Container{filepath.Dir(dir), filepath.Base(dir), state.PID})
		}
	}
	return found
}

// stopped warns of containers of Docker that aren't running and were made for our runtime: dockerd
// keeps its name with each, and can't start them without it.
func (h Host) stopped(file string, daemonJSON []byte) []string {
	made := h.madeFor(file, daemonJSON, func(runtime string) bool { return runtime == RuntimeName })
	if len(made) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("containers that were made for the runtime %s can't be started without it, but have to be made again: %s", RuntimeName, some(made))}
}

// elsewhere warns of containers of Docker that were made for another runtime, be they alive or not:
// dockerd keeps its name with each, so that they go on as before when they are started again, by
// a restart policy too.
func (h Host) elsewhere(file string, daemonJSON []byte) []string {
	// Without a name it is the default, as of containers of old.
	made := h.madeFor(file, daemonJSON, func(runtime string) bool { return runtime != RuntimeName && runtime != "" })
	if len(made) == 0 {
		return nil
	}
	number := "1 container was"
	if len(made) > 1 {
		number = fmt.Sprintf("%d containers were", len(made))
	}
	return []string{fmt.Sprintf("%s made for another runtime, and stay with it whenever they are started again, by a restart policy too: make them anew (docker inspect -f '{{.HostConfig.Runtime}}' ID shows it): %s", number, some(made))}
}

// some is the first of many.
func some(ids []string) string {
	shown := strings.Join(ids[:min(5, len(ids))], " ")
	if len(ids) > 5 {
		shown += fmt.Sprintf(" and %d more", len(ids)-5)
	}
	return shown
}

// madeFor is the short IDs of Docker's containers whose runtime is one of those, in order.
func (h Host) madeFor(file string, daemonJSON []byte, runtime func(name string) bool) (ids []string) {
	data := h.path(h.dockerData(file, daemonJSON))
	// With userns-remap there is a directory UID.GID between.
	for _, between := range []string{"", "[0-9]*.[0-9]*"} {
		files, err := filepath.Glob(filepath.Join(data, between, "containers", "*", "hostconfig.json"))
		if err != nil {
			continue // a path that can't be a pattern
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			var c struct{ Runtime string }
			if err == nil && json.Unmarshal(text, &c) == nil && runtime(c.Runtime) {
				id := filepath.Base(filepath.Dir(file))
				ids = append(ids, Printable(id[:min(12, len(id))]))
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// dockerData is where dockerd has its containers: as its file says, or the command line of the one
// that runs with it.
func (h Host) dockerData(file string, daemonJSON []byte) string {
	if dir := dataRootOf(daemonJSON); filepath.IsAbs(dir) {
		return dir
	}
	for _, p := range h.running("dockerd") {
		if dir, given := option(p.args, dataRootFlag...); configOf(p) == file && given && filepath.IsAbs(dir) {
			return dir
		}
	}
	return "/var/lib/docker"
}
