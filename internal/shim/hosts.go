// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// A container that has its PID or IPC namespace in common with the host can't mount what shows it:
// the kernel lets only the namespace's owner do that, who is the host's root. So it is mounted in the
// stage, as plain runc would inside. Root inside is nobody there: of the host's processes it sees what
// every user of the host sees (hidepid holds), and can neither signal nor trace them; /proc/sys is
// the host's root's.

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
		if err := stageHostsMount(p.bundle.Spec.Mounts[i].Type, p.bundle.Spec.Mounts[i].Options, target); err != nil {
			return fmt.Errorf("mounts[%d]: %s: %w", i, p.bundle.Spec.Mounts[i].Destination, err)
		}
	}
	return nil
}

func stageHostsMount(kind string, options []string, target string) error {
	fs, err := linux.OpenFilesystem(kind)
	if err != nil {
		return err
	}
	defer fs.Close()
	if err := fs.SetString("source", kind); err != nil {
		return err
	}
	for _, option := range options {
		if name, value, is := strings.Cut(option, "="); is {
			if err := fs.SetString(name, value); err != nil {
				return err
			}
		}
	}
	tree, err := fs.Mount(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer tree.Close()
	_, attrs := bindAttrs(options)
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
