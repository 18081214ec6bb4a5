// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// parkedNS is a new user namespace, and nobody in it.
func parkedNS(t *testing.T) *os.File {
	t.Helper()
	child, err := ParkInNewUserNS()
	if err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	ns, err := child.UserNS()
	if err := errors.Join(err, child.Close()); err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestNamespaceHandle(t *testing.T) {
	ns := parkedNS(t)
	handle, err := NamespaceHandle(ns)
	if errors.Is(err, ErrNoHandles) {
		ns.Close()
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if lives, err := NamespaceLives(handle); err != nil || !lives {
		t.Errorf("it is open: %v, %v", lives, err)
	}
	other := parkedNS(t)
	defer other.Close()
	if others, err := NamespaceHandle(other); err != nil || others == handle {
		t.Errorf("two namespaces have the handles %s and %s: %v", handle, others, err)
	}
	ns.Close()
	lives := true
	for range 200 { // the kernel takes it away a little later
		if lives, err = NamespaceLives(handle); err != nil || !lives {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if lives || err != nil {
		t.Errorf("nobody has it: %v, %v", lives, err)
	}
	for _, bad := range []string{"", ":", "x:00", "241:zz", "99999999999:00"} {
		if _, err := NamespaceLives(bad); err == nil {
			t.Errorf("%q is a handle", bad)
		}
	}
	plain, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if handle, err := NamespaceHandle(plain); err == nil {
		t.Errorf("/dev/null has the handle %s of a namespace", handle)
	}
}

func TestWithin(t *testing.T) {
	ns := parkedNS(t)
	defer ns.Close()
	own, err := OpenNamespace("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	inode := func(f *os.File) uint64 {
		t.Helper()
		number, err := Inode(f)
		if err != nil {
			t.Fatal(err)
		}
		return number
	}
	for name, row := range map[string]struct {
		ns     *os.File
		inode  uint64
		within bool
	}{
		"itself":    {ns, inode(ns), true},
		"its child": {ns, inode(own), true},
		"above":     {own, inode(ns), false},
		"beside":    {ns, 5, false},
	} {
		if within, err := Within(row.ns, row.inode); err != nil || within != row.within {
			t.Errorf("%s: %v, %v", name, within, err)
		}
	}
	plain, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if within, err := Within(plain, 5); err == nil || within || !strings.Contains(err.Error(), "/dev/null") {
		t.Errorf("/dev/null: %v, %v", within, err)
	}
}
