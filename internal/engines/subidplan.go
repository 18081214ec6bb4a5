// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// maxSubIDFile is more than any host's; a larger file wasn't meant.
const maxSubIDFile = 64 << 20 // bytes

// ReadSubIDs reads /etc/subuid or /etc/subgid for a look. A missing file has no lines. One that
// others than root can write to, or that isn't a regular file, is refused: it says who may
// map what. root is as [rootfile.Read] has it.
func ReadSubIDs(path string, root uint32) (*SubIDFile, error) {
	text, err := rootfile.Read(path, maxSubIDFile, root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return ParseSubIDs(path, text)
}

// Accounts is the users of a host, as subuid(5) knows them: by login name, or by UID.
type Accounts struct {
	byName map[string]uint32
	byUID  map[uint32]string // of several, the first, as getpwuid(3) has it
}

// NewAccounts is the users of /etc/passwd. Directory services aren't asked, as for the book.
func NewAccounts(h registry.Host) Accounts {
	a := Accounts{make(map[string]uint32), make(map[uint32]string)}
	for _, u := range h.Users {
		if _, ok := a.byName[u.Name]; !ok {
			a.byName[u.Name] = u.ID
		}
		if _, ok := a.byUID[u.ID]; !ok {
			a.byUID[u.ID] = u.Name
		}
	}
	return a
}

// Account is a user under both names that they have in subuid(5) and in the book.
type Account struct{ Login, UID string }

// Find is the user whom an owner names. Digits alone are a UID, as in the book.
func (a Accounts) Find(owner string) (Account, bool) {
	if uid, err := idmap.ParseID(owner); err == nil {
		login, ok := a.byUID[uid]
		return Account{login, owner}, ok
	}
	uid, ok := a.byName[owner]
	return Account{owner, strconv.FormatUint(uint64(uid), 10)}, ok
}

// first is the login name that the account's UID has by getpwuid(3).
func (a Accounts) first(found Account) string {
	uid, err := idmap.ParseID(found.UID)
	if err != nil {
		return ""
	}
	return a.byUID[uid]
}

// Login is the name under which an owner has entries: the login name, if there is an account and
// every reader of the files takes that name for the same one.
func (a Accounts) Login(owner string) string {
	if found, ok := a.Find(owner); ok && plainName(found.Login) && !isUID(found.Login) {
		return found.Login
	}
	return owner
}

// Passed is an owner or a line of the book that isn't exported.
type Passed struct {
	Owner string
	Why   string // with its file:line
}

// SubIDPlan is what the book says that /etc/subuid and /etc/subgid shall have.
type SubIDPlan struct {
	// Passed is what isn't exported, and why, in the order of the book.
	Passed []Passed

	book   *registry.Book
	host   registry.Host
	chosen func(owner string) bool
	grants []subIDGrant
	bound  []boundLine
}

// boundLine is a line that isn't exported because its flags restrict.
type boundLine struct {
	account   Account
	line      registry.Line
	restricts string
}

type subIDGrant struct {
	account Account
	ids     idmap.Set
	lines   []registry.Line
}

// PlanSubIDs is the plan for the owners of the book that are chosen, by the name that
// [Accounts.Login] gives them. Each gets the IDs of their lines, without those
//
//   - of a line with a flag that newuidmap(1) and newgidmap(1) don't hold, by what unheld says of
//     its flags: they would map the IDs without it; see [Host.Unheld];
//   - that a line reserves, whoever's it is.
//
// Owners without an account are passed over: no process can ever ask for their entries. So are further
// login names of one UID: by the book they are other owners, and shadow gives their entries to whoever
// has the UID.
func PlanSubIDs(b *registry.Book, host registry.Host, unheld func(registry.Flags) string, chosen func(login string) bool) *SubIDPlan {
	p := &SubIDPlan{book: b, host: host}
	accounts := NewAccounts(host)
	p.chosen = func(owner string) bool { return chosen(accounts.Login(owner)) }
	index := make(map[string]int)
	said := make(map[string]bool)
	var withheld []idmap.Range // from all
	own := make(map[string][]idmap.Range)
	for _, l := range b.Lines() {
		if l.Flags.Reserved {
			withheld = append(withheld, l.Range)
			continue
		}
		if !p.chosen(l.Owner) {
			continue
		}
		account, ok := accounts.Find(l.Owner)
		why := ""
		switch restricts := unheld(l.Flags); {
		case !ok:
			why = fmt.Sprintf("%s: owner %s: has no account in /etc/passwd: no entry is made", l.Where(), l.Owner)
		case !plainName(account.Login) || isUID(account.Login):
			why = fmt.Sprintf("%s: owner %s: has the login name %q, which readers of subuid(5) take for different things: no entry is made", l.Where(), l.Owner, account.Login)
		case restricts != "":
			p.Passed = append(p.Passed, Passed{account.Login, fmt.Sprintf(
				"%s: %s has the flag %s, which newuidmap and newgidmap don't enforce: no entry is made", l.Where(), l, restricts)})
			own[account.Login] = append(own[account.Login], l.Range)
			p.bound = append(p.bound, boundLine{account, l, restricts})
			continue
		case accounts.first(account) != account.Login:
			why = fmt.Sprintf("%s: owner %s: is another name of UID %s (%s), to whom newuidmap would give the IDs: no entry is made: give the line to %[4]s",
				l.Where(), l.Owner, account.UID, accounts.first(account))
		}
		if why != "" {
			if !said[l.Owner] {
				p.Passed = append(p.Passed, Passed{accounts.Login(l.Owner), why})
			}
			said[l.Owner] = true
			continue
		}
		i, ok := index[account.Login]
		if !ok {
			i = len(p.grants)
			index[account.Login] = i
			p.grants = append(p.grants, subIDGrant{account: account})
		}
		g := &p.grants[i]
		g.lines = append(g.lines, l)
	}
	holes := idmap.NewSet(withheld...)
	for i := range p.grants {
		g := &p.grants[i]
		ranges := make([]idmap.Range, len(g.lines))
		for j, l := range g.lines {
			ranges[j] = l.Range
		}
		g.ids = idmap.NewSet(ranges...).Subtract(holes).Subtract(idmap.NewSet(own[g.account.Login]...))
	}
	return p
}

func isUID(name string) bool {
	_, err := idmap.ParseID(name)
	return err == nil
}

// Conflicts is what speaks against the plan, each with its file:line: IDs that belong to another
// owner by the book or by an entry that stays, or that are an account of the host. With
// one of them nothing may be written.
func (p *SubIDPlan) Conflicts(uids, gids *SubIDFile) []string {
	ids := make(map[string]idmap.Set) // by the place of the line
	for _, g := range p.grants {
		for _, l := range g.lines {
			ids[l.Where()] = g.ids
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var all []string
	for _, c := range registry.Check(p.book, registry.World{Host: p.host, SubUIDs: uids.Foreign(p.chosen), SubGIDs: gids.Foreign(p.chosen)}) {
		both := idmap.NewSet(c.Range)
		switch {
		case c.Severity != registry.Error:
		case c.Where == "": // there are too many to tell
			all = append(all, c.Message)
		case c.Other == "": // too short for a container, which this isn't about
		case !ids[c.Where].Intersect(both).Empty(), !ids[c.Other].Intersect(both).Empty():
			all = append(all, c.Message)
		}
	}
	return all
}

// SubIDSource is what shadow asks for subordinate IDs instead of the files, by the line "subid:"
// of nsswitch.conf(5) at path; "" is that it reads the files.
func SubIDSource(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		name, sources, _ := strings.Cut(line, ":")
		// shadow takes the first source alone.
		if words := strings.Fields(sources); strings.TrimSpace(name) == "subid" && len(words) > 0 && words[0] != "files" {
			return words[0], nil
		}
	}
	return "", nil
}

// What happens to an entry.
const (
	SubIDAdded   = "added"
	SubIDRemoved = "removed"
	SubIDKept    = "kept"    // it was exported before
	SubIDPresent = "present" // entries that others wrote give these IDs
)

// SubIDChange is what happens to one entry.
type SubIDChange struct {
	SubIDEntry
	State string
	File  string
	// Where is the place of the first entry of others; only if the state is [SubIDPresent].
	Where string
}

// Apply gives the text of one file under the plan, and what happens to its entries. Our
// entries of owners that aren't chosen stay.
func (p *SubIDPlan) Apply(f *SubIDFile) (text []byte, changes []SubIDChange) {
	var want, chosen []SubIDEntry
	for _, e := range f.Ours() {
		if !p.chosen(e.Owner) {
			want = append(want, e)
		}
	}
	var present []SubIDChange
	others := f.others()
	for _, g := range p.grants {
		had := others.of(g.account)
		var ranges []idmap.Range
		for _, o := range had {
			ranges = append(ranges, o.Range)
		}
		given := idmap.NewSet(ranges...)
		for _, r := range g.ids.Intersect(given).Ranges() {
			at := slices.IndexFunc(had, func(o registry.SubID) bool { return o.Range.Overlaps(r) })
			present = append(present, SubIDChange{SubIDEntry{g.account.Login, r}, SubIDPresent, f.path, had[at].Where})
		}
		for _, r := range g.ids.Subtract(given).Ranges() {
			chosen = append(chosen, SubIDEntry{g.account.Login, r})
		}
	}
	return f.With(append(want, chosen...)), append(f.changes(chosen, p.chosen), present...)
}

// RemoveSubIDs gives the text of one file without our entries of the owners that are chosen.
func RemoveSubIDs(f *SubIDFile, chosen func(owner string) bool) (text []byte, changes []SubIDChange) {
	var stay []SubIDEntry
	for _, e := range f.Ours() {
		if !chosen(e.Owner) {
			stay = append(stay, e)
		}
	}
	return f.With(stay), f.changes(nil, chosen)
}

// changes is how our entries of the chosen owners differ from those wanted.
func (f *SubIDFile) changes(want []SubIDEntry, chosen func(owner string) bool) []SubIDChange {
	var changes []SubIDChange
	wanted, has := make(map[SubIDEntry]bool), make(map[SubIDEntry]bool)
	for _, e := range want {
		wanted[e] = true
	}
	for _, e := range f.Ours() {
		if chosen(e.Owner) && !wanted[e] {
			changes = append(changes, SubIDChange{SubIDEntry: e, State: SubIDRemoved, File: f.path})
		}
		has[e] = true
	}
	for _, e := range want {
		state := SubIDAdded
		if has[e] {
			state = SubIDKept
		}
		changes = append(changes, SubIDChange{SubIDEntry: e, State: state, File: f.path})
	}
	return changes
}
