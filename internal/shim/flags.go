// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"

	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// checkFlags refuses what a flag of the grant forbids, and what would make one an empty
// promise.
func (p *plan) checkFlags(c *call) error {
	flags := p.verdict.Flags
	if !c.subject.IsRoot() {
		if err := p.verdict.CheckOwned(); err != nil {
			return err
		}
	}
	if p.wanted.userns != nil && flags.DenySetgroups && !p.wanted.denySetgroups {
		return fmt.Errorf("%s: flag deny-setgroups: the namespace %s allows setgroups, which can't be changed any more: make it with setgroups denied, or leave out the path",
			p.lineWith(func(f registry.Flags) bool { return f.DenySetgroups }), p.wanted.userns.Name())
	}
	if p.wanted.userns != nil && flags.DenyNested {
		denied, err := delegate.DeniesNested(p.wanted.userns)
		if err == nil && !denied {
			err = errors.New("others can be made in it: have this runtime make it, by a container of this grant that was started with the flag, or leave out the path")
		}
		if err != nil {
			return fmt.Errorf("%s: flag deny-nested: user namespace %s: %w", p.lineWith(func(f registry.Flags) bool { return f.DenyNested }), p.wanted.userns.Name(), err)
		}
	}
	if restricting := flags.Restricting(); c.inv.Verb == "restore" && restricting != "" {
		return fmt.Errorf("%s: flags %s can't be enforced on restore, since CRIU makes the namespaces and their processes as they were dumped: start the container anew",
			p.lineWith(func(f registry.Flags) bool { return f.Restricting() != "" }), restricting)
	}
	for _, check := range []struct {
		name string
		has  func(registry.Flags) bool
		err  func() error
	}{
		{"deny-privileged", func(f registry.Flags) bool { return f.DenyPrivileged }, func() error { return specpatch.CheckPrivileged(p.bundle.Spec, processFlags(flags)) }},
		{"deny-host-ns", func(f registry.Flags) bool { return f.DenyHostNS }, p.checkHostNS},
		{"deny-devices", denyDevices, p.checkDevices},
	} {
		if !check.has(flags) {
			continue
		}
		if err := check.err(); err != nil {
			return fmt.Errorf("%s: flag %s: %w", p.lineWith(check.has), check.name, err)
		}
	}
	return nil
}

// lineWith is the first of the lines in use that has a flag.
func (p *plan) lineWith(has func(registry.Flags) bool) string {
	for _, line := range p.verdict.Lines {
		if has(line.Flags) {
			return line.Where()
		}
	}
	return where(p.verdict)
}

func where(v registry.Verdict) string {
	if len(v.Lines) == 0 {
		return "the book"
	}
	return v.Lines[0].Where()
}

// processFlags is what the flags of a grant take from every process.
func processFlags(f registry.Flags) specpatch.ProcessFlags {
	p := specpatch.ProcessFlags{DenySetgroups: f.DenySetgroups, NoNewPrivs: f.NoNewPrivs, DropCaps: f.DropCaps}
	if len(f.DropCaps) > 0 {
		p.OtherCaps = registry.OtherCaps(f.DropCaps)
	}
	return p
}
