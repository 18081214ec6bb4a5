// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// divertedHost is one on which newuidmap and newgidmap are ours.
func divertedHost(t *testing.T) *host {
	t.Helper()
	h := soundHost(t)
	for _, m := range engines.IDMappers {
		own := m.Own(engines.IDMapDir)
		install(t, h, own)
		if err := linux.GiveOnly(h.path(own), m.Caps); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(own, h.path(m.Path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(h.path(engines.IDMapAside), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, h, engines.StateDir+"/newuidmap/state.json",
		`{"version": 1, "phase": "done", "program": "/usr/libexec/userns-runtime", "paths": ["/usr/bin/newuidmap", "/usr/bin/newgidmap"]}`)
	return h
}

func TestDoctorDiverted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("file capabilities: needs root")
	}
	uidmap := engines.IDMappers[0]
	for name, tc := range map[string]struct {
		do                     func(t *testing.T, h *host)
		subject, message, mend string // "" is no finding
	}{
		"in order": {func(*testing.T, *host) {}, "", "", ""},
		"capabilities are lost": {func(t *testing.T, h *host) { t.Helper(); install(t, h, uidmap.Own(engines.IDMapDir)) },
			uidmap.Own(engines.IDMapDir), "neither its file capability", "setcap cap_setuid=p "},
		"shadow's is back": {func(t *testing.T, h *host) {
			t.Helper()
			remove(t, h, uidmap.Path)
			install(t, h, uidmap.Path)
			chmod(t, h, uidmap.Path, 0o755|os.ModeSetuid)
		}, uidmap.Path, "gets IDs by /etc/subuid", "usernsctl configure newuidmap"},
		"nothing is there": {func(t *testing.T, h *host) { t.Helper(); remove(t, h, uidmap.Path) }, uidmap.Path, "isn't the link", "usernsctl configure newuidmap"},
		"shadow's can be reached": {func(t *testing.T, h *host) { t.Helper(); chmod(t, h, engines.IDMapAside, 0o755) },
			engines.IDMapAside, "has mode 0755: others than root reach", "chmod 0700 "},
		"shadow's are another's": {func(t *testing.T, h *host) {
			t.Helper()
			if err := os.Chown(h.path(engines.IDMapAside), 12345, 0); err != nil {
				t.Fatal(err)
			}
		}, engines.IDMapAside, "is owned by UID 12345, and has mode 0700: others than root reach", "chown root: "},
		"shadow's place is another's": {func(t *testing.T, h *host) {
			t.Helper()
			remove(t, h, engines.IDMapAside)
			if err := os.Symlink("/tmp", h.path(engines.IDMapAside)); err != nil {
				t.Fatal(err)
			}
		}, engines.IDMapAside, "isn't a directory", "shadow.other && usernsctl configure newuidmap"},
		"nowhere for an upgrade": {func(t *testing.T, h *host) { t.Helper(); remove(t, h, engines.IDMapAside) }, engines.IDMapAside, "an upgrade of uidmap fails", "usernsctl configure newuidmap"},
		"an unknown state":       {func(t *testing.T, h *host) { t.Helper(); put(t, h, engines.StateDir+"/newuidmap/state.json", "{") }, "newuidmap", "written by another hand", "doctor"},
	} {
		t.Run(name, func(t *testing.T) {
			h := divertedHost(t)
			tc.do(t, h)
			found := h.findings()
			if tc.subject == "" {
				if len(found) > 0 {
					t.Errorf("%+v", found)
				}
				return
			}
			if len(found) != 1 || !strings.Contains(found[0].Subject, tc.subject) || !strings.Contains(found[0].Message, tc.message) || !strings.Contains(found[0].Mend, tc.mend) {
				t.Errorf("%+v", found)
			}
		})
	}
}
