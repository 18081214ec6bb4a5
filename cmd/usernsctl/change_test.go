// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// An owner has a line by login name and by UID, whichever of the two the line and the caller use, as
// the gate has it.
func TestHasGrant(t *testing.T) {
	book, err := new(registry.Book).With("book", []byte("alice:200000:65536:\n1001:300000:65536:\nkube:400000:65536:\ncarol:500000:65536:reserved\n"))
	if err != nil {
		t.Fatal(err)
	}
	host := registry.Host{Users: []registry.Account{{Name: "alice", ID: 1000}, {Name: "bob", ID: 1001}, {Name: "carol", ID: 1002}}}
	for owner, want := range map[string]bool{
		"alice": true, "1000": true, "bob": true, "1001": true, "kube": true, "carol": false, "1002": false, "dave": false, "1003": false,
	} {
		if got := hasGrant(book, host, owner); got != want {
			t.Errorf("%s: %v", owner, got)
		}
	}
	for owner, want := range map[string]string{"alicee": "alice", "kubbe": "kube", "carrol": "", "zzz": ""} {
		if got, _ := nearOwner(book, owner); got != want {
			t.Errorf("%s: got %q", owner, got)
		}
	}
}
