// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
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
		if text == "deny-setgroups" {
			want = ""
		}
		if got := f.BrokenByOwner(); got != want {
			t.Errorf("%s, of an owner: %q, want %q", text, got, want)
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

// What getsubids(1) of shadow 4.13 shows of these lines, and what a decimal reader makes of them.
func TestParseSubID(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"a:5:6", "a true [5-11)"},
		{"a:0:1", "a true [0-1)"},
		{"a:5:6:7", "a false [5-11)"},
		{"a:5:6:", "a false [5-11)"},
		{"a:+1879048197:10", "a false [1879048197-1879048207)"},
		{"a:1879048197:+10", "a false [1879048197-1879048207)"},
		{"a:-18446744071830503419:10", "a false [1879048197-1879048207)"},
		{"a:5:-1", "a false [5-4294967295)"},
		{"a: 70:\t7 ", "a false [70-77)"},
		{"a:0x50:0X10", "a false [80-96)"},
		{"a:0b11:8", "a false [3-11)"},
		{"a:0200000:65536", "a false [200000-265536)[65536-131072)"},
		{"a:-00:1", "a false [0-1)"},
		{"a:4294967290:100", "a false [4294967290-4294967295)"},
		{"a:4294967295:1", "a false "},
		{"a:5:0", "a false "}, {"a::5", "a false "}, {"a:5:", "a false "}, {"a:5:18446744073709551616", "a false "},
		{"a:+-5:1", "a false "}, {"a:--5:1", "a false "}, {"a:+ 5:1", "a false "}, {"a:0x:1", "a false "}, {"a:0x-5:1", "a false "},
		{"a:1_0:1", "a false "}, {"a:0o17:1", "a false "}, {"a:08:1", "a false [8-9)"}, {"a:-:1", "a false "},
		{":1:2", " false "}, {"a:1", " false "}, {"", " false "},
	} {
		owner, ranges, alike := ParseSubID(c.line)
		got := fmt.Sprint(owner, " ", alike, " ")
		for _, r := range ranges {
			got += r.String()
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.line, got, c.want)
		}
	}
}
