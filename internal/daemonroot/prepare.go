// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// DataRoot is dockerd's data-root for an identity, below a super-root.
func DataRoot(superRoot string, id Identity) string {
	return filepath.Join(superRoot, id.String(), dataName)
}

// SuperRoot is the super-root below which a path is dockerd's data-root for an identity, "" if it is none.
func SuperRoot(dataRoot string) string {
	root, name := filepath.Split(filepath.Clean(dataRoot))
	super, id := filepath.Split(filepath.Clean(root))
	if _, ok := ParseIdentity(id); !ok || name != dataName {
		return ""
	}
	return filepath.Clean(super)
}

// Prepare makes the super-root, an identity's root in it, and dockerd's data-root in that, as far as
// they aren't there, and gives them owner and mode. Nothing is changed if dry is set.
//
// It refuses while the super-root has the data of a dockerd that knows of no roots, which [Host.Migrate]
// moves, and what it can't take for a root: a symbolic link, a root that belongs to somebody else, one of dockerd's
// userns-remap.
func (h Host) Prepare(data string, id Identity, dry bool) (Result, error) {
	s, made, err := h.openOrMake(data, dry)
	if err != nil {
		return Result{}, err
	}
	out := Result{Steps: made}
	if s == nil {
		s = &super{host: h, path: filepath.Clean(data)}
		out.Steps = append(out.Steps, s.makeRoot(id)...)
		out.Root = DataRoot(s.path, id)
		return out, nil
	}
	defer s.close()
	out.Root = DataRoot(s.path, id)
	if err := s.unfinished(); err != nil {
		return Result{}, err
	}
	l, err := s.list()
	if err != nil {
		return Result{}, err
	}
	if len(l.data) > 0 {
		return Result{}, fmt.Errorf("%s: has data that isn't in a root: %s: expected roots alone: move it to %s: %s",
			s.path, some(l.data), s.data(unmappedData), s.command("migrate"))
	}
	steps, err := s.sweep()
	if err != nil {
		return Result{}, err
	}
	steps = append(steps, s.adjust(".", s.stat, superMode, 0, 0)...)
	root, err := s.prepareRoot(id)
	if err != nil {
		return Result{}, err
	}
	steps = append(steps, root...)
	out.Steps = append(out.Steps, steps...)
	if dry {
		return out, nil
	}
	return out, run(steps)
}

// openOrMake is open, of a super-root that may be missing; without leave to make it, s is nil then.
func (h Host) openOrMake(data string, dry bool) (s *super, made []Step, err error) {
	if err := checkPath(data); err != nil {
		return nil, nil, err
	}
	path := filepath.Clean(data)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		parent, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: its directory: %w: mkdir -p %s", path, err, rootfile.ShellQuote(filepath.Dir(path)))
		}
		if err := judgeWay(parent); err != nil {
			return nil, nil, err
		}
		made = []Step{{Action: ActionMkdir, Path: path, Mode: octal(superMode), Owner: owner(0, 0)}}
		if dry {
			return nil, made, nil
		}
		// Of two calls at once, one finds it made.
		if err := unix.Mkdir(path, superMode); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, nil, fmt.Errorf("%s: mkdir: %w", path, err)
		}
	}
	if s, err = h.open(path, dry); err != nil || made == nil {
		return s, made, err
	}
	if err := s.setDir(".", superMode, 0, 0); err != nil { // the umask may have taken from it
		s.close()
		return nil, nil, err
	}
	return s, made, s.again()
}

// makeRoot is the steps that make a root where there is none. It is given away when all else is done.
func (s *super) makeRoot(id Identity) []Step {
	root := id.String()
	steps := []Step{s.mkdir(root, rootMode, 0, 0), s.mkdir(filepath.Join(root, dataName), dataMode, 0, 0)}
	if id != Unmapped {
		steps = append(steps, s.chown(root, id.UID, id.GID))
	}
	return steps
}

// prepareRoot is the steps that an identity's root needs.
func (s *super) prepareRoot(id Identity) ([]Step, error) {
	root := id.String()
	st, found, err := s.look(root)
	if err != nil {
		return nil, err
	}
	if !found {
		return s.makeRoot(id), nil
	}
	if err := s.judgeRoot(id, st); err != nil {
		return nil, err
	}
	var steps []Step
	st2, found, err := s.look(filepath.Join(root, dataName))
	if err != nil {
		return nil, err
	}
	if !found {
		steps = append(steps, s.mkdir(filepath.Join(root, dataName), dataMode, 0, 0))
	} else if err := s.judgeData(id, st2); err != nil {
		return nil, err
	}
	return append(steps, s.adjust(root, st, rootMode, id.UID, id.GID)...), nil
}

// judgeRoot refuses what isn't a root of this identity, nor was about to become one.
func (s *super) judgeRoot(id Identity, st unix.Stat_t) error {
	path := s.data(id.String())
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s: is %s in the place of a root: expected a directory: move it away", path, kind(st.Mode))
	}
	remap, err := s.isRemap(id)
	if err != nil {
		return err
	}
	if remap {
		return fmt.Errorf("%s: is a data root of dockerd's own userns-remap: expected none: take other IDs, or move it away once its dockerd has another", path)
	}
	if (st.Uid != id.UID && st.Uid != 0) || (st.Gid != id.GID && st.Gid != 0) {
		return fmt.Errorf("%s: belongs to %s: expected %s: see whose it is, then: chown %s %s", path, owner(st.Uid, st.Gid), id.Spec(), id.Spec(), rootfile.ShellQuote(path))
	}
	return nil
}

// judgeData refuses what dockerd shouldn't be let into. Its mode is dockerd's business, which changes it.
func (s *super) judgeData(id Identity, st unix.Stat_t) error {
	path := s.data(id.String(), dataName)
	quoted := rootfile.ShellQuote(path)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s: is %s in the place of a data root: expected a directory: move it away", path, kind(st.Mode))
	case st.Uid != 0:
		return fmt.Errorf("%s: belongs to UID %d: expected root, who dockerd is: see what is in it, then: chown root: %s", path, st.Uid, quoted)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s: has mode %s, writable by others than root: expected no write permission for group and others: chmod go-w %s", path, octal(st.Mode), quoted)
	}
	return nil
}
