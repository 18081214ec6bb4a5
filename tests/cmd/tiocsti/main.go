// SPDX-License-Identifier: Apache-2.0

// Command tiocsti types a text into every terminal that it has or can open: ioctl_tty(2), TIOCSTI.
// It prints for each how that ended.
// usage: tiocsti TEXT
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tiocsti TEXT")
		os.Exit(2)
	}
	for fd := range 3 {
		fmt.Printf("%d: %v\n", fd, enter(fd, os.Args[1]))
	}
	if tty, err := unix.Open("/dev/tty", unix.O_RDWR, 0); err != nil {
		fmt.Printf("/dev/tty: %v\n", err)
	} else {
		fmt.Printf("/dev/tty: %v\n", enter(tty, os.Args[1]))
	}
}

func enter(fd int, text string) error {
	for _, c := range []byte(text) {
		// It takes the first byte of what it is given the address of.
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSTI, int(c)*0x01010101); err != nil {
			return err
		}
	}
	return nil
}
