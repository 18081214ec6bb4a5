// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// Migrate moves the data of a dockerd that knew of no roots into the root 0.0, by rename(2), and has the
// files in which dockerd keeps paths of its own say where they are now. The super-root gets mode 0755 at
// last, when nothing is in it that was closed by its mode. An identity that isn't nil gets its root then.
//
// It refuses, before anything is changed, what is in use, mounts below the super-root, and what would be
// in the way. If a step fails, what was done is undone. What was killed is finished by the next call, or undone by
// [Host.Restore]. Nothing is changed if dry is set.
func (h Host) Migrate(data string, id *Identity, dry bool) (Result, error) {
	s, err := h.open(data, dry)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	out, err := s.planMigrate()
	if err != nil {
		return Result{}, err
	}
	out.Root = s.data(unmappedData)
	var root []Step
	if id != nil && *id != Unmapped {
		if root, err = s.prepareRoot(*id); err != nil {
			return Result{}, err
		}
		out.Root = DataRoot(s.path, *id)
	}
	moves := out.Steps
	out.Steps = slices.Concat(moves, root)
	if dry {
		return out, nil
	}
	if err := s.carryOut(moves, s.planRestore); err != nil {
		return Result{}, err
	}
	if err := run(root); err != nil {
		return Result{}, fmt.Errorf("%w: the data is in %s by now: once that is mended: %s", err, s.data(unmappedData), s.command("prepare", "--root", id.Spec()))
	}
	return out, nil
}

// carryOut does the steps; if one fails, back is what undoes them.
func (s *super) carryOut(steps []Step, back func() (Result, error)) error {
	err := run(steps)
	if err == nil {
		return nil
	}
	if err := s.again(); err != nil {
		return err
	}
	if s.old == nil || s.old.State == migrated {
		return err // nothing was begun
	}
	undo, failed := back()
	if failed == nil {
		failed = run(undo.Steps)
	}
	if failed != nil {
		return fmt.Errorf("%w; what was done before couldn't be undone: %w: mend that, and try again: nothing is lost", err, failed)
	}
	return fmt.Errorf("%w; what was done before is undone", err)
}

// planMigrate is the steps from what is on disk to a whole root 0.0.
func (s *super) planMigrate() (out Result, err error) {
	l, err := s.list()
	if err != nil {
		return out, err
	}
	if err := s.judgeUnmapped(); err != nil {
		return out, err
	}
	moved, err := s.names(unmappedData)
	if err != nil {
		return out, err
	}
	if out.Steps, err = s.sweep(); err != nil {
		return out, err
	}
	begun := s.old != nil && s.old.State != migrated
	if len(l.data) == 0 && !begun {
		return out, nil
	}
	if both := meet(l.data, moved); len(both) > 0 || !begun && len(moved) > 0 {
		in := cmpOr(both, moved)
		return out, fmt.Errorf("%s: has %s already, which would be in the way of what is in %s (%s): expected an empty directory, or none: dockerd was started on both: keep one of them, and move the other away",
			s.data(unmappedData), some(in), s.path, some(l.data))
	}
	if out.Warnings, err = s.free(append([]string{Unmapped.String()}, l.data...)); err != nil {
		return out, err
	}
	for _, name := range l.data {
		if err := s.judgeEntry(name); err != nil {
			return out, err
		}
		if foreign(name) {
			out.Warnings = append(out.Warnings, fmt.Sprintf("%s: isn't a name that dockerd gives: it goes to %s with the rest: tell who else uses it", s.data(name), s.data(unmappedData, name)))
		}
	}
	was := s.before()
	if !begun { // a change of direction needs no word, nor room on a full disk
		was.State = migrating
		out.Steps = append(out.Steps, s.writeJournal(was))
	}
	for _, dir := range []struct {
		rel      string
		mode     uint32
		uid, gid uint32
	}{{Unmapped.String(), rootMode, 0, 0}, {unmappedData, was.mode(), was.UID, was.GID}} {
		st, found, err := s.look(dir.rel)
		switch {
		case err != nil:
			return out, err
		case !found:
			out.Steps = append(out.Steps, s.mkdir(dir.rel, dir.mode, dir.uid, dir.gid))
		default:
			out.Steps = append(out.Steps, s.adjust(dir.rel, st, dir.mode, dir.uid, dir.gid)...)
		}
	}
	for _, name := range l.data {
		out.Steps = append(out.Steps, s.move(name, ".", unmappedData))
	}
	rewrites, warnings, err := s.rewrites(unmappedData, s.forward(slices.Concat(l.data, moved)), func(name string) string {
		if slices.Contains(l.data, name) {
			return "."
		}
		return unmappedData
	})
	if err != nil {
		return out, err
	}
	out.Steps = append(out.Steps, rewrites...)
	out.Warnings = append(out.Warnings, warnings...)
	out.Steps = append(out.Steps, s.adjust(".", s.stat, superMode, 0, 0)...)
	was.State = migrated
	last := s.writeJournal(was)
	write := last.do
	last.do = func() error {
		// Of a dockerd that was started in this very moment.
		if now, err := s.list(); err != nil {
			return err
		} else if len(now.data) > 0 {
			return fmt.Errorf("%s: has %s, which came while the rest was moved: expected that no dockerd is started meanwhile: stop it", s.path, some(now.data))
		}
		return write()
	}
	out.Steps = append(out.Steps, last)
	return out, nil
}

// judgeUnmapped refuses what can't be the root 0.0.
func (s *super) judgeUnmapped() error {
	st, found, err := s.look(Unmapped.String())
	if err != nil || !found {
		return err
	}
	if err := s.judgeRoot(Unmapped, st); err != nil {
		return err
	}
	names, err := s.names(Unmapped.String())
	if err != nil {
		return err
	}
	if names = slices.DeleteFunc(names, func(name string) bool { return name == dataName }); len(names) > 0 {
		return fmt.Errorf("%s: has %s: expected %s alone: move that away", s.data(Unmapped.String()), some(names), dataName)
	}
	if st, found, err = s.look(unmappedData); err != nil || !found {
		return err
	}
	// Its owner and mode may be those that the super-root had.
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s: is %s in the place of a data root: expected a directory: move it away", s.data(unmappedData), kind(st.Mode))
	}
	return nil
}

// judgeEntry refuses a symbolic link that would lead elsewhere two directories further down, or to
// files that are to be rewritten.
func (s *super) judgeEntry(name string) error {
	f, err := s.openat(name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: stat: %w", s.data(name), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return nil
	}
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buffer)
	if err != nil {
		return fmt.Errorf("%s: readlink: %w", s.data(name), err)
	}
	target := string(buffer[:n])
	switch {
	case slices.ContainsFunc(keepers, func(k keeper) bool { return k.dir == name }):
		return fmt.Errorf("%s: is a symbolic link to %s: expected the directory itself, in which paths are to be rewritten: with dockerd stopped, put it here: rm %s && mv %s %[3]s",
			s.data(name), target, rootfile.ShellQuote(s.data(name)), rootfile.ShellQuote(target))
	case !strings.HasPrefix(target, "/"), s.below(target):
		return fmt.Errorf("%s: is a symbolic link to %s, which would lead elsewhere from %s: expected the absolute path of something outside of %s: ln -sfn PATH %s",
			s.data(name), target, s.data(unmappedData), s.path, rootfile.ShellQuote(s.data(name)))
	}
	return nil
}

// below says whether an absolute path is the super-root's or below it, by one of its names.
func (s *super) below(path string) bool {
	for _, p := range []string{s.path, s.given} {
		if rel, err := filepath.Rel(p, path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return true
		}
	}
	return false
}

// meet is the names in both.
func meet(a, b []string) (both []string) {
	for _, name := range a {
		if slices.Contains(b, name) {
			both = append(both, name)
		}
	}
	return both
}

func cmpOr(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}

// some is the first of many names.
func some(names []string) string {
	var quoted []string
	for _, name := range names[:min(5, len(names))] {
		quoted = append(quoted, rootfile.ShellQuote(name))
	}
	text := strings.Join(quoted, ", ")
	if len(names) > 5 {
		text += fmt.Sprintf(" and %d more", len(names)-5)
	}
	return text
}
