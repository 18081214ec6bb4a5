// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// checkDevices refuses what the bundle says of devices; see also [bind.checkDevices].
func (p *plan) checkDevices() error {
	spec := p.bundle.Spec.Linux
	if spec == nil {
		return nil
	}
	devices := specpatch.HostDevices{Nodes: spec.Devices, Networks: slices.Sorted(maps.Keys(spec.NetDevices))}
	if spec.Resources != nil {
		devices.Rules = spec.Resources.Devices
	}
	return specpatch.CheckHostDevices(devices)
}

func denyDevices(f registry.Flags) bool { return f.DenyDevices }

// mostEntries is how many entries of a directory are looked at for device nodes. What lies
// further behind, or deeper, can't be opened either: that is only the better word.
const mostEntries = 4096

// checkDevices refuses the bind mount of a device, and of a directory that has some, and takes those from all
// others: whatever lies below, its nodes can't be opened there.
func (b *bind) checkDevices(p *plan) error {
	refuse := func(path string) error {
		return fmt.Errorf("%s: flag deny-devices: %s is a device of the host's: leave it out", p.lineWith(denyDevices), path)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(b.taken.Source.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: b.Source, Err: err}
	}
	switch {
	case isEveryones(&st):
		return nil // /dev/null, say
	case isNode(&st):
		return refuse(b.Source)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		name, err := nodeIn(b.taken.Source)
		if err != nil {
			return err
		}
		if name != "" {
			return refuse(b.Source + "/" + name)
		}
	}
	b.attrs = append(b.attrs, linux.Attrs{Set: unix.MOUNT_ATTR_NODEV, Recursive: true})
	return nil
}

// nodeIn is the name of a device node in a directory that not every container has, "" if none is found.
func nodeIn(place *os.File) (string, error) {
	dir, err := os.Open(linux.FDPath(place))
	if err != nil {
		return "", err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(mostEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	for _, e := range entries {
		if e.Type()&os.ModeDevice == 0 {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || isEveryones(&st) {
			continue // it is gone again, or harmless
		}
		return e.Name(), nil
	}
	return "", nil
}

func isNode(st *unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK
}

// isEveryones says whether it is a node of a device that every container has.
func isEveryones(st *unix.Stat_t) bool {
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	for _, numbers := range specpatch.DefaultDevices {
		if uint32(numbers[0]) == unix.Major(st.Rdev) && uint32(numbers[1]) == unix.Minor(st.Rdev) {
			return true
		}
	}
	return false
}
