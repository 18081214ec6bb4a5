// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// In a user namespace nobody can make device nodes, so runc binds the host's, which are nobody's
// there. So in the stage others are made, with the owners that they are to have inside: those that
// every container has are mounted over the host's, where runc binds them; one that was asked for is
// bound like a volume, since the host may have nothing at its path. The host's own aren't touched,
// and what may be opened is the device cgroup's to say, as under plain runc.

// device is a node to be made for a container.
type device struct {
	specs.LinuxDevice
	uid, gid int // on the host
	// over says that it is one of those that every container has, but another device.
	over   bool
	staged string
}

// judgeDevices finds the devices that are staged, and those of the host that can't be there.
func (p *plan) judgeDevices(c *call) error {
	spec := p.bundle.Spec.Linux
	uids, gids, err := p.localMaps(c)
	if err != nil {
		return err
	}
	p.deviceSources = map[int]string{}
	for i, d := range spec.Devices {
		switch specpatch.KindOf(spec, d) {
		case specpatch.DeviceAsked:
			if !p.hasPlace(d.Path) {
				continue
			}
			uid, gid := specpatch.DeviceOwner(d)
			outerUID, hasUID := uids.ToOuter(uid)
			outerGID, hasGID := gids.ToOuter(gid)
			if !hasUID || !hasGID {
				continue // which specpatch refuses
			}
			made := &device{LinuxDevice: d, uid: int(outerUID), gid: int(outerGID), staged: filepath.Join(stageDevices, "asked-"+strconv.Itoa(i))}
			if _, made.over = specpatch.DefaultDevices[filepath.Clean(d.Path)]; !made.over {
				p.deviceSources[i] = made.staged
			}
			p.devices = append(p.devices, made)
		case specpatch.DeviceHosts:
			p.confined.hosts = append(p.confined.hosts, d.Path)
			if err := checkHostsNode(d); err != nil {
				p.deviceSources[i] = ""
				p.confined.absent = append(p.confined.absent, err.Error())
			}
		}
	}
	return nil
}

// hasPlace says whether a device can be mounted at its path. Where the bundle binds /dev as a whole, the low-level
// runtime makes none there; ours is mounted over the one that is there, and else there is nothing that it
// could be mounted on.
func (p *plan) hasPlace(device string) bool {
	below, ok := strings.CutPrefix(filepath.Clean(device), "/dev/")
	i := slices.IndexFunc(p.binds, func(b *bind) bool { return filepath.Clean(b.Destination) == "/dev" })
	if !ok || i < 0 {
		return true
	}
	var st unix.Stat_t
	return unix.Stat(filepath.Join(linux.FDPath(p.binds[i].taken.Source), below), &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR
}

// checkHostsNode refuses a device of the host whose node root inside, who is nobody there, couldn't
// bind, or that isn't the one that is meant.
func checkHostsNode(d specs.LinuxDevice) error {
	node, err := linux.OpenPlace(d.Path, false)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := sameDevice(node, d); err != nil {
		return err
	}
	for dir := filepath.Dir(node.Name()); dir != "/"; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return &os.PathError{Op: "stat", Path: dir, Err: err}
		}
		if st.Mode&0o001 == 0 {
			return fmt.Errorf("%s: others than root can't enter %s", d.Path, dir)
		}
	}
	return nil
}

func sameDevice(node *os.File, d specs.LinuxDevice) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(node.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: node.Name(), Err: err}
	}
	if kind, number := deviceMode(d.Type), deviceNumber(d); st.Mode&unix.S_IFMT != kind || kind != unix.S_IFIFO && st.Rdev != number {
		return fmt.Errorf("%s: it isn't the device %s %d:%d on this host", d.Path, d.Type, d.Major, d.Minor)
	}
	return nil
}

func deviceNumber(d specs.LinuxDevice) uint64 { return unix.Mkdev(uint32(d.Major), uint32(d.Minor)) }

func deviceMode(kind string) uint32 {
	switch kind {
	case "b":
		return unix.S_IFBLK
	case "p":
		return unix.S_IFIFO
	}
	return unix.S_IFCHR
}

// stageDevices makes the nodes.
func (p *plan) stageDevices(request rootfs.Request) error {
	if !request.HasRoot && len(p.devices) == 0 {
		return nil
	}
	if err := os.Mkdir(stageDevices, 0o711); err != nil {
		return err
	}
	if err := linux.MountDevTmpfs(stageDevices, 0o711); err != nil {
		return err
	}
	if request.HasRoot {
		if err := stageDefaults(request); err != nil {
			return err
		}
	}
	for _, d := range p.devices {
		if err := d.stage(); err != nil {
			return fmt.Errorf("linux.devices: %s: %w", d.Path, err)
		}
	}
	return nil
}

// stageDefaults gives root inside the nodes that every container has. A caller who may not make
// nodes goes on without.
func stageDefaults(request rootfs.Request) error {
	for path, numbers := range specpatch.DefaultDevices {
		node := filepath.Join(stageDevices, filepath.Base(path))
		d := device{
			LinuxDevice: specs.LinuxDevice{Type: "c", Major: numbers[0], Minor: numbers[1]},
			uid:         int(request.RootUID), gid: int(request.RootGID), staged: node,
		}
		err := d.make()
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := bindOver(node, path); err != nil {
			return err
		}
	}
	return nil
}

// make makes the node.
func (d *device) make() error {
	mode := os.FileMode(0o666) // runc's
	if d.FileMode != nil {
		mode = *d.FileMode
	}
	if err := unix.Mknod(d.staged, deviceMode(d.Type)|0o600, int(deviceNumber(d.LinuxDevice))); err != nil {
		return &os.PathError{Op: "mknod", Path: d.staged, Err: err}
	}
	// The bits above those of access, which chown takes away, come last.
	if err := os.Lchown(d.staged, d.uid, d.gid); err != nil {
		return err
	}
	if err := unix.Chmod(d.staged, uint32(mode)&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: d.staged, Err: err}
	}
	return nil
}

// stage makes the node, or binds the host's where the caller may not make any: then it is whose
// it is.
func (d *device) stage() error {
	err := d.make()
	if errors.Is(err, unix.EPERM) {
		taken, takeErr := rootfs.TakeBind(d.Path, false)
		if takeErr != nil {
			return errors.Join(err, takeErr)
		}
		if err := sameDevice(taken.Source, d.LinuxDevice); err != nil {
			return errors.Join(err, taken.Close())
		}
		err = taken.Stage(d.staged)
	}
	if err != nil || !d.over {
		return err
	}
	return bindOver(d.staged, d.Path)
}

// bindOver mounts the file at source over the one at target, if there is one.
func bindOver(source, target string) error {
	on, err := linux.OpenPlace(target, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer on.Close()
	from, err := linux.OpenPlace(source, false)
	if err != nil {
		return err
	}
	defer from.Close()
	return linux.BindFile(from, on)
}
