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

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// joins is the namespaces that a container shares with others, but for the user
// namespace that its bundle names. Each is held open, and what is open is
// what the container gets.
type joins struct {
	// files is those that the bundle names by path.
	files map[specs.LinuxNamespaceType]*os.File
	// own is the indexes, in linux.namespaces, of those by path that the caller is in anyway.
	own []int
	// owner is the user namespace that owns those of another container, nil if
	// there are none; ownerOf is the one it was found by.
	owner   *os.File
	ownerOf string
	// network is whose network the container is in.
	network network
}

// network is whose network namespace a container is in.
type network int

const (
	// networkOwn is one of its user namespace, new or another container's.
	networkOwn network = iota
	// networkEngine is one that an engine made beforehand, on the host's account:
	// nothing inside has a privilege in it.
	networkEngine
	// networkHost is the caller's own, or the host's.
	networkHost
)

// findJoins opens the namespaces that a bundle names and asks who owns them. A
// network namespace may be the caller's, as engines make them; all others must
// be those that the caller is in, or another container's, and of one user namespace, which the container has
// to be in then.
func findJoins(spec *specs.Spec) (j joins, err error) {
	j.files = map[specs.LinuxNamespaceType]*os.File{}
	self, err := linux.OpenNamespace("/proc/self/ns/user")
	if err != nil {
		return joins{}, err
	}
	defer self.Close()
	j.network = networkHost
	for i, ns := range spec.Linux.Namespaces {
		named := ns.Path != "" && ns.Type != specs.UserNamespace && ns.Type != specs.MountNamespace
		before := slices.IndexFunc(spec.Linux.Namespaces[:i], func(before specs.LinuxNamespace) bool { return before.Type == ns.Type })
		// The low-level runtime refuses the others, but would see one only where the caller's own is left out.
		if before >= 0 && (named || slices.Contains(j.own, before)) {
			return joins{}, fmt.Errorf("linux.namespaces[%d]: type %q is there twice", i, ns.Type)
		}
		if ns.Type == specs.NetworkNamespace {
			j.network = networkOwn
		}
		if !named {
			continue
		}
		field := fmt.Sprintf("linux.namespaces: %s: path", ns.Type)
		if !filepath.IsAbs(ns.Path) {
			return joins{}, fmt.Errorf("%s: %q: expected an absolute path", field, ns.Path)
		}
		f, err := linux.OpenNamespace(ns.Path)
		if err != nil {
			return joins{}, fmt.Errorf("%s: %w", field, err)
		}
		own, err := isCallersOwn(ns.Type, f)
		if err != nil {
			return joins{}, fmt.Errorf("%s: %w", field, err)
		}
		if own {
			f.Close()
			j.own = append(j.own, i)
			if ns.Type == specs.NetworkNamespace {
				j.network = networkHost
			}
			continue
		}
		j.files[ns.Type] = f
		if err := j.add(ns, f, self); err != nil {
			return joins{}, fmt.Errorf("%s: %s: %w", field, ns.Path, err)
		}
	}
	return j, nil
}

// isCallersOwn says whether the caller is in a namespace, so that to join it is to be left where one is.
func isCallersOwn(kind specs.LinuxNamespaceType, f *os.File) (bool, error) {
	if kind == specs.TimeNamespace {
		return isOf("self", f, "time")
	}
	i := slices.IndexFunc(hostNamespaces, func(n hostNamespace) bool { return n.kind == kind })
	if i < 0 {
		return false, nil
	}
	return isOf("self", f, hostNamespaces[i].file)
}

// leaveOwn takes those out of the bundle that the caller is in anyway, as if they hadn't been named: nothing in a
// user namespace of its own may join them, and nothing has to. Docker names them for `--network host`, and for `--pid container:X`
// where X has the host's.
func (p *plan) leaveOwn() error {
	if len(p.wanted.joins.own) == 0 {
		return nil
	}
	spec := *p.bundle.Spec
	inner := *spec.Linux
	spec.Linux, inner.Namespaces = &inner, slices.Clone(inner.Namespaces)
	for _, i := range slices.Backward(p.wanted.joins.own) {
		p.left = append(p.left, specpatch.Change{
			Path: []string{"linux", "namespaces", strconv.Itoa(i)}, Before: inner.Namespaces[i],
			Why: "the container is left in it: it is the one that it is started from",
		})
		inner.Namespaces = slices.Delete(inner.Namespaces, i, i+1)
	}
	raw, err := p.bundle.Patched(edits(p.left), &spec)
	if err != nil {
		return err
	}
	p.bundle.Raw, p.bundle.Spec = raw, &spec
	return nil
}

// add asks who owns a namespace.
func (j *joins) add(ns specs.LinuxNamespace, f, self *os.File) error {
	owner, err := linux.OwningUserNS(f)
	if err != nil {
		return fmt.Errorf("%w: expected one of the caller's own, or of a container's", err)
	}
	callers, err := linux.SameFile(owner, self)
	if err != nil {
		return err
	}
	if callers {
		owner.Close()
		if ns.Type != specs.NetworkNamespace {
			return errors.New("it belongs to the host's user namespace, so nothing in a container's may join it: name one of another container of this runtime, or leave out the path")
		}
		j.network, err = networkOf(f)
		return err
	}
	if j.owner == nil {
		j.owner, j.ownerOf = owner, ns.Path
		return nil
	}
	defer owner.Close()
	if same, err := linux.SameFile(owner, j.owner); err != nil || !same {
		return errors.Join(fmt.Errorf("it belongs to another user namespace than %s, and a process is in one only: join the namespaces of one container", j.ownerOf), err)
	}
	return nil
}

// networkOf is networkHost for the namespace of the host's first process, in which the caller needn't be.
func networkOf(f *os.File) (network, error) {
	same, err := isOf("1", f, "net")
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		return networkEngine, nil // in a user namespace the first process isn't shown to everybody
	}
	if err != nil || same {
		return networkHost, err
	}
	return networkEngine, nil
}

// share puts the container into the user namespace that owns what it joins. A
// bundle that asks for another one couldn't be started.
func (w wanted) share(c *call) (wanted, error) {
	if w.userns != nil {
		if same, err := linux.SameFile(w.userns, w.joins.owner); err != nil || !same {
			return wanted{}, errors.Join(fmt.Errorf("linux.namespaces: user: path: it isn't the user namespace that %s belongs to: leave the path out", w.joins.ownerOf), err)
		}
		return w, nil
	}
	if !w.none() {
		return wanted{}, fmt.Errorf("linux.uidMappings, linux.gidMappings: %s belongs to the user namespace of another container, which the container has to be in: leave the maps out", w.joins.ownerOf)
	}
	shared, err := wantsNamespace(c, w.joins.owner)
	if err != nil {
		return wanted{}, fmt.Errorf("linux.namespaces: %s: the user namespace that it belongs to: %w", w.joins.ownerOf, err)
	}
	shared.shared, shared.joins = true, w.joins
	return shared, nil
}

// stage binds the namespaces where nothing can take their place.
func (j joins) stage() error {
	for kind, f := range j.files {
		if err := bindNamespace(f, joinedPath(kind)); err != nil {
			return err
		}
	}
	return nil
}

// paths is where the namespaces are once they are staged.
func (j joins) paths() map[specs.LinuxNamespaceType]string {
	paths := map[specs.LinuxNamespaceType]string{}
	for kind := range j.files {
		paths[kind] = joinedPath(kind)
	}
	return paths
}

// joinedPath is in the stage; a type that runc doesn't know it refuses itself.
func joinedPath(kind specs.LinuxNamespaceType) string {
	return stageDir + "/ns-" + strings.ReplaceAll(string(kind), "/", "-")
}
