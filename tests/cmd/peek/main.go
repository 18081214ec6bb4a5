// SPDX-License-Identifier: Apache-2.0

// Command peek tries, until it is ended, to get at processes of a name: it traces
// them, opens their memory and lists their descriptors. For each one that
// it got at while that had no capabilities but CAP_SETUID and CAP_SETGID, as those
// of a program with these on its file, it prints a line. At the end (SIGTERM) it prints how many
// it has seen so.
//
// It is a test's helper and never shipped.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: peek NAME")
		os.Exit(2)
	}
	// A tracer is a thread.
	runtime.LockOSThread()
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM)
	seen := map[int]bool{}
	for {
		select {
		case <-end:
			fmt.Printf("seen %d\n", len(seen))
			return
		default:
		}
		look(os.Args[1], seen)
	}
}

// capable is the line of /proc/PID/status of a process that is worth it.
const capable = "CapPrm:\t00000000000000c0\n"

func look(name string, seen map[int]bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		proc := "/proc/" + e.Name()
		if comm, err := os.ReadFile(proc + "/comm"); err != nil || string(comm) != name+"\n" {
			continue
		}
		status := func() bool {
			text, err := os.ReadFile(proc + "/status")
			return err == nil && strings.Contains(string(text), capable)
		}
		if !status() {
			continue
		}
		seen[pid] = true
		if unix.PtraceSeize(pid) == nil {
			if status() {
				fmt.Println("traced", pid)
			}
			_ = unix.PtraceDetach(pid)
		}
		if f, err := os.OpenFile(proc+"/mem", os.O_RDWR, 0); err == nil {
			if status() {
				fmt.Println("memory of", pid)
			}
			_ = f.Close()
		}
		if _, err := os.ReadDir(proc + "/fd"); err == nil && status() {
			fmt.Println("descriptors of", pid)
		}
	}
}
