// SPDX-License-Identifier: Apache-2.0

// Command maxrss runs a command and prints the peak of its resident memory, and
// of those it waited for, in KiB (getrusage(2), ru_maxrss). It is a program of
// its own, and small: a process counts the memory of whoever forked it until it
// does its execve, so a large one would print its own.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func main() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		fail(err)
	}
	// Its standard output is the number's.
	p, err := os.StartProcess(os.Args[1], os.Args[1:], &os.ProcAttr{Files: []*os.File{null, null, os.Stderr}})
	if err != nil {
		fail(err)
	}
	state, err := p.Wait()
	if err != nil {
		fail(err)
	}
	if !state.Success() {
		_, _ = os.Stderr.WriteString(state.String() + "\n")
		os.Exit(1)
	}
	usage := state.SysUsage().(*syscall.Rusage)
	_, _ = os.Stdout.WriteString(strconv.FormatInt(usage.Maxrss, 10) + "\n")
}

func fail(err error) {
	_, _ = os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(1)
}
