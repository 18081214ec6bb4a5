// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func setOf(ranges ...uint32) idmap.Set {
	var out []idmap.Range
	for i := 0; i < len(ranges); i += 2 {
		out = append(out, idmap.Range{Start: ranges[i], Count: ranges[i+1]})
	}
	return idmap.NewSet(out...)
}

// manyIDs is so many single IDs from a start on, which the name of an entry doesn't hold if they are more
// than a dozen.
func manyIDs(start uint32, n int) idmap.Set {
	ranges := make([]idmap.Range, n)
	for i := range ranges {
		ranges[i] = idmap.Range{Start: start + 2*uint32(i), Count: 1}
	}
	return idmap.NewSet(ranges...)
}

var anEntry = Entry{
	Key: Key{Root: "/run/runc", ID: "web", MountNS: 4026531841}, Owner: "alice", Ranges: setOf(100000, 65536),
	PIDNS: 4026531836, PID: 77, UserNS: 4026532000, start: "12345",
}

// fileOf is an entry's file with that text.
func fileOf(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "entry")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestEntryThereAndBack(t *testing.T) {
	recovered := anEntry
	recovered.recovered = true
	for name, e := range map[string]Entry{
		"usual":     anEntry,
		"shared":    {Key: anEntry.Key, Owner: "alice", Ranges: anEntry.Ranges, Shared: true},
		"rebuilt":   {Ranges: setOf(5, 1, 100000, 65536), UserNS: 8, PIDNS: 9, PID: 10, Rebuilt: true},
		"recovered": recovered,
		"several":   {Key: anEntry.Key, Owner: "a", Ranges: setOf(100, 1, 200, 2, 300, 3)},
		"many":      {Key: anEntry.Key, Owner: "a", Ranges: manyIDs(3000000, 680)},
		"the last":  {Key: anEntry.Key, Owner: "a", Ranges: setOf(idmap.Invalid-1, 1)},
		// What needs escapes in JSON is longer there.
		"long":   {Key: Key{Root: "/" + strings.Repeat("\x01<", 2047), ID: strings.Repeat("&", 255), MountNS: 1<<64 - 1}, Owner: "a", Ranges: manyIDs(4200000000, 680)},
		"quotes": {Key: Key{Root: "/a \"b\"\n", ID: "c", MountNS: 1}, Owner: `DOM\alice`, Ranges: setOf(1, 1)},
	} {
		n := e.name()
		if got, err := readEntry(fileOf(t, string(e.text())), n); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: got %+v %v\nexpected %+v", name, got, err, e)
		}
		if ranges, inside := n.ranges(); !inside && !reflect.DeepEqual(idmap.NewSet(ranges...), e.Ranges) {
			t.Errorf("%s: name %s is of %v", name, n.text, ranges)
		}
		if n.key() != e.keyText() || len(n.text) > 255 {
			t.Errorf("%s: name %s of key %s", name, n.text, e.keyText())
		}
	}
}

// SetUserNS writes over what is there: were the text shorter, the end of the old one would stay.
func TestEntryTextGrows(t *testing.T) {
	for _, inode := range []uint64{0, 1, 4026532000, 1<<64 - 1} {
		e := anEntry
		e.UserNS = 0
		before := string(e.text())
		e.UserNS = inode
		if after := string(e.text()); len(after) < len(before) || strings.Index(after, `"userNS"`) != strings.Index(before, `"userNS"`) {
			t.Errorf("%s\nafter\n%s", after, before)
		}
	}
}

// Of what can't be read, the name holds.
func TestReadEntryThatIsBroken(t *testing.T) {
	n := anEntry.name()
	text := string(anEntry.text())
	for cut := range text[:len(text)-2] {
		got, err := readEntry(fileOf(t, text[:cut]), n)
		if err != nil || !reflect.DeepEqual(got.Ranges, anEntry.Ranges) || got.ID != "" {
			t.Fatalf("cut off after %d bytes: %+v %v", cut, got, err)
		}
	}
	for _, text := range []string{"", "\x00\x00", "null", "[]", `{"version":"x"}`, `{"ranges":[[1]]}`, `{"ranges":[["a",2]]}`, `{"ranges":[[-1,2]]}`, strings.Repeat("{", 70000)} {
		got, err := readEntry(fileOf(t, text), n)
		if err != nil || !got.Ranges.ContainsSet(anEntry.Ranges) {
			t.Errorf("%q: %+v %v", text[:min(len(text), 20)], got, err)
		}
	}
	// A file that says less than its name, or something else, doesn't make IDs free.
	other := anEntry
	other.Ranges = setOf(7, 7)
	if got, err := readEntry(fileOf(t, string(other.text())), n); err != nil || !reflect.DeepEqual(got.Ranges, setOf(7, 7, 100000, 65536)) {
		t.Errorf("of other IDs: %+v %v", got, err)
	}
}

// A later version may know more. What this one knows must be held all the same.
func TestReadEntryOfALaterVersion(t *testing.T) {
	text := strings.Replace(string(anEntry.text()), `"version":1`, `"version":9,"why":{"a":[1]}`, 1)
	if got, err := readEntry(fileOf(t, text), anEntry.name()); err != nil || !reflect.DeepEqual(got, anEntry) {
		t.Errorf("got %+v %v", got, err)
	}
}

func TestParseName(t *testing.T) {
	for _, row := range []struct {
		text   string
		ranges []idmap.Range // nil if it isn't the name of an entry
	}{
		{"100000-65536.k", []idmap.Range{{Start: 100000, Count: 65536}}},
		{"1-1_3-4.alive-7", []idmap.Range{{Start: 1, Count: 1}, {Start: 3, Count: 4}}},
		{"0-1.k", []idmap.Range{{Start: 0, Count: 1}}},
		{"4294967294-1.a.b", []idmap.Range{{Start: 4294967294, Count: 1}}},
		{"many.k", []idmap.Range{}},
		{"", nil},
		{".", nil},
		{"boot", nil},
		{"index", nil},
		{"100000-65536", nil},
		{"100000-65536.", nil},
		{"100000.k", nil},
		{"-1.k", nil},
		{"1-.k", nil},
		{"1-0.k", nil},
		{"01-1.k", nil},
		{"1-01.k", nil},
		{"+1-1.k", nil},
		{" 1-1.k", nil},
		{"1-1 .k", nil},
		{"4294967295-1.k", nil},
		{"4294967294-2.k", nil},
		{"99999999999-1.k", nil},
		{"1-99999999999.k", nil},
		{"1-1_.k", nil},
		{"1-1_2.k", nil},
		{"_1-1.k", nil},
		{"many", nil},
		{"many.", nil},
		{"many_1-1.k", nil},
		{"manyx.k", nil},
		{"1-1_many.k", nil},
		{"1-1.k\n2-2.k", nil},
		{"#-1.k", nil},
	} {
		n, err := parseName(row.text)
		if (err == nil) != (row.ranges != nil) {
			t.Errorf("%q: %+v %v", row.text, n, err)
		}
		if err != nil {
			continue
		}
		ranges, inside := n.ranges()
		if inside != (len(row.ranges) == 0) || !inside && !reflect.DeepEqual(ranges, row.ranges) {
			t.Errorf("%q: %v %v", row.text, ranges, inside)
		}
	}
}

// Whatever is the name of an entry stays so, and is the same in a line of the index.
func FuzzParseName(f *testing.F) {
	for _, seed := range []string{"100000-65536.k", "1-1_3-4.alive-7", "many.k", "boot", "1-01.k", "4294967295-1.k", "1-1.\n", "1-1_2-2_3-3..", "#1-1.k"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseName(text)
		if err != nil {
			return
		}
		ranges, inside := n.ranges()
		if n.text != text || !strings.HasSuffix(text, "."+n.key()) || n.key() == "" {
			t.Fatalf("%q: text %q, key %q", text, n.text, n.key())
		}
		if inside != strings.HasPrefix(text, manyRanges+".") || !inside && (ranges[0] != n.first || n.more != (len(ranges) > 1)) {
			t.Fatalf("%q: %+v, ranges %v, inside %v", text, n, ranges, inside)
		}
		for _, r := range ranges {
			if r.Validate() != nil {
				t.Fatalf("%q: range %v", text, r)
			}
		}
		back, lines := parseIndex(text + "\n")
		if lines != 1 || len(back) != 1 || back[0].text != text || back[0].at != 0 || !back[0].line {
			t.Fatalf("%q: as a line of the index: %+v, %d lines", text, back, lines)
		}
		if inside {
			return
		}
		e := Entry{Ranges: idmap.NewSet(ranges...)}
		again := e.name()
		if got, inside := again.ranges(); !inside && !reflect.DeepEqual(idmap.NewSet(got...), e.Ranges) {
			t.Fatalf("%q: again %q: %v", text, again.text, got)
		}
	})
}
