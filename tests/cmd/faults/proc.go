// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is one of /proc, as its stat says (proc(5)).
type process struct {
	pid, parent int
	state       byte // R, S, D, T, Z, ...
	start       string
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// readStat reads a process' or a thread's stat; ok is false if it is gone.
func readStat(path string) (p process, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return p, false
	}
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < 0 {
		return p, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return p, false
	}
	p.pid, _ = strconv.Atoi(strings.TrimSpace(string(text[:open])))
	p.parent, _ = strconv.Atoi(fields[1])
	p.state, p.start = fields[0][0], fields[19]
	return p, true
}

// pids is all processes.
func pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// alive says whether a process, or a thread of one whose first thread has ended, runs.
func alive(pid int) bool {
	p, ok := readStat(procPath(pid, "stat"))
	if !ok {
		return false
	}
	if p.state != 'Z' && p.state != 'X' {
		return true
	}
	for _, t := range threads(pid) {
		if t.state != 'Z' && t.state != 'X' {
			return true
		}
	}
	return false
}

func threads(pid int) (out []process) {
	names, _ := os.ReadDir(procPath(pid, "task"))
	for _, name := range names {
		if t, ok := readStat(procPath(pid, "task/"+name.Name()+"/stat")); ok {
			out = append(out, t)
		}
	}
	return out
}

// descendants is the processes below pid that run. This kernel may have no list of
// children (CONFIG_PROC_CHILDREN).
func descendants(pid int) (out []int) {
	all, err := pids()
	if err != nil {
		return nil
	}
	below := map[int][]int{}
	for _, p := range all {
		if st, ok := readStat(procPath(p, "stat")); ok && st.state != 'Z' && st.state != 'X' {
			below[st.parent] = append(below[st.parent], p)
		}
	}
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		out = append(out, below[next[0]]...)
		next = append(next, below[next[0]]...)
	}
	return out
}

// program is the path of what a process runs; "" if it is gone.
func program(pid int) string {
	path, _ := os.Readlink(procPath(pid, "exe"))
	return path
}

// arguments is a process' command line, joined by blanks.
func arguments(pid int) string {
	text, _ := os.ReadFile(procPath(pid, "cmdline"))
	return string(bytes.ReplaceAll(bytes.TrimRight(text, "\x00"), []byte{0}, []byte{' '}))
}

// isInit says whether a process is runc's, on its way to the container's own program.
func isInit(pid int) bool {
	name, verb, _ := strings.Cut(arguments(pid), " ")
	return verb == "init" && filepath.Base(name) == "runc"
}

// halt stops a process, and returns when none of its threads runs any more; ok is false
// if it has ended.
func halt(pid int) (ok bool) {
	if unix.Kill(pid, unix.SIGSTOP) != nil {
		return false
	}
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		all := threads(pid)
		running, stopped := 0, 0
		for _, t := range all {
			switch t.state {
			case 'T', 't':
				stopped++
			case 'Z', 'X':
			default:
				running++
			}
		}
		if running == 0 {
			return stopped > 0
		}
		time.Sleep(20 * time.Microsecond)
	}
	return false
}

func resume(pid int) { _ = unix.Kill(pid, unix.SIGCONT) }

// eventually waits until a condition holds, and says whether it came to that.
func eventually(within time.Duration, holds func() bool) bool {
	for until := time.Now().Add(within); ; {
		if holds() {
			return true
		}
		if time.Now().After(until) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
}

// describe is a process, in a message.
func describe(pid int) string {
	ns, _ := os.Readlink(procPath(pid, "ns/user"))
	uids, _ := os.ReadFile(procPath(pid, "uid_map"))
	gids, _ := os.ReadFile(procPath(pid, "gid_map"))
	p, _ := readStat(procPath(pid, "stat"))
	return fmt.Sprintf("process %d (%s, state %c, parent %d, %s, UIDs %q, GIDs %q)", pid, arguments(pid), p.state, p.parent, ns,
		strings.Join(strings.Fields(string(uids)), " "), strings.Join(strings.Fields(string(gids)), " "))
}
