// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// wanted is the namespaces that a bundle, or the images of a checkpoint, ask
// for. Without maps they ask for no user namespace in particular.
type wanted struct {
	uids, gids    idmap.Map
	userns        *os.File // of a namespace that is there already
	denySetgroups bool     // of that namespace
	nsOwner       uint32   // of that namespace, counted as the caller's own IDs are
	restored      bool     // the maps are a checkpoint's
	shared        bool     // the namespace is another container's, some of whose others are joined
	joins         joins
}

func (w wanted) none() bool { return w.uids == nil && w.gids == nil }

// ownRootfs says whether the bundle's maker chose the maps, and so has made the
// root filesystem's owners fit them.
func (w wanted) ownRootfs() bool { return !w.none() && !w.restored && !w.shared }

// wants reads what namespaces are asked for.
func wants(c *call, spec *specs.Spec) (wanted, error) {
	if c.inv.Verb == "restore" {
		return wantsRestored(c, spec)
	}
	if spec.Linux == nil {
		return wanted{}, nil
	}
	j, err := findJoins(spec)
	if err != nil {
		return wanted{}, err
	}
	w, err := wantsUserNS(c, spec)
	if err != nil {
		return wanted{}, err
	}
	w.joins = j
	if j.owner == nil {
		return w, nil
	}
	return w.share(c)
}

func wantsUserNS(c *call, spec *specs.Spec) (wanted, error) {
	i := slices.IndexFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
	if i >= 0 && spec.Linux.Namespaces[i].Path != "" {
		return wantsByPath(c, spec, spec.Linux.Namespaces[i].Path)
	}
	return wantsByMaps(c, spec)
}

// wantsByMaps reads uidMappings and gidMappings. One without the other is
// refused by Permits, which takes no empty map.
func wantsByMaps(c *call, spec *specs.Spec) (w wanted, err error) {
	if w.uids, err = hostMap("uidMappings", spec.Linux.UIDMappings, c.subject.UIDs); err != nil {
		return wanted{}, err
	}
	if w.gids, err = hostMap("gidMappings", spec.Linux.GIDMappings, c.subject.GIDs); err != nil {
		return wanted{}, err
	}
	return w, nil
}

// hostMap is a map of a specification, its outer IDs counted on the host
// instead of in the caller's namespace.
func hostMap(field string, mappings []specs.LinuxIDMapping, own idmap.Map) (idmap.Map, error) {
	if len(mappings) == 0 {
		return nil, nil
	}
	m := make(idmap.Map, len(mappings))
	for i, mapping := range mappings {
		m[i] = idmap.Extent{Inner: mapping.ContainerID, Outer: mapping.HostID, Count: mapping.Size}
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("linux.%s: %w", field, err)
	}
	host, err := m.Through(own)
	if err != nil {
		return nil, fmt.Errorf("linux.%s: %w", field, err)
	}
	return host, nil
}

// wantsByPath looks at a namespace that is there already. The file is kept and
// handed on, so that what is run is what was looked at.
func wantsByPath(c *call, spec *specs.Spec, path string) (wanted, error) {
	const field = "linux.namespaces: user: path"
	if !filepath.IsAbs(path) {
		return wanted{}, fmt.Errorf("%s: %q: expected an absolute path", field, path)
	}
	ns, err := linux.OpenNamespace(path)
	if err != nil {
		return wanted{}, fmt.Errorf("%s: %w", field, err)
	}
	w, err := wantsNamespace(c, ns)
	if err != nil {
		return wanted{}, errors.Join(fmt.Errorf("%s: %s: %w", field, path, err), ns.Close())
	}
	named, err := wantsByMaps(c, spec)
	if err != nil {
		return wanted{}, err
	}
	if !named.none() && (!named.uids.Equal(w.uids) || !named.gids.Equal(w.gids)) {
		return wanted{}, fmt.Errorf("%s: %s maps UIDs %s and GIDs %s, and uidMappings and gidMappings say %s and %s: leave one out",
			field, path, w.uids, w.gids, named.uids, named.gids)
	}
	return w, nil
}

// wantsNamespace is the user namespace that ns is open on, with its maps counted
// on the host.
func wantsNamespace(c *call, ns *os.File) (wanted, error) {
	is, err := lookInto(c, ns)
	if err != nil {
		return wanted{}, err
	}
	w := wanted{userns: ns, denySetgroups: is.DenySetgroups, nsOwner: is.Owner}
	if w.uids, err = is.UIDs.Through(c.subject.UIDs); err != nil {
		return wanted{}, err
	}
	if w.gids, err = is.GIDs.Through(c.subject.GIDs); err != nil {
		return wanted{}, err
	}
	if len(w.uids) == 0 || len(w.gids) == 0 {
		return wanted{}, errors.New("it has no maps yet")
	}
	return w, nil
}

// lookInto reads what a namespace is, unless somebody else than the caller has
// every capability in it. For root it may belong to whom the flag owned says, which is
// known later: see [plan.checkNSOwner].
func lookInto(c *call, ns *os.File) (delegate.State, error) {
	owner, err := linux.UserNSOwner(ns)
	if err != nil {
		return delegate.State{}, err
	}
	if owner != uint32(os.Geteuid()) && !c.subject.IsRoot() {
		return delegate.State{}, fmt.Errorf("it belongs to UID %d, who has every capability in it: expected one that belongs to the caller (UID %d)", owner, os.Geteuid())
	}
	is, err := delegate.Look(ns)
	if err != nil {
		return delegate.State{}, fmt.Errorf("%w: expected a user namespace below the caller's own", err)
	}
	return is, nil
}
