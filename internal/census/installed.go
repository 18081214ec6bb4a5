// SPDX-License-Identifier: Apache-2.0

package census

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// sign is the files of which one says that software is installed.
type sign struct {
	software registry.Software
	programs []string // in one of programDirs
	units    []string // in one of unitDirs
	files    []string // by their whole path
}

// signs is of each software of [registry.Allocators] the daemon that takes the IDs, not a
// client of it, where distributions and its own packages put it; or its unit, since the
// program may lie anywhere. A directory of data outlives what has made it, and is no sign.
var signs = []sign{
	{
		software: registry.Systemd,
		files:    []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"},
	},
	{
		software: registry.SystemdNspawn,
		programs: []string{"systemd-nspawn"},
	},
	{
		software: registry.SystemdHomed,
		files:    []string{"/usr/lib/systemd/systemd-homed", "/lib/systemd/systemd-homed"},
	},
	{
		software: registry.Incus,
		programs: []string{"incusd"},
		units:    []string{"incus.service"},
		files:    []string{"/usr/libexec/incus/incusd", "/usr/lib/incus/incusd", "/opt/incus/bin/incusd"},
	},
	{
		// k3s and its like have a kubelet in them.
		software: registry.Kubelet,
		programs: []string{"kubelet", "k3s", "k0s", "rke2"},
		units:    []string{"kubelet.service", "k3s.service", "k3s-agent.service", "snap.kubelet.daemon.service", "snap.microk8s.daemon-kubelite.service"},
	},
}

// programDirs doesn't depend on PATH, which is the caller's.
var programDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/bin", "/snap/bin"}

// unitDirs is where systemd looks for units of the host (systemd.unit(5)).
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// installed is the software that has a sign below root. One that can't be looked at is an
// error: it may be there.
func installed(root string) ([]registry.Software, error) {
	var found []registry.Software
	for _, s := range signs {
		paths := s.files
		for _, in := range []struct{ dirs, names []string }{{programDirs, s.programs}, {unitDirs, s.units}} {
			for _, dir := range in.dirs {
				for _, name := range in.names {
					paths = append(paths, filepath.Join(dir, name))
				}
			}
		}
		for _, path := range paths {
			ok, err := isFile(root + path)
			if err != nil {
				return nil, fmt.Errorf("%s: whether it is installed: %w", s.software, err)
			}
			if ok {
				found = append(found, s.software)
				break
			}
		}
	}
	return found, nil
}

// isFile follows symbolic links. One to /dev/null masks a unit, so that it never starts.
func isFile(path string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return false, nil
	case err != nil:
		return false, err
	}
	return info.Mode().IsRegular(), nil
}
