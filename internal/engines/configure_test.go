// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// emptyHost is an empty host, whose root is whoever runs the test.
func emptyHost(t *testing.T) Host {
	t.Helper()
	h := Host{Root: t.TempDir(), UID: uint32(os.Geteuid())}
	must(t, os.Chmod(h.Root, 0o755))
	h.put(t, "/usr/bin/userns-runtime", "#!/bin/sh\n")
	must(t, os.Chmod(h.path("/usr/bin/userns-runtime"), 0o755))
	must(t, os.MkdirAll(h.path("/etc"), 0o755))
	return h
}

func (h Host) put(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(h.path(path)), 0o755), os.WriteFile(h.path(path), []byte(text), 0o644))
}

// tree is everything on the host but our own directory: one line each.
func (h Host) tree(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(h.Root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if h.name(path) == "/var" {
			return filepath.SkipDir
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", h.name(path), info.Mode())
		switch info.Mode().Type() {
		case 0:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", text)
		case fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %s", to)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// withoutLinks is a tree without the links beside the program, which stay until undo.
func withoutLinks(tree string) string {
	var b strings.Builder
	for line := range strings.Lines(tree) {
		if !strings.HasPrefix(line, "/usr/bin/userns-runtime-") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func (h Host) stateIsGone(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(h.path(StateDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(entries) > 0 {
		t.Errorf("states left: %v, %v", entries, err)
	}
}

func free() error { return nil }

var usual = Request{Program: "/usr/bin/userns-runtime"}

func request(owner string) Request { return Request{Program: usual.Program, Owner: owner} }

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q in it", err, part)
		}
	}
}

// before is what an engine's files may be like before; nil is none.
var before = map[string][]map[string]string{
	"docker": {
		nil,
		{"/etc/docker/daemon.json": ""},
		{"/etc/docker/daemon.json": "{}\n"},
		{"/etc/docker/daemon.json": "{\n\t\"log-driver\": \"local\",\n\t\"default-runtime\": \"runc\"\n}"},
		{"/etc/docker/daemon.json": "{\n    \"runtimes\": {\"nvidia\": {\"path\": \"/n\"}}\n}\n", "/etc/docker/daemon.json-": "mine"},
	},
	"containerd": {
		nil,
		{"/etc/containerd/config.toml": "# mine\nversion = 2\n"},
		{"/etc/containerd/config.toml": "version = 3 # \n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'runc' # ours\n"},
		{"/etc/containerd/config.toml": "version = 2\nimports = ['conf.d/*.toml']", "/etc/containerd/conf.d/x.toml": "version = 2\n"},
	},
	"podman": {
		nil,
		{"/etc/containers/containers.conf": "[engine]\nruntime = \"crun\"\n", "/etc/containers/containers.conf.d/90.conf": "[engine]\nevents_logger = \"file\"\n"},
	},
	"crio": {nil, {"/etc/crio/crio.conf.d/10-crio.conf": "[crio.runtime]\ndefault_runtime = \"crun\"\n[crio.runtime.runtimes.crun]\nruntime_path=\"/c\"\n"}},
}

// Configure and undo, of each engine, from each beginning, for nobody and for an owner.
func TestThereAndBack(t *testing.T) {
	for name, all := range before {
		for i, files := range all {
			for _, owner := range []string{"", "alice"} {
				t.Run(fmt.Sprintf("%s %d %s", name, i, owner), func(t *testing.T) {
					h := emptyHost(t)
					for path, text := range files {
						h.put(t, path, text)
					}
					was := h.tree(t)
					out, err := h.Configure(name, request(owner), true)
					must(t, err)
					if h.tree(t) != was {
						t.Fatal("a dry run changed something")
					}
					dry := fmt.Sprint(out.Steps)
					out, err = h.Configure(name, request(owner), false)
					must(t, err)
					if dry != fmt.Sprint(out.Steps) {
						t.Errorf("the dry run said %s, and then it did %v", dry, out.Steps)
					}
					now := h.tree(t)
					if now == was || len(out.Steps) == 0 {
						t.Fatal("nothing has changed")
					}
					if owner != "" && !strings.Contains(now, owner) {
						t.Errorf("nothing names %s:\n%s", owner, now)
					}
					out, err = h.Configure(name, request(owner), false)
					must(t, err)
					if len(out.Steps) != 0 || h.tree(t) != now {
						t.Errorf("a second time: %v", out.Steps)
					}
					// Another request, and back to the first.
					_, err = h.Configure(name, request("bob"), false)
					must(t, err)
					if bob := h.tree(t); bob == now || !strings.Contains(bob, "bob") || strings.Contains(withoutLinks(bob), "alice") {
						t.Errorf("for bob:\n%s", bob)
					}
					_, err = h.Configure(name, request(owner), false)
					must(t, err)
					if withoutLinks(h.tree(t)) != withoutLinks(now) {
						t.Errorf("back to the first request:\n%s\nwant\n%s", h.tree(t), now)
					}
					now = h.tree(t)
					_, err = h.Undo(name, "", free, true)
					must(t, err)
					if h.tree(t) != now {
						t.Fatal("a dry run of undo changed something")
					}
					_, err = h.Undo(name, "", free, false)
					must(t, err)
					if h.tree(t) != was {
						t.Errorf("undone:\n%s\nwant\n%s", h.tree(t), was)
					}
					h.stateIsGone(t)
					if _, err := h.Undo(name, "", free, false); !errors.Is(err, ErrNotConfigured) {
						t.Errorf("undo of nothing: %v", err)
					}
				})
			}
		}
	}
}

func TestUndoRefused(t *testing.T) {
	for name := range before {
		h := emptyHost(t)
		_, err := h.Configure(name, request("alice"), false)
		must(t, err)
		now := h.tree(t)
		busy := errors.New("containers")
		for _, dry := range []bool{true, false} {
			if _, err := h.Undo(name, "", func() error { return busy }, dry); !errors.Is(err, busy) {
				t.Errorf("%s, with containers: %v", name, err)
			}
		}
		if h.tree(t) != now {
			t.Errorf("%s: refused, and something has changed", name)
		}
	}
}

// What a killed edit has left beside the file goes with undo too, where that has nothing to write.
func TestKilledEdit(t *testing.T) {
	h := emptyHost(t)
	h.put(t, "/etc/docker/daemon.json", "{}")
	was := h.tree(t)
	_, err := h.Configure("docker", usual, false)
	must(t, err)
	h.put(t, "/etc/docker/daemon.json", "{}")
	for _, name := range []string{"daemon.json.lock", ".daemon.json.lockedfile", ".daemon.json.lockedfile-", "daemon.json-"} {
		h.put(t, "/etc/docker/"+name, "{}")
		must(t, os.Chmod(h.path("/etc/docker/"+name), 0o600))
	}
	_, err = h.Undo("docker", "", free, false)
	must(t, err)
	if h.tree(t) != was {
		t.Errorf("got\n%swant\n%s", h.tree(t), was)
	}
}

// What others wrote since is never lost: not by undo, not by another configure.
func TestForeignEdit(t *testing.T) {
	h := emptyHost(t)
	file := "/etc/docker/daemon.json"
	_, err := h.Configure("docker", usual, false)
	must(t, err)
	wrote, err := os.ReadFile(h.path(file))
	must(t, err)
	theirs := strings.Replace(string(wrote), "{\n", "{\n  \"debug\": true,\n  \"\x1b[2J\": 1,\n", 1)
	h.put(t, file, theirs)
	_, err = h.Undo("docker", "", free, false)
	wantError(t, err, file+": was changed by others", "\n+  \"debug\": true,\n", `\x1b[2J`, "cp /var/lib/userns-runtime/configure/docker/", `names "userns", with "default-runtime": "runc" in place`, "usernsctl configure docker --undo")
	if strings.Contains(err.Error(), "\x1b") {
		t.Error("an escape sequence is shown as it is")
	}
	theirs = strings.Replace(theirs, "\x1b", "", 1)
	h.put(t, file, theirs)
	now := h.tree(t)
	_, err = h.Configure("docker", request("alice"), false)
	wantError(t, err, file+": was changed by others", "+  \"debug\": true,")
	out, err := h.Configure("docker", usual, false)
	must(t, err)
	if len(out.Steps) != 0 || len(out.Warnings) != 1 || h.tree(t) != now {
		t.Errorf("the same request: %+v", out)
	}
	// Once what is ours is out by hand, undo gives the rest up.
	h.put(t, file, "{\"debug\": true}")
	out, err = h.Undo("docker", "", free, false)
	must(t, err)
	if len(out.Warnings) != 1 || !strings.Contains(h.tree(t), `"{\"debug\": true}"`) {
		t.Errorf("got %+v\n%s", out, h.tree(t))
	}
	h.stateIsGone(t)
	// A file that was put there anew is one to begin with.
	_, err = h.Configure("docker", usual, false)
	must(t, err)
	h.put(t, file, "{\"new\": 1}")
	_, err = h.Configure("docker", usual, false)
	must(t, err)
	_, err = h.Undo("docker", "", free, false)
	must(t, err)
	if text, err := os.ReadFile(h.path(file)); err != nil || string(text) != "{\"new\": 1}" {
		t.Errorf("got %q, %v", text, err)
	}
}

// What was before is never lost, whatever others did to the file: undo gives it back where there
// is none, and keeps it where there is another; configure doesn't begin anew without it.
func TestBeforeIsKept(t *testing.T) {
	const before = `{"data-root": "/d"}`
	h := emptyHost(t)
	configured := func() {
		h.put(t, DockerFile, before)
		_, err := h.Configure("docker", usual, false)
		must(t, err)
	}
	configured()
	must(t, os.RemoveAll(h.path("/etc/docker")))
	now := h.tree(t)
	for _, dry := range []bool{true, false} {
		_, err := h.Configure("docker", usual, dry)
		wantError(t, err, "/etc/docker/daemon.json: was removed by others", "have it back first: usernsctl configure docker --undo")
	}
	out, err := h.Undo("docker", "", free, true)
	must(t, err)
	if h.tree(t) != now {
		t.Errorf("a dry run changed something")
	}
	done, err := h.Undo("docker", "", free, false)
	must(t, err)
	if len(out.Steps) != 2 || out.Steps[0].Action != "mkdir" || out.Steps[1].Action != "restore" || len(out.Warnings) != 1 || fmt.Sprint(out) != fmt.Sprint(done) {
		t.Errorf("got %+v, and then %+v", out, done)
	}
	text, err := os.ReadFile(h.path(DockerFile))
	must(t, err)
	info, err := os.Stat(h.path(DockerFile))
	must(t, err)
	if string(text) != before || info.Mode() != 0o600 {
		t.Errorf("got %q, %v", text, info.Mode())
	}
	h.stateIsGone(t)

	for _, verb := range []func(dry bool) (Result, error){
		func(dry bool) (Result, error) { return h.Undo("docker", "", free, dry) },
		func(dry bool) (Result, error) { return h.Configure("docker", usual, dry) },
	} {
		configured()
		h.put(t, DockerFile, `{"new": 1}`)
		for _, dry := range []bool{true, false} {
			out, err := verb(dry)
			must(t, err)
			_, path, _ := strings.Cut(out.Warnings[len(out.Warnings)-1], " is kept as ")
			text, err := os.ReadFile(h.path(path))
			if dry != errors.Is(err, fs.ErrNotExist) || !dry && string(text) != before {
				t.Errorf("dry %v: %q: got %q, %v", dry, out.Warnings, text, err)
			}
		}
		must(t, os.RemoveAll(h.path(keptDir)))
	}
	_, err = h.Undo("docker", "", free, false)
	must(t, err)
	if text, err := os.ReadFile(h.path(DockerFile)); err != nil || string(text) != `{"new": 1}` {
		t.Errorf("got %q, %v", text, err)
	}
	h.stateIsGone(t)
}

// A state without the content that it names says what to do, and one of another file is named.
func TestLostContent(t *testing.T) {
	h := emptyHost(t)
	r := usual
	r.File = "/etc/docker/other.json"
	h.put(t, r.File, `{"default-runtime": ""}`)
	_, err := h.Configure("docker", r, false)
	must(t, err)
	_, err = h.Undo("docker", "", free, false)
	if want := "usernsctl configure docker --undo --file /etc/docker/other.json"; !errors.Is(err, ErrNotConfigured) || UndoOfOther(err) != want {
		t.Errorf("got %v, %s", err, UndoOfOther(err))
	}
	dirs, err := filepath.Glob(h.path(StateDir + "/docker-*"))
	must(t, err)
	kept := filepath.Join(dirs[0], hash([]byte(`{"default-runtime": ""}`)))
	must(t, os.Remove(kept))
	_, err = h.Undo("docker", r.File, free, false)
	wantError(t, err, h.name(kept)+": open: no such file or directory: put /etc/docker/other.json right by hand; then: rm -r "+h.name(dirs[0]))
}

// A drop-in that others changed is given up once what names our runtime is out of it.
func TestForeignDropIn(t *testing.T) {
	for name, rest := range map[string]string{"podman": "[engine]\n# theirs\n", "crio": ""} {
		h := emptyHost(t)
		out, err := h.Configure(name, usual, false)
		must(t, err)
		text, err := os.ReadFile(h.path(out.File))
		must(t, err)
		for _, theirs := range []string{string(text) + "# theirs\n", strings.Replace(string(text), `runtime = "userns"`, "", 1), "[" + "\n"} {
			h.put(t, out.File, theirs)
			_, err = h.Undo(name, "", free, false)
			wantError(t, err, out.File+": was changed by others", `take by hand out what names "userns"; then`)
		}
		h.put(t, out.File, rest)
		_, err = h.Undo(name, "", free, false)
		must(t, err)
		if text, err := os.ReadFile(h.path(out.File)); err != nil || string(text) != rest {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		h.stateIsGone(t)
	}
}

// A state that can't be read stops no other engine, but where both may need a link; that is
// said before anything is changed.
func TestBrokenState(t *testing.T) {
	h := emptyHost(t)
	before := h.tree(t)
	h.put(t, DockerFile, "{}")
	_, err := h.Configure("docker", usual, false)
	must(t, err)
	broken := StateDir + "/docker/" + stateFile
	h.put(t, broken, "")
	h.put(t, StateDir+"/stray", "")
	_, err = h.Undo("docker", "", free, false)
	wantError(t, err, broken+": isn't what this program wrote: ", "put /etc/docker/daemon.json right by hand: ", "is kept in: ", StateDir+"/docker/"+hash([]byte("{}")), "; then: rm -r "+StateDir+"/docker")
	h.put(t, broken, `{"version": 1, "engine": "docker", "main": "/etc/docker/daemon.json"}`)
	_, err = h.Undo("docker", "", free, false)
	wantError(t, err, broken+": isn't what this program wrote: it has no engine, or no file: put /etc/docker/daemon.json right by hand: ")
	must(t, os.RemoveAll(h.path("/etc/docker")))
	for _, owner := range []string{"", "alice"} {
		_, err = h.Configure("crio", request(owner), false)
		must(t, err)
		now := h.tree(t)
		if owner != "" {
			for _, dry := range []bool{true, false} {
				_, err = h.Undo("crio", "", free, dry)
				wantError(t, err, broken+": ")
			}
			if h.tree(t) != now {
				t.Error("refused, and something has changed")
			}
			must(t, os.RemoveAll(h.path(StateDir+"/docker")))
		}
		_, err = h.Undo("crio", "", free, false)
		must(t, err)
		if h.tree(t) != before {
			t.Errorf("got\n%swant\n%s", h.tree(t), before)
		}
	}
	must(t, os.Remove(h.path(StateDir+"/stray")))
	h.stateIsGone(t)
}

// What Podman can't start afterwards can't be named, but it is said, beforehand too.
func TestUndoOfPodman(t *testing.T) {
	h := emptyHost(t)
	_, err := h.Configure("podman", usual, false)
	must(t, err)
	for _, dry := range []bool{true, false} {
		out, err := h.Undo("podman", "", free, dry)
		must(t, err)
		if len(out.Warnings) != 1 || !strings.HasPrefix(out.Warnings[0], "containers that were made for the runtime userns can't be started without it") {
			t.Errorf("got %q", out.Warnings)
		}
	}
}

// By another hand: nothing to do, and nothing to undo.
func TestByHand(t *testing.T) {
	h := emptyHost(t)
	h.put(t, "/etc/docker/daemon.json", `{"default-runtime":"userns","runtimes":{"userns":{"path":"/usr/bin/userns-runtime-a"}}}`)
	must(t, os.Symlink("userns-runtime", h.path("/usr/bin/userns-runtime-a")))
	was := h.tree(t)
	out, err := h.Configure("docker", request("a"), false)
	must(t, err)
	if len(out.Steps) != 0 || h.tree(t) != was {
		t.Errorf("got %+v", out)
	}
	if _, err := h.Undo("docker", "", free, false); !errors.Is(err, ErrNotConfigured) {
		t.Errorf("got %v", err)
	}
}

// A link that two engines need goes with the last of them.
func TestSharedLink(t *testing.T) {
	h := emptyHost(t)
	was := h.tree(t)
	link := h.path("/usr/bin/userns-runtime-alice")
	for _, order := range [][]string{{"podman", "crio"}, {"crio", "podman"}} {
		for _, name := range []string{"podman", "crio"} {
			_, err := h.Configure(name, request("alice"), false)
			must(t, err)
		}
		_, err := h.Undo(order[0], "", free, false)
		must(t, err)
		if to, err := os.Readlink(link); err != nil || to != "userns-runtime" {
			t.Errorf("%v: %q, %v", order, to, err)
		}
		_, err = h.Undo(order[1], "", free, false)
		must(t, err)
		if h.tree(t) != was {
			t.Errorf("%v:\n%s", order, h.tree(t))
		}
	}
	// One that was there before us stays.
	must(t, os.Symlink("./userns-runtime", link))
	was = h.tree(t)
	_, err := h.Configure("podman", request("alice"), false)
	must(t, err)
	_, err = h.Undo("podman", "", free, false)
	must(t, err)
	if h.tree(t) != was {
		t.Errorf("got\n%s", h.tree(t))
	}
	must(t, os.Remove(link), os.Symlink("/bin/sh", link))
	_, err = h.Configure("podman", request("alice"), false)
	wantError(t, err, "/usr/bin/userns-runtime-alice: is there already")
	_, err = h.Configure("podman", request("a/b"), false)
	wantError(t, err, `owner "a/b"`, "can't hold a slash")
}

// Configuration management has the file elsewhere: the link stays, and the mode does.
func TestSymlinkedFile(t *testing.T) {
	h := emptyHost(t)
	h.put(t, "/srv/etckeeper/daemon.json", "{\"a\": 1}")
	must(t, os.Chmod(h.path("/srv/etckeeper/daemon.json"), 0o600), os.MkdirAll(h.path("/etc/docker"), 0o755))
	must(t, os.Symlink("../../srv/etckeeper/daemon.json", h.path("/etc/docker/daemon.json")))
	must(t, unix.Setxattr(h.path("/srv/etckeeper/daemon.json"), "user.mine", []byte("x"), 0))
	was := h.tree(t)
	_, err := h.Configure("docker", usual, false)
	must(t, err)
	if now := h.tree(t); !strings.Contains(now, "/etc/docker/daemon.json L") || !strings.Contains(now, "/srv/etckeeper/daemon.json -rw-------") {
		t.Errorf("got\n%s", now)
	}
	value := make([]byte, 8)
	if n, err := unix.Getxattr(h.path("/srv/etckeeper/daemon.json"), "user.mine", value); err != nil || string(value[:n]) != "x" {
		t.Errorf("xattr: %q, %v", value[:max(0, n)], err)
	}
	_, err = h.Undo("docker", "", free, false)
	must(t, err)
	if h.tree(t) != was {
		t.Errorf("got\n%s", h.tree(t))
	}
	// One that leads nowhere isn't filled.
	must(t, os.Remove(h.path("/srv/etckeeper/daemon.json")))
	_, err = h.Configure("docker", usual, false)
	wantError(t, err, "/etc/docker/daemon.json: is a symbolic link to a file that isn't there")
}

func TestNotTrusted(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(h Host) error
		want string
	}{
		{"a file that others can write", func(h Host) error { return os.Chmod(h.path("/etc/docker/daemon.json"), 0o664) }, "/etc/docker/daemon.json: has mode 0664"},
		{"a directory", func(h Host) error { return os.Chmod(h.path("/etc/docker"), 0o777) }, "/etc/docker: has mode 0777"},
		{"a directory above", func(h Host) error { return os.Chmod(h.path("/etc"), 0o775) }, "/etc: has mode 0775"},
		{"a FIFO", func(h Host) error {
			return errors.Join(os.Remove(h.path("/etc/docker/daemon.json")), unix.Mkfifo(h.path("/etc/docker/daemon.json"), 0o600))
		}, "isn't a regular file"},
	} {
		h := emptyHost(t)
		h.put(t, "/etc/docker/daemon.json", "{}")
		must(t, row.do(h))
		was := h.tree(t)
		_, err := h.Configure("docker", usual, false)
		wantError(t, err, row.want)
		if h.tree(t) != was {
			t.Errorf("%s: refused, and something has changed", row.name)
		}
		h.stateIsGone(t)
	}
}

func TestProgram(t *testing.T) {
	h := emptyHost(t)
	self := h.path("/usr/bin/usernsctl")
	path, err := h.Program(self)
	if err != nil || path != "/usr/bin/userns-runtime" {
		t.Errorf("got %q, %v", path, err)
	}
	program := h.path(path)
	for _, row := range []struct {
		do   func() error
		want string
	}{
		{func() error { return os.Chmod(program, 0o775) }, "userns-runtime: /usr/bin/userns-runtime: has mode 0775, so others than root could change"},
		{func() error { return os.Chmod(program, 0o644) }, "/usr/bin/userns-runtime: isn't a program: chmod +x"},
		{func() error { return errors.Join(os.Chmod(program, 0o755), os.Chmod(h.path("/usr"), 0o777)) }, "/usr: has mode 0777"},
		{func() error { return errors.Join(os.Chmod(h.path("/usr"), 0o755), os.Remove(program)) }, "/usr/bin/userns-runtime: isn't there: it has to lie beside /usr/bin/usernsctl: make install"},
		{func() error { return os.Mkdir(program, 0o755) }, "isn't a program"},
	} {
		must(t, row.do())
		_, err := h.Program(self)
		wantError(t, err, row.want)
	}
}

// killed is how the steps of a change are counted, and ended: this test binary is started again,
// and kills itself at the Nth step.
const killed = "ENGINES_TEST_KILL"

func TestMain(m *testing.M) {
	if text := os.Getenv(killed); text != "" {
		var n int
		var root, verb, name, owner string
		if _, err := fmt.Sscanf(text, "%d %s %s %s %s", &n, &root, &verb, &name, &owner); err != nil {
			panic(err)
		}
		checkpoint = func() {
			if n--; n == 0 {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
		}
		h := Host{Root: root, UID: uint32(os.Geteuid())}
		var err error
		switch verb {
		case "configure":
			_, err = h.Configure(name, request(owner), false)
		case "undo":
			_, err = h.Undo(name, "", free, false)
		case "divert":
			_, err = h.Divert(root+usual.Program, false)
		case "undivert":
			_, err = h.Undivert(free, false)
		case "divert-idmap":
			_, err = h.DivertIDMap(IDMapDir, false)
		case "undivert-idmap":
			_, err = h.UndivertIDMap(false)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// dies does it in a process that is killed at its Nth step, and says whether it was.
func dies(t *testing.T, h Host, n int, verb, name, owner string) bool {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), killed+fmt.Sprintf("=%d %s %s %s %s", n, h.Root, verb, name, owner))
	out, err := cmd.CombinedOutput()
	if len(out) > 0 {
		t.Fatalf("%s %s: %s", verb, name, out)
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	if err != nil && !ended {
		t.Fatal(err)
	}
	return ended && exit.ExitCode() == -1
}

// A kill at any step leaves the file old or new, and the next run finishes: configure or undo.
func TestKilled(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7 // each is a process of its own; odd, for either of what comes after
	}
	for name, all := range before {
		for i, files := range all {
			for _, verb := range []string{"configure", "again", "undo"} {
				for n := 1; ; n += step {
					h := emptyHost(t)
					for path, text := range files {
						h.put(t, path, text)
					}
					was := h.tree(t)
					from := ""
					if verb != "configure" {
						_, err := h.Configure(name, request("bob"), false)
						must(t, err)
						from = h.tree(t)
					}
					what := map[string]string{"configure": "configure", "again": "configure", "undo": "undo"}[verb]
					if !dies(t, h, n, what, name, "alice") {
						if n < 4 {
							t.Fatalf("%s %s: only %d steps", verb, name, n)
						}
						break
					}
					at := fmt.Sprintf("%s %d, %s, killed at step %d", name, i, verb, n)
					if n%2 == 0 {
						_, err := h.Configure(name, request("alice"), false)
						if err != nil {
							t.Fatalf("%s: %v", at, err)
						}
						now := h.tree(t)
						if !strings.Contains(now, "alice") || strings.Contains(withoutLinks(now), "bob") || strings.Contains(now, ".usernsctl") ||
							strings.Contains(now, ".lock") {
							t.Errorf("%s, and configured again:\n%s", at, now)
						}
					}
					if _, err := h.Undo(name, "", free, false); err != nil && !errors.Is(err, ErrNotConfigured) {
						t.Fatalf("%s: %v", at, err)
					}
					if h.tree(t) != was {
						t.Fatalf("%s, and undone:\n%s\nwant\n%s\nfrom\n%s", at, h.tree(t), was, from)
					}
					h.stateIsGone(t)
				}
			}
		}
	}
}

// A file that can't be written leaves all as it was: nothing, or what was configured before.
func TestBackOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chattr needs root")
	}
	h := emptyHost(t)
	immutable := func(path string) {
		must(t, exec.Command("chattr", "+i", h.path(path)).Run())
		t.Cleanup(func() { _ = exec.Command("chattr", "-i", h.path(path)).Run() })
	}
	h.put(t, "/etc/containerd/config.toml", "version = 2\n")
	immutable("/etc/containerd/config.toml")
	was := h.tree(t)
	_, err := h.Configure("containerd", request("alice"), false)
	wantError(t, err, "is immutable or append-only")
	if h.tree(t) != was {
		t.Errorf("got\n%swant\n%s", h.tree(t), was)
	}
	h.stateIsGone(t)

	_, err = h.Configure("podman", request("bob"), false)
	must(t, err)
	now := h.tree(t)
	file := "/etc/containers/containers.conf.d/50-userns-runtime.conf"
	immutable(file)
	_, err = h.Configure("podman", request("alice"), false)
	wantError(t, err, "is immutable or append-only")
	if h.tree(t) != now {
		t.Errorf("got\n%swant\n%s", h.tree(t), now)
	}
	_, err = h.Undo("podman", "", free, false)
	wantError(t, err, "operation not permitted")
	must(t, exec.Command("chattr", "-i", h.path(file)).Run())
	out, err := h.Configure("podman", request("bob"), false)
	must(t, err)
	if len(out.Steps) != 0 || h.tree(t) != now {
		t.Errorf("as before: %+v", out)
	}
	_, err = h.Undo("podman", "", free, false)
	must(t, err)
	if h.tree(t) != was {
		t.Errorf("got\n%swant\n%s", h.tree(t), was)
	}
}
