// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// DefaultSize is how many IDs a container takes when its line has no size=N:
// the 16 bits of IDs that distributions use.
const DefaultSize = 65536

// Flags is the last field of a line. The zero Flags restrict nothing, give
// nothing and leave the size at [DefaultSize].
type Flags struct {
	DenySetgroups  bool
	NoNewPrivs     bool
	DenyNested     bool
	DenyPrivileged bool
	DenyHostNS     bool
	DenyDevices    bool
	Reserved       bool
	Owned          bool
	Shared         bool
	IdmapBinds     bool
	DropCaps       []string // capability names, sorted, each once
	Size           uint32   // IDs per container; 0 is DefaultSize
}

// flag is a word of the grammar. A flag with a value has no field to point at.
type flag struct {
	name  string
	field func(*Flags) *bool
}

const (
	flagDropCaps = "drop-caps"
	flagSize     = "size"
)

// FlagNames is the flags that a line may bear, but for those with a value.
func FlagNames() []string {
	var names []string
	for _, known := range flags {
		if known.field != nil {
			names = append(names, known.name)
		}
	}
	return names
}

// flags is every flag, in the order they are printed. A flag is added here in the
// same change that enforces it: a line must never promise what the runtime
// doesn't do.
var flags = [...]flag{
	{"deny-setgroups", func(f *Flags) *bool { return &f.DenySetgroups }},
	{"no-new-privs", func(f *Flags) *bool { return &f.NoNewPrivs }},
	{"deny-nested", func(f *Flags) *bool { return &f.DenyNested }},
	{"deny-privileged", func(f *Flags) *bool { return &f.DenyPrivileged }},
	{"deny-host-ns", func(f *Flags) *bool { return &f.DenyHostNS }},
	{"deny-devices", func(f *Flags) *bool { return &f.DenyDevices }},
	{flagDropCaps, nil},
	{"reserved", func(f *Flags) *bool { return &f.Reserved }},
	{"owned", func(f *Flags) *bool { return &f.Owned }},
	{"shared", func(f *Flags) *bool { return &f.Shared }},
	{flagSize, nil},
	{"idmap-binds", func(f *Flags) *bool { return &f.IdmapBinds }},
}

// ContainerSize is how many IDs a container of this grant takes.
func (f Flags) ContainerSize() uint32 {
	if f.Size == 0 {
		return DefaultSize
	}
	return f.Size
}

// String is the flags in canonical order, separated by commas; no flags are the
// empty text. [ParseFlags] reads it back to equal Flags.
func (f Flags) String() string {
	var parts []string
	for _, known := range flags {
		switch {
		case known.field != nil && *known.field(&f):
			parts = append(parts, known.name)
		case known.name == flagDropCaps && len(f.DropCaps) > 0:
			parts = append(parts, flagDropCaps+"="+strings.Join(f.DropCaps, "+"))
		case known.name == flagSize && f.Size != 0:
			parts = append(parts, flagSize+"="+strconv.FormatUint(uint64(f.Size), 10))
		}
	}
	return strings.Join(parts, ",")
}

// Union is the flags of a map that touches lines with f and lines with o. What
// restricts holds if either says so. What gives (Owned, Shared, IdmapBinds)
// holds only if both do, so the zero Flags aren't neutral: see [FlagsOf].
// Size is the smallest that is given; a line that gives none has no say.
func (f Flags) Union(o Flags) Flags {
	u := Flags{
		DenySetgroups:  f.DenySetgroups || o.DenySetgroups,
		NoNewPrivs:     f.NoNewPrivs || o.NoNewPrivs,
		DenyNested:     f.DenyNested || o.DenyNested,
		DenyPrivileged: f.DenyPrivileged || o.DenyPrivileged,
		DenyHostNS:     f.DenyHostNS || o.DenyHostNS,
		DenyDevices:    f.DenyDevices || o.DenyDevices,
		Reserved:       f.Reserved || o.Reserved,
		Owned:          f.Owned && o.Owned,
		Shared:         f.Shared && o.Shared,
		IdmapBinds:     f.IdmapBinds && o.IdmapBinds,
	}
	if len(f.DropCaps)+len(o.DropCaps) > 0 {
		u.DropCaps = slices.Concat(f.DropCaps, o.DropCaps)
		slices.Sort(u.DropCaps)
		u.DropCaps = slices.Compact(u.DropCaps)
	}
	switch {
	case f.Size == 0 || o.Size == 0:
		u.Size = max(f.Size, o.Size)
	default:
		u.Size = min(f.Size, o.Size)
	}
	return u
}

// FlagsOf is the [Flags.Union] of all the lines; of none it is the zero Flags.
func FlagsOf(lines []Line) Flags {
	if len(lines) == 0 {
		return Flags{}
	}
	flags := lines[0].Flags
	for _, line := range lines[1:] {
		flags = flags.Union(line.Flags)
	}
	return flags
}

// ParseFlags reads flags separated by commas, in any order; the empty text is
// no flags. The error joins one for every bad flag: unknown, given twice, with
// a value it doesn't take or without the one it needs.
func ParseFlags(text string) (Flags, error) {
	f, errs := parseFlags(text)
	if len(errs) > 0 {
		return Flags{}, errors.Join(errs...)
	}
	return f, nil
}

func parseFlags(text string) (Flags, []error) {
	if text == "" {
		return Flags{}, nil
	}
	var f Flags
	var errs []error
	var seen [len(flags)]bool
	for word := range strings.SplitSeq(text, ",") {
		name, value, valued := strings.Cut(word, "=")
		i := slices.IndexFunc(flags[:], func(known flag) bool { return known.name == name })
		switch {
		case i < 0:
			errs = append(errs, unknownFlag(word, name))
			continue
		case seen[i]:
			errs = append(errs, fmt.Errorf("flag %q: given twice: keep one", name))
			continue
		}
		seen[i] = true
		if err := f.set(flags[i], value, valued); err != nil {
			errs = append(errs, fmt.Errorf("flag %q: %w", word, err))
		}
	}
	return f, errs
}

func (f *Flags) set(known flag, value string, valued bool) error {
	switch {
	case known.field != nil && valued:
		return fmt.Errorf("takes no value: write %s", known.name)
	case known.field != nil:
		*known.field(f) = true
		return nil
	case known.name == flagSize:
		n, err := idmap.ParseID(value)
		if err != nil || n == 0 || n == idmap.Invalid {
			return fmt.Errorf("expected a number of IDs from 1 to %d, such as size=%d", idmap.Invalid-1, DefaultSize)
		}
		f.Size = n
		return nil
	}
	caps, err := parseCaps(value)
	f.DropCaps = caps
	return err
}

func unknownFlag(word, name string) error {
	if word == "" {
		return errors.New("flags: one of them is empty: remove the comma beside it")
	}
	names := make([]string, len(flags))
	for i, known := range flags {
		names[i] = known.name
	}
	if near, ok := Nearest(strings.ToLower(strings.Trim(name, " \t")), names); ok {
		return fmt.Errorf("flag %q: unknown: did you mean %s?", word, near)
	}
	return fmt.Errorf("flag %q: unknown: expected one of %s", word, strings.Join(names, ", "))
}

// BrokenByOwner is those of the flags that can't hold in a user namespace that the
// holder owns, as the book spells them; "" is that all can. Whoever owns one has every
// capability in it (user_namespaces(7)), and undoes what restricts: all but
// deny-setgroups, which nobody can take back.
func (f Flags) BrokenByOwner() string {
	f.DenySetgroups = false
	return f.Restricting()
}
