// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestVerbsFirst is how a command line is read before the library reads it.
func TestVerbsFirst(t *testing.T) {
	verbs := []*cli.Command{
		{Name: "add", Flags: []cli.Flag{text("size", ""), yes("json", "")}},
		{Name: "layer", Subcommands: []*cli.Command{
			{Name: "shift", Flags: []cli.Flag{&cli.StringSliceFlag{Name: "map"}, yes("squash", "")}},
			{Name: "pack"},
		}},
	}
	for _, tc := range []struct{ args, want, err string }{
		{args: "", want: ""},
		{args: "--version", want: "--version"},
		{args: "nothing at all", want: "nothing at all"}, // said by the program's own action
		{args: "add alice --size 4096", want: "add --size 4096 -- alice"},
		{args: "add -- --size", want: "add -- --size"},
		{args: "add --size 1 --size=2", err: "add: flag --size: given twice"},
		{args: "add -h --help", err: "add: flag --help: given twice"},
		{args: "add --size", err: "add: flag --size: has no value"},
		{args: "add --sise 1", err: "add: flag --sise: unknown: did you mean --size?"},
		{args: "layer", err: "layer: no verb: expected one of shift, pack"},
		{args: "layer --help", want: "layer --help"},
		{args: "layer shif", err: `layer: verb "shif": unknown: did you mean shift?`},
		{args: "layer shift x --map 0:1:2 --squash --map=3:4:5", want: "layer shift --map 0:1:2 --squash --map=3:4:5 -- x"},
		{args: "layer shift --squash --squash", err: "layer shift: flag --squash: given twice"},
		{args: "layer --squash shift", want: "layer --squash shift"}, // the library refuses it
	} {
		got, err := verbsFirst(verbs, nil, strings.Fields(tc.args))
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: error %v, expected %q", tc.args, err, tc.err)
			}
		case err != nil || !slices.Equal(got, strings.Fields(tc.want)):
			t.Errorf("%q: %q, %v, expected %q", tc.args, got, err, tc.want)
		}
	}
}
