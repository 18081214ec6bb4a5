// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// Verbs as others may write them: what is wanted behind them is found in their UsageText.
var testVerbs = []*cli.Command{
	{
		Name: "configure", UsageText: "usernsctl configure docker|podman [--owner NAME] [--undo]\nusernsctl configure --divert [flags]",
		Flags: []cli.Flag{text("owner", "`NAME` of the owner"), yes("undo", "take `back`")},
	},
	{Name: "map", UsageText: "usernsctl map [--svg FILE | --json]", Flags: []cli.Flag{text("svg", "draw to `FILE`"), yes("json", "")}},
	{Name: "check", UsageText: "usernsctl check [FILE] [--json]", Flags: []cli.Flag{yes("json", "")}},
	{Name: "plan", UsageText: "usernsctl plan --bundle DIR", Flags: []cli.Flag{text("bundle", "`DIR` of the bundle")}},
	{Name: "hidden", Hidden: true},
	{Name: "layer", Subcommands: []*cli.Command{
		{Name: "shift", Usage: "stream", UsageText: "usernsctl layer shift --map MAP", Flags: []cli.Flag{text("map", "`MAP`")}},
		{Name: "verify", UsageText: "usernsctl layer verify LAYERFILE..."},
	}},
	{Name: "daemon-root", UsageText: "usernsctl daemon-root prepare|status --root SPEC", Flags: []cli.Flag{text("root", "`SPEC`")}},
}

func TestComplete(t *testing.T) {
	for _, c := range []struct {
		words string // separated by spaces; the last may be empty
		kind  string
		want  string
	}{
		{"", kindWords, "configure map check plan layer daemon-root"},
		{"c", kindWords, "configure check"},
		{"--v", kindWords, "--version"},
		{"nonsense ", kindWords, ""},
		{"configure ", kindWords, "docker podman"},
		{"configure --undo p", kindWords, "podman"},
		{"configure docker ", kindWords, ""},
		{"configure --", kindWords, "--owner --undo --help"},
		{"configure --undo --u", kindWords, ""},
		{"configure docker --o", kindWords, "--owner"},
		{"configure -- --o", kindWords, ""},
		{"map ", kindWords, ""},
		{"map --svg ", kindFiles, ""},
		{"map --svg = ", kindFiles, ""},
		{"map --svg =", kindFiles, ""},
		{"map --svg = x", kindFiles, ""},
		{"map --svg=x", kindFiles, ""},
		{"map --svg = x --", kindWords, "--json --help"},
		{"map --svg x --j", kindWords, "--json"},
		{"map --json=", kindWords, ""},
		{"check ", kindFiles, ""},
		{"check a ", kindWords, ""},
		{"check --json a", kindFiles, ""},
		{"plan --bundle ", kindDirs, ""},
		{"layer ", kindWords, "shift verify"},
		{"layer s", kindWords, "shift"},
		{"layer shift --", kindWords, "--map --help"},
		{"layer verify a b ", kindFiles, ""},
		{"daemon-root p", kindWords, "prepare"},
		{"daemon-root --root x s", kindWords, "status"},
		{"= = =", kindWords, ""},
		{"configure = = = ", kindWords, ""},
	} {
		kind, fit := complete(testVerbs, strings.Split(c.words, " "))
		var got []string
		for _, f := range fit {
			got = append(got, f.word)
		}
		if want := strings.Fields(c.want); kind != c.kind || !slices.Equal(got, want) {
			t.Errorf("%q: %s %q, want %s %q", c.words, kind, got, c.kind, want)
		}
	}
}

// A name that a shell would make something of is never offered.
func TestHarmless(t *testing.T) {
	for _, name := range []string{"alice", "1000", "k8s/ns-1", "a@b", "älf", "a+b", "a.b_c"} {
		if !harmless(name) {
			t.Errorf("%q isn't offered", name)
		}
	}
	for _, name := range []string{
		"", "-rf", "$(x)", "`x`", "a;b", "a b", "a'b", `a"b`, `a\b`, "a*", "a?", "a[b]", "~", "a|b", "a&b", "a>b", "a<b", "a!b", "#a", "{a,b}", "a\tb", "a\nb", "a\x1bb", "a=b", "a%b", "a^b", "(a)",
	} {
		if harmless(name) {
			t.Errorf("%q is offered", name)
		}
	}
}

// The library's parser and ours put flags in order; what is completed goes through untouched.
func TestCompletionWords(t *testing.T) {
	for _, words := range [][]string{{"--"}, {"add", "--size"}, {"--frob", "x"}, {"-h"}, {""}, {"--", "-"}, {"\x00"}, {"add", "--json", "--json", "--"}} {
		var out, errs strings.Builder
		args := append([]string{programName, "completion", completionWords, "--"}, words...)
		if code := run(args, strings.NewReader(""), &out, &errs); code != exitFine || errs.Len() > 0 || !strings.HasPrefix(out.String(), kindWords+"\n") {
			t.Errorf("%q: %d, %q, %q", words, code, out.String(), errs.String())
		}
	}
}
