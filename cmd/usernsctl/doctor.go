// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

const flagVerbose = "verbose"

func (p *program) doctorVerb() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "find what keeps containers of this host from starting, or from passing the gate",
		UsageText: programName + " doctor [--verbose] [--json]",
		Description: "Looks at the kernel, the book, the configuration, the low-level runtime, the engines and their files,\n" +
			"and changes nothing. Each finding comes with what mends it. Of a sound host nothing is said; --verbose\n" +
			"says what was looked at. Exit code 3 says that something was found, or couldn't be looked at.",
		Flags:  []cli.Flag{yes(flagVerbose, "show what is in order, too"), jsonFlag("the findings")},
		Action: p.doctor,
	}
}

// How bad a finding is.
const (
	sevError   = "error"   // containers don't start, or aren't kept apart from the host
	sevWarning = "warning" // it works with a restriction, or can be walked past
	sevUnknown = "unknown" // it couldn't be looked at
	sevFine    = "fine"    // a fact, for --verbose
)

// symptom is one finding of doctor.
type symptom struct {
	Severity string `json:"severity"`
	Subject  string `json:"subject"` // a file, a program, a setting of the kernel, an engine
	Message  string `json:"message"` // what is wrong with it, and what follows
	Mend     string `json:"mend"`    // a command where one mends it; "" where nothing is wrong
}

func (p *program) doctor(c *cli.Context) error {
	if _, err := arguments(c, 0); err != nil {
		return err
	}
	h := thisHost()
	h.examine()
	count := map[string]int{}
	shown := []symptom{}
	for _, s := range h.found {
		count[s.Severity]++
		if s.Severity != sevFine || c.Bool(flagVerbose) {
			shown = append(shown, s)
		}
	}
	if c.Bool(flagJSON) {
		if err := p.json(shown); err != nil {
			return err
		}
	} else {
		for _, s := range shown {
			fmt.Fprintf(&p.out, "%s: %s: %s\n", s.Severity, visible(s.Subject), visible(s.Message))
			if s.Mend != "" {
				fmt.Fprintf(&p.out, "    mend: %s\n", visible(s.Mend))
			}
		}
	}
	if count[sevError]+count[sevWarning]+count[sevUnknown] == 0 {
		return nil
	}
	if !c.Bool(flagJSON) {
		fmt.Fprintf(&p.out, "%s, %s", plural(count[sevError], "error"), plural(count[sevWarning], "warning"))
		if n := count[sevUnknown]; n > 0 {
			fmt.Fprintf(&p.out, ", %d not looked at", n)
		}
		p.out.WriteByte('\n')
	}
	return &failure{code: exitFound}
}

// host is what doctor looks at. Each of its checks is a function of what is below root
// and of what the tries give, so that a test can break a host in any way.
type host struct {
	root    string // comes before all paths; "" is the host's own
	uid     int    // who is looking
	program string // userns-runtime
	version string // that it should have
	try     tries

	found []symptom

	// What several checks need; set by examine.
	userNS bool // a user namespace could be made
	// refuses says that userns-runtime can't be asked for its version: it goes on to a runc
	// that isn't there or isn't to be trusted, or it refuses its configuration.
	refuses  bool
	config   config.Config
	book     *registry.Book // nil where it can't be read
	accounts *registry.Host // nil as the book
	engines  []engines.Setup
	lowest   string // the low-level runtime, "" where there is none
}

// tries is what can be learned only from the kernel, or by running a program.
type tries struct {
	release func() (census.Release, error)
	userNS  func() error
	idmap   func(dir string) error
	tmpfs   func() error
	overlay func() (descriptors bool, err error)
	exposed func(path string) (by string, err error)
	// versionOf is what PATH --version says.
	versionOf func(path string) (string, error)
	ended     func() (leases int, err error)
	// pins is all pins, judged, those that are wanted among them.
	pins func(book *registry.Book, wanted []config.Pin) ([]pinJSON, error)
	// configure is why `usernsctl configure` would refuse the engine's file, nil if it wouldn't or if
	// that can't be told; "" is the usual file.
	configure func(engine, file string) error
}

func thisHost() *host {
	h := &host{
		uid: os.Geteuid(), version: version,
		try: tries{
			release: census.KernelRelease, userNS: rootfs.TryUserNS, idmap: rootfs.TryIDMap, tmpfs: rootfs.TryTmpfs,
			overlay: rootfs.TryOverlay, exposed: rootfs.ExposedBy, versionOf: versionOf, ended: endedLeases,
			pins: lookAtPins, configure: configureRefuses,
		},
	}
	// The three programs are installed side by side.
	if self, err := os.Executable(); err == nil {
		h.program = filepath.Join(filepath.Dir(self), "userns-runtime")
	}
	return h
}

// examine makes all checks. The first ones read what the others need.
func (h *host) examine() {
	h.config, h.refuses = config.Default(), true // until it is read
	for _, check := range []struct {
		subject string
		do      func(*host)
	}{
		{config.Path, (*host).checkConfig},
		{"engines", func(h *host) { h.engines = engines.Look(h.root) }},
		{"user namespaces", (*host).checkNamespaces}, {"user namespaces", (*host).checkUsers}, {"kernel", (*host).checkKernel},
		{registry.Path, (*host).checkBook}, {registry.Path, (*host).checkOwners}, {"kernel.keys", (*host).checkKeys}, {"fs.suid_dumpable", (*host).checkDumpable},
		{"low-level runtime", (*host).checkLowest}, {gate, (*host).checkProgram}, {"newuidmap", (*host).checkHelpers}, {"newuidmap", (*host).checkDiverted},
		{"engines", (*host).checkEngines}, {"userns-remap", (*host).checkRemap}, {"runc", (*host).checkTwins},
		{"audit log", (*host).checkAudit}, {"leases", (*host).checkLeases}, {"pins", (*host).checkPins},
	} {
		h.limited(check.subject, check.do)
	}
	h.checkStores()
	// The worst first, and else in the order in which things depend on each other.
	order := []string{sevError, sevWarning, sevUnknown, sevFine}
	slices.SortStableFunc(h.found, func(a, b symptom) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
}

// patience is how long a check may take, and a test may shorten it. A program that is asked for
// its version has ten seconds of it.
var patience = 15 * time.Second

// limited makes a check that may never end: on a filesystem whose server is gone, or while somebody
// keeps the lock of the leases. What it has found by then isn't known either.
func (h *host) limited(subject string, check func(*host)) {
	during := *h
	during.found = nil
	done := make(chan bool)
	go func() {
		check(&during)
		close(done)
	}()
	select {
	case <-done:
		found := slices.Concat(h.found, during.found)
		*h = during
		h.found = found
	case <-time.After(patience):
		h.add(sevUnknown, subject, "find who doesn't answer: a server of NFS or FUSE (findmnt), or who has a lock (lslocks); then run "+command("doctor")+" again",
			"no answer within %s, so it wasn't looked at", patience)
	}
}

func (h *host) path(path string) string { return h.root + path }

func (h *host) add(severity, subject, mend, format string, args ...any) {
	h.found = append(h.found, symptom{severity, subject, fmt.Sprintf(format, args...), mend})
}

func (h *host) fine(subject, format string, args ...any) {
	h.add(sevFine, subject, "", format, args...)
}

// asRoot says whether the caller may look; where not, that is a finding: what wasn't
// looked at isn't sound.
func (h *host) asRoot(subject, what string) bool {
	if h.uid == 0 {
		return true
	}
	h.add(sevUnknown, subject, "sudo "+command("doctor"), "%s: only root can look, and you are UID %d", what, h.uid)
	return false
}

// failed adds a check that could not be made.
func (h *host) failed(subject string, err error) {
	mend := "mend what the message names, then run " + command("doctor") + " again"
	if h.uid != 0 && errors.Is(err, os.ErrPermission) {
		mend = "sudo " + command("doctor")
	}
	h.add(sevUnknown, subject, mend, "can't be looked at: %s", err)
}

// versionOf runs a program that only root could have written; see [judgeProgram]. It gets
// nothing of the caller's environment, and ten seconds. What it had said by then is given
// beside the error.
func versionOf(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	// What it has started ends with it, and isn't waited for. It doesn't outlive us either;
	// the signal for that comes when the thread ends that has started it (PR_SET_PDEATHSIG(2const)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = errors.New("no answer in ten seconds")
	}
	if ended, ok := errors.AsType[*exec.ExitError](err); ok && len(ended.Stderr) > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(ended.Stderr))
	}
	if err != nil {
		err = fmt.Errorf("%s --version: %w", path, err)
	}
	return string(out), err
}

// configureRefuses is what configure says of an engine's file, without a change.
func configureRefuses(engine, file string) error {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	var host engines.Host
	program, err := host.Program(self)
	if err != nil {
		return nil // not of this engine
	}
	_, err = host.Configure(engine, engines.Request{File: file, Program: program}, true)
	return err
}

// endedLeases is how many leases there are that hold nothing any more.
func endedLeases() (int, error) {
	store, err := lease.Open()
	if err != nil {
		return 0, err
	}
	all, err := store.List()
	n := 0
	for _, s := range all {
		if s.State == lease.Ended {
			n++
		}
	}
	return n, err
}
