// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestParse(t *testing.T) {
	line := func(number int, owner string, start, count uint32, f Flags) Line {
		return Line{"/book", number, owner, idmap.Range{Start: start, Count: count}, f}
	}
	longest := strings.Repeat("n", maxOwner)
	for _, row := range []struct {
		name, text string
		want       []Line
	}{
		{"nothing", "", nil},
		{"blank lines", "\n  \n\t\n", nil},
		{"comments", "# one\n   # two: a:b:c\n#", nil},
		{"a long comment", "#" + strings.Repeat("x", maxLine-1) + "\n", nil},
		{"one line", "alice:200000:65536:\n", []Line{line(1, "alice", 200000, 65536, Flags{})}},
		{"no newline at the end", "alice:200000:65536:shared", []Line{line(1, "alice", 200000, 65536, Flags{Shared: true})}},
		{"numbered past comments", "# c\n\nalice:200000:65536:\n#\nbob:1:2:\n",
			[]Line{line(3, "alice", 200000, 65536, Flags{}), line(5, "bob", 1, 2, Flags{})}},
		{"a decimal UID", "1000:200000:65536:\n", []Line{line(1, "1000", 200000, 65536, Flags{})}},
		{"an orchestrator's name", "k8s.io/ns-1@n:200000:1:", []Line{line(1, "k8s.io/ns-1@n", 200000, 1, Flags{})}},
		{"letters beyond ASCII", "zoë:200000:1:", []Line{line(1, "zoë", 200000, 1, Flags{})}},
		{"a hash inside a name", "a#b:200000:1:", []Line{line(1, "a#b", 200000, 1, Flags{})}},
		{"the longest name", longest + ":200000:1:", []Line{line(1, longest, 200000, 1, Flags{})}},
		{"below 65534", "alice:1:65533:", []Line{line(1, "alice", 1, 65533, Flags{})}},
		{"all above 65535", "alice:65536:4294901759:", []Line{line(1, "alice", 65536, 4294901759, Flags{})}},
		{"flags used twice", "a:70000:1:size=1,shared\nb:80000:1:size=1,shared\nc:90000:1:",
			[]Line{line(1, "a", 70000, 1, Flags{Size: 1, Shared: true}), line(2, "b", 80000, 1, Flags{Size: 1, Shared: true}), line(3, "c", 90000, 1, Flags{})}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := Parse("/book", []byte(row.text))
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(row.want) || len(got) > 0 && !reflect.DeepEqual(got, row.want) {
				t.Errorf("got %v\nwant %v", got, row.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, row := range []struct {
		name, text string
		err        []string
	}{
		{"no colons", "alice", []string{`/book:1: "alice" has 0 colons: expected USER:START:LENGTH:FLAGS, such as "alice:200000:65536:"`}},
		{"one colon", "alice:5", []string{"/book:1: ", "has 1 colons"}},
		{"as in subuid", "alice:200000:65536", []string{`/book:1: "alice:200000:65536" has 2 colons`, `write "alice:200000:65536:"`}},
		{"four colons", "alice:200000:65536::", []string{"/book:1: ", "has 4 colons: expected USER:START:LENGTH:FLAGS"}},
		{"no user", ":200000:65536:", []string{"/book:1: user: is empty: expected a login name"}},
		{"a space in the user", "a b:200000:65536:", []string{`/book:1: user "a b": holds ' ': expected a name without spaces`}},
		{"a space before the user", " alice:200000:65536:", []string{`/book:1: user " alice": holds ' '`}},
		{"a tab", "alice\t:200000:65536:", []string{`holds '\t'`}},
		{"DEL", "alice\x7f:200000:65536:", []string{`holds '\x7f'`}},
		{"an escape sequence", "\x1b[2J:200000:65536:", []string{`user "\x1b[2J": holds '\x1b'`}},
		{"a space beyond ASCII", "a\u00a0b:200000:65536:", []string{`holds '\u00a0'`}},
		{"a carriage return inside", "a\rb:200000:65536:", []string{`/book:1: user "a\rb": holds '\r'`}},
		{"a byte order mark", "\ufeffalice:200000:65536:", []string{`holds '\ufeff'`}},
		{"user too long", strings.Repeat("n", maxOwner+1) + ":200000:65536:", []string{"/book:1: user: has 257 bytes: expected at most 256"}},
		{"UID with a leading zero", "0100:200000:65536:", []string{`/book:1: user "0100": digits alone are a UID: expected a decimal number below 4294967295 without leading zeros`}},
		{"UID beyond 32 bits", "4294967296:200000:65536:", []string{"digits alone are a UID"}},
		{"UID -1", "4294967295:200000:65536:", []string{"digits alone are a UID"}},

		{"no start", "alice::65536:", []string{"/book:1: start: ", "expected a decimal number"}},
		{"no length", "alice:200000::", []string{"/book:1: length: ", "expected a decimal number"}},
		{"a sign", "alice:+200000:65536:", []string{`/book:1: start: `, `"+200000": expected a decimal number`}},
		{"a negative start", "alice:-1:65536:", []string{`"-1": expected a decimal number`}},
		{"hexadecimal", "alice:0x10000:65536:", []string{`"0x10000": expected a decimal number`}},
		{"a leading zero", "alice:0200000:65536:", []string{`"0200000": expected a decimal number`}},
		{"a space before a number", "alice: 200000:65536:", []string{`" 200000": expected a decimal number`}},
		{"beyond 32 bits", "alice:4294967296:1:", []string{`"4294967296": expected a number of at most 32 bits`}},
		{"beyond 64 bits", "alice:200000:99999999999999999999:", []string{"at most 32 bits"}},
		{"both numbers", "alice:x:y:", []string{`start: `, `"x"`, `and length: `, `"y"`}},
		{"no IDs", "alice:200000:0:", []string{"/book:1: length: is 0: expected at least 1, and 65536 for one container"}},
		{"wraps", "alice:4294901760:65537:", []string{"/book:1: range: 65537 IDs from 4294901760 go beyond 32 bits: expected a length of at most 65535"}},

		{"ID 0", "alice:0:1:", []string{"/book:1: range: [0-1) holds 0, never grantable: expected a range without them: start at 65536 or above"}},
		{"ID 65534", "alice:1:65534:", []string{"[1-65535) holds 65534, never"}},
		{"ID 65535", "alice:65535:10:", []string{"[65535-65545) holds 65535, never"}},
		{"ID 4294967295", "alice:4294901760:65536:", []string{"holds 4294967295, never"}},
		{"all of them", "alice:0:4294967295:", []string{"holds 0, 65534, 65535, never"}},

		{"an unknown flag", "alice:200000:65536:sharde", []string{`/book:1: flag "sharde": unknown: did you mean shared?`}},
		{"a space after the flags", "alice:200000:65536:shared ", []string{`/book:1: flag "shared ": unknown: did you mean shared?`}},
		{"two unknown flags", "alice:200000:65536:deny-nesting,idmap-bind", []string{`/book:1: flag "deny-nesting"`, `/book:1: flag "idmap-bind"`}},

		{"CR LF", "# c\r\nalice:200000:65536:\r\n", []string{`/book:1: the line ends in CR LF`, `sed -i 's/[[:cntrl:]]$//' /book`}},
		{"CR at the end", "alice:200000:65536:\r", []string{"/book:1: the line ends in CR LF"}},
		{"NUL", "alice:200000:65536:\nbo\x00b:300000:65536:\n", []string{"/book:2: byte 3 is NUL: expected text: write the line again"}},
		{"NUL in a comment", "#\x00", []string{"/book:1: byte 2 is NUL"}},
		{"not UTF-8", "al\xffce:200000:65536:", []string{"/book:1: byte 3 is not UTF-8"}},
		{"not UTF-8 in a comment", "# caf\xe9", []string{"/book:1: byte 6 is not UTF-8"}},
		{"a line too long", "#" + strings.Repeat("x", maxLine), []string{"/book:1: the line has 4097 bytes: expected at most 4096"}},

		{"every bad line, and all that is wrong with it", "a:0:1:\nok:200000:65536:\n:x:1:bogus\n\nc:70000:0:",
			[]string{"/book:1: range", "/book:3: user: is empty", "/book:3: start", `/book:3: flag "bogus"`, "/book:5: length: is 0"}},
		{"other faults of a CR LF file", "a:0:1:\r\nb\r\n", []string{"/book:1: the line ends", "/book:1: range", `/book:2: "b" has 0 colons`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := Parse("/book", []byte(row.text))
			wantError(t, err, row.err...)
			if got != nil {
				t.Errorf("lines beside an error: %v", got)
			}
			for reason := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(reason, "book: /book:") {
					t.Errorf("%q doesn't begin with its place", reason)
				}
			}
		})
	}
}

func TestParseSaysCRLFOnce(t *testing.T) {
	_, err := Parse("/book", bytes.Repeat([]byte("alice:200000:65536:\r\n"), 50))
	if n := strings.Count(fmt.Sprint(err), "CR LF"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

func TestParseEndsAThousandFaults(t *testing.T) {
	_, err := Parse("/book", bytes.Repeat([]byte("x\n"), 1234))
	wantError(t, err, "/book:1: ", "/book:1000: ", "\nand 234 more: mend these first")
	if strings.Contains(err.Error(), "/book:1001:") {
		t.Error("goes on")
	}
}

func TestParseQuotesTheFileInCommands(t *testing.T) {
	_, err := Parse("/tmp/it's a book", []byte("#\r\n"))
	wantError(t, err, `sed -i 's/[[:cntrl:]]$//' '/tmp/it'\''s a book'`)
}

func TestLine(t *testing.T) {
	l := Line{"/etc/usernamespaces", 3, "alice", idmap.Range{Start: 200000, Count: 65536}, Flags{Shared: true, DenySetgroups: true}}
	if got := l.Where(); got != "/etc/usernamespaces:3" {
		t.Errorf("Where: %q", got)
	}
	if got := l.String(); got != "alice:200000:65536:deny-setgroups,shared" {
		t.Errorf("String: %q", got)
	}
}

// A book's text is its lines: what is printed is read back the same, and an
// error leaves nothing.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "#\n", "alice:200000:65536:\n", "alice:200000:65536:shared,size=3,deny-setgroups\nbob:1:2:reserved",
		"1000:4294901760:65535:", "a:0:1:", "a:1:2", "a:1:2:\r\n", "\x00", "é:70000:1:,", "a::::", ":::", "  # x", "a:99999999999:1:",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := Parse("/book", data)
		if err != nil {
			if lines != nil {
				t.Fatalf("lines beside error %v", err)
			}
			return
		}
		for _, l := range lines {
			again, err := Parse(l.File, []byte(strings.Repeat("\n", l.Number-1)+l.String()))
			if err != nil || len(again) != 1 || !reflect.DeepEqual(again[0], l) {
				t.Fatalf("%q is read back as %v, %v", l, again, err)
			}
			for _, id := range never {
				if l.Range.Contains(id) {
					t.Fatalf("%q grants %d", l, id)
				}
			}
			if l.Range.Validate() != nil || l.Owner == "" {
				t.Fatalf("%q was accepted", l)
			}
		}
	})
}

func bigBook(lines int) []byte {
	var b bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&b, "user%d:%d:64:deny-setgroups,size=64\n", i, 70000+64*i)
	}
	return b.Bytes()
}

func BenchmarkGrant(b *testing.B) {
	data := bigBook(1000000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		book, err := new(Book).With("/book", data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := book.Grant(Holder{Names: []string{"user999999"}}, Host{}); err != nil {
			b.Fatal(err)
		}
	}
}
