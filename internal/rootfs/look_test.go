// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The same answers as those by which containers are refused.
func TestExposedBy(t *testing.T) {
	inPrivateMounts(t, func() error {
		dir := t.TempDir()
		file := filepath.Join(dir, "engine", "volumes", "file")
		other := filepath.Join(dir, "other")
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644), os.Mkdir(other, 0o755)); err != nil {
			return err
		}
		try := func(mode os.FileMode, want string) {
			t.Helper()
			if err := os.Chmod(filepath.Join(dir, "engine"), mode); err != nil {
				t.Error(err)
			}
			if got, err := ExposedBy(file); err != nil || got != want {
				t.Errorf("%o: got %q, %v, expected %q", mode, got, err, want)
			}
		}
		try(0o755, file)
		try(0o711, file)
		try(0o710, "")
		try(0o700, "")
		if err := unix.Mount(filepath.Dir(file), other, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		try(0o700, filepath.Join(other, "file"))
		if err := unix.Mount("", other, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID, ""); err != nil {
			return err
		}
		try(0o700, "")
		if _, err := ExposedBy(file + "-"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("of a missing file: %v", err)
		}
		return unix.Unmount(other, unix.MNT_DETACH)
	})
}

func TestTryIDMap(t *testing.T) {
	inPrivateMounts(t, func() error {
		dir := t.TempDir()
		for _, name := range []string{"tmpfs", "ramfs", "lower", "upper", "work", "overlay"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				return err
			}
		}
		at := func(name string) string { return filepath.Join(dir, name) }
		options := "lowerdir=" + at("lower") + ",upperdir=" + at("upper") + ",workdir=" + at("work")
		if err := errors.Join(
			unix.Mount("tmpfs", at("tmpfs"), "tmpfs", 0, ""), unix.Mount("ramfs", at("ramfs"), "ramfs", 0, ""),
			unix.Mount("overlay", at("overlay"), "overlay", 0, options)); err != nil {
			return err
		}
		before := len(mountsNow(t))
		for name, want := range map[string]error{"tmpfs": nil, "ramfs": ErrNoIDMap, "overlay": ErrNoIDMap} {
			if err := TryIDMap(at(name)); !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := TryIDMap(at("missing")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("missing: %v", err)
		}
		if err := errors.Join(TryTmpfs(), TryUserNS()); err != nil {
			t.Error(err)
		}
		if _, err := TryOverlay(); err != nil {
			t.Error(err)
		}
		if now := len(mountsNow(t)); now != before {
			t.Errorf("%d mounts, before %d", now, before)
		}
		for _, name := range []string{"tmpfs", "ramfs", "overlay"} {
			if err := unix.Unmount(at(name), unix.MNT_DETACH); err != nil {
				return err
			}
		}
		return nil
	})
}
