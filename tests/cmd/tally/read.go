// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// maxLine is the longest line that is read: tests print what they compare.
const maxLine = 16 << 20

func lines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return s
}

// event is a line of go test -json (cmd/test2json, and cmd/go's "go help
// buildjson").
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// readGo reads go test -json. It shows a line for each package, and the output
// of tests that fail; only the innermost tests count, and a test around others
// when it fails by itself.
func readGo(r io.Reader, show io.Writer) ([]result, error) {
	g := goReader{show: show, output: map[string][]string{}, running: map[string]bool{}, around: map[string]bool{}, failed: map[string]bool{}, count: map[string]int{}}
	scan := lines(r)
	for scan.Scan() {
		var e event
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil || e.Action == "" {
			// Go's own complaints, as of a go.mod that it can't read.
			fmt.Fprintln(show, scan.Text())
			continue
		}
		g.event(e)
	}
	return g.results, scan.Err()
}

type goReader struct {
	show    io.Writer
	results []result
	output  map[string][]string // what a test or package printed
	running map[string]bool     // tests that haven't ended
	around  map[string]bool     // tests that have others inside
	failed  map[string]bool     // tests and packages with a failure inside
	count   map[string]int      // tests of a package that passed
}

func (g *goReader) event(e event) {
	name := e.Package
	if e.Test != "" {
		name += "." + e.Test
	}
	switch e.Action {
	case "run":
		// A slash may also be part of a name: only what hasn't ended can have others inside.
		if outer, ok := around(e.Test); ok && g.running[e.Package+"."+outer] {
			g.around[e.Package+"."+outer] = true
		}
		g.running[name] = true
	case "build-output":
		fmt.Fprint(g.show, e.Output)
	case "output":
		g.output[name] = append(g.output[name], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			g.endPackage(e)
		} else {
			g.endTest(e, name)
		}
		delete(g.output, name)
	}
}

func (g *goReader) endTest(e event, name string) {
	delete(g.running, name)
	switch e.Action {
	case "pass":
		if !g.around[name] {
			g.results = append(g.results, result{Name: name, Outcome: passed})
			g.count[e.Package]++
		}
	case "skip":
		g.results = append(g.results, result{Name: name, Outcome: skipped, Why: reason(g.output[name])})
	case "fail":
		for _, text := range g.output[name] {
			fmt.Fprint(g.show, text)
		}
		if !g.failed[name] {
			g.results = append(g.results, result{Name: name, Outcome: failed})
		}
		// Whatever is around it fails because of it.
		g.failed[e.Package] = true
		for outer, ok := around(e.Test); ok; outer, ok = around(outer) {
			g.failed[e.Package+"."+outer] = true
		}
	}
}

// endPackage shows how a package ended. One that fails without a failed test
// didn't build, or ended in the middle.
func (g *goReader) endPackage(e event) {
	if e.Action == "fail" && !g.failed[e.Package] {
		for _, text := range g.output[e.Package] {
			fmt.Fprint(g.show, text)
		}
		g.results = append(g.results, result{Name: e.Package, Outcome: failed})
	}
	if e.Action == "skip" { // a package without tests
		return
	}
	fmt.Fprintf(g.show, "%s %s: %d passed (%.1fs)\n", e.Action, e.Package, g.count[e.Package], e.Elapsed)
}

// reason is what t.Skip printed, without the place and go test's own lines.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if place, text, ok := strings.Cut(line, ": "); ok && strings.Contains(place, ".go:") {
			line = text
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

// around is the name of the test that this one is inside of.
func around(test string) (outer string, ok bool) {
	i := strings.LastIndex(test, "/")
	if i < 0 {
		return "", false
	}
	return test[:i], true
}

// readTAP reads the Test Anything Protocol as bats speaks it, and shows it as
// it comes. Tests that were announced and didn't come have failed.
func readTAP(r io.Reader, show io.Writer) ([]result, error) {
	line := regexp.MustCompile(`^(not )?ok (\d+)\s*(?:- )?(.*)$`)
	skip := regexp.MustCompile(`(?i)^(.*?)\s*# skip\b\s*(.*)$`)
	var results []result
	planned := -1
	scan := lines(r)
	for scan.Scan() {
		text := scan.Text()
		fmt.Fprintln(show, text)
		if plan, ok := strings.CutPrefix(text, "1.."); ok {
			if n, err := strconv.Atoi(plan); err == nil {
				planned = n
			}
			continue
		}
		m := line.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		// The number tells two tests of one name apart.
		res := result{Name: m[2] + " " + m[3], Outcome: passed}
		if m[1] != "" {
			res.Outcome = failed
		} else if s := skip.FindStringSubmatch(m[3]); s != nil {
			res = result{Name: m[2] + " " + s[1], Outcome: skipped, Why: s[2]}
			if res.Why == "" {
				res.Why = "no reason given"
			}
		}
		results = append(results, res)
	}
	if err := scan.Err(); err != nil {
		return results, err
	}
	if planned < 0 {
		return results, fmt.Errorf("no plan (1..N) in what was printed, after %d tests", len(results))
	}
	if missing := planned - len(results); missing > 0 {
		results = append(results, result{Name: fmt.Sprintf("%d tests that were announced and didn't run", missing), Outcome: failed})
	}
	return results, nil
}
