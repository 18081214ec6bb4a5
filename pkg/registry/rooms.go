// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"slices"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Room is IDs of one line of a grant, of which each container takes so many.
type Room struct {
	Line Line
	Size uint32    // IDs per container
	Free idmap.Set // those of the line that [Grant.Permits] wouldn't refuse
}

// Shared says whether containers get the IDs of [Grant.First] together, instead of
// exclusive ones: the holder's first line is one with the flag shared.
func (g *Grant) Shared() bool { return len(g.lines) > 0 && g.lines[0].Flags.Shared }

// Rooms is where the holder's containers may be put, for exclusive ranges: those of
// the holder's lines that are long enough and don't have the flag shared. size is how
// many IDs a container shall have, 0 for as many as each line says.
//
// Whether IDs are in use by another container is not looked at. It is an error if no
// line is long enough, or nothing of them is free.
func (g *Grant) Rooms(size uint32) ([]Room, error) {
	if g.none != nil {
		return nil, fmt.Errorf("grant: %w", g.none)
	}
	var out []Room
	var short *Line
	for _, line := range g.lines {
		each := size
		if each == 0 {
			each = line.Flags.ContainerSize()
		}
		if line.Flags.Shared {
			continue
		}
		if line.Range.Count < each {
			if short == nil {
				short = &line
			}
			continue
		}
		out = append(out, Room{line, each, idmap.NewSet(line.Range)})
	}
	if len(out) == 0 {
		if short == nil {
			short = &g.lines[0]
		}
		return nil, g.tooShort(*short, size)
	}
	taken := g.taken(out)
	for i := range out {
		out[i].Free = out[i].Free.Subtract(taken)
	}
	if !slices.ContainsFunc(out, func(r Room) bool { _, ok := r.Free.FirstFit(r.Size); return ok }) {
		return nil, g.nothingFree(out[0])
	}
	return out, nil
}

// nothingFree is the error for a room in which no container has place: all that is wrong with
// the first place.
func (g *Grant) nothingFree(r Room) error {
	m := idmap.Map{{Inner: 0, Outer: r.Line.Range.Start, Count: r.Size}}
	_, err := g.Permits(m, m)
	if err == nil {
		err = errors.New("bug: its first place is free")
	}
	return fmt.Errorf("grant: %s: no %d IDs in a row are left of it, since others have some: %w: `usernsctl check` names all of them", r.Line.Where(), r.Size, err)
}

// tooShort is the error for a line without room for one container.
func (g *Grant) tooShort(line Line, size uint32) error {
	if size != 0 {
		return fmt.Errorf("grant: %s: has %d IDs, fewer than the %d that the container asks for: lengthen it, or ask for fewer", line.Where(), line.Range.Count, size)
	}
	size = line.Flags.ContainerSize()
	mended := line
	mended.Flags.Size = line.Range.Count
	return fmt.Errorf("grant: %s: has %d IDs, fewer than the %d of one container: "+
		"lengthen it, or make its containers smaller: write %q", line.Where(), line.Range.Count, size, mended)
}

// taken is what nobody may take of the rooms: other owners' lines, reserved ones, the
// host's accounts, and what is never granted.
func (g *Grant) taken(all []Room) idmap.Set {
	m := make(idmap.Map, len(all))
	for i, r := range all {
		m[i] = idmap.Extent{Outer: r.Line.Range.Start, Count: r.Line.Range.Count}
	}
	used := touching(m)
	ranges := neverSet().Ranges()
	for _, l := range g.book.find(func(_ []byte, ids idmap.Range) bool { return used(ids) }) {
		if l.Flags.Reserved || !g.holder.is([]byte(l.Owner)) {
			ranges = append(ranges, l.Range)
		}
	}
	for _, u := range g.host.Users {
		if own := g.holder.Own; own == nil || u.ID != own.UID {
			ranges = append(ranges, idmap.Range{Start: u.ID, Count: 1})
		}
	}
	for _, gr := range g.host.Groups {
		if own := g.holder.Own; own == nil || gr.ID != own.GID {
			ranges = append(ranges, idmap.Range{Start: gr.ID, Count: 1})
		}
	}
	return idmap.NewSet(ranges...)
}
