// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

type hostNamespace struct {
	kind        specs.LinuxNamespaceType
	file, words string
}

// hostNamespaces is the kinds that the flag deny-host-ns is about: as a bundle has them, as
// /proc/PID/ns has them, and the words of engines for the host's. Of user and mount namespaces no container
// here has the host's.
var hostNamespaces = []hostNamespace{
	{specs.NetworkNamespace, "net", "--network host"},
	{specs.PIDNamespace, "pid", "--pid host"},
	{specs.IPCNamespace, "ipc", "--ipc host"},
	{specs.UTSNamespace, "uts", "--uts host"},
	{specs.CgroupNamespace, "cgroup", "--cgroupns host, which engines take on cgroup v1 unless told --cgroupns private"},
}

// checkHostNS refuses namespaces of the host: those that the bundle leaves out, which the low-level runtime
// leaves as they are, and those whose path leads to the host's.
func (p *plan) checkHostNS() error {
	if p.bundle.Spec.Linux == nil {
		return nil
	}
	var errs []error
	for _, n := range hostNamespaces {
		i := slices.IndexFunc(p.bundle.Spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == n.kind })
		if i < 0 {
			errs = append(errs, fmt.Errorf("linux.namespaces: no %s namespace, so the container would be in the host's (%s): give it one of its own", n.kind, n.words))
			continue
		}
		joined, ok := p.wanted.joins.files[n.kind]
		if !ok {
			continue // a new one
		}
		is, err := isOfHost(joined, n.file)
		if err == nil && is {
			err = errors.New("it is the host's: give the container one of its own")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("linux.namespaces[%d]: %s: %w", i, joined.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// isOfHost says whether a namespace is that of the host's first process. That the caller is in, which is the
// engine's, is left out by then: see [plan.leaveOwn].
func isOfHost(ns *os.File, file string) (bool, error) {
	same, err := isOf("1", ns, file)
	if err != nil {
		return false, fmt.Errorf("whether it is the host's can't be told: %w", err)
	}
	return same, nil
}

// isOf says whether a namespace is the one that a process is in, by its name in /proc.
func isOf(process string, ns *os.File, file string) (bool, error) {
	its, err := linux.OpenNamespace("/proc/" + process + "/ns/" + file)
	if err != nil {
		return false, err
	}
	defer its.Close()
	return linux.SameFile(ns, its)
}
