// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/chown"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// start is the road of create, run and restore: judge, make, become the
// low-level runtime. It returns only with the reason why not.
func (c *call) start(low string) error {
	d := c.newDecision()
	p := &plan{dry: c.dry}
	if err := c.audited(d, c.prepare(low, p, d)); err != nil {
		return p.giveBack(c, err)
	}
	return p.giveBack(c, c.become(low, p))
}

// become is the last of it, when all is decided.
func (c *call) become(low string, p *plan) error {
	if err := c.giveStdio(p.uids, p.gids); err != nil {
		return err
	}
	if p.copied != nil {
		// What the low-level runtime makes has the caller's groups, which only root could take.
		if err := p.copied.keep(c.firstFD()); err != nil {
			return err
		}
	} else if p.plan.DenySetgroups {
		if err := linux.DropGroups(); err != nil {
			return err
		}
	}
	if p.chown != nil {
		return c.attend(low, p)
	}
	if p.lease != nil {
		if err := p.lease.Keep(c.firstFD()); err != nil {
			return err
		}
	}
	return c.execLow(low)
}

// plan is a container that is being started.
type plan struct {
	bundle  *oci.Bundle
	wanted  wanted
	verdict registry.Verdict
	// uids and gids are the container's maps, counted on the host.
	uids, gids idmap.Map
	lease      *lease.Lease   // nil until IDs are taken, and if there are none to take
	taken      bool           // they are, or would be if this weren't dry
	dry        bool           // as of the call
	copied     *bundleCopy    // of a rootless container
	chown      *chown.Journal // of a root filesystem whose owners on disk are to be changed
	binds      []*bind
	devices    []*device // that are staged
	// deviceSources is where those are bound from, by their index in linux.devices; "" leaves one out.
	deviceSources map[int]string
	confined      confined
	left          []specpatch.Change // of the bundle before all else: see leaveOwn
	cover         bool               // the bundle's directory is replaced as a whole
	plan          specpatch.Plan
	// nsOwner is the granted user's account under the flag owned, nil otherwise; nsOwnerUID is
	// its UID as the caller's own user namespace counts it.
	nsOwner    *user.User
	nsOwnerUID uint32
}

// prepare does everything up to the exec: all refusals first, then what is
// made, which ends with this process if a later step fails.
func (c *call) prepare(low string, p *plan, d *decision) error {
	version, err := c.knownRuntime(low, d)
	if err != nil {
		return err
	}
	if err := c.absolutePaths(); err != nil {
		return err
	}
	if err := c.undoOthers(); err != nil {
		return err
	}
	if p.bundle, err = oci.OpenBundle(c.bundleDir()); err != nil {
		return err
	}
	d.Bundle = p.bundle.Dir

	owner, err := chooseOwner(c.subject, c.inv, c.program, d.Root, c.cfg, p.bundle.Spec.Annotations)
	if err != nil {
		return err
	}
	d.Owner, d.OwnerBy = owner.Name, owner.By
	grant, err := c.grant(owner)
	if err != nil {
		return err
	}
	if err := p.judge(c, grant, owner, d); err != nil {
		return err
	}
	if err := p.checkLowLevel(c); err != nil {
		return err
	}
	if err := p.checkPrivate(c); err != nil {
		return err
	}
	if c.rootless() {
		return p.makeRootless(c, low, version, owner, d)
	}
	return p.make(c, low, version, owner, d)
}

// absolutePaths settles all paths that runc reads relative to the directory it
// is called in: ours will be the bundle. Those that it reads relative to the
// bundle, the sockets, stay.
func (c *call) absolutePaths() error {
	paths := []*string{&c.inv.Global.Log, &c.inv.Global.Root, &c.inv.Flags.PidFile, &c.inv.Flags.WorkPath}
	if c.inv.Verb == "restore" {
		if c.inv.Flags.ImagePath == "" {
			c.inv.Flags.ImagePath = "checkpoint" // runc's default
		}
		paths = append(paths, &c.inv.Flags.ImagePath)
	}
	for _, path := range paths {
		if err := absolute(path); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) bundleDir() string {
	if c.inv.Flags.Bundle == "" {
		return "."
	}
	return c.inv.Flags.Bundle
}

// mayMount says whether the caller can have a mount namespace of their own.
func (c *call) mayMount() bool { return os.Geteuid() == 0 }

// judge asks the grant about what the bundle wants, and takes the IDs.
func (p *plan) judge(c *call, grant *registry.Grant, owner ownership, d *decision) error {
	var err error
	if p.wanted, err = wants(c, p.bundle.Spec); err != nil {
		return err
	}
	if err := p.leaveOwn(); err != nil {
		return err
	}
	if p.wanted.none() {
		if err := p.choose(c, grant, owner); err != nil {
			return err
		}
	} else {
		p.uids, p.gids = p.wanted.uids, p.wanted.gids
		d.AskedUIDs, d.AskedGIDs = p.uids.String(), p.gids.String()
	}
	if p.verdict, err = grant.Permits(p.uids, p.gids); err != nil {
		return err
	}
	d.GrantedUIDs, d.GrantedGIDs = p.uids.String(), p.gids.String()
	d.allowedBy(p.verdict)
	if err := p.checkFlags(c); err != nil {
		return err
	}
	if err := p.judgeOwned(c, owner); err != nil {
		return err
	}
	if !p.taken && c.mayMount() {
		return p.hold(c, owner)
	}
	return nil
}

// make judges what lies on disk, creates the namespace, patches the specification
// and sets the stage. What fails on the way ends with this process, the
// namespace too.
func (p *plan) make(c *call, low string, version oci.Version, owner ownership, d *decision) error {
	if p.bundle.Spec.Root == nil || p.bundle.Spec.Linux == nil {
		return p.patchError(specpatch.Check(p.bundle.Spec, p.plan))
	}
	if err := p.enterStage(); err != nil {
		return err
	}
	source, err := p.openRootfs()
	if err != nil {
		return err
	}
	defer source.Close()
	mounts, err := rootfs.Mounts()
	if err != nil {
		return err
	}
	upper := rootfs.UpperDir(source, mounts)
	if upper == "" {
		upper = source.Name()
	}
	if err := p.judgeBinds(c, upper, owner); err != nil {
		return err
	}
	if err := p.judgeDevices(c); err != nil {
		return err
	}
	d.Confined = p.confined.reports(p.bundle.Spec, p.verdict.Flags.DropCaps)
	request, err := p.request(c, source, mounts)
	if err != nil {
		return err
	}
	userns, err := p.namespace(c)
	if err != nil {
		return err
	}
	defer userns.Close()
	if err := p.named(userns); err != nil {
		return err
	}
	if err := p.publish(c); err != nil {
		return err
	}
	if !p.wanted.ownRootfs() {
		request.UserNS = userns
	}
	if err := p.chooseShift(c, &request); err != nil {
		return err
	}
	method := request.Method()

	record := lease.Record{
		Owner: owner.Name, Flags: p.verdict.Flags.String(), UIDs: p.uids, GIDs: p.gids,
		Lines: d.Lines, Method: string(method), Rootfs: source.Name(), Runtime: low + " (" + version.String() + ")",
	}
	patched, err := p.patch(c, userns, record.String(), d)
	if err != nil {
		return err
	}
	if p.dry {
		return p.tryShifts(c, request, userns, d)
	}
	if err := makeStageDirs(idmap.RootAs(c.subject.UIDs)); err != nil {
		return err
	}
	got, err := p.setStage(c, request, userns, patched)
	d.Binds = p.bindReports()
	if err != nil {
		return err
	}
	forgetEngines(source, got)
	d.Rootfs = string(got)
	c.inv.Flags.Bundle = "" // we are in it
	return nil
}

// patch makes the config.json that the low-level runtime shall see.
func (p *plan) patch(c *call, userns *os.File, record string, d *decision) ([]byte, error) {
	// Nobody is in a new namespace yet, and nobody but root can get there, so runc may join it
	// in its own way.
	path := stageUserNS
	switch {
	case p.wanted.userns == nil && p.nsOwner == nil:
	case p.dry:
		path = "/proc/PID/ns/user"
	default:
		var err error
		if path, err = delegate.Stay(userns); err != nil {
			return nil, err
		}
	}
	p.plan = specpatch.Plan{
		UIDs: p.uids, GIDs: p.gids,
		UserNS: path, Rootfs: stageRootfs, Record: record,
		Binds: p.bindSources(), NoDevices: p.withoutDevices(), Joined: p.wanted.joins.paths(), NetSysctls: p.wanted.joins.network == networkEngine,
		Hosts: p.hostsPaths(), Devices: p.deviceSources,
		ProcessFlags: processFlags(p.verdict.Flags),
	}
	if p.wanted.needsSysfs(p.bundle.Spec) {
		p.plan.Sysfs = stageSysfs
	}
	if c.version.NoCapsUnsaid() {
		p.plan.OtherCaps = nil // a flag that takes some must not give any
	}
	if p.plan.KeepMaps = c.version.NeedsMaps(); p.plan.KeepMaps {
		var err error
		if p.plan.UIDs, p.plan.GIDs, err = p.localMaps(c); err != nil {
			return nil, err
		}
	}
	spec, changes, err := specpatch.Apply(p.bundle.Spec, p.plan)
	if err != nil {
		return nil, p.patchError(err)
	}
	d.Changes = slices.Concat(p.left, changes)
	if spec.Process != nil {
		if err := c.version.CheckCaps("process.capabilities", spec.Process); err != nil {
			return nil, p.patchError(err)
		}
	}
	patched, err := p.bundle.Patched(edits(changes), spec)
	if err != nil {
		return nil, err
	}
	return c.version.Spec(patched, new(specs.Spec))
}

func (p *plan) patchError(err error) error {
	return fmt.Errorf("%s: %w", filepath.Join(p.bundle.Dir, oci.ConfigName), err)
}

// request is the root filesystem to prepare, but for the user namespace.
func (p *plan) request(c *call, source *os.File, mounts []*mountinfo.Info) (rootfs.Request, error) {
	uids, gids, err := p.localMaps(c)
	if err != nil {
		return rootfs.Request{}, err
	}
	r := rootfs.Request{
		Source: source, Mounts: mounts,
		Within:       append([]string{p.bundle.Dir}, realPaths(c.cfg.RootfsDirs)...),
		AllowExposed: c.cfg.ExposedRootfs == config.ExposedRootfsAllow,
		NoDevices:    p.verdict.Flags.DenyDevices,
	}
	var hasUser, hasGroup bool
	r.RootUID, hasUser = uids.ToOuter(0)
	r.RootGID, hasGroup = gids.ToOuter(0)
	r.HasRoot = hasUser && hasGroup
	return r, nil
}

// realPaths is the directories as they are without symbolic links; one that
// isn't there stays as it is.
func realPaths(dirs []string) []string {
	out := make([]string, len(dirs))
	for i, dir := range dirs {
		out[i] = dir
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			out[i] = real
		}
	}
	return out
}

// namespace is the container's user namespace: the one that the bundle names,
// or a new one.
func (p *plan) namespace(c *call) (*os.File, error) {
	if p.wanted.userns != nil {
		return p.wanted.userns, nil
	}
	if p.dry {
		return delegate.Create(delegate.Namespace{UIDs: unchanged(c.subject.UIDs), GIDs: unchanged(c.subject.GIDs)})
	}
	uids, gids, err := p.localMaps(c)
	if err != nil {
		return nil, err
	}
	want := delegate.Namespace{UIDs: uids, GIDs: gids, DenySetgroups: p.verdict.Flags.DenySetgroups, DenyNested: p.verdict.Flags.DenyNested}
	if p.nsOwner != nil {
		want.Owner = &p.nsOwnerUID
	}
	return delegate.Create(want)
}

// unchanged maps every ID of a namespace with the map m to itself. Whether owners can be shifted
// shows as well by that, and whoever looks for IDs that are in use finds none.
func unchanged(m idmap.Map) idmap.Map {
	out := make(idmap.Map, len(m))
	for i, e := range m {
		out[i] = idmap.Extent{Inner: e.Inner, Outer: e.Inner, Count: e.Count}
	}
	return out
}

// localMaps is the container's maps, counted in the caller's user namespace.
func (p *plan) localMaps(c *call) (uids, gids idmap.Map, err error) {
	if uids, err = p.uids.Into(c.subject.UIDs); err != nil {
		return nil, nil, fmt.Errorf("UIDs: %w: this user namespace doesn't hold the whole range", err)
	}
	if gids, err = p.gids.Into(c.subject.GIDs); err != nil {
		return nil, nil, fmt.Errorf("GIDs: %w: this user namespace doesn't hold the whole range", err)
	}
	return uids, gids, nil
}

// edits is the changes as the bytes of config.json take them.
func edits(changes []specpatch.Change) []oci.Edit {
	out := make([]oci.Edit, len(changes))
	for i, change := range changes {
		out[i] = oci.Edit{Path: change.Path, Value: change.After}
	}
	return out
}
