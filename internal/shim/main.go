// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/report"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Version is this program's, set at build time.
var Version = "unknown"

// The places on the host. They are fixed: neither the environment nor a flag
// moves the book.
const (
	// runDir holds what has to be there while the host is up.
	runDir = "/run/userns-runtime"
	// stageDir is where a private mount namespace has what the low-level
	// runtime is given. On the host it is empty.
	stageDir = runDir + "/mnt"
	// versionsDir remembers the versions of low-level runtimes.
	versionsDir = runDir + "/runtimes"
	// defaultRoot is runc's own default for --root, for root.
	defaultRoot = "/run/runc"
)

// The main goroutine stays on the main thread: mount namespaces, groups and the
// parent-death signal belong to a thread, and execve(2) on any other thread
// would lose them.
func init() { runtime.LockOSThread() }

// call is one run of this program.
type call struct {
	inv     oci.Invocation
	program string // argv[0]
	environ []string
	caller  oci.Caller
	subject delegate.Caller
	cfg     config.Config
	log     *report.Log // nil until it is opened
	// dry says that nothing is to be taken, made or written: see [Foresee].
	dry bool
	// version is the low-level runtime's, once it is known.
	version oci.Version
	store   *lease.Store // nil until it is opened
	// stuck is root filesystems whose owners on disk are those of containers that have ended.
	stuck []ChownedLeft
}

// Main is the whole program: it becomes the low-level runtime, or returns the
// exit status.
func Main(argv, environ []string) int {
	caller, callerErr := oci.RememberCaller()
	c := &call{environ: environ, caller: caller}
	if len(argv) == 0 {
		argv = []string{ProgramName}
	}
	c.program = argv[0]

	var parseErr, logErr error
	c.inv, parseErr = oci.ParseArgs(argv)
	if parseErr == nil && c.judged() {
		c.log, logErr = report.OpenLog(c.inv.Global.Log, c.inv.Global.LogFormat)
	}
	for _, err := range []error{parseErr, logErr, callerErr, oci.CheckRecursion(environ), checkNotSetuid()} {
		if err != nil {
			return c.fail(err)
		}
	}
	return c.fail(c.run())
}

// checkNotSetuid refuses to run with more than the caller's own privileges: it
// is made for callers who have what it needs.
func checkNotSetuid() error {
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return fmt.Errorf("%s is installed setuid or setgid, which would lend its privileges to every caller: run `chmod u-s,g-s` on it", ProgramName)
	}
	return nil
}

// judged says whether the call starts a container, or a process in one. What
// doesn't goes to the low-level runtime as it came: it opens the log itself,
// and nobody needs to be known for it. delete is among them: it works on a bad day,
// and what there is to clean up needs no judgement.
func (c *call) judged() bool {
	return c.inv.Gated() && c.inv.Verb != "delete" && !c.inv.Help && !c.inv.Version
}

// fail reports the error and gives the exit status; without one it is 0.
func (c *call) fail(err error) int {
	if err == nil {
		return 0
	}
	var ended endedError
	if errors.As(err, &ended) {
		return int(ended)
	}
	if c.log == nil {
		var logErr error
		if c.log, logErr = report.OpenLog(c.inv.Global.Log, c.inv.Global.LogFormat); logErr != nil {
			err = errors.Join(err, logErr)
		}
	}
	c.log.Fail(err)
	var status statusError
	if errors.As(err, &status) {
		return status.status
	}
	return 1
}

// statusError is an error that ends the program with another status than 1.
type statusError struct {
	error
	status int
}

func (e statusError) Unwrap() error { return e.error }

// run goes on to the low-level runtime, by the road that the verb takes. It
// returns only on failure.
func (c *call) run() error {
	if !c.judged() {
		return c.pass()
	}
	var err error
	if c.subject, err = delegate.Identify(); err != nil {
		return err
	}
	if c.cfg, err = c.config(); err != nil {
		return err
	}
	low, err := oci.FindRuntime(c.cfg.Runtimes, idmap.RootAs(c.subject.UIDs))
	if err != nil {
		return err
	}
	if c.inv.Verb == "exec" {
		return c.exec(low)
	}
	return c.start(low)
}

// pass becomes the low-level runtime without a look at what is asked.
func (c *call) pass() error {
	cfg, err := c.configFile()
	if err != nil {
		return err
	}
	text, err := rootfile.OwnUIDMap()
	if err != nil {
		return err
	}
	own, err := idmap.ParseMap(text)
	if err != nil {
		return err
	}
	low, err := oci.FindRuntime(cfg.Runtimes, idmap.RootAs(own))
	if err != nil {
		return err
	}
	if refreshes[c.inv.Verb] {
		c.refresh()
	}
	if c.inv.Version {
		fmt.Printf("%s version %s\n", ProgramName, Version)
	}
	caller, ok := own.ToOuter(uint32(os.Geteuid()))
	if !ok {
		caller = idmap.Overflow
	}
	if c.version, err = oci.RuntimeVersion(low, c.versionsDirs(caller)...); err != nil {
		return err
	}
	if c.version.IsCrun() {
		// Where its state is depends on who calls.
		if c.subject, err = delegate.Identify(); err != nil {
			return err
		}
	}
	if c.inv.Verb == "delete" && !c.inv.Help && !c.inv.Version {
		return c.delete(low)
	}
	return c.execLow(low)
}

// configFile reads the configuration that --config names, or the host's.
func (c *call) configFile() (config.Config, error) {
	if c.inv.ConfigSet {
		return config.Read(c.inv.Config)
	}
	return config.Load(config.Path)
}

// config is the configuration to judge by. A caller who isn't root may choose
// another file, but not what is recorded of them.
func (c *call) config() (config.Config, error) {
	cfg, err := c.configFile()
	if err == nil && c.inv.ConfigSet && !c.subject.IsRoot() {
		var host config.Config
		host, err = config.Load(config.Path)
		cfg.Audit = host.Audit
	}
	return cfg, err
}

// grant reads the book and the host's accounts, and finds the owner's grant.
func (c *call) grant(owner ownership) (*registry.Grant, error) {
	book, host, err := registry.Current()
	if err != nil {
		return nil, err
	}
	h := holder(c.subject, owner)
	if h.Own != nil && c.rootless() {
		h.Own.SetgroupsDenied = true // by newgidmap, where their own group is mapped
	}
	return book.Grant(h, host)
}

// engineRoot is the directory in which the low-level runtime keeps its state.
func (c *call) engineRoot() string {
	if c.inv.Global.Root == "" {
		if dir := c.runtimeDir(); c.rootless() && dir != "" {
			return EngineRoot(filepath.Join(dir, "runc"))
		}
		return EngineRoot(defaultRoot)
	}
	return EngineRoot(c.inv.Global.Root)
}

// runtimeDir is XDG_RUNTIME_DIR, by which the low-level runtime chooses its --root for a caller
// without privileges. It leads to nothing that isn't theirs.
func (c *call) runtimeDir() string {
	for _, v := range c.environ {
		if dir, ok := strings.CutPrefix(v, "XDG_RUNTIME_DIR="); ok {
			return dir
		}
	}
	return ""
}

// EngineRoot is --root as the leases have it: absolute, and free of symbolic links, whether
// the directory is there already or not.
func EngineRoot(root string) string {
	abs, err := filepath.Abs(root)
	if err != nil {
		return root
	}
	for dir, rest := abs, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == "/" {
			return abs
		}
	}
}
