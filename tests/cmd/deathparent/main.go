// SPDX-License-Identifier: Apache-2.0

// Command deathparent starts a command that gets SIGKILL when deathparent dies,
// as engines start a runtime (PR_SET_PDEATHSIG), writes the command's process ID
// to a file, and waits for it.
//
// It is a test's helper and never shipped.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: deathparent PIDFILE COMMAND...")
		os.Exit(2)
	}
	if err := start(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "deathparent:", err)
		os.Exit(1)
	}
}

func start(pidFile, name string, args []string) error {
	// The signal is sent when the thread that forked ends, not the process.
	runtime.LockOSThread()
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	// Renamed into place, so that whoever waits for it reads all of it.
	if err := os.WriteFile(pidFile+".new", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return err
	}
	if err := os.Rename(pidFile+".new", pidFile); err != nil {
		return err
	}
	return cmd.Wait()
}
