// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
)

func (p *program) unpinVerb() *cli.Command {
	return &cli.Command{
		Name:      "unpin",
		Usage:     "take a pinned user namespace away",
		UsageText: programName + " unpin OWNER[/NAME]",
		Description: "Whoever is in the namespace stays in it, and has the IDs until they leave: " + programName + " leases shows them. A [[pin]]\n" +
			"of the configuration is made again at the next boot, or by " + programName + " pin --all.",
		Action: p.unpin,
	}
}

func (p *program) unpin(c *cli.Context) error {
	words, err := arguments(c, 1, "OWNER[/NAME]")
	if err != nil {
		return err
	}
	if err := p.needsRoot(c); err != nil {
		return err
	}
	pin, err := pinNamed(splitPin(words[0]))
	if err != nil {
		return failed("", "unpin: %w", err)
	}
	store, err := lease.Open()
	if err != nil {
		return failed("", "unpin: %w", err)
	}
	unlock, err := store.LockPins()
	if err != nil {
		return failed("", "unpin: %w", err)
	}
	defer unlock()
	gone := delegate.OnHost(pin.Unbind)
	if gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		return failed("", "unpin: %w", gone)
	}
	left, err := released(store, lease.PinKey(pin.Owner, pin.Name))
	if err != nil {
		return failed(command("leases"), "unpin: %s: it is unmounted, but its IDs weren't given back: %w", pin, err)
	}
	for _, l := range left {
		p.warn("unpin: %s: nobody else gets the IDs meanwhile", l)
	}
	if gone != nil && len(left) == 0 {
		return failed(command("pin", "--"+flagList), "unpin: %s: there is no such pin: nothing is at %s", pin, pin.Path())
	}
	fmt.Fprintf(&p.out, "%s: unpinned\n", visible(pin.String()))
	return nil
}

// pinNamed is the pin that is at the place of these names, as it is listed, or else the account's.
func pinNamed(owner, name string) (delegate.Pin, error) {
	literal := delegate.Pin{Owner: owner, Name: name}
	var names []delegate.Pin
	err := delegate.OnHost(func() (err error) {
		names, err = delegate.PinNames()
		return err
	})
	if err != nil || slices.Contains(names, literal) {
		return literal, err
	}
	pin, err := delegate.PinOf(owner, name)
	if err != nil {
		// Of an account that isn't there any more, the leases have the name.
		return literal, nil //nolint:nilerr // see above
	}
	return pin, nil
}

// released gives the IDs of a pin back, also of one that was unmounted by hand, and gives what is left
// of it.
func released(store *lease.Store, key lease.Key) (left []lease.Status, err error) {
	// The kernel takes the namespace away a little later than its last mount.
	for range lingers {
		if err := store.Release(key); err != nil {
			return nil, err
		}
		all, err := store.List()
		if err != nil {
			return nil, err
		}
		left = slices.DeleteFunc(all, func(l lease.Status) bool { return l.Key != key || l.State == lease.Ended })
		if !slices.ContainsFunc(left, func(l lease.Status) bool { return l.State == lease.StillOpen && l.Alive == 0 }) {
			break
		}
		time.Sleep(lingering)
	}
	return left, nil
}
