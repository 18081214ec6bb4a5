// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/lockedfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// edit is Edit, with the tests' user taken for host root as in load.
func (e etc) edit(do func(*Change) error) error {
	return edit(e.path("book"), e.load, do)
}

func (e etc) read(name string) string {
	e.t.Helper()
	data, err := os.ReadFile(e.path(name))
	e.must(err)
	return string(data)
}

// names is what there is, without what is in directories.
func (e etc) names() string {
	e.t.Helper()
	entries, err := os.ReadDir(e.dir)
	e.must(err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, " ")
}

// line is one line of the book, as Parse reads it.
func line(t *testing.T, text string) Line {
	t.Helper()
	lines, err := Parse("elsewhere", []byte(text))
	if err != nil || len(lines) != 1 {
		t.Fatalf("%q: %v, %v", text, lines, err)
	}
	return lines[0]
}

func TestEdit(t *testing.T) {
	type step struct {
		do   string // add, remove, replace
		line int    // index in Lines
		text string
	}
	for _, row := range []struct {
		name   string
		before string // "-" is no file
		steps  []step
		after  string
	}{
		{"add to a new book", "-", []step{{"add", 0, "a:70000:1:"}, {"add", 0, "b:80000:1:shared"}}, newBook + "a:70000:1:\nb:80000:1:shared\n"},
		{"nothing to a new book", "-", nil, "-"},
		{"add to an empty book", "", []step{{"add", 0, "a:70000:1:"}}, "a:70000:1:\n"},
		{"add", "a:70000:1:\n", []step{{"add", 0, "b:80000:1:"}}, "a:70000:1:\nb:80000:1:\n"},
		{"add after a line without an end", "a:70000:1:", []step{{"add", 0, "b:80000:1:"}, {"add", 0, "c:90000:1:"}}, "a:70000:1:\nb:80000:1:\nc:90000:1:\n"},
		{"add after a comment without an end", "#", []step{{"add", 0, "b:80000:1:"}}, "#\nb:80000:1:\n"},
		{"add after blank lines", "\n \n\n", []step{{"add", 0, "b:80000:1:"}}, "\n \n\nb:80000:1:\n"},
		{"a bare name of another script", "-", []step{{"add", 0, "Jürgen:70000:1:"}}, newBook + "Jürgen:70000:1:\n"},

		{"remove the only one", "a:70000:1:\n", []step{{"remove", 0, ""}}, ""},
		{"remove the only one, without an end", "a:70000:1:", []step{{"remove", 0, ""}}, ""},
		{"remove the first", "a:70000:1:\nb:80000:1:\n", []step{{"remove", 0, ""}}, "b:80000:1:\n"},
		{"remove the last, without an end", "a:70000:1:\nb:80000:1:", []step{{"remove", 1, ""}}, "a:70000:1:\n"},
		{"remove before a line without an end", "a:70000:1:\nb:80000:1:", []step{{"remove", 0, ""}}, "b:80000:1:"},
		{"remove in any order", "a:70000:1:\nb:80000:1:\nc:90000:1:\n", []step{{"remove", 2, ""}, {"remove", 0, ""}}, "b:80000:1:\n"},
		{"comments and blank lines stay", "# the book\n\n  # of a\na:70000:1:\n\t\n# of b\nb:80000:1:\n#end", []step{{"remove", 0, ""}}, "# the book\n\n  # of a\n\t\n# of b\nb:80000:1:\n#end"},
		{"one of two equal lines", "a:70000:1:\n#\na:70000:1:\n", []step{{"remove", 1, ""}}, "a:70000:1:\n#\n"},
		{"remove all and add", "a:70000:1:\nb:80000:1:", []step{{"remove", 0, ""}, {"remove", 1, ""}, {"add", 0, "c:90000:1:"}}, "c:90000:1:\n"},

		{"replace", "#1\na:70000:1:\n#2\nb:80000:1:\n#3\n", []step{{"replace", 0, "c:90000:64:size=64"}}, "#1\nc:90000:64:size=64\n#2\nb:80000:1:\n#3\n"},
		{"replace one without an end", "a:70000:1:\nb:80000:1:", []step{{"replace", 1, "c:90000:1:"}}, "a:70000:1:\nc:90000:1:"},
		{"replace one without an end, and add", "a:70000:1:", []step{{"add", 0, "b:80000:1:"}, {"replace", 0, "c:90000:1:"}}, "c:90000:1:\nb:80000:1:\n"},
		{"replace by the same", "a:70000:1:\n", []step{{"replace", 0, "a:70000:1:"}}, "a:70000:1:\n"},
		{"replace by the same, spelled otherwise", "a:70000:9:size=3,deny-setgroups\n", []step{{"replace", 0, "a:70000:9:deny-setgroups,size=3"}}, "a:70000:9:size=3,deny-setgroups\n"},
		{"others keep their spelling", "a:70000:9:size=3,deny-setgroups\nb:80000:1:", []step{{"replace", 1, "b:80000:2:"}}, "a:70000:9:size=3,deny-setgroups\nb:80000:2:"},
		{"all at once", "# x\na:70000:1:\nb:80000:1:\nc:90000:1:\n", []step{{"replace", 2, "C:90000:1:"}, {"add", 0, "d:100000:1:"}, {"remove", 0, ""}, {"replace", 1, "B:80000:1:"}},
			"# x\nB:80000:1:\nC:90000:1:\nd:100000:1:\n"},
		{"nothing", "# x\na:70000:1:", nil, "# x\na:70000:1:"},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := newEtc(t)
			e.write("book.d/x.conf", "owner:500000:1:\nother:600000:1:deny-setgroups\n")
			if row.before != "-" {
				e.write("book", row.before)
			}
			var result *Book
			e.must(e.edit(func(c *Change) error {
				all := c.Book.Lines()
				for _, s := range row.steps {
					switch s.do {
					case "add":
						c.Add(line(t, s.text))
					case "remove":
						e.must(c.Remove(all[s.line]))
					case "replace":
						e.must(c.Replace(all[s.line], line(t, s.text)))
					}
				}
				if !reflect.DeepEqual(c.Book.Lines(), all) {
					t.Error("c.Book has changed")
				}
				var err error
				result, err = c.Result()
				return err
			}))
			want := row.after
			if want == "-" {
				if e.names() != "book.d" {
					t.Errorf("left %s", e.names())
				}
				return
			}
			if got := e.read("book"); got != want {
				t.Errorf("got %q\nwant %q", got, want)
			}
			left := "book book.d"
			if row.before != "-" && row.before != row.after {
				left = "book book- book.d"
				if got := e.read("book-"); got != row.before {
					t.Errorf("the backup is %q", got)
				}
			}
			if e.names() != left {
				t.Errorf("left %s, want %s", e.names(), left)
			}
			b, err := e.load()
			e.must(err)
			if !reflect.DeepEqual(result.Lines(), b.Lines()) {
				t.Errorf("result %v\nread   %v", result.Lines(), b.Lines())
			}
		})
	}
}

func TestEditMode(t *testing.T) {
	e := newEtc(t)
	add := func(text string) {
		t.Helper()
		e.must(e.edit(func(c *Change) error { c.Add(line(t, text)); return nil }))
	}
	mode := func(name string) os.FileMode {
		st, err := os.Stat(e.path(name))
		e.must(err)
		return st.Mode()
	}
	add("a:70000:1:")
	if got := mode("book"); got != 0o644 {
		t.Errorf("a new book has mode %v", got)
	}
	e.must(os.Chmod(e.path("book"), 0o600))
	add("b:80000:1:")
	if mode("book") != 0o600 || mode("book-") != 0o600 {
		t.Errorf("got %v, %v", mode("book"), mode("book-"))
	}
}

// What begins a new book is true: it is read, and names the format.
func TestNewBook(t *testing.T) {
	lines, err := Parse("/book", []byte(newBook))
	if err != nil || len(lines) != 0 {
		t.Fatalf("%v, %v", lines, err)
	}
	_, example, ok := strings.Cut(newBook, "such as ")
	example, _, _ = strings.Cut(example, "\n")
	if line(t, example).Owner != "alice" || !ok {
		t.Errorf("example %q", example)
	}
	for _, part := range []string{"USER:START:LENGTH:FLAGS", "man 5 usernamespaces", "usernsctl"} {
		if !strings.Contains(newBook, part) {
			t.Errorf("doesn't say %s", part)
		}
	}
}

// A line that can't be written is refused in the words of its fields, with nothing
// written, and Result says the same as Edit.
func TestEditRefusesLines(t *testing.T) {
	good := idmap.Range{Start: 200000, Count: 65536}
	for _, row := range []struct {
		name string
		line Line
		want []string
	}{
		{"no owner", Line{Range: good}, []string{"user: is empty"}},
		{"space", Line{Owner: "a b", Range: good}, []string{`user "a b": holds ' '`}},
		{"line feed", Line{Owner: "a:70000:1:\nb", Range: good}, []string{`holds ':', which ends a name`}},
		{"line feed alone", Line{Owner: "a\nb", Range: good}, []string{`user "a\nb": holds '\n'`}},
		{"carriage return", Line{Owner: "a\r", Range: good}, []string{`holds '\r'`}},
		{"colon", Line{Owner: "a:b", Range: good}, []string{`user "a:b": holds ':', which ends a name: expected a name without colons`}},
		{"comment", Line{Owner: "#a", Range: good}, []string{`user "#a": begins with '#', as a comment does`}},
		{"NUL", Line{Owner: "a\x00b", Range: good}, []string{`user "a\x00b": byte 2 is NUL`}},
		{"not UTF-8", Line{Owner: "a\xff", Range: good}, []string{`byte 2 is not UTF-8`}},
		{"not a UID", Line{Owner: "0100", Range: good}, []string{`user "0100": digits alone are a UID`}},
		{"too long a name", Line{Owner: strings.Repeat("a", maxOwner+1), Range: good}, []string{"user: has 257 bytes: expected at most 256"}},
		{"no IDs", Line{Owner: "a", Range: idmap.Range{Start: 200000}}, []string{"length: is 0"}},
		{"root", Line{Owner: "a", Range: idmap.Range{Count: 1}}, []string{"range: ", "holds 0, never grantable"}},
		{"beyond 32 bits", Line{Owner: "a", Range: idmap.Range{Start: 4294901760, Count: 65537}}, []string{"range: 65537 IDs from 4294901760 go beyond 32 bits"}},
		{"size", Line{Owner: "a", Range: good, Flags: Flags{Size: idmap.Invalid}}, []string{`flag "size=4294967295": expected a number of IDs`}},
		{"no capability", Line{Owner: "a", Range: good, Flags: Flags{DropCaps: []string{"CAP_NET_ROW"}}}, []string{`flag "drop-caps": capability "CAP_NET_ROW": unknown: did you mean CAP_NET_RAW?`}},
		{"two capabilities in one", Line{Owner: "a", Range: good, Flags: Flags{DropCaps: []string{"CAP_MKNOD+CAP_NET_RAW"}}}, []string{`flag "drop-caps": capability "CAP_MKNOD+CAP_NET_RAW": unknown`}},
		{"a flag in a capability", Line{Owner: "a", Range: good, Flags: Flags{DropCaps: []string{"CAP_MKNOD,shared"}}}, []string{`flag "drop-caps": capability "CAP_MKNOD,shared": unknown`}},
		{"a line in a capability", Line{Owner: "a", Range: good, Flags: Flags{DropCaps: []string{"CAP_MKNOD\nb:1:2:"}}}, []string{`flag "drop-caps": capability "CAP_MKNOD\nb:1:2:": unknown`}},
		{"everything", Line{Owner: "a b", Flags: Flags{Size: idmap.Invalid}}, []string{"holds ' '", "length: is 0", `flag "size=4294967295"`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := newEtc(t)
			const before = "# x\nalice:300000:1:\n"
			e.write("book", before)
			var result, replaced error
			err := e.edit(func(c *Change) error {
				replaced = c.Replace(c.Book.Lines()[0], row.line)
				c.Add(row.line)
				_, result = c.Result()
				return nil
			})
			where := "book: " + e.path("book") + ": new line "
			wantError(t, err, append(row.want, where)...)
			wantError(t, replaced, append(row.want, "book: "+e.path("book")+":2: replaced by ")...)
			if result == nil || result.Error() != err.Error() {
				t.Errorf("Result says %v", result)
			}
			for l := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(l, where) {
					t.Errorf("%q doesn't begin with %q", l, where)
				}
			}
			if n := strings.Count(err.Error(), "\n") + 1; n != len(row.want) && row.name != "root" {
				t.Errorf("%d reasons, want %d: %v", n, len(row.want), err)
			}
			if e.read("book") != before || e.names() != "book" {
				t.Errorf("left %s, with %q", e.names(), e.read("book"))
			}
		})
	}
}

// Which lines may be removed or replaced.
func TestEditWrongLine(t *testing.T) {
	for _, row := range []struct {
		name string
		pick func(all []Line) Line // of a book's line 2 and 3, and a drop-in's
		prep func(c *Change, all []Line) error
		want string
	}{
		{"a drop-in's", func(all []Line) Line { return all[2] }, nil, "book: @/book.d/x.conf:1: is not a line of @/book: expected one of it, since a drop-in belongs to what has installed it: edit that file: @/book.d/x.conf"},
		{"removed", func(all []Line) Line { return all[0] }, func(c *Change, all []Line) error { return c.Remove(all[0]) }, `book: @/book:2: "a:70000:1:" has been removed already`},
		{"replaced", func(all []Line) Line { return all[0] }, func(c *Change, all []Line) error { return c.Replace(all[0], all[1]) }, `book: @/book:2: "a:70000:1:" has been replaced already`},
		{"of another number", func(all []Line) Line { all[0].Number++; return all[0] }, nil, `book: @/book:3: is not "a:70000:1:": expected a line of the book as it is now`},
		{"a comment's", func(all []Line) Line { all[0].Number = 1; return all[0] }, nil, "book: @/book:1: is not"},
		{"beyond the end", func(all []Line) Line { all[0].Number = 9; return all[0] }, nil, "book: @/book:9: is not"},
		{"of another range", func(all []Line) Line { all[0].Range.Count++; return all[0] }, nil, `book: @/book:2: is not "a:70000:2:"`},
		{"with other flags", func(all []Line) Line { all[0].Flags.Shared = true; return all[0] }, nil, `is not "a:70000:1:shared"`},
		{"none at all", func([]Line) Line { return Line{} }, nil, "is not a line of @/book"},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := newEtc(t)
			const before = "# x\na:70000:1:\nb:80000:1:\n"
			e.write("book", before)
			e.write("book.d/x.conf", "c:90000:1:\n")
			want := strings.ReplaceAll(row.want, "@", e.dir)
			for _, do := range []func(*Change, Line) error{
				(*Change).Remove,
				func(c *Change, l Line) error { return c.Replace(l, line(t, "d:100000:1:")) },
			} {
				err := e.edit(func(c *Change) error {
					all := c.Book.Lines()
					if row.prep != nil {
						e.must(row.prep(c, all))
					}
					return do(c, row.pick(all))
				})
				wantError(t, err, want)
				if e.read("book") != before || e.names() != "book book.d" {
					t.Errorf("left %s, with %q", e.names(), e.read("book"))
				}
			}
		})
	}
}

// An error of do is the caller's own, and changes nothing.
func TestEditFails(t *testing.T) {
	e := newEtc(t)
	broken := errors.New("broken")
	err := e.edit(func(c *Change) error { c.Add(line(t, "a:70000:1:")); return broken })
	if err != broken || e.names() != "" { //nolint:errorlint // as it is, not wrapped
		t.Errorf("got %v, left %q", err, e.names())
	}
	err = edit(e.path("none/book"), e.load, func(*Change) error { t.Error("called"); return nil })
	wantError(t, err, "book: "+e.path("none/book")+": its directory: no such file or directory: mkdir -p "+e.path("none"))
	// A lock that others could hold, as an example of what lockedfile refuses.
	e.write("book.lock", "")
	wantError(t, e.edit(func(*Change) error { t.Error("called"); return nil }), "book: "+e.path("book.lock")+": ", "has mode 0644")
}

// A book that Load refuses is refused with its words, and stays as it is.
func TestEditBrokenBook(t *testing.T) {
	for _, row := range []struct {
		name string
		make func(e etc)
	}{
		{"bad line", func(e etc) { e.write("book", "a:70000:1:\nb:0:1:\nnonsense\n") }},
		{"bad line of a drop-in", func(e etc) { e.write("book.d/x.conf", "nonsense\n") }},
		{"drop-in alone, and bad", func(e etc) { e.must(os.Remove(e.path("book"))); e.write("book.d/x.conf", "nonsense\n") }},
		{"CR LF", func(e etc) { e.write("book", "a:70000:1:\r\n") }},
		{"writable by others", func(e etc) { e.must(os.Chmod(e.path("book"), 0o646)) }},
		{"drop-in writable by others", func(e etc) { e.write("book.d/x.conf", ""); e.must(os.Chmod(e.path("book.d/x.conf"), 0o646)) }},
		{"owned by another", func(e etc) { needRoot(e.t); e.must(os.Chown(e.path("book"), 1000, 0)) }},
		{"too big", func(e etc) { e.must(os.Truncate(e.path("book"), maxFile+1)) }},
	} {
		if row.name == "too big" && testing.Short() {
			continue // reads 256 MiB, twice
		}
		t.Run(row.name, func(t *testing.T) {
			e := newEtc(t)
			e.write("book", "alice:200000:65536:\n")
			row.make(e)
			_, want := e.load()
			names := e.names()
			before, _ := os.Stat(e.path("book"))
			err := e.edit(func(*Change) error { t.Error("called"); return nil })
			if want == nil || err == nil || err.Error() != want.Error() {
				t.Errorf("got %v\nwant %v", err, want)
			}
			after, _ := os.Stat(e.path("book"))
			if e.names() != names || (before == nil) != (after == nil) ||
				before != nil && (!os.SameFile(before, after) || before.Size() != after.Size() || before.Mode() != after.Mode() || before.ModTime() != after.ModTime()) {
				t.Errorf("left %s, %v", e.names(), after)
			}
		})
	}
	// Links and the like are lockedfile's to refuse, before anything is read.
	e := newEtc(t)
	e.write("real", "alice:200000:65536:\n")
	e.must(os.Symlink("real", e.path("book")))
	wantError(t, e.edit(func(*Change) error { t.Error("called"); return nil }), "book: "+e.path("book")+": is a symbolic link: expected a regular file")
}

// What is edited is what was judged: a text that comes between the two readings
// of it, or after, makes all begin again.
func TestEditHandMeanwhile(t *testing.T) {
	const hand = "# by hand\nhand:300000:1:\n"
	for _, row := range []struct {
		name   string
		before string // "-" is no file
		write  string // "-" removes it
		want   string
	}{
		{"another text", "alice:200000:65536:\n", hand, hand + "new:70000:1:\n"},
		{"as long", "alice:200000:65536:\n", "alicf:200000:65536:\n", "alicf:200000:65536:\nnew:70000:1:\n"},
		{"a new book", "-", hand, hand + "new:70000:1:\n"},
		{"a new and empty book", "-", "", "new:70000:1:\n"},
		{"removed", "alice:200000:65536:\n", "-", newBook + "new:70000:1:\n"},
		{"empty and removed", "", "-", newBook + "new:70000:1:\n"},
	} {
		for _, when := range []string{"before load", "after load", "in do"} {
			t.Run(row.name+" "+when, func(t *testing.T) {
				e := newEtc(t)
				if row.before != "-" {
					e.write("book", row.before)
				}
				done := false
				byHand := func(now string) {
					if done || now != when {
						return
					}
					done = true
					if row.write == "-" {
						e.must(os.Remove(e.path("book")))
					} else {
						e.write("book", row.write)
					}
				}
				load := func() (*Book, error) {
					byHand("before load")
					b, err := e.load()
					byHand("after load")
					return b, err
				}
				e.must(edit(e.path("book"), load, func(c *Change) error {
					byHand("in do")
					c.Add(line(t, "new:70000:1:"))
					return nil
				}))
				if got := e.read("book"); got != row.want || !done {
					t.Errorf("got %q\nwant %q", got, row.want)
				}
			})
		}
	}
	t.Run("broken", func(t *testing.T) {
		e := newEtc(t)
		e.write("book", "alice:200000:65536:\n")
		err := e.edit(func(c *Change) error {
			e.write("book", "nonsense\n")
			c.Add(line(t, "new:70000:1:"))
			return nil
		})
		wantError(t, err, "book: "+e.path("book")+":1: ")
		if e.read("book") != "nonsense\n" || e.names() != "book" {
			t.Errorf("left %s with %q", e.names(), e.read("book"))
		}
	})
	t.Run("for ever", func(t *testing.T) {
		e := newEtc(t)
		n := 0
		err := e.edit(func(c *Change) error {
			n++
			e.write("book", strings.Repeat("#\n", n))
			c.Add(line(t, "new:70000:1:"))
			return nil
		})
		wantError(t, err, "book: "+e.path("book")+": was changed by somebody else meanwhile")
		if !errors.Is(err, lockedfile.ErrChanged) || !strings.HasPrefix(err.Error(), "book: "+e.dir) || e.read("book") != strings.Repeat("#\n", n) {
			t.Errorf("got %v", err)
		}
	})
}

// The result is what Check and Grant judge before anything is written.
func TestEditResult(t *testing.T) {
	e := newEtc(t)
	e.write("book", "alice:200000:65536:\nbob:300000:65536:\n")
	e.write("book.d/x.conf", "carol:400000:65536:deny-setgroups\n")
	e.must(e.edit(func(c *Change) error {
		if b, err := c.Result(); b != c.Book || err != nil {
			t.Errorf("nothing changed, and another book: %v", err)
		}
		c.Add(line(t, "dave:400000:65536:no-new-privs"))
		e.must(c.Remove(c.Book.Lines()[0]))
		b, err := c.Result()
		e.must(err)
		var got []string
		for _, l := range b.Lines() {
			got = append(got, strings.TrimPrefix(l.Where(), e.dir)+" "+l.String())
		}
		want := []string{"/book:1 bob:300000:65536:", "/book:2 dave:400000:65536:no-new-privs", "/book.d/x.conf:1 carol:400000:65536:deny-setgroups"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		found := Check(b, World{})
		if !slices.ContainsFunc(found, func(f Conflict) bool { return f.Range.Start == 400000 && f.Severity == Error }) {
			t.Errorf("the overlap isn't found: %v", found)
		}
		if len(c.Book.Lines()) != 3 || c.Book.Lines()[2].Flags.String() != "deny-setgroups" {
			t.Errorf("the book has changed: %v", c.Book.Lines())
		}
		return nil
	}))
}

// Fifty at once, half of which take out again what they have put in: all that
// succeeded is there.
func TestEditAtOnce(t *testing.T) {
	e := newEtc(t)
	const before = "# the book\nalice:200000:65536:"
	e.write("book", before)
	var wait sync.WaitGroup
	text := func(n int) string { return fmt.Sprintf("user%d:%d:1:", n, 300000+n) }
	for n := range 50 {
		wait.Go(func() {
			l := line(t, text(n))
			err := e.edit(func(c *Change) error { c.Add(l); return nil })
			if err == nil && n%2 == 1 {
				err = e.edit(func(c *Change) error {
					for _, there := range c.Book.Lines() {
						if there.Owner == l.Owner {
							return c.Remove(there)
						}
					}
					return errors.New(l.Owner + " is lost")
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	got := strings.Split(e.read("book"), "\n")
	slices.Sort(got[2:])
	want := []string{"# the book", "alice:200000:65536:"}
	for n := range 50 {
		if n%2 == 0 {
			want = append(want, text(n))
		}
	}
	want = append(want, "")
	slices.Sort(want[2:])
	if !slices.Equal(got, want) || e.names() != "book book-" {
		t.Errorf("left %s, with %q", e.names(), got)
	}
}

// The same by processes, through what others call.
func TestEditByProcesses(t *testing.T) {
	needRoot(t)
	const pathVar, nameVar = "REGISTRY_TEST_BOOK", "REGISTRY_TEST_OWNER"
	if path := os.Getenv(pathVar); path != "" {
		for n := range 10 {
			l := line(t, fmt.Sprintf("%s:%d:1:", os.Getenv(nameVar), 300000+n))
			if err := Edit(path, path+".d", func(c *Change) error { c.Add(l); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	e := newEtc(t)
	var all []*exec.Cmd
	for n := range 10 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), pathVar+"="+e.path("book"), nameVar+fmt.Sprintf("=p%d", n))
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		e.must(cmd.Start())
		all = append(all, cmd)
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	b, err := Load(e.path("book"), e.path("book.d"))
	e.must(err)
	seen := map[string]int{}
	for _, l := range b.Lines() {
		seen[l.String()]++
	}
	if len(seen) != 100 || len(b.Lines()) != 100 || !strings.HasPrefix(e.read("book"), newBook) || e.names() != "book book-" {
		t.Errorf("left %s, with %d lines, %d of them different", e.names(), len(b.Lines()), len(seen))
	}
}

// For each readable text, a line that is added and removed again leaves the bytes
// that were there, but for the end of the last line; and a line that is replaced
// takes no other byte along.
func FuzzEdit(f *testing.F) {
	for _, seed := range []string{
		"", "#\n", "alice:200000:65536:", "alice:200000:65536:shared,size=3,deny-setgroups\n\n # x\nbob:70000:2:reserved", "\n\n\n", "\t", "1000:4294901760:65535:\n#",
		"a:70000:1:\na:70000:1:\n",
	} {
		f.Add([]byte(seed), "bob", uint32(300000), uint32(65536), uint32(0), false)
		f.Add([]byte(seed), "#b:", uint32(300000), uint32(65536), uint32(9), true)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, owner string, start, count, size uint32, shared bool) {
		e := etc{t, dir}
		e.must(errors.Join(os.RemoveAll(e.path("book")), os.RemoveAll(e.path("book-"))))
		e.write("book", string(data))
		l := Line{Owner: owner, Range: idmap.Range{Start: start, Count: count}, Flags: Flags{Size: size, Shared: shared}}
		var was []Line
		err := e.edit(func(c *Change) error { was = c.Book.Lines(); c.Add(l); return nil })
		if err != nil {
			if got := e.read("book"); got != string(data) || e.names() != "book" {
				t.Fatalf("%v, but left %s with %q", err, e.names(), got)
			}
			if _, bad := Parse("/book", data); bad == nil && len(data) < maxFile/2 && plain(owner) &&
				start > 65535 && uint64(start)+uint64(count) < 1<<32-1 && count > 0 && size != idmap.Invalid {
				t.Fatalf("%q can't be added: %v", l, err)
			}
			return
		}
		e.must(e.edit(func(c *Change) error {
			now := c.Book.Lines()
			if len(now) != len(was)+1 || !slices.EqualFunc(now[:len(was)], was, func(a, b Line) bool { return reflect.DeepEqual(a, b) }) || now[len(was)].String() != l.String() {
				t.Fatalf("%q was added to %q: %v", l, data, now)
			}
			return c.Remove(now[len(was)])
		}))
		want := slices.Clone(data)
		if len(want) > 0 && want[len(want)-1] != '\n' {
			want = append(want, '\n')
		}
		if got := e.read("book"); got != string(want) {
			t.Fatalf("got %q\nwant %q", got, want)
		}
		if len(was) == 0 {
			return
		}
		old := was[len(was)/2]
		e.must(e.edit(func(c *Change) error { return c.Replace(old, l) }))
		before, after := bytes.Split(want, []byte("\n")), strings.Split(e.read("book"), "\n")
		if len(before) != len(after) {
			t.Fatalf("got %q\nwas %q", after, before)
		}
		for i := range before {
			if i != old.Number-1 && string(before[i]) != after[i] || i == old.Number-1 && old.String() != l.String() && after[i] != l.String() {
				t.Fatalf("line %d: got %q, was %q", i+1, after[i], before[i])
			}
		}
	})
}

// plain is a name that every book can hold.
func plain(name string) bool {
	return name != "" && len(name) < 33 && !strings.ContainsFunc(name, func(r rune) bool { return r < 'a' || r > 'z' })
}

func BenchmarkEdit(b *testing.B) {
	path := filepath.Join(b.TempDir(), "book")
	if err := os.WriteFile(path, bigBook(100000), 0o644); err != nil {
		b.Fatal(err)
	}
	l := Line{Owner: "new", Range: idmap.Range{Start: 70000000, Count: 1}}
	for b.Loop() {
		if err := Edit(path, path+".d", func(c *Change) error { c.Add(l); return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
