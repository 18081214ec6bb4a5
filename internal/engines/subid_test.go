// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func parse(t *testing.T, text string) *SubIDFile {
	t.Helper()
	f, err := ParseSubIDs("/etc/subuid", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func entry(owner string, start, count uint32) SubIDEntry {
	return SubIDEntry{owner, idmap.Range{Start: start, Count: count}}
}

func TestWithLeavesOthers(t *testing.T) {
	ours := "# usernsctl export-subid: ann 300000 100\nann:300000:100\n"
	for _, c := range []struct{ name, text, want string }{
		{"no file", "", ours},
		{"others", "ben:1:2\n", "ben:1:2\n" + ours},
		{"no end of the last line", "x\nben:1:2", "x\n" + ours + "ben:1:2"},
		{"one line without an end", "ben:1:2", ours + "ben:1:2"},
		{"CR LF", "ben:1:2\r\n\r\n", "ben:1:2\r\n\r\n" + ours},
		{"malformed", "::\n:::::\n\x1b[31m\n\xff\n", "::\n:::::\n\x1b[31m\n\xff\n" + ours},
		{"there already", "a\n" + ours + "b\n", "a\n" + ours + "b\n"},
		{"sorted by useradd", "ann:300000:100\nz:9:9\n# usernsctl export-subid: ann 300000 100\n", "ann:300000:100\nz:9:9\n# usernsctl export-subid: ann 300000 100\n"},
		{"one that isn't wanted", "# usernsctl export-subid: old 5 5\nold:5:5\nz:1:1\n", "z:1:1\n" + ours},
		{"comment without its entry", "# usernsctl export-subid: old 5 5\nz:1:1\n", "z:1:1\n" + ours},
		{"entry that was changed", "# usernsctl export-subid: old 5 5\nold:5:6\nold:4:5\nben:6:1\n", "old:5:6\nold:4:5\nben:6:1\n" + ours},
		{"what usermod left", "# usernsctl export-subid: ann 300000 100\nann:300000:10\nann:300020:80\nann:300100:1\n", "ann:300100:1\n" + ours},
		{"what usermod left of another", "# usernsctl export-subid: old 5 5\nx\nold:5:1\nold:9:1\n", "x\n" + ours},
		{"what usermod left, and it is wanted", "z:1:1\n# usernsctl export-subid: ann 299999 102\nann:300000:100\n", "z:1:1\n" + ours},
		{"comment twice, and more of the owner's", "# usernsctl export-subid: ann 300000 100\n" + ours + "ann:300010:5\n", ours + "ann:300010:5\n"},
		{"comment twice", ours + "# usernsctl export-subid: ann 300000 100\n", ours},
		{"comment like ours", "# usernsctl export-subid: ann 300000\n# usernsctl export-subid:\n", "# usernsctl export-subid: ann 300000\n# usernsctl export-subid:\n" + ours},
		{"another's of the same text", "ann:300000:100\n" + ours, "ann:300000:100\n# usernsctl export-subid: ann 300000 100\nann:300000:100\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := []SubIDEntry{entry("ann", 300000, 100)}
			got := string(parse(t, c.text).With(want))
			if got != c.want {
				t.Fatalf("got\n%q\nwant\n%q", got, c.want)
			}
			if again := string(parse(t, got).With(want)); again != got {
				t.Errorf("not idempotent:\n%q", again)
			}
		})
	}
}

// Export and undo is the identity, whatever others have in the file.
func FuzzUndo(f *testing.F) {
	for _, text := range []string{"", "a:1:2", "a:1:2\n#\n", "\r\n\x1b\n::", "ann:300000:100\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := ParseSubIDs("f", []byte(text))
		if err != nil || strings.Contains(text, strings.TrimSpace(subIDMark)) {
			return
		}
		want := []SubIDEntry{entry("ann", 300000, 100), entry("ben", 400000, 100)}
		out := file.With(want)
		back, err := ParseSubIDs("f", out)
		if err != nil {
			t.Fatal(err)
		}
		if got := back.Ours(); len(got) != 2 {
			t.Fatalf("%q: ours are %v", out, got)
		}
		undone, _ := RemoveSubIDs(back, func(string) bool { return true })
		if strings.Contains(text, "ann:300000:100") || strings.Contains(text, "ben:400000:100") {
			// Of two lines of one text either may be the one that goes.
			a, b := strings.Split(text, "\n"), strings.Split(string(undone), "\n")
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Fatalf("%q became %q", text, undone)
			}
			return
		}
		if string(undone) != text {
			t.Fatalf("%q became %q", text, undone)
		}
	})
}

func TestParseSubIDs(t *testing.T) {
	if _, err := ParseSubIDs("/etc/subuid", []byte("a:1:2\nb\x00:1:2\n")); err == nil || !strings.Contains(err.Error(), "/etc/subuid:2: holds a NUL byte") {
		t.Errorf("NUL: %v", err)
	}
	long := strings.Repeat("l", 1100)
	f := parse(t, "# c\n\nann:1:2\nann:01:2\nann: 1:2\nann:1:2:3\nann:1:0\n+ann:1:2\n"+long+":1:2\nann:1:2\r\n1000:5:6\nann:0x10:2\nann:4294967290:100\n")
	var got []string
	for _, e := range f.Entries() {
		got = append(got, e.Where+" "+e.Owner)
	}
	if want := []string{"/etc/subuid:3 ann", "/etc/subuid:11 1000"}; !slices.Equal(got, want) {
		t.Errorf("entries %v, want %v", got, want)
	}
	if odd := f.Odd(); len(odd) != 9 || !strings.HasPrefix(odd[0], `/etc/subuid:4: "ann:01:2": is passed over: expected USER:START:COUNT`) {
		t.Errorf("odd: %d: %q", len(odd), odd)
	}
}

// Where shadow and others read different numbers, a new entry keeps clear of both.
func TestForeign(t *testing.T) {
	f := parse(t, "a:0200000:65536\nb:0x50000: 0x100\n# c:1:2\n# usernsctl export-subid: ann 7 8\nann:7:8\nd:4294967290:99999999999\nlong:5:6:7\ne:+9:1\n")
	var got []string
	for _, s := range f.Foreign(func(owner string) bool { return owner == "ann" }) {
		got = append(got, fmt.Sprint(s.Owner, " ", s.Range, " ", s.Where))
	}
	want := []string{
		"a [200000-265536) /etc/subuid:1", "a [65536-131072) /etc/subuid:1", "b [327680-327936) /etc/subuid:2",
		"d [4294967290-4294967295) /etc/subuid:6", "long [5-11) /etc/subuid:7", "e [9-10) /etc/subuid:8",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if n := len(f.Foreign(func(string) bool { return false })); n != 7 {
		t.Errorf("ours of others: %d", n)
	}
}

func book(t *testing.T, text string) *registry.Book {
	t.Helper()
	b, err := (&registry.Book{}).With("book", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var testHost = registry.Host{
	Users: []registry.Account{
		{Name: "ann", ID: 1000, Where: "/etc/passwd:1"}, {Name: "ben", ID: 1001, Where: "/etc/passwd:2"},
		{Name: "1002", ID: 1002, Where: "/etc/passwd:3"}, {Name: "+nis", ID: 1003, Where: "/etc/passwd:4"},
		{Name: "in", ID: 900005, Where: "/etc/passwd:5"}, {Name: "sp ace", ID: 1004, Where: "/etc/passwd:6"},
		{Name: "ann2", ID: 1000, Where: "/etc/passwd:7"},
	},
}

func everybody(string) bool { return true }

func TestPlan(t *testing.T) {
	for _, c := range []struct{ name, book, uids, want, passed, conflicts string }{
		{"by name and UID", "ann:300000:10:\n1000:300010:10:size=10\nben:400000:5:shared\n", "", "added ann:300000:20|added ben:400000:5", "", ""},
		{"another name of a UID", "ann:300000:10:\nann2:400000:10:\n1000:300010:1:size=1\n", "", "added ann:300000:11", "book:2: owner ann2: is another name of UID 1000 (ann), to whom newuidmap would give the IDs", ""},
		{"no account", "ghost:300000:10:\n2000:400000:10:\nghost:500000:1:\n", "", "", "book:1: owner ghost: has no account|book:2: owner 2000: has no account", ""},
		{"names that mean two things", "1002:300000:10:\n+nis:400000:10:\n1004:500000:1:\n", "", "",
			`book:1: owner 1002: has the login name "1002"|book:2: owner +nis: has the login name "+nis"|book:3: owner 1004: has the login name "sp ace"`, ""},
		{"restricting", "ann:300000:10:deny-setgroups\nann:300005:10:\n", "", "added ann:300010:5", "book:1: ann:300000:10:deny-setgroups has the flag deny-setgroups", ""},
		{"reserved", "ann:300000:10:\nann:300002:2:reserved\nx:300008:50:reserved\n", "", "added ann:300000:2|added ann:300004:4", "", ""},
		{"present", "ann:300000:10:\n", "ann:300000:4\n1000:300006:4\n", "added ann:300004:2|present ann:300000:4|present ann:300006:4", "", ""},
		{"present, but not to shadow", "ann:300000:10:\n", "ann:300000:10\r\n", "added ann:300000:10", "", ""},
		{"of another by an entry", "ann:300000:10:\n", "ben:300009:1\n", "", "", "book:1: [300009-300010) of ann belongs to ben by /etc/subuid:1"},
		{"of another by octal", "ann:65536:10:\n", "ben:0200000:1\n", "", "", "book:1: [65536-65537) of ann belongs to ben by /etc/subuid:1"},
		{"of another by the book", "ann:300000:10:\ngreg:300009:10:\n", "", "", "book:2: owner greg: has no account", "book:2: [300009-300010) of greg belongs to ann (book:1) too"},
		{"an account inside", "ann:900000:10:\n", "", "", "", "book:1: 900005 of ann is the host's user in (/etc/passwd:5)"},
		{"an account inside a hole", "ann:900000:10:\nx:900005:1:reserved\n", "", "added ann:900000:5|added ann:900006:4", "", ""},
		{"gone from the book", "ann:300000:10:\n", "# usernsctl export-subid: ben 5 5\nben:5:5\n", "removed ben:5:5|added ann:300000:10", "", ""},
		{"kept", "ann:300000:10:\n", "ann:300000:10\n# usernsctl export-subid: ann 300000 10\n", "kept ann:300000:10", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := PlanSubIDs(book(t, c.book), testHost, registry.Flags.Restricting, everybody)
			f := parse(t, c.uids)
			begins := func(what string, got []string, want string) {
				t.Helper()
				var wants []string
				if want != "" {
					wants = strings.Split(want, "|")
				}
				if !slices.EqualFunc(got, wants, strings.HasPrefix) {
					t.Errorf("%s:\ngot  %q\nwant %q", what, got, wants)
				}
			}
			var passed, changes []string
			for _, p := range plan.Passed {
				passed = append(passed, p.Why)
			}
			begins("passed", passed, c.passed)
			conflicts := plan.Conflicts(f, parse(t, ""))
			begins("conflicts", conflicts, c.conflicts)
			if len(conflicts) > 0 {
				return
			}
			_, all := plan.Apply(f)
			for _, ch := range all {
				changes = append(changes, ch.State+" "+ch.String())
			}
			begins("changes", changes, c.want)
		})
	}
}

func TestAround(t *testing.T) {
	plan := PlanSubIDs(book(t, "ann:300000:10:deny-setgroups\n"), testHost, registry.Flags.Restricting, everybody)
	got := plan.Around(parse(t, "x:1:1\n1000:300009:100\n"))
	if len(got) != 1 || !strings.HasPrefix(got[0], "/etc/subuid:2: gives [300009-300010) to 1000 without the flag deny-setgroups of book:1") {
		t.Errorf("got %q", got)
	}
}

// What was exported and isn't what the book says any more is found, and so is who gets around a flag.
func TestStale(t *testing.T) {
	mine := "# usernsctl export-subid: ann 300000 10\nann:300000:10\n"
	for _, c := range []struct{ name, book, text, want string }{
		{"as it was", "ann:300000:10:\n", mine, ""},
		{"of the UID", "1000:300000:10:\n", mine, ""},
		{"longer by now", "ann:300000:20:\n", mine, ""},
		{"gone", "ben:400000:5:\n", mine, "ann /etc/subuid:2 [300000-300010): gives [300000-300010) to ann"},
		{"shorter", "ann:300000:4:\n", mine, "ann /etc/subuid:2 [300004-300010): gives [300004-300010) to ann"},
		{"a hole", "ann:300000:10:\nx:300002:1:reserved\n", mine, "ann /etc/subuid:2 [300002-300003): gives [300002-300003) to ann"},
		{"a flag", "ann:300000:10:deny-setgroups\n", mine, "ann /etc/subuid:2 [300000-300010): gives [300000-300010) to ann"},
		{"what usermod left", "x:1:1:\n", "# usernsctl export-subid: ann 300000 10\nann:300001:2\n", "ann /etc/subuid:2 [300001-300003): gives [300001-300003) to ann"},
		{"no account any more", "ghost:300000:10:\n", "ghost:300000:10\n# usernsctl export-subid: ghost 300000 10\n", "ghost /etc/subuid:1 [300000-300010): gives [300000-300010) to ghost"},
		{"another's", "x:1:1:\n", "ann:300000:10\n", ""},
		{"another's, around a flag", "ann:300000:10:deny-setgroups\n", "x\n1000:300009:9\n", "ann /etc/subuid:2 [300009-300010): gives [300009-300010) to 1000 without the flag deny-setgroups"},
		{"another's, around a flag, with a sign", "ann:300000:10:deny-setgroups\n", "ann:+300009:9\n", "ann /etc/subuid:1 [300009-300010): gives [300009-300010) to ann without the flag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, s := range StaleSubIDs(book(t, c.book), testHost, registry.Flags.Restricting, parse(t, c.text), parse(t, "")) {
				if s.Severity != registry.Warning || !strings.HasPrefix(s.Message, s.Where+": ") {
					t.Errorf("%+v", s)
				}
				got = append(got, fmt.Sprintf("%s %s %s: %s", s.Login, s.Where, s.Range, strings.TrimPrefix(s.Message, s.Where+": ")))
			}
			if all := strings.Join(got, "|"); !strings.HasPrefix(all, c.want) || c.want == "" && all != "" || len(got) > 1 {
				t.Errorf("got %q, want %q", all, c.want)
			}
		})
	}
}

// Of owners who aren't chosen nothing is written, and nothing taken.
func TestPlanOfOne(t *testing.T) {
	f := parse(t, "# usernsctl export-subid: ben 5 5\nben:5:5\n")
	plan := PlanSubIDs(book(t, "1000:300000:10:\nben:400000:10:\nghost:1000000:1:\n"), testHost, registry.Flags.Restricting, func(login string) bool { return login == "ann" })
	if len(plan.Passed) != 0 {
		t.Errorf("passed: %v", plan.Passed)
	}
	text, _ := plan.Apply(f)
	want := "# usernsctl export-subid: ben 5 5\nben:5:5\n# usernsctl export-subid: ann 300000 10\nann:300000:10\n"
	if string(text) != want {
		t.Errorf("got\n%s", text)
	}
	// Another's, exported from a book that was another, is in the way as any.
	plan = PlanSubIDs(book(t, "ann:300000:10:\n"), testHost, registry.Flags.Restricting, func(login string) bool { return login == "ann" })
	if got := plan.Conflicts(parse(t, "# usernsctl export-subid: ben 300000 5\nben:300000:5\n"), parse(t, "")); len(got) != 1 {
		t.Errorf("conflicts: %q", got)
	}
}

func TestSubIDSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nsswitch.conf")
	for _, c := range []struct{ text, want string }{
		{"", ""}, {"passwd: files sss\n", ""}, {"subid: files\n", ""}, {" subid :\tsss files # x\n", "sss"}, {"# subid: sss\n", ""}, {"subid:\n", ""},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := SubIDSource(path); err != nil || got != c.want {
			t.Errorf("%q: %q, %v, want %q", c.text, got, err, c.want)
		}
	}
	if got, err := SubIDSource(path + "-no"); err != nil || got != "" {
		t.Errorf("no file: %q, %v", got, err)
	}
}
