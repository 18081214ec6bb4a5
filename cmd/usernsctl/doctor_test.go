// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// A host in a directory, on which all is well: three engines that use the gate, and no
// runc but ours. Tests break it.
func soundHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a host's files belong to root: needs root")
	}
	// Below a directory that only root can write to, as programs have to be.
	root := t.TempDir()
	h := &host{root: root, program: root + "/usr/bin/userns-runtime", version: "1.2.3"}
	for path, text := range map[string]string{
		"/proc/self/ns/user": "", "/proc/self/uid_map": "         0          0 4294967295\n",
		"/proc/sys/kernel/threads-max":  "64000\n",
		"/proc/sys/kernel/keys/maxkeys": "200\n", "/proc/sys/kernel/keys/maxbytes": "20000\n",
		"/etc/passwd":             "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n",
		"/etc/group":              "root:x:0:\nalice:x:1000:\n",
		"/etc/subuid":             "alice:100000:65536\n",
		"/etc/subgid":             "alice:100000:65536\n",
		"/etc/usernamespaces":     "dockroot:1879048192:67108864:\n",
		"/etc/docker/daemon.json": `{"runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}}, "default-runtime": "userns"}`,
		"/etc/containerd/config.toml": "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'userns'\n" +
			"[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.userns]\nruntime_type = 'io.containerd.runc.v2'\n" +
			"[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.userns.options]\nBinaryName = '/usr/bin/userns-runtime'\n",
		"/etc/containers/containers.conf": "[engine]\nruntime = 'userns'\n[engine.runtimes]\nuserns = ['/usr/bin/userns-runtime']\n",
	} {
		put(t, h, path, text)
	}
	for _, kind := range namespaceLimits {
		put(t, h, "/proc/sys/user/max_"+kind+"_namespaces", "31231\n")
	}
	for _, path := range []string{"/usr/bin/userns-runtime", ownDir + "/runc", "/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/bin/podman"} {
		install(t, h, path)
	}
	for _, path := range []string{"/var/lib/docker/overlay2", "/var/lib/docker/volumes", "/var/log"} {
		if err := os.MkdirAll(h.path(path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	chmod(t, h, "/var/lib/docker", 0o710)
	h.try = tries{
		release: func() (census.Release, error) { return census.ParseRelease("6.18.1") },
		userNS:  func() error { return nil },
		idmap:   func(string) error { return nil },
		tmpfs:   func() error { return nil },
		overlay: func() (bool, error) { return true, nil },
		exposed: func(string) (string, error) { return "", nil },
		versionOf: func(path string) (string, error) {
			if isGate(path) {
				return "userns-runtime version 1.2.3\nrunc version 1.5.2\n", nil
			}
			return "runc version 1.5.2\ncommit: x\n", nil
		},
		ended: func() (int, error) { return 3, nil },
		pins:  func(*registry.Book, []config.Pin) ([]pinJSON, error) { return nil, nil },
	}
	return h
}

func put(t *testing.T, h *host, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func install(t *testing.T, h *host, path string) {
	t.Helper()
	put(t, h, path, "#!/bin/false\n")
	chmod(t, h, path, 0o755)
}

func chmod(t *testing.T, h *host, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(h.path(path), mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, h *host, path string) {
	t.Helper()
	if err := os.RemoveAll(h.path(path)); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, h *host, to, path string) {
	t.Helper()
	remove(t, h, path)
	if err := os.Symlink(to, h.path(path)); err != nil {
		t.Fatal(err)
	}
}

func setCaps(t *testing.T, h *host, path string, words ...byte) {
	t.Helper()
	if err := unix.Setxattr(h.path(path), "security.capability", words, 0); err != nil {
		t.Fatal(err)
	}
}

// findings is what is said without --verbose.
func (h *host) findings() []symptom {
	h.found = nil
	h.examine()
	var out []symptom
	for _, s := range h.found {
		if s.Severity != sevFine {
			out = append(out, s)
		}
	}
	return out
}

func TestDoctorSound(t *testing.T) {
	h := soundHost(t)
	for _, s := range h.findings() {
		t.Errorf("of a sound host: %+v", s)
	}
	if len(h.found) < 20 {
		t.Errorf("only %d facts", len(h.found))
	}
	for _, s := range h.found {
		if s.Mend != "" {
			t.Errorf("a fact with a mend: %+v", s)
		}
	}
}

// A program that is asked for its version gets nothing of the caller's environment.
func TestVersionOf(t *testing.T) {
	t.Setenv("SECRET", "x")
	path := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n/usr/bin/env; echo \"$1\"; pwd; echo wrong >&2; exit \"${CODE:-0}\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := versionOf(path)
	if err != nil || strings.Contains(text, "SECRET") || !strings.Contains(text, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n") || !strings.HasSuffix(text, "--version\n/\n") {
		t.Errorf("%q, %v", text, err)
	}
}

// Each line of the book has one finding, for it has one mend; and many are counted.
func TestDoctorManyCollisions(t *testing.T) {
	h := soundHost(t)
	var lines, subs strings.Builder
	fmt.Fprintf(&lines, "dockroot:1879048192:65536:\n")
	for i := range 3000 {
		fmt.Fprintf(&lines, "a%d:%d:65536:\n", i, 200000000+i*70000)
		fmt.Fprintf(&subs, "b%d:%d:10\nc%d:%d:10\n", i, 200000000+i*70000, i, 200000010+i*70000)
	}
	put(t, h, "/etc/usernamespaces", lines.String())
	put(t, h, "/etc/subuid", subs.String())
	found := h.findings()
	if len(found) != manyCollisions+1 {
		t.Fatalf("%d findings", len(found))
	}
	if s := found[0]; !strings.HasSuffix(s.Message, "/etc/subuid:2: move one of the lines") || !strings.Contains(s.Message, "/etc/subuid:1: move one of the lines; ") ||
		s.Mend != "usernsctl del a0 --start 200000000 && usernsctl add a0 --length 65536" {
		t.Errorf("%+v", s)
	}
	if s := found[manyCollisions]; s.Message != "2980 lines more collide with /etc/subuid or /etc/subgid" || s.Mend != "usernsctl check names each" {
		t.Errorf("%+v", s)
	}
}

// What never answers keeps nothing else from being looked at.
func TestDoctorWithoutAnAnswer(t *testing.T) {
	before := patience
	patience = 300 * time.Millisecond
	t.Cleanup(func() { patience = before })
	h := soundHost(t)
	never := make(chan bool)
	docker := h.path("/var/lib/docker")
	h.try.exposed = func(path string) (string, error) {
		if strings.HasPrefix(path, docker) {
			<-never
		}
		return "", nil
	}
	h.try.ended = func() (int, error) { <-never; return 0, nil }
	put(t, h, "/var/lib/containers/storage/overlay/x", "")
	found := h.findings()
	close(never)
	if len(found) != 2 {
		t.Fatalf("%+v", found)
	}
	for i, subject := range []string{"leases", h.path("/var/lib/docker")} {
		if s := found[i]; s.Severity != sevUnknown || s.Subject != subject || s.Message != "no answer within 300ms, so it wasn't looked at" || !strings.Contains(s.Mend, "findmnt") {
			t.Errorf("%+v", s)
		}
	}
	said := false
	for _, s := range h.found {
		said = said || s.Severity == sevFine && strings.HasPrefix(s.Subject, h.path("/var/lib/containers/storage"))
	}
	if !said {
		t.Errorf("the store behind wasn't looked at: %+v", h.found)
	}
}

// Who can't look doesn't say that it is fine, nor that it is broken.
func TestDoctorNotRoot(t *testing.T) {
	h := soundHost(t)
	h.uid = 1000
	h.try = tries{release: h.try.release, versionOf: h.try.versionOf} // anything else would panic
	found := h.findings()
	subjects := map[string]bool{}
	for _, s := range found {
		if s.Severity != sevUnknown || s.Mend != "sudo usernsctl doctor" || !strings.Contains(s.Message, "UID 1000") {
			t.Errorf("%+v", s)
		}
		subjects[strings.TrimPrefix(s.Subject, h.root)] = true
	}
	for _, want := range []string{"user namespaces", "kernel 6.18.1", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers/storage", "/var/log/userns-runtime/audit.jsonl", "leases"} {
		if !subjects[want] {
			t.Errorf("%s isn't said not to be looked at", want)
		}
	}
}

// Each breaks a sound host in one way, and has one finding for it.
func TestDoctorBroken(t *testing.T) {
	const daemon, containerd, podman = "/etc/docker/daemon.json", "/etc/containerd/config.toml", "/etc/containers/containers.conf"
	release := func(text string) func(*testing.T, *host) {
		return func(_ *testing.T, h *host) {
			h.try.release = func() (census.Release, error) { return census.ParseRelease(text) }
		}
	}
	file := func(path, text string) func(*testing.T, *host) {
		return func(t *testing.T, h *host) { t.Helper(); put(t, h, path, text) }
	}
	says := func(path, text string) func(*testing.T, *host) {
		return func(_ *testing.T, h *host) {
			before := h.try.versionOf
			h.try.versionOf = func(of string) (string, error) {
				if of == h.path(path) {
					return text, nil
				}
				return before(of)
			}
		}
	}
	both := func(all ...func(*testing.T, *host)) func(*testing.T, *host) {
		return func(t *testing.T, h *host) {
			t.Helper()
			for _, f := range all {
				f(t, h)
			}
		}
	}
	tests := []struct {
		name string
		do   func(*testing.T, *host)
		// What the one finding has: the severity, and parts of the others.
		severity, subject, message, mend string
	}{
		// The kernel.
		{"no user namespaces", func(t *testing.T, h *host) { t.Helper(); remove(t, h, "/proc/self/ns/user") },
			sevError, "kernel", "CONFIG_USER_NS", "boot a kernel"},
		{"inside of a user namespace", file("/proc/self/uid_map", "0 100000 65536\n"), sevError, "/proc/self/uid_map", "inside of a user namespace", "on the host"},
		{"user namespaces switched off", file("/proc/sys/user/max_user_namespaces", "0\n"),
			sevError, "user.max_user_namespaces", "is 0: no container starts", "sysctl -w user.max_user_namespaces=32000 && echo 'user.max_user_namespaces = 32000' >>"},
		{"and by a file", both(file("/proc/sys/user/max_user_namespaces", "0\n"), file("/etc/sysctl.d/10-hard.conf", "# x\nuser.max_user_namespaces = 0\n"), file("/usr/lib/sysctl.d/10-hard.conf", "user/max_user_namespaces=5\n")),
			sevError, "user.max_user_namespaces", "/etc/sysctl.d/10-hard.conf:2", "sysctl -w user.max_user_namespaces=32000, and write so in "},
		{"few user namespaces", file("/proc/sys/user/max_user_namespaces", "100\n"), sevWarning, "user.max_user_namespaces", "is 100: at most", "sysctl -w"},
		{"no network namespaces", file("/proc/sys/user/max_net_namespaces", "0\n"), sevError, "user.max_net_namespaces", "no container starts", "sysctl -w user.max_net_namespaces="},
		{"a limit that isn't a number", file("/proc/sys/user/max_user_namespaces", "many\n"), sevUnknown, "user.max_user_namespaces", `"many"`, "again"},
		{"limit reached", func(_ *testing.T, h *host) {
			h.try.userNS = func() error { return os.NewSyscallError("clone", unix.ENOSPC) }
		}, sevError, "user.max_user_namespaces", "there already", "sysctl -w"},
		{"forbidden", func(_ *testing.T, h *host) {
			h.try.userNS = func() error { return os.NewSyscallError("clone", unix.EPERM) }
		}, sevError, "user namespaces", "seccomp", "dmesg"},
		{"not for users", file("/proc/sys/kernel/unprivileged_userns_clone", "0\n"), sevWarning, "kernel.unprivileged_userns_clone", "with podman; root's engines work", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"AppArmor", file("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
			sevWarning, "kernel.apparmor_restrict_unprivileged_userns", "/usr/bin/podman has no profile", "apparmor_parser -r /etc/apparmor.d/podman"},
		{"an old kernel", both(release("5.10.0-28-amd64"), func(_ *testing.T, h *host) { h.try.tmpfs = func() error { return unix.ENOSYS } }),
			sevError, "kernel 5.10.0-28-amd64", "no idmapped mounts (Linux 5.12)", "Linux 5.19 or later"},
		{"no idmapped layers", release("5.15.0"), sevError, "kernel 5.15.0", "by its version", "Linux 5.19 or later"},
		{"no idmapped tmpfs", both(release("6.1.0"), func(_ *testing.T, h *host) { h.try.tmpfs = func() error { return unix.EINVAL } }),
			sevWarning, "kernel 6.1.0", "can't idmap a tmpfs", "bind-fallback = 'plain'"},
		{"no overlay", func(_ *testing.T, h *host) { h.try.overlay = func() (bool, error) { return false, unix.ENODEV } },
			sevError, "kernel", "has no overlay", "modprobe overlay"},
		{"a release that is none", release("linux"), sevUnknown, "kernel", "linux", "again"},

		// The book and the configuration.
		{"no book", func(t *testing.T, h *host) { t.Helper(); remove(t, h, "/etc/usernamespaces") }, sevError, "/etc/usernamespaces", "isn't there", "usernsctl init"},
		{"a malformed book", file("/etc/usernamespaces", "dockroot:1879048192\n"), sevError, "/etc/usernamespaces", "the whole book is refused", "correct the line"},
		{"a book that others write", func(t *testing.T, h *host) { t.Helper(); chmod(t, h, "/etc/usernamespaces", 0o666) },
			sevError, "/etc/usernamespaces", "mode 0666", "chmod go-w "},
		{"a subuid range", file("/etc/subuid", "alice:1879048192:65536\n"), sevError, "/etc/usernamespaces:1", "belongs to alice",
			"usernsctl del dockroot --start 1879048192 && usernsctl add dockroot --length 67108864"},
		{"of a drop-in", both(file("/etc/usernamespaces.d/k.conf", "k:2000000000:65536:\n"), file("/etc/subgid", "alice:2000000000:65536\n")),
			sevError, "/etc/usernamespaces.d/k.conf:1", "belongs to alice", "give the line another START"},
		{"an account in a range", file("/etc/passwd", "root:x:0:0::/:/bin/sh\nbob:x:1879048200:0::/:/bin/sh\n"), sevError, "/etc/usernamespaces", "1 error", "usernsctl check"},
		{"an owner without a line", file("/etc/usernamespaces", "other:1879048192:65536:\n"), sevError, "default-owner", "gives containers to dockroot, who has no line in the book: they are refused", "usernsctl add dockroot --containers 1024"},
		{"an owner with a reserved line", file("/etc/usernamespaces", "dockroot:1879048192:65536:reserved\n"), sevError, "default-owner", "no line", "usernsctl add dockroot"},
		{"keyrings of containers that share a root", file("/etc/usernamespaces", "dockroot:1879048192:65536:shared\n"), sevWarning, "kernel.keys.maxkeys", "at most 200 keyrings",
			"sysctl -w kernel.keys.maxkeys=8192 kernel.keys.maxbytes=196608 && printf '%s\\n' kernel.keys.maxkeys=8192 kernel.keys.maxbytes=196608 >>"},
		{"what enters an owned namespace could be traced", both(file("/etc/usernamespaces", "dockroot:1879048192:65536:\nalice:1879113728:65536:owned\n"), file("/proc/sys/fs/suid_dumpable", "1\n")), sevError, "fs.suid_dumpable",
			"no container of alice (", "sysctl -w fs.suid_dumpable=0"},
		{"their bytes", both(file("/etc/usernamespaces", "dockroot:1879048192:65536:shared\n"), file("/proc/sys/kernel/keys/maxkeys", "5000\n")), sevWarning, "kernel.keys.maxkeys", "at most 833 keyrings",
			"sysctl -w kernel.keys.maxkeys=8192 kernel.keys.maxbytes=196608"},
		{"an owner by an argument", file(daemon, `{"runtimes": {"userns": {"path": "/usr/bin/userns-runtime", "runtimeArgs": ["--owner", "dockrot"]}}, "default-runtime": "userns"}`),
			sevError, "docker's runtime userns", "dockrot, who has no line in the book (did you mean dockroot?)", "usernsctl add dockrot --containers 1024"},
		{"an owner by a link", func(t *testing.T, h *host) {
			t.Helper()
			link(t, h, "userns-runtime", "/usr/bin/userns-runtime-bob")
			put(t, h, podman, "[engine]\nruntime = '/usr/bin/userns-runtime-bob'\n")
		}, sevError, "podman's runtime userns-runtime-bob", "bob, who has no line", "usernsctl add bob"},
		{"an owner by a rule, of CRI-O as configure sets it up", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/bin/crio")
			put(t, h, "/etc/crio/crio.conf", "[crio.runtime]\ndefault_runtime = 'userns'\n[crio.runtime.runtimes.userns]\nruntime_path = '/usr/bin/userns-runtime'\n")
			put(t, h, "/etc/userns-runtime/config.toml", "[[rule]]\nroot = '/run/userns-crio'\nowner = 'fleet'\n")
		}, sevError, "a [[rule]] for crio", "fleet, who has no line", "usernsctl add fleet"},
		{"an owner by a rule", file("/etc/userns-runtime/config.toml", "[[rule]]\nroot = '/run/docker'\nowner = 'fleet'\n"),
			sevError, "a [[rule]] for docker", "fleet, who has no line", "usernsctl add fleet"},
		{"nobody is the owner", file("/etc/userns-runtime/config.toml", "default-owner = ''\n"), sevError, "default-owner", "is nobody", "write default-owner"},
		{"a wrong key", file("/etc/userns-runtime/config.toml", "runtime = []\n"), sevError, "/etc/userns-runtime/config.toml", "the whole file is refused", "correct the line"},
		{"a configuration that others write", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/userns-runtime/config.toml", "")
			chmod(t, h, "/etc/userns-runtime/config.toml", 0o666)
		}, sevError, "/etc/userns-runtime/config.toml", "mode 0666", "chmod go-w "},
		{"no place for the audit", file("/etc/userns-runtime/config.toml", "[audit]\npath = '/srv/log/a/audit'\nmode = 'require'\n"), sevError, "/srv/log/a/audit", "no container starts", "install -d -m 0750 "},
		{"the audit is a link", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/var/log/userns-runtime/x", "")
			link(t, h, "x", "/var/log/userns-runtime/audit.jsonl")
		}, sevWarning, "/var/log/userns-runtime/audit.jsonl", "symbolic link", "mv "},
		{"the audit is a directory", file("/var/log/userns-runtime/audit.jsonl/x", ""), sevWarning, "/audit.jsonl", "not a regular file", "mv "},
		{"many leases", func(_ *testing.T, h *host) { h.try.ended = func() (int, error) { return 5000, nil } }, sevWarning, "leases", "5000", "usernsctl gc"},
		{"leases that can't be read", func(_ *testing.T, h *host) {
			h.try.ended = func() (int, error) { return 0, errors.New("/run/userns-runtime/leases: is owned by UID 5") }
		}, sevError, "leases", "UID 5", "usernsctl leases"},

		// Programs.
		{"no userns-runtime", func(_ *testing.T, h *host) { h.program = h.path("/opt/userns-runtime") }, sevError, "/opt/userns-runtime", "isn't there", "make install"},
		{"userns-runtime is another's", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/srv/userns-runtime")
			h.program = h.path("/srv/userns-runtime")
			if err := os.Chown(h.program, 1000, 0); err != nil {
				t.Fatal(err)
			}
		}, sevError, "/srv/userns-runtime", "UID 1000", "chown root: "},
		{"its directory is open to others", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/srv/a/userns-runtime")
			h.program = h.path("/srv/a/userns-runtime")
			chmod(t, h, "/srv/a", 0o777)
		}, sevError, "/srv/a/userns-runtime", "/srv/a has mode 0777", "chmod go-w "},
		{"a link on the way is open to others", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/srv/b/userns-runtime")
			put(t, h, "/srv/a/x", "")
			chmod(t, h, "/srv/a", 0o777)
			link(t, h, "../b/userns-runtime", "/srv/a/userns-runtime")
			put(t, h, "/opt/x", "")
			link(t, h, "../srv/a/userns-runtime", "/opt/userns-runtime")
			h.program = h.path("/opt/userns-runtime")
		}, sevError, "/opt/userns-runtime", "/srv/a has mode 0777", "chmod go-w "},
		{"links in a ring", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/opt/x", "")
			link(t, h, "userns-runtime", "/opt/userns-runtime")
			h.program = h.path("/opt/userns-runtime")
		}, sevError, "/opt/userns-runtime", "too many links", "make install"},
		{"userns-runtime is setuid", func(t *testing.T, h *host) { t.Helper(); chmod(t, h, "/usr/bin/userns-runtime", 0o755|os.ModeSetuid) },
			sevError, "/usr/bin/userns-runtime", "is setuid", "chmod ug-s "},
		{"of another version", says("/usr/bin/userns-runtime", "userns-runtime version 1.2.2\n"), sevWarning, "/usr/bin/userns-runtime", "1.2.2, and usernsctl is 1.2.3", "make install"},
		{"userns-runtime is something else", says("/usr/bin/userns-runtime", "hello\n"), sevError, "/usr/bin/userns-runtime", `"hello"`, "make install"},
		{"userns-runtime doesn't run", func(_ *testing.T, h *host) {
			before := h.try.versionOf
			h.try.versionOf = func(path string) (string, error) {
				if isGate(path) {
					return "", errors.New("exec format error")
				}
				return before(path)
			}
		}, sevUnknown, "/usr/bin/userns-runtime", "exec format error", "again"},
		{"no runc", func(t *testing.T, h *host) { t.Helper(); remove(t, h, ownDir) }, sevError, "low-level runtime", "there is none", "make install"},
		{"an old runc", says(ownDir+"/runc", "runc version 1.1.5+ds1\n"), sevWarning, ownDir + "/runc", "1.1.5+ds1, the first of `runtimes` that there is, with which some things are refused: restore;", "install runc 1.2 or later"},
		{"a runc that is too old", says(ownDir+"/runc", "runc version 1.0.3\n"), sevError, ownDir + "/runc", "no container starts", "install runc 1.2 or later"},
		{"crun", says(ownDir+"/runc", "crun version 1.8.1\n"), sevWarning, ownDir + "/runc", "CAP_SYS_ADMIN in a container", "install runc 1.2 or later"},
		{"another low-level runtime", says(ownDir+"/runc", "youki version 0.3.0\n"), sevError, ownDir + "/runc", "isn't judged by this build", "install runc 1.2 or later"},
		{"runc is something else", says(ownDir+"/runc", "hello\n"), sevError, ownDir + "/runc", "hello", "install runc"},
		{"others write to runc", func(t *testing.T, h *host) { t.Helper(); chmod(t, h, ownDir+"/runc", 0o777) }, sevError, "low-level runtime", "0777", "chmod go-w "},
		{"others write beside runc", func(t *testing.T, h *host) { t.Helper(); chmod(t, h, ownDir, 0o777) }, sevError, ownDir + "/runc", "0777", "chmod go-w "},
		{"runc is the gate", func(t *testing.T, h *host) { t.Helper(); link(t, h, "../../bin/userns-runtime", ownDir+"/runc") },
			sevError, ownDir + "/runc", "is userns-runtime itself", "install runc"},
		{"runc beside", both(func(t *testing.T, h *host) { t.Helper(); install(t, h, "/usr/sbin/runc") }, says("/usr/sbin/runc", "runc version 1.1.5+ds1\n")),
			sevWarning, "/usr/sbin/runc", "runc 1.1.5+ds1 stands beside the gate (containers go through ", "usernsctl configure --divert"},
		{"the distribution's runc is ours", func(t *testing.T, h *host) { t.Helper(); remove(t, h, ownDir); install(t, h, "/usr/bin/runc") },
			sevWarning, "/usr/bin/runc", "the gate itself goes on to it", "make install), then usernsctl configure --divert"},
		{"newuidmap has lost it", func(t *testing.T, h *host) { t.Helper(); install(t, h, "/usr/bin/newuidmap") },
			sevWarning, "/usr/bin/newuidmap", "neither its file capability nor setuid", "chmod u+s "},
		{"ours has none", func(t *testing.T, h *host) { t.Helper(); install(t, h, ownDir+"/newgidmap") },
			sevError, ownDir + "/newgidmap", "neither its file capability", "setcap cap_setgid=p "},
		{"ours has the other's", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, ownDir+"/newgidmap")
			setCaps(t, h, ownDir+"/newgidmap", 0, 0, 0, 2, 1<<7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		}, sevError, ownDir + "/newgidmap", "neither its file capability", "setcap cap_setgid=p "},
		{"ours is setuid", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, ownDir+"/newuidmap")
			chmod(t, h, ownDir+"/newuidmap", 0o755|os.ModeSetuid)
		}, sevError, ownDir + "/newuidmap", "is setuid", "chmod u-s "},
		{"a capability for others' root", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, ownDir+"/newuidmap")
			setCaps(t, h, ownDir+"/newuidmap", 1, 0, 0, 3, 1<<7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x86, 1, 0)
		}, sevError, ownDir + "/newuidmap", "UID 100000", "setcap cap_setuid=p "},
		{"others write to newuidmap", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/bin/newuidmap")
			chmod(t, h, "/usr/bin/newuidmap", 0o777)
		},
			sevError, "/usr/bin/newuidmap", "raises privileges", "chmod go-w "},

		// Engines.
		{"docker starts runc, and has none", func(t *testing.T, h *host) { t.Helper(); remove(t, h, daemon) }, sevError, "docker", "starts containers with runc, which isn't there", "usernsctl configure docker"},
		{"docker starts another", both(file(daemon, `{"runtimes": {"nvidia": {"path": "/usr/bin/nvidia-container-runtime"}}, "default-runtime": "nvidia"}`),
			func(t *testing.T, h *host) { t.Helper(); install(t, h, "/usr/bin/nvidia-container-runtime") }),
			sevWarning, "docker", "starts containers with nvidia", "usernsctl configure docker"},
		{"docker starts what is called like the gate", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/local/bin/userns-runtime")
			put(t, h, daemon, `{"runtimes": {"userns": {"path": "/usr/local/bin/userns-runtime"}}, "default-runtime": "userns"}`)
			says("/usr/local/bin/userns-runtime", "runc version 1.1.5\n")(t, h)
		}, sevError, "/usr/local/bin/userns-runtime", `isn't userns-runtime: its --version says "runc version 1.1.5", and docker starts containers with it (`, "usernsctl configure docker"},
		{"docker starts another, and configure says what is in its way", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, daemon, `{"runtimes": {"c": {"path": "/usr/bin/crun"}}, "default-runtime": "c"}`)
			install(t, h, "/usr/bin/crun")
			h.try.configure = func(engine, file string) error {
				return fmt.Errorf("%s %q: somebody chose c:\ntake it out", engine, file)
			}
		}, sevWarning, "docker", "starts containers with c, ", `mend this first: docker "": somebody chose c:; take it out; then usernsctl configure docker`},
		{"docker has an old gate beside", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/local/bin/userns-runtime-dockroot")
			put(t, h, daemon, `{"runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}, "old": {"path": "/usr/local/bin/userns-runtime-dockroot"}}, "default-runtime": "userns"}`)
			says("/usr/local/bin/userns-runtime-dockroot", "userns-runtime version 1.2.2\n")(t, h)
		}, sevWarning, "/usr/local/bin/userns-runtime-dockroot", "is version 1.2.2, and usernsctl is 1.2.3, and it is docker's runtime old", "usernsctl configure docker"},
		{"docker has another beside", both(file(daemon, `{"runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}, "c": {"path": "/usr/bin/crun"}}, "default-runtime": "userns"}`),
			func(t *testing.T, h *host) { t.Helper(); install(t, h, "/usr/bin/crun") }),
			sevWarning, "docker", "its runtime c is ", "take it out of the runtimes in "},
		{"docker has a shim with another", both(file(daemon, `{"runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}, "c": {"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/usr/bin/crun"}}}, "default-runtime": "userns"}`),
			func(t *testing.T, h *host) { t.Helper(); install(t, h, "/usr/bin/crun") }),
			sevWarning, "docker", "its runtime c is ", "take it out of the runtimes in "},
		{"docker's gate is gone", file(daemon, `{"runtimes": {"userns": {"path": "/opt/userns-runtime"}}, "default-runtime": "userns"}`),
			sevError, "docker", "/opt/userns-runtime isn't there", "usernsctl configure docker"},
		{"daemon.json is no JSON", file(daemon, "{,}"), sevError, "docker", "daemon.json: invalid character", "correct the file"},
		{"daemon.json has a wrong type", file(daemon, `{"runtimes": []}`), sevError, "docker", "daemon.json: json: cannot unmarshal array", "correct the file"},
		{"daemon.json is a FIFO", func(t *testing.T, h *host) {
			t.Helper()
			remove(t, h, daemon)
			if err := unix.Mkfifo(h.path(daemon), 0o600); err != nil {
				t.Fatal(err)
			}
		}, sevError, "docker", "is not a regular file", "correct the file"},
		{"a dockerd that runs with another file", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/proc/77/cmdline", "/usr/sbin/dockerd\x00--config-file\x00/srv/d.json\x00")
			put(t, h, "/proc/77/status", "Name:\tdockerd\nNSpid:\t77\n")
			put(t, h, "/srv/d.json", `{"default-runtime": "c", "runtimes": {"c": {"path": "/usr/bin/crun"}}}`)
			install(t, h, "/usr/bin/crun")
		}, sevWarning, "docker", "/srv/d.json", "usernsctl configure docker"},
		{"a dockerd that was told a runtime", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/proc/77/cmdline", "dockerd\x00--default-runtime=mine\x00--add-runtime=mine=/usr/bin/mine\x00")
			put(t, h, "/proc/77/status", "NSpid:\t77\n")
			install(t, h, "/usr/bin/mine")
		}, sevWarning, "docker", "the command line of dockerd", "usernsctl configure docker"},
		{"a dockerd that is told of no file", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/proc/77/cmdline", "dockerd\x00--config-file=/dev/null\x00--default-runtime=mine\x00--add-runtime=mine=/usr/bin/mine\x00")
			put(t, h, "/proc/77/status", "NSpid:\t77\n")
			install(t, h, "/usr/bin/mine")
			put(t, h, "/dev/x", "")
			link(t, h, "/dev/null", "/dev/null")
		}, sevWarning, "docker", "starts containers with mine", "usernsctl configure docker"},
		{"daemon.json is open to all", func(t *testing.T, h *host) { t.Helper(); chmod(t, h, daemon, 0o666) },
			sevError, daemon, "could be changed by others than root, since", "chmod go-w "},
		{"its directory is another's", func(t *testing.T, h *host) {
			t.Helper()
			if err := os.Chown(h.path("/etc/docker"), 1000, 0); err != nil {
				t.Fatal(err)
			}
		}, sevError, daemon, "could be changed by UID 1000, who owns", "chown root: "},
		{"what podman's would lie in is another's", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/usr/share/containers/containers.conf", "[engine]\nruntime = 'userns'\n[engine.runtimes]\nuserns = ['/usr/bin/userns-runtime']\n")
			remove(t, h, podman)
			chmod(t, h, "/etc/containers", 0o777)
		}, sevError, "/etc/containers", "who can change what podman is told is root", "chmod go-w "},
		{"podman's drop-ins are open to all", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, podman+".d/x", "")
			chmod(t, h, podman+".d", 0o777|os.ModeSticky)
		}, sevError, podman + ".d", "has mode 1777", "chmod go-w "},
		{"storage.conf is another's", func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/containers/storage.conf", "")
			if err := os.Chown(h.path("/etc/containers/storage.conf"), 1000, 0); err != nil {
				t.Fatal(err)
			}
		}, sevError, "/etc/containers/storage.conf", "UID 1000", "chown root: "},
		{"what containerd imports is open to all", func(t *testing.T, h *host) {
			t.Helper()
			text, _ := os.ReadFile(h.path(containerd))
			put(t, h, containerd, "imports = ['/srv/x.toml']\n"+string(text))
			put(t, h, "/srv/x.toml", "")
			chmod(t, h, "/srv/x.toml", 0o666)
		}, sevError, "/srv/x.toml", "what containerd is told", "chmod go-w "},
		{"containerd starts runc, and has none", func(t *testing.T, h *host) { t.Helper(); remove(t, h, containerd) }, sevError, "containerd", "starts containers with runc, which isn't there", "usernsctl configure containerd"},
		{"k3s starts its own runc", func(t *testing.T, h *host) {
			t.Helper()
			remove(t, h, "/usr/bin/containerd")
			install(t, h, "/var/lib/rancher/k3s/data/current/bin/runc")
			put(t, h, "/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "version = 2\n")
			put(t, h, "/proc/77/cmdline", "containerd\x00-c\x00/var/lib/rancher/k3s/agent/etc/containerd/config.toml\x00")
			put(t, h, "/proc/77/environ", "PATH=/var/lib/rancher/k3s/data/current/bin:/usr/bin\x00")
			put(t, h, "/proc/77/status", "NSpid:\t77\n")
		}, sevWarning, "containerd", "starts containers with runc, ", "into config.toml.tmpl (config-v3.toml.tmpl for containerd 2) in "},
		{"containerd 2 starts runc", file(containerd, "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'runc'\n"),
			sevError, "containerd", "config.toml), which isn't there", "usernsctl configure containerd"},
		{"a file that containerd imports", both(file("/etc/containerd/conf.d/x.toml", "[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'runc'\n"),
			func(t *testing.T, h *host) {
				t.Helper()
				text, err := os.ReadFile(h.path(containerd))
				if err != nil {
					t.Fatal(err)
				}
				put(t, h, containerd, "imports = ['/etc/containerd/conf.d/*.toml']\n"+string(text))
			}), sevError, "containerd", "x.toml), which isn't there", "usernsctl configure containerd"},
		{"config.toml is no TOML", file(containerd, "version = 2\n[plugins\n"), sevError, "containerd", "config.toml:2:", "correct the file"},
		{"podman starts crun", both(func(t *testing.T, h *host) { t.Helper(); install(t, h, "/usr/bin/crun") }, file(podman, "")), sevWarning, "podman", "starts containers with crun", "usernsctl configure podman"},
		{"a drop-in of podman's", both(func(t *testing.T, h *host) { t.Helper(); install(t, h, "/usr/bin/crun") }, file(podman+".d/99.conf", "[engine]\nruntime = '/usr/bin/crun'\n")),
			sevWarning, "podman", "99.conf), and not", "usernsctl configure podman"},
		{"CRI-O starts crun", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/bin/crio")
			install(t, h, "/usr/bin/crun")
		},
			sevWarning, "crio", "starts containers with crun", "usernsctl configure crio"},
		{"a drop-in of CRI-O's", func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/bin/crio")
			install(t, h, "/usr/bin/crun")
			put(t, h, "/etc/crio/crio.conf", "[crio.runtime]\ndefault_runtime = 'userns'\n[crio.runtime.runtimes.userns]\nruntime_path = '/usr/bin/userns-runtime'\n")
			put(t, h, "/etc/crio/crio.conf.d/99-x", "[crio.runtime]\ndefault_runtime = 'crun'\n")
		}, sevWarning, "crio", "99-x), and not", "usernsctl configure crio"},

		// Stores.
		{"a store that can't be shifted", func(_ *testing.T, h *host) {
			h.try.idmap = func(dir string) error {
				if dir == h.path("/var/lib/docker") {
					return fmt.Errorf("%s: on nfs: %w", dir, rootfs.ErrNoIDMap)
				}
				return nil
			}
		}, sevError, "docker", "on nfs", `write "data-root"`},
		{"a store that isn't there yet", func(_ *testing.T, h *host) {
			h.try.idmap = func(dir string) error {
				if dir != h.path("/var/lib") {
					return nil
				}
				return fmt.Errorf("%s: on overlay: %w", dir, rootfs.ErrNoIDMap)
			}
			_ = os.MkdirAll(h.path("/var/lib/containers"), 0o755)
		}, sevError, "containerd", "which will lie in ", "write root"},
		{"a store that is no directory", file("/var/lib/containerd", ""), sevUnknown, "containerd", "isn't a directory", "again"},
		{"vfs", file(daemon, `{"storage-driver": "vfs", "runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}}, "default-runtime": "userns"}`),
			sevError, "docker", "keeps images with vfs", "/var/lib/docker/vfs/dir'] in /etc/userns-runtime/config.toml"},
		{"vfs by what is there", both(file("/var/lib/docker/image/vfs/x", ""), func(*testing.T, *host) {}), sevError, "docker", "keeps images with vfs", "rootfs-dirs"},
		{"fuse-overlayfs", file("/etc/containers/storage.conf", "[storage]\ndriver = 'overlay'\n[storage.options.overlay]\nmount_program = '/usr/bin/fuse-overlayfs'\n"),
			sevError, "podman", "keeps images with fuse-overlayfs", "without mount_program"},
		{"the native snapshotter", func(t *testing.T, h *host) {
			t.Helper()
			text, _ := os.ReadFile(h.path(containerd))
			put(t, h, containerd, strings.Replace(string(text), "default_runtime_name", "snapshotter = 'native'\ndefault_runtime_name", 1))
		}, sevError, "containerd", "keeps images with native", "io.containerd.snapshotter.v1.native/snapshots"},
		{"a data-root that others can enter", func(t *testing.T, h *host) {
			t.Helper()
			h.try.exposed = func(path string) (string, error) { return path, nil }
		}, sevError, "/var/lib/docker/volumes", "setuid program", "chmod 0710 "},
		{"a data-root that is bound elsewhere", func(_ *testing.T, h *host) {
			h.try.exposed = func(string) (string, error) { return "/mnt/volumes", nil }
		}, sevError, "/var/lib/docker/volumes", "by /mnt/volumes", "umount"},
		{"who can reach it isn't known", func(_ *testing.T, h *host) {
			h.try.exposed = func(string) (string, error) { return "", fs.ErrInvalid }
		}, sevUnknown, "/var/lib/docker/volumes", "invalid argument", "again"},
		{"userns-remap", both(file(daemon, `{"userns-remap": "default", "runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}}, "default-runtime": "userns"}`),
			file("/etc/subuid", "dockremap:300000:65536\n")),
			sevError, "docker", "[300000-365536) ", `take "userns-remap" out`},
		{"userns-remap without a range", file(daemon, `{"userns-remap": "bob:bob", "runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}}, "default-runtime": "userns"}`),
			sevError, "docker", "has no range for bob", `take "userns-remap" out`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := soundHost(t)
			tt.do(t, h)
			found := h.findings()
			if len(found) != 1 {
				t.Errorf("%d findings, expected 1", len(found))
			}
			for _, s := range found {
				if s.Severity != tt.severity || !strings.Contains(s.Subject, tt.subject) || !strings.Contains(s.Message, tt.message) || !strings.Contains(s.Mend, tt.mend) {
					t.Errorf("%+v", s)
				}
				if s.Mend == "" {
					t.Error("no mend")
				}
			}
			// Who isn't root may see less, and never that all is well.
			h.uid = 1000
			unknown := 0
			for _, s := range h.findings() {
				if s.Severity == sevUnknown {
					unknown++
				}
			}
			if unknown == 0 {
				t.Error("as UID 1000 all was looked at")
			}
		})
	}
}

// Engines that go on with the distribution's runc, and that runc itself.
func TestDoctorDistributionsRunc(t *testing.T) {
	h := soundHost(t)
	install(t, h, "/usr/sbin/runc")
	for _, path := range []string{"/etc/docker/daemon.json", "/etc/containerd/config.toml", "/etc/containers/containers.conf"} {
		remove(t, h, path)
	}
	found := h.findings()
	if len(found) != 4 {
		t.Errorf("%d findings, expected 4", len(found))
	}
	for i, engine := range []string{"docker", "containerd", "podman"} {
		if s := found[i]; s.Severity != sevWarning || s.Subject != engine || s.Mend != "usernsctl configure "+engine || !strings.Contains(s.Message, "starts containers with runc, ") {
			t.Errorf("%+v", s)
		}
	}
	if s := found[3]; s.Subject != h.path("/usr/sbin/runc") || s.Mend != "usernsctl configure --divert" {
		t.Errorf("%+v", s)
	}
}

// What is no finding, though it looks like one.
func TestDoctorStillSound(t *testing.T) {
	gateOr := func(more string) string {
		return `{` + more + `"runtimes": {"userns": {"path": "/usr/bin/userns-runtime"}` + "%s" + `}, "default-runtime": "userns"}`
	}
	for name, do := range map[string]func(*testing.T, *host){
		"a warning of check": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/usernamespaces", "dockroot:1879048192:65536:\ndockroot:1879048192:65536:\nk:200000:65536:\n")
		},
		"a store that can't be shifted, and owners that are changed on disk": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/userns-runtime/config.toml", "shift = 'chown'\nrootfs-dirs = ['/var/lib/docker/vfs/dir']\n")
			put(t, h, "/etc/docker/daemon.json", fmt.Sprintf(gateOr(`"storage-driver": "vfs", `), ""))
			h.try.idmap = func(dir string) error {
				if dir == h.path("/var/lib/docker") {
					return fmt.Errorf("%s: on nfs: %w", dir, rootfs.ErrNoIDMap)
				}
				return nil
			}
		},
		"keyrings enough": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/usernamespaces", "dockroot:1879048192:65536:shared\n")
			put(t, h, "/proc/sys/kernel/keys/maxkeys", "8192\n")
			put(t, h, "/proc/sys/kernel/keys/maxbytes", "196608\n")
		},
		"no engine": func(t *testing.T, h *host) {
			t.Helper()
			for _, path := range []string{"/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/bin/podman"} {
				remove(t, h, path)
			}
			install(t, h, "/usr/sbin/runc")
		},
		"a runc that is diverted": func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/sbin/runc.distrib")
			link(t, h, "../bin/userns-runtime", "/usr/sbin/runc")
		},
		"runtimes that are no runc": func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/bin/runsc")
			put(t, h, "/etc/docker/daemon.json", fmt.Sprintf(gateOr(""), `, "g": {"path": "/usr/bin/runsc"}, "k": {"runtimeType": "io.containerd.kata.v2"}, "gone": {"path": "/opt/gone"}`))
		},
		"nvidia's, whose runc is the gate": func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, "/usr/bin/nvidia-container-runtime")
			link(t, h, "../bin/userns-runtime", "/usr/sbin/runc")
			put(t, h, "/etc/docker/daemon.json", fmt.Sprintf(gateOr(""), `, "nvidia": {"path": "nvidia-container-runtime"}`))
		},
		"an owner's link": func(t *testing.T, h *host) {
			t.Helper()
			link(t, h, "userns-runtime", "/usr/bin/userns-runtime-alice")
			put(t, h, "/etc/docker/daemon.json", `{"runtimes": {"a": {"path": "/usr/bin/userns-runtime-alice"}}, "default-runtime": "a"}`)
			put(t, h, "/etc/usernamespaces", "dockroot:1879048192:65536:\nalice:1880000000:65536:\n")
		},
		"a byte order mark": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/docker/daemon.json", "\ufeff"+fmt.Sprintf(gateOr(""), ""))
		},
		"userns-remap with a line": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/docker/daemon.json", fmt.Sprintf(gateOr(`"userns-remap": "alice", `), ""))
			put(t, h, "/etc/usernamespaces", "dockroot:1879048192:67108864:\nalice:200000:65536:\n")
			put(t, h, "/etc/subuid", "alice:200000:65536\n")
			put(t, h, "/etc/subgid", "alice:200000:65536\n")
		},
		"vfs that is allowed": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/docker/daemon.json", fmt.Sprintf(gateOr(`"storage-driver": "vfs", `), ""))
			put(t, h, "/etc/userns-runtime/config.toml", "rootfs-dirs = ['/var/lib/docker/vfs']\n")
		},
		"tmpfs is bound plainly": func(t *testing.T, h *host) {
			t.Helper()
			h.try.tmpfs = func() error { return unix.EINVAL }
			h.try.overlay = func() (bool, error) { return false, nil }
			put(t, h, "/etc/userns-runtime/config.toml", "bind-fallback = 'plain'\n")
		},
		"an owner by number": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/userns-runtime/config.toml", "default-owner = 'alice'\n")
			put(t, h, "/etc/usernamespaces", "1000:1879048192:65536:\n")
		},
		"an owner by annotations": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/userns-runtime/config.toml", "default-owner = ''\nannotations = ['owner']\n")
			put(t, h, "/etc/usernamespaces", "bob:1879048192:65536:\n")
		},
		"owners by other roads than default-owner": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/userns-runtime/config.toml", "[[rule]]\nroot = '/run'\nowner = 'bob'\n")
			put(t, h, "/etc/docker/daemon.json", `{"runtimes": {"u": {"path": "/usr/bin/userns-runtime", "runtimeArgs": ["--owner=1000"]}}, "default-runtime": "u"}`)
			put(t, h, "/etc/usernamespaces", "bob:1879048192:65536:\nalice:1880000000:65536:\n")
		},
		"users may not, and none can": func(t *testing.T, h *host) {
			t.Helper()
			remove(t, h, "/usr/bin/podman")
			put(t, h, "/proc/sys/kernel/unprivileged_userns_clone", "0\n")
			put(t, h, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
		},
		"a profile of AppArmor": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
			put(t, h, "/etc/apparmor.d/podman", "profile podman /usr/bin/podman flags=(unconfined) {\n  userns,\n}\n")
		},
		"newuidmap by capability": func(t *testing.T, h *host) {
			t.Helper()
			install(t, h, ownDir+"/newuidmap")
			setCaps(t, h, ownDir+"/newuidmap", 0, 0, 0, 2, 1<<7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
			install(t, h, "/usr/bin/newgidmap")
			chmod(t, h, "/usr/bin/newgidmap", 0o755|os.ModeSetuid)
		},
		"a containerd without CRI": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/etc/containerd/config.toml", "version = 2\ndisabled_plugins = ['cri']\n")
		},
		"others' processes called dockerd": func(t *testing.T, h *host) {
			t.Helper()
			put(t, h, "/proc/77/cmdline", "dockerd\x00--default-runtime=evil\x00")
			put(t, h, "/proc/77/status", "NSpid:\t77\t1\n")
			put(t, h, "/proc/78/cmdline", "dockerd\x00--default-runtime=evil\x00")
			put(t, h, "/proc/78/status", "NSpid:\t78\n")
			if err := os.Chown(h.path("/proc/78"), 1000, 1000); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := soundHost(t)
			do(t, h)
			for _, s := range h.findings() {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Ten things at once are ten findings: one doesn't hide the others.
func TestDoctorAllAtOnce(t *testing.T) {
	h := soundHost(t)
	put(t, h, "/proc/sys/user/max_user_namespaces", "0\n")
	remove(t, h, "/etc/usernamespaces")
	put(t, h, "/etc/userns-runtime/config.toml", "x = 1\n")
	remove(t, h, ownDir)
	install(t, h, "/usr/sbin/runc")
	remove(t, h, "/etc/docker/daemon.json")
	remove(t, h, "/etc/containerd/config.toml")
	install(t, h, "/usr/bin/newuidmap")
	h.try.exposed = func(path string) (string, error) { return path, nil }
	h.try.idmap = func(string) error { return rootfs.ErrNoIDMap }
	h.try.ended = func() (int, error) { return manyEnded, nil }
	subjects := map[string]int{}
	for _, s := range h.findings() {
		subjects[strings.TrimPrefix(s.Subject, h.root)]++
		if s.Mend == "" {
			t.Errorf("no mend: %+v", s)
		}
	}
	for _, want := range []string{"user.max_user_namespaces", "/etc/usernamespaces", "/etc/userns-runtime/config.toml", "/usr/sbin/runc", "docker", "containerd", "podman", "/usr/bin/newuidmap", "/var/lib/docker/volumes", "leases"} {
		if subjects[want] == 0 {
			t.Errorf("%s isn't named: %v", want, subjects)
		}
	}
}

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain: ok":                "plain: ok",
		"\x1b[2Jgone":              `\x1b[2Jgone`,
		"two\nlines\tand <b>&</b>": `two\nlines\tand <b>&</b>`,
		"\u202eleft\x7f\u009b'":    `\u202eleft\x7f\u009b'`,
		"\xff":                     `\xff`,
	} {
		if got := visible(text); got != want {
			t.Errorf("%q: %q, expected %q", text, got, want)
		}
	}
}
