// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// wantError fails unless err's text has every part; no parts want no error.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if len(parts) == 0 {
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return
	}
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q\ndoesn't say %q", err, part)
		}
	}
}

func TestParseFlags(t *testing.T) {
	every := Flags{true, true, true, true, true, true, true, true, true, true, []string{"CAP_MKNOD", "CAP_NET_RAW"}, 4294967294}
	for _, row := range []struct {
		name, text, printed string
		want                Flags
		err                 []string
	}{
		{name: "none", text: "", printed: ""},
		{name: "one", text: "deny-setgroups", printed: "deny-setgroups", want: Flags{DenySetgroups: true}},
		{name: "no-new-privs", text: "no-new-privs", printed: "no-new-privs", want: Flags{NoNewPrivs: true}},
		{name: "deny-nested", text: "deny-nested", printed: "deny-nested", want: Flags{DenyNested: true}},
		{name: "deny-privileged", text: "deny-privileged", printed: "deny-privileged", want: Flags{DenyPrivileged: true}},
		{name: "deny-host-ns", text: "deny-host-ns", printed: "deny-host-ns", want: Flags{DenyHostNS: true}},
		{name: "deny-devices", text: "deny-devices", printed: "deny-devices", want: Flags{DenyDevices: true}},
		{name: "reserved", text: "reserved", printed: "reserved", want: Flags{Reserved: true}},
		{name: "owned", text: "owned", printed: "owned", want: Flags{Owned: true}},
		{name: "shared", text: "shared", printed: "shared", want: Flags{Shared: true}},
		{name: "idmap-binds", text: "idmap-binds", printed: "idmap-binds", want: Flags{IdmapBinds: true}},
		{name: "size of one", text: "size=1", printed: "size=1", want: Flags{Size: 1}},
		{name: "the default size said", text: "size=65536", printed: "size=65536", want: Flags{Size: 65536}},
		{name: "capabilities are sorted", text: "drop-caps=CAP_NET_RAW+CAP_MKNOD", printed: "drop-caps=CAP_MKNOD+CAP_NET_RAW",
			want: Flags{DropCaps: []string{"CAP_MKNOD", "CAP_NET_RAW"}}},
		{name: "all, in another order",
			text:    "size=4294967294,idmap-binds,shared,owned,reserved,drop-caps=CAP_NET_RAW+CAP_MKNOD,deny-devices,deny-host-ns,deny-privileged,deny-nested,no-new-privs,deny-setgroups",
			printed: "deny-setgroups,no-new-privs,deny-nested,deny-privileged,deny-host-ns,deny-devices,drop-caps=CAP_MKNOD+CAP_NET_RAW,reserved,owned,shared,size=4294967294,idmap-binds",
			want:    every},

		{name: "unknown, close", text: "deny-setgroup", err: []string{`flag "deny-setgroup": unknown`, "did you mean deny-setgroups?"}},
		{name: "unknown, underscores", text: "deny_host_ns", err: []string{"did you mean deny-host-ns?"}},
		{name: "unknown, upper case", text: "RESERVED", err: []string{"did you mean reserved?"}},
		{name: "unknown, a space", text: "shared, reserved", err: []string{`flag " reserved": unknown`, "did you mean reserved?"}},
		{name: "unknown, far", text: "fast", err: []string{`flag "fast": unknown: expected one of deny-setgroups, no-new-privs`, "idmap-binds"}},
		{name: "twice", text: "shared,reserved,shared", err: []string{`flag "shared": given twice: keep one`}},
		{name: "size twice", text: "size=5,size=5", err: []string{`flag "size": given twice`}},
		{name: "empty, between", text: "shared,,reserved", err: []string{"one of them is empty: remove the comma"}},
		{name: "empty, at the end", text: "shared,", err: []string{"remove the comma"}},
		{name: "a value too many", text: "reserved=1", err: []string{`flag "reserved=1": takes no value: write reserved`}},
		{name: "an empty value too many", text: "reserved=", err: []string{"takes no value: write reserved"}},
		{name: "size without a value", text: "size", err: []string{`flag "size": expected a number of IDs from 1 to 4294967294, such as size=65536`}},
		{name: "size empty", text: "size=", err: []string{"such as size=65536"}},
		{name: "size of none", text: "size=0", err: []string{"from 1 to 4294967294"}},
		{name: "size too big", text: "size=4294967295", err: []string{"from 1 to 4294967294"}},
		{name: "size octal", text: "size=0100", err: []string{"such as size=65536"}},
		{name: "size of a word", text: "size=64k", err: []string{`flag "size=64k"`, "such as size=65536"}},
		{name: "no capabilities", text: "drop-caps", err: []string{"such as drop-caps=CAP_NET_RAW+CAP_MKNOD"}},
		{name: "empty capabilities", text: "drop-caps=", err: []string{"such as drop-caps=CAP_NET_RAW+CAP_MKNOD"}},
		{name: "capability, close", text: "drop-caps=CAP_NET_RAWW", err: []string{`capability "CAP_NET_RAWW": unknown: did you mean CAP_NET_RAW?`}},
		{name: "capability, bare", text: "drop-caps=net_admin", err: []string{`"net_admin": unknown: did you mean CAP_NET_ADMIN?`}},
		{name: "capability, far", text: "drop-caps=CAP_EVERYTHING_AT_ALL", err: []string{"expected a name of capabilities(7)"}},
		{name: "capability twice", text: "drop-caps=CAP_KILL+CAP_KILL", err: []string{`capability "CAP_KILL": given twice: keep one`}},
		{name: "capability empty", text: "drop-caps=CAP_KILL+", err: []string{`capability "": unknown`}},
		{name: "every fault at once", text: "fast,reserved=1,size=0", err: []string{`"fast"`, `"reserved=1"`, `"size=0"`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := ParseFlags(row.text)
			wantError(t, err, row.err...)
			if !reflect.DeepEqual(got, row.want) {
				t.Fatalf("got %+v, want %+v", got, row.want)
			}
			if err != nil {
				return
			}
			if got.String() != row.printed {
				t.Errorf("printed %q, want %q", got.String(), row.printed)
			}
			if again, err := ParseFlags(got.String()); err != nil || !reflect.DeepEqual(again, got) {
				t.Errorf("%q is read back as %+v, %v", got.String(), again, err)
			}
		})
	}
}

func TestUnionOfFlags(t *testing.T) {
	for _, row := range []struct{ name, a, b, want string }{
		{"nothing", "", "", ""},
		{"restrictions add up", "deny-setgroups,deny-nested,deny-host-ns", "no-new-privs,deny-privileged,deny-devices,reserved",
			"deny-setgroups,no-new-privs,deny-nested,deny-privileged,deny-host-ns,deny-devices,reserved"},
		{"gifts of one line only are lost", "owned,shared,idmap-binds", "", ""},
		{"gifts of both lines stay", "owned,shared,idmap-binds", "idmap-binds,owned,shared", "owned,shared,idmap-binds"},
		{"capabilities are joined", "drop-caps=CAP_KILL+CAP_CHOWN", "drop-caps=CAP_BPF+CAP_KILL", "drop-caps=CAP_BPF+CAP_CHOWN+CAP_KILL"},
		{"capabilities of one", "", "drop-caps=CAP_KILL", "drop-caps=CAP_KILL"},
		{"the smaller size", "size=10", "size=20", "size=10"},
		{"the only size, though bigger than the default", "size=100000", "", "size=100000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, errA := ParseFlags(row.a)
			b, errB := ParseFlags(row.b)
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			if got := a.Union(b).String(); got != row.want {
				t.Errorf("a with b: %q, want %q", got, row.want)
			}
			if got := b.Union(a).String(); got != row.want {
				t.Errorf("b with a: %q, want %q", got, row.want)
			}
			if a.String() != row.a && len(a.DropCaps) == 0 {
				t.Errorf("a was changed to %q", a)
			}
		})
	}
}

func TestFlagsOf(t *testing.T) {
	var lines []Line
	for i, want := range []string{"", "deny-nested,owned", "deny-nested,owned,no-new-privs", "deny-nested,no-new-privs"} {
		if i > 0 {
			flags, err := ParseFlags([]string{"deny-nested,owned", "owned,no-new-privs", ""}[i-1])
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, Line{Flags: flags})
		}
		flags, err := ParseFlags(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := FlagsOf(lines).String(); got != flags.String() {
			t.Errorf("of %d lines: got %q, want %q", i, got, flags)
		}
	}
}

func TestUnionLeavesItsOperands(t *testing.T) {
	shared := make([]string, 0, 8)
	a := Flags{DropCaps: append(shared, "CAP_KILL")}
	a.Union(Flags{DropCaps: []string{"CAP_BPF"}})
	if a.DropCaps[0] != "CAP_KILL" || len(a.DropCaps) != 1 || a.DropCaps[:2][1] != "" {
		t.Errorf("changed to %q", a.DropCaps[:2])
	}
}

func TestContainerSize(t *testing.T) {
	if got := (Flags{}).ContainerSize(); got != DefaultSize {
		t.Errorf("none given: %d", got)
	}
	if got := (Flags{Size: 7}).ContainerSize(); got != 7 {
		t.Errorf("seven given: %d", got)
	}
}

// A line may bear each of them.
func TestEveryFlagOfALine(t *testing.T) {
	for _, known := range flags {
		t.Run(known.name, func(t *testing.T) {
			word := map[string]string{flagDropCaps: "drop-caps=CAP_KILL", flagSize: "size=5"}[known.name]
			if word == "" {
				word = known.name
			}
			_, err := Parse("/book", []byte("# a comment\nalice:200000:65536:"+word+"\n"))
			wantError(t, err)
		})
	}
}

func TestOtherCaps(t *testing.T) {
	others := OtherCaps([]string{"CAP_KILL", "CAP_WAKE_ALARM"})
	if len(others) != len(capabilities)-2 || slices.Contains(others, "CAP_KILL") || !slices.Contains(others, "CAP_CHOWN") {
		t.Errorf("%q", others)
	}
	if !slices.Contains(capabilities[:], "CAP_KILL") {
		t.Error("the list was changed")
	}
}

func TestCapabilitiesCanBeSearched(t *testing.T) {
	if len(capabilities) != 41 || !slices.IsSorted(capabilities[:]) {
		t.Errorf("%d names, sorted: %v", len(capabilities), slices.IsSorted(capabilities[:]))
	}
}

// Those that are offered are those that a line may bear.
func TestFlagNames(t *testing.T) {
	names := FlagNames()
	if !slices.Contains(names, "deny-setgroups") || !slices.Contains(names, "reserved") || slices.Contains(names, "size") || slices.Contains(names, "drop-caps") {
		t.Errorf("%q", names)
	}
	for _, name := range names {
		if _, err := ParseFlags(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
