// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxExtents is how many extents the kernel takes in one map (since Linux 4.15;
// user_namespaces(7), "Defining user and group ID mappings").
const MaxExtents = 340

var (
	// ErrSyntax is wrapped by every error about text that isn't an extent.
	ErrSyntax = errors.New("not a mapping")
	// ErrMap is wrapped by every error about extents that can't be one map:
	// none, too many, or an ID mapped twice.
	ErrMap = errors.New("impossible map")
)

// Extent maps the Count IDs from Inner inside a user namespace to the Count
// IDs from Outer outside of it: one line of /proc/PID/uid_map.
type Extent struct {
	Inner uint32
	Outer uint32
	Count uint32
}

// InnerRange is the extent's IDs inside the namespace.
func (e Extent) InnerRange() Range { return Range{e.Inner, e.Count} }

// OuterRange is the extent's IDs outside the namespace.
func (e Extent) OuterRange() Range { return Range{e.Outer, e.Count} }

// Validate refuses, with [ErrRange], an extent that is empty or reaches
// [Invalid] on either side.
func (e Extent) Validate() error {
	if err := e.InnerRange().Validate(); err != nil {
		return fmt.Errorf("inner: %w", err)
	}
	if err := e.OuterRange().Validate(); err != nil {
		return fmt.Errorf("outer: %w", err)
	}
	return nil
}

// String is "inner:outer:count", which [ParseExtent] reads.
func (e Extent) String() string { return fmt.Sprintf("%d:%d:%d", e.Inner, e.Outer, e.Count) }

// ParseExtent reads "inner:outer:count", three decimal numbers without signs,
// spaces or leading zeros. Errors wrap [ErrSyntax] or [ErrRange].
func ParseExtent(text string) (Extent, error) {
	return parseExtent(text, strings.Split(text, ":"))
}

func parseExtent(text string, fields []string) (Extent, error) {
	if len(fields) != 3 {
		return Extent{}, fmt.Errorf("%w: %q: expected INNER:OUTER:COUNT", ErrSyntax, text)
	}
	var numbers [3]uint32
	for i, name := range []string{"inner", "outer", "count"} {
		n, err := ParseID(fields[i])
		if err != nil {
			return Extent{}, fmt.Errorf("%q: %s: %w", text, name, err)
		}
		numbers[i] = n
	}
	e := Extent{Inner: numbers[0], Outer: numbers[1], Count: numbers[2]}
	if err := e.Validate(); err != nil {
		return Extent{}, fmt.Errorf("%q: %w", text, err)
	}
	return e, nil
}

// ParseID reads one decimal number of 32 bits, as it stands in a map or in the
// book: digits alone, and no leading zero, which other tools read as octal.
// Errors wrap [ErrSyntax].
func ParseID(text string) (uint32, error) {
	digits := text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if !digits || (len(text) > 1 && text[0] == '0') {
		return 0, fmt.Errorf("%w: %q: expected a decimal number", ErrSyntax, text)
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: %q: expected a number of at most 32 bits", ErrSyntax, text)
	}
	return uint32(n), nil
}

// Map is the extents of one uid_map or gid_map, in the order they were given.
// The empty Map maps nothing.
type Map []Extent

// Host is the map of the host's own user namespace, the initial one.
func Host() Map { return Map{{Inner: 0, Outer: 0, Count: Invalid}} }

// ParseMap reads the text of /proc/PID/uid_map: a line of three numbers for
// every extent. The empty text is the empty Map. Errors wrap [ErrSyntax],
// [ErrRange] or [ErrMap] and name the line.
//
// The kernel prints the map of the initial namespace as 4294967295 IDs from 0,
// which is a valid extent: (uid_t)-1 isn't in it.
func ParseMap(text string) (Map, error) {
	if text == "" {
		return nil, nil
	}
	var m Map
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		e, err := parseExtent(line, strings.Fields(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		m = append(m, e)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

// Validate refuses what the kernel would: no extents, more than [MaxExtents],
// an extent that is empty or reaches [Invalid], an ID mapped twice on either
// side. All of a map's overlaps are in the one error. Errors wrap [ErrMap] or
// [ErrRange].
func (m Map) Validate() error {
	if len(m) == 0 {
		return fmt.Errorf("%w: it is empty, and would map nothing", ErrMap)
	}
	if len(m) > MaxExtents {
		return fmt.Errorf("%w: %d extents: the kernel takes %d", ErrMap, len(m), MaxExtents)
	}
	var errs []error
	for i, e := range m {
		if err := e.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("extent %s: %w", e, err))
		}
		for _, before := range m[:i] {
			if both, ok := e.InnerRange().Intersect(before.InnerRange()); ok {
				errs = append(errs, fmt.Errorf("%w: extents %s and %s both map inner %s", ErrMap, before, e, both))
			}
			if both, ok := e.OuterRange().Intersect(before.OuterRange()); ok {
				errs = append(errs, fmt.Errorf("%w: extents %s and %s both map to outer %s", ErrMap, before, e, both))
			}
		}
	}
	return errors.Join(errs...)
}

// ToOuter translates an ID inside the namespace to the ID outside; ok is false
// when it isn't mapped.
func (m Map) ToOuter(inner uint32) (outer uint32, ok bool) {
	for _, e := range m {
		if e.InnerRange().Contains(inner) {
			return e.Outer + (inner - e.Inner), true
		}
	}
	return 0, false
}

// ToInner translates an ID outside the namespace to the ID inside; ok is false
// when none is mapped to it.
func (m Map) ToInner(outer uint32) (inner uint32, ok bool) {
	for _, e := range m {
		if e.OuterRange().Contains(outer) {
			return e.Inner + (outer - e.Outer), true
		}
	}
	return 0, false
}

// RootAs is the ID as which the files of host root show in a user namespace
// with this map: the one that 0 outside is mapped to, or [Overflow] where it
// isn't mapped. Then 0 inside isn't host root but whoever made the namespace,
// so never both are right. Everybody else who isn't mapped shows as [Overflow]
// too, as does whom the map gives that ID: nothing tells them apart.
//
// A map is counted in the namespace's parent. Where that isn't the host, root
// of the parent is taken for root of the host.
func RootAs(m Map) uint32 {
	if inner, ok := m.ToInner(0); ok {
		return inner
	}
	return Overflow
}

// Inner is the IDs inside the namespace that the map covers.
func (m Map) Inner() Set { return m.set(Extent.InnerRange) }

// Outer is the IDs outside the namespace that the map covers.
func (m Map) Outer() Set { return m.set(Extent.OuterRange) }

func (m Map) set(side func(Extent) Range) Set {
	ranges := make([]Range, len(m))
	for i, e := range m {
		ranges[i] = side(e)
	}
	return NewSet(ranges...)
}

// Through is m with its outer IDs, which are counted in a namespace, replaced
// by what parent, that namespace's own map, makes of them: the same inner IDs
// counted one namespace further out. An extent that parent splits becomes
// several. An outer ID that parent doesn't map is an error wrapping [ErrMap]
// that names it.
func (m Map) Through(parent Map) (Map, error) {
	return m.translate(parent, Extent.InnerRange, func(e Extent) uint32 { return e.Outer })
}

// Into is the way back from [Map.Through]: m counted outside of a namespace is
// counted inside of it, whose map is parent. Errors as Through.
func (m Map) Into(parent Map) (Map, error) {
	return m.translate(parent, Extent.OuterRange, func(e Extent) uint32 { return e.Inner })
}

// translate replaces the outer side of every extent: from is the side of
// parent's extents that the IDs are counted on, to the start of the other.
func (m Map) translate(parent Map, from func(Extent) Range, to func(Extent) uint32) (Map, error) {
	var out Map
	for _, e := range m {
		for next := e; next.Count > 0; {
			i := slices.IndexFunc(parent, func(p Extent) bool { return from(p).Contains(next.Outer) })
			if i < 0 {
				return nil, fmt.Errorf("%w: extent %s: outer %d isn't mapped in the namespace it is counted in", ErrMap, e, next.Outer)
			}
			side := from(parent[i])
			count := uint32(min(side.End()-uint64(next.Outer), uint64(next.Count)))
			out = append(out, Extent{next.Inner, to(parent[i]) + (next.Outer - side.Start), count})
			next.Count -= count
			if next.Count > 0 {
				next.Inner += count
				next.Outer += count
			}
		}
	}
	return out, nil
}

// Equal says whether both maps translate every ID alike, whatever the order of
// their extents and however they are split.
func (m Map) Equal(o Map) bool { return slices.Equal(m.merged(), o.merged()) }

// merged is the map sorted by inner ID, with extents that continue each other
// made one.
func (m Map) merged() Map {
	sorted := slices.Clone(m)
	slices.SortFunc(sorted, func(a, b Extent) int {
		switch {
		case a.Inner < b.Inner:
			return -1
		case a.Inner > b.Inner:
			return 1
		}
		return 0
	})
	var out Map
	for _, e := range sorted {
		last := len(out) - 1
		if last >= 0 && out[last].InnerRange().End() == uint64(e.Inner) && out[last].OuterRange().End() == uint64(e.Outer) {
			out[last].Count += e.Count
			continue
		}
		out = append(out, e)
	}
	return out
}

// Kernel is the text to write to /proc/PID/uid_map, which [ParseMap] reads: a
// line of three numbers for every extent.
func (m Map) Kernel() string {
	var b strings.Builder
	for _, e := range m {
		fmt.Fprintf(&b, "%d %d %d\n", e.Inner, e.Outer, e.Count)
	}
	return b.String()
}

// String is the extents as [ParseExtent] reads them, separated by commas; the
// empty Map is "nothing".
func (m Map) String() string {
	if len(m) == 0 {
		return "nothing"
	}
	parts := make([]string, len(m))
	for i, e := range m {
		parts[i] = e.String()
	}
	return strings.Join(parts, ",")
}
