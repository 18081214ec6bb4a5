// SPDX-License-Identifier: Apache-2.0

package chown

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Whoever has a directory of the tree open yet may move what is in it while it is walked. Nothing outside is visited.
func TestWalkMoved(t *testing.T) {
	for name, row := range map[string]struct {
		at    string // when that is visited
		move  func(tree, outside string) error
		moved bool // it is an error
		want  []string
	}{
		"a symbolic link in place of a directory": {"d", func(tree, outside string) error {
			return errors.Join(os.Rename(filepath.Join(tree, "d"), filepath.Join(tree, "old")), os.Symlink(outside, filepath.Join(tree, "d")))
		}, false, []string{".", "d"}},
		"a file in place of a directory": {"d", func(tree, _ string) error {
			return errors.Join(os.RemoveAll(filepath.Join(tree, "d")), os.WriteFile(filepath.Join(tree, "d"), nil, 0o600))
		}, false, []string{".", "d"}},
		"nothing in place of a directory": {"d", func(tree, _ string) error {
			return os.RemoveAll(filepath.Join(tree, "d"))
		}, false, []string{".", "d"}},
		"another directory in its place": {"d", func(tree, outside string) error {
			return errors.Join(os.Rename(filepath.Join(tree, "d"), filepath.Join(tree, "old")), os.Rename(outside, filepath.Join(tree, "d")))
		}, true, []string{".", "d"}},
		"a directory that is moved out": {"d/e", func(tree, outside string) error {
			return os.Rename(filepath.Join(tree, "d"), filepath.Join(outside, "d"))
		}, true, []string{".", "d", "d/e", "d/e/f"}},
		"its parent, on the way back": {"d/e/f", func(tree, outside string) error {
			return os.Rename(filepath.Join(tree, "d", "e"), filepath.Join(outside, "e"))
		}, true, []string{".", "d", "d/e", "d/e/f"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree, outside := filepath.Join(dir, "tree"), filepath.Join(dir, "outside")
			err := errors.Join(os.MkdirAll(filepath.Join(tree, "d", "e"), 0o755), os.WriteFile(filepath.Join(tree, "d", "e", "f"), nil, 0o600),
				os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			root, err := os.Open(tree)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			var got []string
			err = walk(root, func(f *file) error {
				got = append(got, f.path())
				if f.path() == row.at {
					return row.move(tree, outside)
				}
				return nil
			})
			if errors.Is(err, errMoved) != row.moved || err != nil && !row.moved {
				t.Errorf("%v", err)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("visited %q, want %q", got, row.want)
			}
		})
	}
}
