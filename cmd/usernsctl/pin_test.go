// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Two packages that may not import each other have to mean the same place.
func TestPinsHaveOnePlace(t *testing.T) {
	if lease.PinDir != delegate.PinDir {
		t.Errorf("leases look for pins at %s, and they are made at %s", lease.PinDir, delegate.PinDir)
	}
	pin := delegate.Pin{Owner: "alice", Name: "dev"}
	if key := lease.PinKey(pin.Owner, pin.Name); key.Root+"/"+key.ID != pin.Path() || key.ID != pin.String() {
		t.Errorf("%+v, and the pin is %s at %s", key, pin, pin.Path())
	}
}

func TestSplitPin(t *testing.T) {
	for word, want := range map[string][2]string{
		"alice":     {"alice", "default"},
		"alice/dev": {"alice", "dev"},
		"alice/":    {"alice", ""},
		"/dev":      {"", "dev"},
		"a/b/c":     {"a", "b/c"},
	} {
		if owner, name := splitPin(word); owner != want[0] || name != want[1] {
			t.Errorf("%q: %q, %q", word, owner, name)
		}
	}
}

func TestDoctorPins(t *testing.T) {
	const pins = "[[pin]]\nowner = 'alice'\nname = 'dev'\n"
	is := func(state, problem string) func(h *host) {
		return func(h *host) {
			h.try.pins = func(_ *registry.Book, wanted []config.Pin) ([]pinJSON, error) {
				if len(wanted) != 1 || wanted[0] != (config.Pin{Owner: "alice", Name: "dev"}) {
					t.Errorf("asked for %+v", wanted)
				}
				return []pinJSON{{Owner: "alice", Name: "dev", Path: "/run/userns/alice/dev", State: state, Problem: problem}}, nil
			}
		}
	}
	for name, tc := range map[string]struct {
		change        func(h *host)
		message, mend string
	}{
		"in place": {is(pinFine, ""), "", ""},
		"missing":  {is(pinMissing, "there is nothing"), "isn't there, and the configuration has a [[pin]]", "usernsctl pin --all"},
		"tampered": {is(pinWrong, "it is a symbolic link"), "it is refused: it is a symbolic link", "usernsctl pin alice/dev"},
		"left":     {is(pinLeft, "process 5"), "its IDs are held: process 5", "usernsctl leases"},
		"unknown": {func(h *host) {
			h.try.pins = func(*registry.Book, []config.Pin) ([]pinJSON, error) { return nil, errors.New("no answer") }
		}, "can't be looked at: no answer", "usernsctl doctor again"},
		"not at boot": {func(h *host) {
			is(pinFine, "")(h)
			put(t, h, "/run/systemd/system/x", "")
		}, "aren't made at boot", "systemctl enable --now userns-pins.service"},
		"at boot": {func(h *host) {
			is(pinFine, "")(h)
			put(t, h, "/run/systemd/system/x", "")
			put(t, h, "/etc/systemd/system/multi-user.target.wants/userns-pins.service", "")
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := soundHost(t)
			put(t, h, "/etc/userns-runtime/config.toml", pins)
			tc.change(h)
			found := h.findings()
			if tc.message == "" {
				if len(found) > 0 {
					t.Errorf("%+v", found)
				}
				return
			}
			if len(found) != 1 || !strings.Contains(found[0].Message, tc.message) || !strings.Contains(found[0].Mend, tc.mend) {
				t.Errorf("%+v, expected %q, %q", found, tc.message, tc.mend)
			}
		})
	}
}
