// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

const programName = "userns"

// Exit codes of what this program does itself. A program that it runs has its own,
// but for these.
const (
	exitFine       = 0
	exitFailed     = 1   // refused, failed, or not understood, as with unshare(1)
	exitNotStarted = 126 // the program is there and can't be executed
	exitNotFound   = 127
)

// failure is why a verb ends with another code than 1.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// program is one call of it.
type program struct {
	start
	stdout, stderr io.Writer
}

// verb is the first word of a command line.
type verb struct {
	name, usage, summary string
	// run gives the exit code, unless there is an error.
	run func(p *program, args []string) (int, error)
}

// verbs is all of them, as they are listed.
func verbs() []verb {
	return []verb{
		{"exec", "[options] [--] [PROGRAM [ARGUMENT...]]", "run a program in a new user namespace with IDs that the book grants you", (*program).exec},
		{"enter", "[options] TARGET [--] [PROGRAM [ARGUMENT...]]", "run a program in a pin, a container or beside a process whose user namespace is yours", (*program).enter},
		{"list", "[--json]", "list your lines of the book, and the user namespaces that you can enter", (*program).list},
		{"explain", "[exec] [options of exec]", "say what exec would do, and which line of the book allows or refuses it", (*program).explain},
	}
}

// call does what the command line says, and gives the exit code.
func (p *program) call() int {
	if m := idMapperOf(p.name); m != nil {
		return m.run(p)
	}
	name := ""
	if len(p.args) > 0 {
		name = p.args[0]
	}
	for _, v := range verbs() {
		if v.name == name {
			code, err := v.run(p, p.args[1:])
			if err != nil {
				return p.end(v.name, err)
			}
			return code
		}
	}
	switch name {
	case "--help", "-h", "help":
		return p.show("", usage())
	case "--version", "-V":
		return p.show("", programName+" version "+version+"\n")
	case "":
		return p.end("", fmt.Errorf("what is to be done is missing: expected %s", verbNames()))
	}
	return p.end("", fmt.Errorf("%q: there is no such verb: expected %s", name, verbNames()))
}

func verbNames() string {
	var names []string
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	return "one of " + strings.Join(names, ", ") + ": see `" + programName + " --help`"
}

func usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Have the host IDs that /etc/usernamespaces grants you, in user namespaces of your own.\n\nUsage:\n")
	for _, v := range verbs() {
		fmt.Fprintf(&b, "  %s %s %s\n        %s\n", programName, v.name, v.usage, v.summary)
	}
	fmt.Fprintf(&b, "\n`%s VERB --help` lists the options of a verb. See userns(1).\n", programName)
	return b.String()
}

// show writes what a verb answers, and gives the exit code.
func (p *program) show(verb, text string) int {
	if _, err := io.WriteString(p.stdout, text); err != nil {
		return p.end(verb, fmt.Errorf("standard output: %w", err))
	}
	return exitFine
}

// end says what went wrong, each reason in a line of its own, and gives the exit code.
func (p *program) end(verb string, err error) int {
	code := exitFailed
	var f *failure
	if errors.As(err, &f) {
		code = f.code
	}
	before := programName + ": "
	if m := idMapperOf(p.name); m != nil {
		before = m.name + ": "
	}
	if verb != "" {
		before += verb + ": "
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintf(p.stderr, "%s%s\n", before, line) // there is nowhere left to say that it failed
	}
	return code
}
