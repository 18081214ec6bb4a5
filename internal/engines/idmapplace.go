// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// IDMapDir is where the programs are that stand in the place of shadow's newuidmap and newgidmap.
const IDMapDir = "/usr/libexec/userns-runtime"

// IDMapAside is where dpkg has shadow's own meanwhile. They are setuid root, and obey /etc/subuid:
// nobody but root is to reach them, also when an upgrade has put new ones there.
const IDMapAside = IDMapDir + "/shadow"

// IDMapper is one of the two programs.
type IDMapper struct {
	Path string // where shadow's is
	Caps linux.CapSet
	Text string // as setcap(8) spells it
}

// IDMappers is both.
var IDMappers = []IDMapper{
	{"/usr/bin/newuidmap", linux.Caps(unix.CAP_SETUID), "cap_setuid=p"},
	{"/usr/bin/newgidmap", linux.Caps(unix.CAP_SETGID), "cap_setgid=p"},
}

// Own is the path of the program of ours, in the directory of those.
func (m IDMapper) Own(dir string) string { return filepath.Join(dir, filepath.Base(m.Path)) }

// Setcap is the command that gives the program what it needs.
func (m IDMapper) Setcap(dir string) string {
	return "setcap " + m.Text + " " + rootfile.ShellQuote(m.Own(dir))
}

// idMapPlace is the place of newuidmap and newgidmap.
var idMapPlace = place{
	key:      "newuidmap",
	name:     "newuidmap",
	packaged: []string{IDMappers[0].Path, IDMappers[1].Path},
	instead:  "put " + IDMapDir + " first in the PATH of who calls newuidmap instead",
	second:   func(path string) string { return filepath.Join(IDMapAside, filepath.Base(path)) },
	setuid:   true,
	link:     func(program, path string) string { return filepath.Join(program, filepath.Base(path)) },
	linked: func(path, link string) (string, bool) {
		return filepath.Dir(link), strings.HasSuffix(link, filepath.Join(IDMapDir, filepath.Base(path)))
	},
	prepare: prepareIDMap,
	uncovered: func(h Host, paths []string) (warnings []string) {
		for _, m := range IDMappers {
			name := filepath.Base(m.Path)
			ours := func(found string) bool { return found == h.path(m.Own(IDMapDir)) }
			for _, path := range h.others(searched(name), paths, ours) {
				warnings = append(warnings, another(path, name, m.Own(IDMapDir)))
			}
		}
		return warnings
	},
	leave: func(h Host) error {
		// What somebody else has put there stays.
		if err := os.Remove(h.path(IDMapAside)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("%s: %w", IDMapAside, unpath(err))
		}
		return nil
	},
}

// DivertIDMap puts the programs of a directory in the place of shadow's newuidmap and
// newgidmap, both or neither. Those give IDs by /etc/subuid and /etc/subgid; ours by the book.
func (h Host) DivertIDMap(dir string, dry bool) (Result, error) { return h.putIn(idMapPlace, dir, dry) }

// UndivertIDMap gives shadow's their place back. Nothing that has been mapped needs either.
func (h Host) UndivertIDMap(dry bool) (Result, error) {
	return h.takeOut(idMapPlace, func() error { return nil }, dry)
}

// IDMapDiverted says whether shadow's newuidmap and newgidmap were diverted by this program, and to
// the programs of which directory.
func (h Host) IDMapDiverted() (dir string, is bool, err error) {
	st, err := h.loadDivert(idMapPlace.key)
	if err != nil || st == nil {
		return "", false, err
	}
	return st.Program, st.Phase == done, nil
}

// Unheld is those of a line's flags that the host's newuidmap and newgidmap don't hold, as the book
// spells them; "" is none. Shadow's know no flags. Ours deny setgroups, and give nothing of a line with
// a flag that its owner would undo.
func (h Host) Unheld() func(registry.Flags) string {
	for _, m := range IDMappers {
		if to, err := os.Readlink(h.path(m.Path)); err != nil || to != m.Own(IDMapDir) {
			return registry.Flags.Restricting
		}
	}
	return registry.Flags.BrokenByOwner
}

// prepareIDMap refuses programs that others could change, or that can't have file capabilities, and
// one of the two alone: who has both by two books can have the group of one with the user of another.
func prepareIDMap(h Host, dir string, paths []string) (todo []preparation, err error) {
	for _, m := range IDMappers {
		if !slices.Contains(paths, m.Path) {
			return nil, fmt.Errorf("%s: no package has it there, and it goes with the other: install both: they are in the package uidmap", m.Path)
		}
		own := m.Own(dir)
		info, err := os.Lstat(h.path(own))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%s: isn't there: `make install` puts it there", own)
		case err != nil:
			return nil, fmt.Errorf("%s: %w", own, unpath(err))
		case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 != 0o111:
			return nil, fmt.Errorf("%s: isn't a program that everybody may execute: install it again: `make install`", own)
		case info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0:
			return nil, fmt.Errorf("%s: is setuid or setgid, which would lend its owner's privileges to every caller: chmod u-s,g-s %[1]s", own)
		}
		if err := h.Judge(own); err != nil {
			return nil, err
		}
		if no, err := linux.NoSuid(h.path(own)); err != nil || no {
			return nil, errors.Join(err, fmt.Errorf("%s: lies on a mount with the option nosuid, where file capabilities have no effect: install it on one without", own))
		}
		has, err := linux.GivesOnly(h.path(own), m.Caps)
		if err != nil {
			return nil, err
		}
		if !has {
			todo = append(todo, preparation{Step{Action: "setcap", File: own, To: m.Text}, func() error { return linux.GiveOnly(h.path(own), m.Caps) }})
		}
	}
	if _, err := os.Lstat(h.path(IDMapAside)); errors.Is(err, fs.ErrNotExist) {
		todo = append(todo, preparation{Step{Action: "mkdir", File: IDMapAside, To: "0700"}, h.makeAside})
	} else if err := h.judgeAside(); err != nil {
		return nil, err
	}
	return todo, nil
}

func (h Host) makeAside() error {
	if err := os.Mkdir(h.path(IDMapAside), 0o700); err != nil {
		return fmt.Errorf("%s: %w", IDMapAside, unpath(err))
	}
	checkpoint()
	return h.judgeAside()
}

// judgeAside refuses a directory through which others than root reach what is set aside.
func (h Host) judgeAside() error {
	info, err := os.Lstat(h.path(IDMapAside))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", IDMapAside, unpath(err))
	case !info.IsDir():
		return fmt.Errorf("%s: isn't a directory (%s): shadow's setuid programs are to lie there: move it away", IDMapAside, info.Mode())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s: is reached by others than root (%s): shadow's setuid programs are to lie there: chown root: %[1]s && chmod 0700 %[1]s", IDMapAside, info.Mode())
	}
	return h.Judge(IDMapAside)
}
