// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestEngineState(t *testing.T) {
	docker := findEngineState("/d/overlay2/abc/diff", "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/abc", "")
	vfs := findEngineState("/d/vfs/dir/abc", "", "")
	podman := findEngineState("/g/overlay/abc/diff", "/g/overlay-containers/abc/userdata", "/r/overlay-containers/abc/userdata")
	cri := findEngineState("/c/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs", "/s/io.containerd.runtime.v2.task/k8s.io/abc", "")
	build := findEngineState("/d/overlay2/abc/diff", "/d/buildkit/executor/abc", "")
	bare := findEngineState("/srv/bundle/rootfs", "/srv/bundle", "/srv")
	for _, tc := range []struct {
		name  string
		state engineState
		path  string
		dir   string // empty: not the engine's own
	}{
		{"docker volume", docker, "/d/volumes/v/_data", "/d"},
		{"below a docker volume", docker, "/d/volumes/v/_data/a/b", "/d"},
		{"vfs volume", vfs, "/d/volumes/v/_data", "/d"},
		{"docker hosts", docker, "/d/containers/abc/hosts", "/d"},
		{"another container's hosts", docker, "/d/containers/def/hosts", "/d"},
		{"docker shm", docker, "/d/containers/abc/mounts/shm", "/d"},
		{"podman volume", podman, "/g/volumes/v/_data", "/g"},
		{"podman hosts", podman, "/r/overlay-containers/abc/userdata/hosts", "/r"},
		{"podman shm", podman, "/g/overlay-containers/abc/userdata/shm", "/g"},
		{"cri hosts", cri, "/c/io.containerd.grpc.v1.cri/sandboxes/x/hosts", "/c"},
		{"cri shm", cri, "/s/io.containerd.grpc.v1.cri/sandboxes/x/shm", "/s"},
		{"cri volume", cri, "/c/io.containerd.grpc.v1.cri/containers/x/volumes/hash/a", "/c"},
		{"a build's cache", build, "/d/overlay2/def/diff", "/d"},
		{"below a build's cache", build, "/d/overlay2/def/diff/a", "/d"},
		{"a build's cache of vfs", build, "/d/vfs/dir/def", "/d"},
		{"a build's secret", build, "/d/tmp/buildkit-secrets123/abc", "/d"},
		{"a build's agent", build, "/d/tmp/.buildkit-ssh-sock123/ssh_auth_sock", "/d"},

		{"a build's engine", build, "/d", ""},
		{"other files of a moment", build, "/d/tmp/docker-import-123", ""},
		{"those of another's build", docker, "/d/tmp/buildkit-secrets123/abc", ""},
		{"a build's layers", build, "/d/overlay2/def", ""},
		{"where a build's layer is mounted", build, "/d/overlay2/def/merged", ""},
		{"a cache of a build elsewhere", build, "/e/overlay2/def/diff", ""},
		{"all of docker", docker, "/d", ""},
		{"all volumes", docker, "/d/volumes", ""},
		{"a volume's parent", docker, "/d/volumes/v", ""},
		{"a container's configuration", docker, "/d/containers/abc/config.v2.json", ""},
		{"a container's directory", docker, "/d/containers/abc", ""},
		{"another container's layer", docker, "/d/overlay2/def/diff", ""},
		{"a name that begins alike", docker, "/d2/volumes/v/_data", ""},
		{"a name that ends alike", docker, "/d/volumes/v/_data2", ""},
		{"podman's bundle", podman, "/g/overlay-containers/abc/userdata", ""},
		{"podman's config.json", podman, "/g/overlay-containers/abc/userdata/config.json", ""},
		{"another engine's", docker, "/g/volumes/v/_data", ""},
		{"podman's in docker's", docker, "/d/overlay-containers/abc/userdata/hosts", ""},
		{"a host path", docker, "/etc/hosts", ""},
		{"a bare bundle", bare, "/srv/volumes/v/_data", ""},
		{"an empty component", docker, "/d/volumes//_data", ""},
	} {
		own, ok := tc.state.find(tc.path, tc.path)
		if own.Dir != tc.dir || ok != (tc.dir != "") {
			t.Errorf("%s: got %q %v, expected %q", tc.name, own.Dir, ok, tc.dir)
		}
	}
}

// What a container owns ends where the pattern does; and a link in one volume doesn't lead
// to another.
func TestEngineStateTop(t *testing.T) {
	docker := findEngineState("/d/overlay2/abc/diff", "", "")
	own, ok := docker.find("/d/volumes/v/_data/a/b", "/d/volumes/v/_data/a/b")
	if !ok {
		t.Fatal("it isn't found")
	}
	for path, want := range map[string]string{
		"/d/volumes/v/_data/a/b": "/d/volumes/v/_data", "/d/volumes/w/_data": "/d/volumes/w/_data", "/d/containers/x/mounts/shm": "/d/containers/x/mounts/shm",
		"/d/volumes/v": "", "/d": "", "/x/volumes/v/_data": "",
	} {
		if top, ok := own.Top(path); top != want || ok != (want != "") {
			t.Errorf("%s: got %q %v", path, top, ok)
		}
	}
	for _, tc := range []struct {
		real, asked string
		ok          bool
	}{
		{"/d/volumes/v/_data/sub", "/d/volumes/v/_data/link", true},
		{"/d/volumes/v/_data/sub", "/var/lib/docker/volumes/v/_data/sub", true},
		{"/d/volumes/other/_data", "/d/volumes/v/_data/link", false},
		{"/d/volumes/other/_data/x", "/d/volumes/v/_data/link/x", false},
		{"/d/volumes/v/_data", "/home/user/link", false},
		// With the other's name behind a link: v/_data/a leads to the engine's directory.
		{"/d/volumes/other/_data", "/d/volumes/v/_data/a/volumes/other/_data", false},
		{"/d/volumes/other/_data/x", "/var/lib/docker/volumes/v/_data/a/volumes/other/_data/x", false},
		{"/d/volumes/v/_data/volumes/other/_data", "/d/volumes/v/_data/volumes/other/_data", true},
	} {
		if _, ok := docker.find(tc.real, tc.asked); ok != tc.ok {
			t.Errorf("%s as %s: got %v", tc.real, tc.asked, ok)
		}
	}
}

// Where a pattern could match the whole root of the host.
func TestEngineStateNotTheHosts(t *testing.T) {
	// Nor is somebody's --pidfile a bundle of BuildKit's.
	if state := findEngineState("/g/overlay/x/diff", "/g/overlay-containers/x/userdata", "/d/buildkit/executor/x"); slices.ContainsFunc(state, func(e engineDir) bool { return e.dir == "/d" }) {
		t.Errorf("by --pid-file: got %v", state)
	}
	for _, upper := range []string{"/overlay2/x/diff", "overlay2/x/diff", "/vfs/dir/x", "", "/", "/x/overlay2//diff"} {
		if state := findEngineState(upper, "/io.containerd.runtime.v2.task/a/b", "relative/overlay-containers/a/userdata"); len(state) != 0 {
			t.Errorf("%q: got %v", upper, state)
		}
	}
}

func TestBindAttrs(t *testing.T) {
	const ro, nosuid, nodev, noexec = unix.MOUNT_ATTR_RDONLY, unix.MOUNT_ATTR_NOSUID, unix.MOUNT_ATTR_NODEV, unix.MOUNT_ATTR_NOEXEC
	for options, want := range map[string]struct {
		recursive bool
		one, all  linux.Attrs
	}{
		"":                         {},
		"bind":                     {},
		"rbind,ro":                 {true, linux.Attrs{Set: ro}, linux.Attrs{}},
		"ro,rw":                    {},
		"rw,ro":                    {false, linux.Attrs{Set: ro}, linux.Attrs{}},
		"rbind,rro":                {true, linux.Attrs{}, linux.Attrs{Set: ro}},
		"rro,rw":                   {false, linux.Attrs{}, linux.Attrs{Set: ro}},
		"ro,rrw":                   {false, linux.Attrs{Set: ro}, linux.Attrs{}},
		"rro,rrw":                  {},
		"rnosuid,rnodev":           {false, linux.Attrs{}, linux.Attrs{Set: nosuid | nodev}},
		"nosuid,nodev,noexec,suid": {false, linux.Attrs{Set: nodev | noexec}, linux.Attrs{}},
		"noatime":                  {false, linux.Attrs{Set: unix.MOUNT_ATTR_NOATIME, ATime: true}, linux.Attrs{}},
		"noatime,relatime":         {false, linux.Attrs{ATime: true}, linux.Attrs{}},
		"rslave,z,size=4":          {},
	} {
		want.all.Recursive = true
		recursive, attrs := bindAttrs(strings.Split(options, ","))
		if recursive != want.recursive || !slices.Equal(attrs, []linux.Attrs{want.all, want.one}) {
			t.Errorf("%q: got %v %+v", options, recursive, attrs)
		}
	}
}

func TestOwnersMap(t *testing.T) {
	for name, tc := range map[string]struct{ m, want idmap.Map }{
		"one range": {
			idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}},
			idmap.Map{{Inner: 1000, Outer: 100000, Count: 1}, {Inner: 100001, Outer: 100001, Count: 65535}},
		},
		"root apart": {
			idmap.Map{{Inner: 1, Outer: 100000, Count: 10}, {Inner: 0, Outer: 7, Count: 1}},
			idmap.Map{{Inner: 1000, Outer: 7, Count: 1}, {Inner: 100000, Outer: 100000, Count: 10}},
		},
		"root alone": {
			idmap.Map{{Inner: 0, Outer: 100000, Count: 1}},
			idmap.Map{{Inner: 1000, Outer: 100000, Count: 1}},
		},
	} {
		got := ownersMap(1000, tc.m)
		if !got.Equal(tc.want) || got.Validate() != nil {
			t.Errorf("%s: got %s %v, expected %s", name, got, got.Validate(), tc.want)
		}
	}
}

func TestOuterPingGroups(t *testing.T) {
	gids := idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}}
	for value, want := range map[string]string{
		"0 2147483647": "100000 165535", "0 0": "100000 100000", "1 0": "1 0", "70000 80000": "70000 80000", "": "",
	} {
		if got := outerPingGroups(value, gids); got != want {
			t.Errorf("%q: got %q, expected %q", value, got, want)
		}
	}
}

func TestSysctlsStayBelowNet(t *testing.T) {
	for _, key := range []string{"kernel.msgmax", "net", "net.", "net/../kernel/msgmax", "net.ipv4.x/../../../kernel/msgmax", "netx.y"} {
		if err := writeSysctl(key, "1"); err == nil {
			t.Errorf("%q was written", key)
		} else if path := sysctlPath(key); strings.Contains(path, "..") {
			t.Errorf("%q: %s", key, path)
		}
	}
}

func TestReadInit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for text, want := range map[string]int{
		`{"id":"x","init_process_pid":42,"init_process_start":7,"config":{"init_process_pid":1}}`:             42,
		`{"id":"x","config":{"init_process_pid":1},"init_process_start":7,"init_process_pid":43}`:             43,
		`{"id":"x","config":"` + strings.Repeat("x", 5000) + `","init_process_pid":4,"init_process_start":7}`: 0,
		`{"id":"x","init_process_pid":"42","init_process_start":7}`:                                           0,
		`{"id":"x","init_process_pid":42}`:                                                                    0,
		`{"id":"x"}`:                                                                                          0,
		`[42]`:                                                                                                0,
		``:                                                                                                    0,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, start := readInit(path); got != want || (start == "7") != (want != 0) {
			t.Errorf("%.60q: got %d %q, expected %d", text, got, start, want)
		}
	}
	if got, _ := readInit(path + "x"); got != 0 {
		t.Errorf("no file: got %d", got)
	}
}

// A process that has another's number isn't taken for it.
func TestOpenInit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	start, err := linux.StartTime("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	for began, want := range map[string]bool{start: true, start + "0": false} {
		if err := os.WriteFile(path, fmt.Appendf(nil, `{"init_process_pid":%d,"init_process_start":%s}`, os.Getpid(), began), 0o600); err != nil {
			t.Fatal(err)
		}
		proc := openInit(path)
		if (proc != nil) != want {
			t.Errorf("began %s: got %v", began, proc)
		}
		if proc != nil {
			proc.Close()
		}
	}
}

func TestMayBeRoot(t *testing.T) {
	for id, want := range map[int]bool{0: false, 1: true, 1000: true, 65534: false, 65535: false, 4294967295: false, 4294967294: true, -1: false} {
		if got := mayBeRoot(id); got != want {
			t.Errorf("%d: got %v", id, got)
		}
	}
}
