// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// flagsOf is the values of those flags of a command line that known has, by what known
// calls them: --name VALUE, --name=VALUE, with one dash or two.
func flagsOf(args []string, known map[string]string) map[string][]string {
	flags := map[string][]string{}
	for i := 0; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			continue
		}
		word, value, given := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		name, ok := known[word]
		if !ok {
			continue
		}
		if !given && i+1 < len(args) {
			i++
			value = args[i]
		}
		flags[name] = append(flags[name], value)
	}
	return flags
}

// ownerByName is the owner that a link to userns-runtime names: userns-runtime-OWNER.
func ownerByName(path string) string {
	owner, _ := strings.CutPrefix(filepath.Base(path), "userns-runtime-")
	if owner == filepath.Base(path) {
		return ""
	}
	return owner
}

func lastOf(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// daemon is a running process.
type daemon struct {
	args []string
	path []string // where it looks for programs, by PATH of its environment; nil if that isn't known
}

// daemons is root's running processes with this name that belong to
// the host itself: one inside a container has files of its own, and isn't meant; nor is
// what somebody else calls so.
func (h lookHost) daemons(name string) []daemon {
	entries, err := os.ReadDir(h.path("/proc"))
	if err != nil {
		return nil
	}
	var all []daemon
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join(h.path("/proc"), e.Name())
		// What ends meanwhile isn't running.
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil || st.Uid != 0 {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(text) == 0 {
			continue
		}
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if filepath.Base(args[0]) != name {
			continue
		}
		if status, err := os.ReadFile(filepath.Join(dir, "status")); err != nil || !isOwnPIDs(string(status)) {
			continue
		}
		if slices.ContainsFunc(all, func(other daemon) bool { return slices.Equal(other.args, args) }) {
			continue
		}
		d := daemon{args: args}
		if text, err := os.ReadFile(filepath.Join(dir, "environ")); err == nil { // root may
			for variable := range strings.SplitSeq(string(text), "\x00") {
				if path, ok := strings.CutPrefix(variable, "PATH="); ok {
					d.path = slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool { return !filepath.IsAbs(dir) })
				}
			}
		}
		all = append(all, d)
	}
	return all
}

// isOwnPIDs says whether a process, by its /proc/PID/status, is in the PID namespace of
// that /proc and in none below (proc_pid_status(5), NSpid).
func isOwnPIDs(status string) bool {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(rest)) == 1
		}
	}
	return true
}
