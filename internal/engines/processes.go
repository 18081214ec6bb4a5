// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is an engine that runs.
type process struct {
	pid  int
	args []string // without the program
}

// running is the processes of root's by that name, that have the same root directory: an engine
// in a container reads files of its own. What can't be looked at isn't an engine of this host.
func (h Host) running(name string) (found []process) {
	entries, err := os.ReadDir(h.path("/proc"))
	if err != nil {
		return nil
	}
	here, err := os.Stat(h.path("/"))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := h.path("/proc/" + e.Name())
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		// Anybody may call a process of theirs dockerd.
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != h.UID {
			continue
		}
		text, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(text) == 0 {
			continue
		}
		var args []string
		for arg := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte{0}), []byte{0}) {
			args = append(args, string(arg))
		}
		if filepath.Base(args[0]) != name {
			continue
		}
		if there, err := os.Stat(dir + "/root/"); err != nil || !os.SameFile(here, there) {
			continue
		}
		found = append(found, process{pid, args[1:]})
	}
	slices.SortFunc(found, func(a, b process) int { return a.pid - b.pid })
	return found
}

// option is the value of a flag on a command line, the first one's.
func option(args []string, names ...string) (value string, given bool) {
	if values := options(args, names...); len(values) > 0 {
		return values[0], true
	}
	return "", false
}

// options is the values of a flag on a command line, in any of the spellings --name VALUE,
// --name=VALUE, -name=VALUE.
func options(args []string, names ...string) (values []string) {
	for i, arg := range args {
		word, value, equals := strings.Cut(arg, "=")
		if !strings.HasPrefix(word, "-") || !slices.Contains(names, strings.TrimLeft(word, "-")) {
			continue
		}
		if !equals && i+1 < len(args) {
			value = args[i+1]
		}
		values = append(values, value)
	}
	return values
}
