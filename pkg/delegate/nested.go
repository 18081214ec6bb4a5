// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Root inside a user namespace may set how many lie below it, but not how many lie below the one above,
// in which its own are counted with it. So a namespace that denies nested ones lies
// in one of root's, the outer, where one is allowed, which is itself. Nobody is ever in
// the outer but the children here, and it ends with what lies in it.

// ErrUnowned says that a namespace can't be had for another owner than the caller.
var ErrUnowned = errors.New("it has to belong to the caller")

// nestingLimit is, for who opens it, how many user namespaces one user may have in theirs, and below.
const nestingLimit = "/proc/sys/user/max_user_namespaces"

// parkNested makes both namespaces, and a child in the inner one.
func parkNested(want Namespace) (*linux.Parked, error) {
	outer, err := createOuter(want)
	if err != nil {
		return nil, fmt.Errorf("outer one, that denies nested ones: %w", err)
	}
	defer outer.Close()
	child, err := linux.ParkInNestedUserNS(int(outer.Fd()))
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, CreateHint(err))
	}
	// Who maps a namespace has to be in the one above it.
	files := []linux.FileText{{Path: nestingLimit, Text: "1"}}
	_ = want.write(func(name, text string) error {
		files = append(files, linux.FileText{Path: "/proc/" + strconv.Itoa(child.PID()) + "/" + name, Text: text})
		return nil
	})
	limit, err := linux.InUserNS(outer, append(files, linux.FileText{Path: nestingLimit})...)
	if err == nil && strings.TrimSpace(limit) != "1" {
		err = fmt.Errorf("%w: %s: wrote 1; the kernel shows %q", ErrSuspicious, nestingLimit, limit)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("deny nested ones, and map UIDs %s and GIDs %s: %w", want.UIDs, want.GIDs, err), child.Close())
	}
	return child, nil
}

// createOuter makes the outer namespace. The caller's own IDs are mapped in it too: whoever makes a
// namespace, and becomes its owner, has to be.
func createOuter(want Namespace) (*os.File, error) {
	child, err := linux.ParkInNewUserNS()
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, CreateHint(err))
	}
	defer child.Close()
	outer := Namespace{UIDs: toThemselves(want.UIDs, os.Geteuid()), GIDs: toThemselves(want.GIDs, os.Getegid())}
	if err := outer.write(child.WriteFile); err != nil {
		return nil, err
	}
	return child.UserNS()
}

// toThemselves maps the outer IDs of a map, and one more, to the same IDs.
func toThemselves(m idmap.Map, own int) (out idmap.Map) {
	for _, r := range m.Outer().Union(idmap.NewSet(idmap.Range{Start: uint32(own), Count: 1})).Ranges() {
		out = append(out, idmap.Extent{Inner: r.Start, Outer: r.Start, Count: r.Count})
	}
	return out
}

// DeniesNested says whether nothing inside the user namespace that ns is open on can have a user namespace
// of its own, as [Namespace.DenyNested] makes it: it lies in one that belongs to the caller, isn't the
// caller's own, and allows no other.
func DeniesNested(ns *os.File) (bool, error) {
	outer, err := linux.UserNSParent(ns)
	if errors.Is(err, unix.EPERM) {
		return false, nil // above the caller's own
	}
	if err != nil {
		return false, err
	}
	defer outer.Close()
	self, err := linux.OpenNamespace("/proc/self/ns/user")
	if err != nil {
		return false, err
	}
	defer self.Close()
	if same, err := linux.SameFile(outer, self); err != nil || same {
		return false, err
	}
	if owner, err := linux.UserNSOwner(outer); err != nil || owner != uint32(os.Geteuid()) {
		return false, err
	}
	text, err := linux.InUserNS(outer, linux.FileText{Path: nestingLimit})
	if err != nil {
		return false, fmt.Errorf("look at what allows user namespace %s nested ones: %w", ns.Name(), err)
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return false, fmt.Errorf("%s: %w", nestingLimit, err)
	}
	return limit <= 1, nil
}
