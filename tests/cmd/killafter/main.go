// SPDX-License-Identifier: Apache-2.0

// Command killafter starts a command, sends it SIGKILL so many microseconds
// after its execve(2), and prints what program the process was by then: the one
// it was started as, one that it had become, or "ended".
//
// It is a test's helper and never shipped.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: killafter MICROSECONDS COMMAND...")
		os.Exit(2)
	}
	met, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "killafter:", err)
		os.Exit(1)
	}
	fmt.Println(met)
}

func run(after, name string, args []string) (met string, err error) {
	microseconds, err := strconv.Atoi(after)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(name, args...)
	// Start returns when execve has succeeded.
	if err := cmd.Start(); err != nil {
		return "", err
	}
	time.Sleep(time.Duration(microseconds) * time.Microsecond)
	// A process that isn't reaped yet has no program any more.
	if met, err = os.Readlink("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/exe"); err != nil {
		met = "ended"
	}
	if err := cmd.Process.Kill(); err != nil {
		return "", err
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return "", err
	}
	return met, nil
}
