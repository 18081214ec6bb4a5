// SPDX-License-Identifier: Apache-2.0

package census

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Release is the version of a kernel.
type Release struct {
	Major, Minor int
	Text         string // all of it: "6.1.0-18-amd64"
}

// KernelRelease is that of the running one (uname(2)).
func KernelRelease() (Release, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Release{}, os.NewSyscallError("uname", err)
	}
	return ParseRelease(unix.ByteSliceToString(name.Release[:]))
}

// ParseRelease reads what uname(2) gives. What a distribution has carried back into an
// older kernel doesn't show in it.
func ParseRelease(text string) (Release, error) {
	first, rest, _ := strings.Cut(text, ".")
	// The second may end in anything: 6.12-rc3.
	if i := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		rest = rest[:i]
	}
	major, err := strconv.ParseUint(first, 10, 16)
	minor, err2 := strconv.ParseUint(rest, 10, 16)
	if err == nil && err2 == nil {
		return Release{int(major), int(minor), text}, nil
	}
	return Release{}, fmt.Errorf("kernel release %q: expected two numbers, as in 6.1.0", text)
}

// AtLeast says whether it is major.minor or later.
func (r Release) AtLeast(major, minor int) bool {
	return r.Major > major || r.Major == major && r.Minor >= minor
}
