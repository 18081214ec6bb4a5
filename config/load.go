// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// maxSize, in bytes, is far above any sensible file.
const maxSize = 1 << 20

// Load reads the file as [Read] does; if there is none it returns [Default].
func Load(path string) (Config, error) {
	c, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	return c, err
}

// Read reads the file, which must be a regular one, not a symlink, owned by
// the host's root, not writable by group or others, and no larger than 1 MiB.
// Keys that it doesn't hold are as in [Default]. A missing file is an
// [fs.ErrNotExist]. Any other error tells everything that is wrong, a line for
// each; the Config beside it is empty.
func Read(path string) (Config, error) {
	text, err := rootfile.OwnUIDMap()
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	uids, err := idmap.ParseMap(text)
	if err != nil {
		return Config{}, fmt.Errorf("config: uid map of this process: %w", err)
	}
	return read(path, idmap.RootAs(uids))
}

// read is Read, with the UID as which the host's root shows here.
func read(path string, root uint32) (Config, error) {
	data, err := rootfile.Read(path, maxSize, root)
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	return parse(path, data)
}
