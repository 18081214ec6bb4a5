// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"slices"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// ParseSubID reads a line of subuid(5) or subgid(5), and gives each range that some reader
// makes of it, cut to what IDs there are: programs in Go take the numbers for decimal, and
// shadow, by strtoul(3), 0200000 for octal, 0x20000 for hexadecimal, and -N for 2^64-N. shadow
// doesn't look at what comes behind a third colon. Without ranges it is an entry to nobody.
// alike says that all readers make the same of it.
func ParseSubID(line string) (owner string, ranges []idmap.Range, alike bool) {
	field := strings.Split(line, ":")
	if len(field) < 3 || field[0] == "" {
		return "", nil, false
	}
	for _, base := range []int{10, 0} {
		from, ok := subIDNumber(field[1], base)
		n, ok2 := subIDNumber(field[2], base)
		if !ok || !ok2 || n == 0 || from >= uint64(idmap.Invalid) {
			continue
		}
		r := idmap.Range{Start: uint32(from), Count: uint32(min(n, uint64(idmap.Invalid)-from))}
		if !slices.Contains(ranges, r) {
			ranges = append(ranges, r)
		}
	}
	start, err := idmap.ParseID(field[1])
	count, err2 := idmap.ParseID(field[2])
	alike = len(field) == 3 && err == nil && err2 == nil && idmap.Range{Start: start, Count: count}.Validate() == nil
	return field[0], ranges, alike
}

// subIDNumber is a number as strtoul(3) reads it in the base, of which 0 says that the number's
// beginning has it. Spaces behind it don't count, which only some readers accept.
func subIDNumber(text string, base int) (uint64, bool) {
	text = strings.TrimSpace(text)
	digits, minus := strings.CutPrefix(text, "-")
	if !minus {
		digits = strings.TrimPrefix(text, "+")
	}
	if base == 0 {
		base = 10
		if len(digits) > 1 && digits[0] == '0' {
			base = 8
			if at, ok := map[byte]int{'x': 16, 'X': 16, 'b': 2, 'B': 2}[digits[1]]; ok { // binary since C23
				base, digits = at, digits[2:]
			}
		}
	}
	if strings.ContainsAny(digits, "+-") {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if minus {
		n = -n // modulo 2^64
	}
	return n, err == nil
}

// Restricting is those of the flags that take privilege away, as the book spells them; ""
// is that none does. Who hands out the IDs of a line by other means than this runtime, such
// as /etc/subuid, hands them out without these. A flag that isn't known here as one
// that doesn't restrict is taken for one that does.
func (f Flags) Restricting() string {
	f.Reserved, f.Owned, f.Shared, f.IdmapBinds, f.Size = false, false, false, false, 0
	return f.String()
}
