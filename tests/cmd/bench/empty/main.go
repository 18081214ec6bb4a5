// SPDX-License-Identifier: Apache-2.0

// Command empty is the cost of one execve of a static Go program, and nothing
// else. To --version it answers as a low-level runtime, so that it can stand in
// for one where the gate alone is looked at.
package main

import "os"

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		_, _ = os.Stdout.WriteString("runc version 1.5.2\n")
	}
}
