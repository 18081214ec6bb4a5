// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"hash/fnv"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Room is IDs, in a row, of which a container may take so many.
type Room struct {
	IDs  idmap.Range
	Free idmap.Set // those of IDs that no rule forbids
	Size uint32    // IDs per container, at least 1
}

// places is how many containers have room, if they stand side by side from the first ID
// on.
func (r Room) places() uint64 { return uint64(r.IDs.Count / r.Size) }

// place is the IDs of place i.
func (r Room) place(i uint64) idmap.Range {
	return idmap.Range{Start: r.IDs.Start + uint32(i)*r.Size, Count: r.Size}
}

// favourites is how many places a name has that it gets if they are free. With one
// alone, a second container that wants it would move whoever comes next.
const favourites = 8

// favouritesOf is the places that a name is given first, always the same ones and in the
// same order, so that a container gets the IDs it had, whatever was started and
// removed meanwhile, and after a reboot.
func (r Room) favouritesOf(name string) []idmap.Range {
	n := r.places()
	if n == 0 {
		return nil
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	sum := mix(h.Sum64())
	at, step := sum%n, uint64(1)
	if n > 1 {
		step += mix(sum) % (n - 1)
	}
	for gcd(step, n) != 1 {
		step++ // or some would be named twice
	}
	out := make([]idmap.Range, 0, favourites)
	for range min(n, favourites) {
		out = append(out, r.place(at))
		at = (at + step) % n
	}
	return out
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// mix spreads what differs in a few bits over all of them; FNV alone doesn't do so for short
// names (the finalizer of MurmurHash3, 64 bits).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// fit finds IDs beside what is held: the next place from the one on that is given, round about; if
// none is left, any gap that is large enough, as sizes of several kinds leave them.
func (r Room) fit(first idmap.Range, held idmap.Set) (idmap.Range, bool) {
	n, size := r.places(), uint64(r.Size)
	from := uint64(first.Start-r.IDs.Start) / size
	best, found := n, false // how far from the first choice
	gaps := r.Free.Subtract(held)
	for _, gap := range gaps.Ranges() {
		// The places that lie in it as a whole, and the nearest of them.
		place := (uint64(gap.Start-r.IDs.Start) + size - 1) / size
		end := min((gap.End()-uint64(r.IDs.Start))/size, n)
		if place >= end {
			continue
		}
		if from > place && from < end {
			place = from
		}
		if away := (place + n - from) % n; !found || away < best {
			best, found = away, true
		}
	}
	if found {
		return r.place((from + best) % n), true
	}
	return gaps.FirstFit(r.Size)
}
