// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

const (
	anOwner = 2900001
	another = 2900002
)

// published is one that was started for an owner, and runs.
func (w *world) published(id string, uid uint32, inode uint64) *Lease {
	w.t.Helper()
	l := w.take(w.request(id))
	w.setUserNS(l, inode)
	m := idmap.Map{{Inner: 0, Outer: l.Range.Start, Count: l.Range.Count}}
	if err := l.Publish(uid, uid, Published{UIDs: m, GIDs: m, Cgroup: "cg-" + id}); err != nil {
		w.t.Fatal(err)
	}
	w.state(id)
	l.Close()
	return l
}

// knows is what an owner finds.
func (w *world) knows(uid uint32) (ids []string) {
	w.t.Helper()
	all, err := ownersRecords(w.publishedDir(), uid)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		ids = append(ids, p.ID+" "+strconv.FormatUint(p.UserNS, 10))
		if p.Root != w.root || len(p.UIDs) != 1 || !p.UIDs.Equal(p.GIDs) || p.Cgroup != "cg-"+p.ID {
			w.t.Errorf("%+v", p)
		}
	}
	slices.Sort(ids)
	return ids
}

func (w *world) isKnown(uid uint32, want ...string) {
	w.t.Helper()
	if got := w.knows(uid); !slices.Equal(got, want) {
		w.t.Errorf("UID %d knows of %q, expected %q", uid, got, want)
	}
}

// What is published goes with its entry, on every road that one goes.
func TestPublishedGoesWithItsEntry(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 9, 100))
	w.isKnown(anOwner)
	w.published("web", anOwner, 71)
	w.published("db", anOwner, 72)
	w.published("other", another, 73)
	w.isKnown(anOwner, "db 72", "web 71")
	w.isKnown(another, "other 73")

	w.deleted("web")
	if err := w.Release(w.KeyOf(w.root, "web")); err != nil {
		t.Fatal(err)
	}
	w.isKnown(anOwner, "db 72")
	w.deleted("other")
	if _, err := w.Collect(); err != nil {
		t.Fatal(err)
	}
	w.isKnown(another)
	if _, err := os.Lstat(filepath.Join(w.publishedDir(), strconv.Itoa(another))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of nothing: %v", err)
	}

	// One that wasn't started after all.
	l := w.take(w.request("never"))
	w.setUserNS(l, 74)
	m := idmap.Map{{Inner: 0, Outer: l.Range.Start, Count: l.Range.Count}}
	if err := l.Publish(anOwner, anOwner, Published{UIDs: m, GIDs: m, Cgroup: "cg-never"}); err != nil {
		t.Fatal(err)
	}
	w.isKnown(anOwner, "db 72", "never 74")
	if err := l.Abandon(); err != nil {
		t.Fatal(err)
	}
	w.isKnown(anOwner, "db 72")
}

// An earlier entry of the same container, of which a process is left, takes nothing from the
// one that came after it.
func TestPublishedOfTheLatest(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 9, 100))
	l := w.published("web", anOwner, 71)
	w.deleted("web")
	w.alive = []LiveNS{{Inode: 71, PID: 1, UIDs: idmap.Map{{Outer: l.Range.Start, Count: 100}}}}
	w.published("web", anOwner, 72)
	w.isKnown(anOwner, "web 72")
	w.alive = nil
	if err := w.Release(w.KeyOf(w.root, "web")); err != nil {
		t.Fatal(err)
	}
	w.isKnown(anOwner, "web 72")
}

// Where the entries were lost, the next start sweeps what isn't alive.
func TestPublishedIsSwept(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 9, 100))
	l := w.published("lives", anOwner, 71)
	w.published("ended", anOwner, 72)
	if err := os.RemoveAll(w.path); err != nil {
		t.Fatal(err)
	}
	w.alive = []LiveNS{{Inode: 71, PID: 1, UIDs: idmap.Map{{Outer: l.Range.Start, Count: 100}}}}
	w.isKnown(anOwner, "ended 72", "lives 71")
	w.published("new", anOwner, 73)
	w.isKnown(anOwner, "lives 71", "new 73")
}

// Only the owner and root look into it, whatever the umask and what was there; and nobody but
// root changes anything.
func TestPublishedIsTheOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("acts as others: needs root")
	}
	dir := t.TempDir()
	for path := dir; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	w := worldAt(t, dir, roomOf(1<<20, 9, 100))
	if err := os.Chmod(filepath.Join(dir, "run"), 0o711); err != nil {
		t.Fatal(err)
	}
	of := filepath.Join(w.publishedDir(), strconv.Itoa(anOwner))
	if err := os.MkdirAll(of, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(of, 0o777); err != nil {
		t.Fatal(err)
	}
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	l := w.published("web", anOwner, 71)
	file := filepath.Join(of, l.name.key())
	for _, row := range []struct {
		uid    uint32
		gid    uint32
		script string
		fine   bool
	}{
		{anOwner, anOwner, "cat " + file, true},
		{anOwner, anOwner, "ls " + of, true},
		{anOwner, anOwner, "echo >> " + file, false},
		{anOwner, anOwner, "chmod u+w " + file, false},
		{anOwner, anOwner, "rm -f " + file, false},
		{anOwner, anOwner, "touch " + of + "/x", false},
		{anOwner, anOwner, "ls " + w.publishedDir(), false},
		{another, another, "cat " + file, false},
		{another, another, "ls " + of, false},
		{another, 0, "cat " + file, false},
		{another, anOwner, "cat " + file, false},
	} {
		cmd := exec.Command("/bin/sh", "-c", row.script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: row.uid, Gid: row.gid}}
		out, err := cmd.CombinedOutput()
		if (err == nil) != row.fine {
			t.Errorf("%d:%d: %s: %v\n%s", row.uid, row.gid, row.script, err, out)
		}
		if row.fine && strings.HasPrefix(row.script, "cat") && !strings.Contains(string(out), `"id":"web"`) {
			t.Errorf("%s", out)
		}
	}
}

// Files of somebody's, or of another version, stop nobody.
func TestPublishedThatCantBeRead(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 9, 100))
	w.published("web", anOwner, 71)
	of := filepath.Join(w.publishedDir(), strconv.Itoa(anOwner))
	for name, text := range map[string]string{
		"later": `{"version":2,"id":"x","userNS":5,"uidMap":"0 1 1","gidMap":"0 1 1"}`, "cut": `{"version":1,"id":`, "empty": "",
		"no ID": `{"version":1,"userNS":5,"uidMap":"0 1 1","gidMap":"0 1 1"}`, "no map": `{"version":1,"id":"x","userNS":5,"uidMap":"x","gidMap":"0 1 1"}`,
	} {
		if err := os.WriteFile(filepath.Join(of, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(of, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(of, "link")); err != nil {
		t.Fatal(err)
	}
	w.isKnown(anOwner, "web 71")
}
