// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// plain is steps without what does them.
func plain(steps []Step) (all []string) {
	for _, s := range steps {
		all = append(all, fmt.Sprintf("%s %s to %s, mode %s, owner %s, state %s, %d paths", s.Action, s.Path, s.To, s.Mode, s.Owner, s.State, s.Paths))
	}
	return all
}

// call does a verb, and wants of it the very steps that it foresaw.
func (w *world) call(verb string) Result {
	w.t.Helper()
	before := w.manifest()
	dry, err := w.do(verb, true)
	w.must(err)
	w.same("a dry run", before, w.manifest())
	out, err := w.do(verb, false)
	w.must(err)
	if !slices.Equal(plain(dry.Steps), plain(out.Steps)) || dry.Root != out.Root || !slices.Equal(dry.Warnings, out.Warnings) {
		w.t.Errorf("%s: foresaw %q, did %q", verb, plain(dry.Steps), plain(out.Steps))
	}
	again, err := w.do(verb, false)
	w.must(err)
	if len(again.Steps) > 0 {
		w.t.Errorf("%s: a second time: %q", verb, plain(again.Steps))
	}
	return out
}

func TestPrepare(t *testing.T) {
	w := newWorld(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for _, dry := range []bool{true, false} {
		out, err := w.do("prepare", dry)
		w.must(err)
		if len(out.Steps) != 4 || out.Root != w.path("200000.200007/docker") {
			t.Errorf("dry %v: %q, %s", dry, plain(out.Steps), out.Root)
		}
	}
	want := ". drwxr-xr-x 0:0\n200000.200007 drwx------ 200000:200007\n200000.200007/docker drwx--x--- 0:0"
	w.same("made", want, w.manifest())
	out := w.call("prepare")
	if len(out.Steps) > 0 {
		t.Errorf("a second time: %q", plain(out.Steps))
	}
	// What somebody has changed is mended; what dockerd has, stays.
	w.must(os.Chmod(w.data, 0o700))
	w.must(os.Chmod(w.path("200000.200007"), 0o755))
	w.must(os.Chown(w.path("200000.200007"), 0, 0))
	w.must(os.Chmod(w.path("200000.200007/docker"), 0o711))
	w.file("200000.200007/docker/image/x", "", 0o600, 0, 0)
	w.call("prepare")
	w.same("mended", strings.Replace(want, "drwx--x---", "drwx--x--x", 1), without(w.manifest(), "200000.200007/docker/"))
}

func TestPrepareRefuses(t *testing.T) {
	w := newWorld(t)
	w.must(os.MkdirAll(w.data, 0o755))
	root := "200000.200007"
	for _, row := range []struct {
		name string
		make func() error
		want string
	}{
		{"data", func() error { return os.Mkdir(w.path("image"), 0o700) }, "has data that isn't in a root: image: expected roots alone: move it to " + w.path("0.0/docker") + ": usernsctl daemon-root migrate --data "},
		{"a link", func() error { return os.Symlink("/etc", w.path(root)) }, "/200000.200007: is a symbolic link in the place of a root"},
		{"a file", func() error { return os.WriteFile(w.path(root), nil, 0o600) }, "is a file in the place of a root"},
		{"a link below", func() error {
			w.must(os.Mkdir(w.path(root), 0o700))
			return os.Symlink("/etc", w.path(root+"/docker"))
		}, "/docker: is a symbolic link in the place of a data root"},
		{"a stranger's", func() error { w.must(os.Mkdir(w.path(root), 0o700)); return os.Chown(w.path(root), 7, 7) }, "belongs to 7:7: expected 200000:200007"},
		{"a stranger's below", func() error {
			w.must(os.MkdirAll(w.path(root+"/docker"), 0o700))
			return os.Chown(w.path(root+"/docker"), 7, 0)
		}, "/docker: belongs to UID 7: expected root"},
		{"open below", func() error {
			w.must(os.MkdirAll(w.path(root+"/docker"), 0o700))
			return os.Chmod(w.path(root+"/docker"), 0o777)
		}, "writable by others"},
		{"dockerd's own", func() error { return os.MkdirAll(w.path(root+"/image"), 0o700) }, "of dockerd's own userns-remap"},
		{"open", func() error { return os.Chmod(w.data, 0o775) }, "docker: has mode 0775, writable by others than root"},
		{"not root's", func() error { return os.Chown(w.data, 7, 0) }, "docker: is owned by UID 7"},
		{"open above", func() error { return os.Chmod(filepath.Dir(w.data), 0o777) }, filepath.Dir(w.data) + ": has mode 0777"},
		{"unfinished", func() error {
			return os.WriteFile(w.path(journalName), []byte(`{"version":1,"state":"migrating","mode":"0710","uid":0,"gid":0}`), 0o600)
		}, "was left in the middle: finish it: usernsctl daemon-root migrate"},
		{"another journal", func() error {
			return os.WriteFile(w.path(journalName), []byte(`{"version":2,"state":"migrated","mode":"0710","uid":0,"gid":0}`), 0o600)
		}, "has version 2"},
		{"a broken journal", func() error { return os.WriteFile(w.path(journalName), []byte(`{`), 0o600) }, "isn't what this program writes"},
		{"a journal of many", func() error {
			w.must(os.WriteFile(w.path(journalName), nil, 0o600))
			return os.Chmod(w.path(journalName), 0o666)
		}, "expected a file of root that nobody else can write"},
		{"a lock for everybody", func() error {
			w.must(os.WriteFile(w.path(lockName), nil, 0o600))
			return os.Chmod(w.path(lockName), 0o644)
		}, "expected a file of root that nobody else can open, and so can't hold"},
		{"a lock elsewhere", func() error { return os.Symlink("/etc/passwd", w.path(lockName)) }, "too many levels of symbolic links"},
		{"a journal elsewhere", func() error { return os.Symlink("/etc/passwd", w.path(journalName)) }, "a symbolic link"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.t = t
			w.must(os.RemoveAll(w.data))
			w.must(os.Mkdir(w.data, 0o755))
			w.must(row.make())
			w.refuses("prepare", row.want)
			w.must(os.Chmod(filepath.Dir(w.data), 0o755))
		})
	}
	for path, want := range map[string]string{
		"docker": "expected the absolute path", "/": "is the whole filesystem", "//": "is the whole filesystem", "/nowhere/at/all": "/nowhere/at/all: its directory",
	} {
		if _, err := w.host.Prepare(path, tenant, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, expected %q", path, err, want)
		}
	}
}

func TestThereAndBack(t *testing.T) {
	w := newWorld(t)
	w.fill()
	w.must(os.Chown(w.data, 0, 4))
	before := w.manifest()
	out := w.call("migrate")
	after := w.manifest()
	if out.Root != w.path("0.0/docker") || len(out.Warnings) != 2 ||
		!strings.Contains(out.Warnings[0], "mine&co: isn't a name that dockerd gives") || !strings.Contains(out.Warnings[1], "containers/c2/config.v2.json: isn't JSON") {
		t.Errorf("root %s, warnings %q", out.Root, out.Warnings)
	}
	// Paths undone, it is the same tree one below.
	undone := strings.ReplaceAll(strings.ReplaceAll(after, w.data+"/0.0/docker", w.data), "\n0.0/docker/", "\n")
	for _, l := range []string{"0.0 drwx------ 0:0", "0.0/docker drwx--x--- 0:4", ". drwxr-xr-x 0:0"} {
		if !strings.Contains(undone, l+"\n") {
			t.Errorf("%s is missing", l)
		}
		undone = strings.Replace(undone, l+"\n", "", 1)
	}
	undone = without(undone, journalName)
	all := append(strings.Split(undone, "\n"), ". drwx--x--- 0:4")
	slices.Sort(all)
	w.same("migrated, paths undone", before, strings.Join(all, "\n"))
	for _, want := range []string{
		`"LogPath":"` + w.data + `/0.0/docker/containers/c0/c0-json.log"`, `"Source":"` + w.data + `/0.0/docker/mine\u0026co"`, `"` + w.data + `/0.0/docker/mine\u0026co:/m:ro"`,
		`"MountDevice":"` + w.data + `/0.0/docker/mine\u0026co"`, `"Cmd":["` + w.data + `/volumes"]`, `"n":1.50e1`,
	} {
		if !strings.Contains(after, strings.ReplaceAll(strings.ReplaceAll(want, `\`, `\\`), `"`, `\"`)) {
			t.Errorf("%s is missing in\n%s", want, after)
		}
	}
	// Another root beside it, as long as it is empty, and what dockerd makes in the meantime.
	w.call("prepare")
	w.must(os.Chmod(w.path("0.0/docker"), 0o711))
	w.call("restore")
	w.same("restored", before, w.manifest())
}

func TestMigrateRefuses(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		name string
		make func() error
		want string
	}{
		{"in the way", func() error { return os.MkdirAll(w.path("0.0/docker/image"), 0o700) }, "0.0/docker: has image already, which would be in the way"},
		{"other things in 0.0", func() error { return os.MkdirAll(w.path("0.0/x"), 0o700) }, "0.0: has x: expected docker alone"},
		{"a link for 0.0", func() error { return os.Symlink("/etc", w.path("0.0")) }, "0.0: is a symbolic link in the place of a root"},
		{"a file for 0.0/docker", func() error {
			w.must(os.Mkdir(w.path("0.0"), 0o700))
			return os.WriteFile(w.path("0.0/docker"), nil, 0o600)
		}, "0.0/docker: is a file"},
		{"a stranger's 0.0", func() error { w.must(os.Mkdir(w.path("0.0"), 0o700)); return os.Chown(w.path("0.0"), 7, 7) }, "belongs to 7:7"},
		{"a link for a tenant", func() error { return os.Symlink("/etc", w.path("5.5")) }, "5.5: is a symbolic link in the place of a root"},
		{"a relative link", func() error { return os.Symlink("../x", w.path("x")) }, "x: is a symbolic link to ../x, which would lead elsewhere"},
		{"a link into it", func() error { return os.Symlink(w.path("image"), w.path("x")) }, "which would lead elsewhere"},
		{"a link for containers", func() error {
			w.must(os.Rename(w.path("containers"), w.data+".c"))
			return os.Symlink(w.data+".c", w.path("containers"))
		}, "containers: is a symbolic link to " + w.data + ".c: expected the directory itself"},
		{"a link for a container's file", func() error { return os.Symlink("/etc/passwd", w.path("containers/c2/hostconfig.json")) }, "hostconfig.json: a symbolic link is on the way"},
		{"a FIFO for a container's file", func() error { return unix.Mkfifo(w.path("containers/c2/hostconfig.json"), 0o600) }, "hostconfig.json: isn't a regular file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.t = t
			w.must(os.RemoveAll(w.data + ".c"))
			w.fill()
			w.must(row.make())
			w.refuses("migrate", row.want)
		})
	}
	w.t = t
	w.must(os.RemoveAll(w.data))
	w.refusesMissing("migrate")
	w.refusesMissing("restore")
}

func (w *world) refusesMissing(verb string) {
	w.t.Helper()
	if _, err := w.do(verb, false); err == nil || !strings.Contains(err.Error(), "no such file") {
		w.t.Errorf("%s: got %v", verb, err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		name string
		make func() error
		want string
	}{
		{"another root has data", func() error { return os.MkdirAll(w.path("5.6/docker/image"), 0o700) }, "5.6/docker: has data (image): expected none in any root but 0.0"},
		{"another root has something", func() error { return os.MkdirAll(w.path("5.6/x"), 0o700) }, "5.6: has x: expected docker alone"},
		{"in the way", func() error { return os.Mkdir(w.path("builder"), 0o700) }, "has builder, which would be in the way"},
		{"a link for the data", func() error {
			w.must(os.Rename(w.path("0.0/docker"), w.data+".d"))
			return os.Symlink(w.data+".d", w.path("0.0/docker"))
		}, "0.0/docker: is a symbolic link in the place of a data root"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.t = t
			w.must(os.RemoveAll(w.data + ".d"))
			w.fill()
			_, err := w.do("migrate", false)
			w.must(err)
			w.must(row.make())
			w.refuses("restore", row.want)
		})
	}
	w.t = t
	// A data root of dockerd's userns-remap, and fsck's directory, stay in any case.
	w.fill()
	w.file("7.7/image/x", "", 0o600, 0, 0)
	w.must(os.Mkdir(w.path("lost+found"), 0o700))
	before := w.manifest()
	w.call("migrate")
	for _, rel := range []string{"7.7/image/x", "lost+found"} {
		if _, err := os.Lstat(w.path(rel)); err != nil {
			t.Error(err)
		}
	}
	w.call("restore")
	w.same("restored", before, w.manifest())
}

// A migration that met what had begun on both sides isn't finished over anything.
func TestUnfinishedAndStarted(t *testing.T) {
	w := newWorld(t)
	w.fill()
	w.killAt(24, "migrate")
	w.must(os.Remove(w.path(lockName)))
	moved, err := os.ReadDir(w.path("0.0/docker"))
	w.must(err)
	if len(moved) == 0 {
		t.Fatal("nothing was moved yet")
	}
	w.must(os.MkdirAll(w.path(moved[0].Name()), 0o700)) // as a dockerd would that was started then
	w.refuses("migrate", "has "+moved[0].Name()+" already, which would be in the way")
	w.refuses("restore", "has "+moved[0].Name()+", which would be in the way")
	w.refuses("prepare", "was left in the middle")
}

// What a dockerd makes that was started in between isn't taken for migrated.
func TestStartedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.fill()
	s, err := w.host.open(w.data, false)
	w.must(err)
	defer s.close()
	plan, err := s.planMigrate()
	w.must(err)
	w.must(os.Mkdir(w.path("builder"), 0o700))
	before := without(w.manifest(), lockName)
	if err := s.carryOut(plan.Steps, s.planRestore); err == nil || !strings.Contains(err.Error(), "has builder, which came while the rest was moved") {
		t.Errorf("got %v", err)
	}
	w.same("undone", before, without(w.manifest(), lockName))
}

const immutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h

// What fails in the middle is undone at once.
func TestFailureIsUndone(t *testing.T) {
	w := newWorld(t)
	w.fill()
	// tmpfs and ext4 have it both; nothing of what is immutable can be renamed.
	swarm, err := os.Open(w.path("swarm"))
	w.must(err)
	defer swarm.Close()
	if err := unix.IoctlSetPointerInt(int(swarm.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		t.Skipf("no file can be immutable here: %v", err)
	}
	defer func() { _ = unix.IoctlSetPointerInt(int(swarm.Fd()), unix.FS_IOC_SETFLAGS, 0) }()
	before := w.manifest()
	_, err = w.do("migrate", false)
	if err == nil || !strings.Contains(err.Error(), "swarm: move to ") || !strings.HasSuffix(err.Error(), "what was done before is undone") {
		t.Errorf("got %v", err)
	}
	w.same("undone", before, w.manifest())
}

// A disk that is full, whenever that shows, leaves all as it was.
func TestDiskFull(t *testing.T) {
	w := newWorld(t)
	disk := filepath.Dir(w.data) + "/disk"
	w.must(os.Mkdir(disk, 0o755))
	w.must(unix.Mount("disk", disk, "tmpfs", 0, "size=400k"))
	defer func() { _ = unix.Unmount(disk, unix.MNT_DETACH) }()
	w.data = disk + "/docker"
	w.fill()
	// The journal of migrate keeps its room, so that it ends in the middle too.
	for _, row := range []struct {
		verb  string
		least int
	}{{"migrate", 2}, {"restore", 1}} {
		verb := row.verb
		before := w.manifest()
		ballast, err := os.Create(disk + "/ballast")
		w.must(err)
		_, err = ballast.Write(make([]byte, 1<<20))
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk isn't full: %v", err)
		}
		size, err := ballast.Seek(0, io.SeekEnd)
		w.must(err)
		failures := 0
		for {
			if _, err = w.do(verb, false); err == nil {
				break
			}
			if failures++; !errors.Is(err, unix.ENOSPC) || size < 0 {
				t.Fatal(err)
			}
			w.same(verb+": "+err.Error(), before, w.manifest())
			size -= int64(os.Getpagesize())
			w.must(ballast.Truncate(size))
		}
		if failures < row.least {
			t.Errorf("%s: it was full %d times: expected %d", verb, failures, row.least)
		}
		w.must(ballast.Close())
		w.must(os.Remove(disk + "/ballast"))
	}
}

// Roots that were prepared and never used go, and what dockerd has in the super-root meanwhile stays.
func TestRestoreUnused(t *testing.T) {
	w := newWorld(t)
	w.must(os.Mkdir(w.data, 0o710))
	w.call("prepare")
	w.call("restore")
	w.same("without roots", ". drwx--x--- 0:0", w.manifest())
	w.call("prepare")
	w.file("image/x", "", 0o600, 0, 0)
	w.call("restore")
	if got := without(w.manifest(), "image"); got != ". drwx--x--- 0:0" {
		t.Error(got)
	}
}

func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t)
	w.fill()
	s, err := w.host.open(w.data, false)
	w.must(err)
	old := patience
	defer func() { patience = old }()
	patience = 50 * time.Millisecond
	w.refuses("migrate", "another call works on it")
	patience = old
	done := make(chan error)
	go func() { _, err := w.do("migrate", false); done <- err }()
	select {
	case err := <-done:
		t.Fatalf("it didn't wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.close()
	w.must(<-done)
}

// A symbolic link in the super-root's place is followed, as dockerd does, whose files have the path that
// it leads to.
func TestLinkedSuperRoot(t *testing.T) {
	w := newWorld(t)
	w.fill()
	before := w.manifest()
	real := w.data
	w.must(os.Symlink(real, real+".link"))
	w.data = real + ".link"
	out, err := w.do("migrate", false)
	w.must(err)
	if out.Root != real+"/0.0/docker" {
		t.Errorf("root %s", out.Root)
	}
	if text, err := os.ReadFile(real + "/0.0/docker/containers/c0/config.v2.json"); err != nil || !strings.Contains(string(text), `"LogPath":"`+real+`/0.0/docker/`) {
		t.Errorf("%s, %v", text, err)
	}
	_, err = w.do("restore", false)
	w.must(err)
	w.data = real
	w.same("restored", before, w.manifest())
}
