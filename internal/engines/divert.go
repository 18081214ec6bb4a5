// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const dpkgDivert = "/usr/bin/dpkg-divert"

// diverter does it. There is a program at the path at any moment: dpkg is told first, which
// changes nothing on disk, then what is there gets its second name, and then the link, which was made before, is
// renamed over the first; and back in the other order.
type diverter struct {
	*store
	place
	st      *divertState
	adopted bool // st was lost, and is what is seen
}

// Divert puts userns-runtime in runc's own place, for those who call runc without asking an
// engine's configuration. What dpkg has there it has under another name from then on, upgrades
// too (dpkg-divert(1)).
func (h Host) Divert(program string, dry bool) (Result, error) {
	return h.putIn(runcPlace, program, dry)
}

// Undivert gives runc its place back. busy is asked first, as by [Host.Undo].
func (h Host) Undivert(busy func() error, dry bool) (Result, error) {
	return h.takeOut(runcPlace, busy, dry)
}

// putIn puts a program, or what is in a directory of programs, in a place.
func (h Host) putIn(where place, program string, dry bool) (Result, error) {
	d, err := h.diverter(where, dry)
	if err != nil {
		return Result{}, err
	}
	defer d.close()
	out := Result{File: d.name}
	paths, err := d.targets()
	if err != nil {
		return Result{}, err
	}
	prepare, err := d.prepare(h, program, paths)
	if err != nil {
		return Result{}, err
	}
	for _, p := range prepare {
		out.Steps = append(out.Steps, p.step)
	}
	var todo []string
	for _, path := range paths {
		done, err := d.look(path, program)
		if err != nil {
			return Result{}, err
		}
		if !done {
			todo = append(todo, path)
			out.Steps = append(out.Steps, Step{Action: "divert", File: path, To: d.second(path)}, Step{Action: "link", File: path, To: d.link(program, path)})
		}
	}
	out.Warnings = d.uncovered(paths)
	settled := d.st != nil && !d.adopted && d.st.Phase == done && d.st.Program == program && slices.Equal(d.st.Paths, paths)
	if dry || len(out.Steps) == 0 && settled {
		return out, nil
	}
	for _, p := range prepare {
		if err := p.do(); err != nil {
			return Result{}, err
		}
	}
	before := d.st
	d.st = &divertState{stateVersion, writing, program, paths}
	if err := d.saveDivert(); err != nil {
		return Result{}, err
	}
	for _, path := range todo {
		if err := d.divert(path, program); err != nil {
			return Result{}, errors.Join(err, d.backOut(before, todo))
		}
	}
	for _, path := range paths {
		if err := d.disarm(path); err != nil {
			return Result{}, err
		}
	}
	d.st.Phase = done
	return out, d.saveDivert()
}

// takeOut gives what was diverted its place back.
func (h Host) takeOut(where place, busy func() error, dry bool) (Result, error) {
	if _, err := os.Stat(dpkgDivert); err != nil {
		if _, err := os.Lstat(h.path(filepath.Join(StateDir, where.key))); err != nil {
			return Result{}, fmt.Errorf("%s: %w", where.name, ErrNotConfigured)
		}
		return Result{}, fmt.Errorf("%s: isn't here, and dpkg has to know that %s has its place back: install it first: it is in the package dpkg", dpkgDivert, where.name)
	}
	d, err := h.diverter(where, dry)
	if err != nil {
		return Result{}, err
	}
	defer d.close()
	if d.st == nil {
		if !dry {
			err = d.leave() // of a run that was killed before it had begun
		}
		return Result{}, errors.Join(fmt.Errorf("%s: %w", d.name, ErrNotConfigured), err)
	}
	out := Result{File: d.name}
	for _, path := range d.st.Paths {
		if err := d.mayReturn(path); err != nil {
			return Result{}, err
		}
		step := Step{Action: "undivert", File: path}
		if _, err := os.Lstat(h.path(d.second(path))); err == nil { // else the package was removed
			step.To = d.second(path)
		}
		out.Steps = append(out.Steps, step)
	}
	if err := busy(); err != nil || dry {
		return out, err
	}
	d.st.Phase = undoing
	if err := d.saveDivert(); err != nil {
		return Result{}, err
	}
	for _, path := range d.st.Paths {
		if err := d.undivert(path); err != nil {
			return Result{}, err
		}
	}
	if err := d.leave(); err != nil {
		return Result{}, err
	}
	return out, d.forget(&state{dir: filepath.Join(StateDir, d.key)})
}

func (h Host) diverter(where place, dry bool) (*diverter, error) {
	if _, err := os.Stat(dpkgDivert); err != nil {
		return nil, fmt.Errorf("%s: isn't here: a file of a package is put aside by dpkg alone: %s", dpkgDivert, where.instead)
	}
	d := &diverter{store: &store{Host: h}, place: where}
	var err error
	if !dry {
		if d.store, err = h.open(); err != nil {
			return nil, err
		}
	}
	if d.st, err = h.loadDivert(where.key); err == nil && d.st == nil {
		if !dry {
			err = d.sweep(filepath.Join(StateDir, d.key))
		}
		err = errors.Join(err, d.adopt())
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// targets is the paths where packages have the programs, or had them before they were diverted.
func (d *diverter) targets() (paths []string, err error) {
	if d.st != nil {
		paths = slices.Clone(d.st.Paths)
	}
	for _, path := range d.packaged {
		if info, err := os.Lstat(d.path(path)); err == nil && info.Mode().IsRegular() && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s: no package has %s there, so there is no place to stand in: %s", strings.Join(d.packaged, ", "), d.name, d.instead)
	}
	for _, path := range paths {
		if _, err := d.resolve(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// look says whether a path is as it has to be, and refuses what can't be made so without a loss.
func (d *diverter) look(path, program string) (done bool, err error) {
	ours := d.st != nil && slices.Contains(d.st.Paths, path)
	diverted, by, err := d.diversion(path)
	if err != nil {
		return false, err
	}
	if diverted != "" && (!d.isOurs(path, diverted, by) || !ours) {
		return false, elsewhere(path, diverted, by)
	}
	_, second := os.Lstat(d.path(d.second(path)))
	to, err := os.Readlink(d.path(path))
	switch {
	case err == nil && ours && to == d.link(d.st.Program, path):
		return to == d.link(program, path) && diverted != "", nil
	case errors.Is(err, fs.ErrNotExist) && ours:
		return false, nil // the link was removed
	case err == nil:
		return false, fmt.Errorf("%s: is a symbolic link to %s, which isn't this program's: put %s there first", path, Printable(to), d.name)
	case second == nil && (!ours || d.st.Phase == "done"):
		return false, fmt.Errorf("%s: is there, and so is %s: one of them is in the way of the other: see which is the package's (dpkg -S %s), and move the other away",
			path, d.second(path), filepath.Base(path))
	}
	return false, nil
}

// diversion is what dpkg knows of a path: where it is diverted to, and by which package.
func (h Host) diversion(path string) (to, by string, err error) {
	if to, err = h.dpkg("--truename", path); err != nil || to == path {
		return "", "", err
	}
	by, err = h.dpkg("--listpackage", path)
	return to, by, err
}

// dpkg runs dpkg-divert, whose place and environment are fixed.
func (h Host) dpkg(args ...string) (string, error) {
	if h.Root != "" {
		args = append([]string{"--root", h.Root}, args...)
	}
	cmd := exec.Command(dpkgDivert, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, Printable(strings.TrimSpace(stderr.String())))
	}
	return strings.TrimSpace(string(out)), nil
}

func (d *diverter) divert(path, program string) error {
	second := d.second(path)
	// First the link, under another name: where that can't be made, nothing can.
	next := nextLink(path)
	if err := os.Remove(d.path(next)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", next, unpath(err))
	}
	if err := os.Symlink(d.link(program, path), d.path(next)); err != nil {
		return fmt.Errorf("%s: %w", next, linkError(err))
	}
	checkpoint()
	if to, _, err := d.diversion(path); err != nil {
		return err
	} else if to == "" {
		if _, err := d.dpkg("--quiet", "--local", "--no-rename", "--divert", second, "--add", path); err != nil {
			return err
		}
		checkpoint()
	}
	if info, err := os.Lstat(d.path(path)); err == nil && info.Mode().IsRegular() {
		if err := d.setAside(path); err != nil {
			return err
		}
	}
	return d.rename(next, path)
}

// nextLink is the name under which the link is made.
func nextLink(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".usernsctl")
}

func (d *diverter) rename(from, to string) error {
	err := os.Rename(d.path(from), d.path(to))
	if err == nil {
		err = syncDir(filepath.Dir(d.path(to)))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", to, linkError(err))
	}
	checkpoint()
	return nil
}

// mayReturn refuses to give a path back that somebody has put something else at, or has diverted
// in another way since.
func (d *diverter) mayReturn(path string) error {
	to, by, err := d.diversion(path)
	switch {
	case err != nil:
		return err
	case to != "" && !d.isOurs(path, to, by):
		return elsewhere(path, to, by)
	}
	info, err := os.Lstat(d.path(path))
	if err != nil {
		return nil //nolint:nilerr // nothing is in the way
	}
	if to, err := os.Readlink(d.path(path)); err == nil && to == d.link(d.st.Program, path) {
		return nil
	}
	second, err := os.Lstat(d.path(d.second(path)))
	if errors.Is(err, fs.ErrNotExist) || err == nil && (os.SameFile(info, second) || d.st.Phase != done && d.isCopy(path)) {
		return nil // it is back, or was never away
	}
	return fmt.Errorf("%s: isn't the link to %s that this program made, and %s is there too: move the one away that isn't to be %s: mv %[1]s %[1]s.old",
		path, d.link(d.st.Program, path), d.second(path), filepath.Base(path))
}

func (d *diverter) undivert(path string) error {
	second := d.second(path)
	next := nextLink(path)
	if _, err := os.Readlink(d.path(next)); err == nil {
		if err := os.Remove(d.path(next)); err != nil {
			return fmt.Errorf("%s: %w", next, unpath(err))
		}
	}
	if d.setuid {
		if err := os.Remove(d.path(d.copying(path))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", d.copying(path), unpath(err))
		}
	}
	if err := d.disarm(path); err != nil {
		return err
	}
	first, ferr := os.Lstat(d.path(path))
	info, err := os.Lstat(d.path(second))
	switch {
	case err == nil && ferr == nil && (os.SameFile(first, info) || d.isCopy(path)):
		// Two names of one file, between which rename(2) does nothing, or a file and its copy.
		if err := os.Remove(d.path(second)); err != nil {
			return fmt.Errorf("%s: %w", second, unpath(err))
		}
		checkpoint()
	case err == nil:
		if err := d.rename(second, path); err != nil {
			return err
		}
	case ferr == nil && first.Mode().Type() == fs.ModeSymlink:
		// The package was removed meanwhile.
		if err := os.Remove(d.path(path)); err != nil {
			return fmt.Errorf("%s: %w", path, unpath(err))
		}
		checkpoint()
	}
	to, _, err := d.diversion(path)
	if err != nil || to == "" {
		return err
	}
	_, err = d.dpkg("--quiet", "--local", "--no-rename", "--divert", second, "--remove", path)
	checkpoint()
	return err
}
