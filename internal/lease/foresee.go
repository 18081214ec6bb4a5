// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"slices"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Foresee is what [Store.Acquire] would take if it were called now: the range that it
// would choose, or none if the IDs are given. For a pin it also refuses IDs that a process of somebody
// else has without a lease, which containers don't take the time for. It takes nothing, and removes nothing of what
// has ended. Whoever starts a container meanwhile may have the range first.
//
// Errors are those of Acquire.
func (s *Store) Foresee(r Request) (idmap.Range, error) {
	if err := r.Key.check(); err != nil {
		return idmap.Range{}, err
	}
	alive, ended, err := s.holders()
	if err != nil {
		return idmap.Range{}, err
	}
	for _, h := range alive {
		switch sameNS, sharing := r.UserNS != 0 && r.UserNS == h.UserNS, r.Shared && h.Shared && r.Owner == h.Owner; {
		case h.Key == r.Key && h.IsPin(): // whoever wants it takes that one away before
		case h.Key == r.Key && h.ID != "" && h.State != Process:
			return idmap.Range{}, fmt.Errorf("lease: %w: %s", ErrExists, h)
		case sameNS || sharing || r.mayOverlap(h):
		case !r.Exactly.Intersect(h.Ranges).Empty():
			return idmap.Range{}, r.heldBy(h)
		}
	}
	if r.Key.IsPin() {
		if held, err := s.stranger(r, alive); err != nil {
			return idmap.Range{}, err
		} else if held != nil {
			return idmap.Range{}, held
		}
	}
	if !r.Exactly.Empty() {
		return idmap.Range{}, nil
	}
	alive = slices.DeleteFunc(alive, r.mayOverlap)
	// Those of its own key go before anything is chosen.
	ended = slices.DeleteFunc(ended, func(h Status) bool { return h.Key == r.Key })
	return foreseen(r, alive, ended)
}

// holders is who holds IDs, and whose entries have ended but stand there yet. Where the directory
// is lost, or isn't whole, holders are also those who will be found alive when it is mended.
func (s *Store) holders() (alive, ended []Status, err error) {
	sec, all, err := s.judgeAll()
	if err != nil {
		return nil, nil, err
	}
	answered := func(LiveNS) (bool, error) { return false, nil }
	if sec != nil {
		defer sec.unlock()
		boot, by, err := sec.bootOf()
		if err != nil {
			return nil, nil, err
		}
		current := boot == sec.store.boot || boot == "" // of another one, all entries go at once
		for _, j := range all {
			switch {
			case j.State != Ended:
				alive = append(alive, j.Status)
			case current:
				ended = append(ended, j.Status)
			}
		}
		if sec.complete(boot, by) {
			return alive, ended, nil
		}
		if current {
			answered = sec.answered
		}
	}
	found, err := s.found(answered)
	for _, e := range found {
		state := Process
		if e.IsPin() {
			state = Pinned
		}
		alive = append(alive, Status{Entry: e, State: state, Alive: e.PID})
	}
	return alive, ended, err
}

// foreseen chooses as [section.choose] does. Of entries that have ended that looks only at those
// that are in a favourite's place, as long as there are other IDs.
func foreseen(r Request, alive, ended []Status) (idmap.Range, error) {
	name := r.Name
	if name == "" {
		name = r.Key.ID
	}
	held := rangesOf(alive)
	for _, room := range r.Rooms {
		favourites := room.favouritesOf(name)
		places := slices.DeleteFunc(slices.Clone(favourites), func(place idmap.Range) bool { return !room.Free.Contains(place) })
		for _, place := range places {
			if held.Intersect(idmap.NewSet(place)).Empty() {
				return place, nil
			}
		}
		looked := idmap.NewSet(places...)
		ended = slices.DeleteFunc(ended, func(h Status) bool { return !h.Ranges.Intersect(looked).Empty() })
		if len(favourites) == 0 {
			continue
		}
		if ids, ok := room.fit(favourites[0], held.Union(rangesOf(ended))); ok {
			return ids, nil
		}
	}
	full := &FullError{}
	for _, room := range r.Rooms {
		if favourites := room.favouritesOf(name); len(favourites) > 0 {
			if ids, ok := room.fit(favourites[0], held); ok {
				return ids, nil
			}
		}
		full.Size, full.Places = room.Size, full.Places+room.places()
		for _, h := range alive {
			if !h.Ranges.Intersect(room.Free).Empty() {
				full.Holders = append(full.Holders, h)
			}
		}
	}
	return idmap.Range{}, full
}

func rangesOf(all []Status) idmap.Set {
	var ranges []idmap.Range
	for _, h := range all {
		ranges = append(ranges, h.Ranges.Ranges()...)
	}
	return idmap.NewSet(ranges...)
}
