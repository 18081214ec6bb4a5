// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
)

// listed is something of the caller's: what they may map, or enter.
type listed struct {
	// Kind is "grant", "pin", "container" or "namespace".
	Kind string `json:"kind"`
	// Name is the line of a grant, the name of a pin, the ID of a container; "" of a namespace that
	// has none.
	Name string `json:"name"`
	// UIDs and GIDs are maps, as INNER:OUTER:COUNT; of a grant its range, START:COUNT. The outer IDs of a
	// namespace that is nobody's container are as the caller's own counts them.
	UIDs  string `json:"uids"`
	GIDs  string `json:"gids"`
	Flags string `json:"flags,omitempty"`
	PID   int    `json:"pid,omitempty"` // a process in it; of a container its first one
	Root  string `json:"root,omitempty"`
	Path  string `json:"path,omitempty"`
	// Error is why it can't be entered.
	Error string `json:"error,omitempty"`

	inode uint64
}

// list shows what is the caller's, and gives the exit code.
func (p *program) list(args []string) (int, error) {
	f := pflag.NewFlagSet("list", pflag.ContinueOnError)
	f.SortFlags = false
	f.Usage = func() {}
	asJSON := f.Bool("json", false, "as a JSON array")
	help := f.BoolP("help", "h", false, "show this")
	showVersion := f.BoolP("version", "V", false, "show the version")
	if err := f.Parse(args); err != nil {
		return 0, fmt.Errorf("%w: see `%s list --help`", err, programName)
	}
	switch {
	case *help:
		return p.show("list", "Usage:\n  "+programName+" list [--json]\n\n"+
			"Lists the lines of the book that are yours, and the user namespaces that you can enter.\n\nOptions:\n"+f.FlagUsagesWrapped(100)), nil
	case *showVersion:
		return p.show("list", programName+" version "+version+"\n"), nil
	case f.NArg() > 0:
		return 0, fmt.Errorf("%q: list takes no argument: see `%s list --help`", f.Arg(0), programName)
	}
	// All is the caller's own doing.
	if err := linux.DropCapabilities(); err != nil {
		return 0, err
	}
	caller, err := delegate.Identify()
	if err != nil {
		return 0, err
	}
	all, err := everything(caller)
	if err != nil {
		return 0, err
	}
	if *asJSON {
		text, err := json.MarshalIndent(append([]listed{}, all...), "", "  ")
		if err != nil {
			return 0, err
		}
		return p.show("list", string(text)+"\n"), nil
	}
	return p.show("list", table(all)), nil
}

func everything(caller delegate.Caller) ([]listed, error) {
	grants, err := listGrants(caller)
	if err != nil {
		return nil, err
	}
	pins, err := listPins(caller)
	if err != nil {
		return nil, err
	}
	containers, err := listContainers(caller)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(grants, pins, containers)
	live, err := delegate.Owned()
	if err != nil {
		return nil, err
	}
	for _, ns := range live {
		if !slices.ContainsFunc(all, func(l listed) bool { return l.inode == ns.Inode }) {
			all = append(all, listed{Kind: "namespace", PID: ns.PID, UIDs: ns.State.UIDs.String(), GIDs: ns.State.GIDs.String(), Flags: denied(ns.State)})
		}
	}
	return all, nil
}

// denied is the one flag that a namespace itself can show.
func denied(is delegate.State) string {
	if is.DenySetgroups {
		return "deny-setgroups"
	}
	return ""
}

func listGrants(caller delegate.Caller) (all []listed, err error) {
	grant, err := grantOf(caller.Holder())
	if err != nil {
		return nil, err
	}
	for _, line := range grant.Lines() {
		ids := fmt.Sprintf("%d:%d", line.Range.Start, line.Range.Count)
		all = append(all, listed{Kind: "grant", Name: line.Where(), UIDs: ids, GIDs: ids, Flags: line.Flags.String()})
	}
	return all, nil
}

// listPins is the caller's pins, those among them that can't be entered.
func listPins(caller delegate.Caller) (all []listed, err error) {
	entries, err := os.ReadDir(filepath.Join(delegate.PinDir, caller.Name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pin, err := delegate.PinOf(caller.Name, e.Name())
		if err != nil {
			continue // no pin has such a name
		}
		row := listed{Kind: "pin", Name: pin.Name, Path: pin.Path()}
		if target, err := pinTarget(caller, pin, nil); err != nil {
			row.Error = err.Error()
		} else {
			row.UIDs, row.GIDs, row.Flags = target.State.UIDs.String(), target.State.GIDs.String(), denied(target.State)
			row.inode, err = target.UserNS()
			target.Close()
			if err != nil {
				return nil, err
			}
		}
		all = append(all, row)
	}
	return all, nil
}

func listContainers(caller delegate.Caller) (all []listed, err error) {
	records, err := lease.OwnersRecords(caller.UID)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(records, func(a, b lease.Published) int {
		if a.ID != b.ID {
			return strings.Compare(a.ID, b.ID)
		}
		return strings.Compare(a.Root, b.Root)
	})
	for _, r := range records {
		row := listed{Kind: "container", Name: r.ID, UIDs: r.UIDs.String(), GIDs: r.GIDs.String(), Root: r.Root, inode: r.UserNS}
		if row.PID, err = firstProcess(r); err != nil {
			row.Error = err.Error()
		}
		all = append(all, row)
	}
	return all, nil
}

// table is the rows for people; what isn't there is "-".
func table(all []listed) string {
	if len(all) == 0 {
		return ""
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		for i, cell := range cells {
			if cell == "" {
				cells[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) // to memory
	}
	row("KIND", "NAME", "UIDS", "GIDS", "FLAGS", "PID", "NOTE")
	for _, l := range all {
		pid := ""
		if l.PID != 0 {
			pid = strconv.Itoa(l.PID)
		}
		note := l.Error
		if note == "" {
			note = l.Root + l.Path // one of them
		}
		row(l.Kind, printable(l.Name), l.UIDs, l.GIDs, l.Flags, pid, printable(note))
	}
	_ = w.Flush() // to memory
	return b.String()
}

// printable is a text as it can be shown on a terminal.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
