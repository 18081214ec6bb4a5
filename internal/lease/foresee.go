// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Foresee is what [Store.Acquire] would take if it were called now: the range that it
// would choose, or none if the IDs are given. It takes nothing, and removes nothing of what
// has ended. Whoever starts a container meanwhile may have the range first.
//
// Errors are those of Acquire.
func (s *Store) Foresee(r Request) (idmap.Range, error) {
	holders, err := s.holders()
	if err != nil {
		return idmap.Range{}, err
	}
	for _, h := range holders {
		switch sameNS, sharing := r.UserNS != 0 && r.UserNS == h.UserNS, r.Shared && h.Shared && r.Owner == h.Owner; {
		case h.Key == r.Key && h.ID != "" && h.State != Process:
			return idmap.Range{}, fmt.Errorf("lease: %w: %s", ErrExists, h)
		case sameNS || sharing:
		case !r.Exactly.Intersect(h.Ranges).Empty():
			return idmap.Range{}, &HeldError{r.Exactly.Intersect(h.Ranges), h}
		}
	}
	if !r.Exactly.Empty() {
		return idmap.Range{}, nil
	}
	return foreseen(r, holders)
}

// holders is who holds IDs. Where the directory is lost, or isn't whole, that is also who will be
// found alive when it is mended.
func (s *Store) holders() (holders []Status, err error) {
	sec, all, err := s.judgeAll()
	if err != nil {
		return nil, err
	}
	answered := func(uint64, idmap.Set) (bool, error) { return false, nil }
	if sec != nil {
		defer sec.unlock()
		for _, j := range all {
			if j.State != Ended {
				holders = append(holders, j.Status)
			}
		}
		boot, by, err := sec.bootOf()
		if err != nil || sec.complete(boot, by) {
			return holders, err
		}
		answered = sec.answered
	}
	found, err := s.found(answered)
	for _, e := range found {
		holders = append(holders, Status{Entry: e, State: Process, Alive: e.PID})
	}
	return holders, err
}

// foreseen chooses as [section.choose] does, beside those who hold.
func foreseen(r Request, holders []Status) (idmap.Range, error) {
	name := r.Name
	if name == "" {
		name = r.Key.ID
	}
	var ranges []idmap.Range
	for _, h := range holders {
		ranges = append(ranges, h.Ranges.Ranges()...)
	}
	held := idmap.NewSet(ranges...)
	full := &FullError{}
	for _, room := range r.Rooms {
		free := room.Free.Subtract(held)
		favourites := room.favouritesOf(name)
		for _, place := range favourites {
			if free.Contains(place) {
				return place, nil
			}
		}
		if len(favourites) > 0 {
			if ids, ok := room.fit(favourites[0], held); ok {
				return ids, nil
			}
		}
		full.Size, full.Places = room.Size, full.Places+room.places()
		for _, h := range holders {
			if !h.Ranges.Intersect(room.Free).Empty() {
				full.Holders = append(full.Holders, h)
			}
		}
	}
	return idmap.Range{}, full
}
