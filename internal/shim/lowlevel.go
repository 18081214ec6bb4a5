// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/internal/oci"
)

// knownRuntime refuses a low-level runtime that may read what it is given in
// another way than it was judged, or can't do what is needed.
func (c *call) knownRuntime(low string, d *decision) (oci.Version, error) {
	version, err := oci.RuntimeVersion(low, c.versionsDirs(c.subject.UID)...)
	if err != nil {
		return oci.Version{}, err
	}
	d.Runtime = low + " (" + version.String() + ")"
	c.version = version
	if err := version.Known(); err != nil {
		return oci.Version{}, fmt.Errorf("low-level runtime: %s is %s: %w: install it, or name another one first in `runtimes` of the configuration", low, version, err)
	}
	if err := version.Refuse(c.inv.Verb); err != nil {
		return oci.Version{}, fmt.Errorf("low-level runtime: %w", err)
	}
	if c.rootless() && len(version.Lacks()) > 0 {
		return oci.Version{}, fmt.Errorf("low-level runtime: %s is %s, by which no container is started without root: put runc 1.2 or later first in `runtimes` of the configuration", low, version)
	}
	// What it hasn't got is said before anything is made.
	_, err = c.argv()
	return version, err
}

// versionsDirs is where the versions of low-level runtimes are remembered: root's directory, which all may read. Where
// root has never asked, each call would cost other callers one more start of the low-level runtime, so they have one
// beside their copies of bundles. A dry run leaves nothing.
func (c *call) versionsDirs(caller uint32) []string {
	switch {
	case c.dry:
		return nil
	case caller == 0:
		return []string{versionsDir}
	}
	dir, err := callersDir(caller)
	if err != nil {
		return []string{versionsDir} // what starts a container says so
	}
	return []string{versionsDir, filepath.Join(dir, "runtimes")}
}

// argv is the command line that the low-level runtime is given.
func (c *call) argv() ([]string, error) { return c.inv.ArgvFor(c.version, c.engineRoot()) }

// checkLowLevel refuses what the low-level runtime would do in another way than is promised.
func (p *plan) checkLowLevel(c *call) error {
	if err := c.version.CheckSpec(p.bundle.Spec); err != nil {
		return p.patchError(err)
	}
	// Whoever has its IDs in another container of a shared range could trace it as well.
	if c.version.IsCrun() && (p.wanted.userns != nil || p.nsOwner != nil || p.verdict.Flags.Shared) {
		return fmt.Errorf("low-level runtime: %s enters a user namespace in a process that can be traced meanwhile by whoever is in there, or has its IDs, and others may: "+
			"put runc 1.2 or later first in `runtimes` of the configuration", c.version)
	}
	if c.version.NeedsMaps() && p.wanted.joins.network != networkOwn && p.wanted.joins.files[specs.NetworkNamespace] != nil {
		return fmt.Errorf("low-level runtime: linux.namespaces: network: path: %s enters the user namespace first, which has no right to a network namespace of the host's account: "+
			"put runc 1.2 or later first in `runtimes` of the configuration", c.version)
	}
	return nil
}

// execLow becomes the low-level runtime.
func (c *call) execLow(low string) error {
	argv, err := c.argv()
	if err != nil {
		return err
	}
	return oci.Exec(low, argv, c.environ, c.caller)
}

// childLow is the low-level runtime as a child, where something is left to do when it has ended. It ends with
// this process: an engine that kills us means it.
func (c *call) childLow(low string) (*exec.Cmd, error) {
	argv, err := c.argv()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(low, argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = c.environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}
