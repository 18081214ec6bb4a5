// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

var example = Record{
	Owner: "alice", Flags: "deny-setgroups,no-new-privs",
	UIDs:  idmap.Map{{Inner: 0, Outer: 1000, Count: 1}, {Inner: 1, Outer: 100000, Count: 65535}},
	GIDs:  idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}},
	Lines: []string{"/etc/usernamespaces:3"}, Method: "idmap", Rootfs: "/b/rootfs", Runtime: "/usr/bin/runc (runc 1.5.2)",
}

func TestRecordThereAndBack(t *testing.T) {
	got, err := ParseRecord(example.String())
	if err != nil || !reflect.DeepEqual(got, example) {
		t.Fatalf("got %+v %v\nexpected %+v", got, err, example)
	}
}

// Records that were written by this version and the one before must stay readable:
// a container outlives an upgrade.
func TestRecordVersions(t *testing.T) {
	const (
		rest = `"owner":"alice","flags":"deny-setgroups,no-new-privs","uidMap":"0 1000 1\n1 100000 65535\n","gidMap":"0 100000 65536\n",` +
			`"lines":["/etc/usernamespaces:3"],"method":"idmap",`
		runtime = `"runtime":"/usr/bin/runc (runc 1.5.2)"}`
		written = `{"version":2,` + rest + `"rootfs":"/b/rootfs",` + runtime
		before  = `{"version":1,` + rest + runtime
	)
	if example.String() != written {
		t.Errorf("version 2 is written differently now: %s", example)
	}
	if got, err := ParseRecord(written); err != nil || !reflect.DeepEqual(got, example) {
		t.Errorf("got %+v %v", got, err)
	}
	old := example
	old.Rootfs = ""
	if got, err := ParseRecord(before); err != nil || !reflect.DeepEqual(got, old) {
		t.Errorf("version 1: got %+v %v", got, err)
	}
}

func TestParseRecordRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":         "",
		"no JSON":         "alice",
		"no version":      `{"uidMap":"0 1 1\n","gidMap":"0 1 1\n"}`,
		"a later version": strings.Replace(example.String(), `"version":2`, `"version":3`, 1),
		"version 0":       strings.Replace(example.String(), `"version":2`, `"version":0`, 1),
		"no maps":         `{"version":1}`,
		"no GIDs":         `{"version":1,"uidMap":"0 1 1\n"}`,
		"broken map":      strings.Replace(example.String(), "0 1000 1", "0 1000 0", 1),
	} {
		if got, err := ParseRecord(text); !errors.Is(err, ErrRecord) || !reflect.DeepEqual(got, Record{}) {
			t.Errorf("%s: got %+v %v", name, got, err)
		}
	}
}
