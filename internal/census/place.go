// SPDX-License-Identifier: Apache-2.0

package census

import (
	"fmt"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// lowest is the first ID where a line is proposed: those below are the accounts' of the host, and
// their 16 bits once more, which kubelet and others begin with.
const lowest = 2 * 65536

// rooms is where a free place is looked for, one after the other: the ranges that nobody
// takes from unasked, then all that programs with signed 32 bits can count to, then all there is.
func rooms() []idmap.Range {
	return append(registry.Roomy(),
		idmap.Range{Start: lowest, Count: 1<<31 - lowest},
		idmap.Range{Start: lowest, Count: idmap.Invalid - lowest})
}

// Place is count IDs in a row that are free of all [Census.Uses].
func (c *Census) Place(b *registry.Book, count uint32) (idmap.Range, error) {
	var ranges []idmap.Range
	for _, u := range c.Uses(b) {
		ranges = append(ranges, u.IDs.Ranges()...)
	}
	used := idmap.NewSet(ranges...)
	var most uint32
	for _, room := range rooms() {
		free := idmap.NewSet(room).Subtract(used)
		if fit, ok := free.FirstFit(count); ok {
			return fit, nil
		}
		for _, r := range free.Ranges() {
			most = max(most, r.Count)
		}
	}
	return idmap.Range{}, fmt.Errorf("place: no %d IDs in a row are free on this host: expected at most %d: ask for fewer, or remove lines that nobody needs: usernsctl list", count, most)
}

// Collisions is everything that speaks against a change of the book, each with its file:line,
// software or process: errors of [registry.Check] that weren't there before, and of the IDs that
// are granted anew, those that the same owner has already and those that are alive. Warnings are
// what Check newly warns of.
//
// gained is the IDs that owner is granted by after, and wasn't by the same line before.
func (c *Census) Collisions(before, after *registry.Book, owner string, gained idmap.Set) (collisions, warnings []string) {
	for _, l := range before.Lines() {
		if l.Owner == owner && !l.Flags.Reserved && meets(gained, idmap.NewSet(l.Range)) {
			collisions = append(collisions, fmt.Sprintf("%s: %s is granted to %s already", l.Where(), gained.Intersect(idmap.NewSet(l.Range)), owner))
		}
	}
	known := make(map[string]bool)
	for _, l := range before.Lines() {
		known[l.Where()] = true
	}
	had := registry.Check(before, c.World)
	for _, n := range registry.Check(after, c.World) {
		switch old := slices.ContainsFunc(had, func(h registry.Conflict) bool { return isOf(n, h) }); {
		case n.Severity == registry.Error && (!old || n.Where == ""): // "" says that there are too many to tell
			collisions = append(collisions, told(n, known))
		case n.Severity == registry.Warning && !old:
			warnings = append(warnings, told(n, known))
		}
	}
	for _, u := range c.Alive(gained) {
		collisions = append(collisions, fmt.Sprintf("%s is in use by %s", u.IDs.Intersect(gained), u.Why))
	}
	return collisions, warnings
}

// told is a conflict in words, without the place of a line that isn't written yet.
func told(n registry.Conflict, known map[string]bool) string {
	if known[n.Where] {
		return n.Message
	}
	return strings.TrimPrefix(n.Message, n.Where+": ")
}

// isOf says whether a conflict is one that was there before, or what is left of it.
func isOf(n, before registry.Conflict) bool {
	return n.Severity == before.Severity && n.Where == before.Where && n.Other == before.Other &&
		idmap.NewSet(before.Range).Contains(n.Range)
}
