// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// capNames is how setcap(8) spells the capabilities that maps need.
var capNames = map[int]string{unix.CAP_SETUID: "cap_setuid", unix.CAP_SETGID: "cap_setgid"}

// hint is why the kernel wouldn't take a map, and what mends it; "" if it isn't
// known.
func (s side) hint(err error) string {
	if !errors.Is(err, unix.EPERM) {
		return ""
	}
	if have, err := linux.Permitted(); err != nil || have&linux.Caps(s.capability) != 0 {
		return ": an outer ID isn't mapped in the caller's own user namespace"
	}
	return ": " + WithoutCapability(s.capability)
}

// WithoutCapability says why this program hasn't got CAP_SETUID or CAP_SETGID by
// the capabilities of its file, and what mends it.
func WithoutCapability(capability int) string {
	name := capNames[capability]
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		program = "this program"
	}
	without := program + " runs without " + name
	if is, err := linux.NoNewPrivs(); err == nil && is {
		return without + ", since its caller has no_new_privs set, which nothing can lift: call it from a process without (systemd: NoNewPrivileges=, containers: no-new-privileges)"
	}
	if is, err := linux.NoSuid("/proc/self/exe"); err == nil && is {
		return without + ", since it lies on a mount with the option nosuid: install it on one without"
	}
	if size, err := unix.Getxattr("/proc/self/exe", "security.capability", nil); err != nil || size == 0 {
		return fmt.Sprintf("%s: its file has no capabilities: have root run: setcap %s=p %s", without, name, program)
	}
	if in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0); err == nil && in == 0 {
		return without + ", which isn't in its caller's bounding set: call it from a process that hasn't dropped it (capsh --print)"
	}
	return fmt.Sprintf("%s: its file has other capabilities, or its caller is being traced or shares its working directory with another process (clone(2), CLONE_FS): see getcap %s", without, program)
}
