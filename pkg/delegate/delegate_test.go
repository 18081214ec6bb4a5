// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("maps foreign IDs: needs root")
	}
}

func TestCreateAndLook(t *testing.T) {
	requireRoot(t)
	owner, inside := uint32(2999999), uint32(3000000)
	restoreDumpable(t)
	for name, want := range map[string]Namespace{
		"somebody's": {UIDs: idmap.Map{{Inner: 0, Outer: 3000000, Count: 9}}, GIDs: idmap.Map{{Inner: 0, Outer: 3000000, Count: 9}}, Owner: &owner},
		"somebody's, who is in it": {
			UIDs: idmap.Map{{Inner: 0, Outer: 3000000, Count: 9}}, GIDs: idmap.Map{{Inner: 0, Outer: 3000000, Count: 9}}, Owner: &inside, DenySetgroups: true,
		},
		"one range":        {UIDs: idmap.Map{{Inner: 0, Outer: 3000000, Count: 65536}}, GIDs: idmap.Map{{Inner: 0, Outer: 3000000, Count: 65536}}},
		"setgroups denied": {UIDs: idmap.Map{{Inner: 0, Outer: 3000000, Count: 10}}, GIDs: idmap.Map{{Inner: 0, Outer: 3000000, Count: 10}}, DenySetgroups: true},
		"several extents": {
			UIDs: idmap.Map{{Inner: 1, Outer: 3000001, Count: 9}, {Inner: 0, Outer: 5000000, Count: 1}},
			GIDs: idmap.Map{{Inner: 0, Outer: 3100000, Count: 5}},
		},
		"last IDs": {UIDs: idmap.Map{{Inner: 0, Outer: idmap.Invalid - 5, Count: 5}}, GIDs: idmap.Map{{Inner: 0, Outer: idmap.Invalid - 5, Count: 5}}},
	} {
		t.Run(name, func(t *testing.T) {
			ns, err := Create(want)
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			got, err := Look(ns)
			if err != nil {
				t.Fatal(err)
			}
			owner := uint32(0)
			if want.Owner != nil {
				owner = *want.Owner
			}
			if !got.UIDs.Equal(want.UIDs) || !got.GIDs.Equal(want.GIDs) || got.DenySetgroups != want.DenySetgroups || got.Owner != owner {
				t.Fatalf("got %+v, expected %+v owned by %d", got, want, owner)
			}
		})
	}
}

// restoreDumpable gives other tests back what making a namespace for somebody else takes.
func restoreDumpable(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) })
}

func TestCreateRefuses(t *testing.T) {
	good := idmap.Map{{Inner: 0, Outer: 3000000, Count: 1}}
	for name, tc := range map[string]struct {
		want    Namespace
		message string
	}{
		"no UIDs":         {Namespace{GIDs: good}, "UIDs: impossible map"},
		"no GIDs":         {Namespace{UIDs: good}, "GIDs: impossible map"},
		"owned by nobody": {Namespace{UIDs: good, GIDs: good, Owner: new(idmap.Invalid)}, "for UID 4294967295 as its owner"},
		"mapped twice":    {Namespace{UIDs: good, GIDs: append(idmap.Map{{Inner: 5, Outer: 3000000, Count: 1}}, good...)}, "outer [3000000-3000001)"},
	} {
		t.Run(name, func(t *testing.T) {
			ns, err := Create(tc.want)
			if err == nil {
				ns.Close()
				t.Fatal("created")
			}
			if !strings.Contains(err.Error(), tc.message) {
				t.Fatalf("got %v, expected %q", err, tc.message)
			}
		})
	}
}

func TestLookRefuses(t *testing.T) {
	net, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer net.Close()
	if _, err := Look(net); !errors.Is(err, linux.ErrNotUserNS) {
		t.Errorf("a network namespace: got %v", err)
	}
	plain, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := Look(plain); !errors.Is(err, linux.ErrNotUserNS) {
		t.Errorf("/dev/null: got %v", err)
	}
	own, err := os.Open("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	// setns(2) refuses the namespace one is in already.
	if _, err := Look(own); err == nil {
		t.Error("our own namespace could be joined")
	}
}

// A namespace that was looked at and closed is gone: no child is left in it.
func TestNoChildLeft(t *testing.T) {
	requireRoot(t)
	restoreDumpable(t)
	before := children(t)
	for range 20 {
		m := idmap.Map{{Inner: 0, Outer: 3000000, Count: 1}}
		ns, err := Create(Namespace{UIDs: m, GIDs: m})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Look(ns); err != nil {
			t.Fatal(err)
		}
		ns.Close()
		owner := uint32(3000000)
		if ns, err = Create(Namespace{UIDs: m, GIDs: m, Owner: &owner}); err != nil {
			t.Fatal(err)
		}
		ns.Close()
	}
	if after := children(t); after != before {
		t.Fatalf("children before %q, after %q", before, after)
	}
}

func children(t *testing.T) string {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, thread := range threads {
		text, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/children")
		if err == nil {
			all += string(text)
		}
	}
	return all
}
