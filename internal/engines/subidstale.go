// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// StaleSubID is IDs that an owner gets by an entry, and not by the book, or not on its terms.
type StaleSubID struct {
	Login    string // as [Accounts.Login] gives it
	Exported bool   // by an entry that was exported
	registry.Conflict
}

// StaleSubIDs is, as warnings, what newuidmap(1) gives to users against the book: IDs of entries that
// were exported and wouldn't be any more, and IDs of a line with a flag that it doesn't hold, by entries of
// others. An entry that gives less than the book isn't among them.
func StaleSubIDs(b *registry.Book, host registry.Host, unheld func(registry.Flags) string, files ...*SubIDFile) []StaleSubID {
	plan := PlanSubIDs(b, host, unheld, func(string) bool { return true })
	accounts := NewAccounts(host)
	granted := make(map[string]idmap.Set)
	for _, g := range plan.grants {
		granted[g.account.Login] = g.ids
	}
	var all []StaleSubID
	for _, f := range files {
		for i, l := range f.lines {
			if !l.ours {
				continue
			}
			login := accounts.Login(l.entry.Owner)
			rest := idmap.NewSet(l.entry.Range).Subtract(granted[login])
			if rest.Empty() {
				continue
			}
			all = append(all, StaleSubID{login, true, registry.Conflict{Severity: registry.Warning, Where: f.where(i), Range: rest.Ranges()[0], Message: fmt.Sprintf(
				"%s: gives %s to %s, as was exported, and the book doesn't by now: usernsctl export-subid %s", f.where(i), rest, l.entry.Owner, rootfile.ShellQuote(login))}})
		}
		all = append(all, plan.around(f)...)
	}
	return all
}

// Around is the entries of others by which an owner gets IDs without the flags of their line.
func (p *SubIDPlan) Around(f *SubIDFile) []string {
	var all []string
	for _, s := range p.around(f) {
		all = append(all, s.Message)
	}
	return all
}

func (p *SubIDPlan) around(f *SubIDFile) []StaleSubID {
	if len(p.bound) == 0 {
		return nil
	}
	others := make(byOwner)
	for _, s := range f.Foreign(func(string) bool { return true }) {
		others[s.Owner] = append(others[s.Owner], s)
	}
	var all []StaleSubID
	for _, b := range p.bound {
		for _, o := range others.of(b.account) {
			if both, ok := o.Range.Intersect(b.line.Range); ok {
				all = append(all, StaleSubID{b.account.Login, false, registry.Conflict{Severity: registry.Warning, Where: o.Where, Other: b.line.Where(), Range: both, Message: fmt.Sprintf(
					"%s: gives %s to %s without the flag %s of %s: remove the entry, or the flag", o.Where, both, o.Owner, b.restricts, b.line.Where())}})
			}
		}
	}
	return all
}
