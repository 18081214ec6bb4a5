// SPDX-License-Identifier: Apache-2.0

// Command tally runs a suite of tests and keeps what became of each, or sums up
// several suites that it has kept:
//
//	tally -suite NAME -format go|tap -out FILE -- COMMAND...
//	tally -failed FILE
//	tally -again FILE FILE
//	tally FILE...
//
// -failed lists the titles of those that failed, and -again takes those for passed that did when they were run once
// more, which is the first FILE; the sum names each of them.
//
// A suite that runs no test has failed, and so has one whose command fails
// without naming a test. The last line of the sum is
// "N passed, N failed, N skipped".
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

func main() {
	suite := flag.String("suite", "", "name of the suite to run")
	format := flag.String("format", "", "what its command prints: go (test -json) or tap")
	out := flag.String("out", "", "file to keep the results in")
	failures := flag.String("failed", "", "kept results whose failures are listed")
	again := flag.String("again", "", "kept results of what was run once more")
	flag.Parse()
	bad := false
	var err error
	switch {
	case *failures != "":
		err = listFailed(os.Stdout, *failures)
	case flag.NArg() == 0:
		flag.Usage()
		os.Exit(2)
	case *again != "":
		err = takeAgain(*again, flag.Arg(0))
	case *suite != "":
		bad, err = runSuite(*suite, *format, *out, flag.Args())
	default:
		bad, err = sumFiles(os.Stdout, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
	}
	if err != nil || bad {
		os.Exit(1)
	}
}

// runSuite runs a command, shows how it goes, and keeps the results in a file.
func runSuite(name, format, out string, argv []string) (failed bool, err error) {
	read := map[string]func(io.Reader, io.Writer) ([]result, error){"go": readGo, "tap": readTAP}[format]
	if read == nil {
		return false, fmt.Errorf("-format %q: expected go or tap", format)
	}
	start := time.Now()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	results, readErr := read(pipe, os.Stdout)
	// A command that is no longer listened to must not wait for a listener.
	if _, err := io.Copy(io.Discard, pipe); err != nil {
		readErr = errors.Join(readErr, err)
	}
	s := suite{Name: name, Format: format, Results: results}
	s.judge(argv[0], errors.Join(readErr, cmd.Wait()))
	s.Seconds = time.Since(start).Seconds()

	return s.count().failed > 0, s.keep(out)
}

func readSuite(file string) (s suite, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func (s suite) keep(file string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

func listFailed(w io.Writer, file string) error {
	s, err := readSuite(file)
	for _, r := range s.Results {
		if r.Outcome == failed {
			fmt.Fprintln(w, s.title(r))
		}
	}
	return err
}

func takeAgain(second, file string) error {
	again, err := readSuite(second)
	if err != nil {
		return err
	}
	s, err := readSuite(file)
	if err != nil {
		return err
	}
	s.takeAgain(again)
	return s.keep(file)
}

// sumFiles prints the sum of suites that were kept.
func sumFiles(w io.Writer, files []string) (failed bool, err error) {
	suites := make([]suite, len(files))
	for i, file := range files {
		if suites[i], err = readSuite(file); err != nil {
			return false, err
		}
	}
	total := sum(suites)
	show(w, suites, total)
	return total.failed > 0, nil
}
