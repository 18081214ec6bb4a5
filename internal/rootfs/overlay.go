// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// An overlay as a whole can't be idmapped, so a second one is built from idmapped
// clones of the first one's layers. What is on disk keeps the owners that the
// image has, and the engine, which goes on using the first one, sees nothing
// unusual. The facts that this stands on were measured: DESIGN.md, section 15.

// WorkDir is the overlay's work directory, which has to lie on the same mount as
// the upper layer: beside it, where the engine removes it along with that.
const WorkDir = "userns-runtime-work"

// overlay is what is built from.
type overlay struct {
	request Request
	options overlayOptions
	layers  *layers
	// attrs is the MOUNT_ATTR_* flags of the first overlay's mount.
	attrs uint64
	// The places of layers on shifted mounts, in the order of layers.
	lower, data []*os.File
	upper, work *os.File
	shifted     []*shiftedMount
}

// shiftedMount is an idmapped clone of a directory that holds some of the layers,
// all on one mount.
type shiftedMount struct {
	mountID int
	dir     string // the lowest that holds them all
	tree    *linux.Tree
}

// prepareOverlay builds the overlay on the target.
func (r Request) prepareOverlay(info *mountinfo.Info) error {
	o, err := r.openOverlay(info)
	if err != nil {
		return err
	}
	defer o.close()
	if err := o.makeWork(); err != nil {
		return fmt.Errorf("root filesystem: work directory: %w", err)
	}
	if err := o.shift(); err != nil {
		return err
	}
	if err := linux.AsFileOwner(r.RootUID, r.RootGID, o.mount); err != nil {
		return fmt.Errorf("root filesystem: %s: an overlay of its shifted layers: %w", r.Source.Name(), err)
	}
	return o.forgetMounts()
}

// openOverlay finds and opens what an overlay is built from, and refuses what can't be, or
// mustn't.
func (r Request) openOverlay(info *mountinfo.Info) (*overlay, error) {
	options, err := parseOverlay(info.VFSOptions)
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %s: an overlay: %w", r.Source.Name(), err)
	}
	if !r.HasRoot {
		return nil, fmt.Errorf("root filesystem: %s: an overlay: the container has no ID 0, to whom the overlay's work directory would belong: map inner 0", r.Source.Name())
	}
	found, err := findLayers(r.Source, options)
	if err != nil {
		return nil, err
	}
	o := &overlay{request: r, options: options, layers: found, attrs: mountAttrs(info.Options) | unix.MOUNT_ATTR_NODEV}
	if options.readOnly {
		o.attrs |= unix.MOUNT_ATTR_RDONLY
	}
	if err := o.check(); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// tryOverlay is prepareOverlay as far as it goes without a mount or a directory made.
func (r Request) tryOverlay(info *mountinfo.Info) error {
	o, err := r.openOverlay(info)
	if err != nil {
		return err
	}
	defer o.close()
	if err := o.gather(); err != nil {
		return err
	}
	for _, m := range o.shifted {
		if err := o.clone(m); err != nil {
			return err
		}
	}
	return nil
}

func (o *overlay) close() {
	o.layers.close()
	for _, f := range append(append([]*os.File{o.upper, o.work}, o.lower...), o.data...) {
		if f != nil {
			f.Close()
		}
	}
	for _, m := range o.shifted {
		if m.tree != nil {
			m.tree.Close()
		}
	}
}

// all is the layers, the writable one first.
func (l *layers) all() []*os.File {
	var out []*os.File
	if l.upper != nil {
		out = append(out, l.upper)
	}
	return append(append(out, l.lower...), l.data...)
}

// makeWork makes the work directory. It is the host's root's on disk, as the
// engine's own is.
func (o *overlay) makeWork() error {
	upper := o.layers.upper
	if upper == nil {
		return nil
	}
	parent, err := linux.OpenPlace(filepath.Dir(upper.Name()), true)
	if err != nil {
		return err
	}
	defer parent.Close()
	upperID, err := linux.MountID(upper)
	if err != nil {
		return err
	}
	parentID, err := linux.MountID(parent)
	if err != nil {
		return err
	}
	if upperID != parentID {
		return fmt.Errorf("%s is a mount of its own: expected the upper layer beside a work directory, on one mount", upper.Name())
	}
	err = unix.Mkdirat(int(parent.Fd()), WorkDir, 0o700)
	path := filepath.Join(parent.Name(), WorkDir)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mkdirat", Path: path, Err: err}
	}
	if o.options.volatile() {
		// The kernel's mark that the last use didn't end with a sync. Engines take it
		// away from their own work directory before they use it again.
		if err := os.RemoveAll(filepath.Join(path, "work", "incompat")); err != nil {
			return err
		}
	}
	finishMoved(upper)
	return nil
}

// gather finds the directories that hold the layers, as few mounts as there can be.
func (o *overlay) gather() error {
	for _, layer := range o.layers.all() {
		id, err := linux.MountID(layer)
		if err != nil {
			return fmt.Errorf("root filesystem: %w", err)
		}
		dir := layer.Name()
		if layer == o.layers.upper {
			dir = filepath.Dir(dir) // which holds the work directory too
		}
		o.join(id, dir)
	}
	return nil
}

// shift clones what holds the layers, shifts the clones, and opens the layers there.
func (o *overlay) shift() error {
	if err := o.gather(); err != nil {
		return err
	}
	for i, m := range o.shifted {
		if err := o.attach(m, o.scratch(i)); err != nil {
			return err
		}
	}
	var err error
	for _, side := range []struct{ from, to *[]*os.File }{{&o.layers.lower, &o.lower}, {&o.layers.data, &o.data}} {
		for _, layer := range *side.from {
			place, err := o.place(layer, "")
			if err != nil {
				return err
			}
			*side.to = append(*side.to, place)
		}
	}
	if o.layers.upper == nil {
		return nil
	}
	if o.upper, err = o.place(o.layers.upper, ""); err != nil {
		return err
	}
	o.work, err = o.place(o.layers.upper, WorkDir)
	return err
}

// join widens the clone of the mount with this ID, so that it holds dir too.
func (o *overlay) join(id int, dir string) {
	for _, m := range o.shifted {
		if m.mountID == id {
			for {
				if _, ok := under(m.dir, dir); ok {
					return
				}
				m.dir = filepath.Dir(m.dir)
			}
		}
	}
	o.shifted = append(o.shifted, &shiftedMount{mountID: id, dir: dir})
}

// scratch is where the i-th clone is mounted for as long as the overlay is being
// made: kernels before 6.15 take no layer from a mount that is nowhere.
func (o *overlay) scratch(i int) string {
	return filepath.Join(o.request.Scratch, "layers"+strconv.Itoa(i))
}

// clone makes the shifted clone, which is mounted nowhere.
func (o *overlay) clone(m *shiftedMount) error {
	dir, err := linux.OpenPlace(m.dir, true)
	if err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	defer dir.Close()
	if m.tree, err = linux.CloneMount(dir); err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	if err := m.tree.IDMap(o.request.UserNS); err != nil {
		return explainIDMap(dir, err)
	}
	return nil
}

func (o *overlay) attach(m *shiftedMount, target string) error {
	if err := o.clone(m); err != nil {
		return err
	}
	if err := os.Mkdir(target, 0o700); err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	if err := m.tree.Attach(target); err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	return nil
}

// place is the layer on its shifted mount, or with beside what lies beside it. It
// must be the very directory that was found.
func (o *overlay) place(layer *os.File, beside string) (*os.File, error) {
	id, err := linux.MountID(layer)
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %w", err)
	}
	path := layer.Name()
	if beside != "" {
		path = filepath.Join(filepath.Dir(path), beside)
	}
	for _, m := range o.shifted {
		if m.mountID != id {
			continue
		}
		below, ok := under(m.dir, path)
		if !ok {
			break
		}
		if below == "" {
			below = "."
		}
		f, err := m.tree.Open(below)
		if err != nil {
			return nil, fmt.Errorf("root filesystem: %w", err)
		}
		if same, err := linux.SameFile(f, layer); beside == "" && (err != nil || !same) {
			return nil, errors.Join(fmt.Errorf("root filesystem: layer %s: it was replaced while it was looked at", path), err, f.Close())
		}
		return f, nil
	}
	return nil, fmt.Errorf("root filesystem: layer %s: it doesn't lie on the mount that it was found on", path)
}

// mount is called with the filesystem IDs of root inside: the overlay then makes
// its own files on the shifted mounts as an ID that these have. With any other
// it can only be read.
func (o *overlay) mount() error {
	if o.request.StringLayers {
		return o.mountByString()
	}
	err := o.mountByFiles()
	if errors.Is(err, errNoFileLayers) {
		return o.mountByString()
	}
	return err
}

// errNoFileLayers says that this kernel takes no layers by descriptor.
var errNoFileLayers = errors.New("no layers by descriptor")

func (o *overlay) mountByFiles() error {
	fs, err := linux.OpenFilesystem("overlay")
	if err != nil {
		return err
	}
	defer fs.Close()
	if err := fs.SetString("source", "overlay"); err != nil {
		return err
	}
	for i, layer := range o.lower {
		err := fs.SetFile("lowerdir+", layer)
		if i == 0 && errors.Is(err, unix.EINVAL) {
			return errNoFileLayers
		}
		if err != nil {
			return err
		}
	}
	for _, layer := range o.data {
		if err := fs.SetFile("datadir+", layer); err != nil {
			return err
		}
	}
	if o.upper != nil {
		if err := errors.Join(fs.SetFile("upperdir", o.upper), fs.SetFile("workdir", o.work)); err != nil {
			return err
		}
	}
	if err := fs.SetString("index", "off"); err != nil {
		return err
	}
	for _, option := range o.options.kept {
		if option.flag {
			err = fs.SetFlag(option.name)
		} else {
			err = fs.SetString(option.name, option.value)
		}
		if err != nil {
			return err
		}
	}
	tree, err := fs.Mount(o.attrs)
	if err != nil {
		return err
	}
	defer tree.Close()
	return tree.Attach(o.request.Target)
}

// mountByString is for kernels before 6.13. The layers are named by the numbers of
// their descriptors, in the directory that has those, so that as many fit into
// a page as the kernel takes.
func (o *overlay) mountByString() error {
	number := func(f *os.File) string { return strconv.Itoa(int(f.Fd())) }
	numbers := func(files []*os.File) []string {
		out := make([]string, len(files))
		for i, f := range files {
			out[i] = number(f)
		}
		return out
	}
	parts := []string{"lowerdir=" + joinLayers(numbers(o.lower), numbers(o.data)), "index=off"}
	if o.upper != nil {
		parts = append(parts, "upperdir="+number(o.upper), "workdir="+number(o.work))
	}
	for _, option := range o.options.kept {
		switch {
		case option.flag:
			parts = append(parts, option.name)
		case strings.Contains(option.value, ","):
			parts = append(parts, option.name+`="`+option.value+`"`)
		default:
			parts = append(parts, option.name+"="+option.value)
		}
	}
	before, err := os.Open(".")
	if err != nil {
		return err
	}
	defer before.Close()
	if err := os.Chdir("/proc/self/fd"); err != nil {
		return err
	}
	err = linux.MountOverlayString(o.request.Target, strings.Join(parts, ","), mountFlags(o.attrs))
	return errors.Join(err, before.Chdir())
}

// forgetMounts takes the clones away; the overlay has its own hold on them.
func (o *overlay) forgetMounts() error {
	for i := range o.shifted {
		if err := linux.Detach(o.scratch(i)); err != nil {
			return fmt.Errorf("root filesystem: %w", err)
		}
	}
	return nil
}

// attrNames is the flags of a mount that are repeated on what takes its place.
var attrNames = []struct {
	name string
	attr uint64
	flag uintptr // of mount(2)
}{
	{"ro", unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY},
	{"nosuid", unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
	{"nodev", unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
	{"noexec", unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC},
	{"noatime", unix.MOUNT_ATTR_NOATIME, unix.MS_NOATIME},
	{"nodiratime", unix.MOUNT_ATTR_NODIRATIME, unix.MS_NODIRATIME},
	{"nosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, unix.MS_NOSYMFOLLOW},
}

// mountAttrs reads the sixth field of a line in /proc/self/mountinfo. What isn't
// said of access times is relatime, the kernel's default.
func mountAttrs(options string) uint64 {
	var attrs uint64
	said := map[string]bool{}
	for option := range strings.SplitSeq(options, ",") {
		said[option] = true
	}
	for _, n := range attrNames {
		if said[n.name] {
			attrs |= n.attr
		}
	}
	if !said["relatime"] && !said["noatime"] {
		attrs |= unix.MOUNT_ATTR_STRICTATIME
	}
	return attrs
}

func mountFlags(attrs uint64) uintptr {
	var flags uintptr
	for _, n := range attrNames {
		if attrs&n.attr != 0 {
			flags |= n.flag
		}
	}
	if attrs&unix.MOUNT_ATTR_STRICTATIME != 0 {
		flags |= unix.MS_STRICTATIME
	}
	return flags
}
