// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// Under the flag owned a container's user namespace belongs to the granted user. The kernel
// gives an owner every capability in their namespace, from the host and at any moment,
// while the container is being started too: they can enter it, trace and stop what runs in
// it, and nothing that the container's own cgroups, capabilities or seccomp filter deny
// binds them. So whatever relies on something inside being denied to them is refused.

// judgeOwned finds the account that the namespace shall belong to, if the grant says so, and
// refuses what can't be given to an owner. The namespace that a bundle names must belong to
// whoever a new one would.
func (p *plan) judgeOwned(c *call, owner ownership) error {
	flags := p.verdict.Flags
	// What a caller other than root makes is theirs anyway.
	if !flags.Owned || !c.subject.IsRoot() {
		return p.checkNSOwner(uint32(os.Geteuid()), "")
	}
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%s: flag owned: %w", p.ownedLine(), fmt.Errorf(format, args...))
	}
	if broken := flags.BrokenByOwner(); broken != "" {
		return refuse("%s owns the user namespace, and undoes %s there: take one of them from the line", owner.Name, broken)
	}
	if c.inv.Verb == "restore" {
		return refuse("on restore CRIU makes the namespace, which belongs to root: start the container anew")
	}
	account := accountOf(owner)
	if account == nil {
		return refuse("%s has no account on this host that a user namespace could belong to: make one, or take the flag from the line", owner.Name)
	}
	uid, ok := c.subject.UIDs.ToInner(uint32(account.Uid))
	if !ok {
		return refuse("UID %d of %s isn't mapped in the caller's user namespace: start the container on the host", account.Uid, account.Name)
	}
	// The low-level runtime enters it as the host's root.
	if err := linux.CheckSuidDumpable(); err != nil {
		return refuse("%w", err)
	}
	if err := checkOwnedSpec(p.bundle.Spec, account.Name); err != nil {
		return refuse("%w", err)
	}
	p.nsOwner, p.nsOwnerUID = account, uid
	return p.checkNSOwner(uid, account.Name)
}

// checkNSOwner refuses the namespace that the bundle names, or that it has to be in, if
// somebody else than uid has every capability in it.
func (p *plan) checkNSOwner(uid uint32, name string) error {
	if p.wanted.userns == nil || p.wanted.nsOwner == uid {
		return nil
	}
	if name == "" {
		return fmt.Errorf("user namespace %s: it belongs to UID %d, who has every capability in it: expected one that belongs to the caller (UID %d), or a grant of that user's with the flag owned",
			p.wanted.userns.Name(), p.wanted.nsOwner, uid)
	}
	return fmt.Errorf("%s: flag owned: user namespace %s belongs to UID %d: expected one of %s (UID %d): leave out the path; what was started before the line had the flag has to be started anew",
		p.ownedLine(), p.wanted.userns.Name(), p.wanted.nsOwner, name, uid)
}

// ownedLine is the first of the lines that the flag comes from: all of those in use have it.
func (p *plan) ownedLine() string { return where(p.verdict) }

// checkOwnedSpec refuses what isn't the container's, and would be the owner's by the container.
func checkOwnedSpec(spec *specs.Spec, owner string) error {
	var errs []error
	if h := spec.Hooks; h != nil {
		for _, kind := range []struct {
			name  string
			hooks []specs.Hook
		}{
			{"prestart", h.Prestart}, //nolint:staticcheck // deprecated, and Docker's
			{"createRuntime", h.CreateRuntime},
			{"createContainer", h.CreateContainer},
			{"poststart", h.Poststart},
			{"poststop", h.Poststop},
		} {
			if len(kind.hooks) > 0 {
				errs = append(errs, fmt.Errorf("hooks.%s[0]: %s is a program of the host, which works on a container that %s can stop and change under it: leave it out (Docker has one in every network but host's: use --network host)",
					kind.name, kind.hooks[0].Path, owner))
			}
		}
	}
	if spec.Linux != nil {
		var devices []string // all of the host's, under --privileged
		for _, device := range spec.Linux.Devices {
			if !specpatch.IsDefaultDevice(device) {
				devices = append(devices, device.Path)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Linux.NetDevices)) {
			errs = append(errs, fmt.Errorf("linux.netDevices: %s is an interface of the host, over which %s would have every capability, whatever the container has: leave it out", name, owner))
		}
		if s := spec.Linux.Seccomp; s != nil && s.ListenerPath != "" {
			errs = append(errs, fmt.Errorf("linux.seccomp.listenerPath: %s leads to a program of the host, which acts for a container that %s can stop and change under it: leave it out", s.ListenerPath, owner))
		}
		if len(devices) > 0 {
			errs = append(errs, fmt.Errorf("linux.devices: %s: %s could open devices from outside of the container, where its device cgroup denies nothing: leave them out", some(devices), owner))
		}
	}
	return errors.Join(errs...)
}

// checkOwned refuses a bind mount by which the owner of the namespace would get at what is
// somebody else's, and takes the devices from all others.
func (b *bind) checkOwned(p *plan) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(b.taken.Source.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: b.Source, Err: err}
	}
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		return fmt.Errorf("%s: flag owned: %s is a device, which %s could open from outside of the container, where its device cgroup denies nothing: leave it out",
			p.ownedLine(), b.Source, p.nsOwner.Name)
	}
	if b.As == asRoot && b.volume {
		return fmt.Errorf("%s: flag owned: %s is a volume of the engine, on which %s would be root beyond what the container may: bind a directory that %[3]s owns",
			p.ownedLine(), b.Source, p.nsOwner.Name)
	}
	b.attrs = append(b.attrs, linux.Attrs{Set: unix.MOUNT_ATTR_NODEV, Recursive: true})
	return nil
}

// publish lets the owner find the container by its ID.
func (p *plan) publish(c *call) error {
	if p.nsOwner == nil || p.lease == nil {
		return nil
	}
	return p.lease.Publish(uint32(p.nsOwner.Uid), p.nsOwnerUID, lease.Published{UIDs: p.uids, GIDs: p.gids, Cgroup: c.cgroupName(p.bundle.Spec)})
}

// cgroupName is the last part of the path of the container's cgroup, as the low-level runtime will make
// it: of systemd's it is a scope, from "slice:prefix:name" (runc, docs/systemd.md).
func (c *call) cgroupName(spec *specs.Spec) string {
	asked := ""
	if spec.Linux != nil {
		asked = spec.Linux.CgroupsPath
	}
	if c.inv.Global.SystemdCgroup {
		parts := strings.Split(asked, ":")
		switch {
		case asked == "":
			parts = []string{"", "runc", c.inv.ID}
		case len(parts) != 3:
			return ""
		}
		if strings.HasSuffix(parts[2], ".slice") {
			return parts[2]
		}
		if parts[1] == "" {
			return parts[2] + ".scope"
		}
		return parts[1] + "-" + parts[2] + ".scope"
	}
	if asked == "" {
		return c.inv.ID
	}
	return path.Base(asked)
}
