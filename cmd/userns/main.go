// SPDX-License-Identifier: Apache-2.0

// Command userns lets a user without privileges have the host IDs that
// /etc/usernamespaces grants them: it makes user namespaces that belong to its
// caller, and enters them. It is installed with the file capabilities cap_setuid
// and cap_setgid, permitted but not effective, and is never setuid root.
//
// Everybody on the host may run it, with whatever arguments, environment, descriptors, limits and
// signals they like. What it decides by is the book, the host's accounts and the
// kernel's word for who is asking.
package main

import (
	"os"
	"runtime"
)

// version is this program's, set at build time.
var version = "unknown"

// The main goroutine stays on the main thread, which ends with the process and
// not before: children die with the thread that made them.
func init() { runtime.LockOSThread() }

func main() { os.Exit(run(os.Args, os.Environ())) }

// run is the whole program, and gives its exit code.
func run(argv, environ []string) int {
	start, err := harden(argv, environ)
	p := &program{start: start, stdout: os.Stdout, stderr: os.Stderr}
	if err != nil {
		return p.end("", err)
	}
	return p.call()
}
