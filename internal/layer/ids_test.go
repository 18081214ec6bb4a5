// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"reflect"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestSquash(t *testing.T) {
	withNobody := idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}}
	for _, tc := range []struct {
		name string
		s    Shift
		id   uint32
		want uint32
		err  string
	}{
		{name: "held", s: Shift{Map: withNobody, Squash: true}, id: 5, want: 100005},
		{name: "to the host", s: Shift{Map: withNobody, Squash: true}, id: 65536, want: 165534},
		{name: "to the container", s: Shift{Map: withNobody, Squash: true, ToContainer: true}, id: 0, want: 65534},
		{name: "by choice alone", s: Shift{Map: withNobody}, id: 65536, err: "UID 65536: not in the map, which holds [0-65536) inside"},
		{name: "by choice alone, back", s: Shift{Map: withNobody, ToContainer: true}, id: 0, err: "UID 0: not in the map, which holds [100000-165536) on the host"},
		{name: "no nobody", s: Shift{Map: idmap.Map{{Inner: 0, Outer: 100000, Count: 10}}, Squash: true}, id: 11, err: "nobody can't take its place"},
		{name: "no nobody, back", s: Shift{Map: idmap.Map{{Inner: 0, Outer: 100000, Count: 10}}, Squash: true, ToContainer: true}, id: 11, err: "nobody can't take its place"},
		{name: "nobody is root", s: Shift{Map: idmap.Map{{Inner: 65534, Outer: 0, Count: 1}}, Squash: true}, id: 11, err: "nobody can't take its place"},
	} {
		got, err := tc.s.id("UID", tc.id)
		if tc.err != "" {
			wantError(t, err, tc.err)
			if !errors.Is(err, ErrUnmapped) {
				t.Errorf("%s: %v doesn't wrap ErrUnmapped", tc.name, err)
			}
			continue
		}
		if err != nil || got != tc.want {
			t.Errorf("%s: %d, %v: expected %d", tc.name, got, err, tc.want)
		}
	}
}

func TestShiftEntry(t *testing.T) {
	a, _ := parseACLText("user::rw-,user:7:r--,group::r--,mask::rw-,other::r--")
	shifted, _ := parseACLText("user::rw-,user:100007:r--,group::r--,mask::rw-,other::r--")
	entry := func() *Entry {
		return &Entry{Name: "a", Type: TypeReg, UID: 1, GID: 2, User: "u", Group: "g", Xattrs: []Xattr{{xattrAccess, a.binary()}, {"user.x", []byte("y")}}}
	}
	s := Shift{Map: idmap.Map{{Inner: 0, Outer: 100000, Count: 10}}}
	e := entry()
	given := e.Xattrs
	changed, err := s.Entry(e)
	want := entry()
	want.UID, want.GID, want.Xattrs = 100001, 100002, []Xattr{{xattrAccess, shifted.binary()}, {"user.x", []byte("y")}}
	if !changed || err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("to the host: %t, %v, %+v", changed, err, e)
	}
	if !reflect.DeepEqual(given, entry().Xattrs) {
		t.Error("the attributes that were given were changed in place")
	}
	s.ToContainer = true
	if changed, err = s.Entry(e); !changed || err != nil || !reflect.DeepEqual(e, entry()) {
		t.Errorf("and back: %t, %v, %+v", changed, err, e)
	}
	s.DropNames, s.Map = true, idmap.Map{{Inner: 0, Outer: 0, Count: 10}}
	want = entry()
	want.User, want.Group = "", ""
	if changed, err = s.Entry(e); !changed || err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("without names: %t, %v, %+v", changed, err, e)
	}
	if changed, err = s.Entry(e); changed || err != nil {
		t.Errorf("nothing to do: %t, %v", changed, err)
	}
	for want, change := range map[string]func(e *Entry){
		`"a": UID 10: not in the map`: func(e *Entry) { e.UID = 10 },
		`"a": GID 10: not in the map`: func(e *Entry) { e.GID = 10 },
		`"a": extended attribute system.posix_acl_access: UID of an ACL 10: not in the map`: func(e *Entry) {
			e.Xattrs = append(e.Xattrs, Xattr{xattrAccess, acl{{aclUser, 7, 10}}.binary()})
		},
		`"a": extended attribute system.posix_acl_default: an ACL of 1 bytes`: func(e *Entry) { e.Xattrs[0] = Xattr{xattrDefault, []byte{2}} },
		`"a": security.capability of 1 bytes`:                                 func(e *Entry) { e.Xattrs[0] = Xattr{xattrCaps, []byte{2}} },
	} {
		e, before := entry(), entry()
		change(e)
		change(before)
		_, err := s.Entry(e)
		wantError(t, err, want)
		if !reflect.DeepEqual(e, before) {
			t.Errorf("%s: the entry was changed", want)
		}
	}
	label := &Entry{Name: "label", Type: TypeVolume, UID: 99}
	if changed, err := s.Entry(label); changed || err != nil || label.UID != 99 {
		t.Errorf("a label: %t, %v, %+v", changed, err, label)
	}
}
