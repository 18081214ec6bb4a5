// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// A container that has its PID or IPC namespace in common with the host can't mount what shows it:
// the kernel lets only the namespace's owner do that, who is the host's root. So it is mounted in the
// stage, as plain runc would inside. Root inside is nobody there: of the host's processes it sees what
// every user of the host sees (what hidepid hides from them, too), and can neither signal nor trace them;
// /proc/sys is the host's root's.

// hostsPaths is where those mounts are staged, by their index.
func (p *plan) hostsPaths() map[int]string {
	paths := map[int]string{}
	for i, m := range p.bundle.Spec.Mounts {
		if specpatch.HostsFilesystem(p.bundle.Spec, m) != "" {
			paths[i] = stageHosts + "-" + strconv.Itoa(i)
		}
	}
	return paths
}

// stageHosts mounts them.
func (p *plan) stageHosts() error {
	for i, target := range p.plan.Hosts {
		err := stageHostsMount(p.bundle.Spec.Mounts[i], target)
		if err != nil {
			return fmt.Errorf("mounts[%d]: %s: %w", i, p.bundle.Spec.Mounts[i].Destination, err)
		}
	}
	return nil
}

func stageHostsMount(m specs.Mount, target string) error {
	asked, _ := specpatch.HostsOptions(m)
	made := asked
	if m.Type == "proc" {
		var err error
		if made, err = hiding(asked); err != nil {
			return err
		}
	}
	_, attrs := bindAttrs(m.Options)
	attrs = append([]linux.Attrs{{Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}}, attrs...)
	tree, err := mountHosts(m.Type, made, 0)
	if errors.Is(err, unix.EPERM) && len(asked) == 0 {
		// The caller is root of a user namespace only, whose PID and IPC namespaces are the host's.
		return bindHosts(m.Type, target, attrs)
	}
	if err != nil {
		return err
	}
	defer tree.Close()
	for _, a := range attrs {
		if err := tree.Set(a); err != nil {
			return err
		}
	}
	if err := os.Mkdir(target, 0o700); err != nil {
		return err
	}
	return tree.Attach(target)
}

// hidepids is the values of hidepid, as bundles and as the kernel write them, from the one that hides nothing on (proc(5)).
var hidepids = [][2]string{{"0", "off"}, {"1", "noaccess"}, {"2", "invisible"}, {"4", "ptraceable"}}

// hidepid is how much options of proc hide, as an index of hidepids: the last of them counts. It is -1 for a value
// that isn't known.
func hidepid(options []string) int {
	level := 0
	for _, option := range options {
		if value, ok := strings.CutPrefix(option, "hidepid="); ok {
			level = slices.IndexFunc(hidepids, func(names [2]string) bool { return slices.Contains(names[:], value) })
		}
	}
	return level
}

// hiding adds what the caller's own proc hides: since Linux 5.8 each has its own hidepid, and a new one
// hides nothing. Whom the host's lets see all by gid= has no such group inside.
func hiding(options []string) ([]string, error) {
	place, err := linux.OpenPlace("/proc", true)
	if err != nil {
		return nil, err
	}
	defer place.Close()
	id, err := linux.MountID(place)
	if err != nil {
		return nil, err
	}
	mounts, err := rootfs.Mounts()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(mounts, func(m *mountinfo.Info) bool { return m.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("%s: its mount isn't in /proc/self/mountinfo", place.Name())
	}
	return hidingAs(options, strings.Split(mounts[i].VFSOptions, ","))
}

// hidingAs is options that hide no less than those of the host's proc.
func hidingAs(options, hosts []string) ([]string, error) {
	level := hidepid(hosts)
	if level < 0 {
		return nil, fmt.Errorf("/proc is mounted with %s, of which this build doesn't know what it hides: give the container a PID namespace of its own", strings.Join(hosts, ","))
	}
	if level == 0 || hidepid(options) >= level {
		return options, nil
	}
	return append(slices.Clone(options), "hidepid="+hidepids[level][1]), nil
}

// mountHosts makes the filesystem, which is mounted nowhere yet. attrs is of MOUNT_ATTR_*.
func mountHosts(kind string, options []string, attrs uint64) (*linux.Tree, error) {
	fs, err := linux.OpenFilesystem(kind)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.SetString("source", kind); err != nil {
		return nil, err
	}
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		if err := fs.SetString(name, value); err != nil {
			return nil, err
		}
	}
	return fs.Mount(attrs)
}

// bindHosts binds what the host has mounted.
func bindHosts(kind, target string, attrs []linux.Attrs) error {
	path, err := callersMount(kind)
	if err != nil {
		return err
	}
	taken, err := rootfs.TakeBind(path, true)
	if err != nil {
		return err
	}
	return taken.Stage(target, attrs...)
}
