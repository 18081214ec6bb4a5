// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// hostileName is a name that moves the cursor, looks like a hint of ours, and is written from the right.
const hostileName = "x\x1b[2J\nusernsctl: try: y\u202e"

func isPlain(t *testing.T, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\x1b\u202e\r") {
		t.Errorf("raw: %q", text)
	}
}

func TestSaid(t *testing.T) {
	p := &program{}
	p.warn("%s", hostileName)
	said := p.said(errors.New("one\ntwo\ttabs\x1b[2J"), "cat "+hostileName)
	isPlain(t, said)
	want := "usernsctl: warning: x\\x1b[2J\\nusernsctl: try: y\\u202e\n" +
		"usernsctl: one\nusernsctl: two\ttabs\\x1b[2J\n" +
		"usernsctl: try: cat x\\x1b[2J\\nusernsctl: try: y\\u202e\n"
	if said != want {
		t.Errorf("got\n%s\nwant\n%s", said, want)
	}
}

func TestShownIsPlain(t *testing.T) {
	p := &program{width: 40}
	if err := p.table([][]string{{"NAME", "OTHER"}, {hostileName, strings.Repeat("long ", 20)}, {"", "y"}}); err != nil {
		t.Fatal(err)
	}
	p.side("+", map[string]string{"k": hostileName})
	isPlain(t, p.out.String())
	lines := bytes.Split(p.out.Bytes(), []byte("\n"))
	for _, line := range lines[:3] {
		if cellsOf(string(line)) > 40 {
			t.Errorf("wider than 40: %s", line)
		}
	}
	if got := string(lines[2]); !strings.HasPrefix(got, "-  ") {
		t.Errorf("an empty cell: %q", got)
	}
}

func TestFit(t *testing.T) {
	rows := func() [][]string {
		return [][]string{{"A", "LONGHEADING"}, {strings.Repeat("x", 30), "y"}, {"容器容器容器", "z"}}
	}
	for width, want := range map[int]string{
		100: strings.Repeat("x", 30), 43: strings.Repeat("x", 30), 20: "xxxxxx…", 1: "…",
	} {
		got := rows()
		fit(got, width)
		if got[1][0] != want || got[0][1] != "LONGHEADING" {
			t.Errorf("%d: got %q", width, got)
		}
	}
}

// What a container that was started during the walk has isn't left, and a limit on what is named
// is none on what is counted.
func TestLeftovers(t *testing.T) {
	line := registry.Line{Owner: "alice", Range: idmap.Range{Start: 3000000, Count: 100}, File: "/etc/usernamespaces", Number: 1}
	file := func(path string, id uint32) census.Left { return census.Left{Path: path, UID: id, ID: id, Line: line} }
	of := &leftovers{line: line, named: []census.Left{file("/d/b", 3000001), file("/d/a", 3000002)}, count: map[uint32]int{3000001: 1, 3000002: 1, 3000003: 5}}
	paths := func(inUse idmap.Set, asJSON bool) string {
		var out []string
		for _, f := range of.findings("/d", inUse, asJSON) {
			out = append(out, f.Severity.String()+" "+strings.Join(strings.Fields(f.Message)[:2], " "))
		}
		return strings.Join(out, ", ")
	}
	if got := paths(idmap.Set{}, false); got != "error /d/a: belongs, error /d/b: belongs, error /d: 5" {
		t.Errorf("got %s", got)
	}
	if got := paths(idmap.NewSet(idmap.Range{Start: 3000001, Count: 1}, idmap.Range{Start: 3000003, Count: 1}), true); got != "error /d/a: belongs" {
		t.Errorf("beside a container: got %s", got)
	}
	if got := paths(idmap.NewSet(line.Range), false); got != "" {
		t.Errorf("all in use: got %s", got)
	}
	of.named[0].Account, of.named[1].Account = true, true
	if got := paths(idmap.Set{}, false); got != "warning /d/a: belongs, warning /d/b: belongs, warning /d: 5" {
		t.Errorf("an account's: got %s", got)
	}
}
