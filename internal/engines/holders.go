// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// Containers is the state directories and IDs of the containers that the low-level runtime knows
// of, in the places that engines have for them.
func (h Host) Containers() (found [][2]string) {
	for _, pattern := range []string{"/run/docker/runtime-*/*/*/state.json", "/run/containerd/runc/*/*/state.json", "/run/runc/*/state.json", crioRoot + "/*/state.json"} {
		files, err := filepath.Glob(h.path(pattern))
		if err != nil {
			continue // a pattern that can't be one
		}
		for _, file := range files {
			dir := filepath.Dir(h.name(file))
			found = append(found, [2]string{filepath.Dir(dir), filepath.Base(dir)})
		}
	}
	return found
}

// stopped warns of containers of Docker that aren't running and were made for our runtime: dockerd
// keeps its name with each, and can't start them without it.
func (h Host) stopped(daemonJSON []byte) []string {
	data := "/var/lib/docker"
	if tree, err := decodeJSON(daemonJSON); err == nil {
		if dir, ok := tree["data-root"].(string); ok && filepath.IsAbs(dir) {
			data = dir
		}
	}
	files, err := filepath.Glob(filepath.Join(h.path(data), "containers", "*", "hostconfig.json"))
	if err != nil {
		return nil
	}
	var ids []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		var c struct{ Runtime string }
		if err == nil && json.Unmarshal(text, &c) == nil && c.Runtime == RuntimeName {
			id := filepath.Base(filepath.Dir(file))
			ids = append(ids, Printable(id[:min(12, len(id))]))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	shown := strings.Join(ids[:min(5, len(ids))], " ")
	if len(ids) > 5 {
		shown += fmt.Sprintf(" and %d more", len(ids)-5)
	}
	return []string{fmt.Sprintf("containers that were made for the runtime %s can't be started without it, but have to be made again: %s", RuntimeName, shown)}
}
