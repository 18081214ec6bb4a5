// SPDX-License-Identifier: Apache-2.0

// Command exchange makes two directories in the one it is given, with directories
// and files of their own, and exchanges them over and over, until there is a file
// "stop". Each time it writes to and reads from both. It counts what fails, into a
// file "done".
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: exchange DIRECTORY")
		os.Exit(2)
	}
	w := os.Args[1]
	errors := 0
	check := func(err error) {
		if err != nil {
			errors++
			fmt.Fprintln(os.Stderr, err)
		}
	}
	for _, side := range []string{"p", "q"} {
		for n := range 20 {
			dir := filepath.Join(w, side, "d", strconv.Itoa(n))
			check(os.MkdirAll(dir, 0o755))
			check(os.WriteFile(filepath.Join(dir, "of-"+side), []byte(side), 0o644))
		}
	}
	check(os.WriteFile(filepath.Join(w, "ready"), nil, 0o644))
	p, q := filepath.Join(w, "p"), filepath.Join(w, "q")
	for turn := 0; ; turn++ {
		for range 11 {
			check(unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE))
		}
		for _, side := range []string{p, q} {
			file := filepath.Join(side, "d", strconv.Itoa(turn%20), "turn")
			check(os.WriteFile(file, []byte(strconv.Itoa(turn)), 0o644))
			got, err := os.ReadFile(file)
			check(err)
			if err == nil && !bytes.Equal(got, []byte(strconv.Itoa(turn))) {
				errors++
			}
		}
		if _, err := os.Lstat(filepath.Join(w, "stop")); err == nil {
			break
		}
	}
	for _, side := range []string{p, q} {
		entries, err := os.ReadDir(filepath.Join(side, "d"))
		check(err)
		if len(entries) != 20 {
			errors++
		}
	}
	check(os.WriteFile(filepath.Join(w, "done"), fmt.Appendf(nil, "%d errors", errors), 0o644))
	time.Sleep(time.Hour)
}
