// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

var update = flag.Bool("update", false, "write docs/map.svg anew")

const examplePath = "../../docs/map.svg"

// The example in the documentation is what the program makes of a made-up host. After a change:
// go test ./cmd/usernsctl -run TestMapExample -update
func TestMapExample(t *testing.T) {
	made := drawSVG(example(t))
	if *update {
		if err := os.WriteFile(examplePath, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) != made {
		t.Errorf("%s isn't what the program makes: go test ./cmd/usernsctl -run TestMapExample -update", examplePath)
	}
}

// Pictures of all hosts, to be looked at: MAP_DUMP=DIR go test ./cmd/usernsctl -run TestMapDump
func TestMapDump(t *testing.T) {
	dir := os.Getenv("MAP_DUMP")
	if dir == "" {
		dir = t.TempDir()
	}
	for name, a := range hosts(t) {
		for ending, text := range map[string]string{"svg": drawSVG(a), "txt": drawText(a, terminal{100, true, false})} {
			if len(text) == 0 {
				t.Errorf("%s.%s: nothing is drawn", name, ending)
			}
			if err := os.WriteFile(filepath.Join(dir, name+"."+ending), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// plainly takes the colours out.
func plainly(text string) string {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "\x1b[")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		_, text, _ = strings.Cut(rest, "m")
	}
}

// No line is longer than the window, whatever is shown in it, and nothing in it is more than
// letters to a terminal.
func TestMapFitsWindow(t *testing.T) {
	for name, a := range hosts(t) {
		var widths []int
		if len(a.Spans) < 500 {
			step := 1
			if testing.Short() {
				step = 20
			}
			for w := minColumns; w <= maxColumns; w += step {
				widths = append(widths, w)
			}
		} else {
			widths = []int{20, 41, 80, 300}
		}
		for _, w := range widths {
			for _, unicodes := range []bool{false, true} {
				text := drawText(a, terminal{w, unicodes, false})
				if w%20 == 0 {
					if again := drawText(a, terminal{w, unicodes, false}); again != text {
						t.Fatalf("%s, %d columns: isn't the same again", name, w)
					}
					if coloured := drawText(a, terminal{w, unicodes, true}); plainly(coloured) != text {
						t.Errorf("%s, %d columns: colours change more than colours", name, w)
					}
				}
				for line := range strings.Lines(text) {
					line = strings.TrimSuffix(line, "\n")
					if n := cellsOf(line); n > w {
						t.Errorf("%s, %d columns: a line of %d: %q", name, w, n, line)
					}
					if strings.HasSuffix(line, " ") {
						t.Errorf("%s, %d columns: spaces at the end: %q", name, w, line)
					}
					for _, r := range line {
						if r < ' ' || r == 0x7f || r == utf8.RuneError || !unicodes && r > 0x7f || r > 0x7f && !shows(r) && !slices.Contains(blocks, r) || rightToLeft(r) {
							t.Errorf("%s, %d columns: %q holds %q", name, w, line, r)
						}
					}
				}
			}
		}
	}
	for columns, want := range map[int]int{-5: minColumns, 0: minColumns, 1: minColumns, 19: minColumns, 100000: maxColumns} {
		if got, is := drawText(example(t), terminal{columns, true, false}), drawText(example(t), terminal{want, true, false}); got != is {
			t.Errorf("%d columns: aren't drawn as %d", columns, want)
		}
	}
}

// What the picture says of the example, as a whole: this is what is looked at.
func TestMapText(t *testing.T) {
	text := drawText(example(t), terminal{100, false, false})
	for _, want := range []string{
		"\nPart 2: [65536-1507328), 1441792 IDs\n",
		"\nlines     ........FFFFF.DDDDDDDDDDDDDDDDD........EEEEEEEE#GGGG......................................\n",
		"\nheld      ........-----.XXXXXXXX9--------........XXXX7--------......................................\n",
		"\nreserved  ......................................................................rrrrrrrrrrrrrr......\n",
		"\nsubids    ..sssssssss...............................................................................\n",
		"\nlive      ..nnnnn...................................................................................\n",
		"\nconflicts ........~~~~~.~~~~~~~~~~~~~~~~~........~~~~~~~~!~~~~......................................\n",
		"\nA dockroot  67108864   34%  22937600  44171264  350      1  [1879048192-1946157056)\n",
		"\nr nfs              0     -         -         -    -   0+1r  [1200000-1400000)\n",
		"\n7 lines of 7 owners grant 85457872 IDs, 1 line only reserves.\n",
		"\n23920640 of these are held, 61537232 are free: 365 containers, and 1 live user namespace that no\n",
		"\nRoom: the next line of 65536 IDs fits at 1963982848.\n",
		"\nn [100000-165536) process 4711 (rootlesskit) in a user namespace\n",
		"\ns [165536-231072) bob (/etc/subuid:2, /etc/subgid:2)\n",
		"\nConflicts: 1 error, 7 warnings.\n! /etc/usernamespaces:6: [830000-831072) of audit belongs to payroll",
		"configure kubelet to keep out (and 3 more like\n  this)\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log("\n" + text)
	}
	for name, a := range hosts(t) {
		text := drawText(a, terminal{300, true, false})
		for _, o := range a.Owners[:min(len(a.Owners), maxTextOwners)] {
			if shown := shownAs(o.Name, leftToRight); cellsOf(shown) < 100 && !strings.Contains(text, " "+shown+" ") {
				t.Errorf("%s: owner %q isn't there", name, o.Name)
			}
		}
	}
}

func TestMapTextUnknown(t *testing.T) {
	a := hosts(t)["not-root"]
	text := drawText(a, terminal{100, false, false})
	if strings.Contains(text, "- free") || !strings.Contains(text, "? not known to be held") || !strings.Contains(text, "what is held is unknown") ||
		!strings.Contains(text, "live user namespaces are unknown") || !strings.Contains(text, "A shop   262144     ?     ?     ?   ?      1") {
		t.Errorf("what is unknown isn't said:\n%s", text)
	}
	if svg := drawSVG(a); strings.Contains(svg, " are free") || strings.Contains(svg, "granted, free") || !strings.Contains(svg, "not known to be held") {
		t.Error("the SVG doesn't say what is unknown")
	}
}

// Only nothing is shown as nothing, and only all as all.
func TestMapLevels(t *testing.T) {
	for _, unicodes := range []bool{false, true} {
		for held, want := range map[uint32]string{0: "--", 1: "1▁", 100: "2▁", 500: "6▅", 999: "9▇", 1000: "X█"} {
			s := sight()
			hold(s, "a", "c", 300000, held)
			a := s.Atlas(bookOf(t, "a:300000:1000:size=1000"))
			m := &textMap{terminal: terminal{40, unicodes, false}, Atlas: a, fill: fillOf(a), seen: map[rune]bool{}}
			sign := []rune(want)[0]
			if unicodes {
				sign = []rune(want)[1]
			}
			if got := m.levels(bar{idmap.Range{Start: 300000, Count: 1000}, 1}); got != string(sign) {
				t.Errorf("%d of 1000: got %s, want %c", held, got, sign)
			}
		}
	}
}

// Colours are of owners and of conflicts, and end with the line.
func TestMapColours(t *testing.T) {
	coloured := 0
	for line := range strings.Lines(drawText(example(t), terminal{80, true, true})) {
		if strings.Contains(line, "\x1b[") {
			coloured++
			if !strings.HasSuffix(line, "\x1b[m\n") && strings.LastIndex(line, "\x1b[m") < strings.LastIndex(line, "\x1b[3") {
				t.Errorf("a colour goes on: %q", line)
			}
		}
	}
	if coloured < 6 {
		t.Errorf("%d lines have colours", coloured)
	}
}

func TestBar(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		count := 1 + random.Uint32N(1<<random.UintN(9))
		b := bar{idmap.Range{Start: random.Uint32N(1000), Count: count}, 1 + random.IntN(300)}
		if random.UintN(10) == 0 {
			b.ids = census.Whole
		}
		next := uint64(b.ids.Start)
		for i := range b.columns {
			c := b.column(i)
			if c.Count == 0 || uint64(c.Start) > next || c.End() > b.ids.End() {
				t.Fatalf("%v: column %d is %v, and %d comes next", b, i, c, next)
			}
			next = c.End()
			if first, last, ok := b.span(c); !ok || first > i || last < i {
				t.Fatalf("%v: column %d, %v, is seen in %d to %d", b, i, c, first, last)
			}
		}
		if next != b.ids.End() {
			t.Fatalf("%v: columns end at %d", b, next)
		}
		ids := idmap.Range{Start: b.ids.Start + random.Uint32N(b.ids.Count), Count: 1 + random.Uint32N(50)}
		first, last, ok := b.span(ids)
		for i := range b.columns {
			if overlaps := b.column(i).Overlaps(ids); !ok || overlaps != (i >= first && i <= last) {
				t.Fatalf("%v: %v is in columns %d to %d (%v), and column %d is %v", b, ids, first, last, ok, i, b.column(i))
			}
		}
	}
	if _, _, ok := (bar{idmap.Range{Start: 10, Count: 5}, 5}).span(idmap.Range{Start: 15, Count: 5}); ok {
		t.Error("what lies outside is seen")
	}
}

func TestShownAs(t *testing.T) {
	for _, tc := range []struct{ name, ascii, beside, alone string }{
		{"alice", "alice", "alice", "alice"},
		{"", "", "", ""},
		{"a b", "a b", "a b", "a b"},
		{"\x1b[2J\a\x7f", `\x1b[2J\a\x7f`, `\x1b[2J\a\x7f`, `\x1b[2J\a\x7f`},
		{"\xff\xfe", `\xff\xfe`, `\xff\xfe`, `\xff\xfe`},
		{"\u202exyz", `\u202exyz`, `\u202exyz`, `\u202exyz`},
		{"\u009b1m", `\u009b1m`, `\u009b1m`, `\u009b1m`},
		{"élan", `\u00e9lan`, "élan", "élan"},
		{"e\u0301", `e\u0301`, `e\u0301`, `e\u0301`},
		{"容器", `\u5bb9\u5668`, "容器", "容器"},
		{"שלום", `\u05e9\u05dc\u05d5\u05dd`, `\u05e9\u05dc\u05d5\u05dd`, "שלום"},
		{"🐳", `\U0001f433`, "🐳", "🐳"},
		{"👍🏽", `\U0001f44d\U0001f3fd`, `👍\U0001f3fd`, `👍\U0001f3fd`},
		{"\u3164\u115f\u00ad", `\u3164\u115f\u00ad`, `\u3164\u115f\u00ad`, `\u3164\u115f\u00ad`},
		{"\ufffd", `\ufffd`, `\ufffd`, `\ufffd`},
		{"'\"", `'"`, `'"`, `'"`},
		{"é'", `\u00e9'`, "é'", "é'"},
	} {
		for in, want := range map[script]string{asciiOnly: tc.ascii, leftToRight: tc.beside, anyDirection: tc.alone} {
			if got := shownAs(tc.name, in); got != want {
				t.Errorf("%q in script %d: got %q, want %q", tc.name, in, got, want)
			}
		}
	}
}

func TestShortenAndWrap(t *testing.T) {
	for _, tc := range []struct {
		text, ellipsis string
		columns        int
		want           string
	}{
		{"alice", "…", 5, "alice"}, {"alice", "…", 4, "ali…"}, {"alice", "...", 4, "a..."}, {"alice", "...", 2, ""}, {"alice", "", 2, "al"},
		{"容器用户", "…", 8, "容器用户"}, {"容器用户", "…", 7, "容器用…"}, {"容器用户", "…", 6, "容器…"},
	} {
		if got := shorten(tc.text, tc.columns, tc.ellipsis); got != tc.want {
			t.Errorf("%q in %d: got %q, want %q", tc.text, tc.columns, got, tc.want)
		}
	}
	if got := strings.Join(wrap("one two three abcdefghijkl x", 7), "|"); got != "one two|three|abcdefg|hijkl x" {
		t.Errorf("got %q", got)
	}
	if got := strings.Join(wrap("容器容器", 5), "|"); got != "容器|容器" {
		t.Errorf("got %q", got)
	}
	if got := wrap("", 7); len(got) != 1 || got[0] != "" {
		t.Errorf("got %q", got)
	}
}

func TestPercent(t *testing.T) {
	for _, tc := range []struct {
		part, whole uint64
		want        string
	}{{0, 0, ""}, {0, 5, "0%"}, {5, 5, "100%"}, {1, 1000000, "<1%"}, {1, 100, "1%"}, {999999, 1000000, "99%"}, {1, 2, "50%"}, {6, 5, "100%"}} {
		if got := percent(tc.part, tc.whole); got != tc.want {
			t.Errorf("%d of %d: got %q, want %q", tc.part, tc.whole, got, tc.want)
		}
	}
}

func TestRoundSteps(t *testing.T) {
	for _, tc := range []struct {
		ids  idmap.Range
		most int
		want string
	}{
		{census.Whole, 9, "[0 500000000 1000000000 1500000000 2000000000 2500000000 3000000000 3500000000 4000000000]"},
		{idmap.Range{Start: 0, Count: 65536}, 9, "[0 10000 20000 30000 40000 50000 60000]"},
		{idmap.Range{Start: 7, Count: 3}, 9, "[7 8 9]"},
		{idmap.Range{Start: 4294967290, Count: 5}, 1, "[4294967290]"},
		{idmap.Range{Start: 11, Count: 3}, 1, "[12]"},
	} {
		if got := fmt.Sprint(roundSteps(tc.ids, tc.most)); got != tc.want {
			t.Errorf("%v, %d: got %s, want %s", tc.ids, tc.most, got, tc.want)
		}
	}
	for most := 1; most < 40; most++ {
		for shift := range 31 {
			if got := roundSteps(idmap.Range{Start: 77, Count: 3 << shift >> 1}, most); len(got) > most+1 {
				t.Errorf("%d, %d: %d steps", most, shift, len(got))
			}
		}
	}
}

func TestTerminalOf(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, tc := range map[string]struct {
		env  map[string]string
		want terminal
	}{
		"nothing is set":     {nil, terminal{80, false, false}},
		"COLUMNS":            {map[string]string{"COLUMNS": "132"}, terminal{132, false, false}},
		"COLUMNS of words":   {map[string]string{"COLUMNS": "wide"}, terminal{80, false, false}},
		"COLUMNS below 1":    {map[string]string{"COLUMNS": "-3"}, terminal{80, false, false}},
		"a locale":           {map[string]string{"LANG": "de_DE.UTF-8"}, terminal{80, true, false}},
		"another spelling":   {map[string]string{"LC_CTYPE": "C.utf8"}, terminal{80, true, false}},
		"LC_ALL is stronger": {map[string]string{"LC_ALL": "C", "LANG": "C.UTF-8"}, terminal{80, false, false}},
		"not a terminal":     {map[string]string{"TERM": "xterm"}, terminal{80, false, false}},
	} {
		if got := terminalOf(int(null.Fd()), func(key string) string { return tc.env[key] }); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestSpansJSON(t *testing.T) {
	s := sight()
	s.World = registry.World{
		Host:    registry.Host{Users: []registry.Account{{Name: "a\x1b", ID: 300001, Where: "/etc/passwd:1"}}},
		SubUIDs: []registry.SubID{{Owner: "bob", Range: idmap.Range{Start: 100000, Count: 65536}, Where: "/etc/subuid:1"}},
	}
	hold(s, "shop", "db", 300000, 100)
	book := bookOf(t, "shop:300000:1000:no-new-privs,size=100", "keep:500000:10:reserved")
	atlas := s.Atlas(book)
	text, err := json.Marshal(spansJSON(atlas))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`[{"start":100000,"count":65536,"kind":"subuid","owner":"bob","where":"/etc/subuid:1"},` +
			`{"start":300000,"count":1000,"kind":"line","owner":"shop","where":"/etc/usernamespaces:1","held":100,"holders":1,"flags":["no-new-privs","size=100"]},`,
		`{"start":300000,"count":100,"kind":"container","owner":"shop","where":"container db of /run/docker/runtime-runc/moby"},`,
		`{"start":300001,"count":1,"kind":"user","owner":"a\u001b","where":"/etc/passwd:1"},`,
		`{"start":300001,"count":1,"kind":"conflict","owner":"","where":"/etc/usernamespaces:1","severity":"error","note":"/etc/usernamespaces:1: 300001 of shop is the host's user`,
		`{"start":500000,"count":10,"kind":"reserved","owner":"keep","where":"/etc/usernamespaces:2","flags":["reserved"]}]`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	s.LeasesKnown, s.Leases = false, nil
	text, _ = json.Marshal(spansJSON(s.Atlas(book)))
	if !strings.Contains(string(text), `"held":null,"holders":null`) {
		t.Errorf("what is unknown is told: %s", text)
	}
	text, _ = json.Marshal(spansJSON(hosts(t)["nothing"]))
	if string(text) != "[]" {
		t.Errorf("nothing is %s", text)
	}
}
