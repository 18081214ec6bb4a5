// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// need skips a test whose tools aren't there.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: tests/install-deps test installs it", err)
		}
	}
}

// tool runs one, and gives what it prints. It says nothing else, not even a warning.
func tool(t *testing.T, stdin []byte, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%v: %v: %s", cmd.Args, err, errs.Bytes())
	}
	return out.String()
}

// tree makes files of all kinds, of owners whose numbers need each form.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	deep := "deep/" + strings.Repeat(strings.Repeat("d", 60)+"/", 4)
	for _, name := range []string{"dir", deep} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "dir/setuid", "prog", "acl", "xattr", "uid2097151", "uid2097152", "uid4000000000", deep + "file", "naïve"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for script := range strings.Lines(`
chown 1:2 dir/setuid
chmod 4755 dir/setuid
chown 2097151:300000 uid2097151
chown 2097152:2097152 uid2097152
chown 4000000000:4000000009 uid4000000000
ln file dir/hard
ln -s ../file dir/symlink
ln -s ` + deep + `file symlink-to-a-long-target
mkfifo fifo
mknod null c 1 3
mknod disk b 8 1
mknod whiteout c 0 0
truncate -s 10M sparse
printf data | dd of=sparse bs=1 seek=1000000 conv=notrunc status=none
printf data | dd of=sparse bs=1 seek=5000000 conv=notrunc status=none
truncate -s 1M hole
setcap cap_net_raw+ep prog
setfacl -m u:12345:rw,g:54321:r acl
setfacl -d -m g:54321:rx dir
setfattr -n user.key -v value xattr
setfattr -n user.binary -v 0x000a3d00 xattr
touch -d @1700000000.123456789 file
touch -h -d @-5 symlink-to-a-long-target
`) {
		if script = strings.TrimSpace(script); script != "" {
			names = append(names, script)
		}
	}
	cmd := exec.Command("sh", "-euc", strings.Join(names, "\n"))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("files for archives can't be made here: %v: %s", err, out)
	}
	return dir
}

// writers are the tools and formats that archives come in. lossy are those that can't
// hold all that the tree has, and so get a part of it.
var writers = []struct {
	name  string
	args  []string
	small bool // IDs beyond 2097151 and long names don't fit
	ns    bool // times to the nanosecond
	xattr bool // has attributes and ACLs
}{
	{name: "tar v7", args: []string{"tar", "--format=v7"}, small: true},
	{name: "tar oldgnu", args: []string{"tar", "--format=oldgnu", "--sparse"}},
	{name: "tar gnu", args: []string{"tar", "--format=gnu", "--sparse"}},
	{name: "tar gnu incremental", args: []string{"tar", "--format=gnu", "--listed-incremental=SNAPSHOT"}},
	{name: "tar ustar", args: []string{"tar", "--format=ustar"}, small: true},
	{name: "tar posix", args: []string{"tar", "--format=posix"}, ns: true},
	{name: "tar posix, all of it", args: []string{"tar", "--format=posix", "--acls", "--xattrs", "--xattrs-include=*", "--selinux"}, ns: true, xattr: true},
	{name: "tar posix, no names", args: []string{"tar", "--format=posix", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*"}, ns: true, xattr: true},
	{name: "tar posix, sparse 0.0", args: []string{"tar", "--format=posix", "--sparse", "--sparse-version=0.0"}, ns: true},
	{name: "tar posix, sparse 0.1", args: []string{"tar", "--format=posix", "--sparse", "--sparse-version=0.1"}, ns: true},
	{name: "tar posix, sparse 1.0", args: []string{"tar", "--format=posix", "--sparse", "--sparse-version=1.0"}, ns: true},
	{name: "tar posix, global", args: []string{"tar", "--format=posix", "--pax-option=globexthdr.name=g,comment=text"}, ns: true},
	{name: "bsdtar v7", args: []string{"bsdtar", "--format=v7"}, small: true},
	{name: "bsdtar ustar", args: []string{"bsdtar", "--format=ustar"}, small: true},
	{name: "bsdtar gnutar", args: []string{"bsdtar", "--format=gnutar"}},
	{name: "bsdtar pax", args: []string{"bsdtar", "--format=pax", "--acls", "--xattrs"}, ns: true, xattr: true},
	{name: "bsdtar pax, no names", args: []string{"bsdtar", "--format=pax", "--numeric-owner", "--acls", "--xattrs"}, ns: true, xattr: true},
}

// hostMaps are maps whose outer IDs are small, need seven digits, and don't fit into digits.
var hostMaps = map[string]idmap.Map{
	"small": {{Inner: 0, Outer: 100000, Count: 65536}, {Inner: 300000, Outer: 165536, Count: 1}, {Inner: 2097151, Outer: 165537, Count: 2}, {Inner: 4000000000, Outer: 165540, Count: 10}},
	"seven": {{Inner: 0, Outer: 1000000, Count: 65536}, {Inner: 300000, Outer: 2097151, Count: 1}, {Inner: 2097151, Outer: 5, Count: 2}, {Inner: 4000000000, Outer: 2097150, Count: 1}, {Inner: 4000000001, Outer: 2097153, Count: 9}},
	"large": {{Inner: 0, Outer: 3000000000, Count: 65536}, {Inner: 300000, Outer: 2097152, Count: 1}, {Inner: 2097151, Outer: 4294967290, Count: 2}, {Inner: 4000000000, Outer: 4000000001, Count: 10}},
}

// TestTools shifts what tar and bsdtar write, there and back, and has both read it in
// between; and it writes it anew, which both have to read as well.
func TestTools(t *testing.T) {
	need(t, "tar", "bsdtar", "setfacl", "setfattr", "setcap")
	needRoot(t)
	dir := tree(t)
	for _, w := range writers {
		t.Run(w.name, func(t *testing.T) {
			names := []string{"."}
			if w.small {
				names = []string{"file", "dir", "prog", "acl", "xattr", "naïve"}
			}
			args := slices.Concat(w.args[1:], []string{"-C", dir, "-cf", "-"}, names)
			for i, arg := range args {
				args[i] = strings.ReplaceAll(arg, "SNAPSHOT", filepath.Join(t.TempDir(), "snapshot"))
			}
			data := []byte(tool(t, nil, w.args[0], args...))
			entries, contents, err := readAll(data)
			if err != nil {
				t.Fatal(err)
			}
			compareWithDisk(t, dir, entries, contents, disk{ns: w.ns, xattrs: w.xattr, dirTimes: true})
			for name, m := range hostMaps {
				if testing.Short() && name != "seven" {
					continue // what differs by the map is numbers
				}
				t.Run(name, func(t *testing.T) {
					host := thereAndBack(t, m, data)
					compareListing(t, m, data, host)
					back, _, err := readAll(host)
					if err != nil || len(back) != len(entries) {
						t.Fatalf("%d entries, %v: expected %d", len(back), err, len(entries))
					}
					// What the filter does to the stream, Entry does to each entry.
					s := Shift{Map: m}
					for i, e := range entries {
						want := *e
						if _, err := s.Entry(&want); err != nil {
							t.Fatal(err)
						}
						want.offset = back[i].offset
						if fmt.Sprintf("%+v", *back[i]) != fmt.Sprintf("%+v", want) {
							t.Errorf("%+v\nexpected %+v", *back[i], want)
						}
					}
				})
			}
			rewrite(t, data, entries, contents, w.ns)
		})
	}
}

// listArgs have tar list an archive. It doesn't know what bsdtar writes attributes as.
var listArgs = []string{"--numeric-owner", "--full-time", "--warning=no-unknown-keyword", "-tvf", "-"}

// compareListing compares what both tools list of an archive and of the shifted one.
func compareListing(t *testing.T, m idmap.Map, data, host []byte) {
	t.Helper()
	for _, lister := range []struct {
		name string
		args []string
		at   int // of the UID among the words of a line, with the GID behind it
	}{
		{"tar", listArgs, 1}, // as UID/GID
		{"bsdtar", []string{"--numeric-owner", "-tvf", "-"}, 2},
	} {
		lines := func(data []byte) (lines [][]string) {
			for line := range strings.Lines(tool(t, data, lister.name, lister.args...)) {
				if lister.name == "tar" {
					line = strings.Replace(line, "/", " ", 1)
				}
				lines = append(lines, strings.Fields(line))
			}
			return lines
		}
		before, after := lines(data), lines(host)
		if len(before) != len(after) || len(before) < 3 {
			t.Fatalf("%s lists %d lines, and %d before", lister.name, len(after), len(before))
		}
		for i, want := range before {
			for _, at := range []int{lister.at, lister.at + 1} {
				id, err := idmap.ParseID(want[at])
				if err != nil {
					t.Fatalf("%s lists %q: %v", lister.name, want, err)
				}
				id, _ = m.ToOuter(id)
				want[at] = fmt.Sprint(id)
			}
			if !slices.Equal(after[i], want) {
				t.Errorf("%s lists %q, expected %q", lister.name, after[i], want)
			}
		}
	}
}

// rewrite writes the entries anew, and has both tools list them as the original, and
// make files of them that are what the entries say.
func rewrite(t *testing.T, data []byte, entries []*Entry, contents []string, ns bool) {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	dumped := false
	for i, e := range entries {
		if e.Type == TypeDumpDir { // is written as the directory that it is
			d := *e
			d.Type, d.Size, e = TypeDir, 0, &d
			contents[i] = ""
			dumped = true
		}
		if err := w.WriteEntry(e); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(contents[i])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{append([]string{"tar"}, listArgs...), {"bsdtar", "--numeric-owner", "-tvf", "-"}} {
		want, got := tool(t, data, args[0], args[1:]...), tool(t, out.Bytes(), args[0], args[1:]...)
		if got != want && !dumped {
			t.Errorf("%s lists\n%sexpected\n%s", args[0], got, want)
		}
	}
	for name, args := range map[string][]string{
		"tar":    {"--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "--warning=no-timestamp", "-p", "-x", "-f", "-", "-C"},
		"bsdtar": {"--acls", "--xattrs", "--numeric-owner", "--same-owner", "-p", "-x", "-f", "-", "-C"},
	} {
		if dumped {
			break // only tar knows when the names in a dump's directories count
		}
		dir := t.TempDir()
		tool(t, out.Bytes(), name, append(args, dir)...)
		compareWithDisk(t, dir, entries, contents, disk{ns: ns, xattrs: true})
	}
	back, backContents, err := readAll(out.Bytes())
	if err != nil || len(back) != len(entries) || !slices.Equal(backContents, contents) {
		t.Errorf("what was written anew: %d entries, %v: expected %d, with the same data", len(back), err, len(entries))
	}
}

// TestWriteForTools has both tools list entries that no filesystem here would have made.
func TestWriteForTools(t *testing.T) {
	need(t, "tar", "bsdtar")
	data := write(t, entries())
	for name, args := range map[string][]string{"tar": append([]string{"--absolute-names"}, listArgs...), "bsdtar": {"--numeric-owner", "-tvf", "-"}} {
		if got, want := strings.Count(tool(t, data, name, args...), "\n"), len(entries()); got != want {
			t.Errorf("%s lists %d lines: expected %d", name, got, want)
		}
	}
}
