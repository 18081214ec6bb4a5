// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"os"
	"testing"
)

// rooted is a request for a daemon root.
func rooted(dataRoot string) Request {
	r := usual
	r.DataRoot = dataRoot
	return r
}

func TestDockerDataRoot(t *testing.T) {
	const root = "/var/lib/docker/100000.100000/docker"
	unmapped := Request{Program: usual.Program, DataRoot: "/var/lib/docker/0.0/docker", Unmapped: true}
	for _, row := range []struct {
		name, text string
		r          Request
		want, err  string
	}{
		{"none was there", `{"a": 1}`, rooted(root), `{"a": 1, "runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}}, "default-runtime": "userns", "data-root": "` + root + `"}`, ""},
		{"the super-root was", "{\n  \"data-root\": \"/var/lib/docker/\"\n}\n", unmapped, "{\n  \"data-root\": \"/var/lib/docker/0.0/docker\"\n}\n", ""},
		{"another root of it was", "{\n  \"data-root\": \"/var/lib/docker/5.6/docker\"\n}\n", unmapped, "{\n  \"data-root\": \"/var/lib/docker/0.0/docker\"\n}\n", ""},
		{"without its runtime", `{"default-runtime": "nvidia"}`, unmapped, `{"default-runtime": "nvidia", "data-root": "/var/lib/docker/0.0/docker"}`, ""},
		{"somebody's", "{\n  \"data-root\": \"/srv/docker\"\n}\n", rooted(root), "", `/etc/docker/daemon.json:2:3: data-root is "/srv/docker", which isn't "/var/lib/docker" or a root below it`},
		{"a root of somebody's", `{"data-root": "/srv/docker/5.6/docker"}`, rooted(root), "", `data-root is "/srv/docker/5.6/docker", which isn't`},
		{"below ours", `{"data-root": "/var/lib/docker/5.6/docker/x"}`, rooted(root), "", "which isn't"},
		{"not a path", `{"data-root": {}}`, rooted(root), "", "/etc/docker/daemon.json:1:15: data-root: expected a path"},
		{"in other letters", `{"Data-Root": "/x"}`, rooted(root), "", `member "Data-Root": dockerd takes it for "data-root"`},
		{"by its old name", `{"graph": "/x"}`, rooted(root), "", "1:2: graph: is data-root by its old name"},
		{"mappings of dockerd's", `{"userns-remap": "default"}`, rooted(root), "", "1:2: userns-remap: dockerd has a data root for each of its own mappings"},
		{"none, said so", `{"userns-remap": ""}`, unmapped, `{"userns-remap": "", "data-root": "/var/lib/docker/0.0/docker"}`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := emptyHost(t)
			h.put(t, DockerFile, row.text)
			was := h.tree(t)
			out, err := h.Configure("docker", row.r, false)
			if row.err != "" {
				wantError(t, err, row.err)
				if h.tree(t) != was {
					t.Error("refused, and something has changed")
				}
				return
			}
			must(t, err)
			text, err := os.ReadFile(h.path(DockerFile))
			must(t, err)
			if string(text) != row.want || !out.Moved {
				t.Errorf("moved %v, got %s, expected %s", out.Moved, text, row.want)
			}
			out, err = h.Configure("docker", row.r, false)
			must(t, err)
			if len(out.Steps) > 0 || out.Moved {
				t.Errorf("a second time: %+v", out)
			}
			// Of another's change undo knows what is ours in it.
			h.put(t, DockerFile, row.want+"\n")
			_, err = h.Undo("docker", "", free, false)
			wantError(t, err, "was changed")
			h.put(t, DockerFile, row.want)
			out, err = h.Undo("docker", "", free, false)
			must(t, err)
			if text, err := os.ReadFile(h.path(DockerFile)); err != nil || string(text) != row.text || !out.Moved {
				t.Errorf("undone: moved %v, %s, %v", out.Moved, text, err)
			}
		})
	}
}

// What dockerd is told by a flag it doesn't take from its file.
func TestDockerDataRootFlags(t *testing.T) {
	mapped := rooted("/var/lib/docker/5.6/docker")
	unmapped := mapped
	unmapped.Unmapped = true
	for _, row := range []struct {
		name string
		args []string
		r    Request
		want string
	}{
		{"data-root", []string{"--data-root", "/x"}, mapped, "was started with --data-root \"/x\""},
		{"graph", []string{"--graph=/x"}, mapped, "was started with --graph"},
		{"g", []string{"-g", "/x"}, unmapped, "was started with --g"},
		{"none is written", []string{"--data-root", "/x"}, usual, ""},
		{"default-runtime", []string{"--default-runtime", "crun"}, mapped, "was started with --default-runtime"},
		{"default-runtime isn't written", []string{"--default-runtime", "crun", "--add-runtime", "userns=/x"}, unmapped, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			running, unit := emptyHost(t), emptyHost(t)
			running.proc(t, 7, append([]string{"dockerd"}, row.args...)...)
			line := "ExecStart=dockerd"
			for _, arg := range row.args {
				line += " " + arg
			}
			unit.put(t, "/lib/systemd/system/docker.service", "[Service]\n"+line+"\n")
			for _, h := range []Host{running, unit} {
				_, _, _, err := planned(t, h, "docker", row.r)
				switch {
				case row.want == "":
					must(t, err)
				case err == nil:
					t.Error("it isn't refused")
				}
			}
			if _, _, _, err := planned(t, running, "docker", row.r); row.want != "" {
				wantError(t, err, row.want)
			}
		})
	}
}
