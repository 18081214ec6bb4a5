// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"os"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// While a plan is made, nobody who looks for IDs that are in use finds those of the range that it
// foresees: a start beside it would be refused.
func TestDryNamespaceHasNoRange(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	m := idmap.Map{{Inner: 0, Outer: 3000000000, Count: 65536}}
	p := &plan{dry: true, uids: m, gids: m}
	ns, err := p.namespace(&call{subject: delegate.Caller{UIDs: idmap.Host(), GIDs: idmap.Host()}})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	is, err := delegate.Look(ns)
	if err != nil || !is.UIDs.Equal(idmap.Host()) || !is.GIDs.Equal(idmap.Host()) {
		t.Errorf("it maps %v and %v, %v", is.UIDs, is.GIDs, err)
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"web": true, "a_b+c-d.e9": true, "": false, ".": false, "..": false, "a b": false, "a/b": false, "bad@name": false, "ä": false, "a\n": false, "...": true,
	} {
		if got := validID(id); got != want {
			t.Errorf("%q: %v", id, got)
		}
	}
}
