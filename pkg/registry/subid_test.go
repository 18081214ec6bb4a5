// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"slices"
	"testing"
)

// Every flag that there is must have been thought of: one that restricts and is exported is
// a restriction that is lost.
func TestRestricting(t *testing.T) {
	free := []string{"reserved", "owned", "shared", flagSize, "idmap-binds"}
	for _, known := range flags {
		text := known.name
		switch known.name {
		case flagSize:
			text += "=4096"
		case flagDropCaps:
			text += "=CAP_SYS_ADMIN"
		}
		f, err := ParseFlags(text)
		if err != nil {
			t.Fatal(err)
		}
		want := text
		if slices.Contains(free, known.name) {
			want = ""
		}
		if got := f.Restricting(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	f, err := ParseFlags("shared,deny-setgroups,size=10,no-new-privs")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Restricting(); got != "deny-setgroups,no-new-privs" {
		t.Errorf("got %q", got)
	}
	if got := (Flags{}).Restricting(); got != "" {
		t.Errorf("no flags: got %q", got)
	}
}
