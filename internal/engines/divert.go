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

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/oci"
)

// divertKey is the name of the state of a diversion.
const divertKey = "divert"

// divertedSuffix is of the name by which dpkg has runc while ours is in its place.
const divertedSuffix = ".userns-runtime"

const dpkgDivert = "/usr/bin/dpkg-divert"

// packaged is where packages have runc; the others of [searched] are nobody's but the
// administrator's.
var packaged = []string{"/usr/sbin/runc", "/usr/bin/runc"}

// searched is where engines find runc, in the order of root's usual PATH.
var searched = []string{"/usr/local/sbin/runc", "/usr/local/bin/runc", "/usr/sbin/runc", "/usr/bin/runc", "/sbin/runc", "/bin/runc"}

// diverter does it. There is a runc at the path at any moment: dpkg is told first, which
// changes nothing on disk, then runc gets its second name, and then the link, which was made before, is
// renamed over the first; and back in the other order.
type diverter struct {
	*store
	st      *divertState
	adopted bool // st was lost, and is what is seen
}

// Divert puts userns-runtime in runc's own place, for those who call runc without asking an
// engine's configuration. What dpkg has there it has under another name from then on, upgrades
// too (dpkg-divert(1)).
func (h Host) Divert(program string, dry bool) (Result, error) {
	d, err := h.diverter(dry)
	if err != nil {
		return Result{}, err
	}
	defer d.close()
	out := Result{File: "runc"}
	paths, err := d.targets()
	if err != nil {
		return Result{}, err
	}
	if err := h.LowLevel(paths); err != nil {
		return Result{}, err
	}
	var todo []string
	for _, path := range paths {
		done, err := d.look(path, program)
		if err != nil {
			return Result{}, err
		}
		if !done {
			todo = append(todo, path)
			out.Steps = append(out.Steps, Step{Action: "divert", File: path, To: path + divertedSuffix}, Step{Action: "link", File: path, To: program})
		}
	}
	out.Warnings = h.uncovered(paths)
	settled := d.st != nil && !d.adopted && d.st.Phase == done && d.st.Program == program && slices.Equal(d.st.Paths, paths)
	if dry || len(todo) == 0 && settled {
		return out, nil
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
	d.st.Phase = done
	return out, d.saveDivert()
}

// Undivert gives runc its place back. busy is asked first, as by [Host.Undo].
func (h Host) Undivert(busy func() error, dry bool) (Result, error) {
	if _, err := os.Stat(dpkgDivert); err != nil {
		if _, err := os.Lstat(h.path(filepath.Join(StateDir, divertKey))); err != nil {
			return Result{}, fmt.Errorf("runc: %w", ErrNotConfigured)
		}
		return Result{}, fmt.Errorf("%s: isn't here, and dpkg has to know that runc has its place back: install it first: it is in the package dpkg", dpkgDivert)
	}
	d, err := h.diverter(dry)
	if err != nil {
		return Result{}, err
	}
	defer d.close()
	if d.st == nil {
		return Result{}, fmt.Errorf("runc: %w", ErrNotConfigured)
	}
	out := Result{File: "runc"}
	for _, path := range d.st.Paths {
		if err := d.mayReturn(path); err != nil {
			return Result{}, err
		}
		step := Step{Action: "undivert", File: path}
		if _, err := os.Lstat(h.path(path + divertedSuffix)); err == nil { // else the package was removed
			step.To = path + divertedSuffix
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
	return out, d.forget(&state{dir: filepath.Join(StateDir, divertKey)})
}

func (h Host) diverter(dry bool) (*diverter, error) {
	if _, err := os.Stat(dpkgDivert); err != nil {
		return nil, fmt.Errorf("%s: isn't here: a file of a package is put aside by dpkg alone: set up each engine instead: usernsctl configure ENGINE", dpkgDivert)
	}
	d := &diverter{store: &store{Host: h}}
	var err error
	if !dry {
		if d.store, err = h.open(); err != nil {
			return nil, err
		}
	}
	if d.st, err = h.loadDivert(); err == nil && d.st == nil {
		if !dry {
			err = d.sweep(filepath.Join(StateDir, divertKey))
		}
		err = errors.Join(err, d.adopt())
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// targets is the paths where packages have runc, or had it before it was diverted.
func (d *diverter) targets() (paths []string, err error) {
	if d.st != nil {
		paths = slices.Clone(d.st.Paths)
	}
	for _, path := range packaged {
		if info, err := os.Lstat(d.path(path)); err == nil && info.Mode().IsRegular() && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s: no package has runc there, so there is no place to stand in: set up each engine instead: usernsctl configure ENGINE", strings.Join(packaged, ", "))
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
	if diverted != "" && (!isOurs(path, diverted, by) || !ours) {
		return false, elsewhere(path, diverted, by)
	}
	_, second := os.Lstat(d.path(path + divertedSuffix))
	to, err := os.Readlink(d.path(path))
	switch {
	case err == nil && ours && to == d.st.Program:
		return to == program && diverted != "", nil
	case errors.Is(err, fs.ErrNotExist) && ours:
		return false, nil // the link was removed
	case err == nil:
		return false, fmt.Errorf("%s: is a symbolic link to %s, which isn't this program's: put runc there first", path, Printable(to))
	case second == nil && (!ours || d.st.Phase == "done"):
		return false, fmt.Errorf("%s: is there, and so is %s: one of them is in the way of the other: see which is runc (dpkg -S runc), and move the other away",
			path, path+divertedSuffix)
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
	second := path + divertedSuffix
	// First the link, under another name: where that can't be made, nothing can.
	next := nextLink(path)
	if err := os.Remove(d.path(next)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", next, unpath(err))
	}
	if err := os.Symlink(program, d.path(next)); err != nil {
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
	// A second name of the same file. Where there is one, an upgrade has put the new runc there
	// since dpkg was told, or a killed run did.
	if info, err := os.Lstat(d.path(path)); err == nil && info.Mode().IsRegular() {
		if err := os.Link(d.path(path), d.path(second)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", second, linkError(err))
		}
		checkpoint()
	}
	return d.rename(next, path)
}

// nextLink is the name under which the link is made.
func nextLink(path string) string { return filepath.Join(filepath.Dir(path), ".runc.usernsctl") }

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
	case to != "" && !isOurs(path, to, by):
		return elsewhere(path, to, by)
	}
	info, err := os.Lstat(d.path(path))
	if err != nil {
		return nil //nolint:nilerr // nothing is in the way
	}
	if to, err := os.Readlink(d.path(path)); err == nil && to == d.st.Program {
		return nil
	}
	second, err := os.Lstat(d.path(path + divertedSuffix))
	if errors.Is(err, fs.ErrNotExist) || err == nil && os.SameFile(info, second) {
		return nil // it is back, or was never away
	}
	return fmt.Errorf("%s: isn't the link to %s that this program made, and %s is there too: move the one away that isn't to be runc: mv %[1]s %[1]s.old",
		path, d.st.Program, path+divertedSuffix)
}

func (d *diverter) undivert(path string) error {
	second := path + divertedSuffix
	next := nextLink(path)
	if _, err := os.Readlink(d.path(next)); err == nil {
		if err := os.Remove(d.path(next)); err != nil {
			return fmt.Errorf("%s: %w", next, unpath(err))
		}
	}
	first, ferr := os.Lstat(d.path(path))
	info, err := os.Lstat(d.path(second))
	switch {
	case err == nil && ferr == nil && os.SameFile(first, info):
		// Two names of one file, between which rename(2) does nothing.
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

// uncovered is every other runc that an engine may find by PATH.
func (h Host) uncovered(paths []string) (warnings []string) {
	var covered []string
	for _, path := range paths {
		covered = append(covered, h.path(path))
	}
	seen := map[string]bool{}
	for _, path := range slices.Concat(searched, h.enginePaths()) {
		found, err := filepath.EvalSymlinks(h.path(path))
		if err != nil || seen[found] || slices.Contains(covered, found) || filepath.Base(found) == ProgramName {
			continue
		}
		seen[found] = true
		warnings = append(warnings, fmt.Sprintf("%s: is another runc, which isn't diverted: what finds it by PATH walks past userns-runtime: remove it, or put a link to userns-runtime in its place", Printable(path)))
	}
	return warnings
}

// enginePaths is where the engines that run would find runc.
func (h Host) enginePaths() (paths []string) {
	for _, name := range []string{"dockerd", "containerd", "crio"} {
		for _, p := range h.running(name) {
			for _, dir := range p.path() {
				paths = append(paths, filepath.Join(dir, "runc"))
			}
		}
	}
	return paths
}

// LowLevel refuses a configuration by which userns-runtime would find no runc. With diverted
// paths, it also refuses one of those, which will be userns-runtime itself, and a runc that is
// too old: what calls it then asks for user namespaces from the first container on.
func (h Host) LowLevel(diverted []string) error {
	cfg, err := config.Load(h.path(config.Path))
	if err != nil {
		return err
	}
	path, err := oci.FindRuntime(cfg.Runtimes, h.UID)
	if err != nil || diverted == nil {
		return err
	}
	found, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("low-level runtime: %s: %w", path, unpath(err))
	}
	const mend = "install runc 1.2 or later at /usr/libexec/userns-runtime/runc (`make install` puts it there), or name one in `runtimes` of " + config.Path
	if slices.Contains(diverted, h.name(found)) || filepath.Base(found) == ProgramName {
		return fmt.Errorf("low-level runtime: %s: is what will be userns-runtime itself: %s", path, mend)
	}
	cmd := exec.Command(path, "--version")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	output, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("low-level runtime: %s --version: %w", path, err)
	}
	v, err := oci.ParseVersion(string(output))
	if err != nil {
		return fmt.Errorf("low-level runtime: %s: %w", path, err)
	}
	if !v.AtLeast(1, 2) {
		return fmt.Errorf("low-level runtime: %s: is %s: expected 1.2 or later: %s", path, v, mend)
	}
	return nil
}
