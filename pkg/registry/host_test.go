// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"os"
	"reflect"
	"syscall"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestLoadHost(t *testing.T) {
	e := newEtc(t)
	passwd, group := e.path("passwd"), e.path("group")
	e.write("passwd", "root:x:0:0:root:/root:/bin/sh\n"+
		"# a comment\n+::::::\nshort:x:5\n\nword:x:abc:1:::\n"+
		"alice:x:1000:1000::/home/alice:/bin/sh\n"+
		"zeros:x:0070: 0071 :::\nbig:x:4294967296:1:::\nlast:x:200005:200006::/:")
	e.write("group", "root:x:0:\nalice:x:1000:bob,carol\nbad\nsvc:x:200007:\none:x:1:\n")
	got, err := LoadHost(passwd, group)
	if err != nil {
		t.Fatal(err)
	}
	want := Host{
		Users: []Account{{"root", 0, passwd + ":1"}, {"alice", 1000, passwd + ":7"}, {"zeros", 70, passwd + ":8"}, {"last", 200005, passwd + ":10"}},
		Groups: []Account{
			{"root", 0, group + ":1"}, {"alice", 1000, group + ":2"}, {"svc", 200007, group + ":4"}, {"one", 1, group + ":5"},
			{"zeros", 71, passwd + ":8"}, {"last", 200006, passwd + ":10"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLoadHostFiles(t *testing.T) {
	e := newEtc(t)
	if got, err := LoadHost(e.path("passwd"), e.path("group")); err != nil || got.Users != nil || got.Groups != nil {
		t.Errorf("missing files: %v, %v", got, err)
	}
	e.must(os.Mkdir(e.path("group"), 0o755))
	_, err := LoadHost(e.path("passwd"), e.path("group"))
	wantError(t, err, "accounts: ", e.path("group"))
	e.must(os.Mkdir(e.path("passwd"), 0o755))
	_, err = LoadHost(e.path("passwd"), e.path("nothing"))
	wantError(t, err, "accounts: ", e.path("passwd"))
}

// What never ends to be read, or to be opened, is refused at once.
func TestHostFilesAreRegular(t *testing.T) {
	e := newEtc(t)
	path := e.path("fifo")
	e.must(syscall.Mkfifo(path, 0o644))
	_, err := LoadHost(path, e.path("group"))
	wantError(t, err, path+": isn't a regular file (p---------)")
	_, err = LoadHost(e.path("passwd"), path)
	wantError(t, err, path)
	_, _, err = LoadSubIDs(path)
	wantError(t, err, path)
	_, _, err = LoadSubIDs("/dev/zero")
	wantError(t, err, "/dev/zero: isn't a regular file")
	if ids, _, err := LoadSubIDs("/dev/null"); err != nil || len(ids) != 0 {
		t.Errorf("/dev/null: %v, %v", ids, err)
	}
	e.write("real", "a:1:2\n")
	e.must(os.Symlink("real", e.path("link")))
	if ids, _, err := LoadSubIDs(e.path("link")); err != nil || len(ids) != 1 {
		t.Errorf("a link: %v, %v", ids, err)
	}
}

func TestLoadSubIDs(t *testing.T) {
	e := newEtc(t)
	path := e.path("subuid")
	e.write("subuid", "alice:100000:65536\n# comment\n\n1001:165536:65536\nbob:x:65536\nbob:1\n:1:1\ncarol:5:0\ndave:4294967295:1\nerin:0231072:5")
	ids, warnings, err := LoadSubIDs(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []SubID{
		{"alice", idmap.Range{Start: 100000, Count: 65536}, path + ":1"},
		{"1001", idmap.Range{Start: 165536, Count: 65536}, path + ":4"},
		{"erin", idmap.Range{Start: 231072, Count: 5}, path + ":10"},
		{"erin", idmap.Range{Start: 0o231072, Count: 5}, path + ":10"},
	}
	if !reflect.DeepEqual(ids, want) {
		t.Errorf("got  %+v\nwant %+v", ids, want)
	}
	var where []string
	for _, w := range warnings {
		where = append(where, w.Where)
		if w.Severity != Warning {
			t.Errorf("%s: severity %s", w.Where, w.Severity)
		}
	}
	if wanted := []string{path + ":5", path + ":6", path + ":7", path + ":8", path + ":9", path + ":10"}; !reflect.DeepEqual(where, wanted) {
		t.Errorf("warnings at %q, want %q", where, wanted)
	}
	if got := warnings[0].Message; got != path+`:5: "bob:x:65536": is passed over: expected USER:START:COUNT: mend or remove the line` {
		t.Errorf("message %q", got)
	}
	if got, want := warnings[5].Message, path+`:10: "erin:0231072:5": programs make different things of it: [231072-231077) or [78394-78399), or nothing: expected USER:START:COUNT, `+
		"in decimal numbers without signs and leading zeros: write the line again"; got != want {
		t.Errorf("message %q", got)
	}
	if ids, warnings, err := LoadSubIDs(e.path("nothing")); ids != nil || warnings != nil || err != nil {
		t.Errorf("a missing file: %v, %v, %v", ids, warnings, err)
	}
	_, _, err = LoadSubIDs(e.dir)
	wantError(t, err, "accounts: ", e.dir)
}
