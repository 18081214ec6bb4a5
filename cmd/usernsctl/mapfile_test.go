// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// listed is what a directory holds: "name mode", links with what they lead to.
func listed(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Name()+" "+info.Mode().String())
	}
	return strings.Join(out, ", ")
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s: %.100q, %v", path, got, err)
	}
}

func TestWriteWhole(t *testing.T) {
	was := unix.Umask(0o027)
	defer unix.Umask(was)
	dir := t.TempDir()
	path := filepath.Join(dir, "map.svg")
	if err := writeWhole(path, "one"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "one")
	if got := listed(t, dir); got != "map.svg -rw-r-----" {
		t.Errorf("got %s", got)
	}
	unix.Umask(0o022)
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	// Whoever has it open reads what was there.
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := writeWhole(path, "longer than before"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "longer than before")
	kept := make([]byte, 10)
	if n, _ := reader.Read(kept); string(kept[:n]) != "one" {
		t.Errorf("the file before is %q", kept[:n])
	}
	if got := listed(t, dir); got != "map.svg -rw----r--" {
		t.Errorf("got %s", got)
	}
	// What a killed one has left is written over, and no shorter text keeps its end.
	if err := os.WriteFile(filepath.Join(dir, ".map.svg.usernsctl"), []byte(strings.Repeat("x", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(path, "short"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "short")
	if got := listed(t, dir); got != "map.svg -rw----r--" {
		t.Errorf("got %s", got)
	}
	t.Chdir(dir)
	if err := writeWhole("plain", "here"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path[:len(path)-len("map.svg")]+"plain", "here")
}

// In a directory where others may write, the mode of their file would let them change ours; and a link's
// ".." is the directory's that it leads to, not what the name looks like.
func TestWriteWholeOfOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	was := unix.Umask(0o022)
	defer unix.Umask(was)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(at("theirs"), nil, 0o600), os.Chmod(at("theirs"), 0o666), os.Chown(at("theirs"), 1234, 1234),
		os.MkdirAll(at("a/b"), 0o755), os.Symlink("a/b", at("d")), os.Symlink("d/../out", at("link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := writeWhole(at("theirs"), "x"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(at("theirs")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("got %v, %v", info, err)
	}
	if err := writeWhole(at("link"), "x"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, at("a/out"), "x")
	if got := listed(t, at("a")); !strings.Contains(got, "out -rw-r--r--") {
		t.Errorf("got %s", got)
	}
}

func TestWriteWholeLinks(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("far"), 0o755), os.WriteFile(at("far/real"), []byte("old"), 0o600), os.Symlink("far", at("dir")),
		os.Symlink("dir/link2", at("link")), os.Symlink("../far/real", at("far/link2")), os.Symlink("nowhere/x", at("dangling")),
		os.Symlink("new", at("fresh")), os.Symlink("circle", at("circle")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := writeWhole(at("link"), "new"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, at("far/real"), "new")
	if to, err := os.Readlink(at("link")); err != nil || to != "dir/link2" {
		t.Errorf("the link is %q, %v", to, err)
	}
	if got := listed(t, at("far")); got != "link2 Lrwxrwxrwx, real -rw-------" {
		t.Errorf("got %s", got)
	}
	if err := writeWhole(at("fresh"), "made"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, at("new"), "made")
	before := listed(t, dir)
	if err := writeWhole(at("dangling"), "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a directory that isn't there: %v", err)
	}
	if err := writeWhole(at("circle"), "x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("in a circle: %v", err)
	}
	if got := listed(t, dir); got != before {
		t.Errorf("got %s, was %s", got, before)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make another's link")
	}
	if err := os.WriteFile(at("victim"), []byte("shadow"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("victim", at("trap")); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(at("trap"), 1234, 1234); err != nil {
		t.Fatal(err)
	}
	err := writeWhole(at("trap"), "x")
	if err == nil || !strings.Contains(err.Error(), at("trap")+`: is a symbolic link of UID 1234 to "victim", and not yours`) {
		t.Errorf("another's link: %v", err)
	}
	wantFile(t, at("victim"), "shadow")
}

func TestWriteWholeRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("dir"), 0o755), unix.Mkfifo(at("fifo"), 0o644), os.WriteFile(at("file"), []byte("old"), 0o644), os.Mkdir(at(".busy.usernsctl"), 0o755),
		os.Symlink("file", at(".led.usernsctl")), unix.Mkfifo(at(".pipe.usernsctl"), 0o644), os.Link(at("file"), at(".twice.usernsctl")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := listed(t, dir)
	for path, want := range map[string]string{
		"":                       "is the name of a directory",
		at("new") + "/":          "is the name of a directory",
		at("dir"):                at("dir") + ": is not a regular file",
		at("fifo"):               at("fifo") + ": is not a regular file",
		os.DevNull:               os.DevNull + ": is not a regular file",
		at("file/below"):         "not a directory",
		at("none/below"):         "no such file or directory",
		at("busy"):               ".busy.usernsctl: is a directory",
		at("led"):                ".led.usernsctl: too many levels of symbolic links",
		at("pipe"):               ".pipe.usernsctl: is in the way, and not what this program left there: expected no such file: rm ",
		at("twice"):              ".twice.usernsctl: is in the way",
		strings.Repeat("n", 250): "file name too long",
	} {
		if err := writeWhole(path, "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", path, err, want)
		}
	}
	wantFile(t, at("file"), "old")
	if got := listed(t, dir); got != before {
		t.Errorf("got %s, was %s", got, before)
	}
}

// Many at once each write all of theirs, and leave nothing.
func TestWriteWholeAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "map.svg")
	text := func(i int) string { return strings.Repeat(strconv.Itoa(i%10), 10000+i) }
	var all sync.WaitGroup
	stop := make(chan struct{})
	watched := make(chan int)
	go func() {
		bad := 0
		for {
			select {
			case <-stop:
				watched <- bad
				return
			default:
			}
			got, err := os.ReadFile(path)
			if err == nil && (len(got) < 10000 || string(got) != strings.Repeat(string(got[0]), len(got))) {
				bad++
			}
		}
	}()
	for i := range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 5 {
				if err := writeWhole(path, text(i)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	close(stop)
	if bad := <-watched; bad > 0 {
		t.Errorf("%d times it was seen half written", bad)
	}
	if got := listed(t, dir); got != "map.svg -rw-r--r--" {
		t.Errorf("got %s", got)
	}
}
