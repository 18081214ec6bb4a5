// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	writerEnv = "USERNS_REPORT_TEST_WRITER" // "<path> <number>": be a writer of TestAuditWriters
	writers   = 20
	records   = 200
)

type entry struct {
	Writer, Record int
	Pad            string
}

// pad is what entry N of a writer carries: mostly little, now and then 64 KiB.
func pad(writer, record int) string {
	size := (writer*7919 + record*104729) % 2000
	if record%25 == 0 {
		size = 64 << 10
	}
	return strings.Repeat(string(rune('a'+writer)), size)
}

func TestMain(m *testing.M) {
	if path, number, ok := strings.Cut(os.Getenv(writerEnv), " "); ok {
		w, _ := strconv.Atoi(number)
		a := OpenAudit(path)
		for r := range records {
			if err := a.Write(entry{w, r, pad(w, r)}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestAuditWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "audit.jsonl")
	var cmds []*exec.Cmd
	for w := range writers {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", writerEnv, path, w))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	next := make([]int, writers) // each writer's records come in its order
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("line %d of %d bytes: %v", n, len(lines.Bytes()), err)
		}
		if e.Record != next[e.Writer] || e.Pad != pad(e.Writer, e.Record) {
			t.Fatalf("line %d: record %d of writer %d, expected record %d, whole", n, e.Record, e.Writer, next[e.Writer])
		}
		next[e.Writer]++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for w, n := range next {
		if n != records {
			t.Errorf("writer %d: %d records, expected %d", w, n, records)
		}
	}
}

func TestAuditWrite(t *testing.T) {
	tests := []struct {
		name   string
		record any
		want   string
	}{
		{"object", struct{ A, B string }{"x", "y"}, `{"A":"x","B":"y"}`},
		{"newlines", map[string]string{"a": "x\ny\r"}, `{"a":"x\ny\r"}`},
		{"not utf-8", map[string]string{"a": "x\xff"}, `{"a":"x\ufffd"}`},
		{"no html escapes", map[string]string{"a": "<&>"}, `{"a":"<&>"}`},
		{"raw json of several lines", json.RawMessage("{\n\"a\":\n1}"), `{"a":1}`},
	}
	path := filepath.Join(t.TempDir(), "sub", "audit.jsonl")
	a := OpenAudit(path)
	if _, err := os.Lstat(filepath.Dir(path)); err == nil {
		t.Fatal("OpenAudit touched the disk")
	}
	want := ""
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := a.Write(tt.record); err != nil {
				t.Fatal(err)
			}
			want += tt.want + "\n"
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestAuditModes(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	path := filepath.Join(t.TempDir(), "sub", "audit.jsonl")
	if err := OpenAudit(path).Write(1); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{path: 0o640, filepath.Dir(path): 0o750 | os.ModeDir} {
		if fi, err := os.Stat(p); err != nil || fi.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", p, fi.Mode(), err, want)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := OpenAudit(path).Write(2); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the administrator's mode was changed to %v, %v", fi.Mode(), err)
	}
}

func TestAuditRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	fifo, read := at("fifo"), at("fifo-read")
	if err := errors.Join(
		unix.Mkfifo(fifo, 0o600),
		unix.Mkfifo(read, 0o600),
		os.WriteFile(at("file"), nil, 0o600),
		os.Symlink(at("file"), at("link")),
		os.Symlink(at("none"), at("dangling")),
	); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(read, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	tests := []struct {
		name, path string
		record     any
		want       string
	}{
		{"symlink", at("link"), 1, "is a symlink"},
		{"dangling symlink", at("dangling"), 1, "is a symlink"},
		{"FIFO", fifo, 1, "not a regular file"},
		{"FIFO with a reader", read, 1, "not a regular file"},
		{"directory", dir, 1, "not a regular file"},
		{"device", "/dev/null", 1, "not a regular file"},
		{"two directories missing", at("a/b/audit"), 1, "make its directory: mkdir: no such file"},
		{"below a file", at("file/audit"), 1, "not a directory"},
		{"no JSON form", at("chan"), make(chan int), "make a record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := OpenAudit(tt.path).Write(tt.record)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "audit: "+tt.path+": ") {
				t.Errorf("got %v, want audit: %s: ... %s", err, tt.path, tt.want)
			}
		})
	}
	for _, name := range []string{"none", "a", "chan"} {
		if _, err := os.Lstat(at(name)); err == nil {
			t.Errorf("a refusal made %s", name)
		}
	}
}

func TestAuditShortWrite(t *testing.T) {
	// A limit on file size cuts a write as a full disk does. It holds for the
	// whole process, so another one tries.
	if path := os.Getenv("USERNS_REPORT_TEST_SHORT"); path != "" {
		limit := unix.Rlimit{Cur: 4096, Max: 4096}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		err := OpenAudit(path).Write(strings.Repeat("x", 8192))
		if err == nil || !strings.Contains(err.Error(), "only 4096 of 8195 bytes") {
			t.Errorf("got %v", err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAuditShortWrite$")
	cmd.Env = append(os.Environ(), "USERNS_REPORT_TEST_SHORT="+filepath.Join(t.TempDir(), "audit"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
