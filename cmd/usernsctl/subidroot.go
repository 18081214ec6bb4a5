// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// An owner whose IDs root's containers have is no owner to export: rootless Podman maps all that
// subuid(5) gives, so the user has every ID that those containers have, and may signal their processes.

// rootsOwners is the owners whom the configuration gives to root's engines, by the name that
// [engines.Accounts.Login] gives them, each with what says so.
func rootsOwners(accounts engines.Accounts) (map[string]string, error) {
	cfg, err := config.Load(config.Path)
	if err != nil {
		return nil, err
	}
	owners := make(map[string]string)
	if cfg.DefaultOwner != "" {
		owners[accounts.Login(cfg.DefaultOwner)] = defaultOwner
	}
	for _, r := range cfg.Rules {
		owners[accounts.Login(r.Owner)] = "[[rule]] of " + config.Path + " for " + r.Root
	}
	return owners, nil
}

// withhold finds the owners of the book who are exported only if they are named, or were before,
// since root's containers get their IDs.
func (e *export) withhold(book *registry.Book, names []string, accounts engines.Accounts, ours []engines.SubIDEntry) (withheld map[string]bool, err error) {
	roots, err := rootsOwners(accounts)
	if err != nil {
		return nil, err
	}
	named := make(map[string]bool)
	for _, name := range names {
		named[accounts.Login(name)] = true
	}
	for _, entry := range ours {
		named[accounts.Login(entry.Owner)] = len(names) == 0 || named[accounts.Login(entry.Owner)]
	}
	withheld = make(map[string]bool)
	said := make(map[string]bool)
	for _, l := range book.Lines() {
		login := accounts.Login(l.Owner)
		by, gives := roots[login]
		if _, ok := accounts.Find(l.Owner); !ok || !gives || l.Flags.Reserved || said[login] {
			continue
		}
		said[login] = true
		switch {
		case named[login]:
			e.warnings = append(e.warnings, fmt.Sprintf("%s: owner %s: root's containers get the same IDs, by %s: %s can signal their processes: give one of them another owner", l.Where(), l.Owner, by, login))
		case len(names) == 0:
			withheld[login] = true
			e.passed = append(e.passed, engines.Passed{Owner: login, Why: fmt.Sprintf("%s: owner %s: root's containers get these IDs, by %s, and %s could signal their processes: no entry is made: if it is to be all the same: %s",
				l.Where(), l.Owner, by, login, command("export-subid", login))})
		}
	}
	return withheld, nil
}

// mappedStill is a warning for each user namespace that has IDs which its maker had by entries that are
// removed: it keeps them until it ends.
func mappedStill(changes []engines.SubIDChange, unleased []lease.LiveNS) []string {
	gone, stay := make(map[string][]idmap.Range), make(map[string][]idmap.Range)
	var logins []string
	for _, ch := range changes {
		if ch.State != engines.SubIDRemoved {
			stay[ch.Owner] = append(stay[ch.Owner], ch.Range)
			continue
		}
		if gone[ch.Owner] == nil {
			logins = append(logins, ch.Owner)
		}
		gone[ch.Owner] = append(gone[ch.Owner], ch.Range)
	}
	var all []string
	for _, login := range logins {
		ids := idmap.NewSet(gone[login]...).Subtract(idmap.NewSet(stay[login]...))
		for _, ns := range unleased {
			if used := ns.IDs().Intersect(ids); !used.Empty() {
				all = append(all, fmt.Sprintf("owner %s: process %d is in a user namespace that has %s, and keeps that until it ends: of Podman, as %s: podman system migrate", login, ns.PID, used, login))
			}
		}
	}
	if len(all) > maxNamed {
		all = append(all[:maxNamed], fmt.Sprintf("and %d user namespaces more", len(all)-maxNamed))
	}
	return all
}

// sharedWithRoot is a warning for each owner of whose entries containers have IDs that root started.
func sharedWithRoot(changes []engines.SubIDChange, leases []lease.Status) []string {
	var logins []string
	ranges := make(map[string][]idmap.Range)
	for _, ch := range changes {
		if ch.State == engines.SubIDRemoved {
			continue
		}
		if ranges[ch.Owner] == nil {
			logins = append(logins, ch.Owner)
		}
		ranges[ch.Owner] = append(ranges[ch.Owner], ch.Range)
	}
	slices.Sort(logins)
	var all []string
	for _, login := range logins {
		// Their pins are theirs as their own containers are.
		held := slices.DeleteFunc(census.Held(leases, idmap.NewSet(ranges[login]...)), func(l lease.Status) bool { return l.IsPin() })
		if len(held) == 0 {
			continue
		}
		what := ""
		for i, l := range held {
			if i == maxNamed {
				what += fmt.Sprintf(", and %d more", len(held)-i)
				break
			}
			if i > 0 {
				what += ", "
			}
			what += census.Holder(l)
		}
		all = append(all, fmt.Sprintf("owner %s: has by the entries the IDs of what root started, and can signal its processes: %s: give root's containers another owner", login, what))
	}
	return all
}
