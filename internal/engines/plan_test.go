// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// planned is the text that a file becomes, and the warnings.
func planned(t *testing.T, h Host, name string, r Request) (file, text string, warnings []string, err error) {
	t.Helper()
	e, err := find(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.plan(view{Host: h}, r)
	if err != nil {
		return "", "", nil, err
	}
	return p.File, string(p.New), p.Warnings, nil
}

func TestDockerRefused(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"broken", "{\n  \"a\": 1,\n}", "/etc/docker/daemon.json:3:1: found '}': expected the name of a member"},
		{"a name twice", "{\"a\": 1, \"a\": 1}", "/etc/docker/daemon.json:1:10: member \"a\" is there twice"},
		{"a byte order mark", "\xef\xbb\xbf{}", "/etc/docker/daemon.json:1:1: begins with a byte order mark, which JSON may not have: take it out: sed -i '1s/^\\xEF\\xBB\\xBF//' /etc/docker/daemon.json"},
		{"runtimes is a list", "{\"runtimes\": []}", "/etc/docker/daemon.json:1:14: runtimes: expected an object"},
		{"a default that isn't a name", "{\"default-runtime\": 1}", "/etc/docker/daemon.json:1:21: default-runtime: expected the name"},
		{"another default", "{\n  \"default-runtime\": \"nvidia\"\n}", "/etc/docker/daemon.json:2:3: default-runtime is \"nvidia\", which somebody chose: take the line out first, and start what needs it by: docker run --runtime nvidia"},
		{"another userns", "{\"runtimes\": {\"userns\": {\"path\": \"/other\"}}}", "/etc/docker/daemon.json:1:15: runtimes.userns is there already, and isn't {\"path\": \"/usr/bin/userns-runtime\"}"},
		{"other letters", "{\"Default-Runtime\": \"runc\"}", "/etc/docker/daemon.json:1:2: member \"Default-Runtime\": dockerd takes it for \"default-runtime\""},
		{"not an object", "[]", "/etc/docker/daemon.json:1:1: expected an object"},
		{"escapes", "{\"default-runtime\": \"\\u001b[2J\"}", `default-runtime is "\x1b[2J", which somebody chose`},
	} {
		h := emptyHost(t)
		h.put(t, "/etc/docker/daemon.json", row.text)
		was := h.tree(t)
		_, err := h.Configure("docker", usual, false)
		wantError(t, err, row.want)
		if err != nil && strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: an escape sequence is shown as it is", row.name)
		}
		if h.tree(t) != was {
			t.Errorf("%s: refused, and something has changed", row.name)
		}
	}
	h := emptyHost(t)
	h.put(t, "/etc/docker/daemon.json", `{"userns-remap": "default"}`)
	if _, _, warnings, err := planned(t, h, "docker", usual); err != nil || len(warnings) != 1 || !strings.HasPrefix(warnings[0], "/etc/docker/daemon.json:1: userns-remap is set") {
		t.Errorf("got %v, %v", warnings, err)
	}
}

// An owner is told to dockerd as to the others, by a link: nothing that it would put into a shell
// script of its own.
func TestDockerOwner(t *testing.T) {
	h := emptyHost(t)
	owner := `DOM\a;$(id)`
	_, err := h.Configure("docker", request(owner), false)
	must(t, err)
	text, err := os.ReadFile(h.path(DockerFile))
	must(t, err)
	tree, err := decodeJSON(text)
	must(t, err)
	if got := valueAt(tree, dockerRuntimes, RuntimeName); !reflect.DeepEqual(got, map[string]any{"path": "/usr/bin/userns-runtime-" + owner}) {
		t.Errorf("got %v", got)
	}
	// Containers that live have it from who started them: it stays.
	_, err = h.Configure("docker", usual, false)
	must(t, err)
	if to, err := os.Readlink(h.path("/usr/bin/userns-runtime-" + owner)); err != nil || to != ProgramName {
		t.Errorf("got %q, %v", to, err)
	}
	_, err = h.Undo("docker", "", free, false)
	must(t, err)
	if _, err := os.Lstat(h.path("/usr/bin/userns-runtime-" + owner)); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}

// proc is a process of whoever runs the test.
func (h Host) proc(t *testing.T, pid int, args ...string) {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid)
	h.put(t, dir+"/cmdline", strings.Join(args, "\x00")+"\x00")
	must(t, os.RemoveAll(h.path(dir+"/root")), os.Symlink(h.Root, h.path(dir+"/root")))
}

// Flags win over the file, or stop dockerd with it.
func TestDockerFlags(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(h Host)
		file string
		want string // "" if it isn't refused
	}{
		{"runs", func(h Host) { h.proc(t, 7, "/usr/sbin/dockerd", "-H", "fd://") }, "", ""},
		{"another's file", func(h Host) { h.proc(t, 7, "dockerd", "--config-file", "/x.json") }, "", "/etc/docker/daemon.json: no dockerd that runs reads it: process 7 (dockerd) reads /x.json: usernsctl configure docker --file /x.json"},
		{"that file", func(h Host) { h.proc(t, 7, "dockerd", "--config-file=/x.json") }, "/x.json", ""},
		{"two", func(h Host) { h.proc(t, 7, "dockerd", "--config-file=/x.json"); h.proc(t, 8, "dockerd") }, "", ""},
		{"default", func(h Host) { h.proc(t, 7, "dockerd", "--default-runtime=crun") }, "", "process 7 (dockerd): was started with --default-runtime \"crun\": with that in /etc/docker/daemon.json as well it doesn't start"},
		{"runtimes", func(h Host) { h.proc(t, 7, "dockerd", "-add-runtime", "a=/b", "-add-runtime=userns=/b\x1b") }, "", "--add-runtime \"userns=/b\\x1b\""},
		{"other runtimes", func(h Host) { h.proc(t, 7, "dockerd", "--add-runtime", "a=/b") }, "", ""},
		{"not dockerd", func(h Host) { h.proc(t, 7, "vi", "dockerd", "--default-runtime=crun") }, "", ""},
		{"in a container", func(h Host) {
			h.proc(t, 7, "dockerd", "--default-runtime=crun")
			must(t, os.Remove(h.path("/proc/7/root")), os.Symlink(t.TempDir(), h.path("/proc/7/root")))
		}, "", ""},
		{"a unit", func(h Host) {
			h.put(t, "/usr/lib/systemd/system/docker.service", "[Service]\n# --default-runtime\nExecStart=/usr/sbin/dockerd \\\n  --default-runtime crun\n")
		}, "", "/usr/lib/systemd/system/docker.service:3: starts dockerd with --default-runtime"},
		{"a unit in /etc before it", func(h Host) {
			h.put(t, "/usr/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/sbin/dockerd --default-runtime crun\n")
			h.put(t, "/etc/systemd/system/docker.service", "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS\n")
		}, "", ""},
		{"a drop-in after it", func(h Host) {
			h.put(t, "/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/sbin/dockerd --default-runtime crun\n")
			h.put(t, "/etc/systemd/system/docker.service.d/x.conf", "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --config-file=/y.json\n")
		}, "", "/etc/systemd/system/docker.service.d/x.conf:3: starts dockerd with --config-file /y.json: usernsctl configure docker --file /y.json"},
		{"an init script", func(h Host) {
			h.put(t, "/etc/default/docker", "#DOCKER_OPTS=\"--add-runtime a=b\"\nDOCKER_OPTS=\"--add-runtime userns=b\"\n")
		}, "", "/etc/default/docker:2: starts dockerd with --add-runtime"},
		{"another daemon's init script", func(h Host) { h.put(t, "/etc/default/docker", "DOCKER_OPTS=\"--default-runtime a\"\n") }, "/x.json", ""},
		{"a variable of the unit", func(h Host) {
			h.put(t, "/lib/systemd/system/docker.service", "[Service]\nEnvironment=\"OPTS=-H x --default-runtime=crun\"\nExecStart=/usr/sbin/dockerd $OPTS\n")
		}, "", "/lib/systemd/system/docker.service:2: starts dockerd with --default-runtime"},
		{"a file of the unit's", func(h Host) {
			h.put(t, "/lib/systemd/system/docker.service", "[Service]\nEnvironmentFile=-/etc/docker.env\nExecStart=/usr/sbin/dockerd $OPTS\n")
			h.put(t, "/etc/docker.env", "OPTS=--default-runtime=crun\n")
		}, "", "/etc/docker.env:1: starts dockerd with --default-runtime"},
		{"a masked unit", func(h Host) {
			h.put(t, "/etc/systemd/system/x", "")
			must(t, os.Symlink("/dev/null", h.path("/etc/systemd/system/docker.service")))
		}, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := emptyHost(t)
			row.do(h)
			r := usual
			r.File = row.file
			_, err := h.Configure("docker", r, true)
			if row.want == "" {
				must(t, err)
			} else {
				wantError(t, err, row.want)
			}
		})
	}
}

const cri2 = `plugins."io.containerd.grpc.v1.cri".containerd`

func TestContainerd(t *testing.T) {
	ours := "# Written by usernsctl configure containerd, and taken back by it with --undo.\n"
	runtime := func(base string, more ...string) string {
		stock := "[" + base + ".runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n"
		if len(more) > 2 {
			stock = ""
		}
		return stock + "[" + base + ".runtimes.userns]\n" + more[0] + "runtime_type = \"io.containerd.runc.v2\"\n\n[" + base + ".runtimes.userns.options]\nBinaryName = \"/usr/bin/userns-runtime\"\n" + more[1]
	}
	header := "[" + cri2 + "]\ndefault_runtime_name = \"userns\"\n\n"
	for _, row := range []struct{ name, text, want string }{
		{"none", "", "version = 2\n\n" + ours + header + runtime(cri2, "", "")},
		{"only comments", "# a\n", "# a\n\nversion = 2\n\n" + ours + header + runtime(cri2, "", "")},
		{"no newline at the end", "# a\nversion = 2", "# a\nversion = 2\n\n" + ours + header + runtime(cri2, "", "")},
		{
			"indented, as containerd prints it",
			"version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    [" + cri2 + "] # mine\n      # what runs\n      default_runtime_name = \"runc\" # stock\n      snapshotter = \"overlayfs\"\n",
			"version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    [" + cri2 + "] # mine\n      # what runs\n      default_runtime_name = \"userns\" # stock\n      snapshotter = \"overlayfs\"\n\n" + ours + runtime(cri2, "", ""),
		},
		{
			"a header without a default",
			"version = 2\n\t[" + cri2 + "] # mine\n\t\tsnapshotter = \"native\"\n",
			"version = 2\n\t[" + cri2 + "] # mine\n\t\tdefault_runtime_name = \"userns\"\n\t\tsnapshotter = \"native\"\n\n" + ours + runtime(cri2, "", ""),
		},
		{
			"a header at the end",
			"version = 2\n[" + cri2 + "]",
			"version = 2\n[" + cri2 + "]\ndefault_runtime_name = \"userns\"\n\n" + ours + runtime(cri2, "", ""),
		},
		{
			"tables below it alone: what runc has is taken over",
			"version = 2\n[" + cri2 + ".runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\npod_annotations = [\"a\", \"b\"]\n[" + cri2 + ".runtimes.runc.options]\nSystemdCgroup = true\nBinaryName = \"/usr/sbin/runc\"\nIoUid = 7\n",
			"version = 2\n[" + cri2 + ".runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\npod_annotations = [\"a\", \"b\"]\n[" + cri2 + ".runtimes.runc.options]\nSystemdCgroup = true\nBinaryName = \"/usr/sbin/runc\"\nIoUid = 7\n\n" +
				ours + header + runtime(cri2, "pod_annotations = [\"a\", \"b\"]\n", "IoUid = 7\nSystemdCgroup = true\n", ""),
		},
		{
			"version 3",
			"version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'x'\n",
			"version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'x'\n\n" + ours + strings.ReplaceAll(header+runtime(cri2, "", ""), "grpc.v1.cri", "cri.v1.runtime"),
		},
		{"lines of DOS", "version = 2\r\n[" + cri2 + "]\r\nx = 1\r\n", "version = 2\r\n[" + cri2 + "]\r\ndefault_runtime_name = \"userns\"\r\nx = 1\r\n\r\n" + strings.ReplaceAll(ours+runtime(cri2, "", ""), "\n", "\r\n")},
		{
			"the runtime is there", "version = 2\n" + strings.TrimSuffix(header, "\n") + runtime(cri2, "", ""),
			"version = 2\n" + strings.TrimSuffix(header, "\n") + runtime(cri2, "", ""),
		},
		{"the runtime is there, and no default", "version = 2\n" + runtime(cri2, "", ""), "version = 2\n" + runtime(cri2, "", "") + "\n" + ours + strings.TrimSuffix(header, "\n")},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := emptyHost(t)
			if row.text != "" {
				h.put(t, "/etc/containerd/config.toml", row.text)
			}
			file, got, _, err := planned(t, h, "containerd", usual)
			if err != nil || file != "/etc/containerd/config.toml" || got != row.want {
				t.Errorf("%v, %s: got\n%s\nwant\n%s", err, file, got, row.want)
			}
		})
	}
}

func TestContainerdOfRancher(t *testing.T) {
	h := emptyHost(t)
	r := usual
	r.File = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
	_, err := h.Configure("containerd", r, true)
	wantError(t, err, r.File+": is written anew whenever k3s or RKE2 starts")
}

func TestContainerdRefused(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"broken", "version = 2\n[plugins\n", "/etc/containerd/config.toml:2:"},
		{"a key twice", "version = 2\nroot = 'a'\nroot = 'b'\n", "/etc/containerd/config.toml:3:1: "},
		{"no version", "root = '/x'\n", "/etc/containerd/config.toml:1: has no version, and so is of version 1: expected 2 or 3: write it so; containerd 2 shows how: containerd --config /etc/containerd/config.toml config migrate"},
		{"a version to come", "\nversion = 9\n", "/etc/containerd/config.toml:2: version 9: is newer than this program knows: expected 2 or 3: set default_runtime_name and the runtime by hand"},
		{"a version that isn't one", "version = 'x'\n", "/etc/containerd/config.toml:1: version x: expected 2 or 3"},
		{"another default", "version = 2\n[" + cri2 + "]\ndefault_runtime_name = \"nvidia\"\n", "/etc/containerd/config.toml:3: default_runtime_name is \"nvidia\", which somebody chose"},
		{"runc is another program", "version = 2\n[" + cri2 + ".runtimes.runc.options]\nBinaryName = '/usr/bin/crun'\n", "/etc/containerd/config.toml:3: the runtime runc runs \"/usr/bin/crun\", which somebody chose"},
		{"a default of old, which wins", "version = 2\n[" + cri2 + ".default_runtime]\nruntime_type = 'io.containerd.runc.v2'\n", "/etc/containerd/config.toml:3: default_runtime is set, to \"io.containerd.runc.v2\": containerd 1.x takes that, whatever default_runtime_name is"},
		{"an escape in a name", "version = 2\n[plugins.\"io.containerd.grpc.v1.cr\\u0069\".containerd]\n", "/etc/containerd/config.toml:2: a name has an escape in it"},
		{"runc is another shim", "version = 2\n[" + cri2 + ".runtimes.runc]\nruntime_type = 'io.containerd.kata.v2'\n", "the runtime runc has the type \"io.containerd.kata.v2\""},
		{"another userns", "version = 2\n[" + cri2 + ".runtimes.userns]\nruntime_type = 'io.containerd.runc.v2'\n", "/etc/containerd/config.toml:3: the runtime userns is there already"},
		{"inline tables", "version = 2\nplugins = {'io.containerd.grpc.v1.cri' = {containerd = {}}}\n", "/etc/containerd/config.toml:2: the tables of the CRI plugin are written in a way that none can be added to: set default_runtime_name to \"userns\" by hand, and add:\n[" + cri2},
		{"dotted keys", "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\ncontainerd.snapshotter = 'native'\n", "/etc/containerd/config.toml:3: the tables of the CRI plugin are written in a way"},
		{"a date", "version = 2\n[" + cri2 + ".runtimes.runc]\nx = 2020-01-01\n", "written in a way that none can be added to"},
		{"imports aren't a list", "version = 2\nimports = 'x'\n", "/etc/containerd/config.toml:2: imports: expected a list of paths"},
		{"an import is broken", "version = 2\nimports = ['x.toml']\n", "/etc/containerd/x.toml:1:"},
	} {
		h := emptyHost(t)
		h.put(t, "/etc/containerd/config.toml", row.text)
		h.put(t, "/etc/containerd/x.toml", "=")
		was := h.tree(t)
		_, err := h.Configure("containerd", usual, false)
		wantError(t, err, row.want)
		if h.tree(t) != was {
			t.Errorf("%s: refused, and something has changed", row.name)
		}
	}
}

// The file whose section counts is changed: containerd 1.x forgets the section of those before.
func TestContainerdImports(t *testing.T) {
	section := "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = 'x'\n"
	for _, row := range []struct {
		name  string
		files map[string]string
		want  string // the file that is changed
	}{
		{"nobody has the section: a file of our own", map[string]string{"config.toml": "version = 2\nimports = ['/etc/containerd/conf.d/*.toml']\n"}, "conf.d/50-userns-runtime.toml"},
		{"a relative pattern", map[string]string{"config.toml": "version = 2\nimports = ['conf.d/*.toml']\n"}, "conf.d/50-userns-runtime.toml"},
		{"a pattern of other names", map[string]string{"config.toml": "version = 2\nimports = ['conf.d/[a-z]*.toml']\n"}, "config.toml"},
		{"the main file has it", map[string]string{"config.toml": "version = 2\nimports = ['conf.d/*.toml']\n" + section}, "config.toml"},
		{"an imported file has it", map[string]string{"config.toml": "version = 2\nimports = ['conf.d/*.toml']\n" + section, "conf.d/20.toml": "version = 2\n" + section}, "conf.d/20.toml"},
		{"the last of two", map[string]string{"config.toml": "version = 2\nimports = ['conf.d/*.toml']\n", "conf.d/20.toml": "version = 2\n" + section, "conf.d/90.toml": section}, "conf.d/90.toml"},
		{"one that is imported by an import", map[string]string{"config.toml": "version = 2\nimports = ['a.toml']\n" + section, "a.toml": "version = 2\nimports = ['b.toml', 'config.toml']\n", "b.toml": section}, "b.toml"},
		{"a file by its name", map[string]string{"config.toml": "version = 2\nimports = ['a.toml']\n", "a.toml": ""}, "config.toml"},
	} {
		h := emptyHost(t)
		for name, text := range row.files {
			h.put(t, "/etc/containerd/"+name, text)
		}
		was := h.tree(t)
		out, err := h.Configure("containerd", usual, false)
		must(t, err)
		if out.File != "/etc/containerd/"+row.want {
			t.Errorf("%s: %s is changed", row.name, out.File)
		}
		out, err = h.Configure("containerd", usual, false)
		must(t, err)
		if len(out.Steps) != 0 {
			t.Errorf("%s: a second time: %v", row.name, out.Steps)
		}
		_, err = h.Undo("containerd", "", free, false)
		must(t, err)
		if h.tree(t) != was {
			t.Errorf("%s: got\n%swant\n%s", row.name, h.tree(t), was)
		}
	}
	// A file that comes to decide later: the one that was changed is to be taken back first.
	h := emptyHost(t)
	h.put(t, "/etc/containerd/config.toml", "version = 2\nimports = ['conf.d/*.toml']\n"+section)
	_, err := h.Configure("containerd", usual, false)
	must(t, err)
	h.put(t, "/etc/containerd/conf.d/90.toml", section)
	_, err = h.Configure("containerd", usual, false)
	wantError(t, err, "/etc/containerd/config.toml: was changed by this program, and /etc/containerd/conf.d/90.toml is what decides now", "usernsctl configure containerd --undo")
	h = emptyHost(t)
	h.put(t, "/etc/containerd/config.toml", "version = 2\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n")
	h.proc(t, 9, "containerd", "-c", "/x.toml")
	_, _, warnings, err := planned(t, h, "containerd", usual)
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[0], "process 9 reads /x.toml") || !strings.HasPrefix(warnings[1], "/etc/containerd/config.toml:2: the CRI plugin is disabled") {
		t.Errorf("got %q, %v", warnings, err)
	}
}

// What several files say is what containerd takes of them: 2 merges them, each by its own version,
// and the last wins; 1.x forgets all but the last.
func TestContainerdFiles(t *testing.T) {
	const (
		v2 = "version = 2\nimports = ['conf.d/*.toml']\n"
		v3 = "version = 3\nimports = ['conf.d/*.toml']\n"
	)
	cri3 := strings.ReplaceAll(cri2, "grpc.v1.cri", "cri.v1.runtime")
	runc := func(cri string) string {
		return "[" + cri + ".runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n[" + cri + ".runtimes.runc.options]\nSystemdCgroup = true\n"
	}
	for _, row := range []struct {
		name         string
		main, ten    string
		twenty, want string   // want is in the error
		has          []string // else in the file that is changed, which is 20.toml
	}{
		{
			name: "the last that says it wins", main: v3 + "[" + cri3 + "]\ndefault_runtime_name = 'runc'\n", ten: "version = 3\n[" + cri3 + "]\ndefault_runtime_name = 'nvidia'\n",
			twenty: "version = 3\n[" + cri3 + "]\nsnapshotter = 'x'\n", want: `/etc/containerd/conf.d/10.toml:3: default_runtime_name is "nvidia", which somebody chose`,
		},
		{
			name: "which may be runc", main: v3 + "[" + cri3 + "]\ndefault_runtime_name = 'nvidia'\n", ten: "version = 3\n[" + cri3 + "]\ndefault_runtime_name = 'runc'\n",
			twenty: "version = 3\n[" + cri3 + "]\nsnapshotter = 'x'\n", has: []string{`default_runtime_name = "userns"`},
		},
		{
			name: "tables are merged", main: v3 + runc(cri3), ten: "version = 3\n[" + cri3 + ".runtimes.runc.options]\nIoUid = 7\n",
			twenty: "version = 3\n[" + cri3 + ".runtimes.runc]\nsnapshotter = 'x'\n", has: []string{"snapshotter = \"x\"", "IoUid = 7\nSystemdCgroup = true\n"},
		},
		{
			name: "somebody's userns in another file", main: v3 + "[" + cri3 + ".runtimes.userns]\nruntime_type = 'io.containerd.kata.v2'\n", twenty: "version = 3\n[" + cri3 + "]\nsnapshotter = 'x'\n",
			want: "/etc/containerd/config.toml:4: the runtime userns is there already",
		},
		{
			name: "another shim in another file", main: v3 + "[" + cri3 + ".runtimes.runc]\nruntime_type = 'io.containerd.kata.v2'\n", twenty: "version = 3\n[" + cri3 + "]\nsnapshotter = 'x'\n",
			want: "/etc/containerd/config.toml:4: the runtime runc has the type",
		},
		{
			name: "another program in another file", main: v3 + "[" + cri3 + ".runtimes.runc.options]\nBinaryName = '/crun'\n", twenty: "version = 3\n[" + cri3 + "]\nsnapshotter = 'x'\n",
			want: `/etc/containerd/config.toml:4: the runtime runc runs "/crun"`,
		},
		{
			name: "a file of version 2 below one of 3", main: v3 + "[" + cri3 + "]\ndefault_runtime_name = 'runc'\n", twenty: "version = 2\n[" + cri2 + "]\ndefault_runtime_name = 'nvidia'\n",
			want: "/etc/containerd/conf.d/20.toml:3: has the section io.containerd.grpc.v1.cri of version 2, where the main file is of version 3",
		},
		{
			name: "one without a version", main: v3 + "[" + cri3 + "]\ndefault_runtime_name = 'runc'\n", twenty: "[" + cri2 + "]\ndefault_runtime_name = 'nvidia'\n",
			want: "/etc/containerd/conf.d/20.toml:2: has the section io.containerd.grpc.v1.cri of version 2",
		},
		{
			name: "the old section, which is nothing in version 3", main: v3, twenty: "version = 3\n[" + cri2 + "]\ndefault_runtime_name = 'x'\n[" + cri3 + "]\nsnapshotter = 'x'\n",
			has: []string{"'x'\n[" + cri3 + "]\ndefault_runtime_name = \"userns\"\n"},
		},
		{
			name: "the section of 3 in version 2", main: v2, twenty: "version = 2\n[" + cri3 + "]\ndefault_runtime_name = 'nvidia'\n",
			want: "/etc/containerd/conf.d/20.toml:3: has the section io.containerd.cri.v1.runtime of version 3",
		},
		{
			name: "a default that 1.x forgets, and 2 doesn't", main: v2 + "[" + cri2 + "]\ndefault_runtime_name = 'nvidia'\n", twenty: "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n",
			want: `/etc/containerd/config.toml:4: default_runtime_name is "nvidia", which somebody chose`,
		},
		{
			name: "a runc that 1.x forgets, and 2 doesn't", main: v2, ten: "version = 2\n" + runc(cri2), twenty: "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n",
			want: "/etc/containerd/conf.d/10.toml:3: the runtime runc is set here, which containerd 1.x forgets, since /etc/containerd/conf.d/20.toml has a section of the CRI plugin too, and 2 doesn't: move it there",
		},
		{
			name: "a userns that 1.x forgets, and 2 doesn't", main: v2 + "[" + cri2 + ".runtimes.userns]\nruntime_type = 'io.containerd.kata.v2'\n", twenty: "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n",
			want: "/etc/containerd/config.toml:4: the runtime userns is there already",
		},
		{
			name: "a runc that says nothing more", main: v2 + "[" + cri2 + ".runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n", twenty: "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n",
			has: []string{"[" + cri2 + ".runtimes.runc]\n"},
		},
		{
			name: "a runc that is the same for both", main: v2 + runc(cri2), twenty: "version = 2\n" + runc(cri2), has: []string{"SystemdCgroup = true\n"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := emptyHost(t)
			h.put(t, "/etc/containerd/config.toml", row.main)
			h.put(t, "/etc/containerd/conf.d/10.toml", row.ten)
			h.put(t, "/etc/containerd/conf.d/20.toml", row.twenty)
			was := h.tree(t)
			_, err := h.Configure("containerd", usual, false)
			if row.want != "" {
				wantError(t, err, row.want)
				if h.tree(t) != was {
					t.Error("refused, and something has changed")
				}
				return
			}
			must(t, err)
			text, err := os.ReadFile(h.path("/etc/containerd/conf.d/20.toml"))
			must(t, err)
			for _, part := range append(row.has, "BinaryName") {
				if !strings.Contains(string(text), part) {
					t.Errorf("%q isn't in\n%s", part, text)
				}
			}
		})
	}
}

func TestDropIns(t *testing.T) {
	podman, crio := "/etc/containers/containers.conf.d/", "/etc/crio/crio.conf.d/"
	for _, row := range []struct {
		engine, file, text string
		want               string // "" if it isn't refused
	}{
		{"podman", "/etc/containers/containers.conf", "[engine]\nruntime = 'crun'\n", ""},
		{"podman", "/etc/containers/containers.conf", "[engine]\n\nruntime = 'kata'\n", "/etc/containers/containers.conf:3: runtime is \"kata\", which somebody chose: take the line out first, and start what needs it by: podman --runtime kata run"},
		{"podman", podman + "10.conf", "[engine]\nruntime = 'kata'\n", podman + "10.conf:2: runtime is \"kata\", which somebody chose"},
		{"podman", podman + "90.conf", "[engine]\nruntime = 'runc'\n", podman + "90.conf:2: runtime is \"runc\", and is read after 50-userns-runtime.conf, so that it wins: take the line out first"},
		{"podman", podman + "90.conf", "[engine]\nruntime = 'userns'\n", ""},
		{"podman", podman + "90.conf.off", "[engine]\nruntime = 'kata'\n", ""},
		{"podman", podman + "90.conf", "[engine.runtimes]\nuserns = ['/other']\n", podman + "90.conf:2: the runtime userns is there already"},
		{"podman", podman + "90.conf", "[engine.runtimes]\nuserns = ['/usr/bin/userns-runtime']\n", ""},
		{"podman", podman + "90.conf/x", "", ""},
		{"podman", podman + "90.conf", "engine = [\n", podman + "90.conf:"},
		{"podman", podman + "50-userns-runtime.conf", "[engine]\nruntime = 'x'\n", podman + "50-userns-runtime.conf: is there already, and says something else"},
		{"podman", "/usr/share/containers/containers.conf.d/1.conf", "[engine]\nruntime = 'kata'\n", "/usr/share/containers/containers.conf.d/1.conf:2: runtime is \"kata\""},
		{"crio", crio + "10-crio.conf", "[crio.runtime]\ndefault_runtime = 'crun'\n", ""},
		{"crio", "/etc/crio/crio.conf", "[crio.runtime]\ndefault_runtime = 'kata'\n", "/etc/crio/crio.conf:2: default_runtime is \"kata\", which somebody chose: take the line out first, and start what needs it by: a RuntimeClass whose handler is kata"},
		{"crio", crio + "99-kata", "[crio.runtime]\ndefault_runtime = 'kata'\n", crio + "99-kata:2: default_runtime is \"kata\", and is read after 50-userns-runtime.conf"},
		{"crio", crio + "99.d/10.toml", "[crio.runtime]\ndefault_runtime = 'runc'\n", crio + "99.d/10.toml:2: default_runtime is \"runc\", and is read after 50-userns-runtime.conf"},
		{"crio", crio + "10.d/99.conf.rpmsave", "[crio.runtime]\ndefault_runtime = 'runc'\n", ""},
		{"crio", crio + "10.d/99.conf.rpmsave", "[crio.runtime]\ndefault_runtime = 'kata'\n", crio + "10.d/99.conf.rpmsave:2: default_runtime is \"kata\", which somebody chose"},
		{"crio", crio + "README", "not TOML\n", crio + "README:1:5: "},
		{"crio", crio + ".50-userns-runtime.conf.lockedfile", "[crio.runtime]\ndefault_runtime = 'userns'\n[crio.runtime.runtimes.userns]\nruntime_path = '/usr/bin/userns-runtime-bob'\n", ""},
		{"crio", crio + "50-userns-runtime.conf-", "[crio.runtime]\ndefault_runtime = 'kata'\n", crio + "50-userns-runtime.conf-:2: default_runtime is \"kata\", and is read after"},
		{"crio", crio + "99.conf", "[crio.runtime]\ndefault_runtime = 'crun'\n", crio + "99.conf:2: default_runtime is \"crun\", and is read after 50-userns-runtime.conf"},
	} {
		h := emptyHost(t)
		h.put(t, row.file, row.text)
		was := h.tree(t)
		_, err := h.Configure(row.engine, usual, false)
		if row.want == "" {
			must(t, err)
			continue
		}
		wantError(t, err, row.want)
		if h.tree(t) != was {
			t.Errorf("%s %q: refused, and something has changed", row.file, row.text)
		}
	}
}

// --file of a drop-in is a file that the engine reads, and what isn't ours isn't to be removed.
func TestDropInFile(t *testing.T) {
	for _, row := range []struct{ engine, file, text, want string }{
		{"podman", "/etc/containers/containers.conf", "[engine]\n", "/etc/containers/containers.conf: isn't a file in a directory that podman reads: expected a file of our own"},
		{"crio", "/etc/crio/crio.conf.d/x", "", "/etc/crio/crio.conf.d/x: isn't a file in a directory that crio reads"},
		{"crio", "/tmp/x.conf", "", "/tmp/x.conf: isn't a file"},
		{"crio", "/etc/crio/crio.conf.d/60.conf", "[crio]\n", "60.conf: is there already, and says something else than this program writes: move it out of the directory"},
		{"crio", "/etc/crio/crio.conf.d/60.conf", written("crio") + "\n[crio]\n", "than this program writes: remove it, since a call of this program has left it: rm /etc/crio/crio.conf.d/60.conf"},
		{"crio", "/srv/crio.conf.d/60.conf", "", ""},
	} {
		h := emptyHost(t)
		if row.text != "" {
			h.put(t, row.file, row.text)
		}
		r := usual
		r.File = row.file
		_, err := h.Configure(row.engine, r, true)
		if row.want == "" {
			must(t, err)
		} else {
			wantError(t, err, row.want)
		}
	}
}

func TestDropInText(t *testing.T) {
	h := emptyHost(t)
	h.put(t, "/etc/containers/containers.conf", "[engine]\nruntime_supports_json = ['mine']\n")
	h.put(t, "/etc/containers/containers.conf.d/60.conf", "[engine]\nruntime_supports_json = ['theirs']\n")
	file, text, warnings, err := planned(t, h, "podman", request("alice"))
	want := "# Written by usernsctl configure podman, and taken back by it with --undo.\n[engine]\nruntime = \"userns\"\nruntime_supports_json = [\"mine\", \"userns\"]\n\n[engine.runtimes]\nuserns = [\"/usr/bin/userns-runtime-alice\"]\n"
	if err != nil || file != "/etc/containers/containers.conf.d/50-userns-runtime.conf" || text != want {
		t.Errorf("%v, %s: got\n%s", err, file, text)
	}
	if len(warnings) != 3 || !strings.HasPrefix(warnings[0], "/etc/containers/containers.conf.d/60.conf:2: runtime_supports_json wins") || !strings.HasPrefix(warnings[1], "users' own Podman") ||
		!strings.HasPrefix(warnings[2], "containers that exist stay with the runtime") {
		t.Errorf("warnings: %q", warnings)
	}
	_, text, _, err = planned(t, h, "crio", usual)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := parseTOML([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	crio := map[string]any{"crio": map[string]any{"runtime": map[string]any{
		"default_runtime": "userns",
		"runtimes": map[string]any{"userns": map[string]any{
			"runtime_path": "/usr/bin/userns-runtime", "runtime_type": "oci", "runtime_root": "/run/userns-crio",
		}},
	}}}
	if !reflect.DeepEqual(tree.tree, crio) {
		t.Errorf("got %v", tree.tree)
	}
}

func TestConcerns(t *testing.T) {
	for _, row := range []struct{ root, want string }{
		{"/run/docker/runtime-userns/moby", "docker"},
		{"/run/docker2/runtime-runc/moby", "docker"},
		{"/run/containerd/runc/k8s.io", "containerd"},
		{"/run/runc", "podman"},
		{"/run/userns-crio", "crio"},
		{"/somewhere", "docker containerd podman crio"},
		{"", "docker containerd podman crio"},
	} {
		var got []string
		for _, name := range Names() {
			if Concerns(name, row.root) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: %v", row.root, got)
		}
	}
}

func TestTakesEffect(t *testing.T) {
	h := emptyHost(t)
	if got := h.TakesEffect("docker", "/etc/docker/daemon.json", false); got != "" {
		t.Errorf("none runs: %s", got)
	}
	h.proc(t, 5, "/usr/sbin/dockerd")
	h.proc(t, 6, "containerd")
	const file = "/etc/docker/daemon.json"
	if got := h.TakesEffect("docker", file, false); got != "restart dockerd, process 5 (not by a reload: it keeps the default runtime that it has, or ends dockerd; without live-restore a restart ends all containers)" {
		t.Errorf("got %s", got)
	}
	h.put(t, file, `{"default-runtime": "runc"}`)
	if got := h.TakesEffect("docker", file, false); got != "kill -HUP 5" {
		t.Errorf("got %s", got)
	}
	h.proc(t, 7, "dockerd", "--config-file=/x.json")
	h.put(t, "/x.json", `{"default-runtime": "userns"}`)
	for range 2 {
		if got := h.TakesEffect("docker", "/x.json", false); got != "kill -HUP 7" {
			t.Errorf("got %s", got)
		}
		h.put(t, "/run/systemd/system/x", "")
	}
	must(t, os.RemoveAll(h.path("/run/systemd")))
	if got := h.TakesEffect("containerd", "/x", false); got != "restart containerd, process 6" {
		t.Errorf("got %s", got)
	}
	h.put(t, "/run/systemd/system/x", "")
	if got := h.TakesEffect("docker", file, true); !strings.HasPrefix(got, "systemctl restart docker (not by a reload, which doesn't read data-root") {
		t.Errorf("another data root: got %q", got)
	}
	if got := h.TakesEffect("docker", file, false); got != "systemctl reload docker" {
		t.Errorf("got %s", got)
	}
	must(t, os.Remove(h.path(file)))
	if got := h.TakesEffect("docker", file, false); !strings.HasPrefix(got, "systemctl restart docker (") {
		t.Errorf("got %s", got)
	}
	if got := h.TakesEffect("podman", "/x", false); got != "" {
		t.Errorf("got %s", got)
	}
}

// Containers of Docker that aren't running are named when their runtime goes.
func TestStopped(t *testing.T) {
	h := emptyHost(t)
	h.put(t, "/etc/docker/daemon.json", `{"data-root": "/d"}`)
	_, err := h.Configure("docker", usual, false)
	must(t, err)
	h.put(t, "/d/containers/0123456789abcdef/hostconfig.json", `{"Runtime": "userns"}`)
	h.put(t, "/d/containers/fedcba9876543210/hostconfig.json", `{"Runtime": "runc"}`)
	out, err := h.Undo("docker", "", free, false)
	must(t, err)
	if len(out.Warnings) != 1 || !strings.HasSuffix(out.Warnings[0], ": 0123456789ab") {
		t.Errorf("got %q", out.Warnings)
	}
}

// A reload after an undo that leaves no default is warned of, before it is done too, if it is
// that dockerd's file.
func TestReloadEnds(t *testing.T) {
	for _, row := range []struct {
		text string
		args []string
		want bool
	}{
		{`{"runtimes": {"a": {"path": "/a"}}}`, nil, true},
		{`{"default-runtime": "runc"}`, nil, false},
		{`{}`, []string{"--config-file", "/x.json"}, false},
	} {
		h := emptyHost(t)
		h.put(t, DockerFile, row.text)
		_, err := h.Configure("docker", usual, false)
		must(t, err)
		h.proc(t, 5, append([]string{"dockerd"}, row.args...)...)
		for _, dry := range []bool{true, false} {
			out, err := h.Undo("docker", "", free, dry)
			must(t, err)
			if got := len(out.Warnings) == 1 && strings.HasPrefix(out.Warnings[0], "process 5 (dockerd): start it anew, and let nobody reload it before"); got != row.want {
				t.Errorf("%s: got %q", row.text, out.Warnings)
			}
		}
	}
}

// Containers of Docker that stay with another runtime are named, by configure and whenever it
// is called again.
func TestElsewhere(t *testing.T) {
	h := emptyHost(t)
	h.proc(t, 7, "dockerd", "--config-file=/y.json", "--data-root", "/y")
	h.proc(t, 8, "dockerd", "--data-root", "/d")
	for id, runtime := range map[string]string{
		"/d/containers/0123456789abcdef": "runc", "/d/100000.100000/containers/fedcba9876543210": "kata", "/d/containers/a": "userns", "/d/containers/b": "",
		"/y/containers/c": "runc", "/var/lib/docker/containers/d": "runc",
	} {
		h.put(t, id+"/hostconfig.json", `{"Runtime": "`+runtime+`"}`)
	}
	for _, dry := range []bool{true, false, false} {
		out, err := h.Configure("docker", usual, dry)
		must(t, err)
		if len(out.Warnings) != 1 || !strings.HasPrefix(out.Warnings[0], "2 containers were made for another runtime") || !strings.HasSuffix(out.Warnings[0], ": 0123456789ab fedcba987654") {
			t.Errorf("got %q", out.Warnings)
		}
	}
	h.put(t, "/d/containers/0123456789abcdef/hostconfig.json", `{"Runtime": "userns"}`)
	for i := range 7 {
		h.put(t, "/z/containers/"+strconv.Itoa(i)+"/hostconfig.json", `{"Runtime": "runc"}`)
	}
	if out := h.elsewhere(DockerFile, nil); len(out) != 1 || !strings.HasPrefix(out[0], "1 container was made") {
		t.Errorf("got %q", out)
	}
	if out := h.elsewhere(DockerFile, []byte(`{"data-root": "/z"}`)); len(out) != 1 || !strings.HasSuffix(out[0], ": 0 1 2 3 4 and 2 more") {
		t.Errorf("got %q", out)
	}
}

// Whatever the text is: what is taken differs in what was meant alone, by criEdit's own
// comparison, and a second time changes nothing.
func FuzzContainerd(f *testing.F) {
	for _, seed := range []string{
		"version = 2\n", "version = 3", "version = 2\n[" + cri2 + "]\ndefault_runtime_name = 'runc'\n[" + cri2 + ".runtimes.runc.options]\nSystemdCgroup = true",
		"version = 2\r\n# a\r\n[plugins]\r\n  [plugins.\"io.containerd.grpc.v1.cri\"]\r\n", "version = 2\nplugins.\"io.containerd.grpc.v1.cri\".containerd.x = 1\n",
		"version=2\n[[" + cri2 + ".a]]\nb=\"\"\"\n[x]\n\"\"\"\n", "version = 2\n[" + cri2 + "]#",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := parseTOML(text)
		if err != nil {
			return
		}
		target := criFile{"/f", parsed}
		c := criEdit{
			target: target, among: []criFile{target}, section: []string{"plugins", criSections[2], "containerd"},
			program: "/usr/bin/userns-runtime", version: 2,
		}
		out, err := c.text()
		if err != nil {
			return
		}
		after, err := parseTOML(out)
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		if after.at(c.path(defaultRuntimeName)...) != RuntimeName || !c.same(after.at(c.path("runtimes", RuntimeName)...)) {
			t.Fatalf("not configured:\n%s", out)
		}
		c.target = criFile{"/f", after}
		c.among = []criFile{c.target}
		if again, err := c.text(); err != nil || string(again) != string(out) {
			t.Fatalf("a second time: %v\n%s\n%s", err, again, out)
		}
	})
}
