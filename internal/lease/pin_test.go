// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// mounted makes the mount table of the host say that these user namespaces are pinned: each is
// OWNER/NAME=NUMBER.
func (w *world) mounted(pins ...string) {
	w.t.Helper()
	text := "22 1 0:21 / /run rw - tmpfs tmpfs rw\n23 22 0:4 net:[77] /run/netns/x rw - nsfs nsfs rw\n" +
		"24 22 0:4 user:[78] /run/elsewhere rw - nsfs nsfs rw\n"
	for i, p := range pins {
		at, number, _ := strings.Cut(p, "=")
		text += fmt.Sprintf("%d 22 0:4 user:[%s] %s/%s rw - nsfs nsfs rw\n", 30+i, number, PinDir, at)
	}
	w.mounts = filepath.Join(filepath.Dir(w.root), "mountinfo")
	if err := os.WriteFile(w.mounts, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func pinOf(owner, name string, inode uint64, ids idmap.Set) Request {
	return Request{Key: PinKey(owner, name), Owner: owner, Names: []string{owner, "1000"}, Exactly: ids, UserNS: inode}
}

func TestKeyOfAPin(t *testing.T) {
	key := PinKey("alice", "dev")
	if !key.IsPin() || key.ID != "alice/dev" || !strings.HasPrefix(key.text(), pinPrefix) {
		t.Errorf("%+v: %s", key, key.text())
	}
	for _, other := range []Key{{}, {Root: PinDir}, {Root: PinDir, ID: "alice/dev", MountNS: 1}, {Root: "/run/runc", ID: "alice/dev"}} {
		if other.IsPin() {
			t.Errorf("%+v is a container's", other)
		}
	}
	ids := idmap.NewSet(idmap.Range{Start: 5, Count: 7})
	for _, e := range []Entry{{Key: key, Ranges: ids, UserNS: 71}, {Key: key, Ranges: ids, UserNS: 711}} {
		if n := e.name(); !n.pin() || !n.isOf(key.text()) || n.isOf(PinKey("alice", "de").text()) {
			t.Errorf("%s", n.text)
		}
	}
	if n := (Entry{Key: Key{Root: "/r", ID: "x", MountNS: 5}, Ranges: ids}).name(); n.pin() || n.isOf(key.text()) {
		t.Errorf("%s", n.text)
	}
}

// A pin lies over what its owner holds, and the other way round, by whatever name; over nobody
// else's.
func TestPinsOverlapTheirOwnersOnly(t *testing.T) {
	all := roomOf(1<<20, 2, 100)
	w := newWorld(t, all)
	w.mounted("alice/dev=71")
	w.take(pinOf("alice", "dev", 71, all.Free)).Close()
	w.isState("alice/dev", Pinned)

	one := w.container("one")
	numbered := w.request("two")
	numbered.Owner, numbered.Names = "1000", []string{"1000", "alice"}
	two := w.take(numbered)
	w.state("two")
	if one.Overlaps(two.Range) {
		t.Errorf("containers share IDs: %s, %s", one, two.Range)
	}
	full := refused[*FullError](w, w.request("three"))
	if full.Places != 2 || len(full.Holders) != 2 {
		t.Errorf("%v: pins take no container's place", full)
	}
	exact := w.exactly("four", all.Free)
	exact.Owner = "bob"
	if held := refused[*HeldError](w, exact); held.By.ID == "" {
		t.Error(held)
	}
	w.deleted("one")
	w.deleted("two")
	two.Close()
	if held := refused[*HeldError](w, exact); held.By.Key != PinKey("alice", "dev") {
		t.Error(held)
	}
	stranger := w.request("five")
	stranger.Owner, stranger.Names = "bob", []string{"bob", "1001"}
	if full := refused[*FullError](w, stranger); len(full.Holders) != 1 || !strings.Contains(full.Error(), "pin alice/dev") {
		t.Error(full)
	}
	if held := refused[*HeldError](w, pinOf("bob", "dev", 72, all.Free)); !strings.HasSuffix(held.Error(), "held by pin alice/dev") {
		t.Error(held)
	}
	// A second one of hers, and one over a container of hers.
	w.container("one")
	w.mounted("alice/dev=71", "alice/x=73")
	w.take(pinOf("alice", "x", 73, all.Free)).Close()
	w.isState("alice/x", Pinned)
	// Nobody owns what isn't known to be anybody's.
	if (Request{}).ofOwner("") || (Request{Names: []string{""}}).ofOwner("") {
		t.Error("no owner is an owner")
	}
}

// A pin lives as long as its mount, and is somebody's as long as somebody is in the namespace. Each of
// its namespaces has an entry.
func TestPinStates(t *testing.T) {
	all := roomOf(1<<20, 2, 100)
	w := newWorld(t, all)
	w.mounted()
	l := w.take(pinOf("alice", "dev", 71, all.Free))
	w.isState("alice/dev", Starting)
	l.Close()
	w.isState("alice/dev", Ended)
	w.mounted("bob/other=71") // wherever it is
	w.isState("alice/dev", Pinned)
	w.mounted("alice/dev=72")
	w.isState("alice/dev", Ended)

	// Whoever is in it keeps it.
	w.alive = []LiveNS{{Inode: 71, PID: 1, UIDs: idmap.Map{{Outer: 1 << 20, Count: 200}}}}
	w.isState("alice/dev", Process)
	w.take(pinOf("alice", "dev", 72, all.Free)).Close()
	if all := w.files(); len(all) != 2 {
		t.Errorf("%q", all)
	}
	if err := w.Release(PinKey("alice", "dev")); err != nil {
		t.Fatal(err)
	}
	if all := w.files(); len(all) != 2 {
		t.Errorf("%q", all)
	}
	w.mounted()
	if err := w.Release(PinKey("alice", "dev")); err != nil {
		t.Fatal(err)
	}
	if held := refused[*HeldError](w, pinOf("bob", "dev", 73, all.Free)); held.By.UserNS != 71 || held.By.Alive != 1 {
		t.Error(held)
	}
	w.alive = nil
	w.take(pinOf("bob", "dev", 73, all.Free))
}

// What a process in a pin has doesn't keep a container of its owner's alive that has ended.
func TestPinsAnswerForWhoIsInThem(t *testing.T) {
	all := roomOf(1<<20, 2, 100)
	w := newWorld(t, all)
	w.mounted("alice/dev=71")
	w.take(pinOf("alice", "dev", 71, all.Free)).Close()
	w.container("one")
	w.alive = []LiveNS{{Inode: 71, PID: 1, UIDs: idmap.Map{{Outer: 1 << 20, Count: 200}}}}
	w.isState("one", Container)
	w.deleted("one")
	w.isState("one", Ended)
}

// A namespace that nobody is in any more, and that is open: in another process, and then in flight
// between two, where only its handle shows it.
func TestPinStillOpen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("makes a user namespace: needs root")
	}
	child, err := linux.ParkInNewUserNS()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := child.UserNS()
	if err := errors.Join(err, child.Close()); err != nil {
		t.Fatal(err)
	}
	all := roomOf(1<<20, 2, 100)
	w := newWorld(t, all)
	w.mounted()
	r, err := pinOf("alice", "dev", 0, all.Free).OfPin(ns)
	if err != nil {
		t.Fatal(err)
	}
	w.take(r).Close()
	w.isState("alice/dev", StillOpen)
	// As on a kernel without handles.
	old := r
	old.Key, old.handle = PinKey("alice", "old"), ""
	w.take(old).Close()

	holder := exec.Command("sleep", "1000")
	holder.Stdin = ns
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	handle := r.handle
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(ns.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	ns.Close()
	held := refused[*HeldError](w, pinOf("bob", "dev", 73, all.Free))
	if held.By.State != StillOpen || held.By.Alive != holder.Process.Pid || !strings.Contains(held.Error(), "process "+strconv.Itoa(holder.Process.Pid)+" has its user namespace open") {
		t.Errorf("%v", held)
	}
	w.isState("alice/old", StillOpen)
	_ = holder.Process.Kill()
	_ = holder.Wait()
	w.isState("alice/old", Ended)
	if handle == "" {
		t.Log("this kernel has no handles of namespaces, so what is in flight isn't seen")
	} else {
		w.isState("alice/dev", StillOpen)
		if held := refused[*HeldError](w, pinOf("bob", "dev", 73, all.Free)); !strings.Contains(held.Error(), "somebody has its user namespace open") {
			t.Errorf("%v", held)
		}
	}
	if err := errors.Join(unix.Close(pair[0]), unix.Close(pair[1])); err != nil {
		t.Fatal(err)
	}
	// The kernel takes it away a little later.
	for tries := 0; w.states()["alice/dev"] != Ended && tries < 200; tries++ {
		time.Sleep(10 * time.Millisecond)
	}
	w.isState("alice/dev", Ended)
	if handle != "" {
		// Its number is another's by now.
		w.alive = []LiveNS{{Inode: r.UserNS, PID: os.Getpid(), UIDs: idmap.Map{{Outer: 1 << 20, Count: 200}}}}
		w.isState("alice/dev", Ended)
	}
}

func TestMountTable(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2, 100))
	w.mounted("alice/dev=71", "alice/a/b=72", "alice=73", `o\040dd/x=74`)
	pins, err := w.pins()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(pins)
	if want := "[{alice dev 71 /run/userns/alice/dev} {o dd x 74 /run/userns/o dd/x}]"; got != want {
		t.Errorf("got %s, expected %s", got, want)
	}
	w.mounts = "/no/such/table"
	if _, err := w.pins(); err == nil {
		t.Error("a table that can't be read is an empty one")
	}
	w.mounts = ""
	if pins, err := w.pins(); err != nil || pins != nil {
		t.Errorf("of a user's own leases: %v, %v", pins, err)
	}
}

// Who deletes the directory meanwhile keeps nobody from the lock.
func TestLockPinsWhileTheDirectoryIsLost(t *testing.T) {
	s := &Store{path: filepath.Join(t.TempDir(), "userns-runtime", "leases")}
	ended := make(chan bool)
	gone := make(chan bool)
	go func() {
		defer close(gone)
		for {
			select {
			case <-ended:
				return
			default:
				_ = os.RemoveAll(filepath.Dir(s.path))
			}
		}
	}()
	for range 500 {
		unlock, err := s.LockPins()
		if err != nil {
			t.Error(err)
			break
		}
		unlock()
	}
	close(ended)
	<-gone
}
