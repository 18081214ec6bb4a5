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

// process is an engine that runs.
type process struct {
	pid     int
	program string   // as it was called
	args    []string // behind that
	dir     string   // /proc/PID
}

// processes is those with this name that belong to uid, and of which own says, by their directory
// in /proc, that they are the host's: an engine in a container has files of its own. Anybody may
// call a process of theirs dockerd. What ends meanwhile, or can't be looked at, isn't running.
func processes(proc string, uid uint32, name string, own func(dir string) bool) (found []process) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil || st.Uid != uid {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(text) == 0 {
			continue
		}
		words := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if filepath.Base(words[0]) == name && own(dir) {
			found = append(found, process{pid, words[0], words[1:], dir})
		}
	}
	slices.SortFunc(found, func(a, b process) int { return a.pid - b.pid })
	return found
}

// path is where it looks for programs, by PATH of its environment, which root may read; nil if that
// isn't known.
func (p process) path() []string {
	text, err := os.ReadFile(filepath.Join(p.dir, "environ"))
	if err != nil {
		return nil
	}
	for variable := range strings.SplitSeq(string(text), "\x00") {
		if list, ok := strings.CutPrefix(variable, "PATH="); ok {
			return slices.DeleteFunc(filepath.SplitList(list), func(dir string) bool { return !filepath.IsAbs(dir) })
		}
	}
	return nil
}

// running is the processes of root's by that name that have the same root directory, for root to ask.
func (h Host) running(name string) []process {
	here, err := os.Stat(h.path("/"))
	if err != nil {
		return nil
	}
	return processes(h.path("/proc"), h.UID, name, func(dir string) bool {
		there, err := os.Stat(dir + "/root/")
		return err == nil && os.SameFile(here, there)
	})
}

// daemons is the processes of root's by that name that are in no PID namespace of their own, which
// everybody can see; of those that were called alike, one.
func (h lookHost) daemons(name string) []process {
	var all []process
	for _, p := range processes(h.path("/proc"), 0, name, func(dir string) bool {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		return err == nil && isOwnPIDs(string(status))
	}) {
		alike := func(other process) bool { return other.program == p.program && slices.Equal(other.args, p.args) }
		if !slices.ContainsFunc(all, alike) {
			all = append(all, p)
		}
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

// option is the value of a flag on a command line, the last one's if it is there more than once, as
// the engines take it.
func option(args []string, names ...string) (value string, given bool) {
	values := options(args, names...)
	if len(values) == 0 {
		return "", false
	}
	return values[len(values)-1], true
}

// options is the values of a flag on a command line, in any of the spellings --name VALUE,
// --name=VALUE, -name=VALUE.
func options(args []string, names ...string) (values []string) {
	for i := 0; i < len(args); i++ {
		word, value, equals := strings.Cut(args[i], "=")
		if !strings.HasPrefix(word, "-") || !slices.Contains(names, strings.TrimLeft(word, "-")) {
			continue
		}
		if !equals && i+1 < len(args) {
			i++
			value = args[i]
		}
		values = append(values, value)
	}
	return values
}

// ownerByName is the owner that a link to userns-runtime names: userns-runtime-OWNER.
func ownerByName(path string) string {
	if owner, ok := strings.CutPrefix(filepath.Base(path), linkName("")); ok {
		return owner
	}
	return ""
}
