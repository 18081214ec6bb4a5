// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/daemonroot"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// rootFlag is -r, --root, as moby PR 11253 has it.
func rootFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: flagRoot, Aliases: []string{"r"}, Usage: usage}
}

// rootOf reads that flag.
func rootOf(c *cli.Context) (spec daemonroot.Spec, err error) {
	if spec, err = daemonroot.ParseSpec(c.String(flagRoot)); err != nil {
		return spec, misused(verbOf(c), "--%s: %w", flagRoot, err)
	}
	return spec, nil
}

// resolveRoot is whose a daemon root is by the book, and the host IDs that inner 0 maps to: the start
// of the first line that grants something to a user, or the numbers as given, which have to lie in lines of
// one owner. What isn't mapped is 0:0, and nobody's. [daemonroot.DefaultName] isn't made here.
func resolveRoot(spec daemonroot.Spec) (owner string, uid, gid uint32, err error) {
	if spec.Unmapped() {
		return "", 0, 0, nil
	}
	book, host, err := bookAndHost()
	if err != nil {
		return "", 0, 0, err
	}
	users, err := user.ParsePasswdFile("/etc/passwd")
	if err != nil {
		return "", 0, 0, fmt.Errorf("/etc/passwd: %w", err)
	}
	r := rootResolver{spec, book, host, engines.NewAccounts(host), users}
	if spec.User.Name == "" {
		owner, err = r.byNumbers()
		return owner, spec.User.ID, spec.Group.ID, err
	}
	return r.byName()
}

func bookAndHost() (*registry.Book, registry.Host, error) {
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if errors.Is(err, registry.ErrNoBook) {
		return nil, registry.Host{}, failed(command("init"), "%w", err)
	}
	if err != nil {
		return nil, registry.Host{}, failed(command("check"), "%w", err)
	}
	host, err := registry.LoadHost("/etc/passwd", "/etc/group")
	return book, host, err
}

type rootResolver struct {
	spec     daemonroot.Spec
	book     *registry.Book
	host     registry.Host
	accounts engines.Accounts
	users    []user.User // who have a primary group, which registry.Host knows nothing of
}

func (r rootResolver) refuse(hint, format string, args ...any) error {
	return failed(hint, "root %s: "+format, slices.Concat([]any{rootfile.ShellQuote(r.spec.String())}, args)...)
}

// namesOf is the names by which an owner's lines are known.
func (r rootResolver) namesOf(owner string) []string {
	names := []string{owner}
	if account, ok := r.accounts.Find(owner); ok {
		names = append(names, account.Login, account.UID)
	}
	return names
}

func (r rootResolver) byName() (owner string, uid, gid uint32, err error) {
	name := r.spec.User.Name
	grant, err := r.book.Grant(registry.Holder{Names: r.namesOf(name)}, r.host)
	if err != nil {
		near := ""
		if word, ok := nearOwner(r.book, name); ok {
			near = fmt.Sprintf(": did you mean %s?", word)
		}
		return "", 0, 0, r.refuse(command("add", name), "%w%s", err, near)
	}
	lines := grant.Lines()
	uid, gid = lines[0].Range.Start, lines[0].Range.Start
	switch group := r.spec.Group; {
	case group == nil:
	case group.Name == "" && inLines(lines, group.ID):
		gid = group.ID
	case group.Name == "" || !slices.Contains(r.ownGroups(name), group.Name):
		expected := append(r.ownGroups(name), "an ID of "+rangesOf(lines))
		return "", 0, 0, r.refuse("", "group %s isn't %s's own: expected %s", group, name, strings.Join(expected, ", or "))
	}
	return name, uid, gid, nil
}

// ownGroups is the groups that are a user's own: of the same name, and the primary one.
func (r rootResolver) ownGroups(name string) (own []string) {
	isOwn := func(g registry.Account) bool {
		return g.Name == name || slices.ContainsFunc(r.users, func(u user.User) bool { return u.Name == name && u.Gid == int(g.ID) })
	}
	for _, g := range r.host.Groups {
		if isOwn(g) && !slices.Contains(own, g.Name) {
			own = append(own, g.Name)
		}
	}
	return own
}

func inLines(lines []registry.Line, id uint32) bool {
	return slices.ContainsFunc(lines, func(l registry.Line) bool { return l.Range.Contains(id) })
}

func rangesOf(lines []registry.Line) string {
	var set []idmap.Range
	for _, l := range lines {
		set = append(set, l.Range)
	}
	return idmap.NewSet(set...).String()
}

// byNumbers is the owner in whose lines both numbers lie.
func (r rootResolver) byNumbers() (owner string, err error) {
	uid, gid := r.spec.User.ID, r.spec.Group.ID
	var at []registry.Line // where uid is
	for _, l := range r.book.Lines() {
		if grants(l) && l.Range.Contains(uid) {
			at = append(at, l)
		}
	}
	if len(at) == 0 {
		near := ""
		if account, ok := r.accounts.Find(strconv.FormatUint(uint64(uid), 10)); ok {
			near = fmt.Sprintf(": it is the host's %s: for the lines of that owner say %[1]s", account.Login)
		}
		return "", r.refuse(command("list"), "UID %d lies in no line of the book: expected host IDs that one owner is granted%s", uid, near)
	}
	owner = at[0].Owner
	names := r.namesOf(owner)
	for _, l := range at[1:] {
		if !slices.Contains(names, l.Owner) {
			return "", r.refuse(command("check"), "UID %d lies in lines of two owners, %s and %s: expected one", uid, at[0].Where(), l.Where())
		}
	}
	for _, l := range r.book.Lines() {
		if grants(l) && l.Range.Contains(gid) && slices.Contains(names, l.Owner) {
			return owner, nil
		}
	}
	return "", r.refuse(command("list", owner), "GID %d lies in no line of %s, who has UID %d (%s): expected two IDs of one owner", gid, owner, uid, at[0].Where())
}
