// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

const flagList = "list"

func (p *program) pinVerb() *cli.Command {
	return &cli.Command{
		Name:  "pin",
		Usage: "keep an owner's user namespace without a process in it, for the owner to enter",
		UsageText: programName + " pin OWNER[/NAME]\n" +
			programName + " pin --all [--config FILE]\n" +
			programName + " pin --list [--config FILE] [--json]",
		Description: "Makes a user namespace that belongs to the owner's account and maps all of their first line, and mounts it on\n" +
			delegate.PinDir + "/OWNER/NAME (NAME is " + delegate.DefaultPinName + " unless given). One that is there already, and is as the book says, stays; any\n" +
			"other is made anew. --all makes those of the configuration's [[pin]], as userns-pins.service does at boot. See " + programName + "-pin(8).",
		Flags: []cli.Flag{
			yes(flagAll, "all of the configuration's [[pin]]; one that fails doesn't keep the others from being made"),
			yes(flagList, "show the pins there are, and those of the configuration that are missing"),
			text(flagConfig, "configuration `FILE`"),
			jsonFlag("the list"),
		},
		Action: p.pin,
	}
}

func (p *program) pin(c *cli.Context) error {
	all, list := c.Bool(flagAll), c.Bool(flagList)
	words, err := arguments(c, 0, "OWNER[/NAME]")
	switch {
	case err != nil:
		return err
	case all && list:
		return misused(verbOf(c), "--%s and --%s: expected one of them", flagAll, flagList)
	case (all || list) && len(words) > 0:
		return misused(verbOf(c), "%q: expected no argument beside --%s or --%s", words[0], flagAll, flagList)
	case !all && !list && len(words) == 0:
		return misused(verbOf(c), "OWNER[/NAME] is missing, or --%s, or --%s", flagAll, flagList)
	case c.Bool(flagJSON) && !list:
		return misused(verbOf(c), "--%s: expected it beside --%s", flagJSON, flagList)
	case c.IsSet(flagConfig) && !all && !list:
		return misused(verbOf(c), "--%s: expected it beside --%s or --%s", flagConfig, flagAll, flagList)
	}
	if err := p.needsRoot(c); err != nil {
		return err
	}
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if errors.Is(err, registry.ErrNoBook) && list {
		book, err = &registry.Book{}, nil
	}
	if err != nil {
		return failed(command("check"), "pin: %w", err)
	}
	w, err := newPinning(book)
	if err != nil {
		return failed("", "pin: %w", err)
	}
	switch {
	case list:
		return p.listPins(c, w)
	case all:
		return p.pinAll(c, w)
	}
	owner, name := splitPin(words[0])
	return p.pinOne(w, owner, name)
}

// splitPin reads OWNER[/NAME].
func splitPin(word string) (owner, name string) {
	owner, name, given := strings.Cut(word, "/")
	if !given {
		name = delegate.DefaultPinName
	}
	return owner, name
}

// pinsOf is the [[pin]] of the configuration.
func pinsOf(c *cli.Context) ([]config.Pin, error) {
	path := config.Path
	if c.IsSet(flagConfig) {
		path = c.String(flagConfig)
		if _, err := os.Lstat(path); err != nil {
			return nil, failed("", "%s: --%s: %w", verbOf(c), flagConfig, err)
		}
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, failed("", "%s: %w", verbOf(c), err)
	}
	return cfg.Pins, nil
}

func (p *program) pinAll(c *cli.Context, w *pinning) error {
	pins, err := pinsOf(c)
	if err != nil {
		return err
	}
	var errs []error
	for _, pin := range pins {
		if err := p.pinOne(w, pin.Owner, pin.Name); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return failed("", "%w\npin: %d of %d pins are in place", errors.Join(errs...), len(pins)-len(errs), len(pins))
	}
	if len(pins) == 0 {
		p.out.WriteString("the configuration has no [[pin]]\n")
	}
	return nil
}

func (p *program) pinOne(w *pinning, owner, name string) error {
	pin, made, err := w.make(owner, name)
	if err != nil {
		return failed("", "%w", err)
	}
	verb := "is pinned already"
	if made {
		verb = "pinned"
	}
	fmt.Fprintf(&p.out, "%s: %s: %s\n", visible(pin.String()), verb, visible(pin.Path()))
	return nil
}

// pinning is what pins are made and judged by.
type pinning struct {
	caller delegate.Caller
	book   *registry.Book
	host   registry.Host
	store  *lease.Store
}

func newPinning(book *registry.Book) (*pinning, error) {
	caller, err := delegate.Identify()
	if err != nil {
		return nil, err
	}
	w := &pinning{caller: caller, book: book}
	paths := census.HostPaths()
	if w.host, err = registry.LoadHost(paths.Passwd, paths.Group); err != nil {
		return nil, err
	}
	w.store, err = lease.Open()
	return w, err
}

// grant is what the book gives the pin's owner.
func (w *pinning) grant(pin delegate.Pin) (*registry.Grant, error) {
	grant, err := w.book.Grant(pin.Holder(), w.host)
	if err != nil {
		return nil, fmt.Errorf("pin %s: %w", pin, err)
	}
	return grant, nil
}

// open opens a pin of the host's, judged.
func (w *pinning) open(pin delegate.Pin, grant *registry.Grant) (ns *os.File, is delegate.State, err error) {
	err = delegate.OnHost(func() (err error) {
		ns, is, err = pin.Open(w.caller, grant)
		return err
	})
	return ns, is, err
}

// make makes a pin, unless it is there already; made says that it did. All that can refuse it comes
// first: what is there stays then, whatever it is.
func (w *pinning) make(owner, name string) (pin delegate.Pin, made bool, err error) {
	if pin, err = delegate.PinOf(owner, name); err != nil {
		return pin, false, err
	}
	grant, err := w.grant(pin)
	if err != nil {
		return pin, false, err
	}
	want, _, err := pin.Namespace(grant)
	if err != nil {
		return pin, false, err
	}
	unlock, err := w.store.LockPins()
	if err != nil {
		return pin, false, fmt.Errorf("pin %s: %w", pin, err)
	}
	defer unlock()

	request := lease.Request{
		Key: lease.PinKey(pin.Owner, pin.Name), Owner: pin.Owner, Names: pin.Holder().Names,
		Exactly: want.UIDs.Outer().Union(want.GIDs.Outer()),
	}
	ns, _, err := w.open(pin, grant)
	wrong, isWrong := errors.AsType[*delegate.PinError](err)
	switch {
	case err == nil:
		defer ns.Close()
		return pin, false, w.hold(pin, request, ns)
	case !isWrong:
		return pin, false, err
	}
	if err := w.free(request); err != nil {
		return pin, false, fmt.Errorf("pin %s: %w", pin, err)
	}
	if !wrong.Missing {
		if err := delegate.OnHost(pin.Unbind); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return pin, false, err
		}
	}
	return pin, true, w.bind(pin, grant, request, want)
}

// free says whether the IDs can be had. The kernel takes a namespace away a little later than its last
// mount, so that of a pin which was unmounted just now somebody seems to have it yet.
func (w *pinning) free(request lease.Request) error {
	for tries := 0; ; tries++ {
		_, err := w.store.Foresee(request)
		held, ok := errors.AsType[*lease.HeldError](err)
		if !ok || held.By.State != lease.StillOpen || held.By.Alive != 0 || tries == lingers {
			return err
		}
		time.Sleep(lingering)
	}
}

// lingers and lingering is how often, and after how long each time, it is looked again whether a
// namespace has gone.
const (
	lingers   = 50
	lingering = 10 * time.Millisecond
)

// hold sees to it that a pin which is in place has its IDs in the leases, which may have been lost.
func (w *pinning) hold(pin delegate.Pin, request lease.Request, ns *os.File) error {
	inode, err := linux.Inode(ns)
	if err != nil {
		return err
	}
	all, err := w.store.List()
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.Key == request.Key && l.UserNS == inode && l.State == lease.Pinned && l.Ranges.ContainsSet(request.Exactly) {
			return nil
		}
	}
	if request, err = request.OfPin(ns); err != nil {
		return err
	}
	held, err := w.store.Acquire(request)
	if errors.Is(err, lease.ErrExists) {
		// Acquire has found it by itself.
		return nil
	}
	if err != nil {
		return fmt.Errorf("pin %s: it is in place, but its IDs aren't its own: %w", pin, err)
	}
	held.Close()
	return nil
}

// bind makes the namespace and the pin of it. At first nobody but this process has the namespace, then
// the lock of the entry holds the IDs as well, and then the mount does. So whenever it ends, there is
// a pin, or there is none and nobody has the IDs.
func (w *pinning) bind(pin delegate.Pin, grant *registry.Grant, request lease.Request, want delegate.Namespace) (err error) {
	ns, err := delegate.Create(want)
	if err != nil {
		return fmt.Errorf("pin %s: %w", pin, err)
	}
	defer ns.Close()
	if request, err = request.OfPin(ns); err != nil {
		return fmt.Errorf("pin %s: %w", pin, err)
	}
	held, err := w.store.Acquire(request)
	if err != nil {
		return fmt.Errorf("pin %s: %w", pin, err)
	}
	defer func() {
		if err == nil {
			held.Close()
			return
		}
		if undo := delegate.OnHost(pin.Unbind); undo != nil && !errors.Is(undo, fs.ErrNotExist) {
			err = errors.Join(err, undo)
		}
		err = errors.Join(err, held.Abandon())
	}()
	if err := delegate.OnHost(func() error { return pin.Bind(ns) }); err != nil {
		return err
	}
	again, _, err := w.open(pin, grant)
	if err != nil {
		return err
	}
	defer again.Close()
	if same, err := linux.SameFile(ns, again); err != nil || !same {
		return errors.Join(fmt.Errorf("pin %s: %w: another namespace is there than was put there", pin, delegate.ErrSuspicious), err)
	}
	return nil
}
