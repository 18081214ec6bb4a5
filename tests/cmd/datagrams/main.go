// SPDX-License-Identifier: Apache-2.0

// Command datagrams is a host's log: it receives datagrams at a socket, which
// anybody may send to, and prints each in a line.
//
// It is a test's helper and never shipped.
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: datagrams SOCKET")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "datagrams:", receive(os.Args[1]))
	os.Exit(1)
}

// receive ends when it fails.

func receive(path string) error {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	text := make([]byte, 64<<10)
	for {
		n, err := socket.Read(text)
		if err != nil {
			return err
		}
		if _, err := fmt.Printf("%s\n", text[:n]); err != nil {
			return err
		}
	}
}
