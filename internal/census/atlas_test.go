// SPDX-License-Identifier: Apache-2.0

package census

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func seen(c Census) *Sight { return &Sight{Census: c, LeasesKnown: true, LiveKnown: true} }

func TestAtlas(t *testing.T) {
	s := seen(Census{
		World: registry.World{
			Host: registry.Host{
				Users:  []registry.Account{{Name: "alice", ID: 1000, Where: "/etc/passwd:2"}},
				Groups: []registry.Account{{Name: "staff", ID: 400000, Where: "/etc/group:9"}},
			},
			SubUIDs:   []registry.SubID{{Owner: "bob", Range: idmap.Range{Start: 100000, Count: 10}, Where: "/etc/subuid:1"}},
			SubGIDs:   []registry.SubID{{Owner: "bob", Range: idmap.Range{Start: 100010, Count: 10}, Where: "/etc/subgid:1"}},
			Installed: []registry.Software{registry.Systemd},
		},
		Leases: []lease.Status{
			held("/run/runc", "web", 77, set(400000, 10)),
			held("/run/runc", "two", 81, idmap.NewSet(idmap.Range{Start: 400100, Count: 5}, idmap.Range{Start: 400200, Count: 5})),
		},
		Live: []lease.LiveNS{
			live(77, idmap.Map{{Inner: 0, Outer: 400000, Count: 10}}),       // the lease's
			live(78, idmap.Map{{Inner: 0, Outer: 300000, Count: 10}}),       // nobody's
			live(79, idmap.Map{{Inner: 0, Outer: 0, Count: idmap.Invalid}}), // the host's IDs
			live(80, nil), // not mapped yet
			live(0, idmap.Map{{Inner: 0, Outer: 400300, Count: 10}}), // whose namespace can't be told,
			live(0, idmap.Map{{Inner: 0, Outer: 400300, Count: 10}}), // and another process in it
		},
	})
	s.Warnings = []registry.Conflict{{Where: "/etc/subuid:2", Message: "/etc/subuid:2: no"}}
	a := s.Atlas(book(t, "carol:400000:65536:", "dave:400000:5:size=5", "r:400000:50:reserved", "r:700000:5:size=5"))
	var got []string
	for _, sp := range a.Spans {
		if sp.Kind != KindConflict {
			got = append(got, fmt.Sprintf("%s %s %s (%s) %d/%d", sp.Kind, sp.Range, sp.Owner, sp.Where, sp.Held, sp.Holders))
		}
	}
	me := fmt.Sprintf("process %d in a user namespace", os.Getpid())
	want := []string{
		"user [1000-1001) alice (/etc/passwd:2) 0/0",
		"allocator [61184-65520) systemd (systemd, which is installed) 0/0",
		"subuid [100000-100010) bob (/etc/subuid:1) 0/0",
		"subgid [100010-100020) bob (/etc/subgid:1) 0/0",
		"namespace [300000-300010)  (" + me + ") 0/0",
		"line [400000-465536) carol (/etc/usernamespaces:1) 30/3",
		"reserved [400000-400050) r (/etc/usernamespaces:3) 0/0",
		"container [400000-400010)  (container web of /run/runc) 0/0",
		"line [400000-400005) dave (/etc/usernamespaces:2) 5/1",
		"group [400000-400001) staff (/etc/group:9) 0/0",
		"container [400100-400105)  (container two of /run/runc) 0/0",
		"container [400200-400205)  (container two of /run/runc) 0/0",
		"namespace [400300-400310)  (" + me + ") 0/0",
		"line [700000-700005) r (/etc/usernamespaces:4) 0/0",
		"allocator [2147352576-2147418112) systemd (systemd, for foreign files) 0/0",
	}
	want[len(want)-1] = "allocator [2147352576-2147418112) systemd (systemd, which is installed) 0/0"
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	wantOwners := []Owner{
		{Name: "carol", First: idmap.Range{Start: 400000, Count: 65536}, Lines: 1, IDs: 65536, Held: 30, Free: 65536 - 70, Holders: 3},
		{Name: "dave", First: idmap.Range{Start: 400000, Count: 5}, Lines: 1, IDs: 5, Held: 5, Free: 0, Holders: 1},
		{Name: "r", First: idmap.Range{Start: 400000, Count: 50}, Lines: 1, Reserved: 1, IDs: 5, Free: 5},
	}
	if !slices.Equal(a.Owners, wantOwners) {
		t.Errorf("owners: got\n%+v\nwant\n%+v", a.Owners, wantOwners)
	}
	if a.HeldOfGranted != 30 || a.FreeOfGranted != 65536-70+5 {
		t.Errorf("held %d, free %d", a.HeldOfGranted, a.FreeOfGranted)
	}
	conflicts := 0
	for _, sp := range a.Spans {
		if sp.Kind == KindConflict {
			conflicts++
		}
	}
	if conflicts != len(a.Conflicts) || !slices.ContainsFunc(a.Conflicts, func(c registry.Conflict) bool { return c.Where == "/etc/subuid:2" }) {
		t.Errorf("%d of %d conflicts: %v", conflicts, len(a.Conflicts), a.Conflicts)
	}
	if fmt.Sprint(a.Regions) != "[[0-65536) [65536-753664)]" {
		t.Errorf("regions: %v", a.Regions)
	}
}

// The sums are those of counting ID by ID, and where there is room is where add would write.
func TestAtlasAgainstCounting(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		const base, size = 300000, 400
		piece := func() idmap.Range {
			start := random.Uint32N(size)
			return idmap.Range{Start: base + start, Count: 1 + random.Uint32N(min(size-start, 60))}
		}
		s := seen(Census{})
		var lines []string
		for range random.IntN(12) {
			r := piece()
			flags := fmt.Sprintf("size=%d", r.Count)
			if random.IntN(4) == 0 {
				flags = "reserved"
			}
			lines = append(lines, fmt.Sprintf("o%d:%d:%d:%s", random.IntN(4), r.Start, r.Count, flags))
		}
		for i := range random.IntN(8) {
			ids := idmap.NewSet(piece())
			if random.IntN(2) == 0 {
				ids = idmap.NewSet(piece(), piece(), piece())
			}
			s.Leases = append(s.Leases, held("/r", fmt.Sprint(i), 0, ids))
		}
		for i := range random.IntN(4) {
			r := piece()
			s.Live = append(s.Live, live(uint64(i), idmap.Map{{Inner: 0, Outer: r.Start, Count: r.Count}}))
		}
		b := book(t, lines...)
		a := s.Atlas(b)
		in := func(set idmap.Set, id uint32) bool { return set.Contains(idmap.Range{Start: id, Count: 1}) }
		var alive []idmap.Set
		for _, l := range s.Leases {
			alive = append(alive, l.Ranges)
		}
		for _, ns := range s.foreign() {
			alive = append(alive, ns.IDs())
		}
		var wantHeld, wantFree uint64
		for id := uint32(base); id < base+size; id++ {
			isHeld := slices.ContainsFunc(alive, func(set idmap.Set) bool { return in(set, id) })
			if isHeld != in(a.Held, id) {
				t.Fatalf("%d: held %v", id, isHeld)
			}
			if in(a.Granted, id) && isHeld {
				wantHeld++
			}
			if in(a.Granted, id) && !isHeld && !in(a.Reserved, id) {
				wantFree++
			}
		}
		if a.HeldOfGranted != wantHeld || a.FreeOfGranted != wantFree {
			t.Fatalf("%q: held %d, want %d; free %d, want %d", lines, a.HeldOfGranted, wantHeld, a.FreeOfGranted, wantFree)
		}
		for _, sp := range a.Spans {
			if sp.Kind != KindLine {
				continue
			}
			holders, n := 0, a.Held.Intersect(idmap.NewSet(sp.Range)).Len()
			for _, set := range alive {
				if meets(set, idmap.NewSet(sp.Range)) {
					holders++
				}
			}
			if sp.Held != n || sp.Holders != holders {
				t.Fatalf("%v: held %d by %d, want %d by %d", sp.Range, sp.Held, sp.Holders, n, holders)
			}
		}
		place, err := s.Place(b, registry.DefaultSize)
		if err != nil || place != a.Next {
			t.Fatalf("room at %v, and add would write %v, %v", a.Next, place, err)
		}
	}
	full := seen(Census{}).Atlas(book(t, "a:65536:4294901759:"))
	if full.Next.Count != 0 || full.Largest.Count != 0 {
		t.Errorf("a full space has room: %v, %v", full.Next, full.Largest)
	}
}

func TestRegions(t *testing.T) {
	for name, tc := range map[string]struct {
		used []idmap.Range
		want string
	}{
		"nothing":             {nil, "[]"},
		"an account":          {[]idmap.Range{{Start: 7, Count: 1}}, "[[0-65536)]"},
		"one line":            {[]idmap.Range{{Start: 200000, Count: 65536}}, "[[192512-270336)]"},
		"accounts and a line": {[]idmap.Range{{Start: 0, Count: 1}, {Start: 65534, Count: 1}, {Start: 65536, Count: 65536}}, "[[0-65536) [65536-135168)]"},
		"near ones":           {[]idmap.Range{{Start: 200000, Count: 65536}, {Start: 300000, Count: 65536}}, "[[188416-376832)]"},
		"far ones":            {[]idmap.Range{{Start: 200000, Count: 65536}, {Start: 1 << 30, Count: 65536}}, "[[192512-270336) [1073737728-1073811456)]"},
		"across the accounts": {[]idmap.Range{{Start: 0, Count: 1}, {Start: 65000, Count: 1000}}, "[[0-73728)]"},
		"everything":          {[]idmap.Range{{Start: 0, Count: idmap.Invalid}}, "[[0-4294967295)]"},
		"the last":            {[]idmap.Range{{Start: idmap.Invalid - 1, Count: 1}}, "[[4294967293-4294967295)]"},
		"and one beyond":      {[]idmap.Range{{Start: idmap.Invalid - 1, Count: 2}}, "[[4294967293-4294967295)]"},
		"more than are shown": {
			[]idmap.Range{
				{Start: 5, Count: 1}, {Start: 65536, Count: 1}, {Start: 1 << 24, Count: 1}, {Start: 1 << 25, Count: 1}, {Start: 1 << 26, Count: 1},
				{Start: 1 << 27, Count: 1}, {Start: 1 << 28, Count: 1}, {Start: 1 << 29, Count: 1}, {Start: 1 << 30, Count: 1},
			},
			"[[0-65536) [65536-71303168) [134217727-134217730) [268435455-268435458) [536870911-536870914) [1073741823-1073741826)]",
		},
		"nobody's alone": {[]idmap.Range{{Start: idmap.Invalid, Count: 1}}, "[]"},
	} {
		if got := fmt.Sprint(regions(idmap.NewSet(tc.used...))); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
	random := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		var used []idmap.Range
		for range random.IntN(30) {
			start := random.Uint32() >> random.UintN(20)
			used = append(used, idmap.Range{Start: start, Count: 1 + random.Uint32N(min(idmap.Invalid-start, 1<<random.UintN(30))+1)})
		}
		for i := range used {
			used[i].Count = min(used[i].Count, idmap.Invalid-used[i].Start)
		}
		got := regions(idmap.NewSet(used...))
		if len(got) > maxRegions {
			t.Fatalf("%v: %d regions", used, len(got))
		}
		for i, r := range got {
			if r.Count == 0 || r.End() > Whole.End() || i > 0 && got[i-1].End() > uint64(r.Start) {
				t.Fatalf("%v: %v", used, got)
			}
		}
		if !idmap.NewSet(got...).ContainsSet(idmap.NewSet(used...)) {
			t.Fatalf("%v isn't all in %v", used, got)
		}
	}
}

// 20,000 lines that all differ, and 10,000 containers, half of which hold several ranges: by the product of
// their numbers it would take longer than tests may.
func TestAtlasLarge(t *testing.T) {
	s := seen(Census{})
	var lines []string
	n := uint32(20000)
	if testing.Short() {
		n = 2000
	}
	for i := range n {
		lines = append(lines, fmt.Sprintf("o%d:%d:70000:", i, 200000+i*100000))
		if i%2 == 0 {
			ids := set(200000+i*100000, 100)
			if i%4 == 0 {
				ids = ids.Union(set(200500+i*100000, 100))
			}
			s.Leases = append(s.Leases, held("/r", fmt.Sprint(i), uint64(i+1), ids))
			s.Live = append(s.Live, live(uint64(i+1), idmap.Map{{Inner: 0, Outer: 200000 + i*100000, Count: 100}}))
		}
	}
	b := book(t, lines...)
	a := s.Atlas(b)
	if a.HeldOfGranted != uint64(n)/2*100+uint64(n)/4*100 || len(a.Owners) != int(n) || a.Owners[0].Holders != 1 {
		t.Errorf("held %d, %d owners", a.HeldOfGranted, len(a.Owners))
	}
}

// What only root may know is no failure for others, and isn't taken for nothing.
func TestSurvey(t *testing.T) {
	dir := t.TempDir()
	p := Paths{
		Passwd: filepath.Join(dir, "passwd"), Group: filepath.Join(dir, "group"),
		SubUID: filepath.Join(dir, "subuid"), SubGID: filepath.Join(dir, "subgid"), Root: dir,
	}
	write(t, p.SubUID, "alice:100000:65536\nbad\n")
	s, err := Survey(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.World.SubUIDs) != 1 || len(s.Warnings) != 1 || !s.LiveKnown || s.LeasesKnown != (os.Geteuid() == 0) {
		t.Errorf("got %+v", s)
	}
	for _, ns := range s.foreign() {
		if s.Names[ns.PID] == "" {
			t.Errorf("process %d has no name", ns.PID)
		}
	}
	p.SubUID = dir
	if _, err := Survey(p); err == nil || !strings.HasPrefix(err.Error(), "census: ") {
		t.Errorf("what can't be read: %v", err)
	}
}
