// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// aLayer is an archive of one file of root's.
func aLayer(t *testing.T, uid int) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: "file", Typeflag: tar.TypeReg, Uid: uid, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// ownerIn is the UID of the file in such an archive.
func ownerIn(t *testing.T, archive string) int {
	t.Helper()
	h, err := tar.NewReader(strings.NewReader(archive)).Next()
	if err != nil {
		t.Fatal(err)
	}
	return h.Uid
}

// called runs the program, with its streams as text.
func called(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(append([]string{programName}, args...), strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

const someMap = "0:100000:65536"

func TestLayerShift(t *testing.T) {
	layer := aLayer(t, 7)
	code, host, said := called(layer, "layer", "shift", "--to-host", "--map", someMap)
	if code != exitFine || said != "" || ownerIn(t, host) != 100007 {
		t.Fatalf("%d, %q, owner %d", code, said, ownerIn(t, host))
	}
	code, back, said := called(host, "layer", "shift", "--map="+someMap, "--to-container")
	if code != exitFine || said != "" || back != layer {
		t.Fatalf("%d, %q, and other bytes: %t", code, said, back != layer)
	}
	code, squashed, _ := called(aLayer(t, 70000), "layer", "shift", "--to-host", "--map", someMap, "--squash")
	if code != exitFine || ownerIn(t, squashed) != 165534 {
		t.Errorf("%d, squashed to %d", code, ownerIn(t, squashed))
	}
	// A list of extents, as one flag and as several.
	for _, maps := range [][]string{{"--map", "0:5:1,7:9:1"}, {"--map", "0:5:1", "--map", "7:9:1"}} {
		code, host, said = called(layer, append([]string{"layer", "shift", "--to-host", "--map", "1:20:1"}, maps...)...)
		if code != exitFine || said != "" || ownerIn(t, host) != 9 {
			t.Errorf("%q: %d, %q", maps, code, said)
		}
	}
}

func TestLayerShiftRefuses(t *testing.T) {
	for _, tc := range []struct {
		stdin string
		args  string
		code  int
		want  string
	}{
		{aLayer(t, 70000), "--to-host --map " + someMap, exitFailed, "usernsctl: layer shift: standard input: \"file\", byte 0: UID 70000: not in the map, which holds [0-65536) inside\n" +
			"usernsctl: try: usernsctl layer shift --to-host --map '0:100000:65536' --squash\n"},
		{aLayer(t, 70000), "--to-host --map 0:1:1 --squash", exitFailed, "nobody can't take its place"},
		{aLayer(t, 0)[:600], "--to-host --map " + someMap, exitFailed, "it is truncated"},
		{"\xfd7zXZ\x00", "--to-host --map " + someMap, exitFailed, "compressed with xz"},
		{"", "--to-host --map " + someMap, exitFailed, "no byte at all"},
		{"", "--map " + someMap, exitUsage, "expected one of --to-host and --to-container"},
		{"", "--to-host --to-container --map " + someMap, exitUsage, "expected one of --to-host and --to-container"},
		{"", "--to-host", exitUsage, "--map is missing"},
		{"", "--to-host --map 0:100000", exitUsage, `--map: not a mapping: "0:100000"`},
		{"", "--to-host --map 0:1:5 --map 4:9:1", exitUsage, "--map: impossible map"},
		{"", "--to-host --map " + someMap + " file", exitUsage, `"file": expected no argument`},
		{"", "--to-host --input= --map " + someMap, exitUsage, "--input: is empty"},
		{"", "--to-host --input /none --map " + someMap, exitFailed, "open /none: no such file"},
		{aLayer(t, 0), "--to-host --output /dev/null --map " + someMap, exitFailed, "/dev/null: is no regular file"},
		{aLayer(t, 0), "--to-host --output /none/file --map " + someMap, exitFailed, "/none/"},
	} {
		code, out, said := called(tc.stdin, append([]string{"layer", "shift"}, strings.Fields(tc.args)...)...)
		if code != tc.code || !strings.Contains(said, tc.want) || out != "" {
			t.Errorf("%s: %d, %q, and %d bytes: expected %d, %q", tc.args, code, said, len(out), tc.code, tc.want)
		}
	}
}

// TestLayerShiftFiles has --input and --output: the second is as it was until the new one
// is whole, and nothing lies beside it.
func TestLayerShiftFiles(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	args := []string{"layer", "shift", "--to-host", "--map", someMap, "--input", in, "--output", out}
	only := func(want string) {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		hidden, err2 := filepath.Glob(filepath.Join(dir, ".*"))
		if err != nil || err2 != nil || len(hidden) > 0 || len(names) != 2 {
			t.Errorf("files %q and %q, %v, %v", names, hidden, err, err2)
		}
		if got, err := os.ReadFile(out); err != nil || string(got) != want {
			t.Errorf("%d other bytes, %v", len(got), err)
		}
	}
	for path, text := range map[string]string{in: aLayer(t, 70000), out: "before"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, said := called("", args...); code != exitFailed || !strings.Contains(said, in+`: "file", byte 0: UID 70000`) {
		t.Errorf("%d, %q", code, said)
	}
	only("before")
	if err := os.WriteFile(in, []byte(aLayer(t, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, shown, said := called("", args...)
	if code != exitFine || said != "" || shown != "" {
		t.Errorf("%d, %q, %q", code, said, shown)
	}
	_, want, _ := called(aLayer(t, 1), args[:5]...)
	only(want)
	// In its own place.
	if code, _, said := called("", append(args[:5:5], "--input", out, "--output", out)...); code != exitFailed || !strings.Contains(said, "UID 100001") {
		t.Errorf("%d, %q", code, said)
	}
	only(want)
}

// TestLayerShiftSignal ends the program in the middle: see TestMain. What has a name from the first
// it has to remove itself, so that SIGKILL is for the other kind.
func TestLayerShiftSignal(t *testing.T) {
	for _, tc := range []struct {
		signal syscall.Signal
		named  string
	}{
		{syscall.SIGINT, ""}, {syscall.SIGTERM, ""}, {syscall.SIGKILL, ""},
		{syscall.SIGINT, "1"}, {syscall.SIGTERM, "1"}, {syscall.SIGHUP, "1"},
	} {
		signal := tc.signal
		dir := t.TempDir()
		cmd := exec.Command("env", "--default-signal=HUP,INT", os.Args[0], "layer", "shift", "--to-host", "--map", someMap, "--output", filepath.Join(dir, "out"))
		cmd.Env = append(os.Environ(), asProgram+"=1", asNamed+"="+tc.named)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stdin, aLayer(t, 0)[:600]); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); !hasOpenIn(cmd.Process.Pid, dir); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nothing was begun")
			}
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != signal {
			t.Errorf("%s, named %q: %s", signal, tc.named, cmd.ProcessState)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s, named %q: left behind: %v, %v", signal, tc.named, left, err)
		}
	}
}

// hasOpenIn says whether a process has a file open in a directory, with a name or without.
func hasOpenIn(pid int, dir string) bool {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(fds) // of none as yet
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		to, err := os.Readlink(filepath.Join(fds, e.Name()))
		return err == nil && strings.HasPrefix(to, dir+"/")
	})
}

// asProgram has the tests' own program be the program that is tested, and asNamed one on a filesystem
// whose files all have names.
const (
	asProgram = "USERNSCTL_TEST_AS_PROGRAM"
	asNamed   = "USERNSCTL_TEST_AS_NAMED"
)

func TestMain(m *testing.M) {
	if os.Getenv(asNamed) != "" {
		unnamed = syscall.O_DIRECTORY // EISDIR, for writing
	}
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}
