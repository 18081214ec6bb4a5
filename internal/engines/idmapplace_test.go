// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// idmapHost is a host with shadow's programs and ours.
func idmapHost(t *testing.T) Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("file capabilities: needs root")
	}
	h := dpkgHost(t)
	for _, m := range IDMappers {
		h.put(t, m.Path, "shadow's")
		h.put(t, m.Own(IDMapDir), "ours")
		must(t, os.Chmod(h.path(m.Path), 0o755|os.ModeSetuid), os.Chmod(h.path(m.Own(IDMapDir)), 0o755), linux.GiveOnly(h.path(m.Own(IDMapDir)), m.Caps))
	}
	return h
}

func TestDivertIDMap(t *testing.T) {
	h := idmapHost(t)
	was := h.tree(t)
	must(t, unix.Removexattr(h.path(IDMappers[1].Own(IDMapDir)), "security.capability"))
	out, err := h.DivertIDMap(IDMapDir, true)
	must(t, err)
	var steps []string
	for _, s := range out.Steps {
		steps = append(steps, s.Action+" "+s.File+" "+s.To)
	}
	want := `setcap /usr/libexec/userns-runtime/newgidmap cap_setgid=p
mkdir /usr/libexec/userns-runtime/shadow 0700
divert /usr/bin/newuidmap /usr/libexec/userns-runtime/shadow/newuidmap
link /usr/bin/newuidmap /usr/libexec/userns-runtime/newuidmap
divert /usr/bin/newgidmap /usr/libexec/userns-runtime/shadow/newgidmap
link /usr/bin/newgidmap /usr/libexec/userns-runtime/newgidmap`
	if got := strings.Join(steps, "\n"); got != want || h.tree(t) != was || len(out.Warnings) > 0 {
		t.Errorf("a dry run: got\n%s\nwant\n%s\n%q", got, want, out.Warnings)
	}
	_, err = h.DivertIDMap(IDMapDir, false)
	must(t, err)
	for _, m := range IDMappers {
		if to, err := os.Readlink(h.path(m.Path)); err != nil || to != m.Own(IDMapDir) {
			t.Errorf("%s: %q, %v", m.Path, to, err)
		}
		if is, err := linux.GivesOnly(h.path(m.Own(IDMapDir)), m.Caps); err != nil || !is {
			t.Errorf("%s: %v, %v", m.Own(IDMapDir), is, err)
		}
	}
	if info, err := os.Stat(h.path(IDMapAside)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("what is set aside can be reached: %v, %v", info, err)
	}
	flags := registry.Flags{DenySetgroups: true, NoNewPrivs: true}
	if got := h.Unheld()(flags); got != "no-new-privs" {
		t.Errorf("not held: %s", got)
	}
	if dir, is, err := h.IDMapDiverted(); dir != IDMapDir || !is || err != nil {
		t.Errorf("%q, %v, %v", dir, is, err)
	}
	now := h.tree(t)
	out, err = h.DivertIDMap(IDMapDir, false)
	if err != nil || len(out.Steps) > 0 || h.tree(t) != now {
		t.Errorf("a second time: %+v, %v", out, err)
	}
	// Lost capabilities are a reason to do it again.
	must(t, unix.Removexattr(h.path(IDMappers[0].Own(IDMapDir)), "security.capability"))
	out, err = h.DivertIDMap(IDMapDir, false)
	if err != nil || len(out.Steps) != 1 || out.Steps[0].Action != "setcap" {
		t.Errorf("capabilities lost: %+v, %v", out, err)
	}
	if is, err := linux.GivesOnly(h.path(IDMappers[0].Own(IDMapDir)), IDMappers[0].Caps); err != nil || !is {
		t.Errorf("capabilities lost, and again: %v, %v", is, err)
	}
	// Engines have nothing to do with it, nor has runc.
	if states, err := h.states(); err != nil || len(states) > 0 {
		t.Errorf("taken for an engine's: %v, %v", states, err)
	}
	if _, err := h.Undivert(free, false); !errors.Is(err, ErrNotConfigured) {
		t.Errorf("runc: %v", err)
	}
	// An upgrade puts shadow's where dpkg has it.
	h.put(t, IDMapAside+"/newuidmap", "shadow's, newer")
	_, err = h.UndivertIDMap(false)
	must(t, err)
	if text, err := os.ReadFile(h.path(IDMappers[0].Path)); string(text) != "shadow's, newer" {
		t.Errorf("%q, %v", text, err)
	}
	h.put(t, IDMappers[0].Path, "shadow's")
	if h.tree(t) != was || h.diversions(t) != "" {
		t.Errorf("undone: %s\n%swant\n%s", h.diversions(t), h.tree(t), was)
	}
	if _, err := h.UndivertIDMap(false); !errors.Is(err, ErrNotConfigured) {
		t.Errorf("undo of nothing: %v", err)
	}
	if got := h.Unheld()(flags); got != "deny-setgroups,no-new-privs" {
		t.Errorf("not held by shadow's: %s", got)
	}
	if _, is, err := h.IDMapDiverted(); is || err != nil {
		t.Errorf("%v, %v", is, err)
	}
}

// setuid says whether what is open gives its owner's privileges to who executes it.
func setuid(t *testing.T, f *os.File) bool {
	t.Helper()
	info, err := f.Stat()
	must(t, err)
	return info.Mode()&os.ModeSetuid != 0
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// Whoever has shadow's open, or another name of it, has a program without privileges: what comes back is a copy.
func TestDivertIDMapDisarms(t *testing.T) {
	h := idmapHost(t)
	was := h.tree(t)
	held := open(t, h.path(IDMappers[0].Path))
	must(t, unix.Fsetxattr(int(held.Fd()), "user.kept", []byte("x"), 0), linux.GiveOnly(h.path(IDMappers[0].Path), IDMappers[0].Caps))
	before, err := held.Stat()
	must(t, err)
	_, err = h.DivertIDMap(IDMapDir, false)
	must(t, err)
	if setuid(t, held) {
		t.Error("who has it open is root by it")
	}
	if n, err := unix.Fgetxattr(int(held.Fd()), "security.capability", nil); !errors.Is(err, unix.ENODATA) {
		t.Errorf("who has it open has its file capabilities: %d, %v", n, err)
	}
	_, err = h.UndivertIDMap(false)
	must(t, err)
	if h.tree(t) != was {
		t.Errorf("undone:\n%swant\n%s", h.tree(t), was)
	}
	back := open(t, h.path(IDMappers[0].Path))
	after, err := back.Stat()
	must(t, err)
	if has, err := linux.GivesOnly(h.path(IDMappers[0].Path), IDMappers[0].Caps); err != nil || !has || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("what came back: %v, %v, %v, before %v", has, err, after, before)
	}
	kept := make([]byte, 1)
	if _, err := unix.Fgetxattr(int(back.Fd()), "user.kept", kept); err != nil || string(kept) != "x" {
		t.Errorf("an attribute of what came back: %q, %v", kept, err)
	}
}

// A kill at any step leaves a program at both paths, and never shadow's setuid ones for others beside ours.
func TestDivertIDMapKilled(t *testing.T) {
	for _, verb := range []string{"divert-idmap", "undivert-idmap"} {
		for n := 1; ; n++ {
			h := idmapHost(t)
			was := h.tree(t)
			held := open(t, h.path(IDMappers[0].Path))
			if verb == "undivert-idmap" {
				_, err := h.DivertIDMap(IDMapDir, false)
				must(t, err)
			}
			if !dies(t, h, n, verb, "-", "-") {
				if n < 7 {
					t.Fatalf("%s: only %d steps", verb, n)
				}
				break
			}
			at := fmt.Sprintf("%s, killed at step %d", verb, n)
			for _, m := range IDMappers {
				if _, err := os.Lstat(h.path(m.Path)); err != nil {
					t.Errorf("%s: %v", at, err)
				}
			}
			if info, err := os.Stat(h.path(IDMapAside)); err == nil && info.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v", at, info.Mode())
			}
			if n%2 == 0 {
				_, err := h.DivertIDMap(IDMapDir, false)
				must(t, err)
				if setuid(t, held) {
					t.Errorf("%s, and done again: who has it open is root by it", at)
				}
			}
			if _, err := h.UndivertIDMap(false); err != nil && !errors.Is(err, ErrNotConfigured) {
				t.Fatalf("%s: %v", at, err)
			}
			if h.tree(t) != was || h.diversions(t) != "" {
				t.Fatalf("%s, and undone: %s\n%swant\n%s", at, h.diversions(t), h.tree(t), was)
			}
		}
	}
}

func TestDivertIDMapRefuses(t *testing.T) {
	ours, shadows := IDMappers[0].Own(IDMapDir), IDMappers[1].Path
	for name, tc := range map[string]struct {
		do   func(t *testing.T, h Host) error
		want string
	}{
		"ours isn't there":     {func(_ *testing.T, h Host) error { return os.Remove(h.path(ours)) }, ours + ": isn't there: `make install`"},
		"ours can be changed":  {func(_ *testing.T, h Host) error { return os.Chmod(h.path(ours), 0o777) }, "has mode 0777"},
		"ours is another's":    {func(_ *testing.T, h Host) error { return os.Chown(h.path(ours), 12345, 0) }, "is owned by UID 12345"},
		"ours is setuid":       {func(_ *testing.T, h Host) error { return os.Chmod(h.path(ours), 0o755|os.ModeSetuid) }, "is setuid or setgid"},
		"ours is root's alone": {func(_ *testing.T, h Host) error { return os.Chmod(h.path(ours), 0o700) }, "everybody may execute"},
		"ours is a link": {func(_ *testing.T, h Host) error {
			return errors.Join(os.Remove(h.path(ours)), os.Symlink("/bin/true", h.path(ours)))
		}, "isn't a program"},
		"one is there":  {func(_ *testing.T, h Host) error { return os.Remove(h.path(shadows)) }, shadows + ": no package has it there, and it goes with the other"},
		"aside is open": {func(_ *testing.T, h Host) error { return os.Mkdir(h.path(IDMapAside), 0o755) }, "is reached by others than root"},
		"aside is another's": {func(_ *testing.T, h Host) error {
			return errors.Join(os.Mkdir(h.path(IDMapAside), 0o700), os.Chown(h.path(IDMapAside), 12345, 0))
		}, "is owned by UID 12345"},
		"aside is a link": {func(_ *testing.T, h Host) error { return os.Symlink("/tmp", h.path(IDMapAside)) }, "isn't a directory (Lrwxrwxrwx)"},
		"diverted by others": {func(_ *testing.T, h Host) error {
			_, err := h.dpkg("--no-rename", "--divert", shadows+".x", "--package", "other", "--add", shadows)
			return err
		}, "is diverted to " + shadows + ".x already (other)"},
		"something of that name": {func(t *testing.T, h Host) error {
			h.put(t, IDMapAside+"/newuidmap", "x")
			return os.Chmod(h.path(IDMapAside), 0o700)
		}, "is there, and so is " + IDMapAside + "/newuidmap"},
	} {
		t.Run(name, func(t *testing.T) {
			h := idmapHost(t)
			must(t, tc.do(t, h))
			was, knows := h.tree(t), h.diversions(t)
			for _, dry := range []bool{true, false} {
				_, err := h.DivertIDMap(IDMapDir, dry)
				wantError(t, err, tc.want)
			}
			if h.tree(t) != was || h.diversions(t) != knows {
				t.Errorf("refused, and something has changed: %s\n%s", h.diversions(t), h.tree(t))
			}
		})
	}
}

func TestUncoveredIDMap(t *testing.T) {
	h := idmapHost(t)
	h.put(t, "/usr/local/bin/newgidmap", "x")
	must(t, os.MkdirAll(h.path("/usr/local/sbin"), 0o755), os.Symlink(h.path(IDMappers[0].Own(IDMapDir)), h.path("/usr/local/sbin/newuidmap")))
	out, err := h.DivertIDMap(IDMapDir, true)
	must(t, err)
	if len(out.Warnings) != 1 || !strings.HasPrefix(out.Warnings[0], "/usr/local/bin/newgidmap: is another newgidmap, which isn't diverted") {
		t.Errorf("got %q", out.Warnings)
	}
}
