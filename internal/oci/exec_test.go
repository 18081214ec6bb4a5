// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestFindRuntime(t *testing.T) {
	dir := t.TempDir()
	program := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, second := program("good", 0o755), program("second", 0o755)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	nowhere, another := filepath.Join(dir, "nowhere"), program("another", 0o755)
	if err := os.Chown(another, 12345, 0); err != nil {
		t.Skip("gives files away: needs root")
	}
	for name, tc := range map[string]struct {
		paths   []string
		want    string
		message string
	}{
		"first":           {[]string{good, second}, good, ""},
		"first there is":  {[]string{nowhere, second, good}, second, ""},
		"none":            {[]string{nowhere}, "", nowhere},
		"no list":         {nil, "", "there is none"},
		"directory":       {[]string{dir, good}, "", "it isn't a program"},
		"not executable":  {[]string{program("plain", 0o644), good}, "", "it isn't a program"},
		"writable":        {[]string{program("loose", 0o775), good}, "", "chmod go-w"},
		"another's":       {[]string{another, good}, "", "UID 12345 owns it"},
		"ourselves":       {[]string{self, good}, "", "userns-runtime itself"},
		"link to us":      {[]string{link, good}, "", "userns-runtime itself"},
		"below a program": {[]string{filepath.Join(good, "x"), good}, "", "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := FindRuntime(tc.paths, 0)
			if got != tc.want || (err == nil) != (tc.message == "") || (err != nil && !strings.Contains(err.Error(), tc.message)) {
				t.Fatalf("got %q %v, expected %q %q", got, err, tc.want, tc.message)
			}
		})
	}
}

func TestCheckRecursion(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	if err := CheckRecursion([]string{"A=b", guardVar + "=" + pid}); !errors.Is(err, ErrRecursion) {
		t.Errorf("our own process ID: got %v", err)
	}
	for _, environ := range [][]string{nil, {guardVar + "=" + pid + "1"}, {guardVar + "="}, {"X" + guardVar + "=" + pid}} {
		if err := CheckRecursion(environ); err != nil {
			t.Errorf("%v: got %v", environ, err)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for output, want := range map[string]Version{
		"runc version 1.5.2\nspec: 1.3.0\n":                 {"runc", 1, 5, "1.5.2"},
		"runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1\n":     {"runc", 1, 1, "1.1.5+ds1"},
		"runc version 1.2-rc.1":                             {"runc", 1, 2, "1.2-rc.1"},
		"crun version 1.8.1\ncommit: f8a096be\n":            {"crun", 1, 8, "1.8.1"},
		"runc version 10.20.30-dev+g123\nlibseccomp: 2.5.4": {"runc", 10, 20, "10.20.30-dev+g123"},
	} {
		if got, err := ParseVersion(output); err != nil || got != want {
			t.Errorf("%q: got %+v %v", output, got, err)
		}
	}
	for _, output := range []string{"", "\n", "runc 1.5.2", "runc version", "runc version x.y", " version 1.2.3", "a b version 1.2.3", "../x version 1.2.3"} {
		if got, err := ParseVersion(output); err == nil {
			t.Errorf("%q: got %+v", output, got)
		}
	}
	if (Version{Major: 1, Minor: 2}).AtLeast(1, 2) != true || (Version{Major: 1, Minor: 1}).AtLeast(1, 2) || !(Version{Major: 2}).AtLeast(1, 2) {
		t.Error("AtLeast compares wrongly")
	}
}

func TestRuntimeVersionIsKept(t *testing.T) {
	dir := t.TempDir()
	path, count, cache := filepath.Join(dir, "runc"), filepath.Join(dir, "count"), filepath.Join(dir, "cache")
	write := func(version string) {
		t.Helper()
		script := "#!/bin/sh\necho x >> " + count + "\necho runc version " + version + "\n"
		if err := os.WriteFile(path+".new", []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	calls := func() int {
		text, _ := os.ReadFile(count)
		return strings.Count(string(text), "x")
	}
	write("1.5.2")
	for range 3 {
		if v, err := RuntimeVersion(path, cache); err != nil || v.String() != "runc 1.5.2" {
			t.Fatalf("got %v %v", v, err)
		}
	}
	if calls() != 1 {
		t.Fatalf("asked %d times", calls())
	}
	write("1.1.5")
	if v, err := RuntimeVersion(path, cache); err != nil || v.String() != "runc 1.1.5" || calls() != 2 {
		t.Fatalf("another file of that name: got %v %v, asked %d times", v, err, calls())
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != 2 {
		t.Fatalf("cache: %v %v", entries, err)
	}
	for _, entry := range entries {
		if entry.Type()&os.ModeSymlink == 0 {
			t.Errorf("%s isn't a symbolic link", entry.Name())
		}
	}
	write("1.5.2\necho more")
	if err := os.WriteFile(path+".copy", []byte("#!/bin/sh\necho userns-runtime version 1\necho runc version 1.5.2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if v, err := RuntimeVersion(path+".copy", cache); !errors.Is(err, ErrRecursion) {
		t.Errorf("a copy of ourselves: got %v %v", v, err)
	}
	write("1.1.5")
	// Where the first place can't be written, the next one has it, and what either has counts.
	asked := calls()
	own := filepath.Join(dir, "own")
	for range 2 {
		if v, err := RuntimeVersion(path, "/proc/nowhere/cache", own); err != nil || v.String() != "runc 1.1.5" || calls() != asked+1 {
			t.Fatalf("a second place: got %v %v, asked %d times", v, err, calls()-asked)
		}
	}
	if err := os.Rename(own, cache+".root"); err != nil {
		t.Fatal(err)
	}
	if _, err := RuntimeVersion(path, cache+".root", own); err != nil || calls() != asked+1 {
		t.Fatalf("the first place has it: %v, asked %d times", err, calls()-asked)
	}
	if _, err := os.Lstat(own); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is kept twice: %v", err)
	}
	// Where nothing can be kept, the answer is the same.
	if v, err := RuntimeVersion(path, "/proc/nowhere/cache"); err != nil || v.String() != "runc 1.1.5" {
		t.Fatalf("without a cache: got %v %v", v, err)
	}
	if _, err := RuntimeVersion("/bin/true", cache); err == nil {
		t.Error("/bin/true has a version")
	}
}
