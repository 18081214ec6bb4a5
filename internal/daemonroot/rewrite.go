// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// keeper is files of dockerd's in which it keeps paths of its own: DIR/ID/FILE, where the path is at
// one of these places.
type keeper struct {
	dir, file string
	places    []place
}

// place is where a path is in a JSON text, by the names of members that lead there; "*" is any member or
// element. As a rule all of the string is one.
type place struct {
	at   string // with dots between
	form form
}

type form int

const (
	whole   form = iota
	bind         // SOURCE:DESTINATION[:OPTIONS], as docker run -v takes it
	options      // of mount(8), in which overlay has paths
)

// keepers is found by what dockerd 20.10 writes, and what moby's types have beside that: container.Container
// and HostConfig, volume/local's optsConfig, plugin/v2's Plugin. It finds the rest anew at each start. What it has of volumes in
// volumes/metadata.db is for show.
var keepers = []keeper{
	{"containers", "config.v2.json", []place{
		{"LogPath", whole}, {"HostnamePath", whole}, {"HostsPath", whole}, {"ResolvConfPath", whole}, {"ShmPath", whole},
		{"MountPoints.*.Source", whole}, {"MountPoints.*.Spec.Source", whole},
		{"MountPoints.*.Spec.VolumeOptions.DriverConfig.Options.device", whole}, {"MountPoints.*.Spec.VolumeOptions.DriverConfig.Options.o", options},
	}},
	{"containers", "hostconfig.json", []place{
		{"Binds.*", bind}, {"Mounts.*.Source", whole},
		{"Mounts.*.VolumeOptions.DriverConfig.Options.device", whole}, {"Mounts.*.VolumeOptions.DriverConfig.Options.o", options},
	}},
	{"volumes", "opts.json", []place{{"MountDevice", whole}, {"MountOpts", options}}},
	{"plugins", "config.json", []place{{"Rootfs", whole}}},
}

// maxKept is far above what dockerd writes into one of those files.
const maxKept = 16 << 20 // bytes

// forward is the path that something in the super-root has once these entries are in 0.0, for each path
// that is one of theirs. What has that path already keeps it.
func (s *super) forward(names []string) func(string) string {
	return func(path string) string {
		for _, p := range s.spellings() {
			rest, ok := strings.CutPrefix(path, p)
			first, _, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
			if ok && (rest == "" || rest[0] == '/') && (first == "" || slices.Contains(names, first)) {
				return filepath.Join(p, unmappedData) + rest
			}
		}
		return path
	}
}

// backward undoes forward.
func (s *super) backward(path string) string {
	for _, p := range s.spellings() {
		rest, ok := strings.CutPrefix(path, filepath.Join(p, unmappedData))
		if ok && (rest == "" || rest[0] == '/') {
			return p + rest
		}
	}
	return path
}

// spellings is the names that paths below the super-root may begin with. dockerd resolves symbolic
// links when it starts; one that was put in the super-root's place later doesn't change what it has written.
func (s *super) spellings() []string {
	if s.given == s.path {
		return []string{s.path}
	}
	return []string{s.path, s.given}
}

// in is change for a string that has paths in it.
func (f form) in(text string, change func(string) string) string {
	switch f {
	case bind:
		source, rest, more := strings.Cut(text, ":")
		if !more {
			return text // a volume without a name
		}
		return change(source) + ":" + rest
	case options:
		all := strings.Split(text, ",")
		for i, o := range all {
			name, value, valued := strings.Cut(o, "=")
			if !valued || name != "lowerdir" && name != "upperdir" && name != "workdir" {
				continue
			}
			dirs := strings.Split(value, ":")
			for j := range dirs {
				dirs[j] = change(dirs[j])
			}
			all[i] = name + "=" + strings.Join(dirs, ":")
		}
		return strings.Join(all, ",")
	}
	return change(text)
}

// rewrites is a step for each file below dir that is to say something else, once all is there. now is
// where an entry is as yet.
func (s *super) rewrites(dir string, change func(string) string, now func(entry string) string) (steps []Step, warnings []string, err error) {
	for _, k := range keepers {
		ids, err := s.names(filepath.Join(now(k.dir), k.dir))
		if err != nil {
			if errors.Is(err, unix.ENOTDIR) {
				continue
			}
			return nil, nil, err
		}
		for _, id := range ids {
			rel := filepath.Join(k.dir, id, k.file)
			left, err := s.left(filepath.Join(now(k.dir), rel))
			if errors.Is(err, unix.ENOTDIR) {
				continue // a file among the directories
			}
			if err != nil {
				return nil, nil, err
			}
			if left {
				steps = append(steps, s.remove(beside(filepath.Join(dir, rel))))
			}
			text, _, err := s.kept(filepath.Join(now(k.dir), rel))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			_, n, err := k.edit(text, change)
			if err != nil {
				warnings = append(warnings, fmt.Sprintf("%s: %s: its paths stay as they are: dockerd can't read it either", s.data(now(k.dir), rel), err))
			}
			if n > 0 {
				steps = append(steps, s.rewrite(k, filepath.Join(dir, rel), n, change))
			}
		}
	}
	return steps, warnings, nil
}

func (k keeper) edit(text []byte, change func(string) string) ([]byte, int, error) {
	return editStrings(text, func(path []string, value string) string {
		for _, p := range k.places {
			if p.is(path) {
				return p.form.in(value, change)
			}
		}
		return value
	})
}

func (p place) is(path []string) bool {
	names := strings.Split(p.at, ".")
	return slices.EqualFunc(names, path, func(name, there string) bool { return name == "*" || name == there })
}

// kept is a file in which dockerd keeps paths.
func (s *super) kept(rel string) ([]byte, attributes, error) {
	f, err := s.openat(rel, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, attributes{}, err
	}
	defer f.Close()
	fail := func(op string, err error) ([]byte, attributes, error) {
		return nil, attributes{}, fmt.Errorf("%s: %s: %w", s.data(rel), op, bare(err))
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return fail("stat", err)
	case !info.Mode().IsRegular():
		return nil, attributes{}, fmt.Errorf("%s: isn't a regular file: expected what dockerd writes: move it away", s.data(rel))
	case info.Size() > maxKept:
		return nil, attributes{}, fmt.Errorf("%s: %d bytes: expected at most %d: move it away", s.data(rel), info.Size(), maxKept)
	}
	at, err := attributesOf(f)
	if err != nil {
		return fail("attributes", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKept+1))
	if err != nil {
		return fail("read", err)
	}
	return text, at, nil
}

// rewrite changes the paths in one file, and nothing else of it.
func (s *super) rewrite(k keeper, rel string, n int, change func(string) string) Step {
	return Step{Action: ActionRewrite, Path: s.data(rel), Paths: n, do: func() error {
		text, at, err := s.kept(rel)
		if err != nil {
			return err
		}
		edited, _, err := k.edit(text, change)
		if err != nil {
			return fmt.Errorf("%s: %w", s.data(rel), err)
		}
		dir, err := s.openDir(filepath.Dir(rel))
		if err != nil {
			return err
		}
		defer dir.Close()
		return replace(dir, filepath.Base(rel), edited, at)
	}}
}
