// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func (p *program) whoVerb() *cli.Command {
	return &cli.Command{
		Name:      "who",
		Usage:     "show who has an ID of this host",
		UsageText: programName + " who ID [--json]",
		Description: "Everybody who has it as a user or a group, or may take it: containers, with the ID inside, other processes in\n" +
			"user namespaces, lines of the book, accounts, /etc/subuid and /etc/subgid, software that is installed.",
		Flags:  []cli.Flag{jsonFlag("them")},
		Action: p.who,
	}
}

// claimJSON is one who has an ID as JSON.
type claimJSON struct {
	Kind     census.Kind `json:"kind"`
	Who      string      `json:"who"`
	Where    string      `json:"where"`
	Owner    string      `json:"owner,omitempty"`
	User     bool        `json:"user"`
	Group    bool        `json:"group"`
	InnerUID *uint32     `json:"innerUID"`
	InnerGID *uint32     `json:"innerGID"`
	PID      int         `json:"pid"`
}

func (p *program) who(c *cli.Context) error {
	words, err := arguments(c, 1, "ID")
	if err != nil {
		return err
	}
	id, err := idmap.ParseID(words[0])
	if err != nil || id == idmap.Invalid {
		return misused(verbOf(c), "%q: expected an ID of this host, a decimal number from 0 to %d: id -u NAME shows a user's", words[0], idmap.Invalid-1)
	}
	book, host, err := p.look(c)
	if err != nil {
		return err
	}
	claims := host.Who(book, id, census.Record)
	for _, f := range census.At(host.Audit(book, census.Record), id) {
		text := f.Message
		if f.Severity == registry.Error {
			text = "error: " + text
		}
		p.warn("%s", text)
	}
	shown := []claimJSON{}
	rows := [][]string{{"KIND", "WHO", "AS", "OWNER", "PID", "WHERE"}}
	for _, claim := range claims {
		shown = append(shown, claimJSON{
			claim.Kind, claim.Who, claim.Where, claim.Owner, claim.User, claim.Group, claim.InnerUID, claim.InnerGID, claim.PID,
		})
		pid := ""
		if claim.PID != 0 {
			pid = fmt.Sprint(claim.PID)
		}
		rows = append(rows, []string{string(claim.Kind), claim.Who, claim.As(), claim.Owner, pid, claim.Where})
	}
	switch {
	case c.Bool(flagJSON):
		return p.json(shown)
	case len(claims) == 0:
		fmt.Fprintf(&p.out, "%d is nobody's\n", id)
		return nil
	}
	return p.table(rows)
}

// look is the book, and all that is known of the host, which is root's to know.
func (p *program) look(c *cli.Context) (*registry.Book, *census.Census, error) {
	if err := p.needsRoot(c); err != nil {
		return nil, nil, err
	}
	book, err := p.book(c)
	if err != nil {
		return nil, nil, err
	}
	host, err := census.Take(census.HostPaths())
	if err != nil {
		return nil, nil, failed("", "%s: %w", verbOf(c), err)
	}
	return book, host, nil
}

// book is the book as it is; that there is none is said, and is no failure, since the host
// has IDs without it.
func (p *program) book(c *cli.Context) (*registry.Book, error) {
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if errors.Is(err, registry.ErrNoBook) {
		p.warn("%s: there is no book, so no container starts: %s init makes one", registry.Path, programName)
		return &registry.Book{}, nil
	}
	if err != nil {
		return nil, failed(programName+" check", "%s: %w", verbOf(c), err)
	}
	return book, nil
}
