// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// etc is a directory with a book and drop-ins; names in a test are below it.
type etc struct {
	t   *testing.T
	dir string
}

func newEtc(t *testing.T) etc {
	t.Helper()
	return etc{t, t.TempDir()}
}

func (e etc) path(name string) string { return filepath.Join(e.dir, name) }

func (e etc) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e etc) write(name, text string) {
	e.t.Helper()
	e.must(os.MkdirAll(filepath.Dir(e.path(name)), 0o755))
	e.must(os.WriteFile(e.path(name), []byte(text), 0o644))
	// Whatever the umask of whoever runs the tests.
	e.must(os.Chmod(e.path(name), 0o644))
	e.must(os.Chmod(filepath.Dir(e.path(name)), 0o755))
}

// load takes the tests' user for host root, so that not all need root.
func (e etc) load() (*Book, error) {
	return load(e.path("book"), e.path("book.d"), uint32(os.Getuid()))
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make files of others")
	}
}

func TestLoad(t *testing.T) {
	for _, row := range []struct {
		name  string
		files map[string]string
		want  []string // FILE:LINE OWNER
	}{
		{"the book alone", map[string]string{"book": "a:70000:1:\nb:80000:1:\n"}, []string{"book:1 a", "book:2 b"}},
		{"drop-ins alone", map[string]string{"book.d/x.conf": "a:70000:1:\n"}, []string{"book.d/x.conf:1 a"}},
		{"the book, then drop-ins by name",
			map[string]string{"book": "z:70000:1:\n", "book.d/b.conf": "b:80000:1:", "book.d/B.conf": "B:90000:1:", "book.d/10.conf": "#\nten:100000:1:", "book.d/9.conf": "nine:110000:1:"},
			[]string{"book:1 z", "book.d/10.conf:2 ten", "book.d/9.conf:1 nine", "book.d/B.conf:1 B", "book.d/b.conf:1 b"}},
		{"only *.conf, and no dotfiles",
			map[string]string{"book": "a:70000:1:\n", "book.d/x": "bad", "book.d/x.conf~": "bad", "book.d/x.conf.rpmsave": "bad", "book.d/.x.conf": "bad", "book.d/.conf": "bad"},
			[]string{"book:1 a"}},
		{"an empty book", map[string]string{"book": ""}, nil},
		{"an empty drop-in is a book", map[string]string{"book.d/x.conf": "# nothing yet\n"}, nil},
		{"flags shared between files", map[string]string{"book": "a:70000:1:shared\nb:80000:1:", "book.d/x.conf": "c:90000:1:reserved\nd:100000:1:shared"},
			[]string{"book:1 a shared", "book:2 b", "book.d/x.conf:1 c reserved", "book.d/x.conf:2 d shared"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := newEtc(t)
			for name, text := range row.files {
				e.write(name, text)
			}
			b, err := e.load()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range b.Lines() {
				where := strings.TrimPrefix(l.Where(), e.dir+"/")
				got = append(got, strings.TrimSpace(where+" "+l.Owner+" "+l.Flags.String()))
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("got %q\nwant %q", got, row.want)
			}
		})
	}
}

func TestLoadWithoutABook(t *testing.T) {
	for _, row := range []struct {
		name  string
		files []string
	}{
		{"nothing at all", nil},
		{"no drop-in of the right name", []string{"book.d/README"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := newEtc(t)
			for _, name := range row.files {
				e.write(name, "")
			}
			b, err := e.load()
			if b != nil || !errors.Is(err, ErrNoBook) {
				t.Fatalf("got %v, %v", b, err)
			}
			wantError(t, err, "book: "+e.path("book")+": there is no book", e.path("book.d"),
				"usernsctl init")
		})
	}
}

func TestLoadRefusesTheWholeBook(t *testing.T) {
	e := newEtc(t)
	e.write("book", "a:70000:1:\nb:0:1:\n")
	e.write("book.d/1.conf", "c:80000:1:\n")
	e.write("book.d/2.conf", "d:90000:1:\nnonsense\n")
	e.must(os.Mkdir(e.path("book.d/3.conf"), 0o755))
	b, err := e.load()
	if b != nil {
		t.Error("a book beside an error")
	}
	wantError(t, err, e.path("book")+":2: range", e.path("book.d/2.conf")+":2: ", e.path("book.d/3.conf")+": is a directory: expected a regular file: move it away")
	if errors.Is(err, ErrNoBook) {
		t.Error("a bad book is said to be none")
	}
}

func TestUnsafeFiles(t *testing.T) {
	const good = "alice:200000:65536:\n"
	for _, row := range []struct {
		name string
		root bool // needs it
		make func(e etc)
		err  []string // @ is the directory
	}{
		{"mode 0600", false, func(e etc) { e.must(os.Chmod(e.path("book"), 0o600)) }, nil},
		{"mode 0555", false, func(e etc) { e.must(os.Chmod(e.path("book"), 0o555)) }, nil},
		{"writable by the group", false, func(e etc) { e.must(os.Chmod(e.path("book"), 0o664)) },
			[]string{"book: @/book: has mode 0664, writable by others than its owner: expected no write permission for group and others: chmod go-w @/book"}},
		{"writable by others", false, func(e etc) { e.must(os.Chmod(e.path("book"), 0o602)) },
			[]string{"book: @/book: has mode 0602", "chmod go-w @/book"}},
		{"owned by another", true, func(e etc) { e.must(os.Chown(e.path("book"), 1000, 0)) },
			[]string{"book: @/book: is owned by UID 1000: expected root, who is UID 0 here: chown root: @/book"}},
		{"owned by the overflow ID where root is mapped", true, func(e etc) { e.must(os.Chown(e.path("book"), int(idmap.Overflow), 0)) },
			[]string{"is owned by UID 65534", "chown root: @/book"}},
		{"of another group", true, func(e etc) { e.must(os.Chown(e.path("book"), 0, 1000)) }, nil},
		{"two faults at once", true, func(e etc) {
			e.must(os.Chown(e.path("book"), 1000, 0))
			e.must(os.Chmod(e.path("book"), 0o666))
		}, []string{"chown root: @/book", "chmod go-w @/book"}},
		{"a symbolic link", false, func(e etc) {
			e.must(os.Rename(e.path("book"), e.path("real")))
			e.must(os.Symlink("real", e.path("book")))
		}, []string{"book: @/book: is a symbolic link: expected a regular file: put what it points to in its place"}},
		{"a dangling link", false, func(e etc) {
			e.must(os.Remove(e.path("book")))
			e.must(os.Symlink("nowhere", e.path("book")))
		}, []string{"book: @/book: is a symbolic link"}},
		{"a directory", false, func(e etc) {
			e.must(os.Remove(e.path("book")))
			e.must(os.Mkdir(e.path("book"), 0o755))
		}, []string{"book: @/book: is a directory: expected a regular file: move it away"}},
		{"a FIFO, which must not block", false, func(e etc) {
			e.must(os.Remove(e.path("book")))
			e.must(syscall.Mkfifo(e.path("book"), 0o644))
		}, []string{"book: @/book: is a FIFO: expected a regular file: move it away"}},
		{"a socket", false, func(e etc) {
			e.must(os.Remove(e.path("book")))
			l, err := net.Listen("unix", e.path("book"))
			e.must(err)
			e.t.Cleanup(func() { _ = l.Close() })
		}, []string{"book: @/book: is neither a file nor a directory: expected a regular file"}},
		{"a device", true, func(e etc) {
			e.must(os.Remove(e.path("book")))
			e.must(syscall.Mknod(e.path("book"), syscall.S_IFCHR|0o644, 1<<8|3)) // null
		}, []string{"book: @/book: is a device: expected a regular file"}},
		{"too big", false, func(e etc) { e.must(os.Truncate(e.path("book"), maxFile+1)) },
			[]string{"book: @/book: 268435457 bytes: expected at most 268435456: split it into drop-ins"}},

		{"drop-in writable by others", false, func(e etc) { e.must(os.Chmod(e.path("book.d/x.conf"), 0o646)) },
			[]string{"book: @/book.d/x.conf: has mode 0646", "chmod go-w @/book.d/x.conf"}},
		{"drop-in owned by another", true, func(e etc) { e.must(os.Chown(e.path("book.d/x.conf"), 7, 7)) },
			[]string{"book: @/book.d/x.conf: is owned by UID 7"}},
		{"drop-in is a symbolic link", false, func(e etc) { e.must(os.Symlink("x.conf", e.path("book.d/y.conf"))) },
			[]string{"book: @/book.d/y.conf: is a symbolic link"}},
		{"drop-in is a FIFO", false, func(e etc) { e.must(syscall.Mkfifo(e.path("book.d/y.conf"), 0o644)) },
			[]string{"book: @/book.d/y.conf: is a FIFO"}},
		{"drop-in is a directory", false, func(e etc) { e.must(os.Mkdir(e.path("book.d/y.conf"), 0o755)) },
			[]string{"book: @/book.d/y.conf: is a directory"}},
		{"a directory beside the drop-ins", false, func(e etc) { e.must(os.Mkdir(e.path("book.d/old"), 0o777)) }, nil},
		{"an unsafe file that isn't read", false, func(e etc) { e.must(os.Symlink("/", e.path("book.d/.y.conf"))) }, nil},

		{"directory writable by others", false, func(e etc) { e.must(os.Chmod(e.path("book.d"), 0o777|os.ModeSticky)) },
			[]string{"book: @/book.d: has mode 1777, writable by others", "chmod go-w @/book.d"}},
		{"directory owned by another", true, func(e etc) { e.must(os.Chown(e.path("book.d"), 1000, 0)) },
			[]string{"book: @/book.d: is owned by UID 1000", "chown root: @/book.d"}},
		{"directory is a symbolic link", false, func(e etc) {
			e.must(os.Rename(e.path("book.d"), e.path("real.d")))
			e.must(os.Symlink("real.d", e.path("book.d")))
		}, []string{"book: @/book.d: is a symbolic link: expected a directory: put what"}},
		{"directory is a file", false, func(e etc) {
			e.must(os.RemoveAll(e.path("book.d")))
			e.write("book.d", "")
		}, []string{"book: @/book.d: is a regular file: expected a directory: move it away"}},
		{"directory is a FIFO", false, func(e etc) {
			e.must(os.RemoveAll(e.path("book.d")))
			e.must(syscall.Mkfifo(e.path("book.d"), 0o644))
		}, []string{"book: @/book.d: is a FIFO: expected a directory"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.root {
				needRoot(t)
			}
			e := newEtc(t)
			e.write("book", good)
			e.write("book.d/x.conf", "bob:300000:65536:\n")
			row.make(e)
			b, err := e.load()
			want := slices.Clone(row.err)
			for i := range want {
				want[i] = strings.ReplaceAll(want[i], "@", e.dir)
			}
			wantError(t, err, want...)
			if (b == nil) != (err != nil) {
				t.Errorf("book %v beside error %v", b, err)
			}
			if err == nil && len(b.Lines()) != 2 {
				t.Errorf("lines: %v", b.Lines())
			}
		})
	}
}

func TestOverflowOwner(t *testing.T) {
	needRoot(t)
	e := newEtc(t)
	e.write("book", "alice:200000:65536:\n")
	e.must(os.Chown(e.path("book"), int(idmap.Overflow), int(idmap.Overflow)))
	if _, err := load(e.path("book"), e.path("book.d"), idmap.Overflow); err != nil {
		t.Errorf("where root is unmapped: %v", err)
	}
	// There UID 0 is whoever made the namespace.
	e.must(os.Chown(e.path("book"), 0, 0))
	_, err := load(e.path("book"), e.path("book.d"), idmap.Overflow)
	wantError(t, err, "is owned by UID 0: expected root, who is UID 65534 here")
}

// Load itself, which asks the kernel who root is.
func TestLoadAsRoot(t *testing.T) {
	needRoot(t)
	e := newEtc(t)
	e.write("book", "alice:200000:65536:\n")
	uidMap, err := os.ReadFile("/proc/self/uid_map")
	e.must(err)
	m, err := idmap.ParseMap(string(uidMap))
	e.must(err)
	b, err := Load(e.path("book"), e.path("book.d"))
	if inner, ok := m.ToInner(0); !ok || inner != 0 {
		wantError(t, err, "expected root, who is UID")
		return
	}
	e.must(err)
	if len(b.Lines()) != 1 {
		t.Errorf("lines: %v", b.Lines())
	}
}

func TestLoadLeavesNoDescriptors(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	e := newEtc(t)
	e.write("book", "alice:200000:65536:\n")
	e.write("book.d/x.conf", "bob:300000:65536:\n")
	if _, err := e.load(); err != nil { // what the runtime opens once is open now
		t.Fatal(err)
	}
	before := count()
	e.must(os.Mkdir(e.path("book.d/y.conf"), 0o755))
	for range 20 {
		if _, err := e.load(); err == nil {
			t.Fatal("the directory was read")
		}
	}
	e.must(os.Chmod(e.path("book.d"), 0o777))
	for range 20 {
		if _, err := e.load(); err == nil {
			t.Fatal("the unsafe directory was read")
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestWith(t *testing.T) {
	first, err := new(Book).With("/etc/usernamespaces", []byte("alice:200000:65536:shared\n"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := first.With("/tmp/x.conf", []byte("bob:300000:65536:reserved\n"))
	if err != nil {
		t.Fatal(err)
	}
	third, err := first.With("/tmp/y.conf", []byte("carol:300000:65536:size=5\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		book *Book
		want []string
	}{
		{"first", first, []string{"alice:200000:65536:shared"}},
		{"second", second, []string{"alice:200000:65536:shared", "bob:300000:65536:reserved"}},
		{"third", third, []string{"alice:200000:65536:shared", "carol:300000:65536:size=5"}},
	} {
		var got []string
		for _, l := range row.book.Lines() {
			got = append(got, l.String())
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
	if b, err := first.With("/tmp/z.conf", []byte("bad")); b != nil || err == nil {
		t.Errorf("a bad drop-in: %v, %v", b, err)
	}
	if got := new(Book).Lines(); len(got) != 0 {
		t.Errorf("the zero book: %v", got)
	}
}
