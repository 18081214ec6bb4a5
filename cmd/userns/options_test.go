// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestParseExec(t *testing.T) {
	o, _, err := parseExec([]string{"-Urmpf", "--mount-proc", "-w", "/x", "-S5", "-G", "6", "--kill-child=int", "-T", "--boottime", "-7", "--", "a", "-b", "--", "c"})
	if err != nil {
		t.Fatal(err)
	}
	if !o.maps.root || o.namespaces != unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWTIME || !o.fork || o.mountProc != "/proc" ||
		o.wd != "/x" || o.uid == nil || *o.uid != 5 || o.gid == nil || *o.gid != 6 || o.deathSignal != unix.SIGINT || o.offsets != "boottime -7 0\n" ||
		!slices.Equal(o.command, []string{"a", "-b", "--", "c"}) {
		t.Errorf("got %+v", o)
	}
	if o.propagation != unix.MS_REC|unix.MS_PRIVATE {
		t.Errorf("propagation %#x", o.propagation)
	}
	// The first word that is no option ends them.
	o, _, err = parseExec([]string{"-n", "ls", "-m", "--help"})
	if err != nil || o.namespaces != unix.CLONE_NEWNET || o.help || len(o.command) != 3 || o.deathSignal != unix.SIGKILL {
		t.Errorf("got %+v, %v", o, err)
	}
	o, _, err = parseExec([]string{"--uid-map", "0:5:1,1:9:2", "--uid-map=3:20:1", "--gid-map", "0:5:1", "--mount-proc=/p"})
	if err != nil || o.maps.uids.String() != "0:5:1,1:9:2,3:20:1" || o.maps.gids.String() != "0:5:1" || o.mountProc != "/p" || o.namespaces != unix.CLONE_NEWNS {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestParseExecRefuses(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"--nonsense", "unknown flag: --nonsense"},
		{"-x", "unknown shorthand flag: 'x'"},
		{"-mfx true", "unknown shorthand flag: 'x'"},
		{"--wd", "needs an argument"},
		{"--mount=/file", "invalid argument"},
		{"--wd= true", "--wd: it is empty"},
		{"--mount-proc= true", "--mount-proc: it is empty"},
		{"--root= true", "--root: it is empty"},
		{"--propagation=sideways", "expected private, shared, slave or unchanged"},
		{"--setgroups=maybe", "expected allow or deny"},
		{"--setgroups=", "expected allow or deny"},
		{"--map=", "expected auto, root or keep-id"},
		{"--map=all", "expected auto, root or keep-id"},
		{"--map-auto --map root", "choose one"},
		{"--map root -c", "twice: choose one"},
		{"--map keep-id -r", "twice: choose one"},
		{"-rc", "twice: choose one"},
		{"-r --uid-map 0:5:1 --gid-map 0:5:1", "leave out --map"},
		{"--monotonic 5", "add --time"},
		{"-T --monotonic 5.5", "whole number of seconds"},
		{"-T --boottime 9223372036854775807", "whole number of seconds"},
		{"--kill-child=0", "expected the name or the number of a signal"},
		{"--kill-child=65", "expected the name or the number of a signal"},
		{"--kill-child=", "expected the name or the number of a signal"},
		{"-S 4294967295", "the last ID there is is 4294967294"},
		{"-S root", "expected a decimal number"},
	} {
		if _, _, err := parseExec(strings.Fields(tc.args)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, expected %q", tc.args, err, tc.want)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{"KILL": 9, "SIGKILL": 9, "sigterm": 15, "usr1": 10, "9": 9, "64": 64} {
		if got, err := parseSignal(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
}

// The caller's own ID is put into the map, and nothing of it is lost.
func TestAround(t *testing.T) {
	const own = 1000
	whole := idmap.Map{{Inner: 0, Outer: 200000, Count: 10}}
	pieces := idmap.Map{{Inner: 0, Outer: 200000, Count: 4}, {Inner: 4, Outer: 300000, Count: 6}}
	for _, tc := range []struct {
		m     idmap.Map
		inner uint32
		want  string
	}{
		{whole, 0, "1:200000:10,0:1000:1"},
		{whole, 5, "0:200000:5,6:200005:5,5:1000:1"},
		{whole, 9, "0:200000:9,10:200009:1,9:1000:1"},
		{whole, 10, "0:200000:10,10:1000:1"},
		{whole, 1000, "0:200000:10,1000:1000:1"},
		{pieces, 2, "0:200000:2,3:200002:2,5:300000:6,2:1000:1"},
		{pieces, 4, "0:200000:4,5:300000:6,4:1000:1"},
	} {
		got := around(tc.m, tc.inner, own)
		if got.String() != tc.want {
			t.Errorf("%s around %d: got %s, expected %s", tc.m, tc.inner, got, tc.want)
		}
		if err := got.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestMend(t *testing.T) {
	for refusal, want := range map[string]string{
		"ann: no line: add one: usernsctl add ann": "usernsctl add ann",
		"x: have root run: setcap cap_setuid=p /p": "setcap cap_setuid=p /p",
		"outer 0 can never be granted: map others": "",
	} {
		if got := mend(refusal); got != want {
			t.Errorf("%s: got %q", refusal, got)
		}
	}
}
