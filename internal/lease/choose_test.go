// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// roomOf has so many places of so many IDs, all of them free.
func roomOf(start, places, size uint32) Room {
	ids := idmap.Range{Start: start, Count: places * size}
	return Room{IDs: ids, Free: idmap.NewSet(ids), Size: size}
}

func TestPlaces(t *testing.T) {
	for _, row := range []struct {
		start, count, size uint32
		places             uint64
		last               idmap.Range
	}{
		{100000, 65536, 65536, 1, idmap.Range{Start: 100000, Count: 65536}},
		{100000, 131071, 65536, 1, idmap.Range{Start: 100000, Count: 65536}},
		{100000, 10, 3, 3, idmap.Range{Start: 100006, Count: 3}},
		{1, 5, 1, 5, idmap.Range{Start: 5, Count: 1}},
		// Up to the last ID that there is.
		{idmap.Invalid - 6, 6, 2, 3, idmap.Range{Start: idmap.Invalid - 2, Count: 2}},
		{1, idmap.Invalid - 1, 1, uint64(idmap.Invalid) - 1, idmap.Range{Start: idmap.Invalid - 1, Count: 1}},
		{100000, 5, 6, 0, idmap.Range{}},
	} {
		r := Room{IDs: idmap.Range{Start: row.start, Count: row.count}, Size: row.size}
		if r.places() != row.places {
			t.Errorf("%v: %d places, want %d", r, r.places(), row.places)
		}
		if row.places == 0 {
			if got := r.favouritesOf("x"); got != nil {
				t.Errorf("%v: favourites %v in a room without a place", r, got)
			}
			continue
		}
		if got := r.place(row.places - 1); got != row.last {
			t.Errorf("%v: the last place is %v, want %v", r, got, row.last)
		}
	}
}

// names is IDs of containers as they come: counted ones, and as Docker has them.
func names(n int) []string {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]string, 0, 2*n)
	for i := range n {
		out = append(out, "web-"+strconv.Itoa(i), fmt.Sprintf("%016x%016x%016x%016x", random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64()))
	}
	return out
}

func TestFavourites(t *testing.T) {
	for _, places := range []uint32{1, 2, 3, 7, 8, 9, 64, 127, 128, 1000, 1024} {
		r := roomOf(200000, places, 16)
		twice := 0
		for _, name := range names(500) {
			got := r.favouritesOf(name)
			if want := min(int(places), favourites); len(got) != want {
				t.Fatalf("%d places: %d favourites, want %d", places, len(got), want)
			}
			if again := r.favouritesOf(name); !slices.Equal(got, again) {
				t.Fatalf("%s: %v, then %v", name, got, again)
			}
			different := map[uint32]bool{}
			for _, place := range got {
				if !r.Free.Contains(place) || place.Count != r.Size || (place.Start-r.IDs.Start)%r.Size != 0 {
					t.Fatalf("%s: %v, of %v", name, place, r.IDs)
				}
				different[place.Start] = true
			}
			if len(got) > 1 && got[0] == got[1] {
				t.Errorf("%d places: the second choice of %s is the first: %v", places, name, got)
			}
			if len(different) < len(got) {
				twice++
			}
		}
		// Where the number of places has no factor they are distinct; else for most names.
		switch places {
		case 1, 2, 3, 7, 127:
			if twice > 0 {
				t.Errorf("%d places: %d names of 1000 have a favourite twice", places, twice)
			}
		case 1000, 1024:
			if twice > 30 {
				t.Errorf("%d places: %d names of 1000 have a favourite twice", places, twice)
			}
		}
	}
}

// What the first favourites of many names have, all places have alike: chi-square, whose
// mean is the number of places and whose deviation the root of twice that.
func TestFavouritesAreSpread(t *testing.T) {
	const places, each = 128, 100
	for kind, of := range map[string]func(i int) string{
		"counted":    func(i int) string { return "c" + strconv.Itoa(i) },
		"one letter": func(i int) string { return string(rune(0x100 + i)) },
		"suffix":     func(i int) string { return fmt.Sprintf("%064x", i) },
		"prefix":     func(i int) string { return fmt.Sprintf("%x-of-the-same-service", i) },
	} {
		for choice := range 3 {
			var got [places]int
			for i := range places * each {
				got[roomOf(0, places, 65536).favouritesOf(of(i))[choice].Start/65536]++
			}
			chi := 0.0
			for _, n := range got {
				chi += float64((n-each)*(n-each)) / each
			}
			if chi > places+6*16 {
				t.Errorf("%s: choice %d: chi-square %.0f of %d places: %v", kind, choice+1, chi, places, got)
			}
		}
	}
}

// Names that want the same place first don't all want the same one next, or each would move
// the others.
func TestFavouritesPart(t *testing.T) {
	r := roomOf(1<<20, 127, 65536)
	next := map[idmap.Range]int{}
	same := 0
	for _, name := range names(20000) {
		if f := r.favouritesOf(name); f[0] == r.place(5) {
			next[f[1]]++
			same++
		}
	}
	if same < 200 || len(next) < 60 {
		t.Errorf("%d names want place 5 first, and only %d different ones next", same, len(next))
	}
}

// bruteFit says where a range fits: in any place, and anywhere at all.
func bruteFit(r Room, held idmap.Set) (places []uint64, any bool) {
	gaps := r.Free.Subtract(held)
	for i := range r.places() {
		if gaps.Contains(r.place(i)) {
			places = append(places, i)
		}
	}
	for at := uint64(r.IDs.Start); at+uint64(r.Size) <= r.IDs.End(); at++ {
		any = any || gaps.Contains(idmap.Range{Start: uint32(at), Count: r.Size})
	}
	return places, any
}

func TestFitFindsWhatThereIs(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	seen := map[string]int{}
	for range 30000 {
		start := uint32(1000)
		count := 1 + random.Uint32N(40)
		if random.IntN(4) == 0 {
			start = idmap.Invalid - count
		}
		r := Room{IDs: idmap.Range{Start: start, Count: count}}
		r.Size = 1 + random.Uint32N(min(count, 6))
		pieces := func(most int) (out []idmap.Range) {
			for range random.IntN(most + 1) {
				at := random.Uint32N(count)
				out = append(out, idmap.Range{Start: start + at, Count: 1 + random.Uint32N(min(8, count-at))})
			}
			return out
		}
		r.Free = idmap.NewSet(r.IDs).Subtract(idmap.NewSet(pieces(2)...))
		held := idmap.NewSet(pieces(8)...)
		// What others hold may lie across the ends.
		if random.IntN(5) == 0 {
			held = held.Union(idmap.NewSet(idmap.Range{Start: start - 5, Count: 7}))
		}
		from := random.Uint64N(r.places())
		got, ok := r.fit(r.place(from), held)
		places, any := bruteFit(r, held)
		if ok != any {
			t.Fatalf("fit from %d of %+v beside %v: %v %v, and there is %v", from, r, held, got, ok, any)
		}
		switch {
		case !ok:
			seen["nothing"]++
			continue
		case got.Count != r.Size || !r.Free.Subtract(held).Contains(got):
			t.Fatalf("fit from %d of %+v beside %v: %v", from, r, held, got)
		case len(places) == 0:
			seen["a gap between places"]++
			continue
		}
		seen["a place"]++
		want := slices.MinFunc(places, func(a, b uint64) int {
			away := func(i uint64) int { return int((i + r.places() - from) % r.places()) }
			return away(a) - away(b)
		})
		if got != r.place(want) {
			t.Fatalf("fit from %d of %+v beside %v: %v, want place %d: %v", from, r, held, got, want, r.place(want))
		}
	}
	for _, kind := range []string{"nothing", "a gap between places", "a place"} {
		if seen[kind] < 1000 {
			t.Errorf("only %d rooms with %s", seen[kind], kind)
		}
	}
}
