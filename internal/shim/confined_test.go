// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestConfinedReports(t *testing.T) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN", "CAP_SYS_TIME", "CAP_SYSLOG"}}}}
	const of = ": had over what is the container's alone, while the kernel asks for the like in the host's user namespace"
	for name, tc := range map[string]struct{ dropped, want []string }{
		"had":             {nil, []string{"CAP_SYSLOG, CAP_SYS_TIME" + of}},
		"one is dropped":  {[]string{"CAP_SYSLOG"}, []string{"CAP_SYS_TIME" + of}},
		"all are dropped": {[]string{"CAP_SYSLOG", "CAP_SYS_TIME"}, nil},
	} {
		if got := (confined{}).reports(spec, tc.dropped); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, expected %q", name, got, tc.want)
		}
	}
}
