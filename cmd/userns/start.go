// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// start is what the caller gave us.
type start struct {
	name string   // argv[0], without directories; never empty
	args []string // without it
	// environ is for the program that is executed in the end. Nothing else looks at it.
	environ []string
}

// harden makes the process safe from who called it, before anything else is done.
// Closed descriptors 0 to 2 need nothing: Go opens /dev/null there before main, or
// ends the process.
//
// What can't be undone is that Go's runtime has read GODEBUG, GOGC and their like
// already: they make it slow, or have it write about itself to standard error, which is the caller's.
func harden(argv, environ []string) (start, error) {
	s := start{name: programName}
	if len(argv) > 0 {
		s.args = argv[1:]
		if name := argv[0][strings.LastIndexByte(argv[0], '/')+1:]; name != "" {
			s.name = name
		}
	}
	// No program gets what the caller has left open above 2. It isn't closed: Go's
	// runtime may have a descriptor of its own there already (a timer is enough), and ends the process
	// when it loses it.
	const last = 1<<32 - 1
	if err := unix.CloseRange(3, last, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return s, os.NewSyscallError("close_range", err)
	}
	// Who is as the caller is can neither trace this process, nor read its memory and
	// descriptors, nor get a core of it (PR_SET_DUMPABLE(2const)). A gain of
	// capabilities has seen to that before, unless fs.suid_dumpable is 1.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return s, os.NewSyscallError("prctl(PR_SET_DUMPABLE)", err)
	}
	// Go has written over this one in a process that gained capabilities. What it was
	// could be read from /proc only by being dumpable.
	s.environ = slices.DeleteFunc(environ, func(v string) bool { return v == "GOTRACEBACK=none" })
	os.Clearenv()
	// Programs get the limit that the caller has set.
	linux.RestoreFileLimit()
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return s, s.twoUsers()
	}
	return s, nil
}

// twoUsers is why a process whose effective IDs aren't the real ones is refused: which of the two
// asks could be read both ways.
func (s start) twoUsers() error {
	name, capabilities := programName, "cap_setuid,cap_setgid"
	if m := idMapperOf(s.name); m != nil {
		name, capabilities = m.name, "cap_set"+m.id
	}
	// In doubt it is the file: that is what root has to mend.
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err == nil && st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return fmt.Errorf("it is called with the real IDs %d:%d and the effective ones %d:%d, as by a setuid program: call it as one user: setpriv --reuid --regid",
			os.Getuid(), os.Getgid(), os.Geteuid(), os.Getegid())
	}
	return fmt.Errorf("%s is installed setuid or setgid, which would lend its owner's privileges to every caller: "+
		"run `chmod u-s,g-s` on it, and then `setcap %s=p`", name, capabilities)
}

// variable is a variable of the caller's environment, for what is done as the caller.
func (s start) variable(name, missing string) string {
	for _, v := range s.environ {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return missing
}
