// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// staleSubIDs is what /etc/subuid and /etc/subgid give to users against the book, by newuidmap and
// newgidmap that don't hold what unheld says. The files may be whoever's, as for check: it is only looked.
func staleSubIDs(book *registry.Book, host registry.Host, unheld func(registry.Flags) string) ([]engines.StaleSubID, error) {
	paths := census.HostPaths()
	var files []*engines.SubIDFile
	for _, path := range []string{paths.SubUID, paths.SubGID} {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		f, err := engines.ParseSubIDs(path, text)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return engines.StaleSubIDs(book, host, unheld, files...), nil
}

// staleFindings is those of the book as findings of check and audit.
func staleFindings(book *registry.Book, host registry.Host) []registry.Conflict {
	stale, err := staleSubIDs(book, host, engines.Host{}.Unheld())
	if err != nil {
		return []registry.Conflict{{Severity: registry.Warning, Message: fmt.Sprintf("what was exported isn't known: %s", err)}}
	}
	var found []registry.Conflict
	for _, s := range stale {
		found = append(found, s.Conflict)
	}
	return found
}

// warnOfStale says, after a change of the book, which entries stay that the owner has against
// it, or that anybody has of the IDs.
func (p *program) warnOfStale(owner string, ids idmap.Range) {
	err := func() error {
		host, err := registry.LoadHost(census.HostPaths().Passwd, census.HostPaths().Group)
		if err != nil {
			return err
		}
		book, err := registry.Load(registry.Path, registry.DropInDir)
		if err != nil {
			return err
		}
		stale, err := staleSubIDs(book, host, engines.Host{}.Unheld())
		if err != nil {
			return err
		}
		login := engines.NewAccounts(host).Login(owner)
		stale = slices.DeleteFunc(stale, func(s engines.StaleSubID) bool { return s.Login != login && !s.Range.Overlaps(ids) })
		for i, s := range stale {
			if i == maxNamed {
				p.warn("and %d more: %s", len(stale)-i, command("check"))
				break
			}
			p.warn("%s", s.Message)
		}
		return nil
	}()
	if err != nil {
		p.warn("whether exported entries are what the book says by now isn't known: %s", err)
	}
}
