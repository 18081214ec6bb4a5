// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"path/filepath"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/rootfs"
)

// Engines bind files of their own into containers: volumes, /etc/hosts,
// /dev/shm. Root inside has to be root of those, as under plain runc. In
// config.json they look like any path of the host that somebody asked for, so
// they are known by where they lie below the engine's directory, and that
// directory is known by where the engine keeps this very container.
//
// A pattern is components of a path: "*" is any one, "x*" any that begins so, "**" at the end is all that is
// below, if anything. They name single files and directories on purpose. Whoever gets
// /var/lib/docker as a whole could make containers that they may not have.

// layout is what an engine keeps where.
type layout struct {
	// anchor is the end of a path that shows the engine's directory: what comes
	// before it.
	anchor string
	// own is what below that directory belongs to containers.
	own []string
}

// byUpper is known by the upper layer of the root filesystem, or by the root
// filesystem itself where that is a plain directory.
var byUpper = []layout{
	{"overlay2/*/diff", dockerOwn},
	{"vfs/dir/*", append(append([]string{}, dockerOwn...), podmanOwn...)},
	{"overlay/*/diff", podmanOwn},
	{"io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs", []string{
		"io.containerd.grpc.v1.cri/sandboxes/*/hostname",
		"io.containerd.grpc.v1.cri/sandboxes/*/hosts",
		"io.containerd.grpc.v1.cri/sandboxes/*/resolv.conf",
		"io.containerd.grpc.v1.cri/containers/*/volumes/*/**",
	}},
}

// byRun is known by the bundle, or by the directory of --pid-file or --log: engines keep
// what needn't outlive a boot elsewhere.
var byRun = []layout{
	{"overlay-containers/*/userdata", podmanOwn},
	{"io.containerd.runtime.v2.task/*/*", []string{"io.containerd.grpc.v1.cri/sandboxes/*/shm"}},
}

// byBundle is known by the bundle alone. (Podman's --pidfile becomes --pid-file, wherever that is.)
var byBundle = []layout{
	// What is bound into a step of a build dockerd's BuildKit has chosen, nobody else: caches (RUN --mount=type=cache)
	// and other images, which it keeps as layers, secrets, and the socket of an SSH agent. A container's layers are its
	// own for everybody else.
	{"buildkit/executor/*", []string{"overlay2/*/diff/**", "vfs/dir/*/**", "tmp/buildkit-secrets*/**", "tmp/.buildkit-ssh-sock*/**"}},
}

// volumesDir is where Docker and Podman keep what outlives containers, and may be several'.
const volumesDir = "volumes"

var dockerOwn = []string{
	volumesDir + "/*/_data/**",
	"containers/*/resolv.conf",
	"containers/*/hostname",
	"containers/*/hosts",
	"containers/*/mounts/shm",
	"containers/*/mounts/secrets/**",
}

var podmanOwn = []string{
	volumesDir + "/*/_data/**",
	"overlay-containers/*/userdata/resolv.conf",
	"overlay-containers/*/userdata/hostname",
	"overlay-containers/*/userdata/hosts",
	"overlay-containers/*/userdata/.containerenv",
	"overlay-containers/*/userdata/passwd",
	"overlay-containers/*/userdata/group",
	"overlay-containers/*/userdata/shm",
	"overlay-containers/*/userdata/run/secrets/**",
	"overlay-containers/*/userdata/secrets/**",
}

// engineState is the directories of the engine that starts a container, and what
// in each belongs to containers.
type engineState []engineDir

type engineDir struct {
	dir string
	own []string
}

// findEngineState knows the directories by the real paths of the upper layer (or the
// root filesystem), of the bundle, and of the directories of --pid-file and --log. An empty one
// says nothing.
func findEngineState(upper, bundle string, runDirs ...string) engineState {
	var state engineState
	find := func(path string, layouts []layout) {
		for _, l := range layouts {
			if dir, ok := before(path, l.anchor); ok {
				state = append(state, engineDir{dir, l.own})
			}
		}
	}
	find(upper, byUpper)
	find(bundle, byRun)
	find(bundle, byBundle)
	for _, dir := range runDirs {
		find(dir, byRun)
	}
	return state
}

// find is the engine's directory that a real path belongs to as something of a
// container's. asked is the path as the bundle has it: what links inside of a volume lead to
// is another volume's, or nothing of the engine's.
func (s engineState) find(path, asked string) (own rootfs.Own, ok bool) {
	for _, e := range s {
		top, ok := e.top(path)
		if ok && strings.HasPrefix(s.below(e, filepath.Clean(asked))+"/", strings.TrimPrefix(top, e.dir+"/")+"/") {
			return rootfs.Own{Dir: e.dir, Top: e.top}, true
		}
	}
	return rootfs.Own{}, false
}

// below is the part of a path below the engine's directory, to which links of the host's may lead. Then it
// begins with the first thing of a container's: what names lie in that, and where they lead, is for
// root inside to choose.
func (s engineState) below(dir engineDir, asked string) string {
	if rest, ok := strings.CutPrefix(asked, dir.dir+"/"); ok {
		return rest
	}
	parts := strings.Split(asked, "/")
	for i := range parts {
		rest := strings.Join(parts[i:], "/")
		for _, e := range s {
			if _, ok := e.top(e.dir + "/" + rest); ok {
				return rest
			}
		}
	}
	return ""
}

// top is the part of path, a real one, that a pattern names: the highest that is a
// container's.
func (e engineDir) top(path string) (top string, ok bool) {
	below, ok := strings.CutPrefix(path, e.dir+"/")
	if !ok {
		return "", false
	}
	parts := strings.Split(below, "/")
	for _, pattern := range e.own {
		if matches(below, pattern) {
			n := len(strings.Split(strings.TrimSuffix(pattern, "/**"), "/"))
			return e.dir + "/" + strings.Join(parts[:n], "/"), true
		}
	}
	return "", false
}

// before is the directory that comes before the pattern at the end of path.
func before(path, pattern string) (dir string, ok bool) {
	parts := strings.Split(path, "/")
	n := strings.Count(pattern, "/") + 1
	if !filepath.IsAbs(path) || len(parts) <= n+1 { // "/" itself is no engine's
		return "", false
	}
	if !matches(strings.Join(parts[len(parts)-n:], "/"), pattern) {
		return "", false
	}
	return strings.Join(parts[:len(parts)-n], "/"), true
}

func matches(path, pattern string) bool {
	parts := strings.Split(path, "/")
	wanted := strings.Split(pattern, "/")
	if last := len(wanted) - 1; wanted[last] == "**" {
		if len(parts) < last {
			return false
		}
		parts, wanted = parts[:last], wanted[:last]
	}
	if len(parts) != len(wanted) {
		return false
	}
	for i, want := range wanted {
		start, more := strings.CutSuffix(want, "*")
		if is := parts[i] == want || more && strings.HasPrefix(parts[i], start); !is || parts[i] == "" {
			return false
		}
	}
	return true
}
