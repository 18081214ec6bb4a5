// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// capabilities is the names of capabilities(7), sorted. It is the kernel's list
// (include/uapi/linux/capability.h, up to CAP_CHECKPOINT_RESTORE of Linux 5.9),
// not what the running kernel has: a line may drop what an older one lacks.
var capabilities = [...]string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER",
	"CAP_FSETID", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE",
	"CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
	"CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE",
	"CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
}

// OtherCaps is the names of all capabilities but these, sorted.
func OtherCaps(these []string) []string {
	return slices.DeleteFunc(slices.Clone(capabilities[:]), func(name string) bool { return slices.Contains(these, name) })
}

// parseCaps reads CAP_A+CAP_B into sorted names.
func parseCaps(text string) ([]string, error) {
	if text == "" {
		return nil, errors.New("expected capabilities, such as drop-caps=CAP_NET_RAW+CAP_MKNOD")
	}
	var caps []string
	for name := range strings.SplitSeq(text, "+") {
		if _, ok := slices.BinarySearch(capabilities[:], name); !ok {
			return nil, unknownCap(name)
		}
		// Cloned, since name keeps the whole flags field in memory.
		caps = append(caps, strings.Clone(name))
	}
	slices.Sort(caps)
	for i := range caps[1:] {
		if caps[i] == caps[i+1] {
			return nil, fmt.Errorf("capability %q: given twice: keep one", caps[i])
		}
	}
	return caps, nil
}

func unknownCap(name string) error {
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "CAP_") {
		full = "CAP_" + full
	}
	if near, ok := Nearest(full, capabilities[:]); ok {
		return fmt.Errorf("capability %q: unknown: did you mean %s?", name, near)
	}
	return fmt.Errorf("capability %q: unknown: expected a name of capabilities(7), such as CAP_NET_RAW", name)
}

// Nearest is the known word that text was probably meant to be: the one that
// the fewest edits make of it, if they are at most one for three bytes.
func Nearest(text string, known []string) (near string, ok bool) {
	best := len(text)/3 + 1
	for _, word := range known {
		if d := distance(text, word); d < best {
			near, best, ok = word, d, true
		}
	}
	return near, ok
}

// distance is how many bytes must be put in, taken out or replaced to make a
// into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
