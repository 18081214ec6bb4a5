// SPDX-License-Identifier: Apache-2.0

package specpatch

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// RecordAnnotation is the annotation that carries the record of a decision
// along with the container. A specification may not bring it itself.
const RecordAnnotation = "io.userns-runtime.record"

// ErrRefused is wrapped by every error about a specification whose container
// can't be run in a user namespace of its own, or not under its grant's flags.
var ErrRefused = errors.New("refused")

// Plan is what was decided about a container.
type Plan struct {
	// UIDs and GIDs are the maps of its user namespace.
	UIDs, GIDs idmap.Map
	// UserNS is the path at which the low-level runtime will find that
	// namespace.
	UserNS string
	// KeepMaps says that the low-level runtime joins the namespace only if it finds its maps in the
	// specification too.
	KeepMaps bool
	// Rootless says that the low-level runtime makes that namespace itself, with these maps, which
	// are counted as it counts IDs. Then UserNS is empty, and owners aren't shifted.
	Rootless bool
	// Rootfs is the path at which it will find the root filesystem.
	Rootfs string
	// Record is the value of [RecordAnnotation].
	Record string

	// Binds is, by their index in mounts, the bind mounts that are staged, and
	// where.
	Binds map[int]string
	// NoDevices is those of them on which no device can be opened, whatever their options say.
	NoDevices map[int]bool
	// Joined is where the low-level runtime will find the namespaces that the
	// container joins, but for its user namespace.
	Joined map[specs.LinuxNamespaceType]string
	// Sysfs is where a sysfs of the container's network namespace is mounted;
	// empty where the container may mount one itself.
	Sysfs string
	// Hosts is, by their index in mounts, the filesystems of namespaces that the container has in
	// common with the host, and where they are mounted: see [HostsFilesystem].
	Hosts map[int]string
	// Devices is, by their index in linux.devices, the devices that are staged, and where; the
	// empty string leaves one out.
	Devices map[int]string
	// NetSysctls says that the sysctls of the network namespace have been set.
	NetSysctls bool

	// ProcessFlags hold for every process of the container.
	ProcessFlags
}

// Change is one place of the specification that was changed.
type Change struct {
	// Path is the member names and array indexes that lead to the place, as
	// they stand in config.json; "-" is one past the end of an array.
	Path []string `json:"path"`
	// Before and After are the values; nil is "not there".
	Before any `json:"before,omitempty"`
	After  any `json:"after,omitempty"`
	// Why is for the one who reads it.
	Why string `json:"why"`
}

// Apply gives the specification as the low-level runtime shall see it, and
// every change that was made. spec itself is left as it was.
//
// All reasons to refuse it are in the one error, which wraps [ErrRefused] for
// each. Sources: runtime-spec config.md, config-linux.md; user_namespaces(7).
func Apply(spec *specs.Spec, plan Plan) (*specs.Spec, []Change, error) {
	if err := Check(spec, plan); err != nil {
		return nil, nil, err
	}

	p := patcher{plan: plan, spec: *spec}
	if spec.Linux != nil {
		linux := *spec.Linux
		p.spec.Linux = &linux
	}
	if plan.Rootless {
		p.ownNamespace()
	} else {
		p.userNamespace()
	}
	p.joined()
	p.rootfs()
	p.mounts()
	p.devices()
	p.sysctls()
	p.process()
	p.annotation()
	return &p.spec, p.changes, nil
}

// Check gives all reasons for which [Apply] would refuse the specification.
func Check(spec *specs.Spec, plan Plan) error {
	var refusals []error
	for _, check := range []func(*specs.Spec, Plan) error{
		checkLinux, checkNamespaces, checkMounts, checkMountOwners, checkFilesystems, checkDevices, checkUser, checkAnnotation,
	} {
		if err := check(spec, plan); err != nil {
			refusals = append(refusals, err)
		}
	}
	return errors.Join(refusals...)
}

// findings is the reasons of one check, the first few spelled out: a bundle can
// give millions.
type findings struct {
	errs []error
	more int
}

const mostFindings = 8

func (f *findings) refuse(format string, args ...any) {
	if len(f.errs) == mostFindings {
		f.more++
		return
	}
	f.errs = append(f.errs, refuse(format, args...))
}

func (f *findings) unmapped(field string, id uint32, m idmap.Map) {
	f.refuse("%s: %d isn't an ID of the container, which has %s: give its owner a longer line in the book and size=N on it, N above %[2]d",
		field, id, m.Inner())
}

func (f *findings) join() error {
	if f.more > 0 {
		return errors.Join(append(f.errs, refuse("and %d more like the last", f.more))...)
	}
	return errors.Join(f.errs...)
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

func checkLinux(spec *specs.Spec, _ Plan) error {
	if spec.Linux == nil {
		return refuse("linux: it is missing: expected the namespaces of a Linux container")
	}
	if spec.Root == nil {
		return refuse("root: it is missing: expected the path of a root filesystem")
	}
	return nil
}

// checkNamespaces refuses what would change the host's mounts, and what runc
// and we could read differently.
func checkNamespaces(spec *specs.Spec, _ Plan) error {
	if spec.Linux == nil {
		return nil
	}
	var found findings
	seen := map[specs.LinuxNamespaceType]bool{}
	for i, ns := range spec.Linux.Namespaces {
		if seen[ns.Type] {
			found.refuse("linux.namespaces[%d]: type %q is there twice", i, ns.Type)
		}
		seen[ns.Type] = true
		if ns.Type == specs.MountNamespace && ns.Path != "" {
			found.refuse("linux.namespaces[%d].path: joining the mount namespace %s would change mounts outside of the container: "+
				"expected a new mount namespace, remove the path", i, ns.Path)
		}
	}
	if !seen[specs.MountNamespace] {
		found.refuse(`linux.namespaces: no mount namespace, so the container would change the host's mounts: add {"type": "mount"}`)
	}
	mapped := len(spec.Linux.UIDMappings) > 0 || len(spec.Linux.GIDMappings) > 0
	if mapped && !seen[specs.UserNamespace] {
		found.refuse(`linux.uidMappings, linux.gidMappings: there are maps, and no user namespace for them: add {"type": "user"} to linux.namespaces, or remove the maps`)
	}
	return found.join()
}

// checkMounts refuses mounts that ask runc to shift owners: nobody has said yet
// whose files those may be.
func checkMounts(spec *specs.Spec, _ Plan) error {
	var found findings
	for i, m := range spec.Mounts {
		if len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0 {
			found.refuse("mounts[%d]: %s: uidMappings and gidMappings: this build doesn't let a bundle shift the owners of a mount", i, m.Destination)
		}
		for _, option := range m.Options {
			// With a value too, which crun takes.
			name, _, _ := strings.Cut(option, "=")
			if strings.EqualFold(name, "idmap") || strings.EqualFold(name, "ridmap") {
				found.refuse("mounts[%d]: %s: option %q: this build doesn't let a bundle shift the owners of a mount", i, m.Destination, option)
			}
		}
	}
	return found.join()
}

// checkMountOwners refuses filesystems made for an ID that doesn't exist in the
// namespace: the kernel would only say EINVAL.
func checkMountOwners(spec *specs.Spec, plan Plan) error {
	var found findings
	for i, m := range spec.Mounts {
		if m.Type != "tmpfs" && m.Type != "devpts" {
			continue
		}
		for _, option := range m.Options {
			name, value, _ := strings.Cut(option, "=")
			ids := plan.UIDs
			switch name {
			case "uid":
			case "gid":
				ids = plan.GIDs
			default:
				continue
			}
			id, err := idmap.ParseID(value)
			if err != nil {
				continue // the kernel's to read
			}
			if _, ok := ids.ToOuter(id); !ok {
				found.unmapped(fmt.Sprintf("mounts[%d]: %s: option %s", i, m.Destination, option), id, ids)
			}
		}
	}
	return found.join()
}

func checkUser(spec *specs.Spec, plan Plan) error {
	if spec.Process == nil {
		return nil
	}
	return CheckUser("process.user", spec.Process.User, plan)
}

// CheckUser refuses IDs of a process, init's or one to be exec'd, that don't exist in the
// namespace: the kernel would only say EINVAL. field is where they stand. The error
// wraps [ErrRefused] for each.
func CheckUser(field string, user specs.User, plan Plan) error {
	var found findings
	if _, ok := plan.UIDs.ToOuter(user.UID); !ok {
		found.unmapped(field+".uid", user.UID, plan.UIDs)
	}
	if _, ok := plan.GIDs.ToOuter(user.GID); !ok {
		found.unmapped(field+".gid", user.GID, plan.GIDs)
	}
	if !plan.DenySetgroups {
		for i, gid := range user.AdditionalGids {
			if _, ok := plan.GIDs.ToOuter(gid); !ok {
				found.unmapped(field+".additionalGids["+strconv.Itoa(i)+"]", gid, plan.GIDs)
			}
		}
	}
	return found.join()
}

// checkAnnotation refuses the annotations that are read back as something else,
// or obeyed as root. runc keeps an annotation as "key=value" and parts it at the
// first "=", finds the bundle's path, for exec, under the key "bundle", and
// hands CRIU the configuration file, with host programs to run, that
// "org.criu.config" names.
func checkAnnotation(spec *specs.Spec, _ Plan) error {
	for key := range spec.Annotations {
		if strings.Contains(key, "=") || key == "bundle" {
			return refuse("annotations: %q: a low-level runtime would read it back as another one: expected a key without \"=\" that isn't \"bundle\"", key)
		}
		if key == "org.criu.config" {
			return refuse("annotations: %q: CRIU would do what that file says as the host's root: remove it, and set /etc/criu/runc.conf instead", key)
		}
	}
	if _, there := spec.Annotations[RecordAnnotation]; there {
		return refuse("annotations: %q is this runtime's own: a bundle may not bring it (is this runtime called by itself?)", RecordAnnotation)
	}
	return nil
}

type patcher struct {
	plan    Plan
	spec    specs.Spec
	changes []Change
}

func (p *patcher) change(before, after any, why string, path ...string) {
	p.changes = append(p.changes, Change{Path: path, Before: before, After: after, Why: why})
}

// userNamespace gives the namespace by path alone: runc warns about a path
// beside maps, and says that it may refuse them together one day.
func (p *patcher) userNamespace() {
	const why = "the user namespace is made beforehand, and joined"
	linux := p.spec.Linux
	linux.Namespaces = slices.Clone(linux.Namespaces)
	i := slices.IndexFunc(linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
	if i < 0 {
		added := specs.LinuxNamespace{Type: specs.UserNamespace, Path: p.plan.UserNS}
		linux.Namespaces = append(linux.Namespaces, added)
		p.change(nil, added, why, "linux", "namespaces", "-")
	} else {
		var before any
		if path := linux.Namespaces[i].Path; path != "" {
			before = path
		}
		linux.Namespaces[i].Path = p.plan.UserNS
		p.change(before, p.plan.UserNS, why, "linux", "namespaces", strconv.Itoa(i), "path")
	}
	if p.plan.KeepMaps {
		p.maps("the low-level runtime takes them for those of the namespace")
		return
	}
	const gone = "the namespace has these maps already"
	if linux.UIDMappings != nil {
		p.change(linux.UIDMappings, nil, gone, "linux", "uidMappings")
		linux.UIDMappings = nil
	}
	if linux.GIDMappings != nil {
		p.change(linux.GIDMappings, nil, gone, "linux", "gidMappings")
		linux.GIDMappings = nil
	}
}

// ownNamespace asks for a namespace with the maps.
func (p *patcher) ownNamespace() {
	const why = "the low-level runtime makes the user namespace with them"
	linux := p.spec.Linux
	if !slices.ContainsFunc(linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace }) {
		added := specs.LinuxNamespace{Type: specs.UserNamespace}
		linux.Namespaces = append(slices.Clone(linux.Namespaces), added)
		p.change(nil, added, why, "linux", "namespaces", "-")
	}
	p.maps(why)
}

// maps gives the maps.
func (p *patcher) maps(why string) {
	linux := p.spec.Linux
	for _, side := range []struct {
		name string
		to   *[]specs.LinuxIDMapping
		m    idmap.Map
	}{{"uidMappings", &linux.UIDMappings, p.plan.UIDs}, {"gidMappings", &linux.GIDMappings, p.plan.GIDs}} {
		var mappings []specs.LinuxIDMapping
		for _, e := range side.m {
			mappings = append(mappings, specs.LinuxIDMapping{ContainerID: e.Inner, HostID: e.Outer, Size: e.Count})
		}
		if slices.Equal(*side.to, mappings) {
			continue
		}
		var before any
		if *side.to != nil {
			before = *side.to
		}
		p.change(before, mappings, why, "linux", side.name)
		*side.to = mappings
	}
}

func (p *patcher) rootfs() {
	root := *p.spec.Root
	why := "the root filesystem is mounted there with the owners of the container's range"
	if p.plan.Rootless {
		if root.Path == p.plan.Rootfs {
			return
		}
		why = "the bundle is copied, and the root filesystem isn't"
	}
	p.change(root.Path, p.plan.Rootfs, why, "root", "path")
	root.Path = p.plan.Rootfs
	p.spec.Root = &root
}

func (p *patcher) process() {
	if p.spec.Process == nil {
		return
	}
	process := *p.spec.Process
	p.spec.Process = &process
	flags := p.plan.ProcessFlags
	p.changes = append(p.changes, flags.dropUnsaid(&process, "process")...)
	p.changes = append(p.changes, ApplyProcess(&process, flags, "process")...)
}

func (p *patcher) annotation() {
	if p.plan.Record == "" {
		return
	}
	annotations := maps.Clone(p.spec.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[RecordAnnotation] = p.plan.Record
	p.spec.Annotations = annotations
	p.change(nil, p.plan.Record, "exec, and those who ask, find the decision there", "annotations", RecordAnnotation)
}
