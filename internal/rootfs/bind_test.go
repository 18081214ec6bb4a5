// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel gives the number of a mount that has gone to the next one: what was a
// tmpfs when somebody looked may be /etc by the time it is opened.
func TestCheckOwnOfWhatWasTaken(t *testing.T) {
	newUserNS(t)
	e := newEngine(t, 1)
	place := filepath.Join(e.dir, "volume")
	own := Own{Dir: e.dir, Top: func(path string) (string, bool) {
		return place, path == place || strings.HasPrefix(path, place+"/")
	}}
	if err := os.Mkdir(place, 0o755); err != nil {
		t.Fatal(err)
	}
	inPrivateMounts(t, func() error {
		check := func(want error) {
			t.Helper()
			bind, err := TakeBind(place, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckOwn(bind.Source, own); !errors.Is(err, want) || (want == nil) != (err == nil) {
				t.Errorf("got %v, expected %v", err, want)
			}
			bind.Source.Close()
			bind.tree.Close()
		}
		check(nil)
		if err := unix.Mount("tmpfs", place, "tmpfs", 0, ""); err != nil {
			return err
		}
		check(nil)
		// Taken while it is the engine's, and judged once something else is there.
		bind, err := TakeBind(place, true)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Unmount(place, unix.MNT_DETACH), unix.Mount("/usr", place, "", unix.MS_BIND, "")); err != nil {
			return err
		}
		if err := CheckOwn(bind.Source, own); err == nil {
			t.Error("what was taken is judged by what is there now")
		}
		bind.Source.Close()
		bind.tree.Close()
		check(ErrForeign)
		return nil
	})
}

// A bind shows what was there when it was taken.
func TestBindShowsWhatWasTaken(t *testing.T) {
	newUserNS(t)
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o755), os.WriteFile(filepath.Join(dir, name, name), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	inPrivateMounts(t, func() error {
		bind, err := TakeBind(filepath.Join(dir, "one"), false)
		if err != nil {
			return err
		}
		if err := errors.Join(os.Rename(filepath.Join(dir, "one"), filepath.Join(dir, "gone")), os.Rename(filepath.Join(dir, "two"), filepath.Join(dir, "one"))); err != nil {
			return err
		}
		target := filepath.Join(dir, "target")
		if err := bind.Stage(target); err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Join(target, "one")); err != nil {
			t.Errorf("it shows something else: %v", err)
		}
		return unix.Unmount(target, 0)
	})
	if _, err := TakeBind(filepath.Join(dir, "nowhere"), true); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}
