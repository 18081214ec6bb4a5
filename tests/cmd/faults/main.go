// SPDX-License-Identifier: Apache-2.0

// Command faults starts containers, several at once, and sends SIGKILL to
// userns-runtime, runc and their children at instants that it chooses by chance,
// within each step of each verb in turn. It looks at the host all the while, and
// fails when two user namespaces that processes live in have an ID in common,
// when something that wasn't killed fails, or when something is left in the end.
//
// What it sees it takes from /proc, not from the code it tries to break; that
// one only clears up in the end, as `usernsctl gc` does. It wants the host's
// /run/userns-runtime for itself: run it in the sandbox of tests/bats. It is a
// test's helper and never shipped.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// options is the command line.
type options struct {
	seed                             uint64
	kills                            int
	ours, runc, root, bundle, config string
	cgroup                           string
	asJSON                           bool
}

// result is what a run has come to.
type result struct {
	Seed       uint64   `json:"seed"`
	Steps      []tally  `json:"steps"`
	Kills      int      `json:"kills"`
	Containers int64    `json:"containers"` // that were started, and not killed on the way
	Looks      int64    `json:"looks"`      // at all processes
	Overlaps   int64    `json:"overlaps"`
	Problems   []string `json:"problems"`
	Seconds    float64  `json:"seconds"`
}

// tally is how often a step was met, and how many starts it took.
type tally struct {
	Step  string `json:"step"`
	Kills int    `json:"kills"`
	Tries int    `json:"tries"`
}

var errFound = errors.New("problems were found")

func main() {
	o, err := parse()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	flag.Uint64Var(&o.seed, "seed", 1, "`number` that all choices follow from; the kernel's scheduler has its own")
	flag.IntVar(&o.kills, "kills", len(steps), "how many `times` something is killed")
	flag.StringVar(&o.ours, "ours", "", "userns-runtime (`path`)")
	flag.StringVar(&o.runc, "runc", "", "the runc that its configuration names (`path`)")
	flag.StringVar(&o.root, "root", "", "`directory` for the states, and for copies of the bundle")
	flag.StringVar(&o.bundle, "bundle", "", "bundle with a root filesystem that has sleep and true (`directory`)")
	flag.StringVar(&o.config, "config", "", "configuration of userns-runtime (`file`)")
	flag.StringVar(&o.cgroup, "cgroup", "", "`name` that all IDs and cgroups begin with; nothing else on the host may")
	flag.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	for name, path := range map[string]*string{
		"ours": &o.ours, "runc": &o.runc, "root": &o.root, "bundle": &o.bundle, "config": &o.config,
	} {
		if *path == "" {
			return o, fmt.Errorf("-%s is missing", name)
		}
		real, err := filepath.EvalSymlinks(*path)
		if err == nil {
			*path, err = filepath.Abs(real)
		}
		if err != nil {
			return o, fmt.Errorf("-%s: %w", name, err)
		}
	}
	if o.cgroup == "" {
		return o, errors.New("-cgroup is missing")
	}
	if o.kills < 1 {
		return o, fmt.Errorf("-kills %d: expected 1 or more", o.kills)
	}
	return o, nil
}

func run(o options) error {
	w, err := newWorld(o)
	if err != nil {
		return err
	}
	r := w.play()
	if o.asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(r); err != nil {
			return err
		}
	} else {
		show(r)
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("%w: -seed %d", errFound, r.Seed)
	}
	return nil
}

func show(r result) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "STEP\tKILLS\tTRIES")
	for _, t := range r.Steps {
		fmt.Fprintf(out, "%s\t%d\t%d\n", t.Step, t.Kills, t.Tries)
	}
	_ = out.Flush() // standard output
	fmt.Printf("seed %d: %d kills, %d containers started, %d looks at all processes, %d overlaps, %.1f s\n",
		r.Seed, r.Kills, r.Containers, r.Looks, r.Overlaps, r.Seconds)
	for _, p := range r.Problems {
		fmt.Println("problem:", p)
	}
}
