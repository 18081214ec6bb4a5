// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// spoil writes a file of the directory, as somebody else would.
func (w *world) spoil(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.path, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) text(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.path, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// lose deletes the directory, under whatever lives.
func (w *world) lose() {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Dir(w.path)); err != nil {
		w.t.Fatal(err)
	}
}

func TestDirectory(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	w := newWorld(t, roomOf(1<<20, 2, 100))
	// Questions make nothing.
	if all, err := w.List(); err != nil || all != nil {
		t.Errorf("%v %v", all, err)
	}
	if removed, err := w.Collect(); err != nil || removed != nil {
		t.Errorf("%v %v", removed, err)
	}
	if err := w.Release(w.KeyOf(w.root, "web")); err != nil {
		t.Error(err)
	}
	if holds, err := w.Holds(w.KeyOf(w.root, "web")); err != nil || holds {
		t.Errorf("%v %v", holds, err)
	}
	if _, err := os.Lstat(filepath.Dir(w.path)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	l := w.take(w.request("web"))
	for path, want := range map[string]fs.FileMode{
		filepath.Dir(w.path):                 fs.ModeDir | 0o711,
		w.path:                               fs.ModeDir | 0o700,
		filepath.Join(w.path, l.name.text):   0o600,
		filepath.Join(w.path, indexName):     0o600,
		filepath.Join(w.path, bootLink):      fs.ModeSymlink | 0o777,
		filepath.Join(w.path, "..", "other"): 0,
	} {
		st, err := os.Lstat(path)
		if want == 0 {
			if err == nil {
				t.Errorf("%s is there", path)
			}
			continue
		}
		if err != nil || st.Mode() != want {
			t.Errorf("%s: %v %v, want %v", path, st.Mode(), err, want)
		}
	}
	if err := l.Abandon(); err != nil {
		t.Fatal(err)
	}
	// Not one regular file is left of nothing.
	if all, err := os.ReadDir(w.path); err != nil || len(all) != 1 || all[0].Name() != bootLink {
		t.Errorf("%v %v", all, err)
	}
}

func TestDirectoryOfOthersIsRefused(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2, 100))
	l := w.container("web")
	for _, mode := range []fs.FileMode{0o777, 0o770, 0o701, 0o710, 0o1777} {
		if err := os.Chmod(w.path, mode); err != nil {
			t.Fatal(err)
		}
		if mode == 0o1777 {
			if err := unix.Chmod(w.path, 0o1777); err != nil {
				t.Fatal(err)
			}
		}
		for what, err := range map[string]error{
			"Acquire": func() error { _, err := w.Acquire(w.request("x")); return err }(),
			"List":    func() error { _, err := w.List(); return err }(),
			"Collect": func() error { _, err := w.Collect(); return err }(),
			"Release": w.Release(w.KeyOf(w.root, "x")),
		} {
			if err == nil || !strings.Contains(err.Error(), "chmod 0700 "+w.path) || !strings.Contains(err.Error(), w.path+": UID ") {
				t.Errorf("mode %o: %s: %v", mode, what, err)
			}
		}
	}
	// What the error says mends it.
	if err := os.Chmod(w.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := w.take(w.request("x")); got.Range.Overlaps(l) {
		t.Errorf("%v and %v", got.Range, l)
	}
}

func TestDirectoryOfAnotherOwnerIsRefused(t *testing.T) {
	requireRoot(t)
	w := newWorld(t, roomOf(1<<20, 2, 100))
	w.container("web")
	if err := os.Chown(w.path, 1234, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Acquire(w.request("y")); err == nil || !strings.Contains(err.Error(), "UID 1234 owns it") {
		t.Error(err)
	}
}

// A link in the place of the directory leads nowhere, whatever it points to.
func TestDirectoryThatIsALink(t *testing.T) {
	for _, target := range []string{"real", "nowhere"} {
		w := newWorld(t, roomOf(1<<20, 2, 100))
		above := filepath.Dir(w.path)
		if err := errors.Join(os.Mkdir(above, 0o711), os.Mkdir(filepath.Join(above, "real"), 0o700), os.Symlink(target, w.path)); err != nil {
			t.Fatal(err)
		}
		if l, err := w.Acquire(w.request("x")); err == nil || !strings.Contains(err.Error(), w.path) {
			t.Errorf("%s: %v %v", target, l, err)
		}
		if all, err := os.ReadDir(filepath.Join(above, "real")); err != nil || len(all) != 0 {
			t.Errorf("%s: %v %v", target, all, err)
		}
	}
}

func TestNoPlaceForTheDirectory(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2, 100))
	if err := os.Remove(filepath.Dir(filepath.Dir(w.path))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Acquire(w.request("x")); err == nil || !strings.Contains(err.Error(), filepath.Dir(w.path)) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Dir(filepath.Dir(w.path)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Acquire(w.request("x")); err == nil || !strings.Contains(err.Error(), filepath.Dir(w.path)) {
		t.Error(err)
	}
}

// The file of an entry may have been cut off, emptied or filled with anything: what its name says is
// held while somebody has it locked, and free after.
func TestEntriesThatAreBroken(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "cut off": `{"version":1,"owner":"al`, "garbage": "\x00\xff{{", "of nobody": "{}", "a list": "[1,2]", "null": "null",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, roomOf(1<<20, 1, 100))
			l := w.take(w.request("web"))
			w.spoil(l.name.text, text)
			refused[*FullError](w, w.request("x"))
			held := refused[*HeldError](w, w.exactly("x", setOf(1<<20, 1)))
			if !strings.Contains(held.Error(), "an entry of which no more is known than that it has [1048576-1048676)") {
				t.Error(held)
			}
			// Nor does the same container get by it.
			if got, err := w.Acquire(w.request("web")); err == nil {
				t.Errorf("the same container has %v", got.Range)
			}
			// Its namespace isn't known any more, but its IDs are.
			l.Close()
			w.alive = []LiveNS{process(99, idmap.Range{Start: 1<<20 + 99, Count: 1})}
			refused[*FullError](w, w.request("x"))
			w.alive = nil
			if got := w.take(w.request("x")); !slices.Equal(w.files(), []string{got.name.text}) {
				t.Errorf("%v", w.files())
			}
		})
	}
}

// One that a killed start left before it wrote anything is in the way of nobody.
func TestEmptyEntryOfAKilledStart(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 1, 100))
	l := w.take(w.request("web"))
	empty := l.name.text
	if err := l.Abandon(); err != nil {
		t.Fatal(err)
	}
	w.spoil(empty, "")
	w.take(w.request("web"))
	// And none of what is made again.
	w = newWorld(t, roomOf(1<<20, 2, 100))
	w.alive = []LiveNS{process(77, idmap.Range{Start: 1 << 20, Count: 100})}
	w.take(w.request("web"))
	var rebuilt string
	for _, f := range w.files() {
		if strings.Contains(f, "."+alivePrefix) {
			rebuilt = f
		}
	}
	if rebuilt == "" {
		t.Fatalf("%v", w.files())
	}
	w.spoil(rebuilt, "")
	if err := os.Remove(filepath.Join(w.path, bootLink)); err != nil {
		t.Fatal(err)
	}
	refused[*FullError](w, w.request("x"))
}

func TestFilesThatAreNoEntries(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2, 100))
	w.container("web")
	for _, name := range []string{"README", ".hidden", "100.x", "1-0.x", "1048576-100", "1048576-4294967295.x", "many", "1048576-100."} {
		w.spoil(name, "{}")
	}
	if err := os.Mkdir(filepath.Join(w.path, "a-directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.take(w.request("x"))
	if all, err := w.List(); err != nil || len(all) != 2 {
		t.Errorf("%+v %v", all, err)
	}
	if removed, err := w.Collect(); err != nil || removed != nil {
		t.Errorf("%+v %v", removed, err)
	}
	if got := len(w.files()); got != 2+9 {
		t.Errorf("%v", w.files())
	}
}

// What has the name of an entry and isn't a file is named, not followed, not waited for, and makes
// nothing free.
func TestNamesOfEntriesThatAreNoFiles(t *testing.T) {
	for kind, make := range map[string]func(path string) error{
		"symlink":       func(path string) error { return os.Symlink("/etc/passwd", path) },
		"broken link":   func(path string) error { return os.Symlink("nowhere", path) },
		"FIFO":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"link to entry": func(path string) error { return os.Symlink(bootLink, path) },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, roomOf(1<<20, 1, 100))
			w.take(w.exactly("web", setOf(5000, 1)))
			path := filepath.Join(w.path, "1048576-100.fool")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			done := time.AfterFunc(20*time.Second, func() { panic("it waits for a " + kind) })
			defer done.Stop()
			if l, err := w.Acquire(w.request("x")); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%v %v", l, err)
			}
			if _, err := w.List(); err == nil || !strings.Contains(err.Error(), path) {
				t.Error(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatalf("it was removed: %v", err)
			}
			w.take(w.request("x"))
		})
	}
}

func TestOtherBoot(t *testing.T) {
	for _, link := range []string{"0a0b0c0d-0000-4000-8000-000000000000", "x", "0a0b0c0d-0000-4000-8000-000000000000 4026531836"} {
		w := newWorld(t, roomOf(1<<20, 4, 100))
		l := w.take(w.request("web"))
		l.Close()
		// By number alone it would be alive.
		w.alive = []LiveNS{process(77, idmap.Range{Start: 5, Count: 5})}
		w.container("other")
		path := filepath.Join(w.path, bootLink)
		if err := errors.Join(os.Remove(path), os.Symlink(link, path)); err != nil {
			t.Fatal(err)
		}
		// Whoever only asks changes nothing, and isn't fooled.
		before := w.files()
		for id, state := range w.states() {
			if state != Ended {
				t.Errorf("%s is %s", id, state)
			}
		}
		if got := w.files(); !slices.Equal(got, before) {
			t.Errorf("%v, before %v", got, before)
		}
		got := w.take(w.request("new"))
		if files := w.files(); len(files) != 2 || !slices.Contains(files, got.name.text) || !slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(f, "5-5.") }) {
			t.Errorf("%s: of another boot there is still %v", link, files)
		}
		to, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(to, w.boot) {
			t.Errorf("%s %v", to, err)
		}
	}
}

func TestCollectOfAnotherBoot(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 4, 100))
	w.container("a")
	w.container("b")
	path := filepath.Join(w.path, bootLink)
	if err := errors.Join(os.Remove(path), os.Symlink("another", path)); err != nil {
		t.Fatal(err)
	}
	if removed, err := w.Collect(); err != nil || len(removed) != 2 || w.files() != nil {
		t.Errorf("%v %v, left %v", removed, err, w.files())
	}
}

// Without the link nobody knows whether all that is alive has an entry: what is there is kept, and
// what lives gets one.
func TestBootMissing(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 3, 100))
	web := w.container("web")
	if err := os.Remove(filepath.Join(w.path, bootLink)); err != nil {
		t.Fatal(err)
	}
	var free idmap.Range
	for i := range w.all.places() {
		if free = w.all.place(i); free != web {
			break
		}
	}
	w.alive = []LiveNS{process(77, free)}
	got := w.take(w.request("x"))
	if got.Range.Overlaps(web) || got.Range.Overlaps(free) {
		t.Errorf("%v beside %v and %v", got.Range, web, free)
	}
	w.isState("web", Container)
	w.isState("", Process)
	held := refused[*HeldError](w, w.exactly("y", idmap.NewSet(free)))
	if !strings.Contains(held.Error(), "process 4711, in user namespace 77, which nobody has a lease for") {
		t.Error(held)
	}
	// Its end is seen by whoever deletes a container.
	w.alive = nil
	if err := w.Release(w.KeyOf(w.root, "z")); err != nil {
		t.Fatal(err)
	}
	if _, there := w.states()[""]; there {
		t.Errorf("%v", w.files())
	}
}

func TestRebuildOfWhatLives(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 6, 100))
	w.container("a")
	w.container("b")
	extent := func(outer, count uint32) idmap.Map { return idmap.Map{{Inner: 0, Outer: outer, Count: count}} }
	w.alive = []LiveNS{
		process(77, w.all.place(0)),
		{Inode: 78, PID: 2, UIDs: extent(1<<20+100, 100), GIDs: extent(1<<20+200, 100)},
		{Inode: 79, PID: 3, UIDs: extent(5, 5), GIDs: extent(5, 5)}, // not of the book
		{PID: 4, UIDs: extent(1<<20+300, 1), GIDs: nil},             // its number isn't known
		{PID: 5, UIDs: extent(1<<20+300, 1), GIDs: nil},             // and of the same IDs
		{Inode: 80, PID: 6, UIDs: nil, GIDs: extent(1<<20+400, 10)},
		{Inode: 81, PID: 7, Has: setOf(1<<20+450, 1)}, // not mapped yet
		// The host's own IDs aren't anybody's range.
		{Inode: 82, PID: 8, UIDs: extent(0, 1<<31), GIDs: extent(0, 1<<31)},
	}
	w.lose()
	l := w.take(w.request("x"))
	if l.Range != w.all.place(5) {
		t.Errorf("%v, of which something is alive", l.Range)
	}
	full := refused[*FullError](w, w.request("y"))
	if len(full.Holders) < 5 {
		t.Errorf("%v", full)
	}
	for _, ids := range []idmap.Set{setOf(1<<20+99, 1), setOf(1<<20+299, 1), setOf(1<<20+300, 1), setOf(1<<20+409, 1), setOf(1<<20+450, 1)} {
		refused[*HeldError](w, w.exactly("z", ids))
	}
	w.take(w.exactly("z", setOf(1<<20+301, 99)))
	// A second time there is nothing more to make.
	if err := os.Remove(filepath.Join(w.path, bootLink)); err != nil {
		t.Fatal(err)
	}
	before := w.files()
	if err := w.take(w.exactly("zz", setOf(4000, 1))).Abandon(); err != nil {
		t.Fatal(err)
	}
	after := w.files()
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		t.Errorf("%v\nbefore %v", after, before)
	}
	w.alive = nil
	if _, err := w.Collect(); err != nil {
		t.Fatal(err)
	}
	if got := len(w.files()); got != 2 {
		t.Errorf("%v", w.files())
	}
}

// A live namespace with more IDs than its entry, or another one in its place, isn't what the entry
// answers for.
func TestRebuildBesideEntries(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 4, 100))
	a := w.take(w.request("a"))
	w.setUserNS(a, 77)
	outside := uint32(a.Range.End())
	if w.all.place(3) == a.Range {
		outside = a.Range.Start - 1
	}
	for name, more := range map[string]LiveNS{
		"another one":                        {Inode: 78, PID: 5},
		"as after the number has come again": {Inode: 77, PID: 5},
	} {
		more.UIDs = idmap.Map{{Inner: 0, Outer: outside, Count: 1}, {Inner: 1, Outer: a.Range.Start, Count: 1}}
		w.alive = []LiveNS{process(77, a.Range), more}
		if err := os.Remove(filepath.Join(w.path, bootLink)); err != nil {
			t.Fatal(err)
		}
		z := w.take(w.exactly("z", setOf(4000, 1)))
		refused[*HeldError](w, w.exactly("x", setOf(outside, 1)))
		if got := len(w.files()); got != 3 {
			t.Errorf("%s: %v", name, w.files())
		}
		w.alive = nil
		if err := z.Abandon(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Collect(); err != nil {
			t.Fatal(err)
		}
	}
}

// The directory is deleted while starts are under way: nothing of theirs is visible but the
// descriptors that they hold.
func TestRecoverOfStartsUnderWay(t *testing.T) {
	w := newWorld(t, roomOf(1<<22, 1, 100))
	h := startHelper(t, nil, "acquire", w.path, w.root, "web", strconv.Itoa(1<<22), "1", "100")
	for range 2 { // the second time of what was made from it
		w.lose()
		l, err := w.Acquire(w.request("x"))
		full, ok := errors.AsType[*FullError](err)
		if !ok {
			t.Fatalf("%+v %v", l, err)
		}
		if len(full.Holders) != 1 || full.Holders[0].ID != "web" || full.Holders[0].PID != h.Process.Pid || full.Holders[0].State != Starting {
			t.Errorf("%+v", full)
		}
		if l, err := w.Acquire(w.request("web")); !errors.Is(err, ErrExists) {
			t.Errorf("%+v %v", l, err)
		}
	}
	if removed, err := w.Collect(); err != nil || removed != nil {
		t.Errorf("%v %v", removed, err)
	}
	h.end()
	w.isState("web", Ended)
	w.take(w.request("x"))
	if _, there := w.states()["web"]; there {
		t.Errorf("%v", w.files())
	}
}

// A copy of an entry whose file was lost is held while the very process lives that has it locked, and not by
// another one that has got its number.
func TestRecoveredIsHeldByOneProcess(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 1, 100))
	l := w.take(w.request("web"))
	l.Close()
	start, err := linux.StartTime("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	e := l.entry
	e.recovered, e.start = true, start
	w.spoil(l.name.text, string(e.text()))
	w.isState("web", Starting)
	refused[*FullError](w, w.request("x"))
	e.start = "1"
	w.spoil(l.name.text, string(e.text()))
	w.isState("web", Ended)
	// The number alone isn't enough for an entry that has a lock of its own either.
	e.start, e.recovered = start, false
	w.spoil(l.name.text, string(e.text()))
	w.isState("web", Ended)
	w.take(w.request("x"))
}

// A process with a file of that name open that isn't the host's own says nothing.
func TestRecoverIgnoresOthersFiles(t *testing.T) {
	requireRoot(t)
	w := newWorld(t, roomOf(1<<22, 1, 100))
	dir := filepath.Join(filepath.Dir(w.root), "leases")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "4194304-100.0123")
	if err := os.WriteFile(path, []byte(`{"version":1,"id":"fool","ranges":[[4194304,100]]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	w.take(w.request("x"))
}

// An entry from another PID namespace, whose processes can't be seen from here, is held.
func TestEntryOfAnotherPIDNamespace(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 1, 100))
	w.own.pid = 4026539001
	l := w.take(w.request("web"))
	l.Close()
	w.isState("web", Ended)
	w.own.pid = 4026539002
	w.isState("web", Process)
	refused[*FullError](w, w.request("x"))
	if removed, err := w.Collect(); err != nil || removed != nil {
		t.Errorf("%v %v", removed, err)
	}
	// The host sees all.
	w.own.pid = initPIDNS
	w.isState("web", Ended)
	w.take(w.request("x"))
}

// One who can't see all has a directory made again: the host doesn't believe that it is whole.
func TestDirectoryMadeFromBelow(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2, 100))
	w.own.pid = initPIDNS
	web := w.container("web")
	alive := []LiveNS{process(77, web)}
	w.lose()
	w.own.pid = 4026539001 // sees nothing
	below := w.take(w.exactly("below", setOf(4000, 1)))
	w.own.pid, w.alive = initPIDNS, alive
	if got := w.take(w.request("x")); got.Range.Overlaps(web) {
		t.Errorf("%v, which is alive", got.Range)
	}
	refused[*FullError](w, w.request("y"))
	refused[*HeldError](w, w.exactly("z", below.entry.Ranges))
	// Nor another one that sees other things.
	w.own.pid, w.alive = 4026539002, []LiveNS{process(78, idmap.Range{Start: 6000, Count: 1})}
	w.lose()
	w.take(w.exactly("c", setOf(4001, 1)))
	w.own.pid, w.alive = 4026539001, []LiveNS{process(79, idmap.Range{Start: 7000, Count: 1})}
	w.take(w.exactly("d", setOf(4002, 1)))
	for _, id := range []uint32{4001, 4002, 6000, 7000} {
		refused[*HeldError](w, w.exactly("e", setOf(id, 1)))
	}
}

// The engine has a mount namespace of its own, where its --root is another directory of that name.
func TestStateInAnotherMountNamespace(t *testing.T) {
	requireRoot(t)
	w := newWorld(t, roomOf(1<<20, 1, 100))
	h := &helper{Cmd: exec.Command("unshare", "--mount", "sh", "-ec",
		`mount -t tmpfs tmpfs "$1"; mkdir "$1/web"; : >"$1/web/state.json"; readlink /proc/self/ns/mnt; exec cat`, "sh", w.root)}
	h.start(t)
	there, ok := namespaceNumber(h.said)
	if !ok {
		t.Fatal(h.said)
	}
	r := w.request("web")
	r.Key.MountNS = there
	l := w.take(r)
	l.Close()
	w.isState("web", Container)
	refused[*FullError](w, w.request("x"))
	if _, err := w.Acquire(r); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	// The path alone says nothing: here it leads elsewhere.
	if _, err := w.Acquire(w.request("web")); errors.Is(err, ErrExists) {
		t.Error(err)
	}
	h.end()
	w.isState("web", Ended)
	w.take(w.request("x"))
}

// privateMounts gives the test's thread a mount namespace of its own, which ends with it.
func privateMounts(t *testing.T) {
	t.Helper()
	requireRoot(t)
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

// smallWorld is one on a tmpfs of its own with these options.
func smallWorld(t *testing.T, options string) *world {
	t.Helper()
	privateMounts(t)
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(run, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return worldAt(t, dir, roomOf(1<<20, 100, 100))
}

func TestFullFilesystem(t *testing.T) {
	for _, options := range []string{"size=4k", "size=12k", "nr_inodes=2", "nr_inodes=3", "nr_inodes=4", "nr_inodes=5", "nr_inodes=6", "nr_inodes=8"} {
		t.Run(options, func(t *testing.T) {
			w := smallWorld(t, options)
			var taken []*Lease
			var ids idmap.Set
			for i := range 20 {
				before := w.files()
				l, err := w.Acquire(w.request("c" + strconv.Itoa(i)))
				if err != nil {
					if !errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), unix.ENOSPC.Error()) || !strings.Contains(err.Error(), filepath.Dir(filepath.Dir(w.path))) {
						t.Errorf("%v", err)
					}
					after := w.files()
					slices.Sort(before)
					slices.Sort(after)
					if !slices.Equal(before, after) {
						t.Errorf("left: %v, before %v", after, before)
					}
					break
				}
				w.setUserNS(l, 1<<62) // longer than before
				taken = append(taken, l)
				if !ids.Intersect(idmap.NewSet(l.Range)).Empty() {
					t.Fatalf("%v beside %v", l.Range, ids)
				}
				ids = ids.Union(idmap.NewSet(l.Range))
			}
			if len(taken) == 20 {
				t.Fatal("it wasn't full")
			}
			// All that is held stays so, and room is made by those that go.
			for _, l := range taken {
				if _, err := w.Acquire(w.exactly("x", idmap.NewSet(l.Range))); err == nil || strings.Contains(err.Error(), "bug") {
					t.Error(err)
				}
				if err := l.Abandon(); err != nil {
					t.Error(err)
				}
			}
			if left := w.files(); left != nil {
				t.Errorf("left: %v", left)
			}
			if len(taken) > 0 {
				w.take(w.request("again"))
			}
		})
	}
}

func TestReadOnlyFilesystem(t *testing.T) {
	w := smallWorld(t, "")
	w.container("a")
	run := filepath.Dir(filepath.Dir(w.path))
	if err := unix.Mount("", run, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Acquire(w.request("b")); err == nil || !strings.Contains(err.Error(), w.path) {
		t.Errorf("%v %v", got, err)
	}
	w.deleted("a")
	if err := w.Release(w.KeyOf(w.root, "a")); !errors.Is(err, unix.EROFS) {
		t.Error(err)
	}
	if err := unix.Mount("", run, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	w.take(w.request("b"))
}

// The index says what a list of the directory would.
func (w *world) indexIsRight(when string) {
	w.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(w.path, &st); err != nil {
		w.t.Fatal(err)
	}
	entries, sealed := sealOf(&st)
	if !sealed {
		return
	}
	files := slices.DeleteFunc(w.files(), func(f string) bool { _, err := parseName(f); return err != nil })
	var indexed []string
	if text, err := os.ReadFile(filepath.Join(w.path, indexName)); err == nil {
		names, _ := parseIndex(string(text))
		for _, n := range names {
			indexed = append(indexed, n.text)
		}
	}
	slices.Sort(files)
	slices.Sort(indexed)
	if entries != len(files) || !slices.Equal(files, indexed) {
		w.t.Fatalf("%s: sealed with %d, entries %v, index %v", when, entries, files, indexed)
	}
}

func TestIndex(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 400, 10))
	var all []*Lease
	for i := range 300 {
		all = append(all, w.take(w.request("c"+strconv.Itoa(i))))
		w.indexIsRight(fmt.Sprint("after start ", i))
	}
	for i, l := range all {
		if i%3 == 0 {
			continue
		}
		if err := l.Abandon(); err != nil {
			t.Fatal(err)
		}
		w.indexIsRight(fmt.Sprint("after the end of ", i))
		if i%7 == 0 {
			w.take(w.request("d" + strconv.Itoa(i)))
			w.indexIsRight(fmt.Sprint("after a start beside ", i))
		}
	}
	for i, l := range all {
		holds, err := w.Holds(l.entry.Key)
		if err != nil || i%3 == 0 && !holds {
			t.Errorf("c%d: %v %v", i, holds, err)
		}
	}
}

// What others do to the directory or to the index is found out, and costs time alone.
func TestIndexThatLies(t *testing.T) {
	for name, spoil := range map[string]func(w *world, held string) error{
		"no index":         func(w *world, _ string) error { return os.Remove(filepath.Join(w.path, indexName)) },
		"an entry removed": func(w *world, held string) error { return os.Remove(filepath.Join(w.path, held)) },
		"an empty index":   func(w *world, _ string) error { return os.Truncate(filepath.Join(w.path, indexName), 0) },
		"an index cut off": func(w *world, _ string) error { return os.Truncate(filepath.Join(w.path, indexName), 50) },
		"a file added":     func(w *world, _ string) error { w.spoil("README", ""); return nil },
		"everything gone":  func(w *world, _ string) error { return exec.Command("sh", "-c", `rm -f "$1"/*`, "sh", w.path).Run() },
		"gone but the boot": func(w *world, _ string) error {
			return exec.Command("sh", "-c", `rm -f "$1"/[0-9i]*`, "sh", w.path).Run()
		},
		"index a FIFO": func(w *world, _ string) error {
			path := filepath.Join(w.path, indexName)
			return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600))
		},
		"index a directory": func(w *world, _ string) error {
			path := filepath.Join(w.path, indexName)
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, roomOf(1<<20, 4, 100))
			var held []idmap.Range
			for i := range 3 {
				l := w.take(w.request("c" + strconv.Itoa(i)))
				w.setUserNS(l, uint64(100+i))
				w.state("c" + strconv.Itoa(i))
				l.Close()
				w.alive = append(w.alive, process(uint64(100+i), l.Range))
				held = append(held, l.Range)
			}
			if err := spoil(w, w.files()[1]); err != nil {
				t.Fatal(err)
			}
			done := time.AfterFunc(20*time.Second, func() { panic("it waits for a FIFO") })
			defer done.Stop()
			l, err := w.Acquire(w.request("x"))
			if strings.HasPrefix(name, "index a ") && err != nil {
				if !strings.Contains(err.Error(), filepath.Join(w.path, indexName)) {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if slices.ContainsFunc(held, l.Range.Overlaps) {
				t.Errorf("%v beside %v", l.Range, held)
			}
			w.indexIsRight(name)
			refused[*FullError](w, w.request("y"))
		})
	}
}

// Whoever is killed in the middle leaves a directory that the next one finds out about: the seal is
// broken by the first change, and comes last.
func TestSealIsBrokenByAnyChange(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 4, 100))
	l := w.take(w.request("a"))
	sec, err := w.lockAndLoad()
	if err != nil {
		t.Fatal(err)
	}
	if !sec.whole {
		t.Error("it isn't whole after a start")
	}
	w.spoil("1-1.x", "")
	_ = sec.dir.Close() // as by SIGKILL
	if sec, err = w.lockAndLoad(); err != nil {
		t.Fatal(err)
	}
	if sec.whole || len(sec.names) != 2 {
		t.Errorf("whole %v, %v", sec.whole, sec.names)
	}
	_ = sec.dir.Close()
	w.take(w.request("b"))
	w.indexIsRight("at the end")
	if bytes.Contains([]byte(w.text(l.name.text)), []byte("\x00")) {
		t.Error("the entry was touched")
	}
}

// What is removed by hand while we have the directory locked isn't sealed over, where that can be told.
func TestChangedUnderTheLock(t *testing.T) {
	w := smallWorld(t, "")
	web := w.take(w.request("web"))
	w.setUserNS(web, 77)
	web.Close()
	w.state("web")
	w.alive = []LiveNS{process(77, web.Range)}
	sec, err := w.lockAndLoad()
	if err != nil {
		t.Fatal(err)
	}
	e := anEntry
	e.Ranges = setOf(4000, 1)
	f, _, err := sec.write(e)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(filepath.Join(w.path, web.name.text)); err != nil {
		t.Fatal(err)
	}
	sec.unlock()
	if l, err := w.Acquire(w.exactly("x", idmap.NewSet(web.Range))); err == nil {
		t.Errorf("%v was given, which is alive", l.entry.Ranges)
		l.Close()
	}
	w.indexIsRight("at the end")
}

// Whoever waited for the lock of a directory that isn't the directory any more has locked nothing.
func TestReplacedWhileWaiting(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 1, 100))
	if err := w.take(w.request("first")).Abandon(); err != nil {
		t.Fatal(err)
	}
	sec, err := w.lockAndLoad()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(sec.dir.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	waiter := make(chan error)
	go func() {
		l, err := w.Acquire(w.request("waiter"))
		if err == nil {
			err = fmt.Errorf("it got %v", l.Range)
			l.Close()
		}
		waiter <- err
	}()
	// A request that waits is marked by an arrow (proc(5), /proc/locks).
	waits := fmt.Sprintf(":%d ", st.Ino)
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		locks, err := os.ReadFile("/proc/locks")
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for line := range strings.Lines(string(locks)) {
			found = found || strings.Contains(line, "-> FLOCK") && strings.Contains(line, waits)
		}
		if found {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("nobody waits for %s:\n%s", waits, locks)
		}
	}
	if err := os.Rename(w.path, w.path+"-before"); err != nil {
		t.Fatal(err)
	}
	got := w.take(w.request("second"))
	sec.unlock()
	if full, ok := errors.AsType[*FullError](<-waiter); !ok || len(full.Holders) != 1 || full.Holders[0].ID != "second" {
		t.Errorf("%v, beside %v", full, got.Range)
	}
}
