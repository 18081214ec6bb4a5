// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestCheck(t *testing.T) {
	ids := func(start, count uint32) idmap.Range { return idmap.Range{Start: start, Count: count} }
	users := func(a ...Account) World { return World{Host: Host{Users: a}} }
	subUIDs := func(s ...SubID) World { return World{SubUIDs: s} }
	alice := Account{"alice", 1000, "/etc/passwd:2"}
	for _, row := range []struct {
		name  string
		lines []string
		world World
		// SEVERITY WHERE OTHER RANGE: and what the message has besides
		want []string
		says []string
	}{
		// 7300000 and on is out of kubelet's range, and 2000000000 of all.
		{name: "nothing"},
		{name: "lines apart", lines: []string{"a:2000000000:65536:", "b:2000065536:65536:", "a:2000131072:65536:"}},
		{name: "two owners", lines: []string{"#", "a:2000000000:65536:", "b:2000065535:65536:"},
			want: []string{"error /book:3 /book:2 [2000065535-2000065536)"},
			says: []string{"/book:3: [2000065535-2000065536) of b belongs to a (/book:2) too: shorten or move one of the lines"}},
		{name: "the later line is to blame, wherever it starts", lines: []string{"b:2000010000:65536:", "a:2000000000:65536:"},
			want: []string{"error /book:2 /book:1 [2000010000-2000065536)"}},
		{name: "all pairs", lines: []string{"a:2000000000:65536:", "b:2000000000:65536:", "c:2000000000:65536:"},
			want: []string{"error /book:2 /book:1 [2000000000-2000065536)", "error /book:3 /book:1 [2000000000-2000065536)", "error /book:3 /book:2 [2000000000-2000065536)"}},
		{name: "one inside another, and the next beyond it", lines: []string{"a:2000000000:300000:", "b:2000000010:65536:", "c:2000200000:65536:"},
			want: []string{"error /book:2 /book:1 [2000000010-2000065546)", "error /book:3 /book:1 [2000200000-2000265536)"}},
		{name: "a duplicate", lines: []string{"a:2000000000:65536:", "a:2000000000:65536:shared"},
			want: []string{"warning /book:2 /book:1 [2000000000-2000065536)"},
			says: []string{"/book:2: [2000000000-2000065536) is granted to a by /book:1 already: remove one of the lines"}},
		{name: "one owner's lines overlap", lines: []string{"a:2000000000:65536:", "a:2000000001:65536:"},
			want: []string{"warning /book:2 /book:1 [2000000001-2000065536)"}, says: []string{"the flags of both lines apply"}},
		{name: "one owner under two names", lines: []string{"alice:2000000000:65536:", "1000:2000000000:65536:"}, world: users(alice),
			want: []string{"warning /book:2 /book:1 [2000000000-2000065536)"}},
		{name: "two names whose accounts aren't known", lines: []string{"alice:2000000000:65536:", "1000:2000000000:65536:"},
			want: []string{"error /book:2 /book:1 [2000000000-2000065536)"}},

		{name: "reserved by two", lines: []string{"a:2000000000:65536:reserved", "b:2000000000:65536:reserved"}},
		{name: "granted where another reserves", lines: []string{"a:2000000000:65536:reserved", "b:2000000000:65536:"},
			want: []string{"error /book:2 /book:1 [2000000000-2000065536)"}, says: []string{"one of them is reserved: nothing of it can be granted: shorten one of the lines"}},
		{name: "owned by an account, by name and by number", lines: []string{"alice:2000000000:65536:owned", "1000:2000065536:65536:owned,deny-setgroups"}, world: users(alice)},
		{name: "owned by nobody", lines: []string{"bob:2000000000:65536:owned", "1001:2000065536:65536:owned"}, world: users(alice),
			want: []string{"error /book:1  [2000000000-2000065536)", "error /book:2  [2000065536-2000131072)"},
			says: []string{"/book:1: flag owned: bob has no account on this host to own a user namespace: make one (useradd bob), or remove the flag"}},
		{name: "owned by root", lines: []string{"root:2000000000:65536:owned", "0:2000065536:65536:owned"}, world: users(Account{"root", 0, "/etc/passwd:1"}),
			want: []string{"error /book:1  [2000000000-2000065536)", "error /book:2  [2000065536-2000131072)"}},
		{name: "owned, and what doesn't hold then", lines: []string{"alice:2000000000:65536:owned,no-new-privs,deny-setgroups,shared"}, world: users(alice),
			want: []string{"error /book:1  [2000000000-2000065536)"},
			says: []string{"flag owned: alice owns the user namespaces of this grant's containers, and undoes no-new-privs there: keep one of them"}},
		{name: "owned, but only reserved", lines: []string{"bob:2000000000:65536:owned,no-new-privs,reserved"}},
		{name: "a hole", lines: []string{"a:2000000000:65536:", "a:2000000010:5:reserved"}, want: []string{"warning /book:2 /book:1 [2000000010-2000000015)"}},
		{name: "reserved over what others use", lines: []string{"h:1:65533:reserved", "s:524288:1000000:reserved"},
			world: World{Host: Host{Users: []Account{alice}}, SubUIDs: []SubID{{"bob", ids(600000, 5), "/etc/subuid:1"}}, Installed: []Software{SystemdNspawn}}},

		{name: "a user's ID", lines: []string{"a:2000000000:65536:"}, world: users(alice, Account{"svc", 2000000005, "/etc/passwd:9"}),
			want: []string{"error /book:1 /etc/passwd:9 [2000000005-2000000006)"},
			says: []string{"/book:1: 2000000005 of a is the host's user svc (/etc/passwd:9): move the line, or give the account another ID: usermod -u NEW svc"}},
		{name: "a group's ID", lines: []string{"a:2000000000:65536:"}, world: World{Host: Host{Groups: []Account{{"adm", 2000065535, "/etc/group:3"}}}},
			want: []string{"error /book:1 /etc/group:3 [2000065535-2000065536)"}, says: []string{"the host's group adm", "groupmod -g NEW adm"}},
		{name: "IDs beside the line", lines: []string{"a:2000000000:65536:"}, world: users(Account{"x", 1999999999, ""}, Account{"y", 2000065536, ""})},
		{name: "an ID in two lines", lines: []string{"a:2000000000:65536:", "b:2000000000:65536:"}, world: users(Account{"x", 2000000000, "p:1"}),
			want: []string{"error /book:1 p:1 [2000000000-2000000001)", "error /book:2 /book:1 [2000000000-2000065536)", "error /book:2 p:1 [2000000000-2000000001)"}},

		{name: "a subuid of another", lines: []string{"a:2000000000:65536:"}, world: subUIDs(SubID{"bob", ids(1999999990, 20), "/etc/subuid:1"}),
			want: []string{"error /book:1 /etc/subuid:1 [2000000000-2000000010)"},
			says: []string{"/book:1: [2000000000-2000000010) of a belongs to bob by /etc/subuid:1: move one of the lines"}},
		{name: "a subgid of another", lines: []string{"a:2000000000:65536:"}, world: World{SubGIDs: []SubID{{"bob", ids(2000000000, 65536), "/etc/subgid:1"}}},
			want: []string{"error /book:1 /etc/subgid:1 [2000000000-2000065536)"}},
		{name: "a subuid of the owner's", lines: []string{"a:2000000000:65536:"}, world: subUIDs(SubID{"a", ids(2000000000, 65536), "/etc/subuid:1"})},
		{name: "a subuid of the owner's UID", lines: []string{"alice:2000000000:65536:"},
			world: World{Host: Host{Users: []Account{alice}}, SubUIDs: []SubID{{"1000", ids(2000000000, 65536), "/etc/subuid:1"}}}},
		{name: "entries of others that overlap are not ours to judge", lines: []string{"a:2000000000:65536:"},
			world: subUIDs(SubID{"b", ids(100, 10), "s:1"}, SubID{"c", ids(100, 10), "s:2"})},

		{name: "kubelet", lines: []string{"a:131072:65536:"}, want: []string{"warning /book:1 kubelet [131072-196608)"},
			says: []string{"/book:1: [131072-196608) of a can be taken for pods by kubelet, if it is ever installed: move the line out of [65536-7274496), or configure kubelet to keep out"}},
		{name: "kubelet, installed", lines: []string{"a:131072:65536:"}, world: World{Installed: []Software{Kubelet, Incus}},
			want: []string{"error /book:1 kubelet [131072-196608)"}, says: []string{"by kubelet, which is installed: "}},
		{name: "systemd's containers and Incus", lines: []string{"a:8000000:65536:"}, world: World{Installed: []Software{Incus}},
			want: []string{"warning /book:1 systemd-nspawn [8000000-8065536)", "error /book:1 incus [8000000-8065536)"}},
		{name: "the last of systemd's containers", lines: []string{"a:1879048191:65536:"}, want: []string{"warning /book:1 systemd-nspawn [1879048191-1879048192)"}},
		{name: "dynamic users, and homes", lines: []string{"a:60513:5000:size=1"},
			want: []string{"warning /book:1 systemd-homed [60513-60514)", "warning /book:1 systemd-nspawn [60514-60578)", "warning /book:1 systemd [61184-65513)"}},
		{name: "foreign IDs", lines: []string{"a:2147352575:65536:"}, world: World{Installed: []Software{Systemd}},
			want: []string{"error /book:1 systemd [2147352576-2147418111)"}},

		{name: "too short", lines: []string{"a:2000000000:65535:"}, want: []string{"error /book:1  [2000000000-2000065535)"},
			says: []string{`/book:1: [2000000000-2000065535) has 65535 IDs, fewer than the 65536 of one container: lengthen it, or make its containers smaller: write "a:2000000000:65535:size=65535"`}},
		{name: "too short for its size", lines: []string{"a:2000000000:65536:size=65537"}, want: []string{"error /book:1  [2000000000-2000065536)"}},
		{name: "long enough for its size", lines: []string{"a:2000000000:5:size=5"}},
		{name: "a short reserved line", lines: []string{"a:2000000000:5:reserved"}},

		{name: "everything, by line", lines: []string{"a:2000000000:5:", "b:2000000004:65536:"},
			world: World{Host: Host{Users: []Account{{"x", 2000000004, "p:1"}}}, SubUIDs: []SubID{{"c", ids(2000000000, 1), "s:1"}}},
			want: []string{"error /book:1  [2000000000-2000000005)", "error /book:1 s:1 [2000000000-2000000001)", "error /book:1 p:1 [2000000004-2000000005)",
				"error /book:2 /book:1 [2000000004-2000000005)", "error /book:2 p:1 [2000000004-2000000005)"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := Check(bookOf(t, row.lines...), row.world)
			var all []string
			for _, c := range got {
				all = append(all, fmt.Sprintf("%s %s %s %s", c.Severity, c.Where, c.Other, c.Range))
				if !strings.HasPrefix(c.Message, c.Where+": ") || c.Other != "" && !strings.Contains(c.Message, c.Other) {
					t.Errorf("message %q doesn't name %q and %q", c.Message, c.Where, c.Other)
				}
			}
			if a, b := strings.Join(all, "\n"), strings.Join(row.want, "\n"); a != b {
				t.Errorf("got\n%s\nwant\n%s", a, b)
			}
			for _, part := range row.says {
				found := false
				for _, c := range got {
					found = found || strings.Contains(c.Message, part)
				}
				if !found {
					t.Errorf("no message says %q: %+v", part, got)
				}
			}
		})
	}
}

func TestCheckEnds(t *testing.T) {
	lines := make([]string, 1000)
	for i := range lines {
		lines[i] = fmt.Sprintf("u%d:2000000000:65536:", i)
	}
	got := Check(bookOf(t, lines...), World{})
	if len(got) != maxConflicts+1 {
		t.Fatalf("%d conflicts", len(got))
	}
	if last := got[maxConflicts]; last.Severity != Error || !strings.Contains(last.Message, "more than 10000 conflicts: mend these first") {
		t.Errorf("the last is %+v", last)
	}
}

// Nothing the hints propose may be what Check warns of.
func TestRoomyRangesAreFree(t *testing.T) {
	for _, room := range roomy {
		for _, a := range Allocators() {
			if a.Software != Kubelet && a.Range.Overlaps(room) {
				t.Errorf("%s overlaps %s of %s", room, a.Range, a.Software)
			}
		}
	}
}

func TestBigCheck(t *testing.T) {
	book, err := new(Book).With("/book", bigBook(100000))
	if err != nil {
		t.Fatal(err)
	}
	// It holds lines up to 6470000: those below 524288 meet kubelet alone, those
	// above systemd too, those above 1000000 Incus too. These are warnings, of
	// which no number is an error.
	got := Check(book, World{})
	if len(got) != maxConflicts+1 {
		t.Fatalf("%d conflicts", len(got))
	}
	for _, c := range got {
		if c.Severity != Warning {
			t.Fatalf("%+v", c)
		}
	}
	if last := got[maxConflicts]; last.Where != "" || !regexp.MustCompile(`^2[0-9]{5} more warnings: these are the first 10000$`).MatchString(last.Message) {
		t.Errorf("the last is %+v", last)
	}
}

// However many warnings there are, an error is among what is found.
func TestCheckFindsErrorsAmongWarnings(t *testing.T) {
	lines := make([]string, 0, 5002)
	for i := range 5001 {
		lines = append(lines, fmt.Sprintf("u%d:%d:10:size=10", i, 524288+10*i)) // kubelet, systemd-nspawn
	}
	lines = append(lines, "last:524290:1:size=1")
	book := bookOf(t, lines...)
	var errs, warnings []Conflict
	for _, c := range Check(book, World{}) {
		if c.Severity == Error {
			errs = append(errs, c)
		} else {
			warnings = append(warnings, c)
		}
	}
	if len(errs) != 1 || errs[0].Where != "/book:5002" || errs[0].Other != "/book:1" {
		t.Errorf("errors: %+v", errs)
	}
	if len(warnings) != maxConflicts+1 || warnings[maxConflicts].Message != "4 more warnings: these are the first 10000" {
		t.Errorf("%d warnings, the last is %+v", len(warnings), warnings[len(warnings)-1])
	}
}

// One owner's lines that all overlap are warnings, and so many that the check ends.
func TestCheckEndsAtWarnings(t *testing.T) {
	lines := make([]string, 100000)
	for i := range lines {
		lines[i] = fmt.Sprintf("a:%d:100000:", 2000000000+i)
	}
	got := Check(bookOf(t, lines...), World{})
	if len(got) != maxConflicts+2 {
		t.Fatalf("%d conflicts", len(got))
	}
	if w, e := got[maxConflicts], got[maxConflicts+1]; w.Message != "at least 1000001 more warnings: these are the first 10000" ||
		e.Severity != Error || e.Message != "more than 10000 conflicts: mend these first" {
		t.Errorf("the last are %+v, %+v", w, e)
	}
}
