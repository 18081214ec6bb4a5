// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"slices"
	"testing"
)

func TestHidingAs(t *testing.T) {
	for name, tc := range map[string]struct{ options, hosts, want []string }{
		"nothing hidden":       {nil, []string{"rw"}, nil},
		"nothing, and asked":   {[]string{"hidepid=0x2"}, []string{"rw"}, []string{"hidepid=0x2"}},
		"as the host":          {nil, []string{"rw", "gid=5", "hidepid=invisible"}, []string{"hidepid=invisible"}},
		"as kernels before":    {[]string{"subset=pid"}, []string{"rw", "hidepid=1"}, []string{"subset=pid", "hidepid=noaccess"}},
		"asked for less":       {[]string{"hidepid=1"}, []string{"hidepid=invisible"}, []string{"hidepid=1", "hidepid=invisible"}},
		"asked for as much":    {[]string{"hidepid=2"}, []string{"hidepid=invisible"}, []string{"hidepid=2"}},
		"asked for more":       {[]string{"hidepid=ptraceable"}, []string{"hidepid=invisible"}, []string{"hidepid=ptraceable"}},
		"the last one counts":  {[]string{"hidepid=2", "hidepid=0"}, []string{"hidepid=invisible"}, []string{"hidepid=2", "hidepid=0", "hidepid=invisible"}},
		"the kernel's to read": {[]string{"hidepid=many"}, []string{"hidepid=noaccess"}, []string{"hidepid=many", "hidepid=noaccess"}},
	} {
		got, err := hidingAs(tc.options, tc.hosts)
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q %v, expected %q", name, got, err, tc.want)
		}
	}
	if got, err := hidingAs(nil, []string{"hidepid=8"}); err == nil {
		t.Errorf("a value that isn't known: got %q", got)
	}
}
