// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

const someACL = "user::rw-,user:7:r--,group::r--,group:9:---,mask::rw-,other::r--"

func TestACLText(t *testing.T) {
	for text, want := range map[string]string{
		someACL: someACL,
		"user::rw-\nuser:7:r--\ngroup::r--\ngroup:9:---\nmask::rw-\nother::r--\n":     someACL, // GNU tar
		"u::rw-,u:7:r--,g::r--,g:9:---,m::rw-,o::r--":                                 someACL,
		"user::rw-,user:lisa:r--:7,group::r--,group:staff:---:9,mask::rw-,other::r--": someACL, // bsdtar
		"user:7:r--:7,user::rw-,group:9:---,mask::rw-,other::r--,group::r--":          someACL,
		"": "",
	} {
		a, err := parseACLText(text)
		if err != nil || a.text() != want {
			t.Errorf("%q: %q, %v", text, a.text(), err)
			continue
		}
		back, err := parseACL(a.binary())
		if err != nil || back.text() != want {
			t.Errorf("%q: after the kernel's form %q, %v", text, back.text(), err)
		}
	}
	for text, want := range map[string]string{
		"user:lisa:rwx":              "a name without its ID",
		"user:lisa:rwx:x":            "expected an ID of 32 bits",
		"user:4294967296:rwx":        "a name without its ID",
		"user:4294967295:rwx":        "expected an ID from 0",
		"user:lisa:rwx:4294967295":   "expected an ID from 0",
		"user:7:rwx:8":               "two IDs",
		"user:lisa":                  "expected KIND:WHO:rwx",
		"user:lisa:rwx:7:8":          "expected KIND:WHO:rwx",
		"user::rwxx":                 "expected KIND:WHO:rwx",
		"user::rww":                  "expected some of rwx",
		"user::wrx":                  "expected some of rwx",
		"mask:7:rwx":                 "a name for the first two alone",
		"other::rwx:7":               "a name for the first two alone",
		"owner@:rwx":                 "expected KIND",
		"default:user::rwx":          "expected KIND",
		"everyone::rwx":              "expected user, group, mask or other",
		"user::rwx,\tgroup::rwx":     "expected user, group",
		"user:lisa:rwx\t#effective:": "expected KIND",
	} {
		_, err := parseACLText(text)
		wantError(t, err, want)
	}
}

func TestACLBinary(t *testing.T) {
	good, err := parseACLText(someACL)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(b []byte) []byte{
		"of 3 bytes":            func(b []byte) []byte { return b[:3] },
		"of 51 bytes":           func(b []byte) []byte { return b[:len(b)-1] },
		"of version 1":          func(b []byte) []byte { b[0] = 1; return b },
		"an entry of kind 0x3":  func(b []byte) []byte { b[4] = 3; return b },
		"permissions 010":       func(b []byte) []byte { b[6] = 8; return b },
		"expected an ID from 0": func(b []byte) []byte { copy(b[16:20], "\xff\xff\xff\xff"); return b },
	} {
		_, err := parseACL(change(good.binary()))
		wantError(t, err, want)
	}
	if a, err := parseACL([]byte{2, 0, 0, 0}); err != nil || len(a) != 0 {
		t.Errorf("an empty ACL: %v, %v", a, err)
	}
}

func TestShiftACL(t *testing.T) {
	s := Shift{Map: idmap.Map{{Inner: 0, Outer: 1000, Count: 8}, {Inner: 8, Outer: 50, Count: 8}}}
	a, _ := parseACLText(someACL)
	got, err := s.shiftACL(a.binary())
	want, _ := parseACLText(strings.NewReplacer(":7:", ":1007:", ":9:", ":51:").Replace(someACL))
	if err != nil || !bytes.Equal(got, want.binary()) {
		t.Errorf("%q, %v: expected %q", got, err, want.binary())
	}
	for text, want := range map[string]string{
		"user:7:r--\nother::---\n\n": "user:1007:r--\nother::---\n\n",
		",user:7:r--,,group:9:rwx":   ",user:1007:r--,,group:51:rwx",
		"user:lisa:r--:7,other::---": "user:lisa:r--:1007,other::---",
		"user:7:r--:7":               "user:1007:r--:1007",
		"u:0007:r--":                 "u:1007:r--",
		"mask::rwx":                  "mask::rwx",
		"":                           "",
	} {
		if got, err := s.shiftACLText(text); err != nil || got != want {
			t.Errorf("%q: %q, %v: expected %q", text, got, err, want)
		}
	}
	s.DropNames = true
	if got, err := s.shiftACLText("user:lisa:r--:7"); err != nil || got != "user:1007:r--:1007" {
		t.Errorf("without names: %q, %v", got, err)
	}
	_, err = s.shiftACLText("group:16:rwx")
	wantError(t, err, "GID of an ACL 16: not in the map, which holds [0-16) inside")
	_, err = s.shiftACL(acl{{aclUser, 7, 16}}.binary())
	wantError(t, err, "UID of an ACL 16: not in the map")
}

func TestMinimalACL(t *testing.T) {
	for text, want := range map[string]bool{
		"user::rw-,group::r--,other::---":           true,
		"user::rw-,group::r--,other::r--":           false,
		"user::rw-,group::r--,mask::r--,other::---": false,
		"user::rw-,group::r--":                      false,
	} {
		if a, err := parseACLText(text); err != nil || a.minimal(0o640) != want {
			t.Errorf("%q: says the mode 0640: %t, %v: expected %t", text, a.minimal(0o640), err, want)
		}
	}
}
