// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// divertState is what is known of a diversion.
type divertState struct {
	Version int      `json:"version"`
	Phase   phase    `json:"phase"`
	Program string   `json:"program"` // what the links lead to
	Paths   []string `json:"paths"`
}

func (h Host) loadDivert(key string) (*divertState, error) {
	path, text, err := h.stateText(key)
	if err != nil || text == nil {
		return nil, err
	}
	st := &divertState{}
	if err := json.Unmarshal(text, st); err != nil {
		return nil, fmt.Errorf("%s: %w: it was written by another hand: see dpkg-divert --list, and remove %s", path, err, filepath.Dir(path))
	}
	if err := known(path, st.Version); err != nil {
		return nil, err
	}
	return st, nil
}

func (d *diverter) saveDivert() error {
	dir := filepath.Join(StateDir, d.key)
	if err := os.Mkdir(d.path(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", dir, unpath(err))
	}
	text, err := json.MarshalIndent(d.st, "", "  ")
	if err != nil {
		return fmt.Errorf("bug: a state doesn't become JSON: %w", err)
	}
	if err := d.put(filepath.Join(dir, stateFile), append(text, '\n')); err != nil {
		return err
	}
	checkpoint()
	return nil
}

// adopt sees a diversion of ours whose state was lost, such as with /var: by the name that nobody
// else gives to it, which dpkg knows, or which lies beside a link to userns-runtime.
func (d *diverter) adopt() error {
	st := &divertState{Version: stateVersion, Phase: done}
	for _, path := range d.packaged {
		to, by, err := d.diversion(path)
		if err != nil {
			return err
		}
		link, err := os.Readlink(d.path(path))
		program, linked := "", false
		if err == nil {
			program, linked = d.linked(path, link)
		}
		_, second := os.Lstat(d.path(d.second(path)))
		if !d.isOurs(path, to, by) && (to != "" || !linked || second != nil) {
			continue
		}
		st.Paths = append(st.Paths, path)
		if linked {
			st.Program = program
		}
	}
	if len(st.Paths) > 0 {
		d.st, d.adopted = st, true
	}
	return nil
}

// isOurs says whether a diversion is as this program makes it.
func (w place) isOurs(path, to, by string) bool { return to == w.second(path) && by == "LOCAL" }

// elsewhere is the error for a diversion that isn't ours.
func elsewhere(path, to, by string) error {
	whose := "--local"
	if by != "LOCAL" {
		whose = "--package " + rootfile.ShellQuote(by)
	}
	return fmt.Errorf("%s: is diverted to %s already (%s): take that back first: dpkg-divert %s --no-rename --remove %s", path, Printable(to), Printable(by), whose, path)
}

// backOut undoes the beginning of a diversion that failed: of the paths that weren't diverted
// before, which the state before doesn't have.
func (d *diverter) backOut(before *divertState, todo []string) error {
	for _, path := range todo {
		if before != nil && slices.Contains(before.Paths, path) {
			continue
		}
		if err := d.undivert(path); err != nil {
			return err
		}
	}
	if before == nil {
		return d.forget(&state{dir: filepath.Join(StateDir, d.key)})
	}
	d.st = before
	return d.saveDivert()
}
