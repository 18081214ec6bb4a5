// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/mountinfo"
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

	index  int
	file   *os.File
	staged rootfs.Bind
	// owners is the account that root inside is.
	owners *user.User
}

// asRoot and asNobody are the values of bind.As that aren't accounts.
const (
	asRoot   = "root"
	asNobody = "nobody"
)

// bindJudge decides what root inside is on the bind mounts of a bundle. It must
// never be the host's root on a path that nobody has set aside for containers.
type bindJudge struct {
	c      *call
	p      *plan
	mounts []*mountinfo.Info
	state  engineState
	owner  ownership
	// account is the owner's, looked up once it matters.
	account *user.User
	looked  bool
}

// judgeBinds opens and judges the sources of all bind mounts. One that can't be
// opened is left to the low-level runtime, whose message users know.
func (p *plan) judgeBinds(c *call, mounts []*mountinfo.Info, source *os.File, owner ownership) error {
	j := bindJudge{c: c, p: p, mounts: mounts, owner: owner}
	upper := rootfs.UpperDir(source, mounts)
	if upper == "" {
		upper = source.Name()
	}
	pidDir := ""
	if c.inv.Flags.PidFile != "" {
		pidDir, _ = filepath.EvalSymlinks(filepath.Dir(c.inv.Flags.PidFile))
	}
	j.state = findEngineState(upper, p.bundle.Dir, pidDir)
	for i, m := range p.bundle.Spec.Mounts {
		if !specpatch.IsBind(m) {
			continue
		}
		file, err := linux.OpenPlace(m.Source, false)
		if err != nil {
			continue
		}
		b := &bind{Destination: m.Destination, Source: file.Name(), As: asNobody, index: i, file: file}
		b.staged = rootfs.Bind{Source: file, Target: stageBinds + "/" + strconv.Itoa(i)}
		b.staged.Recursive, b.staged.Attrs = bindAttrs(m.Options)
		if err := j.judge(b); err != nil {
			return fmt.Errorf("mounts[%d]: %s: %w", i, m.Destination, err)
		}
		p.binds = append(p.binds, b)
	}
	return nil
}

// judge decides who root inside is on one.
func (j *bindJudge) judge(b *bind) error {
	if j.p.wanted.ownRootfs() {
		b.Why = "the bundle brings its own maps, and whoever made it has prepared the owners for them"
		return nil
	}
	if dir, ok := j.state.holds(b.Source); ok {
		place, err := linux.OpenPlace(dir, true)
		if err != nil {
			return err
		}
		defer place.Close()
		if err := rootfs.CheckOwn(b.file, place, j.mounts); err != nil {
			b.Why = "not shifted as the engine's own: " + err.Error()
			return nil
		}
		b.As = asRoot
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(b.file.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: b.Source, Err: err}
	}
	account := j.ownersAccount()
	switch {
	case account != nil && st.Uid == uint32(account.Uid) && j.hasRoot():
		b.As, b.owners = account.Name, account
	case account != nil:
		b.Why = fmt.Sprintf("UID %d owns it: root inside is %s on what %[2]s owns, and root on named volumes of the engine", st.Uid, account.Name)
	default:
		b.Why = fmt.Sprintf("UID %d owns it: root inside is root on named volumes of the engine; %s has no account on this host whose files could be root's inside", st.Uid, j.owner.Name)
	}
	return nil
}

// hasRoot says whether the container has an inner 0, who could be somebody.
func (j *bindJudge) hasRoot() bool {
	_, hasUser := j.p.uids.ToOuter(0)
	_, hasGroup := j.p.gids.ToOuter(0)
	return hasUser && hasGroup
}

// ownersAccount is the owner's account on this host, nil if there is none. Root's
// is nobody's: its files are the host's.
func (j *bindJudge) ownersAccount() *user.User {
	if j.looked || !j.c.subject.engine() {
		return j.account
	}
	j.looked = true
	account, err := user.LookupUser(j.owner.Name)
	if err != nil {
		id, parseErr := idmap.ParseID(j.owner.Name)
		if parseErr != nil {
			return nil
		}
		account, err = user.LookupUid(int(id))
	}
	if err == nil && account.Uid > 0 && account.Gid > 0 {
		j.account = &account
	}
	return j.account
}

// stage mounts what isn't left to the low-level runtime: what is shifted, and
// what is read-only, which root inside could otherwise make writable. It says
// where each is.
func (p *plan) stageBinds(c *call, userns *os.File) error {
	made := false
	for _, b := range p.binds {
		if !b.needsStage() {
			continue
		}
		if !made {
			if err := os.Mkdir(stageBinds, 0o711); err != nil {
				return err
			}
			made = true
		}
		if err := b.stage(c, p, userns); err != nil {
			return fmt.Errorf("mounts[%d]: %s: %w", b.index, b.Destination, err)
		}
	}
	return nil
}

func (b *bind) needsStage() bool {
	return b.As != asNobody || b.staged.Attrs.Set&unix.MOUNT_ATTR_RDONLY != 0
}

func (b *bind) stage(c *call, p *plan, userns *os.File) error {
	switch {
	case b.owners != nil:
		ns, err := ownersNamespace(b.owners, p.uids, p.gids)
		if err != nil {
			return err
		}
		defer ns.Close()
		b.staged.UserNS = ns
	case b.As == asRoot:
		b.staged.UserNS = userns
	}
	err := b.staged.Stage()
	if !errors.Is(err, rootfs.ErrNoIDMap) {
		return err
	}
	if c.cfg.BindFallback != config.BindFallbackPlain && !openToAll(b.file) {
		return fmt.Errorf("%w: accept that root inside is nobody there with bind-fallback = 'plain' in the configuration", err)
	}
	b.As, b.Why, b.staged.UserNS = asNobody, err.Error(), nil
	return b.staged.Stage()
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

// bindSources is where the staged ones are, by their index.
func (p *plan) bindSources() map[int]string {
	sources := map[int]string{}
	for _, b := range p.binds {
		if b.needsStage() {
			sources[b.index] = b.staged.Target
		}
	}
	return sources
}

// bindAttrs reads the options of a bind mount that are flags of the mount, as
// runc does: the last of two that contradict each other counts (runtime-spec
// config.md, "Linux mount options").
func bindAttrs(options []string) (recursive bool, attrs linux.Attrs) {
	for _, option := range options {
		switch option {
		case "rbind":
			recursive = true
		case "rro":
			attrs.Recursive = true
		}
		for _, o := range attrOptions {
			if option == o.name {
				attrs.Set = attrs.Set&^o.clear | o.set
				attrs.ATime = attrs.ATime || o.atime
			}
		}
	}
	return recursive, attrs
}

var attrOptions = []struct {
	name       string
	set, clear uint64
	atime      bool
}{
	{"ro", unix.MOUNT_ATTR_RDONLY, 0, false},
	{"rro", unix.MOUNT_ATTR_RDONLY, 0, false},
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
