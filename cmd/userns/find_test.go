// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

// Who came first is the first process of the outermost PID namespace; among equals the oldest.
func TestBefore(t *testing.T) {
	inOrder := []member{
		{pid: 900, depth: 2, init: true, start: 50},
		{pid: 20, depth: 3, init: true, start: 40},
		{pid: 10, depth: 1, start: 60},
		{pid: 5, depth: 2, start: 41},
		{pid: 4, depth: 2, start: 70},
		{pid: 7, depth: 2, start: 70},
	}
	shuffled := []member{inOrder[3], inOrder[5], inOrder[1], inOrder[0], inOrder[4], inOrder[2]}
	slices.SortFunc(shuffled, before)
	if !slices.Equal(shuffled, inOrder) {
		t.Errorf("got %v", shuffled)
	}
}

func TestRoots(t *testing.T) {
	for _, tc := range []struct {
		all  []member
		want int
	}{
		{nil, 0},
		{[]member{{depth: 1}, {depth: 1}}, 0},
		{[]member{{depth: 2, init: true}, {depth: 2}, {depth: 3, init: true}}, 1},
		{[]member{{depth: 2, init: true}, {depth: 2, init: true}}, 2},
	} {
		if got := roots(tc.all); got != tc.want {
			t.Errorf("%v: %d, expected %d", tc.all, got, tc.want)
		}
	}
}

func TestParseEnter(t *testing.T) {
	o, _, err := parseEnter([]string{"-S", "5", "-G6", "-w", "/tmp", "--without", "net,ipc", "-e", "A=1", "-e", "B", "web", "--", "ls", "-l", "--", "x"})
	if err != nil || o.uid != 5 || o.gid != 6 || o.wd != "/tmp" || strings.Join(o.without, " ") != "net ipc" || strings.Join(o.env, " ") != "A=1 B" ||
		o.target != "web" || strings.Join(o.command, " ") != "ls -l -- x" {
		t.Errorf("%+v, %v", o, err)
	}
	if o, _, err = parseEnter([]string{"web"}); err != nil || o.uid != 0 || o.gid != 0 || o.wd != "/" || len(o.command) > 0 {
		t.Errorf("%+v, %v", o, err)
	}
	for args, want := range map[string]string{
		"":                     "what is to be entered is missing",
		"-S -1 web":            "--setuid",
		"-S 4294967295 web":    "--setuid",
		"-G 0x5 web":           "--setgid",
		"--without user web":   `--without "user": expected cgroup`,
		"-e =x web":            `--env "=x": expected NAME or NAME=VALUE`,
		"--no-such-option web": "unknown flag",
	} {
		if _, _, err := parseEnter(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, expected %q", args, err, want)
		}
	}
	if _, _, err := parseEnter([]string{"-w", "", "web"}); err == nil {
		t.Error("an empty --wd was taken")
	}
}

// A variable that the caller names is theirs, or what they say; nothing else is there.
func TestInsideEnvironment(t *testing.T) {
	p := &program{start: start{environ: []string{"SECRET=x", "FOO=caller", "PATH=/evil"}}}
	got := p.withEnv([]string{"PATH=/bin", "HOME=/root"}, []string{"FOO", "BAR=1", "HOME=/h", "MISSING"})
	if strings.Join(got, " ") != "PATH=/bin FOO=caller BAR=1 HOME=/h" {
		t.Errorf("%q", got)
	}
}
