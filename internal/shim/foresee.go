// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/report"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// Asked is a container that isn't to be started, but of which somebody wants to know what
// would become of it.
type Asked struct {
	Bundle string // its directory
	Owner  string // as of --owner; "" if that isn't given
	Config string // as of --config; "" for the host's file
	Root   string // the engine's --root; "" for the low-level runtime's own
	ID     string // the container's; "" for the name of the bundle's directory
	// PidFile is as of --pid-file, "" if that isn't given. Podman has the container's own files beside
	// it, which are known by that.
	PidFile string
}

// Foreseen is what create would decide by what is known now, in the words of the
// audit log (docs/configuration.md).
type Foreseen struct {
	Refused error `json:"-"` // why it would be refused; nil if it would be granted

	Owner   string `json:"owner"`
	OwnerBy string `json:"ownerBy"`
	Root    string `json:"root"`
	ID      string `json:"id"`
	Bundle  string `json:"bundle"`
	// UIDs and GIDs are the maps, as INNER:OUTER:COUNT; "" if it didn't get so far. Asked says that
	// the bundle, or what it joins, brings them, so that no range is chosen.
	UIDs    string             `json:"uids"`
	GIDs    string             `json:"gids"`
	Asked   bool               `json:"asked"`
	Lines   []string           `json:"lines"` // of the book, that allow them, as file:line
	Flags   string             `json:"flags"` // of those lines
	Rootfs  rootfs.Method      `json:"rootfs"`
	Runtime string             `json:"runtime"` // path and version
	Changes []specpatch.Change `json:"changes"`
	Binds   []ForeseenBind     `json:"binds"`
	// Confined is what is asked for and would be had in name only.
	Confined []string `json:"confined"`
}

// ForeseenBind is a bind mount of the bundle, and who root inside would be on it.
type ForeseenBind struct {
	Destination string `json:"destination"`
	Source      string `json:"source"`
	As          string `json:"as"`            // "root", an account of the host, or "nobody"
	Why         string `json:"why,omitempty"` // where one could expect another
}

// Foresee goes the way of create as far as it can be gone without taking, making or
// writing anything, audit log and caches among it. What can go wrong later, while mounts are
// made, isn't foreseen; nor what others do meanwhile.
//
// The error is about the question: who would be refused is in [Foreseen]. It has to be called
// on the main thread, to which it gives a mount namespace of its own, once in a process.
func Foresee(a Asked) (Foreseen, error) {
	argv := []string{ProgramName}
	if a.Owner != "" {
		argv = append(argv, "--owner="+a.Owner)
	}
	if a.Config != "" {
		argv = append(argv, "--config="+a.Config)
	}
	if a.Root != "" {
		argv = append(argv, "--root="+a.Root)
	}
	bundle, err := filepath.Abs(a.Bundle)
	if err != nil {
		return Foreseen{}, err
	}
	if _, err := os.Stat(filepath.Join(bundle, oci.ConfigName)); err != nil {
		return Foreseen{}, fmt.Errorf("bundle: %w: expected the directory of a bundle, which has %s in it", err, oci.ConfigName)
	}
	id := a.ID
	if id == "" {
		id = filepath.Base(bundle)
	}
	if !validID(id) {
		return Foreseen{}, fmt.Errorf("container ID %q: expected letters, digits, and _ + - . , as runc does", id)
	}
	c := &call{program: ProgramName, dry: true}
	argv = append(argv, "create", "--bundle="+bundle)
	if a.PidFile != "" {
		argv = append(argv, "--pid-file="+a.PidFile)
	}
	if c.inv, err = oci.ParseArgs(append(argv, "--", id)); err != nil {
		return Foreseen{}, err
	}
	if c.subject, err = delegate.Identify(); err != nil {
		return Foreseen{}, err
	}
	d := c.newDecision()
	p := &plan{dry: true}
	refused := c.foresee(p, d)
	f := Foreseen{
		Refused: refused, Owner: d.Owner, OwnerBy: d.OwnerBy, Root: d.Root, ID: d.ID, Bundle: d.Bundle,
		UIDs: d.GrantedUIDs, GIDs: d.GrantedGIDs, Asked: d.AskedUIDs != "", Lines: append([]string{}, d.Lines...), Flags: d.Flags,
		Rootfs: rootfs.Method(d.Rootfs), Runtime: d.Runtime, Changes: append([]specpatch.Change{}, d.Changes...), Binds: []ForeseenBind{}, Confined: append([]string{}, d.Confined...),
	}
	for _, b := range d.Binds {
		f.Binds = append(f.Binds, ForeseenBind{b.Destination, b.Source, b.As, b.Why})
	}
	return f, nil
}

// foresee is the way of run and start, up to what is made.
func (c *call) foresee(p *plan, d *decision) error {
	var err error
	if c.cfg, err = c.config(); err != nil {
		return err
	}
	low, err := oci.FindRuntime(c.cfg.Runtimes, 0)
	if err != nil {
		return err
	}
	if err := c.prepare(low, p, d); err != nil || c.cfg.Audit.Mode != config.AuditRequire {
		return err
	}
	if err := report.OpenAudit(c.cfg.Audit.Path).Check(); err != nil {
		return unrecorded(err)
	}
	return nil
}

// validID says whether runc takes it for a container's ID. It looks itself when a container is
// created; here nothing else would.
func validID(id string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-."
	return id != "" && id != "." && id != ".." && strings.Trim(id, allowed) == ""
}

// tryShifts is what is done instead of the stage where nothing is to be made: it finds out
// whether owners can be shifted.
func (p *plan) tryShifts(c *call, request rootfs.Request, userns *os.File, d *decision) error {
	d.Rootfs = string(request.Method())
	errs := []error{request.Try()}
	for _, b := range p.binds {
		if err := b.settle(c, p, userns); err != nil {
			errs = append(errs, fmt.Errorf("mounts[%d]: %s: %w", b.index, b.Destination, err))
		}
	}
	d.Binds = p.bindReports()
	return errors.Join(errs...)
}
