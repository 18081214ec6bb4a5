// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

const programName = "usernsctl"

// Exit codes. A caller may branch on them.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
	exitFound  = 3 // something was found that is to be mended, or a plan that would be refused
)

// failure is why a verb ends with another code than 0.
type failure struct {
	code int
	err  error  // nil where all is said on standard output
	hint string // a command that mends it, or helps to; may be empty
}

func (f *failure) Error() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// failed is a verb that couldn't do what it was asked for.
func failed(hint, format string, args ...any) error {
	return &failure{exitFailed, fmt.Errorf(format, args...), hint}
}

// misused is a command line that can't be meant.
func misused(verb, format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(verb+": "+format, args...), programName + " " + verb + " --help"}
}

// program is one call of it. What a verb shows is kept in out until it has succeeded, so that
// a failure shows nothing, and that a full disk under standard output is one.
type program struct {
	args     []string // as they were given, without the program's name
	stdin    io.Reader
	stdout   io.Writer // for what is too large to be kept, and is no answer but goods: an archive
	stderr   io.Writer // for what is said meanwhile: how far it is
	out      bytes.Buffer
	width    int // of the terminal that standard output is, in cells; 0 if it is none
	warnings []string
}

// run is the whole program, and gives its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, width: windowWidth(stdout)}
	err := p.call(args)
	code, hint := exitFine, ""
	var f *failure
	if errors.As(err, &f) {
		code, hint = f.code, f.hint
	} else if err != nil {
		code = exitFailed
	}
	// What is found is shown; what failed shows nothing.
	if code == exitFine || code == exitFound {
		if _, werr := stdout.Write(p.out.Bytes()); werr != nil {
			code, err = exitFailed, fmt.Errorf("standard output: %w", werr)
		}
	}
	_, _ = io.WriteString(stderr, p.said(err, hint)) // there is nowhere left to say that it failed
	return code
}

// said is what goes to standard error: nothing of it is raw, since it may have names that others have
// chosen.
func (p *program) said(err error, hint string) string {
	var said strings.Builder
	for _, w := range p.warnings {
		fmt.Fprintf(&said, "%s: warning: %s\n", programName, visible(w))
	}
	if err != nil && err.Error() != "" {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			// A difference between files may have tabs, which do no harm.
			parts := strings.Split(line, "\t")
			for i, part := range parts {
				parts[i] = visible(part)
			}
			fmt.Fprintf(&said, "%s: %s\n", programName, strings.Join(parts, "\t"))
		}
	}
	if hint != "" {
		fmt.Fprintf(&said, "%s: try: %s\n", programName, visible(hint))
	}
	return said.String()
}

// warn says something on standard error that changes nothing.
func (p *program) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// call parses the command line and does what it says.
func (p *program) call(args []string) error {
	app := &cli.App{
		Name:      programName,
		Usage:     "keep the book of host IDs for user namespaces",
		UsageText: programName + " VERB [flags and arguments]",
		Description: "Who may map which IDs of this host is in /etc/usernamespaces. Lines are written where they\n" +
			"collide with nothing on the host. See usernsctl(8) and usernamespaces(5).",
		Version: version,
		Writer:  &p.out,
		// Our own, for one way of saying it; see run.
		ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{
			p.initVerb(), p.addVerb(), p.delVerb(), p.setVerb(), p.listVerb(), p.checkVerb(),
			p.whoVerb(), p.mapVerb(), p.auditVerb(), p.leasesVerb(), p.inspectVerb(), p.gcVerb(),
			p.pinVerb(), p.unpinVerb(),
			p.planVerb(), p.importSubIDVerb(), p.exportSubIDVerb(), p.configureVerb(), p.daemonRootVerb(), p.layerVerb(), p.doctorVerb(), p.completionVerb(),
		},
		Action: func(c *cli.Context) error { return noVerb(c.App.Commands, nil, c.Args().First()) },
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return &failure{exitUsage, err, programName + " --help"}
		},
	}
	if len(args) > 1 {
		p.args = slices.Clone(args[1:])
		ordered, err := verbsFirst(app.Commands, nil, args[1:])
		if err != nil {
			return err
		}
		args = append([]string{args[0]}, ordered...)
	}
	return app.Run(args)
}

// needsRoot is the failure of a caller who can't do what the verb does. It is said before
// anything is looked at, since halfway it would be an obscure "permission denied".
func (p *program) needsRoot(c *cli.Context) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return failed("sudo "+command(p.args...), "%s: needs root: you are UID %d", verbOf(c), os.Geteuid())
}
