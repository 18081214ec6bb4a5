// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestRangeValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		r  Range
		ok bool
	}{
		"one ID":                  {Range{0, 1}, true},
		"last ID there is":        {Range{Invalid - 1, 1}, true},
		"all IDs":                 {Range{0, Invalid}, true},
		"empty":                   {Range{5, 0}, false},
		"(uid_t)-1":               {Range{Invalid, 1}, false},
		"reaches (uid_t)-1":       {Range{Invalid - 1, 2}, false},
		"wraps":                   {Range{Invalid - 1, 65536}, false},
		"wraps all the way round": {Range{2, Invalid}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.r.Validate()
			if (err == nil) != tc.ok {
				t.Fatalf("%v: got %v, expected ok %v", tc.r, err, tc.ok)
			}
			if err != nil && !errors.Is(err, ErrRange) {
				t.Fatalf("%v doesn't wrap ErrRange", err)
			}
		})
	}
}

func TestRangeOverlaps(t *testing.T) {
	base := Range{100, 10} // [100-110)
	for name, tc := range map[string]struct {
		o    Range
		both Range
		ok   bool
	}{
		"same":               {Range{100, 10}, Range{100, 10}, true},
		"adjacent below":     {Range{90, 10}, Range{}, false},
		"adjacent above":     {Range{110, 10}, Range{}, false},
		"one ID below":       {Range{90, 11}, Range{100, 1}, true},
		"one ID above":       {Range{109, 10}, Range{109, 1}, true},
		"inside":             {Range{103, 2}, Range{103, 2}, true},
		"around":             {Range{0, Invalid}, Range{100, 10}, true},
		"empty, inside":      {Range{103, 0}, Range{}, false},
		"far, ends at 1<<32": {Range{Invalid - 5, 6}, Range{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pair := range [][2]Range{{base, tc.o}, {tc.o, base}} {
				both, ok := pair[0].Intersect(pair[1])
				if ok != tc.ok || both != tc.both {
					t.Fatalf("%v and %v: got %v %v, expected %v %v", pair[0], pair[1], both, ok, tc.both, tc.ok)
				}
			}
		})
	}
}

func TestSet(t *testing.T) {
	s := NewSet(Range{200, 10}, Range{100, 10}, Range{110, 5}, Range{105, 2}, Range{300, 0})
	if got := s.String(); got != "[100-115), [200-210)" {
		t.Fatalf("got %s", got)
	}
	if s.Len() != 25 || s.Empty() || !NewSet().Empty() {
		t.Fatalf("Len %d, Empty %v", s.Len(), s.Empty())
	}
	for name, tc := range map[string]struct {
		r  Range
		in bool
	}{
		"over two that were joined": {Range{105, 10}, true},
		"one ID too many above":     {Range{105, 11}, false},
		"one ID too many below":     {Range{99, 2}, false},
		"over the gap":              {Range{100, 110}, false},
		"empty":                     {Range{0, 0}, true},
	} {
		if got := s.Contains(tc.r); got != tc.in {
			t.Errorf("%s: Contains(%v) = %v", name, tc.r, got)
		}
	}
	if fit, ok := s.FirstFit(11); !ok || fit != (Range{100, 11}) {
		t.Errorf("FirstFit(11) = %v %v", fit, ok)
	}
	if _, ok := s.FirstFit(16); ok {
		t.Error("FirstFit(16) found what isn't there")
	}
	if _, ok := s.FirstFit(0); ok {
		t.Error("FirstFit(0) found something")
	}
}

func TestSetSubtract(t *testing.T) {
	s := NewSet(Range{100, 100})
	for name, tc := range map[string]struct{ o, want Set }{
		"nothing":      {NewSet(), s},
		"all":          {NewSet(Range{0, 1000}), NewSet()},
		"start":        {NewSet(Range{50, 60}), NewSet(Range{110, 90})},
		"end":          {NewSet(Range{190, 60}), NewSet(Range{100, 90})},
		"middle":       {NewSet(Range{120, 10}), NewSet(Range{100, 20}, Range{130, 70})},
		"several":      {NewSet(Range{100, 1}, Range{150, 1}, Range{199, 5}), NewSet(Range{101, 49}, Range{151, 48})},
		"beyond":       {NewSet(Range{200, 10}), s},
		"last IDs":     {NewSet(Range{150, Invalid - 150}), NewSet(Range{100, 50})},
		"more than it": {NewSet(Range{0, 101}, Range{199, 1}, Range{500, 1}), NewSet(Range{101, 98})},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.Subtract(tc.o); got.String() != tc.want.String() {
				t.Fatalf("got %v, expected %v", got, tc.want)
			}
		})
	}
	if s.ContainsSet(NewSet(Range{100, 1}, Range{200, 1})) || !s.ContainsSet(NewSet(Range{100, 1}, Range{199, 1})) {
		t.Error("ContainsSet is wrong at the end of the range")
	}
	if got := s.Union(NewSet(Range{200, 1})).Intersect(NewSet(Range{150, 500})); got.String() != "[150-201)" {
		t.Errorf("Union, Intersect: got %v", got)
	}
}

func TestParseExtent(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want Extent
		err  error
	}{
		"plain":             {"0:100000:65536", Extent{0, 100000, 65536}, nil},
		"last IDs":          {"0:4294967294:1", Extent{0, Invalid - 1, 1}, nil},
		"outer (uid_t)-1":   {"0:4294967295:1", Extent{}, ErrRange},
		"inner (uid_t)-1":   {"4294967295:0:1", Extent{}, ErrRange},
		"outer wraps":       {"0:4294967290:10", Extent{}, ErrRange},
		"inner wraps":       {"4294967290:0:10", Extent{}, ErrRange},
		"nothing":           {"0:0:0", Extent{}, ErrRange},
		"two fields":        {"0:100000", Extent{}, ErrSyntax},
		"four fields":       {"0:1:2:3", Extent{}, ErrSyntax},
		"sign":              {"0:+1:2", Extent{}, ErrSyntax},
		"negative":          {"0:-1:2", Extent{}, ErrSyntax},
		"space":             {"0: 1:2", Extent{}, ErrSyntax},
		"hex":               {"0:0x10:2", Extent{}, ErrSyntax},
		"octal":             {"0:010:2", Extent{}, ErrSyntax},
		"underscore":        {"0:1_000:2", Extent{}, ErrSyntax},
		"33 bits":           {"0:4294967296:1", Extent{}, ErrSyntax},
		"empty number":      {"0::1", Extent{}, ErrSyntax},
		"not ASCII":         {"0:١:1", Extent{}, ErrSyntax},
		"nothing at all":    {"", Extent{}, ErrSyntax},
		"trailing newline":  {"0:1:1\n", Extent{}, ErrSyntax},
		"kernel's, no good": {"0 1 1", Extent{}, ErrSyntax},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseExtent(tc.text)
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Fatalf("got %v %v, expected %v %v", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestMapValidate(t *testing.T) {
	many := make(Map, MaxExtents+1)
	for i := range many {
		many[i] = Extent{uint32(i), uint32(1000 + i), 1}
	}
	for name, tc := range map[string]struct {
		m    Map
		want []string // in the error; none: valid
	}{
		"one":               {Map{{0, 100000, 65536}}, nil},
		"any order":         {Map{{10, 100, 10}, {0, 200, 10}}, nil},
		"adjacent":          {Map{{0, 100, 10}, {10, 110, 10}}, nil},
		"empty":             {Map{}, []string{"empty"}},
		"nil":               {nil, []string{"empty"}},
		"340":               {many[:MaxExtents], nil},
		"341":               {many, []string{"341 extents"}},
		"inner twice":       {Map{{0, 100, 10}, {9, 200, 10}}, []string{"inner [9-10)"}},
		"outer twice":       {Map{{0, 100, 10}, {10, 109, 10}}, []string{"outer [109-110)"}},
		"both, all at once": {Map{{0, 100, 10}, {9, 109, 10}, {50, 0, 0}}, []string{"inner [9-10)", "outer [109-110)", "0 IDs from 50"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.m.Validate()
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q isn't in %q", want, err)
				}
			}
		})
	}
}

func TestMapTranslate(t *testing.T) {
	m := Map{{0, 1000, 1}, {1, 100000, 65535}, {Invalid - 1, 5, 1}}
	for inner, outer := range map[uint32]uint32{0: 1000, 1: 100000, 65535: 165534, Invalid - 1: 5} {
		if got, ok := m.ToOuter(inner); !ok || got != outer {
			t.Errorf("ToOuter(%d) = %d %v", inner, got, ok)
		}
		if got, ok := m.ToInner(outer); !ok || got != inner {
			t.Errorf("ToInner(%d) = %d %v", outer, got, ok)
		}
	}
	for _, inner := range []uint32{65536, Invalid, Invalid - 2} {
		if got, ok := m.ToOuter(inner); ok {
			t.Errorf("ToOuter(%d) = %d", inner, got)
		}
	}
	if _, ok := (Map)(nil).ToOuter(0); ok {
		t.Error("the empty map maps 0")
	}
	if _, ok := (Map)(nil).ToInner(0); ok {
		t.Error("the empty map maps to 0")
	}
}

func TestRootAs(t *testing.T) {
	for name, tc := range map[string]struct {
		uidMap string
		want   uint32
	}{
		"the host":                           {"         0          0 4294967295\n", 0},
		"a user's namespace":                 {"0 1000 1\n", Overflow},
		"a rootless engine's":                {"0 1000 1\n1 100000 65536\n", Overflow},
		"a container's":                      {"0 100000 65536\n", Overflow},
		"root mapped, with others":           {"0 0 65536\n65536 200000 10\n", 0},
		"root mapped to another ID":          {"0 1000 1\n5 0 1\n", 5},
		"another ID, beyond a container's":   {"0 100000 65536\n70000 0 1\n", 70000},
		"no map yet":                         {"", Overflow},
		"overflow mapped to one of the host": {"65534 1000 1\n", Overflow},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseMap(tc.uidMap)
			if err != nil {
				t.Fatal(err)
			}
			if got := RootAs(m); got != tc.want {
				t.Fatalf("got %d, expected %d", got, tc.want)
			}
		})
	}
}

func TestThroughInto(t *testing.T) {
	parent := Map{{0, 1000, 1}, {1, 200000, 100}, {101, 500000, 100}}
	for name, tc := range map[string]struct{ in, out Map }{
		"root":  {Map{{0, 0, 1}}, Map{{0, 1000, 1}}},
		"split": {Map{{0, 51, 100}}, Map{{0, 200050, 50}, {50, 500000, 50}}},
		"all":   {Map{{0, 0, 201}}, Map{{0, 1000, 1}, {1, 200000, 100}, {101, 500000, 100}}},
		"empty": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.in.Through(parent)
			if err != nil || !slices.Equal(got, tc.out) {
				t.Fatalf("Through: %v %v, expected %v", got, err, tc.out)
			}
			back, err := got.Into(parent)
			if err != nil || !back.Equal(tc.in) {
				t.Fatalf("Into: %v %v, expected %v", back, err, tc.in)
			}
		})
	}
	if got, err := (Map{{0, 150, 52}}).Through(parent); !errors.Is(err, ErrMap) || got != nil || !strings.Contains(err.Error(), "outer 201 ") {
		t.Errorf("beyond the parent: %v %v", got, err)
	}
	if got, err := (Map{{0, 999, 2}}).Into(parent); !errors.Is(err, ErrMap) || got != nil {
		t.Errorf("below the parent: %v %v", got, err)
	}
	initial := Map{{0, 0, Invalid}}
	if got, err := (Map{{0, 4000000000, 65536}}).Through(initial); err != nil || !got.Equal(Map{{0, 4000000000, 65536}}) {
		t.Errorf("the initial namespace isn't the identity: %v %v", got, err)
	}
}

func TestParseMap(t *testing.T) {
	m, err := ParseMap("         0       1000          1\n         1     100000      65536\n")
	if err != nil || m.String() != "0:1000:1,1:100000:65536" {
		t.Fatalf("got %v %v", m, err)
	}
	if m, err := ParseMap(""); err != nil || len(m) != 0 || m.String() != "nothing" {
		t.Fatalf("an unwritten uid_map: got %v %v", m, err)
	}
	if m, err := ParseMap("         0          0 4294967295\n"); err != nil || m.String() != "0:0:4294967295" {
		t.Fatalf("the initial namespace: got %v %v", m, err)
	}
	for name, text := range map[string]string{
		"newline alone": "\n", "words": "a b c\n", "line missing": "0 1 1\n\n5 5 5\n", "overlap": "0 1 2\n1 7 2\n", "extra": "0 1 2 3\n",
	} {
		if m, err := ParseMap(text); err == nil || m != nil {
			t.Errorf("%s: got %v %v", name, m, err)
		}
	}
}

func TestEqual(t *testing.T) {
	a := Map{{0, 100, 20}}
	if !a.Equal(Map{{10, 110, 10}, {0, 100, 10}}) {
		t.Error("a split map isn't equal")
	}
	for _, b := range []Map{nil, {{0, 100, 19}}, {{0, 101, 20}}, {{0, 100, 10}, {10, 111, 10}}} {
		if a.Equal(b) || b.Equal(a) {
			t.Errorf("%v equals %v", a, b)
		}
	}
}

func FuzzExtent(f *testing.F) {
	for _, seed := range []string{"0:100000:65536", "4294967294:0:1", "0:0:0", "::", "0:00:1", "1:2:3:4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseExtent(text)
		if err != nil {
			if e != (Extent{}) {
				t.Fatalf("%q: an error with a value, %v", text, e)
			}
			return
		}
		if e.String() != text {
			t.Fatalf("%q prints as %q", text, e)
		}
	})
}

func FuzzMap(f *testing.F) {
	f.Add("0 100000 65536\n", uint32(0))
	f.Add("0 1000 1\n1 100000 65535\n", uint32(65535))
	f.Add("4294967294 0 1\n", uint32(4294967295))
	f.Fuzz(func(t *testing.T, text string, id uint32) {
		m, err := ParseMap(text)
		if err != nil {
			if m != nil {
				t.Fatalf("%q: an error with a value, %v", text, m)
			}
			return
		}
		again, err := ParseMap(m.Kernel())
		if err != nil || !slices.Equal(m, again) {
			t.Fatalf("%q prints as %q, read as %v %v", text, m.Kernel(), again, err)
		}
		if outer, ok := m.ToOuter(id); ok {
			if inner, ok := m.ToInner(outer); !ok || inner != id {
				t.Fatalf("%v: %d -> %d -> %d %v", m, id, outer, inner, ok)
			}
			if !m.Outer().Contains(Range{outer, 1}) || !m.Inner().Contains(Range{id, 1}) {
				t.Fatalf("%v: %d -> %d isn't in its sets", m, id, outer)
			}
		}
		if m.Outer().Len() != m.Inner().Len() {
			t.Fatalf("%v: %d inner IDs, %d outer", m, m.Inner().Len(), m.Outer().Len())
		}
	})
}

func FuzzSet(f *testing.F) {
	f.Add(uint32(100), uint32(10), uint32(105), uint32(10), uint32(0), uint32(4294967295))
	f.Fuzz(func(t *testing.T, s1, c1, s2, c2, s3, c3 uint32) {
		valid := func(ranges ...Range) (out []Range) {
			for _, r := range ranges {
				if r.Validate() == nil {
					out = append(out, r)
				}
			}
			return out
		}
		a, b := NewSet(valid(Range{s1, c1}, Range{s2, c2})...), NewSet(valid(Range{s3, c3})...)
		both, left := a.Intersect(b), a.Subtract(b)
		if both.Len()+left.Len() != a.Len() || !both.Intersect(left).Empty() {
			t.Fatalf("%v splits by %v into %v and %v", a, b, both, left)
		}
		if got := both.Union(left); got.String() != a.String() {
			t.Fatalf("%v and %v join to %v, expected %v", both, left, got, a)
		}
	})
}

// Sets of many ranges, ID by ID.
func TestSetsOfMany(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	some := func() (Set, uint64) {
		var ranges []Range
		var bits uint64
		for range random.IntN(12) {
			start, count := random.Uint32N(60), 1+random.Uint32N(4)
			ranges = append(ranges, Range{start, count})
			for id := start; id < start+count; id++ {
				bits |= 1 << id
			}
		}
		return NewSet(ranges...), bits
	}
	bitsOf := func(s Set) (bits uint64) {
		last := uint64(0)
		for i, r := range s.Ranges() {
			if i > 0 && uint64(r.Start) <= last || r.Count == 0 {
				t.Fatalf("%v: not in order, or touching", s)
			}
			last = r.End()
			for id := r.Start; uint64(id) < r.End(); id++ {
				bits |= 1 << id
			}
		}
		return bits
	}
	for range 20000 {
		a, aBits := some()
		b, bBits := some()
		if got := bitsOf(a.Intersect(b)); got != aBits&bBits {
			t.Fatalf("%v and %v: both have %b, want %b", a, b, got, aBits&bBits)
		}
		if got := bitsOf(a.Subtract(b)); got != aBits&^bBits {
			t.Fatalf("%v without %v: %b, want %b", a, b, got, aBits&^bBits)
		}
		for id := range uint32(64) {
			if got, want := a.Contains(Range{id, 1}), aBits>>id&1 == 1; got != want {
				t.Fatalf("%v has %d: %v", a, id, got)
			}
			r := Range{id, 1 + id%5}
			if got, want := a.Contains(r), NewSet(r).Subtract(a).Empty(); got != want {
				t.Fatalf("%v has %v: %v", a, r, got)
			}
			if got, want := a.Touches(r), !NewSet(r).Intersect(a).Empty(); got != want {
				t.Fatalf("%v has some of %v: %v", a, r, got)
			}
		}
	}
}
