// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// host is a directory with both files.
func host(t *testing.T, uids, gids string) (subuid, subgid string) {
	t.Helper()
	dir := t.TempDir()
	subuid, subgid = filepath.Join(dir, "subuid"), filepath.Join(dir, "subgid")
	for path, text := range map[string]string{subuid: uids, subgid: gids} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return subuid, subgid
}

// hold checks what the files hold, and that nothing else is left beside them.
func hold(t *testing.T, subuid, subgid, uids, gids string) {
	t.Helper()
	for path, want := range map[string]string{subuid: uids, subgid: gids} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	all, err := os.ReadDir(filepath.Dir(subuid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		switch e.Name() {
		case "subuid", "subgid", "subuid-", "subgid-", ".pwd.lock":
		default:
			t.Errorf("%s is left", e.Name())
		}
	}
}

func put(uids, gids string) func(*SubIDFile, *SubIDFile) ([]byte, []byte, error) {
	return func(*SubIDFile, *SubIDFile) ([]byte, []byte, error) { return []byte(uids), []byte(gids), nil }
}

func TestEditSubIDs(t *testing.T) {
	subuid, subgid := host(t, "u\n", "g\n")
	if err := EditSubIDs(subuid, subgid, put("U\n", "G\n")); err != nil {
		t.Fatal(err)
	}
	hold(t, subuid, subgid, "U\n", "G\n")
	no := errors.New("no")
	if err := EditSubIDs(subuid, subgid, func(*SubIDFile, *SubIDFile) ([]byte, []byte, error) { return []byte("x"), []byte("y"), no }); !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	hold(t, subuid, subgid, "U\n", "G\n")
}

func TestEditSubIDsWithoutFiles(t *testing.T) {
	dir := t.TempDir()
	subuid, subgid := filepath.Join(dir, "subuid"), filepath.Join(dir, "subgid")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	if err := EditSubIDs(subuid, subgid, put("U\n", "G\n")); err != nil {
		t.Fatal(err)
	}
	hold(t, subuid, subgid, "U\n", "G\n")
	for _, path := range []string{subuid, subgid} {
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// Where the second file can't be written the first is as it was.
func TestEditSubIDsPutsBack(t *testing.T) {
	subuid, subgid := host(t, "u\n", "g\n")
	// Its backup can't be replaced, which shows after the first is written.
	if err := os.Mkdir(subuid+"-", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := EditSubIDs(subuid, subgid, put("U\n", "G\n")); err == nil || !strings.Contains(err.Error(), "subuid-: is a directory") {
		t.Fatalf("got %v", err)
	}
	hold(t, subuid, subgid, "u\n", "g\n")
	// A link in the place of the first one.
	if err := os.Remove(subgid); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(subuid, subgid); err != nil {
		t.Fatal(err)
	}
	if err := EditSubIDs(subuid, subgid, put("U\n", "G\n")); err == nil || !strings.Contains(err.Error(), "subgid: is a symbolic link") {
		t.Fatalf("got %v", err)
	}
	hold(t, subuid, subgid, "u\n", "u\n")
}

// What a killed process has left is taken over; what a living one holds is not.
func TestLockSubID(t *testing.T) {
	subuid, subgid := host(t, "u\n", "g\n")
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, left := range []string{strconv.Itoa(ended.Process.Pid), fmt.Sprintf("%d\x00", ended.Process.Pid), strconv.Itoa(os.Getpid())} {
		write(subuid+".lock", left)
		write(subgid+".lock", left)
		write(filepath.Join(filepath.Dir(subuid), ".subuid.usernsctl"), "torn")
		if err := EditSubIDs(subuid, subgid, put("U"+strings.TrimRight(left, "\x00")+"\n", "G\n")); err != nil {
			t.Errorf("%q: %v", left, err)
		}
	}
	hold(t, subuid, subgid, "U"+strconv.Itoa(os.Getpid())+"\n", "G\n")
	for _, odd := range []string{"", "x", "-5", "0"} {
		write(subuid+".lock", odd)
		if err := EditSubIDs(subuid, subgid, put("V\n", "V\n")); err == nil || !strings.Contains(err.Error(), "expected the number of a process") {
			t.Errorf("%q: %v", odd, err)
		}
	}
	write(subuid+".lock", strconv.Itoa(os.Getppid()))
	if _, err := lockSubID(subuid, 20*time.Millisecond); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("is held by process %d: ", os.Getppid())) {
		t.Errorf("held: %v", err)
	}
	if text, err := os.ReadFile(subuid + ".lock"); err != nil || string(text) != strconv.Itoa(os.Getppid()) {
		t.Errorf("the lock of another is %q, %v", text, err)
	}
	if err := os.Remove(subuid + ".lock"); err != nil {
		t.Fatal(err)
	}
	hold(t, subuid, subgid, "U"+strconv.Itoa(os.Getpid())+"\n", "G\n")
}

// The lock has the number of its process from the first instant, and shadow's tools see it.
func TestLockSubIDHasItsProcess(t *testing.T) {
	subuid, subgid := host(t, "u\n", "g\n")
	err := EditSubIDs(subuid, subgid, func(*SubIDFile, *SubIDFile) ([]byte, []byte, error) {
		for _, path := range []string{subuid, subgid} {
			if text, err := os.ReadFile(path + ".lock"); err != nil || string(text) != strconv.Itoa(os.Getpid()) {
				t.Errorf("%s.lock: %q, %v", path, text, err)
			}
		}
		return nil, nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	hold(t, subuid, subgid, "u\n", "g\n")
}

func TestLockAccounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".pwd.lock")
	first, err := lockAccounts(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockAccounts(path, 20*time.Millisecond); err == nil || !strings.Contains(err.Error(), "is held by a program that changes accounts") {
		t.Errorf("held: %v", err)
	}
	first.Close()
	again, err := lockAccounts(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	if _, err := lockAccounts(path, time.Second); err == nil {
		t.Error("a link was followed")
	}
}

// Of many edits at once none is lost.
func TestEditSubIDsAtOnce(t *testing.T) {
	subuid, subgid := host(t, "", "")
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			err := EditSubIDs(subuid, subgid, func(u, g *SubIDFile) ([]byte, []byte, error) {
				e := entry("u"+strconv.Itoa(i), uint32(i)*10+1, 10)
				return u.With(append(u.Ours(), e)), g.With(append(g.Ours(), e)), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, path := range []string{subuid, subgid} {
		f, err := ReadSubIDs(path, uint32(os.Geteuid()))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(f.Ours()); n != 12 {
			t.Errorf("%s: %d entries", path, n)
		}
	}
}
