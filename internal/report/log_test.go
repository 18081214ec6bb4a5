// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// speak runs do with a Log whose standard error is a pipe, and returns what
// the log file and that pipe got.
func speak(t *testing.T, path, format string, do func(*Log)) (file, stderr string) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(p[0]), "stderr")
	defer func() { _ = r.Close() }()
	l, err := openLog(path, format, p[1])
	if err != nil {
		t.Fatal(err)
	}
	do(l)
	if err := errors.Join(l.Close(), unix.Close(p[1])); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, _ := r.Read(buf)
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file = string(b)
	}
	return file, string(buf[:n])
}

// unstamp puts T in place of the time, having checked that it is one of now.
func unstamp(t *testing.T, line string) string {
	t.Helper()
	for _, key := range []string{`"time":"`, `time="`} {
		before, rest, ok := strings.Cut(line, key)
		if !ok {
			continue
		}
		stamp, after, _ := strings.Cut(rest, `"`)
		at, err := time.Parse(time.RFC3339, stamp)
		if err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("time %q: %v, expected now", stamp, err)
		}
		return before + key + "T\"" + after
	}
	return line
}

func TestLog(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	fail := func(err error) func(*Log) { return func(l *Log) { l.Fail(err) } }
	tests := []struct {
		name, format string
		file         bool
		do           func(*Log)
		wantFile     string
		wantStderr   string
	}{
		{"success json", "json", true, func(*Log) {}, "", ""},
		{"success text", "text", true, func(*Log) {}, "", ""},
		{"nil error", "json", true, fail(nil), "", ""},
		{"json file", "json", true, fail(errors.New("book: no")),
			`{"level":"error","msg":"book: no","time":"T"}` + "\n", "book: no\n"},
		{"text file", "text", true, fail(errors.New("book: no")),
			`time="T" level=error msg="book: no"` + "\n", "book: no\n"},
		{"no format is text", "", true, fail(errors.New("book: no")),
			`time="T" level=error msg="book: no"` + "\n", "book: no\n"},
		{"json stderr", "json", false, fail(errors.New("no")), "", `{"level":"error","msg":"no","time":"T"}` + "\n"},
		{"text stderr", "text", false, fail(errors.New("a b")), "", `time="T" level=error msg="a b"` + "\n"},
		{"text unquoted", "text", false, fail(errors.New("no-1./@^+_Z")), "", `time="T" level=error msg=no-1./@^+_Z` + "\n"},
		{"text quoted", "text", false, fail(errors.New(`a="é"`)), "", `time="T" level=error msg="a=\"é\""` + "\n"},
		{"text empty", "text", false, fail(errors.New("")), "", `time="T" level=error` + "\n"},
		{"joined errors", "json", true, fail(errors.Join(errors.New("a:1: x"), errors.New("a:2: y"), errors.New(""))),
			`{"level":"error","msg":"a:1: x; a:2: y","time":"T"}` + "\n", "a:1: x; a:2: y\n"},
		{"control characters", "json", true, fail(errors.New("\x1b[2Jid\r\nnext\x00\u009b\t.\n")),
			`{"level":"error","msg":"\\x1b[2Jid; next\\x00\\x9b\t.","time":"T"}` + "\n", `\x1b[2Jid; next\x00\x9b` + "\t.\n"},
		{"html and not utf-8", "json", true, fail(errors.New("<&>\xff")),
			`{"level":"error","msg":"\u003c\u0026\u003e` + "\uFFFD" + `","time":"T"}` + "\n", "<&>\uFFFD\n"},
		{"longer than a pipe takes at once", "json", true, fail(errors.New(long[:5000])),
			`{"level":"error","msg":"` + long[:5000] + `","time":"T"}` + "\n", long[:5000] + "\n"},
		{"warning beside a file", "json", true, func(l *Log) { l.Warn("audit:\nno") }, "", "warning: audit:; no\n"},
		{"warning json", "json", false, func(l *Log) { l.Warn("no") }, "", `{"level":"warning","msg":"no","time":"T"}` + "\n"},
		{"warning text", "text", false, func(l *Log) { l.Warn("a b") }, "", `time="T" level=warning msg="a b"` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := ""
			if tt.file {
				path = filepath.Join(t.TempDir(), "log")
			}
			file, stderr := speak(t, path, tt.format, tt.do)
			if got := unstamp(t, file); got != tt.wantFile {
				t.Errorf("log file\n got %q\nwant %q", got, tt.wantFile)
			}
			if got := unstamp(t, stderr); got != tt.wantStderr {
				t.Errorf("stderr\n got %q\nwant %q", got, tt.wantStderr)
			}
		})
	}
}

func TestLogAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, _ := speak(t, path, "json", func(l *Log) { l.Fail(errors.New("no")) })
	if want := "{}\n" + `{"level":"error","msg":"no","time":"T"}` + "\n"; unstamp(t, file) != want {
		t.Errorf("got %q, want %q", file, want)
	}
}

func TestOpenLogRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, path, format, want string }{
		{"format", filepath.Join(dir, "log"), "xml", `invalid log-format: xml`},
		{"format without a file", "", "JSON", `invalid log-format: JSON`},
		{"no directory", dir + "/none/log", "json", "log: " + dir + "/none/log: open: no such file"},
		{"a directory", dir, "json", "is a directory"},
		{"a FIFO that nobody reads", fifo, "json", "a FIFO that nobody reads"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := OpenLog(tt.path, tt.format)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if l == nil || l.file >= 0 {
				t.Fatalf("got log %+v, want one without a file", l)
			}
		})
	}
	if _, err := os.Lstat(filepath.Join(dir, "log")); err == nil {
		t.Error("a bad format made the file; runc looks at the format first")
	}
}

func TestLogFIFOGetsAWholeLine(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	l, err := openLog(fifo, "json", int(null.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	msg := strings.Repeat("x", 200_000) // more than a pipe's 64 KiB
	go func() {
		l.Fail(errors.New(msg))
		_ = l.Close()
	}()
	var got struct{ Msg string }
	if err := json.NewDecoder(r).Decode(&got); err != nil || got.Msg != msg {
		t.Errorf("got %d bytes, %v, want %d", len(got.Msg), err, len(msg))
	}
}

func TestFailTellsOfALogThatCannotBeWritten(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	l, err := openLog("/dev/full", "json", p[1])
	if err != nil {
		t.Fatal(err)
	}
	l.Fail(errors.New("no"))
	_, _ = l.Close(), unix.Close(p[1])
	buf := make([]byte, 1000)
	n, _ := unix.Read(p[0], buf)
	_ = unix.Close(p[0])
	if got, want := string(buf[:n]), "no\nlog: /dev/full: write: no space left on device\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFailOutlivesItsReader(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(p[0])
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLog(path, "text", p[1])
	if err != nil {
		t.Fatal(err)
	}
	l.Fail(errors.New("no"))
	_, _ = l.Close(), unix.Close(p[1])
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "msg=no") {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestTerminalLine(t *testing.T) {
	ptmx, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	defer func() { _ = unix.Close(ptmx) }()
	l := &Log{file: -1, stderr: ptmx, opened: time.Now().Add(-75 * time.Second)}
	for level, want := range map[string]string{
		"error":   fmt.Sprintf("\x1b[31mERRO\x1b[0m[0075] %-44s \n", "a b"),
		"warning": fmt.Sprintf("\x1b[33mWARN\x1b[0m[0075] %-44s \n", "a b"),
	} {
		if got := string(l.line(ptmx, level, "a b")); got != want {
			t.Errorf("%s: got %q, want %q", level, got, want)
		}
	}
}
