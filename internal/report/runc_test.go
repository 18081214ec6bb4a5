// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAsRunc fails a real runc and then this package with runc's own message,
// and wants the same bytes, the time apart, in the same places.
func TestAsRunc(t *testing.T) {
	runc := os.Getenv("USERNS_TEST_RUNC")
	if runc == "" {
		runc = "../../bin/runc"
	}
	if _, err := os.Stat(runc); err != nil {
		t.Skipf("not compared with the pinned runc: %v: build it with make, or set USERNS_TEST_RUNC", err)
	}
	runc, err := filepath.Abs(runc)
	if err != nil {
		t.Fatal(err)
	}
	bundle := []string{"run", "--bundle", "/nonexistent", "x"}
	const bundleMsg = "runc run failed: chdir /nonexistent: no such file or directory"
	tests := []struct {
		name, format string
		file         bool
		args         []string
		msg          string
		umask        int
	}{
		{"json file", "json", true, bundle, bundleMsg, 0o022},
		{"text file", "text", true, bundle, bundleMsg, 0o022},
		{"open umask", "json", true, bundle, bundleMsg, 0},
		{"tight umask", "json", true, bundle, bundleMsg, 0o077},
		{"json stderr", "json", false, bundle, bundleMsg, 0o022},
		{"text stderr", "text", false, bundle, bundleMsg, 0o022},
		{"no such container", "json", true, []string{"state", "userns-runtime-none"}, "container does not exist", 0o022},
		{"success leaves the file empty", "json", true, []string{"list", "-q"}, "", 0o022},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer unix.Umask(unix.Umask(tt.umask))
			dir := t.TempDir()
			theirs, ours := "", ""
			root := filepath.Join(dir, "root")
			if err := os.Mkdir(root, 0o700); err != nil {
				t.Fatal(err)
			}
			args := []string{"--root", root, "--log-format", tt.format}
			if tt.file {
				theirs, ours = filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
				args = append(args, "--log", theirs)
			}
			cmd := exec.Command(runc, append(args, tt.args...)...)
			var theirErr bytes.Buffer
			cmd.Stderr = &theirErr
			if err := cmd.Run(); (err == nil) != (tt.msg == "") {
				t.Fatalf("runc: %v: %s", err, &theirErr)
			}
			file, stderr := speak(t, ours, tt.format, func(l *Log) {
				if tt.msg != "" {
					l.Fail(errors.New(tt.msg))
				}
			})
			if got, want := unstamp(t, stderr), unstamp(t, theirErr.String()); got != want {
				t.Errorf("stderr\n got %q\nrunc %q", got, want)
			}
			if !tt.file {
				return
			}
			want, err := os.ReadFile(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := unstamp(t, file), unstamp(t, string(want)); got != want {
				t.Errorf("log file\n got %q\nrunc %q", got, want)
			}
			a, aerr := os.Stat(ours)
			b, berr := os.Stat(theirs)
			if aerr != nil || berr != nil || a.Mode() != b.Mode() {
				t.Errorf("mode %v, %v; runc's %v, %v", a.Mode(), aerr, b.Mode(), berr)
			}
		})
	}
	t.Run("bad format", func(t *testing.T) {
		out, err := exec.Command(runc, "--log-format", "xml", "list").CombinedOutput()
		if err == nil {
			t.Fatal("runc took it")
		}
		_, stderr := speak(t, "", "", func(l *Log) {
			_, err := OpenLog("", "xml")
			l.Fail(err)
		})
		prefix, _, _ := strings.Cut(unstamp(t, string(out)), `xml"`)
		if got := unstamp(t, stderr); !strings.HasPrefix(got, prefix+"xml:") {
			t.Errorf("got %q, runc %q", got, out)
		}
	})
}
