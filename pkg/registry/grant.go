// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// ErrNoGrant is wrapped by the error of [Book.Grant] when the book has no line
// for the holder from which anything can be granted.
var ErrNoGrant = errors.New("no line of the book grants anything")

// Holder is whoever asks, under every name that a line may give them.
type Holder struct {
	Names []string // login and decimal UID, or an orchestrator's name; the first is used in messages
	Own   *Own     // nil if the holder is root
}

// Own is the IDs that a caller who isn't root has already, and may therefore
// map beside those of their lines: one UID and one GID, counted on the host.
//
// Their GID by itself only where setgroups is denied: a member of a group could leave
// it, and so get at what is closed to the group (CVE-2018-7169; user_namespaces(7),
// "The /proc/pid/setgroups file"). Either the flags of the lines deny it, or
// the caller of [Grant.Permits] says so here. Beside GIDs of their lines it is as those
// lines say: who holds one without deny-setgroups can leave all groups without mapping their own.
type Own struct {
	UID             uint32
	GID             uint32
	SetgroupsDenied bool // "deny" will be written before gid_map, whatever the flags say
}

// Grant is what one holder may map, and what they must keep clear of.
type Grant struct {
	book   *Book
	host   Host
	holder Holder
	lines  []Line // the holder's that aren't reserved
	none   error  // why there is no line
}

// roomy is where a new line is proposed: what no known allocator takes unasked
// (see [Allocators]), except kubelet, and below the signed 32 bits that some
// programs stop at.
var roomy = [...]idmap.Range{
	{Start: 200000, Count: 524288 - 200000},
	{Start: 0x70000000, Count: 0x7ffe0000 - 0x70000000},
}

// Roomy is the ranges in which a new line is to be looked for first, best first:
// what no known allocator takes unasked, but kubelet (see [Allocators]).
func Roomy() []idmap.Range { return slices.Clone(roomy[:]) }

// Grant finds the holder's lines. It doesn't judge them: see [Grant.Permits].
// The error wraps [ErrNoGrant], and gives the command that adds a line.
func (b *Book) Grant(h Holder, host Host) (*Grant, error) {
	g := b.GrantOrOwn(h, host)
	if g.none != nil {
		return nil, fmt.Errorf("grant: %w", g.none)
	}
	return g, nil
}

// GrantOrOwn is [Book.Grant] for a holder who may do without a line: they have
// their own IDs still, which any user may map (see [Own]). What else is asked
// of such a grant is refused, with an error wrapping [ErrNoGrant].
func (b *Book) GrantOrOwn(h Holder, host Host) *Grant {
	all := b.find(func(owner []byte, _ idmap.Range) bool { return h.is(owner) })
	g := &Grant{book: b, host: host, holder: h, lines: slices.DeleteFunc(slices.Clone(all), func(l Line) bool { return l.Flags.Reserved })}
	switch {
	case len(g.lines) > 0:
	case len(h.Names) == 0:
		g.none = fmt.Errorf("%w: the holder has no name", ErrNoGrant)
	default:
		why := ""
		if len(all) > 0 {
			why = fmt.Sprintf(" (%s only reserves)", all[0].Where())
		}
		g.none = fmt.Errorf("%s: %w%s: add one: %s", strings.Join(h.Names, " or "), ErrNoGrant, why, addLine(h.Names[0]))
	}
	return g
}

// addLine is the command that gives an owner a line.
func addLine(owner string, flags ...string) string {
	return strings.Join(append([]string{"usernsctl add", rootfile.ShellQuote(owner)}, flags...), " ")
}

// is says whether a line's owner is the holder.
func (h Holder) is(owner []byte) bool {
	for _, name := range h.Names {
		if string(owner) == name {
			return true
		}
	}
	return false
}

// Lines is the holder's lines in book order, without those that only reserve.
func (g *Grant) Lines() []Line { return slices.Clone(g.lines) }

// First is the maps of one container of the holder's first line that isn't
// reserved: inner 0 and on, to the first of the line's IDs, as many as its size
// says. It is an error if the line is shorter than that, or there is none. The
// maps are still to be judged by [Grant.Permits].
func (g *Grant) First() (uids, gids idmap.Map, err error) {
	if g.none != nil {
		return nil, nil, fmt.Errorf("grant: %w", g.none)
	}
	line := g.lines[0]
	size := line.Flags.ContainerSize()
	if line.Range.Count < size {
		return nil, nil, g.tooShort(line, 0)
	}
	m := idmap.Map{{Inner: 0, Outer: line.Range.Start, Count: size}}
	return m, slices.Clone(m), nil
}
