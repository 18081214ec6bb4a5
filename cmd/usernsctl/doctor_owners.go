// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	"github.com/userns-runtime/userns-runtime/internal/engines"
)

// claim is an owner whom containers get, and what says so.
type claim struct{ owner, by string }

// claims is whom the engines' containers belong to, in the order in which the gate decides.
// Annotations aren't known before there is a container.
func (h *host) claims() []claim {
	const byDefault = "default-owner"
	var all []claim
	add := func(s engines.Setup, r engines.Runtime) {
		switch owner, ruled := h.config.OwnerByRoot(engines.StateRoot(s.Engine)); {
		case r.Other || !isGate(r.Path):
		case r.Owner != "":
			all = append(all, claim{r.Owner, s.Engine + "'s runtime " + r.Name})
		case ruled:
			all = append(all, claim{owner, "a [[rule]] for " + s.Engine})
		default:
			all = append(all, claim{h.config.DefaultOwner, byDefault})
		}
	}
	for _, s := range h.engines {
		add(s, s.Default)
		for _, r := range s.Others {
			add(s, r)
		}
	}
	if len(all) == 0 {
		all = append(all, claim{h.config.DefaultOwner, byDefault}) // who would call it
	}
	return all
}

// checkOwners is whether those whom engines' containers belong to have lines.
func (h *host) checkOwners() {
	if h.book == nil || h.accounts == nil {
		return
	}
	seen := map[string]bool{}
	for _, c := range h.claims() {
		if seen[c.owner] {
			continue
		}
		seen[c.owner] = true
		switch {
		case c.owner == "" && len(h.config.Annotations) == 0:
			h.add(sevError, c.by, "write default-owner = 'NAME' in /etc/userns-runtime/config.toml, or "+command("configure", "docker", "--owner", "NAME"),
				"is nobody, and an engine's containers have no other owner: they are refused")
		case c.owner == "":
			h.fine(c.by, "is nobody: containers need an annotation")
		case hasGrant(h.book, *h.accounts, c.owner):
			h.fine(c.by, "%s has a line", c.owner)
		default:
			h.add(sevError, c.by, command("add", c.owner, "--containers", strconv.Itoa(firstContainers)),
				"gives containers to %s, who has no line in the book%s: they are refused", c.owner, h.nearest(c.owner))
		}
	}
}

// nearest is a word on an owner with a line who may have been meant.
func (h *host) nearest(owner string) string {
	if near, ok := nearOwner(h.book, owner); ok {
		return " (did you mean " + near + "?)"
	}
	return ""
}
