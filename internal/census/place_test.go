// SPDX-License-Identifier: Apache-2.0

package census

import (
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func TestPlace(t *testing.T) {
	roomy := registry.Roomy()
	whole := func(r idmap.Range) string {
		return registry.Line{Owner: "x", Range: r}.String()
	}
	both := []string{whole(roomy[0]), whole(roomy[1])}
	for name, tc := range map[string]struct {
		census Census
		lines  []string
		count  uint32
		want   uint32 // the start; 0 is that there is none
	}{
		"an empty host":      {count: 65536, want: roomy[0].Start},
		"behind a line":      {lines: []string{"a:200000:65536:"}, count: 65536, want: 265536},
		"behind a reserved":  {lines: []string{"a:200000:10:reserved"}, count: 65536, want: 200010},
		"between two":        {lines: []string{"a:200000:10:", "b:200020:10:"}, count: 10, want: 200010},
		"between is no room": {lines: []string{"a:200000:10:", "b:200020:10:"}, count: 11, want: 200030},
		"an account": {
			census: Census{World: registry.World{Host: registry.Host{Users: []registry.Account{{Name: "u", ID: 200005}}}}},
			count:  10, want: 200006,
		},
		"a group": {
			census: Census{World: registry.World{Host: registry.Host{Groups: []registry.Account{{Name: "u", ID: 200005}}}}},
			count:  10, want: 200006,
		},
		"subuid, the owner's own too": {
			census: Census{World: registry.World{SubUIDs: []registry.SubID{{Owner: "a", Range: idmap.Range{Start: 200000, Count: 65536}}}}},
			count:  10, want: 265536,
		},
		"subgid": {
			census: Census{World: registry.World{SubGIDs: []registry.SubID{{Owner: "a", Range: idmap.Range{Start: 200000, Count: 65536}}}}},
			count:  10, want: 265536,
		},
		"kubelet": {
			census: Census{World: registry.World{Installed: []registry.Software{registry.Kubelet}}},
			count:  10, want: roomy[1].Start,
		},
		"alive": {
			census: Census{Live: []lease.LiveNS{live(1, idmap.Map{{Inner: 0, Outer: 200000, Count: 100}})}},
			count:  10, want: 200100,
		},
		"held": {
			census: Census{Leases: []lease.Status{held("/r", "a", 0, set(200000, 100))}},
			count:  10, want: 200100,
		},
		"larger than the first room":  {count: 67108864, want: roomy[1].Start},
		"larger than both rooms":      {count: 1 << 30, want: lowest},
		"both rooms full":             {lines: both, count: 65536, want: lowest},
		"both full, beyond 31 bits":   {lines: append([]string{"y:131072:68928:", "z:524288:1878523904:", "v:2147352576:131072:"}, both...), count: 65536, want: 1 << 31},
		"all that 31 bits can't hold": {count: 1<<31 + 1, want: lowest},
		"as long as it can be":        {count: idmap.Invalid - lowest, want: lowest},
		"longer":                      {count: idmap.Invalid - lowest + 1},
		"everything is one owner's":   {lines: []string{"a:65536:4294901759:"}, count: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := book(t, tc.lines...)
			got, err := tc.census.Place(b, tc.count)
			if tc.want == 0 {
				if err == nil || !strings.HasPrefix(err.Error(), "place: no ") {
					t.Fatalf("got %v, %v", got, err)
				}
				return
			}
			if err != nil || got != (idmap.Range{Start: tc.want, Count: tc.count}) {
				t.Fatalf("got %v, %v, want %d", got, err, tc.want)
			}
			// What is proposed collides with nothing.
			with, err := b.With("new", []byte(registry.Line{Owner: "new", Range: got, Flags: registry.Flags{Size: tc.count}}.String()))
			if err != nil {
				t.Fatal(err)
			}
			if bad, _ := tc.census.Collisions(b, with, "new", idmap.NewSet(got)); len(bad) > 0 {
				t.Errorf("collides: %q", bad)
			}
		})
	}
	_, err := (&Census{}).Place(book(t, "a:131072:2000000000:", "b:2000131172:2294836123:"), 101)
	if err == nil || !strings.Contains(err.Error(), "no 101 IDs in a row") || !strings.Contains(err.Error(), "at most 100:") {
		t.Errorf("the most there is: %v", err)
	}
}

func TestCollisions(t *testing.T) {
	world := registry.World{
		Host: registry.Host{
			Users:  []registry.Account{{Name: "alice", ID: 1000, Where: "/etc/passwd:2"}, {Name: "svc", ID: 700000, Where: "/etc/passwd:3"}},
			Groups: []registry.Account{{Name: "grp", ID: 700001, Where: "/etc/group:3"}},
		},
		SubUIDs:   []registry.SubID{{Owner: "alice", Range: idmap.Range{Start: 800000, Count: 65536}, Where: "/etc/subuid:1"}},
		SubGIDs:   []registry.SubID{{Owner: "carol", Range: idmap.Range{Start: 900000, Count: 65536}, Where: "/etc/subgid:1"}},
		Installed: []registry.Software{registry.Incus},
	}
	c := &Census{
		World:  world,
		Leases: []lease.Status{held("/run/runc", "web", 7, set(300000, 65536))},
		Live:   []lease.LiveNS{live(8, idmap.Map{{Inner: 0, Outer: 400000, Count: 1}})},
	}
	base := []string{"bob:200000:65536:", "keep:600000:10:reserved", "x:500000:65536:", "y:500000:65536:"}
	for name, tc := range map[string]struct {
		line     string
		want     []string // in the collisions, one each
		warnings int
	}{
		"free":                    {line: "z:2000000000:65536:"},
		"another's line":          {line: "z:200001:65536:", want: []string{"belongs to bob (/etc/usernamespaces:1)"}, warnings: 1},
		"one's own line":          {line: "bob:200000:65536:", want: []string{"/etc/usernamespaces:1: [200000-265536) is granted to bob already"}, warnings: 2},
		"another's reserved line": {line: "z:600000:1:size=1", want: []string{"one of them is reserved"}, warnings: 2},
		"one's own reserved line": {line: "keep:600000:1:size=1", warnings: 3},
		"a user and a group":      {line: "z:700000:2:size=2", want: []string{"/etc/passwd:3", "/etc/group:3"}, warnings: 2},
		"subuid of another":       {line: "z:800000:1:size=1", want: []string{"/etc/subuid:1"}, warnings: 2},
		"subuid of one's own":     {line: "alice:800000:1:size=1", warnings: 2},
		"... by UID":              {line: "1000:800000:1:size=1", warnings: 2},
		"subgid of another":       {line: "z:900000:1:size=1", want: []string{"/etc/subgid:1"}, warnings: 2},
		"installed software":      {line: "z:1000000:65536:", want: []string{"incus, which is installed"}, warnings: 2},
		"a lease":                 {line: "z:300000:65536:", want: []string{"[300000-365536) is in use by container web of /run/runc"}, warnings: 1},
		"a live namespace":        {line: "z:400000:65536:", want: []string{"[400000-400001) is in use by process "}, warnings: 1},
		"too short":               {line: "z:2000000000:10:", want: []string{"fewer than the 65536 of one container"}},
		"all at once": {
			line: "z:300000:500001:", warnings: 2,
			want: []string{"belongs to x", "belongs to y", "one of them is reserved", "passwd:3", "group:3", "subuid:1", "container web", "in use by process"},
		},
		"reserved over all that is used": {line: "z:300000:100001:reserved"},
		"reserved over another's line":   {line: "z:200000:1:reserved", want: []string{"bob (/etc/usernamespaces:1), and one of them is reserved"}},
		"reserved over one's own":        {line: "bob:200000:1:reserved", warnings: 1},
		"reserved over reserved":         {line: "z:600000:10:reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := book(t, base...), book(t, append(slices.Clone(base), tc.line)...)
			lines := after.Lines()
			added := lines[len(lines)-1]
			gained := idmap.NewSet(added.Range)
			if added.Flags.Reserved {
				gained = idmap.Set{}
			}
			bad, warnings := c.Collisions(before, after, added.Owner, gained)
			if len(bad) != len(tc.want) {
				t.Errorf("got %d collisions, want %d: %q", len(bad), len(tc.want), bad)
			}
			for _, want := range tc.want {
				if !slices.ContainsFunc(bad, func(text string) bool { return strings.Contains(text, want) }) {
					t.Errorf("no collision has %q: %q", want, bad)
				}
			}
			for _, text := range bad {
				// x and y were there before, and a line that isn't written has no place.
				if strings.Contains(text, "x (") && strings.Contains(text, "of y") || strings.HasPrefix(text, added.Where()) {
					t.Errorf("unwanted: %q", text)
				}
			}
			if len(warnings) != tc.warnings {
				t.Errorf("got %d warnings, want %d: %q", len(warnings), tc.warnings, warnings)
			}
		})
	}
}

// A line that is changed in place is held against what it gains alone, and what was wrong
// with it before doesn't keep it from getting better.
func TestCollisionsInPlace(t *testing.T) {
	c := &Census{Live: []lease.LiveNS{live(8, idmap.Map{{Inner: 0, Outer: 1879048192, Count: 1}})}}
	for name, tc := range map[string]struct {
		before, after []string
		gained        idmap.Set
		want          int
	}{
		"longer":                      {[]string{"a:1879048192:65536:"}, []string{"a:1879048192:131072:"}, set(1879113728, 65536), 0},
		"longer, into another's line": {[]string{"a:1879048192:65536:", "b:1879113728:65536:"}, []string{"a:1879048192:131072:", "b:1879113728:65536:"}, set(1879113728, 65536), 1},
		"shorter, what overlaps":      {[]string{"a:1879048192:131072:", "b:1879113728:65536:"}, []string{"a:1879048192:65537:", "b:1879113728:65536:"}, idmap.Set{}, 0},
		"longer, what overlaps": {
			[]string{"a:1879048192:65537:", "b:1879113728:65536:"}, []string{"a:1879048192:131072:", "b:1879113728:65536:"}, set(1879113729, 65535), 1,
		},
		"too short for its size": {[]string{"a:1879048192:65536:"}, []string{"a:1879048192:65536:size=65537"}, idmap.Set{}, 1},
		"not reserved any more":  {[]string{"a:1879048192:65536:reserved"}, []string{"a:1879048192:65536:"}, set(1879048192, 65536), 1},
	} {
		t.Run(name, func(t *testing.T) {
			if bad, _ := c.Collisions(book(t, tc.before...), book(t, tc.after...), "a", tc.gained); len(bad) != tc.want {
				t.Errorf("got %d collisions, want %d: %q", len(bad), tc.want, bad)
			}
		})
	}
}

// A book with more conflicts than Check tells takes no further line: the new one's may be among
// those that aren't told.
func TestCollisionsTooMany(t *testing.T) {
	lines := make([]string, 200)
	for i := range lines {
		lines[i] = registry.Line{Owner: "u" + strings.Repeat("x", i%100) + string(rune('a'+i/100)), Range: idmap.Range{Start: 300000, Count: 65536}}.String()
	}
	before, after := book(t, lines...), book(t, append(lines, "z:1900000000:65536:")...)
	if bad, _ := (&Census{}).Collisions(before, after, "z", set(1900000000, 65536)); len(bad) != 1 || !strings.Contains(bad[0], "more than 10000 conflicts") {
		t.Errorf("got %d collisions: %.200q", len(bad), bad)
	}
}
