// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Kinds of a [Root].
const (
	KindSuper = "super-root"
	KindPlain = "data-root"    // of a dockerd that knows of no roots
	KindRoot  = "root"         // of one identity
	KindRemap = "userns-remap" // of dockerd's own
)

// Root is a super-root, or a root in it, as it is.
type Root struct {
	Kind  string
	Path  string
	ID    Identity // of a root
	Mode  string   // "0700"
	Owner string   // "100000:100000"
	// Daemons is the dockerds that run with it, by their process numbers.
	Daemons []int
	Drift   []Drift
}

// Drift is something that isn't as it should be.
type Drift struct {
	What string `json:"what"`           // with the path
	Mend string `json:"mend,omitempty"` // a command; empty where What says what to do
}

// Status is a super-root and its roots, in the order of their names; none where there is no directory.
func (h Host) Status(data string) ([]Root, error) {
	s, err := h.open(data, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer s.close()
	l, err := s.list()
	if err != nil {
		return nil, err
	}
	daemons, err := s.daemons()
	if err != nil {
		return nil, err
	}
	running := func(rel string) (pids []int) {
		for _, d := range daemons {
			if d.rel == rel {
				pids = append(pids, d.pid)
			}
		}
		return pids
	}
	top := Root{Kind: KindSuper, Path: s.path, Mode: octal(s.stat.Mode), Owner: owner(s.stat.Uid, s.stat.Gid), Daemons: running("")}
	roots := []Root{top}
	var ids []Identity // of roots of ours
	for _, id := range l.roots {
		r, err := s.root(id, running(filepath.Join(id.String(), dataName)))
		if err != nil {
			return nil, err
		}
		if r.Kind == KindRoot {
			ids = append(ids, id)
		}
		roots = append(roots, r)
	}
	if s.old == nil && len(ids) == 0 && (len(l.data) > 0 || len(l.roots) > 0) {
		roots[0].Kind = KindPlain
		return roots, nil
	}
	if roots[0].Drift, err = s.superDrift(l, ids, roots[0].Daemons); err != nil {
		return nil, err
	}
	return roots, nil
}

// root is one of them.
func (s *super) root(id Identity, daemons []int) (Root, error) {
	st, _, err := s.look(id.String())
	if err != nil {
		return Root{}, err
	}
	r := Root{Kind: KindRoot, Path: s.data(id.String()), ID: id, Mode: octal(st.Mode), Owner: owner(st.Uid, st.Gid), Daemons: daemons}
	remap, err := s.isRemap(id)
	if err != nil {
		return Root{}, err
	}
	if remap {
		r.Kind = KindRemap
		return r, nil
	}
	if s.unfinished() != nil {
		return r, nil // what it should be isn't known yet
	}
	steps, err := s.prepareRoot(id)
	if err != nil {
		r.Drift = append(r.Drift, Drift{What: err.Error()})
	}
	r.Drift = append(r.Drift, s.drifts(steps, s.command("prepare", "--root", id.Spec()))...)
	names, err := s.names(id.String())
	if err != nil {
		return Root{}, err
	}
	var more []string
	for _, name := range names {
		if name != dataName {
			more = append(more, name)
		}
	}
	if len(more) > 0 {
		r.Drift = append(r.Drift, Drift{What: fmt.Sprintf("%s: has %s: expected %s alone: see whose it is, and move it away", r.Path, some(more), dataName)})
	}
	return r, nil
}

// drifts is what isn't as it should be, by the steps that mend it.
func (s *super) drifts(steps []Step, mend string) (all []Drift) {
	for _, step := range steps {
		what := "isn't there"
		switch step.Action {
		case ActionMode:
			what = fmt.Sprintf("has mode %s: expected %s", step.was, step.Mode)
		case ActionOwner:
			what = fmt.Sprintf("belongs to %s: expected %s", step.was, step.Owner)
		case ActionRemove:
			what = "is what a killed call has left"
		}
		all = append(all, Drift{step.Path + ": " + what, mend})
	}
	return all
}

// superDrift is what isn't as it should be with the super-root itself.
func (s *super) superDrift(l listing, ids []Identity, daemons []int) (all []Drift, err error) {
	if s.unfinished() != nil {
		finish, _ := s.old.verbs()
		return []Drift{{fmt.Sprintf("%s: is %s, and was left in the middle", s.path, s.old.State), s.command(finish)}}, nil
	}
	if len(ids) == 0 {
		ids = []Identity{Unmapped}
	}
	steps, err := s.sweep()
	if err != nil {
		return nil, err
	}
	all = s.drifts(append(steps, s.adjust(".", s.stat, superMode, 0, 0)...), s.command("prepare", "--root", ids[0].Spec()))
	if len(l.data) > 0 {
		moved, err := s.names(unmappedData)
		if err != nil {
			return nil, err
		}
		d := Drift{fmt.Sprintf("%s: has data that isn't in a root: %s", s.path, some(l.data)), s.command("migrate")}
		if len(moved) > 0 {
			d = Drift{What: d.What + fmt.Sprintf(": %s has some already: dockerd was started on both: keep one of them, and move the other away", s.data(unmappedData))}
		}
		all = append(all, d)
	}
	configure := s.called("configure docker", "--root", ids[0].Spec())
	if len(daemons) > 0 {
		all = append(all, Drift{fmt.Sprintf("%s: is the data root of dockerd (process %d): expected one of a root", s.path, daemons[0]), configure})
	}
	d, err := s.settings(ids[0], configure)
	return append(all, d...), err
}

// settings is that dockerd's file, which it reads when it is started, has a data root in the super-root
// that is none of a root.
func (s *super) settings(id Identity, mend string) ([]Drift, error) {
	root, err := os.Open(cmp.Or(s.host.Root, "/"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	path := ""
	f, err := openIn(root, dockerFile, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	switch {
	case err == nil:
		defer f.Close()
		if path, err = dataRootOf(f); err != nil {
			return []Drift{{What: err.Error()}}, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	said := dockerFile
	if path == "" {
		path, said = DefaultData, dockerFile+" doesn't say otherwise"
	}
	if !s.below(path) {
		return nil, nil // another dockerd's
	}
	var st unix.Stat_t
	rel, ok := "", false
	if err := unix.Stat(path, &st); err == nil {
		if rel, ok, err = s.which(st); err != nil {
			return nil, err
		}
	}
	if ok && strings.HasSuffix(rel, "/"+dataName) {
		return nil, nil
	}
	return []Drift{{fmt.Sprintf("%s: the data root of the next dockerd is %s: expected one of a root, such as %s", said, path, DataRoot(s.path, id)), mend}}, nil
}
