// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"path/filepath"
	"slices"
)

// place is where a program of ours stands for one of a package.
type place struct {
	key  string // of its state
	name string // what stands there otherwise
	// packaged is where packages have it. Elsewhere it is nobody's but the administrator's.
	packaged []string
	// instead is what can be done where nothing can be diverted.
	instead string
	// second is the name by which dpkg has what is at a path, while ours is there.
	second func(path string) string
	// setuid says that what stands there otherwise is setuid, or has file capabilities, by which
	// nobody shall go any more: see [diverter.setAside].
	setuid bool
	// link is what the link at a path leads to, of the program, or directory of programs, that stands
	// there; linked is the way back, for a link that looks like it.
	link   func(program, path string) string
	linked func(path, link string) (program string, is bool)
	// prepare refuses what would work for nobody, and says what is to be done first.
	prepare func(h Host, program string, paths []string) ([]preparation, error)
	// uncovered warns of what is found elsewhere in its stead.
	uncovered func(h Host, paths []string) []string
	// leave removes what was made for it, and isn't needed any more.
	leave func(h Host) error
}

// preparation is done before a diversion begins. What it makes is in nobody's way if it ends there.
type preparation struct {
	step Step
	do   func() error
}

// isPlace says whether a state of that name is of a diversion.
func isPlace(key string) bool { return key == runcPlace.key || key == idMapPlace.key }

func (d *diverter) prepare(h Host, program string, paths []string) ([]preparation, error) {
	return d.place.prepare(h, program, paths)
}

func (d *diverter) uncovered(paths []string) []string { return d.place.uncovered(d.Host, paths) }

func (d *diverter) leave() error { return d.place.leave(d.Host) }

// others is the files of a program's name that paths lead to, each once, without the diverted ones and
// what is ours.
func (h Host) others(paths, diverted []string, ours func(found string) bool) (found []string) {
	var covered []string
	for _, path := range diverted {
		covered = append(covered, h.path(path))
	}
	var seen []string
	for _, path := range paths {
		real, err := filepath.EvalSymlinks(h.path(path))
		if err != nil || slices.Contains(seen, real) || slices.Contains(covered, real) || ours(real) {
			continue
		}
		seen = append(seen, real)
		found = append(found, path)
	}
	return found
}

// searchPath is the order of root's usual PATH, which engines and users look programs up in.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// searched is where a program is found.
func searched(name string) (paths []string) {
	for _, dir := range searchPath {
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths
}

// another warns of a program that walks past what was diverted.
func another(path, name, stands string) string {
	return fmt.Sprintf("%s: is another %s, which isn't diverted: what finds it by PATH walks past %s: remove it, or put a link to %[3]s in its place", Printable(path), name, stands)
}
