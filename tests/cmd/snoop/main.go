// SPDX-License-Identifier: Apache-2.0

// Command snoop is what a container does to those who enter it: it tries, without a pause, to trace
// each process that appears, and to read its environment, its program's path and its descriptors. It
// prints what it could get at, one line for each, until it is ended. Called as `snoop COMM` it traces each
// process of that name only, and never asks what becomes of it.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	runtime.LockOSThread() // ptrace(2) is a thread's
	fmt.Println("ready")
	self := strconv.Itoa(os.Getpid())
	said := map[string]bool{}
	say := func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); !said[line] {
			said[line] = true
			fmt.Println(line)
		}
	}
	for {
		dir, err := os.Open("/proc")
		if err != nil {
			fmt.Fprintln(os.Stderr, "snoop:", err)
			os.Exit(1)
		}
		names, _ := dir.Readdirnames(-1)
		_ = dir.Close()
		for _, name := range names {
			switch {
			case name[0] < '1' || name[0] > '9' || name == self || name == "1":
			case len(os.Args) > 1:
				keep(name, os.Args[1], say)
			default:
				look(name, say)
			}
		}
	}
}

func keep(name, comm string, say func(string, ...any)) {
	is, err := os.ReadFile("/proc/" + name + "/comm")
	if err != nil || string(is) != comm+"\n" {
		return
	}
	if pid, err := strconv.Atoi(name); err == nil && unix.PtraceSeize(pid) == nil {
		say("%s traced %s", name, comm)
	}
}

func look(name string, say func(string, ...any)) {
	proc := "/proc/" + name
	exe, err := os.Readlink(proc + "/exe")
	if err == nil {
		say("%s exe %s", name, exe)
	}
	if text, err := os.ReadFile(proc + "/environ"); err == nil && len(text) > 0 {
		say("%s environ %s", name, strings.ReplaceAll(string(text), "\x00", " "))
	}
	for _, link := range []string{"cwd", "root", "fd/0", "fd/3", "fd/4", "fd/5", "fd/6"} {
		if to, err := os.Readlink(proc + "/" + link); err == nil {
			say("%s %s %s", name, link, to)
		}
	}
	pid, err := strconv.Atoi(name)
	// Not by attaching, which sends a SIGSTOP that may arrive when it is let go: whoever entered would stop
	// with it, as under a shell.
	if err != nil || unix.PtraceSeize(pid) != nil {
		return
	}
	if exe, err := os.Readlink(proc + "/exe"); err == nil {
		say("%s traced %s", name, exe)
	} else {
		say("%s traced %v", name, err)
	}
	_ = unix.PtraceInterrupt(pid)
	var status unix.WaitStatus
	_, _ = unix.Wait4(pid, &status, unix.WALL, nil)
	_ = unix.PtraceDetach(pid)
}
