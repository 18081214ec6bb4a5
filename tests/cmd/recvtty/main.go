// SPDX-License-Identifier: Apache-2.0

// Command recvtty is the other end of --console-socket, for tests. It listens
// on the Unix socket that it is given, takes one terminal from it, and copies
// what is written there to standard output until the last writer is gone.
//
// It is a test's helper and never shipped.
package main

import (
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: recvtty SOCKET")
		os.Exit(2)
	}
	if err := receive(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "recvtty:", err)
		os.Exit(1)
	}
}

func receive(path string) error {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	conn, err := listener.AcceptUnix()
	if err != nil {
		return err
	}
	if err := listener.Close(); err != nil {
		return err
	}
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return err
	}
	if len(messages) != 1 {
		return fmt.Errorf("%d control messages beside %q, expected one", len(messages), name[:n])
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	if len(fds) != 1 {
		return fmt.Errorf("%d descriptors, expected one", len(fds))
	}
	if err := conn.Close(); err != nil {
		return err
	}
	// Reading a terminal whose other side is closed gives EIO, which is its end.
	_, _ = io.Copy(os.Stdout, os.NewFile(uintptr(fds[0]), "tty"))
	return nil
}
