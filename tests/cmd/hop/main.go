// SPDX-License-Identifier: Apache-2.0

// Command hop becomes a process that lives for some microseconds, in which it leaves
// its place to a child of its own, and so on, until a file is there: whoever
// looks for it, looks at one that has ended.
//
// It is a test's helper and never shipped.
package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: hop MICROSECONDS FILE")
		os.Exit(2)
	}
	micros, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "hop:", err)
		os.Exit(2)
	}
	if _, err := os.Lstat(os.Args[2]); err == nil {
		return
	}
	time.Sleep(time.Duration(micros) * time.Microsecond)
	if _, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{}); err != nil {
		fmt.Fprintln(os.Stderr, "hop:", err)
		os.Exit(1)
	}
}
