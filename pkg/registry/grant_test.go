// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// bookOf is a book at /book with these lines.
func bookOf(t *testing.T, lines ...string) *Book {
	t.Helper()
	b, err := new(Book).With("/book", []byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mapOf reads "inner:outer:count,..." without judging it.
func mapOf(t *testing.T, text string) idmap.Map {
	t.Helper()
	var m idmap.Map
	if text == "" {
		return m
	}
	for part := range strings.SplitSeq(text, ",") {
		var e idmap.Extent
		if _, err := fmt.Sscanf(part, "%d:%d:%d", &e.Inner, &e.Outer, &e.Count); err != nil {
			t.Fatalf("%q: %v", part, err)
		}
		m = append(m, e)
	}
	return m
}

func TestGrant(t *testing.T) {
	lines := []string{
		"alice:200000:65536:", "bob:300000:65536:", "1000:400000:65536:shared", "carol:500000:65536:reserved", "alice:600000:10:reserved",
	}
	for _, row := range []struct {
		name  string
		lines []string
		names []string
		host  Host
		want  []int // line numbers
		err   []string
	}{
		{name: "by login", lines: lines, names: []string{"bob"}, want: []int{2}},
		{name: "by login and UID, without the reserved", lines: lines, names: []string{"alice", "1000"}, want: []int{1, 3}},
		{name: "by UID", lines: lines, names: []string{"1000"}, want: []int{3}},
		{name: "a name is not a prefix", lines: lines, names: []string{"ali", "alicee", "100", "10000"},
			err: []string{"grant: ali or alicee or 100 or 10000: no line of the book grants anything: add one: "}},
		{name: "nobody", lines: lines, names: []string{"eve"},
			err: []string{"grant: eve: ", "add one: usernsctl add eve"}},
		{name: "only reserved", lines: lines, names: []string{"carol"},
			err: []string{"grant: carol: no line of the book grants anything (/book:4 only reserves): add one: usernsctl add carol"}},
		{name: "a name for the shell", names: []string{"it's"}, err: []string{`usernsctl add 'it'\''s'`}},
		{name: "no name", lines: lines, err: []string{"grant: no line of the book grants anything: the holder has no name"}},
		{name: "an empty name", lines: lines, names: []string{""}, err: []string{"no line of the book"}},
		{name: "an empty book", names: []string{"alice"}, err: []string{"usernsctl add alice"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			g, err := bookOf(t, row.lines...).Grant(Holder{Names: row.names}, row.host)
			wantError(t, err, row.err...)
			if err != nil {
				if g != nil || !errors.Is(err, ErrNoGrant) {
					t.Errorf("grant %v beside error %v", g, err)
				}
				return
			}
			var got []int
			for _, l := range g.Lines() {
				got = append(got, l.Number)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("lines %v, want %v", got, row.want)
			}
		})
	}
}

func TestGrantOfTheZeroBook(t *testing.T) {
	_, err := new(Book).Grant(Holder{Names: []string{"alice"}}, Host{})
	wantError(t, err, "usernsctl add alice")
}

func TestFirst(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		want  string
		err   []string
	}{
		{"the default size of a longer line", []string{"a:200000:100000:"}, "0:200000:65536", nil},
		{"a size", []string{"a:200000:100000:size=10"}, "0:200000:10", nil},
		{"a size above the default", []string{"a:200000:100000:size=100000"}, "0:200000:100000", nil},
		{"the first line that isn't reserved", []string{"b:70000:5:size=5", "a:100000:65536:reserved", "a:200000:65536:", "a:300000:65536:"}, "0:200000:65536", nil},
		{"too short", []string{"#", "a:200000:65535:"}, "",
			[]string{`grant: /book:2: has 65535 IDs, fewer than the 65536 of one container: lengthen it, or make its containers smaller: write "a:200000:65535:size=65535"`}},
		{"too short for its size", []string{"a:200000:9:shared,size=10"}, "", []string{`/book:1: has 9 IDs, fewer than the 10`, `write "a:200000:9:shared,size=9"`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			g, err := bookOf(t, row.lines...).Grant(Holder{Names: []string{"a"}}, Host{})
			if err != nil {
				t.Fatal(err)
			}
			uids, gids, err := g.First()
			wantError(t, err, row.err...)
			if err != nil {
				if uids != nil || gids != nil {
					t.Errorf("maps %v and %v beside an error", uids, gids)
				}
				return
			}
			if uids.String() != row.want || gids.String() != row.want {
				t.Errorf("uids %s, gids %s, want %s", uids, gids, row.want)
			}
			if _, err := g.Permits(uids, gids); err != nil {
				t.Errorf("not permitted: %v", err)
			}
			uids[0].Outer = 7
			if gids[0].Outer == 7 {
				t.Error("both maps are one")
			}
		})
	}
}

func TestPermits(t *testing.T) {
	const plain = "alice:200000:65536:"
	host := Host{
		Users:  []Account{{"root", 0, "/etc/passwd:1"}, {"alice", 1000, "/etc/passwd:2"}, {"nobody", 65534, "/etc/passwd:3"}},
		Groups: []Account{{"root", 0, "/etc/group:1"}, {"alice", 1000, "/etc/group:2"}, {"users", 100, "/etc/group:3"}},
	}
	with := func(users, groups []Account) Host {
		return Host{slices.Concat(host.Users, users), slices.Concat(host.Groups, groups)}
	}
	alice := &Own{UID: 1000, GID: 1000}
	for _, row := range []struct {
		name       string
		lines      []string
		own        *Own
		host       Host // the zero Host is host
		uids, gids string
		want       string // line numbers: flags
		err        []string
		reasons    int // how many there must be; 0 is as many as err
	}{
		{name: "the whole line", lines: []string{plain}, uids: "0:200000:65536", gids: "0:200000:65536", want: "1: "},
		{name: "a part", lines: []string{plain}, uids: "0:200001:5", gids: "7:265535:1", want: "1: "},
		{name: "lines that touch are one set", lines: []string{plain, "alice:265536:10:"}, uids: "0:200000:65546", gids: "0:265530:16", want: "1,2: "},
		{name: "lines by another name", lines: []string{plain, "1000:300000:10:"}, uids: "0:200000:10", gids: "0:300000:10", want: "1,2: "},
		{name: "only the lines that are touched", lines: []string{plain, "alice:300000:5:deny-setgroups,no-new-privs"}, uids: "0:200000:5", gids: "0:200000:5", want: "1: "},
		{name: "touched by the GIDs alone", lines: []string{plain, "alice:300000:5:deny-setgroups,no-new-privs"}, uids: "0:200000:5", gids: "0:300004:1",
			want: "1,2: deny-setgroups,no-new-privs"},
		{name: "lines over each other all apply", lines: []string{"alice:200000:65536:shared,size=9", "alice:200010:1:no-new-privs,size=7"}, uids: "0:200010:1", gids: "0:200010:1",
			want: "1,2: no-new-privs,size=7"},
		{name: "shared by all", lines: []string{"alice:200000:5:shared", "alice:300000:5:shared"}, uids: "0:200000:5", gids: "0:300000:5", want: "1,2: shared"},
		{name: "another owner next to it", lines: []string{"bob:199990:10:", plain, "bob:265536:10:reserved"}, uids: "0:200000:65536", gids: "0:200000:65536", want: "2: "},
		{name: "lines in the middle of foreign ones", lines: []string{"bob:100000:5:", plain, "bob:300000:5:", "alice:400000:9:"}, uids: "0:400000:9,20:200000:1", gids: "0:200000:1", want: "2,4: "},
		{name: "accounts elsewhere", lines: []string{plain}, host: with([]Account{{"x", 199999, "p:4"}, {"y", 265536, "p:5"}}, nil), uids: "0:200000:65536", gids: "0:200000:65536", want: "1: "},
		{name: "a user's ID as GID, and a group's as UID", lines: []string{plain}, host: with([]Account{{"x", 200001, "p:4"}}, []Account{{"g", 200000, "g:4"}}),
			uids: "0:200000:1", gids: "0:200001:1", want: "1: "},

		{name: "no maps", lines: []string{plain}, err: []string{"uid map: impossible map: it is empty", "gid map: impossible map: it is empty"}},
		{name: "invalid maps, and nothing else is said of them", lines: []string{plain}, uids: "0:5:0", gids: "0:7:5,3:70000:5",
			err: []string{"uid map: extent 0:5:0", "gid map: impossible map: extents 0:7:5 and 3:70000:5 both map inner [3-5)"}},

		{name: "beside the line", lines: []string{"#", plain}, uids: "0:200000:1", gids: "0:300000:65536",
			err: []string{"gid extent 0:300000:65536: outer [300000-365536) isn't granted to alice, whose lines are /book:2 [200000-265536): " +
				"map IDs of these, or grant the others too: usernsctl add alice --start 300000 --length 65536"}},
		{name: "beyond the line", lines: []string{plain}, uids: "0:200000:65537", gids: "0:200000:1",
			err: []string{"uid extent 0:200000:65537: outer [265536-265537) isn't granted", "usernsctl add alice --start 265536 --length 1 --size 1"}, reasons: 1},
		{name: "before the line", lines: []string{plain}, uids: "0:199999:2", gids: "0:200000:1",
			err: []string{"uid extent 0:199999:2: outer [199999-200000) isn't granted"}},
		{name: "a gap between lines", lines: []string{"alice:200000:10:", "alice:200020:10:"}, uids: "0:200005:20", gids: "0:200000:1",
			err: []string{"outer [200010-200020) isn't granted to alice, whose lines are /book:1 [200000-200010), /book:2 [200020-200030): "}},
		{name: "every extent of both maps", lines: []string{plain}, uids: "0:300000:1,1:300002:1", gids: "0:300000:1",
			err: []string{"uid extent 0:300000:1: ", "uid extent 1:300002:1: ", "gid extent 0:300000:1: "}},
		{name: "many lines are not all listed", lines: slices.Repeat([]string{plain}, 11), uids: "0:300000:1", gids: "0:200000:1",
			err: []string{"/book:8 [200000-265536), and 3 more: map IDs"}},
		{name: "a reserved line grants nothing", lines: []string{plain, "alice:300000:10:reserved"}, uids: "0:300000:10", gids: "0:200000:1",
			err: []string{"uid extent 0:300000:10: outer [300000-300010) is reserved by alice (/book:2): map other IDs, or remove that line",
				"outer [300000-300010) isn't granted to alice, whose lines are /book:1 [200000-265536): map IDs of these"}},
		{name: "no hint to take what is another's", lines: []string{plain, "bob:300000:10:"}, uids: "0:300005:5", gids: "0:200000:1",
			err: []string{"outer [300005-300010) belongs to bob (/book:2): map other IDs, or shorten one of the two lines",
				"whose lines are /book:1 [200000-265536): map IDs of these"}},

		{name: "another owner's line over mine", lines: []string{plain, "bob:200010:5:", "bob:200100:5:"}, uids: "0:200000:12", gids: "0:200000:1",
			err: []string{"uid extent 0:200000:12: outer [200010-200012) belongs to bob (/book:2)"}},
		{name: "each other owner is named", lines: []string{plain, "bob:200010:5:", "carol:200012:5:"}, uids: "0:200000:1", gids: "0:200000:65536",
			err: []string{"gid extent 0:200000:65536: outer [200010-200015) belongs to bob (/book:2)", "outer [200012-200017) belongs to carol (/book:3)"}},
		{name: "a hole reserved in my line by me", lines: []string{plain, "alice:200010:5:reserved"}, uids: "0:200000:65536", gids: "0:200000:10",
			err: []string{"outer [200010-200015) is reserved by alice (/book:2)"}},
		{name: "a hole reserved in my line by another", lines: []string{plain, "systemd:200010:5:reserved"}, uids: "0:200000:65536", gids: "0:200000:10",
			err: []string{"outer [200010-200015) is reserved by systemd (/book:2)"}},
		{name: "a user of the host", lines: []string{plain}, host: with([]Account{{"svc", 200007, "/etc/passwd:12"}}, nil), uids: "0:200000:65536", gids: "0:200000:65536",
			err: []string{"uid extent 0:200000:65536: outer 200007 is the host's user svc (/etc/passwd:12): map other IDs, or give it another: usermod -u NEW svc"}},
		{name: "a group of the host", lines: []string{plain}, host: with(nil, []Account{{"adm", 200007, "/etc/group:12"}}), uids: "0:200000:65536", gids: "0:200000:65536",
			err: []string{"gid extent 0:200000:65536: outer 200007 is the host's group adm (/etc/group:12): map other IDs, or give it another: groupmod -g NEW adm"}},
		{name: "all kinds of reasons at once", lines: []string{plain, "bob:200010:5:", "z:200020:5:reserved"}, host: with([]Account{{"svc", 200007, "p:1"}}, nil),
			uids: "0:200000:65536,70000:300000:1", gids: "0:0:1",
			err: []string{"belongs to bob", "reserved by z", "the host's user svc", "[300000-300001) isn't granted", "gid extent 0:0:1: outer 0 can never be granted: map other IDs", "the host's group root"}},

		{name: "the identity of everything", lines: []string{plain}, uids: "0:0:4294967295", gids: "0:200000:1",
			err: []string{"outer 0 can never be granted", "outer 65534 can never", "outer 65535 can never", "outer [1-65534) isn't granted", "outer [65536-200000) isn't granted", "outer [265536-4294967295) isn't granted",
				"user root", "user alice", "user nobody"}},

		{name: "own UID and GID, setgroups denied by the line", lines: []string{"alice:200000:65536:deny-setgroups"}, own: alice,
			uids: "0:1000:1,1:200000:65535", gids: "0:1000:1,1:200000:65535", want: "1: deny-setgroups"},
		{name: "own UID alone", lines: []string{plain}, own: alice, uids: "0:1000:1", gids: "0:200000:1", want: "1: "},
		{name: "own IDs alone, setgroups denied by the caller", lines: []string{plain}, own: &Own{1000, 1000, true}, uids: "0:1000:1", gids: "0:1000:1", want: ": "},
		{name: "own IDs without a line's flags", lines: []string{"alice:200000:65536:deny-setgroups"}, own: alice, uids: "0:1000:1", gids: "0:1000:1",
			err: []string{"gid extent 0:1000:1: outer 1000 is the caller's own group, which without a group of their lines can be mapped only where setgroups is denied (CVE-2018-7169): ask for setgroups to be denied"}},
		{name: "own GID beside a line's, which allows setgroups", lines: []string{plain}, own: alice, uids: "0:200000:1", gids: "0:1000:1,1:200001:1", want: "1: "},
		{name: "own GID, and only UIDs of a line", lines: []string{plain}, own: alice, uids: "0:200000:1", gids: "0:1000:1",
			err: []string{"gid extent 0:1000:1: outer 1000 is the caller's own group"}},
		{name: "own GID beside a line's, and another line that isn't touched", lines: []string{plain, "alice:300000:5:deny-setgroups"}, own: alice, uids: "0:200000:1", gids: "0:1000:1,1:200001:1", want: "1: "},
		{name: "own GID beside another's", lines: []string{plain, "bob:300000:5:"}, own: alice, uids: "0:200000:1", gids: "0:1000:1,1:300001:1",
			err: []string{"gid extent 0:1000:1: outer 1000 is the caller's own group", "outer [300001-300002) belongs to bob", "isn't granted to alice"}},
		{name: "own GID beside a reserved one", lines: []string{plain, "alice:300000:5:reserved"}, own: alice, uids: "0:200000:1", gids: "0:1000:1,1:300001:1",
			err: []string{"gid extent 0:1000:1: outer 1000 is the caller's own group", "outer [300001-300002) is reserved", "isn't granted to alice"}},
		{name: "own GID by way of a line", lines: []string{"alice:1000:1:", plain}, own: alice, uids: "0:200000:1", gids: "0:1000:1",
			err: []string{"outer 1000 is the caller's own group"}},
		{name: "own UID is not a GID", lines: []string{plain}, own: &Own{1000, 1001, true}, uids: "0:200000:1", gids: "0:1000:1",
			err: []string{"gid extent 0:1000:1: outer [1000-1001) isn't granted", "the host's group alice"}, reasons: 2},
		{name: "own GID is not a UID", lines: []string{plain}, own: &Own{1000, 1001, true}, uids: "0:1001:1", gids: "0:200000:1",
			err: []string{"uid extent 0:1001:1: outer [1001-1002) isn't granted"}},
		{name: "one own ID, not two", lines: []string{plain}, own: &Own{1000, 1000, true}, uids: "0:1000:2", gids: "0:1000:1",
			err: []string{"uid extent 0:1000:2: outer [1001-1002) isn't granted"}},
		{name: "own IDs inside another's line are still one's own", lines: []string{plain, "bob:900:200:", "login:1000:60000:reserved"}, own: &Own{1000, 1000, true}, uids: "0:1000:1", gids: "0:1000:1", want: ": "},
		{name: "but not those beside them", lines: []string{"alice:1000:5:", "bob:900:200:"}, own: &Own{1000, 1000, true}, uids: "0:1000:2", gids: "0:1000:1",
			err: []string{"uid extent 0:1000:2: outer [1001-1002) belongs to bob (/book:2)"}},
		{name: "own IDs that are never granted", lines: []string{plain}, own: &Own{65534, 65534, true}, uids: "0:65534:1", gids: "0:65534:1",
			err: []string{"uid extent 0:65534:1: outer 65534 can never be granted", "gid extent 0:65534:1: outer 65534 can never be granted"}},
		{name: "no own IDs for root", lines: []string{"alice:200000:65536:deny-setgroups"}, uids: "0:1000:1", gids: "0:200000:1",
			err: []string{"uid extent 0:1000:1: outer 1000 is the host's user alice", "outer [1000-1001) isn't granted"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := row.host
			if h.Users == nil {
				h = host
			}
			g, err := bookOf(t, row.lines...).Grant(Holder{Names: []string{"alice", "1000"}, Own: row.own}, h)
			if err != nil {
				t.Fatal(err)
			}
			v, err := g.Permits(mapOf(t, row.uids), mapOf(t, row.gids))
			wantError(t, err, row.err...)
			if err != nil {
				want := row.reasons
				if want == 0 {
					want = len(row.err)
				}
				if got := strings.Count(err.Error(), "\n") + 1; got != want {
					t.Errorf("%d reasons, want %d: %v", got, want, err)
				}
				if v.Lines != nil || v.Flags.String() != "" {
					t.Errorf("verdict %v beside an error", v)
				}
				return
			}
			var numbers []string
			for _, l := range v.Lines {
				numbers = append(numbers, fmt.Sprint(l.Number))
			}
			if got := strings.Join(numbers, ",") + ": " + v.Flags.String(); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// What Permits accepts is decided here a second time, ID by ID and without any
// of its arithmetic.
func TestPermitsIDByID(t *testing.T) {
	b := bookOf(t, "a:65540:6:", "a:65546:4:deny-setgroups", "b:65544:1:", "a:65548:1:reserved", "a:65530:4:")
	host := Host{Users: []Account{{"u", 65541, "p:1"}}, Groups: []Account{{"g", 65532, "g:1"}}}
	own := &Own{UID: 65539, GID: 65539}
	granted := func(id uint32) bool { return id >= 65540 && id < 65550 || id >= 65530 && id < 65534 }
	foreign := func(id uint32) bool { return id == 65544 || id == 65548 }
	g, err := b.Grant(Holder{[]string{"a"}, own}, host)
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for start := uint32(65528); start < 65553; start++ {
		for count := uint32(1); count <= 8; count++ {
			for other := uint32(65528); other < 65553; other++ {
				uids, gids := idmap.Map{{Inner: 0, Outer: start, Count: count}}, idmap.Map{{Inner: 0, Outer: other, Count: 2}}
				want, denied, line := true, false, false // line: a GID is of one
				for id := start; id < start+count; id++ {
					denied = denied || id >= 65546 && id < 65550 && id != 65548
				}
				for id := other; id < other+2; id++ {
					denied = denied || id >= 65546 && id < 65550 && id != 65548
					line = line || granted(id)
				}
				for id := start; id < start+count; id++ {
					want = want && (id == own.UID || granted(id) && !foreign(id) && id != 65541)
				}
				for id := other; id < other+2; id++ {
					want = want && (id == own.GID && (denied || line) || granted(id) && !foreign(id) && id != 65532)
				}
				_, err := g.Permits(uids, gids)
				if (err == nil) != want {
					t.Fatalf("uids %s, gids %s: %v, want accepted %v", uids, gids, err, want)
				}
				if want {
					accepted++
				}
			}
		}
	}
	if accepted == 0 {
		t.Error("nothing was accepted")
	}
}
