// SPDX-License-Identifier: Apache-2.0

// Command deadroot mounts a filesystem over / of a mount namespace that never answers (FUSE), and stays.
// usage: deadroot FUSE-DEVICE NAMESPACE
package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: deadroot FUSE-DEVICE NAMESPACE")
		os.Exit(2)
	}
	if err := mount(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "deadroot:", err)
		os.Exit(1)
	}
	fmt.Println("mounted")
	time.Sleep(time.Hour)
}

func mount(device, namespace string) error {
	fd, err := unix.Open(device, unix.O_RDWR, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: device, Err: err}
	}
	ns, err := linux.OpenNamespace(namespace)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	return linux.InNamespace(ns, unix.CLONE_NEWNS, func() error {
		return os.NewSyscallError("mount", unix.Mount("dead", "/", "fuse", 0, options))
	})
}
