// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/daemonroot"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// Step is one thing that was done, or would be.
type Step struct {
	// Action is "create", "change", "restore" or "remove" of a file, "mkdir" or "rmdir",
	// "link" or "unlink", "divert" or "undivert", "setcap" of a program.
	Action string `json:"action"`
	File   string `json:"file"`
	To     string `json:"to,omitempty"`   // what a link leads to, where a file is diverted, which capabilities, a directory's mode
	Diff   string `json:"diff,omitempty"` // of a file, in the unified form
}

// Result is what a verb has done, or would do.
type Result struct {
	Steps    []Step // none if all was as it should be
	File     string // the engine's file, for messages
	Moved    bool   // another data root is written there than before
	Warnings []string
}

// ErrNotConfigured is that there is nothing to undo.
var ErrNotConfigured = errors.New("nothing was written by this program, so there is nothing to undo")

// notConfigured is an ErrNotConfigured of a file.
type notConfigured struct{ file, other string }

func (e *notConfigured) Error() string { return e.file + ": " + ErrNotConfigured.Error() }
func (e *notConfigured) Unwrap() error { return ErrNotConfigured }

// UndoOfOther is the command that undoes what was done to another file of the engine's than the
// one that err, of [Host.Undo], says has nothing to undo; "" if there is none.
func UndoOfOther(err error) string {
	if e, ok := errors.AsType[*notConfigured](err); ok {
		return e.other
	}
	return ""
}

// Configure makes userns-runtime the default runtime of an engine. dry says what would be done,
// and does nothing. A second time it does nothing; with another request it does that one
// instead, and undo still gives back what was before the first.
func (h Host) Configure(name string, r Request, dry bool) (Result, error) {
	e, err := find(name)
	if err != nil {
		return Result{}, err
	}
	if r.File == "" {
		r.File = e.file
	}
	if dry {
		return h.configure(&store{Host: h}, e, r, true)
	}
	s, err := h.open()
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	return h.configure(s, e, r, false)
}

func (h Host) configure(s *store, e engine, r Request, dry bool) (Result, error) {
	key := e.stateKey(r.File)
	st, err := h.load(key)
	if err != nil {
		return Result{}, err
	}
	if st == nil && !dry {
		if err := s.sweep(filepath.Join(StateDir, key)); err != nil {
			return Result{}, err
		}
	}
	var p *Plan
	if st != nil {
		if st, p, err = s.resume(e, st, r, dry); err != nil {
			return Result{}, err
		}
	}
	if p == nil {
		if p, err = e.plan(view{Host: h}, r); err != nil {
			return Result{}, err
		}
	}
	out := Result{File: p.File, Moved: e.moves(p.Old, p.New), Warnings: p.Warnings}
	next, err := h.next(st, p)
	if err != nil {
		return Result{}, err
	}
	next.Engine, next.Main, next.dir = e.name, r.File, filepath.Join(StateDir, key)
	linked := true
	if p.Link != "" {
		if linked, err = h.linkState(p.Link); err != nil {
			return Result{}, err
		}
	}
	if p.Link != "" && !slices.ContainsFunc(next.Links, func(l stateLink) bool { return l.Path == p.Link }) {
		next.Links = append(next.Links, stateLink{p.Link, !linked})
	}
	for _, dir := range h.missingDirs(p.File) {
		out.Steps = append(out.Steps, Step{Action: "mkdir", File: dir})
		next.Dirs = append(next.Dirs, dir)
	}
	if !linked {
		out.Steps = append(out.Steps, Step{Action: "link", File: p.Link, To: ProgramName})
	}
	if !bytes.Equal(p.Old, p.New) || p.Old == nil {
		out.Steps = append(out.Steps, fileStep(p.File, p.Old, p.New))
	}
	if dry || len(out.Steps) == 0 {
		return out, nil
	}
	return out, s.apply(st, next, p)
}

// fileStep is the change of a file, with its diff.
func fileStep(file string, old, now []byte) Step {
	step := Step{Action: "change", File: file}
	from, to := file, file
	switch {
	case old == nil:
		step.Action, from = "create", "/dev/null"
	case now == nil:
		step.Action, to = "remove", "/dev/null"
	}
	step.Diff = Diff(from, to, string(old), string(now))
	return step
}

// next is the state of a plan that is carried out, after st if there is one.
func (h Host) next(st *state, p *Plan) (*state, error) {
	next := &state{Phase: writing, File: p.File, Before: hash(p.Old), After: hash(p.New)}
	if st != nil {
		next.Before, next.Backup, next.Dirs, next.Links = st.Before, st.Backup, slices.Clone(st.Dirs), slices.Clone(st.Links)
		previous := hash(p.Old)
		next.Previous = &previous
		return next, nil
	}
	if len(h.missingDirs(p.File)) > 0 {
		return next, nil
	}
	var err error
	next.Backup, err = h.hasBackup(p.File)
	return next, err
}

// apply carries a plan out: state, directories, link, file, state. Where that fails it is as if it
// hadn't begun.
func (s *store) apply(st, next *state, p *Plan) error {
	before := p.Old
	if st != nil {
		var err error
		if before, err = s.content(st, st.Before); err != nil {
			return err
		}
	}
	if err := s.save(next, before, p.Old, p.New); err != nil {
		return err
	}
	if err := s.carryOut(next, p); err != nil {
		return errors.Join(err, s.backOut(st, next, p))
	}
	return s.finish(next)
}

// finish ends a change that was carried out. Links of the requests before stay until undo:
// containerd keeps with each container which one it was started by.
func (s *store) finish(st *state) error {
	st.Phase, st.Previous = done, nil
	if err := s.save(st); err != nil {
		return err
	}
	return s.kept(st)
}

// backOut undoes the beginning of a change whose file couldn't be written.
func (s *store) backOut(st, next *state, p *Plan) error {
	current, err := s.read(next.File)
	if err != nil || hash(current) != hash(p.Old) {
		return err
	}
	if st == nil {
		_, err := s.cleanUp(next)
		return err
	}
	next.Links = slices.DeleteFunc(next.Links, func(l stateLink) bool { return slices.Contains(st.Links, l) })
	if _, err := s.removeLinks(next); err != nil {
		return err
	}
	return s.save(st)
}

func (s *store) carryOut(next *state, p *Plan) error {
	if err := s.makeDirs(next.Dirs); err != nil {
		return err
	}
	// Before the file that names it, so that the engine never finds it missing.
	if p.Link != "" {
		if err := s.makeLink(p.Link); err != nil {
			return err
		}
	}
	if bytes.Equal(p.Old, p.New) && p.Old != nil {
		return nil
	}
	return s.replace(next, p.Old, p.New)
}

// resume finds out what became of the change that st is of. It gives the state as it is now,
// nil if there was no change after all, and the plan of the request where that isn't
// simply one of the files as they are.
func (s *store) resume(e engine, st *state, r Request, dry bool) (*state, *Plan, error) {
	current, err := s.read(st.File)
	if err != nil {
		return nil, nil, err
	}
	if !dry {
		if err := s.settleIfThere(st); err != nil {
			return nil, nil, err
		}
	}
	before, err := s.content(st, st.Before)
	if err != nil {
		return nil, nil, err
	}
	sum := hash(current)
	switch {
	case sum == st.After, st.Previous != nil && sum == *st.Previous && sum != st.Before:
		st.After, st.Previous = sum, nil
		p, err := e.plan(view{s.Host, st.File, before}, r)
		if err != nil {
			return nil, nil, err
		}
		if p.File != st.File {
			return nil, nil, fmt.Errorf("%s: was changed by this program, and %s is what decides now: take that back first: %s", st.File, p.File, undoCommand(e, r.File))
		}
		p.Old = current
		if st.Phase != done && bytes.Equal(current, p.New) && !dry {
			// Killed behind the write: what is left of it is little.
			if err := s.finish(st); err != nil {
				return nil, nil, err
			}
		}
		return st, p, nil
	case current == nil && before != nil:
		return nil, nil, fmt.Errorf("%s: was removed by others since this program wrote it, and what was there before would be lost: have it back first: %s", st.File, undoCommand(e, r.File))
	case sum == st.Before, !e.uses(current):
		// It was taken back, or not yet done; or the file is another one, with nothing of ours.
		p, err := e.plan(view{Host: s.Host}, r)
		if err != nil {
			return nil, nil, err
		}
		kept, err := s.keep(st, current, before, dry)
		if err != nil {
			return nil, nil, err
		}
		if !dry {
			if _, err := s.cleanUp(st); err != nil {
				return nil, nil, err
			}
		}
		p.Warnings = append(p.Warnings, kept...)
		return nil, p, nil
	}
	// Changed by others, with what is ours still in it.
	p, err := e.plan(view{Host: s.Host}, r)
	if err == nil && p.File == st.File && bytes.Equal(p.Old, p.New) {
		p.Warnings = append(p.Warnings, st.File+": was changed by others since this program wrote it: --undo will refuse")
		if st.Phase != done && !dry {
			st.Phase, st.Previous = done, nil
			if err := s.save(st); err != nil {
				return nil, nil, err
			}
		}
		return st, p, nil
	}
	after, cerr := s.content(st, st.After)
	if cerr != nil {
		return nil, nil, cerr
	}
	return nil, nil, s.foreign(e, st, after, current)
}

// settleIfThere is settle, where the file's directory is there.
func (s *store) settleIfThere(st *state) error {
	if len(s.missingDirs(st.File)) > 0 {
		return nil
	}
	return s.settle(st)
}

// foreign is the error for a file that was changed by others since.
func (s *store) foreign(e engine, st *state, after, current []byte) error {
	wrote := filepath.Join(st.dir, st.After)
	ours, instead := show(RuntimeName), ""
	if e.name == "docker" {
		if daemonroot.SuperRoot(dataRootOf(current)) != "" {
			ours += fmt.Sprintf(" and the daemon root that %q is", dockerDataRoot)
		}
		instead = fmt.Sprintf(", with %q: \"runc\" in place of that default, since a reload without any makes dockerd 20.10 crash", dockerDefault)
	}
	return fmt.Errorf("%s: was changed by others since this program wrote it, and what was before can't be given back with that in it:\n%s"+
		"to give up their change: cp %s %s; to keep it: take by hand out what names %s%s; then: %s",
		st.File, strings.TrimSuffix(Diff("as written: "+st.File, "as it is: "+st.File, string(after), string(current)), "\n")+"\n",
		rootfile.ShellQuote(wrote), rootfile.ShellQuote(st.File), ours, instead, undoCommand(e, st.Main))
}

func undoCommand(e engine, main string) string {
	command := "usernsctl configure " + e.name + " --undo"
	if main != e.file {
		command += " --file " + rootfile.ShellQuote(main)
	}
	return command
}

// Undo gives back what was before Configure. busy is asked, before anything is done, whether
// containers need the runtime. The error wraps ErrNotConfigured if there is nothing to undo.
func (h Host) Undo(name, main string, busy func() error, dry bool) (Result, error) {
	e, err := find(name)
	if err != nil {
		return Result{}, err
	}
	if main == "" {
		main = e.file
	}
	key := e.stateKey(main)
	// Without a state there may be what one has left that was killed as the last thing that it did.
	if _, err := os.Lstat(h.path(filepath.Join(StateDir, key))); err != nil {
		return Result{}, h.nothingToUndo(e, main)
	}
	s := &store{Host: h}
	if !dry {
		var err error
		if s, err = h.open(); err != nil {
			return Result{}, err
		}
		defer s.close()
		if err := s.sweep(filepath.Join(StateDir, key)); err != nil {
			return Result{}, err
		}
	}
	st, err := h.load(key)
	if err != nil {
		return Result{}, err
	}
	if st == nil {
		return Result{}, h.nothingToUndo(e, main)
	}
	return s.undo(e, st, busy, dry)
}

func (h Host) nothingToUndo(e engine, main string) error {
	states, err := h.states()
	if err != nil {
		return err
	}
	for _, st := range states {
		if st.Engine == e.name {
			return &notConfigured{main, undoCommand(e, st.Main)}
		}
	}
	return &notConfigured{main, ""}
}

func (s *store) undo(e engine, st *state, busy func() error, dry bool) (Result, error) {
	current, err := s.read(st.File)
	if err != nil {
		return Result{}, err
	}
	before, err := s.content(st, st.Before)
	if err != nil {
		return Result{}, err
	}
	out := Result{File: st.File}
	sum := hash(current)
	restore := false
	switch {
	case sum == st.Before:
	case sum == st.After, st.Previous != nil && sum == *st.Previous:
		restore = true
		out.Moved = e.moves(current, before)
		step := fileStep(st.File, current, before)
		if step.Action == "change" {
			step.Action = "restore"
		}
		out.Steps = append(out.Steps, step)
	case current == nil: // before isn't: nothing of others is lost
		restore = true
		for _, dir := range s.missingDirs(st.File) {
			out.Steps = append(out.Steps, Step{Action: "mkdir", File: dir})
		}
		step := fileStep(st.File, nil, before)
		step.Action = "restore"
		out.Steps = append(out.Steps, step)
		out.Warnings = append(out.Warnings, st.File+": was removed by others: what was there before is given back, for root alone to read, since its mode has gone with it")
	case !e.uses(current):
		out.Warnings = append(out.Warnings, st.File+": was changed by others, and has nothing of this program any more: it stays as it is")
	default:
		after, err := s.content(st, st.After)
		if err != nil {
			return Result{}, err
		}
		return Result{}, s.foreign(e, st, after, current)
	}
	if _, err := s.sharers(st); err != nil {
		return Result{}, err
	}
	if err := busy(); err != nil {
		return Result{}, err
	}
	if e.name == "podman" && restore {
		out.Warnings = append(out.Warnings, fmt.Sprintf("containers that were made for the runtime %s can't be started without it, but have to be made again: podman inspect -f '{{.OCIRuntime}} {{.Name}}' $(podman ps -aq) shows them, before it is done", RuntimeName))
	}
	if e.name == "docker" {
		out.Warnings = append(out.Warnings, s.stopped(st.Main, current)...)
		if restore {
			out.Warnings = append(out.Warnings, s.reloadEnds(st.Main, before)...)
		}
	}
	if !restore {
		kept, err := s.keep(st, current, before, dry)
		if err != nil {
			return Result{}, err
		}
		out.Warnings = append(out.Warnings, kept...)
	}
	if dry {
		return out, nil
	}
	if err := s.settleIfThere(st); err != nil {
		return Result{}, err
	}
	if restore {
		st.Phase = undoing
		if err := s.save(st); err != nil {
			return Result{}, err
		}
		if before != nil {
			if err := s.makeDirs(s.missingDirs(st.File)); err != nil {
				return Result{}, err
			}
		}
		if err := s.replace(st, current, before); err != nil {
			return Result{}, err
		}
	}
	steps, err := s.cleanUp(st)
	out.Steps = append(out.Steps, steps...)
	return out, err
}

// cleanUp removes what was made beside the file, and the state.
func (s *store) cleanUp(st *state) (steps []Step, err error) {
	links, err := s.removeLinks(st)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		steps = append(steps, Step{Action: "unlink", File: link})
	}
	for _, dir := range s.removeDirs(st.Dirs) {
		steps = append(steps, Step{Action: "rmdir", File: dir})
	}
	return steps, s.forget(st)
}
