// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Of one side alone is permitted what both of them, with the other side granted
// from the same lines, are: for every small map over lines of every kind.
func TestPermitsOneSide(t *testing.T) {
	b := bookOf(t, "a:65540:6:", "a:65546:4:deny-setgroups", "b:65544:1:", "a:65548:1:reserved", "a:65530:4:")
	host := Host{Users: []Account{{"u", 65541, "p:1"}}, Groups: []Account{{"g", 65532, "g:1"}}}
	for _, denied := range []bool{false, true} {
		g, err := b.Grant(Holder{[]string{"a"}, &Own{65539, 65539, denied}}, host)
		if err != nil {
			t.Fatal(err)
		}
		accepted, groups := 0, 0
		for start := uint32(65528); start < 65553; start++ {
			for count := uint32(1); count <= 8; count++ {
				m := idmap.Map{{Inner: 0, Outer: start, Count: count}}
				if denied { // then the own GID is a side that touches no line, and always permitted
					one, oneErr := g.PermitsUIDs(m)
					both, bothErr := g.Permits(m, idmap.Map{{Inner: 0, Outer: 65539, Count: 1}})
					if (oneErr == nil) != (bothErr == nil) || one.Flags.String() != both.Flags.String() || one.OwnGroup {
						t.Errorf("UIDs %s: alone %+v, %v; with the own GID %+v, %v", m, one, oneErr, both, bothErr)
					}
				}
				gid, gidErr := g.PermitsGIDs(m)
				both, bothErr := g.Permits(idmap.Map{{Inner: 0, Outer: 65539, Count: 1}}, m)
				if (gidErr == nil) != (bothErr == nil) {
					t.Errorf("GIDs %s, denied %v: alone %v, with the own UID %v", m, denied, gidErr, bothErr)
				}
				if gid.Flags.String() != both.Flags.String() || gid.OwnGroup != both.OwnGroup {
					t.Errorf("GIDs %s: flags %q and own group %v alone, %q and %v with the own UID", m, gid.Flags, gid.OwnGroup, both.Flags, both.OwnGroup)
				}
				if want := gidErr == nil && start <= 65539 && start+count == 65540; gid.OwnGroup != want {
					t.Errorf("GIDs %s: own group %v, want %v", m, gid.OwnGroup, want)
				}
				if gidErr == nil {
					accepted++
				}
				if gid.OwnGroup {
					groups++
				}
			}
		}
		if accepted == 0 || denied != (groups > 0) {
			t.Errorf("denied %v: accepted %d, %d of them with the own group", denied, accepted, groups)
		}
	}
}

// A line that holds their own group doesn't give it back with setgroups.
func TestOwnGroupByALine(t *testing.T) {
	host := Host{Groups: []Account{{"alice", 1001, "g:1"}}}
	gids := mapOf(t, "0:1001:1")
	for flags, refused := range map[string]bool{"size=1": true, "size=1,deny-setgroups": false} {
		b := bookOf(t, "alice:1001:1:"+flags, "alice:200000:65536:")
		for _, denied := range []bool{false, true} {
			v, err := b.GrantOrOwn(Holder{[]string{"alice"}, &Own{1000, 1001, denied}}, host).PermitsGIDs(gids)
			if refused && !denied {
				wantError(t, err, "gid extent 0:1001:1: outer 1001 is the caller's own group", "CVE-2018-7169")
			} else if err != nil || !v.OwnGroup || len(v.Lines) != 1 {
				t.Errorf("%s, denied %v: %+v, %v", flags, denied, v, err)
			}
		}
	}
}

// Who has no line has what every user has: their own UID, and their own GID
// without setgroups.
func TestGrantOrOwn(t *testing.T) {
	b := bookOf(t, "bob:300000:10:", "alice:400000:10:reserved")
	g := b.GrantOrOwn(Holder{[]string{"alice"}, &Own{1000, 1001, true}}, Host{})
	uid, gid := mapOf(t, "0:1000:1"), mapOf(t, "0:1001:1")
	if v, err := g.Permits(uid, gid); err != nil || !v.OwnGroup || len(v.Lines) > 0 {
		t.Errorf("own IDs: %+v, %v", v, err)
	}
	for name, text := range map[string]string{"another's line": "0:300000:1", "a reserved one": "0:400000:1", "nobody's": "0:500000:1", "own and more": "0:1000:1,1:300000:1"} {
		if v, err := g.PermitsUIDs(mapOf(t, text)); !errors.Is(err, ErrNoGrant) || v.Lines != nil {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	_, err := g.PermitsGIDs(mapOf(t, "0:500000:1"))
	wantError(t, err, "gid extent 0:500000:1: outer [500000-500001): alice: no line of the book grants anything (/book:2 only reserves): add one: usernsctl add alice")
	if _, err := b.GrantOrOwn(Holder{[]string{"alice"}, &Own{1000, 1001, false}}, Host{}).PermitsGIDs(gid); err == nil {
		t.Error("own GID with setgroups")
	}
	if _, _, err := g.First(); !errors.Is(err, ErrNoGrant) {
		t.Errorf("First: %v", err)
	}
	if _, err := g.Rooms(0); !errors.Is(err, ErrNoGrant) || g.Shared() || len(g.Lines()) > 0 {
		t.Errorf("Rooms: %v", err)
	}
	if _, err := b.GrantOrOwn(Holder{}, Host{}).PermitsUIDs(uid); !errors.Is(err, ErrNoGrant) {
		t.Errorf("without a name: %v", err)
	}
	with := b.GrantOrOwn(Holder{Names: []string{"bob"}}, Host{})
	if v, err := with.PermitsUIDs(mapOf(t, "0:300000:10")); err != nil || len(v.Lines) != 1 {
		t.Errorf("with a line: %v, %v", v, err)
	}
}

func TestCheckOwned(t *testing.T) {
	for flags, want := range map[string]string{
		"": "", "deny-setgroups": "", "shared,size=7": "", "deny-setgroups,no-new-privs": "/book:1: flag no-new-privs can't hold in a user namespace that belongs to alice",
	} {
		v, err := bookOf(t, "alice:200000:65536:"+flags, "alice:400000:65536:no-new-privs").GrantOrOwn(Holder{Names: []string{"alice"}}, Host{}).PermitsUIDs(mapOf(t, "0:200000:9"))
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if err := v.CheckOwned(); err != nil {
				t.Errorf("%q: %v", flags, err)
			}
			continue
		}
		wantError(t, v.CheckOwned(), want)
	}
	// What can't be parsed by this build isn't forgotten in it.
	v := Verdict{Lines: []Line{{Owner: "alice", Flags: Flags{DropCaps: []string{"CAP_SYS_ADMIN"}}}}}
	wantError(t, v.CheckOwned(), "flag drop-caps=CAP_SYS_ADMIN can't hold")
}
