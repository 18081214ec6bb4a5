// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemFile(t *testing.T) {
	f, err := MemFile("x", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("C"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("it can be written: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("it can be cut: %v", err)
	}
	again, err := os.Open(FDPath(f))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if text, err := io.ReadAll(again); err != nil || string(text) != "content" {
		t.Errorf("got %q %v", text, err)
	}
}

func TestKeepAcrossExec(t *testing.T) {
	f, err := MemFile("x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := KeepAcrossExec(f, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || fd < 100 || flags&unix.FD_CLOEXEC != 0 {
		t.Fatalf("got descriptor %d, flags %d, %v", fd, flags, err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Fatalf("the file itself is kept: flags %d, %v", flags, err)
	}
}

func TestParentDeathSignal(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := ParentDeathSignal()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := SetParentDeathSignal(before); err != nil {
			t.Error(err)
		}
	}()
	if err := SetParentDeathSignal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	if got, err := ParentDeathSignal(); err != nil || got != syscall.SIGUSR2 {
		t.Fatalf("got %v %v", got, err)
	}
}

func TestOpenNamespace(t *testing.T) {
	ns, err := OpenNamespace("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
	fifo := t.TempDir() + "/fifo"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, "/dev/null", "/proc/self/status", "/"} {
		if f, err := OpenNamespace(path); !errors.Is(err, ErrNotNamespace) {
			t.Errorf("%s: got %v %v", path, f, err)
		}
	}
}

func TestUserNSOwner(t *testing.T) {
	ns, err := os.Open("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if _, err := UserNSOwner(ns); err != nil && !errors.Is(err, unix.EPERM) {
		t.Errorf("our own: got %v", err)
	}
	for _, path := range []string{"/proc/self/ns/mnt", "/dev/null", "/proc/self/status"} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := UserNSOwner(f); !errors.Is(err, ErrNotUserNS) {
			t.Errorf("%s: got %v", path, err)
		}
		f.Close()
	}
}

func TestStartTime(t *testing.T) {
	start, err := StartTime("/proc/self")
	if err != nil || start == "" || strings.Trim(start, "0123456789") != "" {
		t.Errorf("ours: got %q %v", start, err)
	}
	if again, err := StartTime("/proc/" + strconv.Itoa(os.Getpid())); err != nil || again != start {
		t.Errorf("ours again: got %q %v, expected %q", again, err, start)
	}
	if start, err := StartTime("/proc/4194305"); !errors.Is(err, fs.ErrNotExist) { // above PID_MAX_LIMIT
		t.Errorf("nobody's: got %q %v", start, err)
	}
	for stat, want := range map[string]string{
		"1 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20": "19",
		"1 (a) b) S 1": "", "": "",
	} {
		if got := startTime(stat); got != want {
			t.Errorf("%q: got %q, expected %q", stat, got, want)
		}
	}
}
