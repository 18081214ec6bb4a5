// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/oci"
)

// runcPlace is for those who call it without asking an engine's configuration.
var runcPlace = place{
	key:      "divert",
	name:     "runc",
	packaged: []string{"/usr/sbin/runc", "/usr/bin/runc"},
	instead:  "set up each engine instead: usernsctl configure ENGINE",
	second:   func(path string) string { return path + ".userns-runtime" },
	link:     func(program, _ string) string { return program },
	linked:   func(_, link string) (string, bool) { return link, filepath.Base(link) == ProgramName },
	prepare: func(h Host, _ string, paths []string) ([]preparation, error) {
		return nil, h.LowLevel(paths)
	},
	uncovered: func(h Host, paths []string) (warnings []string) {
		ours := func(found string) bool { return filepath.Base(found) == ProgramName }
		for _, path := range h.others(slices.Concat(searched("runc"), h.enginePaths()), paths, ours) {
			warnings = append(warnings, another(path, "runc", ProgramName))
		}
		return warnings
	},
	leave: func(Host) error { return nil },
}

// enginePaths is where the engines that run would find runc.
func (h Host) enginePaths() (paths []string) {
	for _, name := range []string{"dockerd", "containerd", "crio"} {
		for _, p := range h.running(name) {
			for _, dir := range p.path() {
				paths = append(paths, filepath.Join(dir, "runc"))
			}
		}
	}
	return paths
}

// LowLevel refuses a configuration by which userns-runtime would find no runc. With diverted
// paths, it also refuses one of those, which will be userns-runtime itself, and a runc that is
// too old: what calls it then asks for user namespaces from the first container on.
func (h Host) LowLevel(diverted []string) error {
	cfg, err := config.Load(h.path(config.Path))
	if err != nil {
		return err
	}
	path, err := oci.FindRuntime(cfg.Runtimes, h.UID)
	if err != nil || diverted == nil {
		return err
	}
	found, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("low-level runtime: %s: %w", path, unpath(err))
	}
	const mend = "install runc 1.2 or later at /usr/libexec/userns-runtime/runc (`make install` puts it there), or name one in `runtimes` of " + config.Path
	if slices.Contains(diverted, h.name(found)) || filepath.Base(found) == ProgramName {
		return fmt.Errorf("low-level runtime: %s: is what will be userns-runtime itself: %s", path, mend)
	}
	cmd := exec.Command(path, "--version")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	output, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("low-level runtime: %s --version: %w", path, err)
	}
	v, err := oci.ParseVersion(string(output))
	if err != nil {
		return fmt.Errorf("low-level runtime: %s: %w", path, err)
	}
	if !v.AtLeast(1, 2) {
		return fmt.Errorf("low-level runtime: %s: is %s: expected 1.2 or later: %s", path, v, mend)
	}
	return nil
}
