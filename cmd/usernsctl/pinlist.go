// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// What a pin is found to be.
const (
	pinFine    = "pinned"  // in place, and as the book says
	pinWrong   = "refused" // something else is there, or the book says something else
	pinMissing = "missing" // the configuration has it, and nothing is there
	pinLeft    = "left"    // nothing is there any more, and somebody has the namespace yet
)

// pinJSON is a pin as JSON.
type pinJSON struct {
	Owner      string      `json:"owner"`
	Name       string      `json:"name"`
	Path       string      `json:"path"`
	State      string      `json:"state"`
	UID        *uint32     `json:"uid"`    // of the owner; null without an account
	Ranges     []rangeJSON `json:"ranges"` // that it has now
	UserNS     uint64      `json:"userNS"` // inode number; 0 if none is there
	Setgroups  string      `json:"setgroups"`
	Configured bool        `json:"configured"` // by a [[pin]]
	Problem    string      `json:"problem"`

	ids idmap.Set
}

func (p *program) listPins(c *cli.Context, w *pinning) error {
	wanted, err := pinsOf(c)
	if err != nil {
		return err
	}
	pins, err := w.list(wanted)
	if err != nil {
		return failed("", "pin: %w", err)
	}
	if c.Bool(flagJSON) {
		return p.json(pins)
	}
	rows := [][]string{{"PIN", "RANGE", "STATE", "CONFIGURED", "PATH"}}
	for _, pin := range pins {
		configured := map[bool]string{true: "yes", false: "no"}[pin.Configured]
		ranges := ""
		if !pin.ids.Empty() {
			ranges = pin.ids.String()
		}
		rows = append(rows, []string{pin.Owner + "/" + pin.Name, ranges, pin.State, configured, pin.Path})
		if pin.Problem != "" {
			p.warn("%s", pin.Problem)
		}
	}
	return p.table(rows)
}

// list is all pins: those that are in place, those whose IDs are held, and those that are wanted; by
// their names.
func (w *pinning) list(wanted []config.Pin) ([]pinJSON, error) {
	var names []delegate.Pin
	err := delegate.OnHost(func() (err error) {
		names, err = delegate.PinNames()
		return err
	})
	if err != nil {
		return nil, err
	}
	leases, err := w.store.List()
	if err != nil {
		return nil, err
	}
	pins := []pinJSON{}
	at := func(pin delegate.Pin) *pinJSON {
		for i := range pins {
			if pins[i].Owner == pin.Owner && pins[i].Name == pin.Name {
				return &pins[i]
			}
		}
		pins = append(pins, pinJSON{Owner: pin.Owner, Name: pin.Name, Path: pin.Path(), Ranges: []rangeJSON{}})
		return &pins[len(pins)-1]
	}
	for _, pin := range names {
		at(pin)
	}
	for _, pin := range wanted {
		of, err := delegate.PinOf(pin.Owner, pin.Name)
		if err != nil {
			of = delegate.Pin{Owner: pin.Owner, Name: pin.Name}
		}
		at(of).Configured = true
	}
	for _, l := range leases {
		if owner, name, _ := strings.Cut(l.ID, "/"); l.IsPin() && l.State != lease.Ended {
			at(delegate.Pin{Owner: owner, Name: name})
		}
	}
	for i := range pins {
		w.judge(&pins[i], leases)
	}
	slices.SortFunc(pins, func(a, b pinJSON) int { return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Name, b.Name)) })
	return pins, nil
}

// judge says what a pin is.
func (w *pinning) judge(p *pinJSON, leases []lease.Status) {
	is, inode, err := w.look(p)
	if err == nil {
		p.State, p.UserNS, p.Setgroups = pinFine, inode, "allow"
		if is.DenySetgroups {
			p.Setgroups = "deny"
		}
		p.ids = is.UIDs.Outer().Union(is.GIDs.Outer())
		p.Ranges = rangesJSON(p.ids)
		return
	}
	p.State, p.Problem = pinWrong, err.Error()
	wrong, isWrong := errors.AsType[*delegate.PinError](err)
	missing := isWrong && wrong.Missing
	if missing {
		p.State = pinMissing
	}
	for _, l := range leases {
		if l.Key != lease.PinKey(p.Owner, p.Name) || l.State == lease.Ended {
			continue
		}
		p.ids = p.ids.Union(l.Ranges)
		p.Ranges = rangesJSON(p.ids)
		if p.UserNS = l.UserNS; missing {
			p.State, p.Problem = pinLeft, l.String()
		}
	}
}

// look opens a pin and tells what is there.
func (w *pinning) look(p *pinJSON) (is delegate.State, inode uint64, err error) {
	pin, err := delegate.PinOf(p.Owner, p.Name)
	if err != nil {
		return delegate.State{}, 0, err
	}
	if pin.Owner != p.Owner {
		return delegate.State{}, 0, fmt.Errorf("pin %s/%s: no account has that name, and it is the number of %s: have root run `%s`",
			p.Owner, p.Name, pin.Owner, command("unpin", p.Owner+"/"+p.Name))
	}
	p.UID = &pin.UID
	grant, err := w.grant(pin)
	if err != nil {
		return delegate.State{}, 0, err
	}
	ns, is, err := w.open(pin, grant)
	if err != nil {
		return delegate.State{}, 0, err
	}
	defer ns.Close()
	inode, err = linux.Inode(ns)
	return is, inode, err
}
