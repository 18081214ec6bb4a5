// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const minimal = `{
	"ociVersion": "1.0.2",
	"process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "vendorProcess": {"keep": 1}},
	"root": {"path": "rootfs"},
	"linux": {"namespaces": [{"type": "mount", "vendorNamespace": 7}], "vendorLinux": [1.0, 2]},
	"vendorTop": "äöü <&>"
}
`

func writeBundle(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ConfigName), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpenBundle(t *testing.T) {
	dir := writeBundle(t, minimal)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, link, dir + "/../" + filepath.Base(dir)} {
		b, err := OpenBundle(path)
		if err != nil {
			t.Fatal(err)
		}
		if b.Dir != dir || string(b.Raw) != minimal || b.Spec.Root.Path != "rootfs" {
			t.Fatalf("%s: got %+v", path, b)
		}
	}
}

func TestOpenBundleRefuses(t *testing.T) {
	dirs := map[string]func(t *testing.T) string{
		"it is a symbolic link": func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.Symlink(filepath.Join(writeBundle(t, minimal), ConfigName), filepath.Join(dir, ConfigName)); err != nil {
				t.Fatal(err)
			}
			return dir
		},
		"it is empty":                   func(t *testing.T) string { return writeBundle(t, "") },
		"unexpected EOF":                func(t *testing.T) string { return writeBundle(t, minimal[:90]) },
		"UTF-8":                         func(t *testing.T) string { return writeBundle(t, "{\"a\": \"\xfe\"}") },
		"is there twice":                func(t *testing.T) string { return writeBundle(t, `{"linux": {}, "linux": {}}`) },
		"isn't an OCI runtime":          func(t *testing.T) string { return writeBundle(t, `{"process": []}`) },
		"larger than 4 MiB":             func(t *testing.T) string { return writeBundle(t, strings.Repeat(" ", MaxConfig+1)) },
		"no such file":                  func(t *testing.T) string { return t.TempDir() },
		"nowhere: no such file":         func(t *testing.T) string { return filepath.Join(t.TempDir(), "nowhere") },
		"config.json: not a directory":  func(t *testing.T) string { return filepath.Join(writeBundle(t, minimal), ConfigName) },
		"config.json: it isn't a regul": func(t *testing.T) string { return special(t, unix.S_IFIFO) },
		"socket or device":              nil,
		"a directory":                   nil,
	}
	dirs["a directory"] = func(t *testing.T) string {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, ConfigName), 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	messages := map[string]string{"a directory": "it isn't a regular file", "socket or device": "config.json"}
	dirs["socket or device"] = func(t *testing.T) string { return special(t, unix.S_IFSOCK) }
	for name, make := range dirs {
		t.Run(name, func(t *testing.T) {
			message := name
			if m, ok := messages[name]; ok {
				message = m
			}
			done := time.AfterFunc(10*time.Second, func() { panic("OpenBundle waits") })
			defer done.Stop()
			dir := make(t)
			b, err := OpenBundle(dir)
			if err == nil || b != nil || !strings.Contains(err.Error(), message) {
				t.Fatalf("got %v %v, expected %q", b, err, message)
			}
			if !strings.Contains(err.Error(), dir) {
				t.Fatalf("%v doesn't name %s", err, dir)
			}
		})
	}
}

func special(t *testing.T, kind uint32) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mknod(filepath.Join(dir, ConfigName), kind|0o600, 0); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPatchedKeepsWhatItDoesNotKnow(t *testing.T) {
	b, err := OpenBundle(writeBundle(t, minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := *b.Spec
	root := *want.Root
	root.Path = "/elsewhere"
	want.Root = &root
	patched, err := b.Patched([]Edit{{[]string{"root", "path"}, "/elsewhere"}}, &want)
	if err != nil {
		t.Fatal(err)
	}
	if expected := strings.Replace(minimal, `"rootfs"`, `"/elsewhere"`, 1); string(patched) != expected {
		t.Fatalf("got %s\nexpected %s", patched, expected)
	}
}

// Go's decoder, and so runc, takes "Root" for "root", and the last of both for
// the value. Editing one of them must not leave the other to win.
func TestPatchedRefusesOtherLetters(t *testing.T) {
	for _, trick := range []string{`"Root": {"path": "/"}`, `"ROOT": {"path": "/"}`, `"roo\u0074x": 1, "rOOt": {"path": "/"}`} {
		config := strings.Replace(minimal, `"vendorTop"`, trick+`, "vendorTop"`, 1)
		if b, err := OpenBundle(writeBundle(t, config)); !errors.Is(err, ErrAmbiguous) {
			t.Fatalf("%s: got %v %v", trick, b, err)
		}
	}
	// Alone it is no double, until the edit makes it one.
	for _, name := range []string{`"Root"`, `"\u0072OOT"`} {
		b, err := OpenBundle(writeBundle(t, strings.Replace(minimal, `"root"`, name, 1)))
		if err != nil {
			t.Fatal(err)
		}
		want := *b.Spec
		if patched, err := b.Patched([]Edit{{[]string{"root", "path"}, "/elsewhere"}}, &want); !errors.Is(err, ErrAmbiguous) {
			t.Fatalf("%s: got %s %v", name, patched, err)
		}
	}
}

func TestCheckPrivate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gives files away: needs root")
	}
	for name, tc := range map[string]struct {
		spoil   func(dir string) error
		message string
		cover   bool
	}{
		"private":                      {func(string) error { return nil }, "", false},
		"directory g+w":                {func(dir string) error { return os.Chmod(dir, 0o770) }, "run `chmod go-w ", false},
		"directory o+w":                {func(dir string) error { return os.Chmod(dir, 0o1777) }, "run `chmod go-w ", false},
		"directory another's":          {func(dir string) error { return os.Chown(dir, 12345, 0) }, "UID 12345 owns it", false},
		"file another's":               {func(dir string) error { return os.Chown(filepath.Join(dir, ConfigName), 12345, 0) }, "UID 12345 owns it", false},
		"directory root's inside":      {func(dir string) error { return os.Chown(dir, 3000000, 3000000) }, "", true},
		"file root's inside":           {func(dir string) error { return os.Chown(filepath.Join(dir, ConfigName), 3000000, 0) }, "", true},
		"directory root's inside, g+w": {func(dir string) error { return errors.Join(os.Chown(dir, 3000000, 0), os.Chmod(dir, 0o770)) }, "run `chmod go-w ", true},
		"file o+w":                     {func(dir string) error { return os.Chmod(filepath.Join(dir, ConfigName), 0o602) }, "run `chmod go-w ", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeBundle(t, minimal)
			if err := tc.spoil(dir); err != nil {
				t.Fatal(err)
			}
			b, err := OpenBundle(dir)
			if err != nil {
				t.Fatal(err)
			}
			cover, err := b.CheckPrivate(func(uid uint32) bool { return uid >= 3000000 })
			if err == nil && cover != tc.cover {
				t.Errorf("cover: got %v", cover)
			}
			if (err == nil) != (tc.message == "") || (err != nil && !strings.Contains(err.Error(), tc.message)) {
				t.Fatalf("got %v, expected %q", err, tc.message)
			}
		})
	}
}

func TestOpenConfigRefusesAnotherFile(t *testing.T) {
	dir := writeBundle(t, minimal)
	b, err := OpenBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := b.OpenConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, ConfigName)); err != nil {
		t.Fatal(err)
	}
	if f, err := b.OpenConfig(dir); err == nil {
		f.Close()
		t.Fatal("another file was taken for the judged one")
	}
}
