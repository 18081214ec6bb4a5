// SPDX-License-Identifier: Apache-2.0

// Command usernsctl is root's tool for the book of host IDs, /etc/usernamespaces:
// it writes lines where they collide with nothing on the host, checks the book, and
// shows which containers hold which IDs.
package main

import "os"

// version is this program's, set at build time.
var version = "unknown"

func main() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
