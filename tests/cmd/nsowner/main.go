// SPDX-License-Identifier: Apache-2.0

// Command nsowner prints the UID that owns a user namespace (NS_GET_OWNER_UID,
// ioctl_ns(2)), as the caller's own user namespace counts it.
// usage: nsowner PID|PATH
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: nsowner PID|PATH")
		os.Exit(2)
	}
	path := os.Args[1]
	if pid, err := strconv.Atoi(path); err == nil {
		path = fmt.Sprintf("/proc/%d/ns/user", pid)
	}
	ns, err := linux.OpenNamespace(path)
	if err == nil {
		var uid uint32
		if uid, err = linux.UserNSOwner(ns); err == nil {
			fmt.Println(uid)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nsowner:", err)
		os.Exit(1)
	}
}
