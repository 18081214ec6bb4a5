// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// put makes a file with that owner and mode.
func put(t *testing.T, data string, uid int, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := errors.Join(os.WriteFile(path, []byte(data), 0o600), os.Chown(path, uid, -1), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of other owners")
	}
}

func TestLoad(t *testing.T) {
	needRoot(t)
	changed := Default()
	changed.DefaultOwner = "alice"
	tests := []struct {
		name, path string
		want       Config
	}{
		{"no file", filepath.Join(t.TempDir(), "config.toml"), Default()},
		{"no directory", filepath.Join(t.TempDir(), "none", "config.toml"), Default()},
		{"empty file", put(t, "", 0, 0o644), Default()},
		{"shipped file", put(t, DefaultTOML, 0, 0o600), Default()},
		{"one key", put(t, "default-owner = 'alice'", 0, 0o444), changed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Load(tt.path)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
	if _, err := Read(tests[0].path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of no file: %v, want fs.ErrNotExist", err)
	}
}

func TestLoadRefusesFiles(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	good := put(t, "", 0, 0o600)
	if err := errors.Join(
		os.Symlink(good, at("link")),
		os.Symlink(at("none"), at("dangling")),
		unix.Mkfifo(at("fifo"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	alice, group, world := put(t, "", 1000, 0o600), put(t, "", 0, 0o620), put(t, "", 0, 0o602)
	both := put(t, "", 1000, 0o666)
	odd := at("a name with spaces")
	if err := os.Rename(put(t, "", 1000, 0o600), odd); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		want       []string
	}{
		{"symlink", at("link"), []string{"is a symbolic link"}},
		{"dangling symlink", at("dangling"), []string{"is a symbolic link"}},
		{"FIFO", at("fifo"), []string{"expected a regular file"}},
		{"directory", dir, []string{"expected a regular file"}},
		{"device", "/dev/zero", []string{"expected a regular file"}},
		{"below a file", good + "/config.toml", []string{"not a directory"}},
		{"owner", alice, []string{"owned by UID 1000: expected root", "chown root: " + alice}},
		{"overflow owner where root is mapped", put(t, "", 65534, 0o600), []string{"owned by UID 65534: expected root"}},
		{"group may write", group, []string{"mode 0620", "chmod go-w " + group}},
		{"others may write", world, []string{"mode 0602", "chmod go-w " + world}},
		{"owner and mode", both, []string{"owned by UID 1000", "mode 0666", "chown root: " + both + " && chmod go-w " + both}},
		{"too large", put(t, strings.Repeat("#", maxSize+1), 0, 0o600), []string{"1048577 bytes: expected at most 1048576"}},
		{"path to quote", odd, []string{"owned by UID 1000: expected root", "chown root: '" + odd + "'"}},
		{"content", put(t, "\nx = 1", 0, 0o600), []string{":2: unknown key x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			got, err := Load(tt.path)
			if err == nil || !reflect.DeepEqual(got, Config{}) {
				t.Fatalf("got %+v, %v, want an error and nothing", got, err)
			}
			for _, want := range append(tt.want, tt.path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v: it waited", took)
			}
		})
	}
	t.Run("largest", func(t *testing.T) {
		if _, err := Load(put(t, strings.Repeat("#", maxSize), 0, 0o600)); err != nil {
			t.Error(err)
		}
	})
}

func TestOwner(t *testing.T) {
	needRoot(t)
	const (
		initial  = "         0          0 4294967295\n"
		rootless = "0 1000 1\n1 100000 65536\n"
		moved    = "0 100000 65536\n70000 0 1\n"
	)
	tests := []struct {
		name, uidMap string
		uid          int
		want         string // "" when it is root's
	}{
		{"root", initial, 0, ""},
		{"user", initial, 1000, "owned by UID 1000: expected root, who is UID 0 here"},
		{"nobody", initial, 65534, "owned by UID 65534: expected root, who is UID 0 here"},
		{"rootless: root shows as overflow", rootless, 65534, ""},
		{"rootless: UID 0 is the user", rootless, 0, "owned by UID 0: expected root, who is UID 65534 here"},
		{"rootless: one of the user's", rootless, 1, "owned by UID 1: expected root, who is UID 65534 here"},
		{"root under another number", moved, 70000, ""},
		{"not root though it is 0", moved, 0, "owned by UID 0: expected root, who is UID 70000 here"},
		{"overflow though root has a number", moved, 65534, "owned by UID 65534: expected root, who is UID 70000 here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			uids, err := idmap.ParseMap(tt.uidMap)
			if err != nil {
				t.Fatal(err)
			}
			path := put(t, "", tt.uid, 0o600)
			_, err = read(path, idmap.RootAs(uids))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), "config: "+path+": is "+tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
