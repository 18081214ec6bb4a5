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

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// bind is a bind mount of the bundle, and what was decided about it.
type bind struct {
	Destination string `json:"destination"`
	Source      string `json:"source"`
	// As is who root inside is on it: "root", of the engine's own files; an
	// account of the host; or "nobody".
	As string `json:"as"`
	// Why is the reason where a reader could expect another one.
	Why string `json:"why,omitempty"`

	index int
	taken *rootfs.Bind
	attrs []linux.Attrs
	// volume says that the engine keeps it for any container that asks for it by name.
	volume bool
	uid    uint32 // who owns it
	// owners is the account that root inside is.
	owners *user.User
	// left says that the low-level runtime binds it itself.
	left bool
}

// target is where it is staged.
func (b *bind) target() string { return stageBinds + "/" + strconv.Itoa(b.index) }

// asRoot and asNobody are the values of bind.As that aren't accounts.
const (
	asRoot   = "root"
	asNobody = "nobody"
)

// bindJudge decides what root inside is on the bind mounts of a bundle. It must
// never be the host's root on a path that nobody has set aside for containers.
type bindJudge struct {
	c     *call
	p     *plan
	state engineState
	owner ownership
	// account is the owner's, looked up once it matters.
	account *user.User
	looked  bool
}

// judgeBinds takes what all bind mounts show, before anything of ours is mounted, and
// judges it. What is judged is what the container gets.
func (p *plan) judgeBinds(c *call, upper string, owner ownership) error {
	j := bindJudge{c: c, p: p, owner: owner}
	// Podman has a container's own files beside both, but for --pid-file where --pidfile is given.
	var runDirs []string
	for _, file := range []string{c.inv.Flags.PidFile, c.inv.Global.Log} {
		if dir, err := filepath.EvalSymlinks(filepath.Dir(file)); file != "" && err == nil && !slices.Contains(runDirs, dir) {
			runDirs = append(runDirs, dir)
		}
	}
	j.state = findEngineState(upper, p.bundle.Dir, runDirs...)
	for i, m := range p.bundle.Spec.Mounts {
		if !specpatch.IsBind(m) {
			continue
		}
		b := &bind{Destination: m.Destination, As: asNobody, index: i}
		var recursive bool
		var err error
		recursive, b.attrs = bindAttrs(m.Options)
		if b.taken, err = rootfs.TakeBind(m.Source, recursive); err == nil {
			b.Source = b.taken.Source.Name()
			err = j.judge(b, m.Source)
		}
		if err == nil && p.verdict.Flags.DenyDevices {
			err = b.checkDevices(p)
		}
		if err == nil && p.nsOwner != nil {
			err = b.checkOwned(p)
		}
		if err == nil && b.As == asNobody {
			b.left, err = onCgroups(b.taken.Source)
		}
		if err != nil {
			return fmt.Errorf("mounts[%d]: %s: %w", i, m.Destination, err)
		}
		p.binds = append(p.binds, b)
	}
	return nil
}

// judge decides who root inside is on one.
func (j *bindJudge) judge(b *bind, asked string) error {
	own, engines := j.state.find(b.Source, asked)
	if engines {
		// Device nodes of an image come along into a volume, and their mode may let in everybody.
		b.attrs = append(b.attrs, linux.Attrs{Set: unix.MOUNT_ATTR_NODEV, Recursive: true})
	}
	if j.p.wanted.ownRootfs() {
		b.Why = "the bundle brings its own maps, and whoever made it has prepared the owners for them"
		return nil
	}
	if engines {
		b.As = asRoot
		top, _ := own.Top(b.Source)
		b.volume = strings.HasPrefix(top, own.Dir+"/"+volumesDir+"/")
		if err := rootfs.CheckOwn(b.taken.Source, own); err != nil {
			b.As, b.Why = asNobody, "not shifted as the engine's own: "+err.Error()
		}
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(b.taken.Source.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: b.Source, Err: err}
	}
	b.uid = st.Uid
	account := j.ownersAccount()
	const mend = "name it in a [[bind]] of the configuration, and give the grant the flag idmap-binds, to have root inside be root there"
	switch {
	case j.listed(b):
	case j.ofAccount(b):
		b.As, b.owners = account.Name, account
	case account != nil:
		b.Why = fmt.Sprintf("UID %d owns it: root inside is %s on what %[2]s owns, and root on named volumes of the engine: %[3]s", st.Uid, account.Name, mend)
	default:
		b.Why = fmt.Sprintf("UID %d owns it: root inside is root on named volumes of the engine; %s has no account on this host whose files could be root's inside: %s", st.Uid, j.owner.Name, mend)
	}
	return nil
}

// ofAccount says whether the owner's account owns it, so that root inside is that.
func (j *bindJudge) ofAccount(b *bind) bool {
	account := j.ownersAccount()
	return account != nil && b.uid == uint32(account.Uid) && j.hasRoot()
}

// hasRoot says whether the container has an inner 0, who could be somebody.
func (j *bindJudge) hasRoot() bool {
	_, hasUser := j.p.uids.ToOuter(0)
	_, hasGroup := j.p.gids.ToOuter(0)
	return hasUser && hasGroup
}

// ownersAccount is the owner's account on this host, nil if there is none. Root's
// is nobody's, since its files are the host's; so is that of the overflow IDs,
// which files of many have (see the book: they are never granted).
func (j *bindJudge) ownersAccount() *user.User {
	if !j.looked && j.c.subject.IsRoot() {
		j.account, j.looked = accountOf(j.owner), true
	}
	return j.account
}

// accountOf is an owner's account on this host, by name or by number; nil if there is none
// that root inside may be.
func accountOf(owner ownership) *user.User {
	account, err := delegate.AccountOf(owner.Name)
	if err != nil || !mayBeRoot(account.Uid) || !mayBeRoot(account.Gid) {
		return nil
	}
	return &account
}

func mayBeRoot(id int) bool { return id > 0 && id != 65534 && id != 65535 && id < int(idmap.Invalid) }

// stageBinds mounts them all where the low-level runtime will find them.
func (p *plan) stageBinds(c *call, userns *os.File) error {
	if len(p.binds) == 0 {
		return nil
	}
	if err := os.Mkdir(stageBinds, 0o711); err != nil {
		return err
	}
	for _, b := range p.binds {
		if b.left {
			if err := b.taken.Close(); err != nil {
				return err
			}
			continue
		}
		if err := b.stage(c, p, userns); err != nil {
			return fmt.Errorf("mounts[%d]: %s: %w", b.index, b.Destination, err)
		}
	}
	return nil
}

func (b *bind) stage(c *call, p *plan, userns *os.File) error {
	if err := b.settle(c, p, userns); err != nil {
		return err
	}
	return b.taken.Stage(b.target(), b.attrs...)
}

// settle shifts the owners on what was taken, which is mounted nowhere yet; or finds out
// that they can't be, and what follows from that.
func (b *bind) settle(c *call, p *plan, userns *os.File) error {
	err := b.shift(p, userns)
	if errors.Is(err, rootfs.ErrNoIDMap) {
		if c.cfg.BindFallback != config.BindFallbackPlain && !openToAll(b.taken.Source) {
			return fmt.Errorf("%w: accept that root inside is nobody there with bind-fallback = 'plain' in the configuration", err)
		}
		b.As, b.Why, err = asNobody, err.Error(), nil
	}
	return err
}

func (b *bind) shift(p *plan, userns *os.File) error {
	switch {
	case b.owners != nil && p.dry:
		return b.taken.Shift(userns)
	case b.owners != nil:
		ns, err := ownersNamespace(b.owners, p.uids, p.gids)
		if err != nil {
			return err
		}
		defer ns.Close()
		return b.taken.Shift(ns)
	case b.As == asRoot:
		return b.taken.Shift(userns)
	}
	return nil
}

// openToAll says whether a directory is one like /tmp, in which everybody may
// have their own: it serves unshifted too. Kernels before 6.3 can't shift
// an engine's /dev/shm.
func openToAll(f *os.File) bool {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o1007 == 0o1007
}

// ownersNamespace is a user namespace to shift owners to so that root inside is
// the account: see ownersMap.
func ownersNamespace(account *user.User, uids, gids idmap.Map) (*os.File, error) {
	ns, err := delegate.Create(delegate.Namespace{
		UIDs: ownersMap(uint32(account.Uid), uids), GIDs: ownersMap(uint32(account.Gid), gids),
	})
	if err != nil {
		return nil, fmt.Errorf("for files of %s: %w", account.Name, err)
	}
	return ns, nil
}

// ownersMap shifts an account's ID to root inside; every other ID of the
// container is on disk what it is on the host. IDs of neither are nobody's. m is
// the container's map, and has an inner 0.
func ownersMap(id uint32, m idmap.Map) idmap.Map {
	root, _ := m.ToOuter(0)
	shifted := idmap.Map{{Inner: id, Outer: root, Count: 1}}
	for _, r := range m.Outer().Subtract(idmap.NewSet(idmap.Range{Start: root, Count: 1})).Ranges() {
		shifted = append(shifted, idmap.Extent{Inner: r.Start, Outer: r.Start, Count: r.Count})
	}
	return shifted
}

// bindSources is where they are staged, by their index.
func (p *plan) bindSources() map[int]string {
	sources := map[int]string{}
	for _, b := range p.binds {
		switch {
		case !b.left:
			sources[b.index] = b.target()
		case b.Source != p.bundle.Spec.Mounts[b.index].Source:
			sources[b.index] = b.Source
		}
	}
	return sources
}

// withoutDevices is those on which no device can be opened: what is shifted, and what is mounted so.
func (p *plan) withoutDevices() map[int]bool {
	out := map[int]bool{}
	for _, b := range p.binds {
		out[b.index] = !b.left && (b.As != asNobody || slices.ContainsFunc(b.attrs, func(a linux.Attrs) bool { return a.Set&unix.MOUNT_ATTR_NODEV != 0 }))
	}
	return out
}

// onCgroups says whether a file is on cgroups of version 1. runc finds their controllers by
// all such mounts that it sees, and names what it makes inside by where they are: one in
// the stage would come up there in place of the host's. Nothing is lost by leaving it where it
// is: it is the host's root's, whose flags root inside could do nothing with.
func onCgroups(f *os.File) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "fstatfs", Path: f.Name(), Err: err}
	}
	return st.Type == unix.CGROUP_SUPER_MAGIC, nil
}

// bindAttrs reads the options of a bind mount that are flags of it, as runc does: the
// last of two that contradict each other counts (runtime-spec config.md, "Linux
// mount options"). Those that begin with "r" are of the mounts below it too, and
// a list of their own; both are set.
func bindAttrs(options []string) (recursive bool, attrs []linux.Attrs) {
	one, all := linux.Attrs{}, linux.Attrs{Recursive: true}
	for _, option := range options {
		recursive = recursive || option == "rbind"
		for _, o := range attrOptions {
			of := &one
			if option == "r"+o.name {
				of = &all
			} else if option != o.name {
				continue
			}
			of.Set = of.Set&^o.clear | o.set
			of.ATime = of.ATime || o.atime
		}
	}
	return recursive, []linux.Attrs{all, one}
}

var attrOptions = []struct {
	name       string
	set, clear uint64
	atime      bool
}{
	{"ro", unix.MOUNT_ATTR_RDONLY, 0, false},
	{"rw", 0, unix.MOUNT_ATTR_RDONLY, false},
	{"nosuid", unix.MOUNT_ATTR_NOSUID, 0, false},
	{"suid", 0, unix.MOUNT_ATTR_NOSUID, false},
	{"nodev", unix.MOUNT_ATTR_NODEV, 0, false},
	{"dev", 0, unix.MOUNT_ATTR_NODEV, false},
	{"noexec", unix.MOUNT_ATTR_NOEXEC, 0, false},
	{"exec", 0, unix.MOUNT_ATTR_NOEXEC, false},
	{"noatime", unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME, true},
	{"relatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME, true},
	{"strictatime", unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME, true},
}

// bindReports is the decisions, for the audit line.
func (p *plan) bindReports() []bind {
	out := make([]bind, len(p.binds))
	for i, b := range p.binds {
		out[i] = *b
	}
	return out
}
