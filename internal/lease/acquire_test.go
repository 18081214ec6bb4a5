// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// helperEnv says what a copy of the test's program does instead of the tests.
const helperEnv = "LEASE_TEST_HELPER"

func init() {
	if os.Getenv(helperEnv) != "" {
		// main is to stay on the process' first thread.
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	what := strings.Fields(os.Getenv(helperEnv))
	if len(what) == 0 {
		os.Exit(m.Run())
	}
	if err := help(what[0], what[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// help is a process of its own: it says a line, and ends with its standard input.
func help(what string, args []string) error {
	switch what {
	case "acquire": // DIRECTORY ROOT ID START PLACES SIZE
		var n [3]uint32
		for i := range n {
			number, err := idmap.ParseID(args[3+i])
			if err != nil {
				return err
			}
			n[i] = number
		}
		mount, err := namespaceOf("/proc/thread-self/ns/mnt")
		if err != nil {
			return err
		}
		s, err := openAt(args[0], mount)
		if err != nil {
			return err
		}
		s.live = func() ([]LiveNS, error) { return nil, nil }
		room := roomOf(n[0], n[1], n[2])
		l, err := s.Acquire(Request{Key: s.KeyOf(args[1], args[2]), Owner: "alice", Rooms: []Room{room}})
		if err != nil {
			return err
		}
		if err := l.Keep(3); err != nil {
			return err
		}
		fmt.Println(l.Range.Start)
	case "one-thread-less":
		go func() {
			for {
				stat, err := os.ReadFile("/proc/self/stat")
				if err == nil && strings.Contains(string(stat), ") Z ") {
					break
				}
				runtime.Gosched()
			}
			fmt.Println("ready")
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		_, _, errno := unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
		return fmt.Errorf("exit: %w", errno)
	case "live": // prints what it sees of the process whose number it is told
		return helpLive()
	default:
		return fmt.Errorf("unknown helper: %s", what)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// helper is a running copy of the test's program.
type helper struct {
	*exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said string // its first line
}

func startHelper(t *testing.T, attr *unix.SysProcAttr, what ...string) *helper {
	t.Helper()
	h := &helper{Cmd: exec.Command("/proc/self/exe")}
	h.Env = append(os.Environ(), helperEnv+"="+strings.Join(what, " "))
	h.SysProcAttr = attr
	return h.start(t)
}

// start waits for the first line.
func (h *helper) start(t *testing.T) *helper {
	t.Helper()
	var err error
	if h.in, err = h.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs := new(strings.Builder)
	h.Stderr = errs
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.end() })
	h.out = bufio.NewReader(out)
	said, err := h.out.ReadString('\n')
	if err != nil {
		_ = h.Wait()
		t.Fatalf("%v: it said %q and then %v: %s", h.Args, said, err, errs)
	}
	h.said = strings.TrimSpace(said)
	return h
}

func (h *helper) end() {
	_ = h.in.Close()
	_ = h.Process.Kill()
	_ = h.Wait()
}

// world is a store in a directory of the test's own, with what is alive there by the test's word.
type world struct {
	*Store
	t     *testing.T
	root  string // the engine's --root
	alive []LiveNS
	all   Room // what is granted
}

func newWorld(t *testing.T, all Room) *world {
	t.Helper()
	return worldAt(t, t.TempDir(), all)
}

func worldAt(t *testing.T, dir string, all Room) *world {
	t.Helper()
	mount, err := namespaceOf("/proc/thread-self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, root: filepath.Join(dir, "engine"), all: all}
	if err := os.MkdirAll(w.root, 0o700); err != nil {
		t.Fatal(err)
	}
	if w.Store, err = openAt(filepath.Join(dir, "run", "userns-runtime", "leases"), mount); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.live = func() ([]LiveNS, error) { return w.alive, nil }
	return w
}

func (w *world) request(id string) Request {
	return Request{Key: w.KeyOf(w.root, id), Owner: "alice", Rooms: []Room{w.all}}
}

// exactly is a request for these very IDs.
func (w *world) exactly(id string, ids idmap.Set) Request {
	r := w.request(id)
	r.Exactly = ids
	return r
}

// take has to succeed, and to give what was foreseen. What it gives is closed at the end.
func (w *world) take(r Request) *Lease {
	w.t.Helper()
	before := w.files()
	foreseen, foreseenErr := w.Foresee(r)
	if after := w.files(); !slices.Equal(before, after) {
		w.t.Errorf("%s: to foresee it has changed %v to %v", r.Key.ID, before, after)
	}
	l, err := w.Acquire(r)
	if err != nil {
		w.t.Fatalf("%s: %v", r.Key.ID, err)
	}
	if foreseenErr != nil || foreseen != l.Range {
		w.t.Errorf("%s: got %v, and %v was foreseen: %v", r.Key.ID, l.Range, foreseen, foreseenErr)
	}
	w.t.Cleanup(l.Close)
	return l
}

// container is one that runs: its creator has ended, and the low-level runtime has its state.
func (w *world) container(id string) idmap.Range {
	w.t.Helper()
	l := w.take(w.request(id))
	w.state(id)
	l.Close()
	return l.Range
}

// state makes the low-level runtime's state of a container.
func (w *world) state(id string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Join(w.root, id), 0o711); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.root, id, RuncStateName), nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleted(id string) {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.root, id)); err != nil {
		w.t.Fatal(err)
	}
}

// refused says that there is an error of that kind, and that nothing was taken.
func refused[E error](w *world, r Request) E {
	w.t.Helper()
	before := w.files()
	_, foreseen := w.Foresee(r)
	l, err := w.Acquire(r)
	if _, ok := errors.AsType[E](foreseen); !ok {
		w.t.Errorf("%s: got %v, and foreseen was %v", r.Key.ID, err, foreseen)
	}
	if err == nil {
		l.Close()
		w.t.Fatalf("%s got %v", r.Key.ID, l.entry.Ranges)
	}
	e, ok := errors.AsType[E](err)
	if !ok {
		w.t.Fatalf("%s: %T: %v", r.Key.ID, err, err)
	}
	for _, now := range w.files() {
		if !slices.Contains(before, now) {
			w.t.Errorf("%s was refused, and %s is there", r.Key.ID, now)
		}
	}
	return e
}

// files is the entries there are.
func (w *world) files() (out []string) {
	w.t.Helper()
	all, err := os.ReadDir(w.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != bootLink && e.Name() != indexName {
			out = append(out, e.Name())
		}
	}
	return out
}

// states is the states of all entries, by the container's ID.
func (w *world) states() map[string]State {
	w.t.Helper()
	all, err := w.List()
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]State{}
	for _, s := range all {
		out[s.ID] = s.State
	}
	return out
}

func (w *world) isState(id string, want State) {
	w.t.Helper()
	if got := w.states()[id]; got != want {
		w.t.Errorf("%s is %q, want %q", id, got, want)
	}
}

func (w *world) setUserNS(l *Lease, inode uint64) {
	w.t.Helper()
	if err := l.SetUserNS(inode); err != nil {
		w.t.Fatal(err)
	}
}

// process is a live namespace with these IDs.
func process(inode uint64, r idmap.Range) LiveNS {
	m := idmap.Map{{Inner: 0, Outer: r.Start, Count: r.Count}}
	return LiveNS{Inode: inode, PID: 4711, UIDs: m, GIDs: m}
}

func TestAcquireAtOnce(t *testing.T) {
	const places = 100
	w := newWorld(t, roomOf(1<<20, places, 1000))
	got := make([]*Lease, places)
	errs := make([]error, places)
	var all sync.WaitGroup
	for i := range places {
		all.Go(func() { got[i], errs[i] = w.Acquire(w.request("c" + strconv.Itoa(i))) })
	}
	all.Wait()
	var ids idmap.Set
	for i, l := range got {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		defer l.Close()
		if l.Range.Count != 1000 || (l.Range.Start-w.all.IDs.Start)%1000 != 0 || !w.all.Free.Contains(l.Range) {
			t.Errorf("container %d has %v", i, l.Range)
		}
		ids = ids.Union(idmap.NewSet(l.Range))
	}
	if ids.Len() != places*1000 {
		t.Errorf("%d containers have %d IDs: %v", places, ids.Len(), ids)
	}
	full := refused[*FullError](w, w.request("one-more"))
	if full.Places != places || len(full.Holders) != places || full.Size != 1000 {
		t.Errorf("%+v", full)
	}
	var abandoned sync.WaitGroup
	for _, l := range got {
		abandoned.Go(func() {
			if err := l.Abandon(); err != nil {
				t.Error(err)
			}
		})
	}
	abandoned.Wait()
	if left := w.files(); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestAcquireAtOnceByProcesses(t *testing.T) {
	const n = 40
	w := newWorld(t, roomOf(1<<21, n, 10))
	all := make([]*helper, n)
	var started sync.WaitGroup
	for i := range all {
		started.Go(func() {
			all[i] = startHelper(t, nil, "acquire", w.path, w.root, "p"+strconv.Itoa(i), strconv.Itoa(1<<21), strconv.Itoa(n), "10")
		})
	}
	started.Wait()
	seen := map[string]bool{}
	for _, h := range all {
		if h == nil {
			t.FailNow()
		}
		if seen[h.said] {
			t.Errorf("two have %s", h.said)
		}
		seen[h.said] = true
	}
	refused[*FullError](w, w.request("one-more"))
	// Killed, they hold nothing any more.
	for _, h := range all {
		h.end()
	}
	if removed, err := w.Collect(); err != nil || len(removed) != n {
		t.Errorf("%d entries had ended: %v", len(removed), err)
	}
	if left := w.files(); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestSameContainerTwice(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 10, 100))
	l := w.take(w.request("web"))
	exists := func(when string) {
		t.Helper()
		if got, err := w.Acquire(w.request("web")); !errors.Is(err, ErrExists) || got != nil {
			t.Fatalf("%s: %v %v", when, got, err)
		}
		if got := w.files(); len(got) != 1 || got[0] != l.name.text {
			t.Errorf("%s: entries %v", when, got)
		}
	}
	exists("while it is started")
	w.isState("web", Starting)
	w.state("web")
	exists("while it is started, with state")
	l.Close()
	exists("while it runs")
	w.isState("web", Container)
	// Another engine's, and one of another mount namespace, are others.
	other := w.request("web")
	other.Key.Root += "-of-another"
	if got := w.take(other); got.Range.Overlaps(l.Range) {
		t.Errorf("%v and %v", l.Range, got.Range)
	}
	other = w.request("web")
	other.Key.MountNS++
	w.take(other)
	w.deleted("web")
	w.isState("web", Starting) // the others are
	if got := w.take(w.request("web")); got.Range != l.Range {
		t.Errorf("%v, and now %v", l.Range, got.Range)
	}
}

// A killed create leaves an empty directory, which isn't state.
func TestEmptyStateDirectory(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 1, 100))
	l := w.take(w.request("web"))
	if err := os.Mkdir(filepath.Join(w.root, "web"), 0o711); err != nil {
		t.Fatal(err)
	}
	l.Close()
	w.isState("web", Ended)
	w.take(w.request("other"))
}

func TestRangeComesBack(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 50, 100))
	first := map[string]idmap.Range{}
	ids := []string{"a", "b", "c", "d", "e", "f"}
	for _, id := range ids {
		first[id] = w.container(id)
		w.deleted(id)
	}
	// Whatever was started and removed in between, in whatever order: the first choice is free.
	slices.Reverse(ids)
	for _, id := range ids {
		w.container("between-" + id)
		w.deleted("between-" + id)
		if got := w.container(id); got != first[id] {
			t.Errorf("%s has %v, and had %v", id, got, first[id])
		}
		w.deleted(id)
	}
	// After a reboot too.
	if err := os.RemoveAll(filepath.Dir(w.path)); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if got := w.container(id); got != first[id] {
			t.Errorf("%s has %v, and had %v before", id, got, first[id])
		}
		w.deleted(id)
	}
	// And another one of that name, as by the annotation.
	r := w.request("xyz")
	r.Name = "c"
	if got := w.take(r); got.Range != first["c"] {
		t.Errorf("%v, want %v", got.Range, first["c"])
	}
}

func TestPlacesThatArentFree(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 4, 100))
	hole := idmap.Range{Start: 1<<20 + 150, Count: 1}
	w.all.Free = w.all.Free.Subtract(idmap.NewSet(hole))
	for i := range 3 {
		if got := w.container(strconv.Itoa(i)); got.Overlaps(hole) || (got.Start-1<<20)%100 != 0 {
			t.Errorf("%v", got)
		}
	}
	// It is counted as a place, as the room's length is what is granted.
	if full := refused[*FullError](w, w.request("more")); len(full.Holders) != 3 {
		t.Errorf("%v", full)
	}
}

func TestSizesOfSeveralKinds(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 30, 100))
	var ids idmap.Set
	for i, size := range []uint32{100, 7, 250, 100, 33, 1, 100, 250} {
		r := w.request(strconv.Itoa(i))
		r.Rooms[0].Size = size
		got := w.take(r).Range
		if got.Count != size || !w.all.Free.Contains(got) || !ids.Intersect(idmap.NewSet(got)).Empty() {
			t.Fatalf("%d: %v beside %v", i, got, ids)
		}
		ids = ids.Union(idmap.NewSet(got))
	}
	// A place that isn't one from the first ID on is found where no other is left.
	w = newWorld(t, roomOf(1<<20, 2, 100))
	w.take(w.exactly("x", setOf(1<<20+50, 100)))
	r := w.request("y")
	r.Rooms[0].Size = 50
	one := w.take(r).Range
	r.Key.ID = "z"
	two := w.take(r).Range
	if got := setOf(one.Start, 50, two.Start, 50); !got.ContainsSet(setOf(1<<20, 50, 1<<20+150, 50)) {
		t.Errorf("%v", got)
	}
}

func TestRoomsAreFilledInOrder(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2, 100))
	short, second := roomOf(1<<21, 1, 40), roomOf(1<<22, 2, 30)
	short.Size = 41
	r := w.request("x")
	r.Rooms = []Room{short, w.all, second}
	var got []idmap.Range
	for i := range 4 {
		r.Key.ID = strconv.Itoa(i)
		l := w.take(r)
		got = append(got, l.Range)
	}
	for i, room := range []Room{w.all, w.all, second, second} {
		if got[i].Count != room.Size || !room.Free.Contains(got[i]) {
			t.Errorf("container %d has %v, want one of %v", i, got[i], room)
		}
	}
	r.Key.ID = "more"
	full := refused[*FullError](w, r)
	if full.Places != 4 || len(full.Holders) != 4 {
		t.Errorf("%+v", full)
	}
	for _, part := range []string{"room for 4 containers", "4 hold IDs there", "container 0 of alice (" + w.root + ")", "process " + strconv.Itoa(os.Getpid())} {
		if !strings.Contains(full.Error(), part) {
			t.Errorf("%q doesn't say %q", full, part)
		}
	}
}

func TestFullErrorNamesAFew(t *testing.T) {
	e := &FullError{Size: 10, Places: 9}
	for i := range 9 {
		e.Holders = append(e.Holders, Status{Entry: Entry{Key: Key{Root: "/r", ID: "c" + strconv.Itoa(i)}, Owner: "a"}, State: Container})
	}
	want := "no 10 IDs in a row are left: there is room for 9 containers, and 9 hold IDs there: container c0 of a (/r), container c1 of a (/r), " +
		"container c2 of a (/r), container c3 of a (/r), container c4 of a (/r), and 4 more (`usernsctl leases` lists them)"
	if e.Error() != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
}

func TestProcessThatIsLeft(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 3, 100))
	l := w.take(w.request("web"))
	w.setUserNS(l, 77)
	l.Close()
	w.alive = []LiveNS{process(77, l.Range)}
	w.isState("web", Process)
	// The same container, and every other, gets other IDs.
	again := w.take(w.request("web"))
	if again.Range == l.Range {
		t.Fatalf("it has %v again", again.Range)
	}
	w.take(w.request("third"))
	full := refused[*FullError](w, w.request("more"))
	if !strings.Contains(full.Error(), "container web of alice ("+w.root+"), which has ended, but process 4711 has ") {
		t.Error(full)
	}
	held := refused[*HeldError](w, w.exactly("named", setOf(l.Range.Start+99, 2)))
	if held.By.State != Process || held.By.Alive != 4711 {
		t.Errorf("%+v", held)
	}
	if err := w.Release(w.KeyOf(w.root, "web")); err != nil {
		t.Fatal(err)
	}
	if removed, err := w.Collect(); err != nil || len(removed) != 0 {
		t.Errorf("%v %v", removed, err)
	}
	// After its end it is as if nothing had been.
	w.alive = nil
	removed, err := w.Collect()
	if err != nil || len(removed) != 1 || removed[0].UserNS != 77 || removed[0].State != Ended {
		t.Errorf("%+v %v", removed, err)
	}
	if got := w.take(w.request("more")); got.Range != l.Range {
		t.Errorf("%v, want %v", got.Range, l.Range)
	}
}

// Some of the IDs, of users or of groups alone, in whatever namespace, are enough to hold all.
func TestWhatHoldsAnEndedEntry(t *testing.T) {
	base := uint32(1 << 20)
	for name, row := range map[string]struct {
		alive LiveNS
		holds bool
	}{
		"its namespace":         {process(77, idmap.Range{Start: base, Count: 100}), true},
		"another one":           {process(78, idmap.Range{Start: base, Count: 100}), true},
		"its last ID":           {process(78, idmap.Range{Start: base + 99, Count: 1}), true},
		"the one after it":      {process(78, idmap.Range{Start: base + 100, Count: 1}), false},
		"the one before":        {process(78, idmap.Range{Start: base - 1, Count: 1}), false},
		"a group":               {LiveNS{Inode: 78, PID: 1, GIDs: idmap.Map{{Inner: 0, Outer: base + 5, Count: 1}}}, true},
		"a user":                {LiveNS{Inode: 78, PID: 1, UIDs: idmap.Map{{Inner: 0, Outer: base + 5, Count: 1}}}, true},
		"a number not known":    {LiveNS{PID: 1, UIDs: idmap.Map{{Inner: 0, Outer: base + 5, Count: 1}}}, true},
		"staged":                {LiveNS{Inode: 77, PID: 1, Staged: true}, true},
		"staged, another one":   {LiveNS{Inode: 78, PID: 1, Staged: true}, false},
		"the number come again": {process(77, idmap.Range{Start: 5, Count: 1}), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, roomOf(base, 1, 100))
			l := w.take(w.request("web"))
			w.setUserNS(l, 77)
			l.Close()
			w.alive = []LiveNS{row.alive}
			if !row.holds {
				w.isState("web", Ended)
				w.take(w.request("next"))
				return
			}
			w.isState("web", Process)
			refused[*FullError](w, w.request("next"))
		})
	}
}

func TestExplicitIDs(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 4, 100))
	a := w.take(w.request("a"))
	for name, ids := range map[string]idmap.Set{
		"the same":  idmap.NewSet(a.Range),
		"the first": setOf(a.Range.Start-5, 6),
		"the last":  setOf(a.Range.Start+99, 5),
		"inside":    setOf(a.Range.Start+50, 1),
		"around":    setOf(a.Range.Start-1, 102),
		"in pieces": setOf(5, 5, a.Range.Start+1, 1, 4000000000, 1),
		"many":      manyIDs(a.Range.Start-500, 600),
	} {
		held := refused[*HeldError](w, w.exactly("b", ids))
		if held.By.ID != "a" || held.By.State != Starting || !held.IDs.ContainsSet(ids.Intersect(idmap.NewSet(a.Range))) || held.IDs.Empty() {
			t.Errorf("%s: %+v", name, held)
		}
		for _, part := range []string{"IDs " + held.IDs.String() + " are held by container a of alice", strconv.Itoa(os.Getpid())} {
			if !strings.Contains(held.Error(), part) {
				t.Errorf("%s: %q doesn't say %q", name, held, part)
			}
		}
	}
	// Over what is free they are held, and nobody gets a place of them.
	beside := w.take(w.exactly("b", setOf(uint32(a.Range.End()), 30, a.Range.Start-30, 30)))
	if beside.Range != (idmap.Range{}) {
		t.Errorf("range %v was taken of the rooms", beside.Range)
	}
	for i := range 4 {
		r := w.request("c" + strconv.Itoa(i))
		r.Rooms[0].Size = 35
		got := w.take(r).Range
		for _, other := range []idmap.Set{a.entry.Ranges, beside.entry.Ranges} {
			if !other.Intersect(idmap.NewSet(got)).Empty() {
				t.Errorf("%v lies over %v", got, other)
			}
		}
	}
	// Those of an entry that has ended are free.
	a.Close()
	w.take(w.exactly("d", idmap.NewSet(a.Range)))
	if _, there := w.states()["a"]; there {
		t.Error("the entry that had ended is still there")
	}
}

func TestOneNamespaceForSeveral(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 3, 100))
	a := w.take(w.request("a"))
	w.setUserNS(a, 77)
	join := func(id string, inode uint64) Request {
		r := w.exactly(id, idmap.NewSet(a.Range))
		r.UserNS = inode
		return r
	}
	b := w.take(join("b", 77))
	refused[*HeldError](w, join("c", 78))
	refused[*HeldError](w, join("c", 0))
	refused[*HeldError](w, join("c", 79))
	// Entries whose namespace isn't known yet aren't of one namespace.
	d := w.take(w.request("d"))
	r := w.exactly("e", idmap.NewSet(d.Range))
	refused[*HeldError](w, r)

	// The creator goes first: its range stays the other's.
	w.state("b")
	b.Close()
	a.Close()
	w.alive = []LiveNS{process(77, a.Range)}
	if err := w.Release(a.entry.Key); err != nil {
		t.Fatal(err)
	}
	if got := w.files(); slices.Contains(got, a.name.text) || !slices.Contains(got, b.name.text) {
		t.Errorf("after the creator's end: %v", got)
	}
	refused[*HeldError](w, w.exactly("f", idmap.NewSet(a.Range)))
	// The other goes, and a process stays, which nobody else answers for now.
	w.deleted("b")
	if err := w.Release(b.entry.Key); err != nil {
		t.Fatal(err)
	}
	w.isState("b", Process)
	refused[*HeldError](w, w.exactly("f", idmap.NewSet(a.Range)))
	w.alive = nil
	if err := w.Release(b.entry.Key); err != nil {
		t.Fatal(err)
	}
	w.take(w.exactly("f", idmap.NewSet(a.Range)))
}

// Of two that have ended and share what is alive, at least one must go on holding it, whichever is
// looked at first.
func TestBothOfANamespaceHaveEnded(t *testing.T) {
	for _, first := range []string{"a", "b", "neither", "both"} {
		w := newWorld(t, roomOf(1<<20, 1, 100))
		a := w.take(w.request("a"))
		w.setUserNS(a, 77)
		r := w.exactly("b", idmap.NewSet(a.Range))
		r.UserNS = 77
		b := w.take(r)
		a.Close()
		b.Close()
		w.alive = []LiveNS{process(77, a.Range)}
		if err := w.Release(w.KeyOf(w.root, first)); err != nil {
			t.Fatal(err)
		}
		if first != "neither" {
			if _, err := w.Collect(); err != nil {
				t.Fatal(err)
			}
		}
		refused[*FullError](w, w.request("next"))
		refused[*HeldError](w, w.exactly("next", idmap.NewSet(a.Range)))
	}
}

// A container in a namespace by path that has ended there, of which a process is left, and is
// started again: its new entry has the name of the old one, and answers for what is left.
func TestAgainInTheSameNamespace(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 1, 100))
	r := w.exactly("web", setOf(1<<20, 100))
	r.UserNS = 77
	w.take(r).Close()
	w.alive = []LiveNS{process(77, w.all.place(0))}
	w.isState("web", Process)
	again := w.take(r)
	w.isState("web", Starting)
	if got := w.files(); !slices.Equal(got, []string{again.name.text}) {
		t.Errorf("%v", got)
	}
	again.Close()
	w.isState("web", Process)
	refused[*FullError](w, w.request("x"))
	// In another namespace it has to do with other IDs.
	r.UserNS = 78
	refused[*HeldError](w, r)
}

func TestShared(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2, 100))
	ids := setOf(1<<20, 100)
	shared := func(id, owner string, is bool) Request {
		r := w.exactly(id, ids)
		r.Owner, r.Shared = owner, is
		return r
	}
	w.take(shared("a", "alice", true))
	w.take(shared("b", "alice", true))
	refused[*HeldError](w, shared("c", "bob", true))
	refused[*HeldError](w, shared("c", "alice", false))
	r := shared("c", "alice", true)
	r.Exactly = setOf(1<<20+99, 1)
	w.take(r)
	// One that is there alone stays so.
	w.take(w.exactly("d", setOf(1<<20+100, 100)))
	r = shared("e", "alice", true)
	r.Exactly = setOf(1<<20+150, 1)
	refused[*HeldError](w, r)
	refused[*FullError](w, w.request("f"))
}

func TestSweep(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2000, 10))
	const left = 60
	var old []*Lease
	for i := range left {
		// Beside the places that are wanted below.
		old = append(old, w.take(w.exactly("old"+strconv.Itoa(i), setOf(5000000+10*uint32(i), 10))))
	}
	if got := len(w.files()); got != left {
		t.Fatalf("%d entries", got)
	}
	for _, l := range old {
		l.Close()
	}
	for i := range left {
		before := len(w.files())
		l := w.take(w.request("new" + strconv.Itoa(i)))
		if err := l.Abandon(); err != nil {
			t.Fatal(err)
		}
		if now := len(w.files()); before-now > swept {
			t.Errorf("one start removed %d entries", before-now)
		}
	}
	if got := w.files(); got != nil {
		t.Errorf("after %d starts %d of %d entries that had ended are left: %v", left, len(got), left, got)
	}
}

func TestReleaseOfWhatIsInUse(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 3, 100))
	l := w.take(w.request("web"))
	release := func(want State) {
		t.Helper()
		if err := w.Release(l.entry.Key); err != nil {
			t.Fatal(err)
		}
		w.isState("web", want)
	}
	release(Starting)
	w.state("web")
	release(Starting)
	l.Close()
	release(Container)
	w.deleted("web")
	other := w.container("other")
	release("")
	w.isState("other", Container)
	if holds, err := w.Holds(w.KeyOf(w.root, "never")); err != nil || holds {
		t.Errorf("%v %v", holds, err)
	}
	if holds, err := w.Holds(w.KeyOf(w.root, "other")); err != nil || !holds {
		t.Errorf("%v %v of %v", holds, err, other)
	}
}

func TestSetUserNSOfWhatIsGone(t *testing.T) {
	for name, spoil := range map[string]func(w *world, l *Lease) error{
		"the file":       func(w *world, l *Lease) error { return os.Remove(filepath.Join(w.path, l.name.text)) },
		"the directory":  func(w *world, _ *Lease) error { return os.RemoveAll(w.path) },
		"all":            func(w *world, _ *Lease) error { return os.RemoveAll(filepath.Dir(w.path)) },
		"replaced empty": func(w *world, _ *Lease) error { return errors.Join(os.RemoveAll(w.path), os.Mkdir(w.path, 0o700)) },
		"a copy in its place": func(w *world, l *Lease) error {
			path := filepath.Join(w.path, l.name.text)
			text, err := os.ReadFile(path)
			return errors.Join(err, os.Remove(path), os.WriteFile(path, text, 0o600))
		},
		"made again by another": func(w *world, _ *Lease) error {
			err := os.RemoveAll(w.path)
			w.take(w.exactly("other", setOf(5, 5)))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, roomOf(1<<20, 3, 100))
			l := w.take(w.request("web"))
			if err := spoil(w, l); err != nil {
				t.Fatal(err)
			}
			before := w.files()
			if err := l.SetUserNS(77); err == nil {
				t.Error("SetUserNS of what isn't there")
			}
			if err := l.Abandon(); err != nil {
				t.Errorf("Abandon: %v", err)
			}
			if got := w.files(); !slices.Equal(got, before) {
				t.Errorf("entries %v, before %v", got, before)
			}
		})
	}
}

func TestSetUserNSIsKept(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 3, 100))
	l := w.take(w.request("web"))
	w.setUserNS(l, 1<<40)
	all, err := w.List()
	if err != nil || len(all) != 1 || all[0].UserNS != 1<<40 || all[0].PID != os.Getpid() || all[0].Owner != "alice" || !all[0].Ranges.Contains(l.Range) {
		t.Errorf("%+v %v", all, err)
	}
}

// What makes the name too long is held all the same.
func TestManyRanges(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 4, 100))
	ids := manyIDs(1<<20, 150) // of the first three places
	l := w.take(w.exactly("many", ids))
	if !strings.HasPrefix(l.name.text, manyRanges+".") {
		t.Fatal(l.name.text)
	}
	if got := w.take(w.request("a")).Range; got != w.all.place(3) {
		t.Errorf("%v, want the last place", got)
	}
	held := refused[*HeldError](w, w.exactly("b", setOf(1<<20+298, 1)))
	if held.By.ID != "many" {
		t.Errorf("%+v", held)
	}
	w.take(w.exactly("c", setOf(1<<20+297, 1)))
	l.Close()
	w.take(w.exactly("d", setOf(1<<20+4, 1)))
	if _, there := w.states()["many"]; there {
		t.Error("the entry that had ended is still there")
	}
}

// The engine's directory may have any name that a path can have.
func TestRootOfOddBytes(t *testing.T) {
	for _, name := range []string{"a b", "a\n\"b\"", "é\u2028", "<&>", "\x01", "(deleted)"} {
		w := newWorld(t, roomOf(1<<20, 1, 100))
		w.root = filepath.Join(w.root, name)
		w.container("web")
		w.isState("web", Container)
		if l, err := w.Acquire(w.request("web")); !errors.Is(err, ErrExists) {
			t.Errorf("%q: a second one: %v", name, err)
			if err == nil {
				l.Close()
			}
		}
		refused[*FullError](w, w.request("other"))
		w.deleted("web")
		if err := w.Release(w.KeyOf(w.root, "web")); err != nil || w.files() != nil {
			t.Errorf("%q: %v, left %v", name, err, w.files())
		}
	}
}

// What the entry's file couldn't say is refused by name, before anything is taken.
func TestKeyThatIsNoText(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 1, 100))
	r := w.request("web")
	r.Key.Root = "/run/\xff"
	if l, err := w.Acquire(r); err == nil || !strings.Contains(err.Error(), `"/run/\xff"`) {
		t.Errorf("%v %v", l, err)
	}
	if l, err := w.Acquire(w.request("\xfe")); err == nil || !strings.Contains(err.Error(), `"\xfe"`) {
		t.Errorf("%v %v", l, err)
	}
	if w.files() != nil {
		t.Errorf("%v", w.files())
	}
}

// What can't be found out is an error, and gives nothing.
func TestAcquireWithoutSight(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 1, 100))
	l := w.take(w.request("web"))
	l.Close()
	blind := errors.New("no sight")
	w.live = func() ([]LiveNS, error) { return nil, blind }
	if got, err := w.Acquire(w.request("other")); !errors.Is(err, blind) || got != nil {
		t.Errorf("%v %v", got, err)
	}
	if got := w.files(); !slices.Equal(got, []string{l.name.text}) {
		t.Errorf("%v", got)
	}
	if _, err := w.List(); !errors.Is(err, blind) {
		t.Error(err)
	}
	if err := w.Release(l.entry.Key); !errors.Is(err, blind) {
		t.Error(err)
	}
	// Nor is a directory that is made now fit for anything.
	if err := os.RemoveAll(w.path); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Acquire(w.request("other")); !errors.Is(err, blind) || got != nil {
		t.Errorf("%v %v", got, err)
	}
}

// Entries that have ended stand in nobody's way, but they are looked at only where they have to be:
// what is foreseen takes the same turns (take holds the two against each other).
func TestForeseeBesideEnded(t *testing.T) {
	for name, tc := range map[string]struct {
		deleted, released int // of the containers that aren't in a favourite's place
		more              []Room
	}{
		"one has ended, and there is another room":        {1, 0, []Room{roomOf(1<<22, 10, 100)}},
		"one has ended, and there is no other room":       {1, 0, nil},
		"some have ended, and some were given back":       {6, 6, nil},
		"all have ended, but those of favourite's places": {32, 0, []Room{roomOf(1<<22, 1, 100)}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, roomOf(1<<20, 40, 100))
			for i := range 40 {
				w.container("c" + strconv.Itoa(i))
			}
			favourites := idmap.NewSet(w.all.favouritesOf("new")...)
			all, err := w.List()
			if err != nil {
				t.Fatal(err)
			}
			deleted, released := tc.deleted, tc.released
			for _, s := range all {
				switch {
				case favourites.ContainsSet(s.Ranges):
				case deleted > 0:
					w.deleted(s.ID)
					deleted--
				case released > 0:
					w.deleted(s.ID)
					if err := w.Release(s.Key); err != nil {
						t.Fatal(err)
					}
					released--
				}
			}
			r := w.request("new")
			r.Rooms = append(r.Rooms, tc.more...)
			w.take(r)
			if tc.deleted+tc.released > 1 {
				w.take(w.request("again"))
			}
		})
	}
}

// Without a directory what is alive is all there is to know, and an existing container is one.
func TestForeseeWithoutDirectory(t *testing.T) {
	w := newWorld(t, roomOf(1<<20, 2, 100))
	for _, place := range []idmap.Range{w.all.place(0), w.all.place(1)} {
		w.alive = []LiveNS{process(77, place)}
		if got, err := w.Foresee(w.request("x")); err != nil || got.Overlaps(place) {
			t.Errorf("beside %v: got %v, %v", place, got, err)
		}
		if err := func() error { _, err := w.Foresee(w.exactly("x", setOf(place.Start, 1))); return err }(); err == nil {
			t.Errorf("%v is alive, and foreseen", place)
		}
	}
	if left := w.files(); left != nil {
		t.Errorf("it has made %v", left)
	}
	w.alive = nil
	web := w.container("web")
	if got, err := w.Foresee(w.request("web")); !errors.Is(err, ErrExists) {
		t.Errorf("there is %v already: got %v, %v", web, got, err)
	}
}
