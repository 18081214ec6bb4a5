// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// outcome is what became of a test. The order matters: of two runs of one test
// the higher counts.
type outcome int

const (
	skipped outcome = iota
	passed
	failed
)

// result is one test of a suite.
type result struct {
	Name    string
	Outcome outcome
	Why     string `json:",omitempty"` // of a skip, or of one that has passed though it had failed
}

// suite is the results of one command.
type suite struct {
	Name    string
	Format  string
	Seconds float64
	Results []result
}

// judge adds the failures that no test has told of: the command's own, and
// that there was nothing to run.
func (s *suite) judge(command string, err error) {
	counts := s.count()
	switch {
	case err != nil && counts.failed == 0:
		s.Results = append(s.Results, result{Name: fmt.Sprintf("%s: %v", command, err), Outcome: failed})
	case counts.passed+counts.failed == 0:
		s.Results = append(s.Results, result{Name: command + ": no test ran", Outcome: failed})
	}
}

// title is a test's name without the number that it had in its run.
func (s suite) title(r result) string {
	if s.Format == "tap" {
		_, title, _ := strings.Cut(r.Name, " ")
		return title
	}
	return r.Name
}

// takeAgain takes failures for passed that did in a run of their own.
func (s *suite) takeAgain(again suite) {
	became := map[string]outcome{}
	for _, r := range again.Results {
		became[again.title(r)] = max(became[again.title(r)], r.Outcome)
	}
	for i, r := range s.Results {
		if r.Outcome == failed && became[s.title(r)] == passed {
			s.Results[i].Outcome, s.Results[i].Why = passed, "it failed beside others, and passed when it was run again by itself"
		}
	}
}

type counts struct{ passed, failed, skipped int }

func (c *counts) add(o outcome) {
	switch o {
	case passed:
		c.passed++
	case failed:
		c.failed++
	case skipped:
		c.skipped++
	}
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

func (s suite) count() counts {
	var c counts
	for _, r := range s.Results {
		c.add(r.Outcome)
	}
	return c
}

// sum counts a Go test once, however many suites ran it: as failed if it failed
// in one, and as skipped only if it was skipped in all.
func sum(suites []suite) counts {
	worst := map[string]outcome{}
	for _, s := range suites {
		for _, r := range s.Results {
			name := r.Name
			if s.Format != "go" {
				name = s.Name + ": " + name
			}
			if known, ok := worst[name]; !ok || r.Outcome > known {
				worst[name] = r.Outcome
			}
		}
	}
	var c counts
	for _, o := range worst {
		c.add(o)
	}
	return c
}

// show writes a table of the suites, every skip with its reason, every one that didn't pass at once, every failure,
// and the total as its last line. Errors show at the terminal they are for.
func show(w io.Writer, suites []suite, total counts) {
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "suite\tpassed\tfailed\tskipped\tseconds\t")
	for _, s := range suites {
		c := s.count()
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%.0f\t\n", s.Name, c.passed, c.failed, c.skipped, s.Seconds)
	}
	_ = table.Flush()
	for _, list := range []struct {
		title string
		of    outcome
	}{{"SKIPPED", skipped}, {"PASSED AGAIN", passed}, {"FAILED", failed}} {
		for _, s := range suites {
			for _, r := range s.Results {
				if r.Outcome != list.of || list.of == passed && r.Why == "" {
					continue
				}
				fmt.Fprintf(w, "%s %s: %s", list.title, s.Name, r.Name)
				if r.Why != "" {
					fmt.Fprintf(w, ": %s", r.Why)
				}
				fmt.Fprintln(w)
			}
		}
	}
	if len(suites) > 1 {
		fmt.Fprintln(w, "A test that several suites ran counts once:")
	}
	fmt.Fprintln(w, total)
}
