// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func grantOf(t *testing.T, host Host, lines ...string) *Grant {
	t.Helper()
	g, err := bookOf(t, lines...).Grant(Holder{Names: []string{"a"}}, host)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestRooms(t *testing.T) {
	host := Host{Users: []Account{{"u", 200005, ""}}, Groups: []Account{{"g", 200015, ""}}}
	for _, row := range []struct {
		name  string
		lines []string
		host  Host
		size  uint32
		want  string // LINE SIZE FREE; ...
		err   []string
	}{
		{name: "the default size", lines: []string{"a:200000:200000:"}, want: "1 65536 [200000-400000)"},
		{name: "the line's size", lines: []string{"a:200000:100:size=10"}, want: "1 10 [200000-200100)"},
		{name: "a size that was asked for", lines: []string{"a:200000:100:size=10"}, size: 30, want: "1 30 [200000-200100)"},
		{name: "as long as the line", lines: []string{"a:200000:10:size=10"}, want: "1 10 [200000-200010)"},
		{name: "lines in the book's order, each with its size", lines: []string{"a:300000:100:size=50", "b:1000000:5:", "a:200000:100:size=10"},
			want: "1 50 [300000-300100); 3 10 [200000-200100)"},
		{name: "one that is too short", lines: []string{"a:200000:9:size=10", "a:300000:20:size=10"}, want: "2 10 [300000-300020)"},
		{name: "one that is too short for what was asked", lines: []string{"a:200000:9:size=2", "a:300000:20:size=2"}, size: 10, want: "2 10 [300000-300020)"},
		{name: "without the shared and the reserved", lines: []string{"a:200000:20:size=10", "a:300000:20:size=10,shared", "a:400000:20:reserved,size=10"},
			want: "1 10 [200000-200020)"},
		{name: "accounts of both kinds", lines: []string{"a:200000:20:size=4"}, host: host,
			want: "1 4 [200000-200005), [200006-200015), [200016-200020)"},
		{name: "another's and reserved lines", lines: []string{"a:200000:100:size=10", "b:200010:10:", "a:200050:5:reserved", "c:200090:100:reserved", "b:199990:11:"},
			want: "1 10 [200001-200010), [200020-200050), [200055-200090)"},
		{name: "up to the last ID", lines: []string{"a:4294967285:10:size=10"}, want: "1 10 [4294967285-4294967295)"},
		{name: "one room has place, another not", lines: []string{"a:200000:8:size=8", "a:300000:8:size=8"}, host: host,
			want: "1 8 [200000-200005), [200006-200008); 2 8 [300000-300008)"},
		{name: "all too short", lines: []string{"a:200000:9:size=10", "a:300000:8:size=10"},
			err: []string{`grant: /book:1: has 9 IDs, fewer than the 10 of one container: lengthen it, or make its containers smaller: write "a:200000:9:size=9"`}},
		{name: "too short for the default", lines: []string{"a:200000:9:"}, err: []string{"fewer than the 65536"}},
		{name: "too short for what was asked", lines: []string{"a:200000:9:size=3"}, size: 10, err: []string{"/book:1: has 9 IDs, fewer than the 10"}},
		{name: "nothing free", lines: []string{"a:200000:8:size=8"}, host: host,
			err: []string{"grant: /book:1: no 8 IDs in a row are left of it", "200005", "user u", "`usernsctl check`"}},
		{name: "nothing free of several", lines: []string{"a:200000:8:size=8", "a:200012:8:size=8"}, host: host,
			err: []string{"/book:1: no 8 IDs in a row", "user u"}},
		{name: "all of it another's", lines: []string{"a:200000:8:size=8", "b:100000:200000:"}, err: []string{"no 8 IDs in a row", "/book:2"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			rooms, err := grantOf(t, row.host, row.lines...).Rooms(row.size)
			wantError(t, err, row.err...)
			var got []string
			for _, r := range rooms {
				got = append(got, fmt.Sprintf("%d %d %v", r.Line.Number, r.Size, r.Free))
			}
			if s := strings.Join(got, "; "); s != row.want {
				t.Errorf("got  %s\nwant %s", s, row.want)
			}
			if err != nil && strings.Contains(err.Error(), "bug") {
				t.Error(err)
			}
		})
	}
}

// Free is exactly what Permits would permit, one ID by one.
func TestRoomsAreWhatPermitsAllows(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var rooms, refused int
	for range 400 {
		const base, span = 200000, 120
		lines := []string{fmt.Sprintf("a:%d:%d:size=%d", base+random.IntN(20), 40+random.IntN(80), 1+random.IntN(60))}
		for range random.IntN(4) {
			owner := string("ab"[random.IntN(2)])
			flags := []string{"", "reserved", "size=3", "shared"}[random.IntN(4)]
			lines = append(lines, fmt.Sprintf("%s:%d:%d:%s", owner, base+random.IntN(span), 1+random.IntN(30), flags))
		}
		var host Host
		for i := range random.IntN(3) {
			host.Users = append(host.Users, Account{fmt.Sprint("u", i), uint32(base + random.IntN(span)), ""})
			host.Groups = append(host.Groups, Account{fmt.Sprint("g", i), uint32(base + random.IntN(span)), ""})
		}
		g := grantOf(t, host, lines...)
		allowed := func(r idmap.Range) bool {
			m := idmap.Map{{Inner: 0, Outer: r.Start, Count: r.Count}}
			_, err := g.Permits(m, m)
			return err == nil
		}
		all, err := g.Rooms(0)
		if err != nil {
			refused++
			for _, l := range g.Lines() {
				size := l.Flags.ContainerSize()
				for at := uint64(l.Range.Start); !l.Flags.Shared && at+uint64(size) <= l.Range.End(); at++ {
					if r := (idmap.Range{Start: uint32(at), Count: size}); allowed(r) {
						t.Fatalf("%q %+v: %v, and %v is permitted", lines, host, err, r)
					}
				}
			}
			continue
		}
		for _, r := range all {
			rooms++
			for id := uint64(r.Line.Range.Start); id < r.Line.Range.End(); id++ {
				one := idmap.Range{Start: uint32(id), Count: 1}
				if free, ok := r.Free.Contains(one), allowed(one); free != ok {
					t.Fatalf("%q %+v: %d is free: %v, permitted: %v", lines, host, id, free, ok)
				}
			}
			if !idmap.NewSet(r.Line.Range).ContainsSet(r.Free) {
				t.Fatalf("%q: %v is more than %v", lines, r.Free, r.Line.Range)
			}
		}
	}
	if rooms < 200 || refused < 5 {
		t.Errorf("%d rooms, %d refusals: not much was tried", rooms, refused)
	}
}

func TestShared(t *testing.T) {
	for _, row := range []struct {
		lines []string
		want  bool
	}{
		{[]string{"a:200000:65536:"}, false},
		{[]string{"a:200000:65536:shared"}, true},
		{[]string{"a:200000:65536:shared", "a:300000:65536:"}, true},
		{[]string{"a:200000:65536:", "a:300000:65536:shared"}, false},
		{[]string{"a:100000:5:reserved", "a:200000:65536:shared"}, true},
		{[]string{"b:200000:65536:shared", "a:300000:65536:"}, false},
	} {
		if got := grantOf(t, Host{}, row.lines...).Shared(); got != row.want {
			t.Errorf("%q: %v", row.lines, got)
		}
	}
}

// A user's own account lies in their own line: they have that ID in any case, and whether a
// container may have it is for Permits to say. Other accounts are in the way.
func TestRoomsBesideTheHoldersOwnID(t *testing.T) {
	b := bookOf(t, "a:200000:8:size=8")
	host := Host{Users: []Account{{"a", 200003, "/etc/passwd:9"}}, Groups: []Account{{"a", 200003, "/etc/group:9"}}}
	g, err := b.Grant(Holder{Names: []string{"a"}, Own: &Own{UID: 200003, GID: 200003, SetgroupsDenied: true}}, host)
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := g.Rooms(0)
	if err != nil || len(rooms) != 1 || !rooms[0].Free.Contains(idmap.Range{Start: 200000, Count: 8}) {
		t.Errorf("got %+v %v", rooms, err)
	}
	host.Users = append(host.Users, Account{"b", 200005, "/etc/passwd:10"})
	if g, err = b.Grant(g.holder, host); err != nil {
		t.Fatal(err)
	}
	_, err = g.Rooms(0)
	wantError(t, err, "user b (/etc/passwd:10)")
}
