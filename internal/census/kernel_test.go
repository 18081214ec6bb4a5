// SPDX-License-Identifier: Apache-2.0

package census

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseRelease(t *testing.T) {
	for text, want := range map[string]Release{
		"6.18.44-fc-v669":               {6, 18, "6.18.44-fc-v669"},
		"5.10.0-28-amd64":               {5, 10, "5.10.0-28-amd64"},
		"5.14.0-427.el9.x86_64":         {5, 14, "5.14.0-427.el9.x86_64"},
		"6.1":                           {6, 1, "6.1"},
		"6.12-rc3":                      {6, 12, "6.12-rc3"},
		"10.0+":                         {10, 0, "10.0+"},
		"4.18.0-553.el8.x86_64":         {4, 18, "4.18.0-553.el8.x86_64"},
		"5.15.167.4-microsoft-standard": {5, 15, "5.15.167.4-microsoft-standard"},
	} {
		if got, err := ParseRelease(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "6", "linux", "a.b", ".1", "6.", "6.x", "-1.2"} {
		if got, err := ParseRelease(text); err == nil || got != (Release{}) {
			t.Errorf("%q: %+v, expected an error", text, got)
		}
	}
	if _, err := KernelRelease(); err != nil {
		t.Error(err)
	}
}

func TestReleaseAtLeast(t *testing.T) {
	r := Release{Major: 5, Minor: 19}
	for _, tt := range []struct {
		major, minor int
		want         bool
	}{{5, 19, true}, {5, 12, true}, {4, 20, true}, {5, 20, false}, {6, 0, false}} {
		if r.AtLeast(tt.major, tt.minor) != tt.want {
			t.Errorf("5.19 at least %d.%d: expected %v", tt.major, tt.minor, tt.want)
		}
	}
}

func TestParseFileCaps(t *testing.T) {
	v1 := []byte{1, 0, 0, 1, 0x80, 0, 0, 0, 0x40, 0, 0, 0}
	v2 := []byte{0, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0}
	v3 := append([]byte{1, 0, 0, 3, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0}, 0xa0, 0x86, 1, 0)
	for name, tt := range map[string]struct {
		data []byte
		want FileCaps
	}{
		"version 1": {v1, FileCaps{Permitted: 1 << 7, Inheritable: 1 << 6, Effective: true}},
		"version 2": {v2, FileCaps{Permitted: 1<<7 | 1<<32}},
		"version 3": {v3, FileCaps{Permitted: 1<<7 | 1<<6, Inheritable: 1 << 33, Effective: true, RootID: 100000}},
	} {
		got, err := parseFileCaps(tt.data)
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if c, _ := parseFileCaps(v2); !c.Has(7) || !c.Has(32) || c.Has(6) {
		t.Error("Has")
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "short": v1[:3], "cut": v2[:19], "too long": append(append([]byte{}, v2...), 0), "version 4": {0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		if got, err := parseFileCaps(data); err == nil || got != (FileCaps{}) {
			t.Errorf("%s: %+v, expected an error", name, got)
		}
	}
}

// What the kernel gives back for what was set.
func TestFileCapsOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := FileCapsOf(path); err != nil || got != (FileCaps{}) {
		t.Errorf("without: %+v, %v", got, err)
	}
	if _, err := FileCapsOf(path + "-"); err == nil {
		t.Error("of a missing file: expected an error")
	}
	if os.Geteuid() != 0 {
		t.Skip("sets file capabilities: needs root")
	}
	v2 := []byte{1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(path, "security.capability", v2, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := FileCapsOf(path); err != nil || got != (FileCaps{Permitted: 1 << 7, Effective: true}) {
		t.Errorf("%+v, %v", got, err)
	}
}
