// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Identity is the host IDs that inner 0 of a daemon's containers maps to.
type Identity struct{ UID, GID uint32 }

// Unmapped is the identity of a daemon whose containers aren't mapped.
var Unmapped = Identity{}

// String is the name of the identity's root: "100000.100000".
func (i Identity) String() string { return fmt.Sprintf("%d.%d", i.UID, i.GID) }

// Spec is the identity as --root takes it: "100000:100000".
func (i Identity) Spec() string { return fmt.Sprintf("%d:%d", i.UID, i.GID) }

// ParseIdentity reads the name of a root. ok is false for one that isn't written as
// [Identity.String] writes it.
func ParseIdentity(name string) (id Identity, ok bool) {
	uid, gid, _ := strings.Cut(name, ".")
	var err, err2 error
	id.UID, err = idmap.ParseID(uid)
	id.GID, err2 = idmap.ParseID(gid)
	return id, err == nil && err2 == nil && id.String() == name
}

// Default is the word of a [Spec] for the system's own user and group, and DefaultName is theirs.
const (
	Default     = "default"
	DefaultName = "dockroot"
)

// Spec is an identity as it is asked for, not yet resolved: a user, and a group if one
// was given.
type Spec struct {
	Default bool // [DefaultName], which is to be made if it is missing
	User    Account
	Group   *Account
}

// Account is a name, or a number where the name is empty.
type Account struct {
	Name string
	ID   uint32
}

func (a Account) String() string {
	if a.Name != "" {
		return a.Name
	}
	return strconv.FormatUint(uint64(a.ID), 10)
}

// String is the spec as it is written.
func (s Spec) String() string {
	switch {
	case s.Default:
		return Default
	case s.Group == nil:
		return s.User.String()
	}
	return s.User.String() + ":" + s.Group.String()
}

// Unmapped says that nothing shall be mapped: 0:0, or 0.
func (s Spec) Unmapped() bool {
	return !s.Default && s.User == Account{} && (s.Group == nil || *s.Group == Account{})
}

const spellings = "expected user, user:group, uid, uid:gid, default, or 0:0 for not mapped"

// ParseSpec reads the spellings that moby PR 11253 gives to --root: user, user:group, uid,
// uid:gid, default; and 0:0, which is not mapped. A lone uid is the same number as gid. It
// judges the spelling alone: whether there are such users, and whose the numbers are, the
// caller finds out.
func ParseSpec(text string) (Spec, error) {
	if text == Default {
		return Spec{Default: true, User: Account{Name: DefaultName}, Group: &Account{Name: DefaultName}}, nil
	}
	user, group, grouped := strings.Cut(text, ":")
	refuse := func(format string, args ...any) (Spec, error) {
		return Spec{}, fmt.Errorf("root %q: %s: %s", text, fmt.Sprintf(format, args...), spellings)
	}
	var s Spec
	var err error
	if s.User, err = parseAccount("user", user); err != nil {
		return refuse("%s", err)
	}
	if !grouped {
		if s.User.Name == "" {
			s.Group = &Account{ID: s.User.ID}
		}
		return s.judge(refuse)
	}
	if strings.Contains(group, ":") {
		return refuse("has more than one ':'")
	}
	g, err := parseAccount("group", group)
	if err != nil {
		return refuse("%s", err)
	}
	if s.User.Name == "" && g.Name != "" {
		return refuse("group %q behind a number: names are looked up in the book by their user", g.Name)
	}
	s.Group = &g
	return s.judge(refuse)
}

func (s Spec) judge(refuse func(string, ...any) (Spec, error)) (Spec, error) {
	half := func(a Account) bool { return a == Account{} || a.Name == "root" }
	switch {
	case s.Unmapped():
	case half(s.User):
		return refuse("root of the host isn't mapped to anybody")
	case s.Group != nil && half(*s.Group):
		return refuse("the host's group 0 isn't mapped to anybody")
	}
	return s, nil
}

func parseAccount(what, text string) (Account, error) {
	if text == "" {
		return Account{}, fmt.Errorf("%s is empty", what)
	}
	if strings.Trim(text, "0123456789") == "" {
		id, err := idmap.ParseID(text)
		if err != nil || id == idmap.Invalid {
			return Account{}, fmt.Errorf("%s %s isn't a decimal number from 0 to %d without leading zeros", what, text, idmap.Invalid-1)
		}
		return Account{ID: id}, nil
	}
	odd := func(r rune) bool {
		return r == '/' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}
	if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") || strings.ContainsFunc(text, odd) {
		return Account{}, fmt.Errorf("%s %q isn't a name that an account can have", what, text)
	}
	return Account{Name: text}, nil
}
