// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hostWith is a host in a directory, with these files. Those below a directory of programs
// are executable.
func hostWith(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(root+path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.Contains(path, "bin/") {
			mode = 0o755
		}
		if err := os.WriteFile(root+path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// plainly is a setup with root taken out of its paths, and its problems as text.
func plainly(root string, s Setup) Setup {
	s.Files = nil // TestLookFiles has them
	cut := func(text *string) { *text = strings.ReplaceAll(*text, root, "") }
	cut(&s.Program)
	cut(&s.File)
	cut(&s.Default.Path)
	cut(&s.Default.Where)
	for i := range s.Others {
		cut(&s.Others[i].Path)
		cut(&s.Others[i].Where)
	}
	for i := range s.Stores {
		cut(&s.Stores[i].Dir)
		cut(&s.Stores[i].Where)
	}
	return s
}

func TestLook(t *testing.T) {
	const (
		daemon     = "/etc/docker/daemon.json"
		containerd = "/etc/containerd/config.toml"
		ours       = "/usr/bin/userns-runtime"
	)
	docker := map[string]string{"/usr/sbin/dockerd": "", "/usr/sbin/runc": ""}
	tests := []struct {
		name  string
		files map[string]string
		also  map[string]string
		want  Setup
	}{
		{"docker without a file", docker, nil, Setup{
			Engine: "docker", Program: "/usr/sbin/dockerd", File: daemon,
			Default: Runtime{Name: "runc", Path: "/usr/sbin/runc"},
			Stores:  []Store{{Dir: "/var/lib/docker"}},
		}},
		{"docker with an empty file", docker, map[string]string{daemon: " \n"}, Setup{
			Engine: "docker", Program: "/usr/sbin/dockerd", File: daemon,
			Default: Runtime{Name: "runc", Path: "/usr/sbin/runc"},
			Stores:  []Store{{Dir: "/var/lib/docker"}},
		}},
		{"docker with all of it", docker, map[string]string{
			daemon: `{"data-root": "/srv/d", "storage-driver": "overlay2", "default-runtime": "userns", "userns-remap": "default", "log-level": "warn",
				"runtimes": {"userns": {"path": "/usr/bin/userns-runtime", "runtimeArgs": ["--owner", "a"]}, "b": {"path": "crun"},
					"k": {"runtimeType": "io.containerd.kata.v2"}, "a": {"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/opt/x"}}}}`,
		}, Setup{
			Engine: "docker", Program: "/usr/sbin/dockerd", File: daemon,
			Default: Runtime{Name: "userns", Path: ours, Owner: "a", Where: daemon},
			Others: []Runtime{
				{Name: "a", Path: "/opt/x", Where: daemon}, {Name: "b", Where: daemon},
				{Name: "k", Path: "io.containerd.kata.v2", Other: true, Where: daemon},
			},
			Stores: []Store{{Dir: "/srv/d", Driver: "overlay2", Where: daemon}}, Remap: "default",
		}},
		{"docker's default is a shim", docker, map[string]string{daemon: `{"default-runtime": "io.containerd.runsc.v1", "graph": "/g"}`}, Setup{
			Engine: "docker", Program: "/usr/sbin/dockerd", File: daemon,
			Default: Runtime{Name: "io.containerd.runsc.v1", Path: "io.containerd.runsc.v1", Other: true, Where: daemon},
			Stores:  []Store{{Dir: "/g", Where: daemon}},
		}},
		{"docker goes on with what it has", docker, map[string]string{"/var/lib/docker/image/vfs/x": "", "/var/lib/docker/image/overlay2/x": ""}, Setup{
			Engine: "docker", Program: "/usr/sbin/dockerd", File: daemon,
			Default: Runtime{Name: "runc", Path: "/usr/sbin/runc"},
			Stores:  []Store{{Dir: "/var/lib/docker", Driver: "overlay2"}},
		}},
		{"containerd without a file", map[string]string{"/usr/bin/containerd": "", "/usr/bin/runc": ""}, nil, Setup{
			Engine: "containerd", Program: "/usr/bin/containerd", File: containerd,
			Default: Runtime{Name: "runc", Path: "/usr/bin/runc"},
			Stores:  []Store{{Dir: "/var/lib/containerd", Driver: "overlayfs"}},
		}},
		{"containerd, version 2", map[string]string{"/usr/bin/containerd": "", "/usr/bin/runc": ""}, map[string]string{
			containerd: "version = 2\nroot = '/srv/c'\nimports = ['conf.d/*.toml', '/etc/more.toml']\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n" +
				"[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n",
			"/etc/containerd/conf.d/b.toml": "[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'userns'\n",
			"/etc/containerd/conf.d/a.toml": "[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'a'\n",
			"/etc/containerd/conf.d/x":      "not read",
			"/etc/more.toml":                "imports = ['/etc/more.toml']\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.userns]\nruntime_type = 'io.containerd.runc.v2'\noptions = {BinaryName = '/usr/bin/userns-runtime'}\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'\n",
		}, Setup{
			Engine: "containerd", Program: "/usr/bin/containerd", File: containerd,
			Default: Runtime{Name: "userns", Path: ours, Where: "/etc/more.toml"},
			Others: []Runtime{
				{Name: "kata", Path: "io.containerd.kata.v2", Other: true, Where: "/etc/more.toml"},
				{Name: "runc", Path: "/usr/bin/runc", Where: containerd},
			},
			Stores: []Store{{Dir: "/srv/c", Driver: "native", Where: containerd}},
		}},
		{"containerd, version 3", map[string]string{"/usr/bin/containerd": ""}, map[string]string{
			containerd: "version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'stargz'\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'u'\n" +
				"[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.u.options]\nBinaryName = '/usr/bin/userns-runtime'\n",
		}, Setup{
			Engine: "containerd", Program: "/usr/bin/containerd", File: containerd,
			Default: Runtime{Name: "u", Path: ours, Where: containerd},
			Others:  []Runtime{{Name: "runc", Where: containerd}},
			Stores:  []Store{{Dir: "/var/lib/containerd", Driver: "stargz"}},
		}},
		{"containerd, version 1", map[string]string{"/usr/bin/containerd": ""}, map[string]string{
			containerd: "[plugins.cri.containerd]\ndefault_runtime_name = 'u'\n[plugins.cri.containerd.runtimes.u.options]\nBinaryName = '/usr/bin/userns-runtime'\n",
		}, Setup{
			Engine: "containerd", Program: "/usr/bin/containerd", File: containerd,
			Default: Runtime{Name: "u", Path: ours, Where: containerd},
			Others:  []Runtime{{Name: "runc", Where: containerd}},
			Stores:  []Store{{Dir: "/var/lib/containerd", Driver: "overlayfs"}},
		}},
		{"containerd without CRI", map[string]string{"/usr/bin/containerd": ""}, map[string]string{containerd: "disabled_plugins = ['cri']\n"}, Setup{
			Engine: "containerd", Program: "/usr/bin/containerd", File: containerd,
			Stores: []Store{{Dir: "/var/lib/containerd", Driver: "overlayfs"}},
		}},
		{"podman without a file", map[string]string{"/usr/bin/podman": "", "/usr/bin/crun": "", "/usr/bin/runc": ""}, nil, Setup{
			Engine: "podman", Program: "/usr/bin/podman", File: "/etc/containers/containers.conf",
			Default: Runtime{Name: "crun", Path: "/usr/bin/crun"},
			Stores:  []Store{{Dir: "/var/lib/containers/storage"}},
		}},
		{"podman without crun", map[string]string{"/usr/bin/podman": "", "/usr/bin/runc": ""}, nil, Setup{
			Engine: "podman", Program: "/usr/bin/podman", File: "/etc/containers/containers.conf",
			Default: Runtime{Name: "runc", Path: "/usr/bin/runc"},
			Stores:  []Store{{Dir: "/var/lib/containers/storage"}},
		}},
		{"podman by many files", map[string]string{"/usr/bin/podman": "", "/usr/bin/crun": "", ours: ""}, map[string]string{
			"/usr/share/containers/containers.conf":          "[engine]\nruntime = 'crun'\n[engine.runtimes]\ncrun = ['/usr/bin/crun', '/usr/local/bin/crun']\n",
			"/etc/containers/containers.conf":                "[engine]\nruntime = 'x'\n",
			"/etc/containers/containers.conf.d/50-ours.conf": "[engine]\nruntime = 'userns'\n[engine.runtimes]\nuserns = ['/opt/gone', '/usr/bin/userns-runtime']\n",
			"/etc/containers/containers.conf.d/note.txt":     "not read",
			"/usr/share/containers/storage.conf":             "[storage]\ngraphroot = '/not/read'\n",
			"/etc/containers/storage.conf":                   "[storage]\ndriver = 'overlay'\ngraphroot = '/srv/p'\n[storage.options.overlay]\nmount_program = '/usr/bin/fuse-overlayfs'\n",
		}, Setup{
			Engine: "podman", Program: "/usr/bin/podman", File: "/etc/containers/containers.conf",
			Default: Runtime{Name: "userns", Path: ours, Where: "/etc/containers/containers.conf.d/50-ours.conf"},
			Others:  []Runtime{{Name: "crun", Path: "/usr/bin/crun", Where: "/usr/share/containers/containers.conf"}},
			Stores:  []Store{{Dir: "/srv/p", Driver: "overlay", Program: "/usr/bin/fuse-overlayfs", Where: "/etc/containers/storage.conf"}},
		}},
		{"CRI-O", map[string]string{"/usr/bin/crio": "", "/usr/bin/crun": ""}, map[string]string{
			"/etc/crio/crio.conf":               "[crio]\nroot = '/srv/o'\nstorage_driver = 'overlay'\n[crio.runtime]\ndefault_runtime = 'crun'\n",
			"/etc/crio/crio.conf.d/50-x":        "[crio.runtime]\ndefault_runtime = 'userns'\n[crio.runtime.runtimes.userns]\nruntime_path = '/usr/bin/userns-runtime'\nruntime_type = 'oci'\n",
			"/etc/crio/crio.conf.d/60-vm.conf":  "[crio.runtime.runtimes.kata]\nruntime_path = '/usr/bin/containerd-shim-kata-v2'\nruntime_type = 'vm'\n",
			"/etc/crio/crio.conf.d/sub/50.conf": "[crio]\nroot = '/srv/sub'\n",
		}, Setup{
			Engine: "crio", Program: "/usr/bin/crio", File: "/etc/crio/crio.conf",
			Default: Runtime{Name: "userns", Path: ours, Where: "/etc/crio/crio.conf.d/50-x"},
			Others:  []Runtime{{Name: "kata", Path: "/usr/bin/containerd-shim-kata-v2", Other: true, Where: "/etc/crio/crio.conf.d/60-vm.conf"}},
			Stores:  []Store{{Dir: "/srv/sub", Driver: "overlay", Where: "/etc/crio/crio.conf.d/sub/50.conf"}},
		}},
		{"CRI-O without a file", map[string]string{"/usr/bin/crio": "", "/usr/bin/runc": ""}, nil, Setup{
			Engine: "crio", Program: "/usr/bin/crio", File: "/etc/crio/crio.conf",
			Default: Runtime{Name: "runc", Path: "/usr/bin/runc"},
			Stores:  []Store{{Dir: "/var/lib/containers/storage"}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{}
			for _, some := range []map[string]string{tt.files, tt.also} {
				for path, text := range some {
					files[path] = text
				}
			}
			root := hostWith(t, files)
			all := Look(root)
			if len(all) != 1 {
				t.Fatalf("%d setups: %+v", len(all), all)
			}
			if got, want := fmt.Sprintf("%+v", plainly(root, all[0])), fmt.Sprintf("%+v", tt.want); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

func TestLookFiles(t *testing.T) {
	root := hostWith(t, map[string]string{
		"/usr/bin/podman": "", "/usr/bin/containerd": "", "/usr/sbin/dockerd": "",
		"/etc/docker/daemon.json":                  "",
		"/etc/containerd/config.toml":              "imports = ['conf.d/*']\n",
		"/etc/containerd/conf.d/x":                 "",
		"/usr/share/containers/containers.conf":    "",
		"/etc/containers/containers.conf.d/a":      "",
		"/etc/containers/containers.conf.d/b.conf": "=",
		"/etc/containers/storage.conf":             "",
	})
	var got []string
	for _, s := range Look(root) {
		got = append(got, s.Engine)
		for _, f := range s.Files {
			got = append(got, strings.TrimPrefix(f, root))
		}
	}
	want := []string{
		"docker", "/etc/docker/daemon.json", "containerd", "/etc/containerd/config.toml", "/etc/containerd/conf.d/x",
		"podman", "/usr/share/containers/containers.conf", "/etc/containers/containers.conf.d", "/etc/containers/containers.conf.d/b.conf", "/etc/containers/storage.conf",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestLookFindsNothing(t *testing.T) {
	if all := Look(t.TempDir()); all != nil {
		t.Errorf("on an empty host: %+v", all)
	}
	// A directory, and a file that isn't executable, are no program.
	root := hostWith(t, map[string]string{"/usr/bin/podman/x": "", "/usr/sbin/dockerd": ""})
	if err := os.Chmod(root+"/usr/sbin/dockerd", 0o644); err != nil {
		t.Fatal(err)
	}
	if all := Look(root); all != nil {
		t.Errorf("%+v", all)
	}
}

func TestLookProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  string // the first problem begins so, without root
	}{
		"no JSON":           {map[string]string{"/usr/bin/dockerd": "", "/etc/docker/daemon.json": "{"}, "/etc/docker/daemon.json: unexpected end of JSON"},
		"two values":        {map[string]string{"/usr/bin/dockerd": "", "/etc/docker/daemon.json": "{} {}"}, "/etc/docker/daemon.json: invalid character"},
		"a wrong type":      {map[string]string{"/usr/bin/dockerd": "", "/etc/docker/daemon.json": `{"runtimes": 1}`}, "/etc/docker/daemon.json: json: cannot unmarshal"},
		"no TOML":           {map[string]string{"/usr/bin/containerd": "", "/etc/containerd/config.toml": "a = 1\nb\n"}, "/etc/containerd/config.toml:2:"},
		"two keys":          {map[string]string{"/usr/bin/containerd": "", "/etc/containerd/config.toml": "a = 1\na = 2\n"}, "/etc/containerd/config.toml:2:"},
		"an import":         {map[string]string{"/usr/bin/containerd": "", "/etc/containerd/config.toml": "imports = ['x.toml']\n", "/etc/containerd/x.toml": "="}, "/etc/containerd/x.toml:1:"},
		"a bad pattern":     {map[string]string{"/usr/bin/containerd": "", "/etc/containerd/config.toml": "imports = ['[x']\n"}, "/etc/containerd/config.toml: imports: \"/etc/containerd/[x\""},
		"a drop-in":         {map[string]string{"/usr/bin/podman": "", "/etc/containers/containers.conf.d/x.conf": "="}, "/etc/containers/containers.conf.d/x.conf:1:"},
		"storage.conf":      {map[string]string{"/usr/bin/podman": "", "/etc/containers/storage.conf": "="}, "/etc/containers/storage.conf:1:"},
		"drop-ins, no file": {map[string]string{"/usr/bin/podman": "", "/etc/containers/containers.conf.d": ""}, "open /etc/containers/containers.conf.d: not a directory"},
		"a directory":       {map[string]string{"/usr/bin/crio": "", "/etc/crio/crio.conf/x": ""}, "/etc/crio/crio.conf: is not a regular file"},
		"too large":         {map[string]string{"/usr/bin/podman": "", "/etc/containers/containers.conf": strings.Repeat("#\n", mostSettings)}, "/etc/containers/containers.conf: is larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			root := hostWith(t, tt.files)
			all := Look(root)
			if len(all) != 1 || len(all[0].Problems) != 1 {
				t.Fatalf("%+v", all)
			}
			// "open" of a missing ".d" that is a file is ReadDir's.
			if got := strings.ReplaceAll(all[0].Problems[0].Error(), root, ""); !strings.HasPrefix(got, tt.want) && !strings.Contains(got, strings.TrimPrefix(tt.want, "open ")) {
				t.Errorf("got %q, want %q...", got, tt.want)
			}
		})
	}
}

func TestOwnerByName(t *testing.T) {
	for path, want := range map[string]string{"/usr/bin/userns-runtime": "", "/usr/bin/userns-runtime-alice": "alice", "userns-runtime-a-b": "a-b", "/x/runc": "", "": "", "/userns-runtime-/x": ""} {
		if got := ownerByName(path); got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}

// What values of another type than expected are isn't followed into a panic.
func TestLookOddTypes(t *testing.T) {
	root := hostWith(t, map[string]string{
		"/usr/bin/containerd": "", "/usr/bin/podman": "", "/usr/bin/crio": "",
		"/etc/containerd/config.toml":     "plugins = 1\nimports = 'x'\nroot = 5\ndisabled_plugins = [1, 'x']\n",
		"/etc/containers/containers.conf": "engine = [1]\n",
		"/etc/containers/storage.conf":    "storage = 'x'\n",
		"/etc/crio/crio.conf":             "[crio.runtime.runtimes]\nx = 1\n",
	})
	if all := Look(root); len(all) != 3 {
		t.Errorf("%+v", all)
	}
}

func TestOptions(t *testing.T) {
	args := []string{"--config-file", "/x", "-D", "--data-root=/d", "-s", "vfs", "--add-runtime", "a=/a", "--add-runtime=b=/b=c", "-H", "fd://", "word", "--default-runtime"}
	for _, tc := range []struct {
		names, want []string
	}{
		{[]string{"config-file"}, []string{"/x"}}, {dataRootFlag, []string{"/d"}}, {storageDriverFlag, []string{"vfs"}},
		{[]string{"add-runtime"}, []string{"a=/a", "b=/b=c"}}, {[]string{"default-runtime"}, []string{""}}, {[]string{"userns-remap"}, nil}, {[]string{"word"}, nil},
	} {
		if got := options(args, tc.names...); !slices.Equal(got, tc.want) {
			t.Errorf("%q: got %q, want %q", tc.names, got, tc.want)
		}
		last, given := option(args, tc.names...)
		if given != (len(tc.want) > 0) || given && last != tc.want[len(tc.want)-1] {
			t.Errorf("%q: got %q, %v", tc.names, last, given)
		}
	}
}

// Of a daemon that runs, its command line counts, if it is the host's and root's.
func TestLookDaemons(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("processes of root: needs root")
	}
	root := hostWith(t, map[string]string{
		"/usr/sbin/dockerd": "", "/usr/bin/x": "",
		"/srv/d.json":     `{"default-runtime": "x", "runtimes": {"x": {"path": "/usr/bin/x"}}}`,
		"/proc/7/cmdline": "/usr/sbin/dockerd\x00--config-file=/srv/d.json\x00", "/proc/7/status": "Name:\tdockerd\nNSpid:\t7\n",
		"/proc/8/cmdline": "dockerd\x00--data-root\x00/two\x00", "/proc/8/status": "NSpid:\t8\n",
		"/proc/9/cmdline": "dockerd\x00--data-root\x00/inside\x00", "/proc/9/status": "NSpid:\t9\t1\n",
		"/proc/10/cmdline": "dockerd\x00--data-root\x00/others\x00", "/proc/10/status": "NSpid:\t10\n",
		"/proc/11/cmdline": "", "/proc/11/status": "NSpid:\t11\n", // a thread of the kernel
		"/proc/12/cmdline": "grep\x00dockerd\x00", "/proc/12/status": "NSpid:\t12\n",
		"/proc/13/cmdline": "dockerd\x00", // which has ended
		"/proc/self/x":     "",
		// Docker's own, and one of k3s.
		"/run/docker/containerd/containerd.toml": "disabled_plugins = ['io.containerd.grpc.v1.cri']\nroot = '/var/lib/docker/containerd/daemon'\n",
		"/srv/c.toml":                            "version = 2\nroot = '/not'\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'u'\n",
		"/proc/21/cmdline":                       "containerd\x00-c\x00/srv/c.toml\x00--root\x00/srv/c\x00", "/proc/21/status": "NSpid:\t21\n",
		"/proc/21/environ": "A=1\x00PATH=bin:/var/lib/k3s/bin:/usr/bin\x00", "/var/lib/k3s/bin/runc": "",
		"/proc/22/cmdline": "containerd\x00--config\x00/run/docker/containerd/containerd.toml\x00", "/proc/22/status": "NSpid:\t22\n",
		"/proc/23/cmdline": "containerd-shim\x00--config\x00/no\x00", "/proc/23/status": "NSpid:\t23\n",
	})
	if err := os.Chown(root+"/proc/10", 1000, 1000); err != nil {
		t.Fatal(err)
	}
	all := Look(root)
	if len(all) != 4 {
		t.Fatalf("%d setups: %+v", len(all), all)
	}
	if s := plainly(root, all[2]); s.File != "/srv/c.toml" || s.Stores[0].Dir != "/srv/c" || s.Default.Name != "u" || s.Default.Path != "/var/lib/k3s/bin/runc" {
		t.Errorf("%+v", s)
	}
	if s := plainly(root, all[3]); s.File != "/run/docker/containerd/containerd.toml" || s.Stores[0].Dir != "/var/lib/docker/containerd/daemon" || s.Default.Name != "" {
		t.Errorf("%+v", s)
	}
	if s := plainly(root, all[0]); s.File != "/srv/d.json" || s.Default != (Runtime{Name: "x", Path: "/usr/bin/x", Where: "/srv/d.json"}) {
		t.Errorf("%+v", s)
	}
	if s := plainly(root, all[1]); s.Stores[0] != (Store{Dir: "/two", Where: "the command line of dockerd"}) {
		t.Errorf("%+v", s)
	}
}
