// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Restore is the way back from [Host.Migrate]: what is in the data root of 0.0 goes to the super-root,
// which gets back its owner and mode, and empty roots are removed. Also what dockerd has made in 0.0
// since goes there.
//
// It refuses as Migrate does, and while another root has data. Nothing is changed if dry is set.
func (h Host) Restore(data string, dry bool) (Result, error) {
	s, err := h.open(data, dry)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	out, err := s.planRestore()
	if err != nil {
		return Result{}, err
	}
	out.Root = s.path
	if dry {
		return out, nil
	}
	if err := s.carryOut(out.Steps, s.planMigrate); err != nil {
		return Result{}, err
	}
	return out, nil
}

// planRestore is the steps from what is on disk to a super-root as it was.
func (s *super) planRestore() (out Result, err error) {
	l, err := s.list()
	if err != nil {
		return out, err
	}
	if err := s.judgeUnmapped(); err != nil {
		return out, err
	}
	data, err := s.names(unmappedData)
	if err != nil {
		return out, err
	}
	if out.Steps, err = s.sweep(); err != nil {
		return out, err
	}
	begun := s.old != nil && s.old.State != migrated
	both := meet(l.data, data)
	if len(both) > 0 || !begun && len(l.data) > 0 && len(data) > 0 {
		in := cmpOr(both, l.data)
		return out, fmt.Errorf("%s: has %s, which would be in the way of what is in %s: expected roots alone: dockerd was started on both: keep one of them, and move the other away",
			s.path, some(in), s.data(unmappedData))
	}
	if begun && s.old.State == migrating {
		// What is undone had made no other root.
		l.roots = slices.DeleteFunc(l.roots, func(id Identity) bool { return id != Unmapped })
	}
	empty, err := s.emptyRoots(l.roots)
	if err != nil {
		return out, err
	}
	if s.old == nil && len(empty) == 0 {
		return out, nil
	}
	// Those of roots that are to be removed are among them.
	if out.Warnings, err = s.free(slices.Concat([]string{Unmapped.String()}, l.data, empty)); err != nil {
		return out, err
	}
	was := journal{Version: journalVersion, Mode: octal(dataMode)} // of what was never migrated, as dockerd makes it
	if s.old != nil {
		was = *s.old
	}
	if !begun {
		was.State = restoring
		out.Steps = append(out.Steps, s.writeJournal(was))
	}
	out.Steps = append(out.Steps, s.adjust(".", s.stat, was.mode(), was.UID, was.GID)...)
	for _, name := range data {
		out.Steps = append(out.Steps, s.move(name, unmappedData, "."))
	}
	rewrites, warnings, err := s.rewrites(".", s.backward, func(name string) string {
		if slices.Contains(data, name) {
			return unmappedData
		}
		return "."
	})
	if err != nil {
		return out, err
	}
	out.Steps = append(out.Steps, rewrites...)
	out.Warnings = append(out.Warnings, warnings...)
	for _, rel := range empty {
		out.Steps = append(out.Steps, s.rmdir(rel))
	}
	out.Steps = append(out.Steps, s.removeJournal())
	return out, nil
}

// emptyRoots is the directories of roots that are to be removed, of which those of 0.0 will be empty by
// then, each before the one that it is in. Another root with data is refused.
func (s *super) emptyRoots(roots []Identity) (rels []string, err error) {
	for _, id := range roots {
		root := id.String()
		names, err := s.names(root)
		if err != nil {
			return nil, err
		}
		remap, err := s.isRemap(id)
		switch {
		case err != nil:
			return nil, err
		case remap:
			continue
		case slices.ContainsFunc(names, func(name string) bool { return name != dataName }):
			return nil, fmt.Errorf("%s: has %s: expected %s alone: move away what isn't a daemon's", s.data(root), some(names), dataName)
		}
		rel := filepath.Join(root, dataName)
		st, found, err := s.look(rel)
		if err != nil {
			return nil, err
		}
		if found && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, fmt.Errorf("%s: is %s in the place of a data root: expected a directory: move it away", s.data(rel), kind(st.Mode))
		}
		if data, err := s.names(rel); err != nil {
			return nil, err
		} else if len(data) > 0 && id != Unmapped {
			return nil, fmt.Errorf("%s: has data (%s): expected none in any root but %s: without a super-root no other daemon has a place in %s: move it away, or go on with roots",
				s.data(rel), some(data), Unmapped, s.path)
		}
		if found {
			rels = append(rels, rel)
		}
		rels = append(rels, root)
	}
	return rels, nil
}
