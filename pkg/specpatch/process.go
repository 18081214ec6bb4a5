// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ProcessFlags is what a grant takes from every process of a container.
type ProcessFlags struct {
	// DenySetgroups says that the namespace denies setgroups(2).
	DenySetgroups bool
	// NoNewPrivs sets no_new_privs on the process.
	NoNewPrivs bool
	// DropCaps is the names of the capabilities that it never has, CAP_*, and OtherCaps
	// all the others that there are. The latter are needed only if there are any of the former, and the low-level
	// runtime gives all to a process for which none are named.
	DropCaps, OtherCaps []string
}

// ApplyProcess changes process, init's or one to be exec'd, as the flags say.
// The paths of the changes begin with at.
//
// A process to be exec'd that names no capabilities has those of the container's
// first one, and is left so.
func ApplyProcess(process *specs.Process, flags ProcessFlags, at ...string) []Change {
	var changes []Change
	path := func(names ...string) []string { return append(slices.Clone(at), names...) }
	if flags.NoNewPrivs {
		// Also where it is true already: for a reader that is strict about
		// upper and lower case it may not be.
		changes = append(changes, Change{Path: path("noNewPrivileges"), Before: process.NoNewPrivileges, After: true, Why: "flag no-new-privs"})
		process.NoNewPrivileges = true
	}
	if flags.DenySetgroups && process.User.AdditionalGids != nil {
		changes = append(changes, Change{Path: path("user", "additionalGids"), Before: process.User.AdditionalGids, Why: "flag deny-setgroups"})
		process.User.AdditionalGids = nil
	}
	if process.Capabilities == nil || len(flags.DropCaps) == 0 {
		return changes
	}
	caps := *process.Capabilities
	process.Capabilities = &caps
	for _, set := range capSets(&caps) {
		if kept := slices.DeleteFunc(slices.Clone(*set.names), flags.drops); len(kept) < len(*set.names) {
			changes = append(changes, Change{Path: path("capabilities", set.name), Before: *set.names, After: kept, Why: whyDropped})
			*set.names = kept
		}
	}
	return changes
}

const whyDropped = "flag drop-caps"

// dropUnsaid gives the container's first process capabilities by name where its
// specification names none: runc leaves it what a new user namespace gives, which is all (since 1.2).
func (f ProcessFlags) dropUnsaid(process *specs.Process, at ...string) []Change {
	if process.Capabilities != nil || len(f.DropCaps) == 0 || len(f.OtherCaps) == 0 {
		return nil
	}
	process.Capabilities = &specs.LinuxCapabilities{Bounding: f.OtherCaps, Effective: f.OtherCaps, Permitted: f.OtherCaps}
	return []Change{{Path: append(slices.Clone(at), "capabilities"), After: process.Capabilities, Why: whyDropped + ": without names it would have all"}}
}

// drops says whether a name is one of the capabilities that are taken. Low-level runtimes
// differ in which spellings they know, so any of them counts.
func (f ProcessFlags) drops(name string) bool {
	return slices.ContainsFunc(f.DropCaps, func(dropped string) bool { return isCap(name, dropped) })
}

// capSet is one of the five sets of a specification.
type capSet struct {
	name  string
	names *[]string
}

func capSets(c *specs.LinuxCapabilities) []capSet {
	return []capSet{
		{"bounding", &c.Bounding}, {"effective", &c.Effective}, {"permitted", &c.Permitted},
		{"inheritable", &c.Inheritable}, {"ambient", &c.Ambient},
	}
}
