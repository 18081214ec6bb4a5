// SPDX-License-Identifier: Apache-2.0

// Command grant reads a book and finds an owner's grant in it, as the gate does
// when a container starts. With -check it looks for conflicts, too.
//
// It is the benchmark's and never shipped.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

func main() {
	check := flag.Bool("check", false, "look for conflicts")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: grant [-check] BOOK OWNER")
		os.Exit(2)
	}
	if err := grant(flag.Arg(0), flag.Arg(1), *check); err != nil {
		fmt.Fprintln(os.Stderr, "grant:", err)
		os.Exit(1)
	}
}

func grant(path, owner string, check bool) error {
	book, err := registry.Load(path, path+".d")
	if err != nil {
		return err
	}
	g, err := book.Grant(registry.Holder{Names: []string{owner}}, registry.Host{})
	if err != nil {
		return err
	}
	if _, err := g.Rooms(0); err != nil {
		return err
	}
	if !check {
		return nil
	}
	for _, c := range registry.Check(book, registry.World{}) {
		if c.Severity == registry.Error {
			return fmt.Errorf("%s", c.Message)
		}
	}
	return nil
}
