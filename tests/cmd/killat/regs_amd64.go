// SPDX-License-Identifier: Apache-2.0

package main

import "golang.org/x/sys/unix"

// callOf is the number of a system call, and its third argument (syscall(2)).
func callOf(regs *unix.PtraceRegs) (number, third uint64) { return regs.Orig_rax, regs.Rdx }
