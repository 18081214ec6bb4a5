// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseArgs(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range argsRows() {
		t.Run(row.name, func(t *testing.T) {
			if seen[row.name] {
				t.Fatal("two rows of this name")
			}
			seen[row.name] = true
			argv := append([]string{"prog"}, row.argv...)
			before := slices.Clone(argv)
			got, err := ParseArgs(argv)
			if !slices.Equal(argv, before) {
				t.Fatalf("argv was changed to %q", argv)
			}
			if row.refused != "" {
				if err == nil {
					t.Fatalf("accepted as %+v, expected an error with %q", got, row.refused)
				}
				if !strings.Contains(err.Error(), row.refused) {
					t.Fatalf("got error %q, expected %q in it", err, row.refused)
				}
				if !reflect.DeepEqual(got, Invocation{Global: got.Global}) {
					t.Fatalf("an error came with %+v, expected nothing but Global", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := row.want
			want.Raw = argv
			if want.OwnerSet || want.ConfigSet {
				// What our flags leave is some tail of argv; which one is seen
				// by reading it without them.
				if len(got.Raw) >= len(argv) || !slices.Equal(got.Raw[1:], argv[len(argv)-len(got.Raw)+1:]) {
					t.Fatalf("Raw is %q", got.Raw)
				}
				want.Raw = got.Raw
				again, err := ParseArgs(got.Raw)
				if err != nil {
					t.Fatal(err)
				}
				if again = ownedInv(got.Owner, got.Config, again); !reflect.DeepEqual(again, got) {
					t.Fatalf("without our flags it reads\n%+v, with them\n%+v", again, got)
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got\n%+v, expected\n%+v", got, want)
			}
			checkCanonical(t, got)
		})
	}
}

// checkCanonical is what has to hold of every command line that was accepted.
func checkCanonical(t *testing.T, inv Invocation) {
	t.Helper()
	argv := inv.Argv()
	if inv.Verb == "" {
		want := "--help"
		if inv.Version {
			want = "--version"
		}
		if !slices.Equal(argv, []string{inv.Raw[0], want}) {
			t.Fatalf("%q became %q, expected %s alone", inv.Raw, argv, want)
		}
		return
	}
	if !inv.Gated() {
		if !slices.Equal(argv, inv.Raw) {
			t.Fatalf("%q became %q, expected the same", inv.Raw, argv)
		}
		return
	}
	again, err := ParseArgs(argv)
	if err != nil {
		t.Fatalf("%q became %q, which is refused: %v", inv.Raw, argv, err)
	}
	want := inv
	want.Raw = argv
	want.Owner, want.OwnerSet, want.Config, want.ConfigSet = "", false, "", false
	if !reflect.DeepEqual(again, want) {
		t.Fatalf("%q became %q, which reads\n%+v, expected\n%+v", inv.Raw, argv, again, want)
	}
	if twice := again.Argv(); !slices.Equal(twice, argv) {
		t.Fatalf("%q became %q, and that %q", inv.Raw, argv, twice)
	}
	if !inv.Help && inv.ID == "" {
		t.Fatalf("%q has no ID", inv.Raw)
	}
}

func TestArgv(t *testing.T) {
	for name, tc := range map[string]struct {
		argv   []string
		change func(*Invocation)
		want   []string
	}{
		"every kind of value": {
			argv: words("--owner x -root r --debug --log= create -b A --no-pivot --preserve-fds 0x10 c"),
			want: words("prog --debug=true --root=r create --bundle=A --no-pivot=true --preserve-fds=16 -- c"),
		},
		"lists": {
			argv: words("exec -e A=1 -g 5 -e B=2 -g 010 --cap= box cmd -x -- y"),
			want: words("prog exec --env=A=1 --env=B=2 --additional-gids=5 --additional-gids=10 --cap= -- box cmd -x -- y"),
		},
		"off isn't unset": {
			argv: words("exec --tty=0 --no-new-privs=0 box cmd"),
			want: words("prog exec --no-new-privs=false -- box cmd"),
		},
		"help": {
			argv: words("--log l create --bundle A --help c"),
			want: words("prog --log=l create --help"),
		},
		"passed through": {
			argv: words("--owner x -root r --log= state -- c"),
			want: words("prog -root r --log= state -- c"),
		},
		"delete": {
			argv: words("delete c -f"),
			want: words("prog delete --force=true -- c"),
		},
		"changed": {
			argv: words("run -b A c"),
			change: func(inv *Invocation) {
				inv.Global.Root, inv.Global.RootSet = "/r", true
				inv.Global.Log = "/l"
				inv.Flags.Bundle = "/A"
				inv.Flags.PidFile = "-p"
			},
			want: words("prog --log=/l --root=/r run --bundle=/A --pid-file=-p -- c"),
		},
		"changed to another form": {
			argv: words("exec -e A=1 box cmd"),
			change: func(inv *Invocation) {
				inv.Flags = VerbFlags{Process: "/p"}
				inv.Args = nil
			},
			want: words("prog exec --process=/p -- box"),
		},
		"flags of another verb are left out": {
			argv: words("create c"),
			change: func(inv *Invocation) {
				inv.Flags.Force, inv.Flags.Process, inv.Args = true, "/p", words("x")
			},
			want: words("prog create -- c"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			inv, err := ParseArgs(append([]string{"prog"}, tc.argv...))
			if err != nil {
				t.Fatal(err)
			}
			if tc.change != nil {
				tc.change(&inv)
			}
			if got := inv.Argv(); !slices.Equal(got, tc.want) {
				t.Fatalf("got\n%q, expected\n%q", got, tc.want)
			}
		})
	}
}

func TestArgvSharesNothing(t *testing.T) {
	argv := words("prog exec box a b")
	inv, err := ParseArgs(argv)
	if err != nil {
		t.Fatal(err)
	}
	argv[3] = "changed"
	inv.Argv()[3] = "changed"
	if inv.Args[0] != "a" || inv.Raw[3] != "a" {
		t.Fatalf("Args %q, Raw %q: expected what was read", inv.Args, inv.Raw)
	}
}

// TestParseArgsErrorKeepsLog: an engine reads why it failed from its --log.
func TestParseArgsErrorKeepsLog(t *testing.T) {
	want := GlobalFlags{Log: "l", LogFormat: "json"}
	for name, line := range map[string]string{
		"verb's flag":     "--log l --log-format json create --bogus c",
		"unknown verb":    "--log l --log-format json bogus",
		"our own flag":    "--owner= --log l --log-format json create c",
		"our own, a dash": "--owner --bogus --log l --log-format json create c",
		"last global":     "--log l --log-format json --bogus create c",
	} {
		t.Run(name, func(t *testing.T) {
			inv, err := ParseArgs(append([]string{"prog"}, words(line)...))
			if err == nil || inv.Global != want {
				t.Fatalf("got %+v and error %v, expected %+v and an error", inv.Global, err, want)
			}
		})
	}
	inv, err := ParseArgs(words("prog --log l --log-format xml create c"))
	if want := (GlobalFlags{Log: "l"}); err == nil || inv.Global != want {
		t.Fatalf("got %+v and error %v, expected a format that can be written", inv.Global, err)
	}
	if inv, err := ParseArgs(nil); err == nil {
		t.Fatalf("an argv without a program's name gave %+v", inv)
	}
}

func FuzzParseArgs(f *testing.F) {
	for _, row := range argsRows() {
		f.Add(strings.Join(row.argv, "\x00"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		argv := append([]string{"prog"}, strings.Split(line, "\x00")...)
		inv, err := ParseArgs(argv)
		if err != nil {
			if !reflect.DeepEqual(inv, Invocation{Global: inv.Global}) {
				t.Fatalf("%q: an error came with %+v", argv, inv)
			}
			return
		}
		checkCanonical(t, inv)
		if !inv.OwnerSet && !inv.ConfigSet && !slices.Equal(inv.Raw, argv) {
			t.Fatalf("%q became %q with none of our flags", argv, inv.Raw)
		}
		if canonical := inv.Argv(); len(canonical) > 1 && canonical[1] == "init" {
			t.Fatalf("%q would enter runc's init", argv)
		}
	})
}
