// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Capabilities as setcap(8) writes cap_net_raw+ep, and as the kernel does inside of a user
// namespace whose root is 100000 outside.
const (
	capsV1   = "01000001 00200000 00000000"
	capsV2   = "01000002 00200000 00000000 00000000 00000000"
	capsV3At = "01000003 00200000 00000000 00000000 00000000 "
)

func TestShiftCaps(t *testing.T) {
	m := idmap.Map{{Inner: 0, Outer: 100000, Count: 10}, {Inner: 10, Outer: 0, Count: 1}}
	for _, tc := range []struct {
		name, in        string
		host, container string // what it becomes; "error: ..."
	}{
		{"version 1", capsV1, capsV3At + "a0860100", capsV1},
		{"version 2", capsV2, capsV3At + "a0860100", capsV2},
		{"version 3 of the outer root", capsV3At + "a0860100", "error: rootid of security.capability 100000: not in the map", capsV2},
		{"version 3 of a namespace within", capsV3At + "05000000", capsV3At + "a5860100", "error: rootid of security.capability 5: not in the map, which holds [0-1), [100000-100010) on the host"},
		{"version 3 of one within on the host", capsV3At + "a5860100", "error: not in the map", capsV3At + "05000000"},
		{"version 3 of root itself", capsV3At + "00000000", capsV3At + "a0860100", capsV3At + "0a000000"},
		{"version 3 of what is host root", capsV3At + "0a000000", capsV2, "error: not in the map"},
		{"nothing", "", "error: of 0 bytes: expected 12, 20 or 24", "error: of 0 bytes"},
		{"no version", "010000", "error: of 3 bytes", "error: of 3 bytes"},
		{"version 0", strings.Replace(capsV2, "01000002", "01000000", 1), "error: of version 0: expected 1, 2 or 3", "error: of version 0"},
		{"version 4", strings.Replace(capsV2, "01000002", "01000004", 1), "error: of version 4", "error: of version 4"},
		{"version 2 cut", capsV2[:len(capsV2)-2], "error: of version 2 with 19 bytes: expected 20", "error: with 19 bytes"},
		{"version 2 and more", capsV2 + "00", "error: with 21 bytes", "error: with 21 bytes"},
		{"version 3 cut", capsV2[:7] + "3" + capsV2[8:], "error: of version 3 with 20 bytes: expected 24", "error: of version 3 with 20 bytes"},
		{"version 1 as long as 2", strings.Replace(capsV2, "01000002", "01000001", 1), "error: of version 1 with 20 bytes: expected 12", "error: of version 1 with 20"},
		{"version 3 of nobody", capsV3At + "ffffffff", "error: expected an ID from 0", "error: expected an ID from 0"},
	} {
		in, err := hex.DecodeString(strings.ReplaceAll(tc.in, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		before := string(in)
		for toContainer, want := range map[bool]string{false: tc.host, true: tc.container} {
			s := Shift{Map: m, ToContainer: toContainer}
			got, err := s.xattr(xattrCaps, in)
			if text, bad := strings.CutPrefix(want, "error: "); bad {
				wantError(t, err, text)
				continue
			}
			if err != nil || hex.EncodeToString(got) != strings.ReplaceAll(want, " ", "") {
				t.Errorf("%s, to the container %t: %x, %v: expected %s", tc.name, toContainer, got, err, want)
			}
		}
		if string(in) != before {
			t.Errorf("%s: what came in was changed", tc.name)
		}
	}
	// A map that leaves root as it is leaves capabilities as they are.
	same := Shift{Map: idmap.Map{{Inner: 0, Outer: 0, Count: 1}}}
	in, _ := hex.DecodeString(strings.ReplaceAll(capsV2, " ", ""))
	if got, err := same.xattr(xattrCaps, in); err != nil || string(got) != string(in) {
		t.Errorf("the same root: %x, %v", got, err)
	}
	squashed := Shift{Map: idmap.Map{{Inner: 65534, Outer: 5, Count: 1}}, Squash: true}
	if got, err := squashed.xattr(xattrCaps, in); err != nil || hex.EncodeToString(got) != strings.ReplaceAll(capsV3At+"05000000", " ", "") {
		t.Errorf("squashed: %x, %v", got, err)
	}
}
