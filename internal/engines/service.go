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
)

// startLine is a line that says how a service is started.
type startLine struct {
	file   string
	number int
	text   string
}

// startLines is the ExecStart= of a systemd unit that count, its Environment= and the files of
// EnvironmentFile=, and the lines of files that hold
// flags for it, without comments. Of a unit the file in /etc hides the packages', and of drop-ins
// one of the same name does; an empty ExecStart= takes back what was before (systemd.unit(5),
// systemd.service(5)).
func (v view) startLines(unit string, environment ...string) (lines []startLine, err error) {
	dirs := []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	var files []string
	for _, dir := range dirs {
		if text, err := v.read(filepath.Join(dir, unit)); err == nil && text != nil {
			files = append(files, filepath.Join(dir, unit))
			break
		}
	}
	dropins := map[string]string{}
	for _, dir := range slices.Backward(dirs) {
		names, err := v.list(filepath.Join(dir, unit+".d"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".conf") {
				dropins[name] = filepath.Join(dir, unit+".d", name)
			}
		}
	}
	names := make([]string, 0, len(dropins))
	for name := range dropins {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		files = append(files, dropins[name])
	}
	var variables []startLine
	for _, file := range files {
		for _, l := range v.textLines(file) {
			if name, value, ok := strings.Cut(l.text, "="); ok {
				switch strings.TrimSpace(name) {
				case "Environment":
					variables = append(variables, l)
				case "EnvironmentFile": // a "-" before it: it may be missing
					environment = append(environment, strings.TrimPrefix(strings.TrimSpace(value), "-"))
				}
			}
			value, ok := strings.CutPrefix(l.text, "ExecStart")
			value = strings.TrimSpace(value)
			if !ok || !strings.HasPrefix(value, "=") {
				continue
			}
			if l.text = strings.TrimSpace(value[1:]); l.text == "" {
				lines = nil
				continue
			}
			lines = append(lines, l)
		}
	}
	lines = append(lines, variables...)
	slices.Sort(environment)
	for _, file := range slices.Compact(environment) {
		lines = append(lines, v.textLines(file)...)
	}
	return lines, nil
}

// textLines is the lines of a file that aren't comments, those that end in a backslash with
// what follows them.
func (v view) textLines(file string) (lines []startLine) {
	text, err := v.read(file)
	if err != nil { // such as a masked unit, which is a link to /dev/null
		return nil
	}
	n, long := 0, false
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		more := strings.HasSuffix(line, `\`)
		line = strings.TrimSuffix(line, `\`)
		trimmed := strings.TrimSpace(line)
		switch {
		case long:
			lines[len(lines)-1].text += " " + trimmed
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
			continue
		default:
			lines = append(lines, startLine{file, n, trimmed})
		}
		long = more
	}
	return lines
}

// list is the names of files in a directory, in order; none if it isn't there.
func (v view) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(v.Host.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, unpath(err))
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
