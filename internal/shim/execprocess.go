// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// Without --process runc takes the process from the bundle's config.json as it is on disk by
// now, and its own flags change that. Where capabilities count, what it would make of both is made
// here instead, judged, and handed to it by --process: a file in memory, which nobody can replace
// as they could one in the bundle.

// needsProcess says whether flags can't be held by those of runc's exec alone.
func needsProcess(f registry.Flags) bool { return len(f.DropCaps) > 0 || f.DenyPrivileged }

// makeProcess has runc take the process from a file of ours, that obeys the flags.
func (c *call) makeProcess(bundle string, flags registry.Flags) ([]specpatch.Change, error) {
	raw, process, err := c.execProcess(bundle)
	if err != nil {
		return nil, err
	}
	return c.giveProcess("--cap, or process.capabilities of the bundle", raw, process, flags)
}

// giveProcess applies the flags to a process, whose text is raw, and hands it to runc. field is
// where its capabilities come from.
func (c *call) giveProcess(field string, raw []byte, process *specs.Process, flags registry.Flags) ([]specpatch.Change, error) {
	if flags.DenyPrivileged {
		if err := specpatch.CheckPrivilegedProcess(field, process, processFlags(flags)); err != nil {
			return nil, fmt.Errorf("flag deny-privileged, which the container was started with: %w", err)
		}
	}
	changes := specpatch.ApplyProcess(process, processFlags(flags))
	// Without any it has those of the container, which were judged.
	if process.Capabilities != nil {
		if err := c.version.CheckCaps(field, process); err != nil {
			return nil, err
		}
	}
	patched, err := oci.EditProcess(raw, edits(changes), process)
	if err == nil {
		patched, err = c.version.Spec(patched, new(specs.Process))
	}
	if err != nil {
		return nil, err
	}
	memory, err := linux.MemFile("process.json", patched)
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	fd, err := linux.KeepAcrossExec(memory, c.firstFD())
	if err != nil {
		return nil, err
	}
	c.inv.Flags.Process = "/proc/self/fd/" + strconv.Itoa(fd)
	return changes, nil
}

// execProcess is the process that runc would take from the bundle, as its config.json has it, and the
// changes that the call asks for.
func (c *call) execProcess(bundle string) (raw []byte, process *specs.Process, err error) {
	if len(c.inv.Args) == 0 {
		return nil, nil, errors.New("exec args cannot be empty") // runc's words
	}
	b, err := oci.OpenBundle(bundle)
	if err != nil {
		return nil, nil, err
	}
	var members struct {
		Process json.RawMessage `json:"process"`
	}
	if err := json.Unmarshal(b.Raw, &members); err != nil {
		return nil, nil, err
	}
	if process = b.Spec.Process; process == nil {
		return nil, nil, errors.New("process property must not be empty") // runc's words
	}
	asked, err := c.overrides(process)
	if err != nil {
		return nil, nil, err
	}
	if raw, err = oci.EditProcess(members.Process, edits(asked), process); err != nil {
		return nil, nil, fmt.Errorf("bundle: %s/%s: process: %w", b.Dir, oci.ConfigName, err)
	}
	return raw, process, nil
}

// overrides changes a process as the flags of runc's exec do (runc exec(8)), and gives the changes.
func (c *call) overrides(p *specs.Process) (changes []specpatch.Change, err error) {
	flags := c.inv.Flags
	set := func(value any, path ...string) { changes = append(changes, specpatch.Change{Path: path, After: value}) }
	p.Args = c.inv.Args
	set(p.Args, "args")
	p.Terminal = flags.TTY
	set(p.Terminal, "terminal")
	for _, text := range []struct {
		given string
		to    *string
		name  string
	}{{flags.Cwd, &p.Cwd, "cwd"}, {flags.AppArmor, &p.ApparmorProfile, "apparmorProfile"}, {flags.ProcessLabel, &p.SelinuxLabel, "selinuxLabel"}} {
		if text.given != "" {
			*text.to = text.given
			set(text.given, text.name)
		}
	}
	if len(flags.Env) > 0 {
		p.Env = slices.Concat(p.Env, flags.Env)
		set(p.Env, "env")
	}
	if flags.NoNewPrivsSet {
		p.NoNewPrivileges = flags.NoNewPrivs
		set(p.NoNewPrivileges, "noNewPrivileges")
	}
	if len(flags.Cap) > 0 {
		changes = append(changes, c.addCaps(p)...)
	}
	if err := c.overrideUser(&p.User); err != nil {
		return nil, err
	}
	if flags.User != "" {
		set(p.User.UID, "user", "uid")
		set(p.User.GID, "user", "gid")
	}
	if len(flags.AdditionalGIDs) > 0 {
		set(p.User.AdditionalGids, "user", "additionalGids")
	}
	return changes, nil
}

// addCaps is --cap. Ambient ones can't be without inheritable ones, which it doesn't give.
func (c *call) addCaps(p *specs.Process) (changes []specpatch.Change) {
	caps := specs.LinuxCapabilities{}
	if p.Capabilities != nil {
		caps = *p.Capabilities
	}
	p.Capabilities = &caps
	add := func(set *[]string, name string) {
		*set = slices.Concat(*set, c.inv.Flags.Cap)
		changes = append(changes, specpatch.Change{Path: []string{"capabilities", name}, After: *set})
	}
	add(&caps.Bounding, "bounding")
	add(&caps.Effective, "effective")
	add(&caps.Permitted, "permitted")
	if caps.Inheritable != nil {
		add(&caps.Ambient, "ambient")
	}
	return changes
}

func (c *call) overrideUser(user *specs.User) error {
	if text := c.inv.Flags.User; text != "" {
		uid, gid, hasGID := strings.Cut(text, ":")
		if hasGID {
			id, err := strconv.Atoi(gid)
			if err != nil {
				return fmt.Errorf("bad gid: %w", err)
			}
			user.GID = uint32(id)
		}
		id, err := strconv.Atoi(uid)
		if err != nil {
			return fmt.Errorf("bad uid: %w", err)
		}
		user.UID = uint32(id)
	}
	for _, gid := range c.inv.Flags.AdditionalGIDs {
		if gid < 0 {
			return fmt.Errorf("additional-gids must be a positive number %d", gid)
		}
		user.AdditionalGids = append(user.AdditionalGids, uint32(gid))
	}
	return nil
}
