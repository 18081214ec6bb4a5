// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"os"
	"slices"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// A namespace inside of a user's own shows 0 as well; only the whole map is the
// host's.
func TestOnHost(t *testing.T) {
	full := idmap.Host()
	for name, tc := range map[string]struct {
		uids, gids idmap.Map
		want       bool
	}{
		"the host":         {full, full, true},
		"root alone":       {idmap.Map{{Inner: 0, Outer: 0, Count: 1}}, full, false},
		"one ID less":      {idmap.Map{{Inner: 0, Outer: 0, Count: idmap.Invalid - 1}}, full, false},
		"GIDs aren't":      {full, idmap.Map{{Inner: 0, Outer: 1, Count: 5}}, false},
		"in several parts": {idmap.Map{{Inner: 0, Outer: 0, Count: 1}, {Inner: 1, Outer: 1, Count: idmap.Invalid - 1}}, full, true},
	} {
		if got := (Caller{UIDs: tc.uids, GIDs: tc.gids}).onHost(); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestIdentify(t *testing.T) {
	c, err := Identify()
	if err != nil {
		t.Fatal(err)
	}
	if uid, ok := c.UIDs.ToInner(c.UID); !ok || int(uid) != os.Getuid() {
		t.Errorf("UID %d, which isn't %d here", c.UID, os.Getuid())
	}
	if gid, ok := c.GIDs.ToInner(c.GID); !ok || int(gid) != os.Getgid() {
		t.Errorf("GID %d, which isn't %d here", c.GID, os.Getgid())
	}
	if c.Name == "" {
		t.Error("no name")
	}
}

func TestHolder(t *testing.T) {
	for name, tc := range map[string]struct {
		caller Caller
		names  []string
	}{
		"a user":            {Caller{UID: 1234567, GID: 7, Name: "alice"}, []string{"alice", "1234567"}},
		"one without name":  {Caller{UID: 1234567, GID: 7, Name: "1234567"}, []string{"1234567"}},
		"root":              {Caller{Name: "root"}, []string{"root", "0"}},
		"one of root's GID": {Caller{UID: 5, Name: "x"}, []string{"x", "5"}},
	} {
		got := tc.caller.Holder()
		if !slices.Equal(got.Names, tc.names) {
			t.Errorf("%s: got %q, expected %q", name, got.Names, tc.names)
		}
		switch own := got.Own; {
		case tc.caller.UID == 0 && own != nil:
			t.Errorf("%s: has IDs of their own: %+v", name, own)
		case tc.caller.UID != 0 && (own == nil || own.UID != tc.caller.UID || own.GID != tc.caller.GID || own.SetgroupsDenied):
			t.Errorf("%s: own is %+v", name, own)
		}
	}
}
