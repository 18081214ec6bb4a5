// SPDX-License-Identifier: Apache-2.0

// Command userns-runtime is an OCI runtime that runs containers with runc, each
// in a user namespace with IDs that its owner holds in /etc/usernamespaces.
package main

import (
	"os"

	"github.com/userns-runtime/userns-runtime/internal/shim"
)

func main() { os.Exit(shim.Main(os.Args, os.Environ())) }
