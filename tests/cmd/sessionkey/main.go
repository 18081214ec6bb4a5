// SPDX-License-Identifier: Apache-2.0

// Command sessionkey has a secret in a session keyring (session-keyring(7)) and runs a program with
// it, which gets the number of the key as its last argument; or says what a key holds.
// usage: sessionkey put SECRET PROGRAM ARGUMENT... | sessionkey get KEY
package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sessionkey:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) > 2 && args[0] == "put":
		if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
			return fmt.Errorf("keyctl(KEYCTL_JOIN_SESSION_KEYRING): %w", err)
		}
		key, err := unix.AddKey("user", "of the tests", []byte(args[1]), unix.KEY_SPEC_SESSION_KEYRING)
		if err != nil {
			return fmt.Errorf("add_key: %w", err)
		}
		return syscall.Exec(args[2], append(args[2:], strconv.Itoa(key)), os.Environ())
	case len(args) == 2 && args[0] == "get":
		key, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		secret := make([]byte, 100)
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, key, secret, 0)
		if err != nil {
			return fmt.Errorf("keyctl(KEYCTL_READ): %w", err)
		}
		fmt.Println(string(secret[:n]))
		return nil
	}
	return fmt.Errorf("usage: sessionkey put SECRET PROGRAM ARGUMENT... | sessionkey get KEY")
}
