// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// criFile is one of the files that containerd reads: its own, and those that are imported.
type criFile struct {
	path string
	*tomlText
}

func versionOf(f criFile) (int64, error) {
	version, _ := f.at("version").(int64)
	if _, known := criSections[version]; known {
		return version, nil
	}
	line := max(1, f.line("version"))
	mend := "write it so; containerd 2 shows how: containerd --config " + rootfile.ShellQuote(f.path) + " config migrate"
	if given, ok := f.at("version").(int64); ok && given > 3 {
		return 0, fmt.Errorf("%s:%d: version %d: is newer than this program knows: expected 2 or 3: set default_runtime_name and the runtime by hand, as /usr/share/doc/userns-runtime/examples/containerd.toml has them", f.path, line, given)
	}
	if f.at("version") == nil {
		return 0, fmt.Errorf("%s:%d: has no version, and so is of version 1: expected 2 or 3: %s", f.path, line, mend)
	}
	return 0, fmt.Errorf("%s:%d: version %v: expected 2 or 3: %s", f.path, line, f.at("version"), mend)
}

// oneVersion refuses a file that not all versions of containerd read in one way, such as one
// that has the section of the other version: containerd 2 migrates each file by its own version
// before it merges them. One that says that it is of version 3 isn't migrated.
func (f criFile) oneVersion(version int64) error {
	if version == 2 && len(f.escaped) > 0 {
		return fmt.Errorf("%s:%d: a name has an escape in it, which containerd 1.x doesn't understand: write it as it is meant", f.path, lineOf(f.text, f.escaped[0]))
	}
	for of, name := range criSections {
		if of == version || of == 2 && f.at("version") == int64(3) || f.at("plugins", name, "containerd") == nil {
			continue
		}
		return fmt.Errorf("%s:%d: has the section %s of version %d, where the main file is of version %d: containerd 2 reads both, and forgets some of it: move what is in it to %s",
			f.path, f.line("plugins", name, "containerd"), name, of, version, criSections[version])
	}
	return nil
}

// criFiles is the main file, and then what it imports and those do, in the order in which
// containerd reads them: what comes later wins. The main file may be missing.
func (v view) criFiles(main string) (files []criFile, err error) {
	pending := []string{main}
	seen := map[string]bool{}
	for len(pending) > 0 {
		path := pending[0]
		pending = pending[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		parsed, err := v.readTOML(path)
		if err != nil {
			return nil, err
		}
		f := criFile{path, parsed}
		files = append(files, f)
		imports, err := v.imports(f)
		if err != nil {
			return nil, err
		}
		pending = append(pending, imports...)
	}
	return files, nil
}

// imports is the files that are imported, patterns resolved.
func (v view) imports(f criFile) (paths []string, err error) {
	patterns, err := f.patterns()
	if err != nil {
		return nil, err
	}
	for _, pattern := range patterns {
		if !strings.Contains(pattern, "*") {
			paths = append(paths, filepath.Clean(pattern))
			continue
		}
		found, err := filepath.Glob(v.Host.path(pattern))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: imports: %s: %w", f.path, f.line("imports"), show(pattern), err)
		}
		for _, path := range found {
			paths = append(paths, v.name(path))
		}
		// As if the file that is taken for another than it is were there, or not.
		if match, err := filepath.Match(pattern, v.name(v.path)); v.path != "" && err == nil && match {
			paths = slices.DeleteFunc(paths, func(p string) bool { return p == v.path && v.data == nil })
		}
	}
	return paths, nil
}

// patterns is what a file imports, as absolute paths.
func (f criFile) patterns() (patterns []string, err error) {
	v := f.at("imports")
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s:%d: imports: expected a list of paths", f.path, f.line("imports"))
	}
	for _, e := range list {
		pattern, ok := e.(string)
		if !ok || pattern == "" {
			return nil, fmt.Errorf("%s:%d: imports: expected a list of paths", f.path, f.line("imports"))
		}
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(f.path), pattern)
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}

// dropinName is the name of files that are ours alone.
const dropinName = "50-userns-runtime"

// criDropin is the file that we make in a directory that the main file imports; without a path
// if it imports none.
func (v view) criDropin(main criFile) (criFile, error) {
	patterns, err := main.patterns()
	if err != nil {
		return criFile{}, err
	}
	for _, pattern := range patterns {
		path := filepath.Join(filepath.Dir(pattern), dropinName+".toml")
		if match, err := filepath.Match(pattern, path); err != nil || !match || !strings.Contains(filepath.Base(pattern), "*") || strings.Contains(filepath.Dir(pattern), "*") {
			continue
		}
		parsed, err := v.readTOML(path)
		if err != nil {
			return criFile{}, err
		}
		return criFile{path, parsed}, nil
	}
	return criFile{}, nil
}
