// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/shim"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func (p *program) inspectVerb() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show what is known of a container",
		UsageText: programName + " inspect ID [--root DIR] [--json]",
		Description: "Whose it is, which IDs it holds, what was decided when it was created, and what the book says otherwise by now.\n" +
			"The first characters of the ID will do. Two engines may have a container of one ID: both are shown.",
		Flags: []cli.Flag{
			text(flagRoot, "only that of the engine with this state `DIR`"),
			jsonFlag("it"),
		},
		Action: p.inspect,
	}
}

// containerJSON is a container as JSON. What was written down when it was created is left out
// of one that has nothing written down.
type containerJSON struct {
	leaseJSON
	UIDs    string   `json:"uids,omitempty"` // as INNER:OUTER:COUNT
	GIDs    string   `json:"gids,omitempty"`
	Flags   *string  `json:"flags,omitempty"`
	Lines   []string `json:"lines,omitempty"`
	Method  string   `json:"rootfsMethod,omitempty"`
	Rootfs  string   `json:"rootfs,omitempty"`
	Runtime string   `json:"runtime,omitempty"`
	// Differs is what the book says otherwise by now; the container keeps what it has.
	Differs []string `json:"differs"`
}

func (p *program) inspect(c *cli.Context) error {
	words, err := arguments(c, 1, "ID")
	if err != nil {
		return err
	}
	if words[0] == "" {
		return misused(verbOf(c), "ID is empty: expected a container's")
	}
	book, host, err := p.look(c)
	if err != nil {
		return err
	}
	root := c.String(flagRoot)
	if root != "" {
		root = shim.EngineRoot(root)
	}
	found, err := containersOf(host.Leases, words[0], root)
	if err != nil {
		return err
	}
	shown := []containerJSON{}
	for _, l := range found {
		out := containerJSON{leaseJSON: leasesJSON([]lease.Status{l}, host.Live)[0], Differs: []string{}}
		r, err := census.Record(l)
		switch {
		case err == nil:
			flags := r.Flags
			out.UIDs, out.GIDs, out.Flags, out.Lines = r.UIDs.String(), r.GIDs.String(), &flags, r.Lines
			out.Method, out.Rootfs, out.Runtime = r.Method, r.Rootfs, r.Runtime
			out.Differs = append(out.Differs, host.Differs(book, l, r)...)
		case !errors.Is(err, census.ErrNoRecord):
			p.warn("inspect: %s", err)
		}
		shown = append(shown, out)
	}
	if c.Bool(flagJSON) {
		return p.json(shown)
	}
	for i, out := range shown {
		if i > 0 {
			p.out.WriteByte('\n')
		}
		p.showContainer(out)
	}
	return nil
}

func (p *program) showContainer(out containerJSON) {
	var ranges []string
	for _, r := range out.Ranges {
		ranges = append(ranges, fmt.Sprintf("[%d-%d)", r.Start, uint64(r.Start)+uint64(r.Count)))
	}
	rows := [][2]string{
		{"container", out.Container}, {"root", out.Root}, {"owner", out.Owner}, {"state", string(out.State)}, {"IDs", strings.Join(ranges, "")},
	}
	if out.PID != 0 {
		rows = append(rows, [2]string{"process", fmt.Sprint(out.PID)})
	}
	if out.UserNS != 0 {
		rows = append(rows, [2]string{"user namespace", fmt.Sprint(out.UserNS)})
	}
	if out.Flags == nil {
		rows = append(rows, [2]string{"record", "none: it is being started, or has ended"})
	} else {
		rows = append(rows, [][2]string{
			{"UIDs", out.UIDs}, {"GIDs", out.GIDs}, {"flags", *out.Flags}, {"lines, when it was created", strings.Join(out.Lines, ", ")},
			{"root filesystem", out.Rootfs}, {"shifted by", out.Method}, {"runtime", out.Runtime},
		}...)
	}
	for _, text := range out.Differs {
		rows = append(rows, [2]string{"the book says otherwise", text})
	}
	for _, row := range rows {
		if row[1] != "" {
			fmt.Fprintf(&p.out, "%s: %s\n", row[0], visible(row[1]))
		}
	}
}

// containersOf is the containers of an ID, or those of the one ID that begins so.
func containersOf(leases []lease.Status, id, root string) ([]lease.Status, error) {
	var exact, begins []lease.Status
	var ids []string
	for _, l := range leases {
		switch {
		case l.ID == "" || root != "" && l.Root != root:
			continue
		case l.ID == id:
			exact = append(exact, l)
		case l.IsPin(): // whoever means one says so
			continue
		case strings.HasPrefix(l.ID, id):
			begins = append(begins, l)
		}
		ids = append(ids, l.ID)
	}
	if len(exact) > 0 {
		return exact, nil
	}
	hint := programName + " leases"
	if len(begins) == 0 {
		if near, ok := registry.Nearest(id, ids); ok {
			return nil, failed(command("inspect", near), "inspect: container %s: holds no IDs: did you mean %s?", visible(id), visible(near))
		}
		return nil, failed(hint, "inspect: container %s: holds no IDs: expected one that runs, or is created, under userns-runtime", visible(id))
	}
	if i := slices.IndexFunc(begins, func(l lease.Status) bool { return l.ID != begins[0].ID }); i >= 0 {
		return nil, failed(hint, "inspect: container %s: several begin so, %s and %s among them: expected more of the ID", visible(id), visible(begins[0].ID), visible(begins[i].ID))
	}
	return begins, nil
}
