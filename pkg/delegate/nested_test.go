// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestCreateDeniesNested(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	plain := Namespace{
		UIDs: idmap.Map{{Inner: 0, Outer: 1879048192, Count: 1000}, {Inner: 5000, Outer: 1879050000, Count: 10}},
		GIDs: idmap.Map{{Inner: 0, Outer: 1879048192, Count: 65536}},
	}
	for _, setgroups := range []bool{false, true} {
		want := plain
		want.DenyNested, want.DenySetgroups = true, setgroups
		ns, err := Create(want)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		is, err := Look(ns)
		if err != nil {
			t.Fatal(err)
		}
		if !is.UIDs.Equal(want.UIDs) || !is.GIDs.Equal(want.GIDs) || is.DenySetgroups != setgroups || is.Owner != 0 {
			t.Errorf("it is %+v", is)
		}
		if denies, err := DeniesNested(ns); err != nil || !denies {
			t.Errorf("denies nested ones: %v, %v", denies, err)
		}
		child, err := linux.ParkInNestedUserNS(int(ns.Fd()))
		if err == nil {
			child.Close()
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("a nested one: %v", err)
		}
		// Who has every capability in it may allow them there, and has nothing of it.
		if _, err := linux.InUserNS(ns, linux.FileText{Path: nestingLimit, Text: "100000"}); err != nil {
			t.Fatal(err)
		}
		if child, err = linux.ParkInNestedUserNS(int(ns.Fd())); err == nil {
			child.Close()
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("a nested one, allowed by root inside: %v", err)
		}
	}
	ns, err := Create(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if denies, err := DeniesNested(ns); err != nil || denies {
		t.Errorf("one without denies nested ones: %v, %v", denies, err)
	}
	owner := uint32(1000)
	plain.DenyNested, plain.Owner = true, &owner
	if _, err := Create(plain); !errors.Is(err, ErrUnowned) {
		t.Errorf("for another owner: %v", err)
	}
}

func BenchmarkCreate(b *testing.B) {
	for name, nested := range map[string]bool{"plain": false, "deny-nested": true} {
		b.Run(name, func(b *testing.B) {
			m := idmap.Map{{Inner: 0, Outer: 1879048192, Count: 65536}}
			for b.Loop() {
				ns, err := Create(Namespace{UIDs: m, GIDs: m, DenyNested: nested})
				if err != nil {
					b.Fatal(err)
				}
				ns.Close()
			}
		})
	}
}
