// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"slices"
	"strings"
)

// argsRow is a command line without the program's name. It is run in a
// directory where bundles A and B exist; args_judge_test.go gives the same rows
// to real runcs.
type argsRow struct {
	name string
	argv []string
	want Invocation // without Raw, which is argv less our own flags
	// refused is a part of the error, where there has to be one.
	refused string
	// strict is why we refuse what some runc accepts.
	strict string
	// since is N of the first runc 1.N that knows the flags of an accepted row.
	since int
}

// words splits a command line at its spaces.
func words(line string) []string { return strings.Fields(line) }

func acceptRow(name string, argv []string, want Invocation) argsRow {
	return argsRow{name: name, argv: argv, want: want}
}

func refuseRow(name string, argv []string, part string) argsRow {
	return argsRow{name: name, argv: argv, refused: part}
}

func strictRow(name string, argv []string, part, why string) argsRow {
	return argsRow{name: name, argv: argv, refused: part, strict: why}
}

func sinceRow(minor int, r argsRow) argsRow {
	r.since = minor
	return r
}

func createInv(f VerbFlags) Invocation  { return Invocation{Verb: "create", ID: "c", Flags: f} }
func runInv(f VerbFlags) Invocation     { return Invocation{Verb: "run", ID: "c", Flags: f} }
func restoreInv(f VerbFlags) Invocation { return Invocation{Verb: "restore", ID: "c", Flags: f} }
func deleteInv(f VerbFlags) Invocation  { return Invocation{Verb: "delete", ID: "c", Flags: f} }

func execInv(f VerbFlags, args ...string) Invocation {
	return Invocation{Verb: "exec", ID: "box", Flags: f, Args: args}
}

// globalInv is a create of c in bundle A under some global flags.
func globalInv(g GlobalFlags) Invocation {
	return Invocation{Verb: "create", ID: "c", Flags: VerbFlags{Bundle: "A"}, Global: g}
}

func passInv(verb, id string, args ...string) Invocation {
	return Invocation{Verb: verb, ID: id, Args: args}
}

func ownedInv(owner, config string, inv Invocation) Invocation {
	inv.Owner, inv.OwnerSet = owner, owner != ""
	inv.Config, inv.ConfigSet = config, config != ""
	return inv
}

const (
	dashValue = "a separate value with a dash: cli 1.22.1 and later ones differ as soon as a word follows or goes before"
	endFlag   = "a flag at the end takes the ID for its value"
)

func argsRows() []argsRow {
	a := VerbFlags{Bundle: "A"}
	return slices.Concat([]argsRow{
		// Spellings of a flag.
		acceptRow("create", words("create c"), createInv(VerbFlags{})),
		acceptRow("long, separate", words("create --bundle A c"), createInv(a)),
		acceptRow("long, joined", words("create --bundle=A c"), createInv(a)),
		acceptRow("long, one dash", words("create -bundle A c"), createInv(a)),
		acceptRow("long, one dash, joined", words("create -bundle=A c"), createInv(a)),
		acceptRow("short, separate", words("create -b A c"), createInv(a)),
		acceptRow("short, joined", words("create -b=A c"), createInv(a)),
		acceptRow("short, two dashes", words("create --b A c"), createInv(a)),
		acceptRow("short, two dashes, joined", words("create --b=B c"), createInv(VerbFlags{Bundle: "B"})),
		refuseRow("short, glued", words("create -bA c"), "-bA: unknown flag"),
		refuseRow("short, combined", words("run -db A c"), "-db: unknown flag"),
		refuseRow("three dashes", words("create ---bundle A c"), "---bundle: not a flag"),
		refuseRow("three dashes alone", words("create --- c"), "---: not a flag"),
		refuseRow("no name", words("create --=A c"), "--=A: not a flag"),
		refuseRow("abbreviated", words("create --bund A c"), "--bund: unknown flag"),
		refuseRow("wrong case", words("create --Bundle A c"), "--Bundle: unknown flag"),
		acceptRow("value with equals", words("create --bundle=A=B c"), createInv(VerbFlags{Bundle: "A=B"})),
		acceptRow("separate value with equals", words("create --bundle A=B c"), createInv(VerbFlags{Bundle: "A=B"})),
		acceptRow("value with spaces", []string{"create", "--bundle", "A B", "c"}, createInv(VerbFlags{Bundle: "A B"})),
		acceptRow("value with newline", []string{"create", "--bundle", "A\nB", "c"}, createInv(VerbFlags{Bundle: "A\nB"})),
		acceptRow("empty value, joined", words("create --bundle= c"), createInv(VerbFlags{})),
		acceptRow("empty value, separate", []string{"create", "--bundle", "", "c"}, createInv(VerbFlags{})),
		acceptRow("empty value overwrites", words("create --bundle A --bundle= c"), createInv(VerbFlags{})),
		acceptRow("joined value with dash", words("create --bundle=-x c"), createInv(VerbFlags{Bundle: "-x"})),
		acceptRow("joined value that is a flag", words("create --bundle=--no-pivot c"), createInv(VerbFlags{Bundle: "--no-pivot"})),
		acceptRow("joined value that ends flags", words("create --bundle=-- c"), createInv(VerbFlags{Bundle: "--"})),
		strictRow("separate value with dash", words("create --bundle -x c"), "--bundle=-x", dashValue),
		strictRow("separate value with dash, after the ID", words("create c --bundle -x"), "--bundle=-x", dashValue),
		strictRow("separate value is a dash", words("create --bundle - c"), "--bundle=-", dashValue),
		strictRow("separate value ends flags", words("create --bundle -- c"), "--bundle=--", dashValue),
		refuseRow("separate value is a flag with its own", words("create --bundle --pid-file p c"), "--bundle=--pid-file"),
		strictRow("separate value is a bool", words("create --bundle --no-pivot c"), "--bundle=--no-pivot", dashValue),
		refuseRow("value forgotten", words("create c --bundle"), "--bundle: expected a value"),
		strictRow("value forgotten, two words", words("create c d --bundle"), "--bundle: expected a value", endFlag),
		refuseRow("only a flag", words("create --bundle"), "--bundle: expected a value"),

		// One flag twice.
		acceptRow("same spelling twice, last wins", words("create --bundle B --bundle A c"), createInv(a)),
		acceptRow("same spelling twice, other dashes", words("create -bundle B --bundle=A c"), createInv(a)),
		refuseRow("two spellings", words("create --bundle A -b B c"), "-b: given as -bundle before"),
		refuseRow("two spellings, same value", words("create -b A --bundle=A c"), "--bundle=A: given as -b before"),
		refuseRow("two spellings around the ID", words("create -b A c --bundle=A"), "given as -b before"),
		refuseRow("two spellings of a bool", words("run -d --detach c"), "given as -d before"),
		refuseRow("two spellings of a list", words("exec -e A=1 --env B=2 box /nope"), "given as -e before"),
		acceptRow("bool twice, last wins", words("run -d -d=false --bundle A c"), runInv(a)),

		// Where the flags stand.
		acceptRow("flags after the ID", words("create c --bundle A"), createInv(a)),
		acceptRow("flags around the ID", words("create --bundle A c --preserve-fds 7"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 7})),
		acceptRow("joined flags after the ID", words("create c --bundle=A --preserve-fds=7"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 7})),
		acceptRow("bool before the ID", words("create --no-pivot c"), createInv(VerbFlags{NoPivot: true})),
		acceptRow("bool last, ID last", words("create --bundle A --no-pivot c"), createInv(VerbFlags{Bundle: "A", NoPivot: true})),
		acceptRow("bool before a flag", words("create --no-pivot --bundle A c"), createInv(VerbFlags{Bundle: "A", NoPivot: true})),
		acceptRow("bool after the ID", words("create --bundle A c --no-pivot"), createInv(VerbFlags{Bundle: "A", NoPivot: true})),
		acceptRow("bool after the ID, before a flag", words("create c --no-pivot --bundle A"), createInv(VerbFlags{Bundle: "A", NoPivot: true})),
		refuseRow("bool takes the ID along", words("create --no-pivot c --bundle A"), "put it last"),
		refuseRow("bool takes the ID along, joined flag", words("create --no-pivot c --bundle=A"), "put it last"),
		refuseRow("bool takes the ID along, bool", words("run --detach c --keep"), "put it last"),
		acceptRow("joined bool doesn't", words("create --no-pivot=true c --bundle A"), createInv(VerbFlags{Bundle: "A", NoPivot: true})),
		refuseRow("a bool's value, separate", words("create --bundle A --no-pivot true c"), "expected one container ID"),
		refuseRow("two IDs", words("create --bundle A c d"), "expected one container ID"),
		refuseRow("two IDs around a flag", words("create c --bundle A d"), "expected one container ID"),
		refuseRow("no ID", words("create --bundle A"), "expected a container ID"),
		refuseRow("no word", words("create"), "expected a container ID"),
		refuseRow("empty ID", []string{"create", "--bundle", "A", ""}, "empty container ID"),
		refuseRow("empty ID, delete", []string{"delete", ""}, "empty container ID"),
		refuseRow("empty ID, exec", []string{"exec", "", "/nope"}, "empty container ID"),
		acceptRow("ID that runc refuses", words("create --bundle A a%b"), Invocation{Verb: "create", ID: "a%b", Flags: a}),
		acceptRow("ID that climbs", words("create --bundle A ../c"), Invocation{Verb: "create", ID: "../c", Flags: a}),
		acceptRow("ID that exists", words("create --bundle A taken"), Invocation{Verb: "create", ID: "taken", Flags: a}),
		acceptRow("ID that is a verb", words("create --bundle A delete"), Invocation{Verb: "create", ID: "delete", Flags: a}),

		// The end of flags.
		acceptRow("--", words("create --bundle A -- c"), createInv(a)),
		acceptRow("-- first", words("create -- c"), createInv(VerbFlags{})),
		acceptRow("-- after a bool", words("create --bundle A --no-pivot -- c"), createInv(VerbFlags{Bundle: "A", NoPivot: true})),
		acceptRow("-- and an ID with dashes", words("run --keep --preserve-fds 99 --bundle A -- --bundle"),
			Invocation{Verb: "run", ID: "--bundle", Flags: VerbFlags{Bundle: "A", Keep: true, PreserveFDs: 99}}),
		acceptRow("-- after a bool, and an ID with dashes", words("create --bundle A --no-pivot -- -b"),
			Invocation{Verb: "create", ID: "-b", Flags: VerbFlags{Bundle: "A", NoPivot: true}}),
		acceptRow("-- and an ID that is --help", words("create --bundle A -- --help"), Invocation{Verb: "create", ID: "--help", Flags: a}),
		acceptRow("-- and an ID that is --", words("create --bundle A -- --"), Invocation{Verb: "create", ID: "--", Flags: a}),
		acceptRow("-- and an ID that is -", words("create --bundle A -- -"), Invocation{Verb: "create", ID: "-", Flags: a}),
		refuseRow("-- and a flag", words("create -- c --bundle A"), "expected one container ID"),
		refuseRow("-- and nothing", words("create --bundle A --"), "expected a container ID"),
		refuseRow("two --", words("create -- -- c"), "expected one container ID"),
		refuseRow("bool, ID, --", words("create --no-pivot c --"), "expected one container ID"),
		strictRow("-- after the ID", words("create --bundle A c --"), "expected it before", "cli 1.22.1 reads it as a second ID"),
		refuseRow("-- between two", words("create c -- d"), "expected it before"),
		strictRow("ID is a dash", words("create --bundle A -"), "-: not a flag", "nobody calls a container that, and after a bool cli 1.22.1 differs"),
		strictRow("unknown word with a dash after help", words("create --help c --bogus"), "--bogus: unknown flag", "prints help; not worth a rule"),
		refuseRow("ID with a dash", words("create --bundle A -c"), "-c: unknown flag"),

		// Flags of create, run and delete.
		acceptRow("create, all", words("create --bundle A --console-socket s --pid-file p --no-pivot --no-new-keyring --preserve-fds 0 c"),
			createInv(VerbFlags{Bundle: "A", ConsoleSocket: "s", PidFile: "p", NoPivot: true, NoNewKeyring: true})),
		sinceRow(2, acceptRow("create, pidfd-socket", words("create --bundle A --pidfd-socket s c"), createInv(VerbFlags{Bundle: "A", PidfdSocket: "s"}))),
		acceptRow("run, all", words("run -d --keep --no-subreaper --no-pivot --no-new-keyring --preserve-fds=9 -b A --console-socket=s --pid-file=p c"),
			runInv(VerbFlags{
				Bundle: "A", ConsoleSocket: "s", PidFile: "p", Detach: true, Keep: true, NoSubreaper: true,
				NoPivot: true, NoNewKeyring: true, PreserveFDs: 9,
			})),
		sinceRow(2, acceptRow("run, pidfd-socket", words("run -b A -d --pidfd-socket s c"), runInv(VerbFlags{Bundle: "A", PidfdSocket: "s", Detach: true}))),
		acceptRow("containerd's create", words("--root r --log l --log-format json --systemd-cgroup create --bundle A --pid-file A/init.pid --console-socket /tmp/nope/s c"),
			Invocation{
				Verb: "create", ID: "c", Flags: VerbFlags{Bundle: "A", PidFile: "A/init.pid", ConsoleSocket: "/tmp/nope/s"},
				Global: GlobalFlags{Root: "r", RootSet: true, Log: "l", LogFormat: "json", SystemdCgroup: true},
			}),
		refuseRow("create, detach", words("create --detach --bundle A c"), "--detach: unknown flag"),
		refuseRow("create, keep", words("create --bundle A --keep c"), "--keep: unknown flag"),
		refuseRow("create, a flag of exec", words("create --bundle A --cap=CAP_X c"), "--cap=CAP_X: unknown flag"),
		refuseRow("create, unknown", words("create --bogus --bundle A c"), "--bogus: unknown flag"),
		refuseRow("create, unknown after the ID", words("create --bundle A c --bogus"), "--bogus: unknown flag"),
		refuseRow("create, a global flag", words("create --root r --bundle A c"), "--root: unknown flag"),
		refuseRow("create, version", words("create --version"), "--version: unknown flag"),
		refuseRow("create, bash completion", words("create --bundle A c --generate-bash-completion"), "unknown flag"),
		refuseRow("create, owner", words("create --owner alice c"), "expected before all of runc's flags"),
		acceptRow("delete", words("delete c"), deleteInv(VerbFlags{})),
		acceptRow("delete, force", words("delete --force c"), deleteInv(VerbFlags{Force: true})),
		acceptRow("delete, force, short", words("delete -f c"), deleteInv(VerbFlags{Force: true})),
		acceptRow("delete, force after the ID", words("delete c -f"), deleteInv(VerbFlags{Force: true})),
		acceptRow("delete, force off", words("delete --force=false c"), deleteInv(VerbFlags{})),
		acceptRow("delete, running", words("delete box"), Invocation{Verb: "delete", ID: "box"}),
		refuseRow("delete, two", words("delete c d"), "expected one container ID"),
		refuseRow("delete, all", words("delete --all"), "--all: unknown flag"),

		// Booleans and numbers.
		acceptRow("bool T", words("run --detach=T -b A c"), runInv(VerbFlags{Bundle: "A", Detach: true})),
		acceptRow("bool 1", words("run -d=1 -b A c"), runInv(VerbFlags{Bundle: "A", Detach: true})),
		acceptRow("bool TRUE", words("run -d=TRUE -b A c"), runInv(VerbFlags{Bundle: "A", Detach: true})),
		acceptRow("bool f", words("run -d=f -b A c"), runInv(a)),
		acceptRow("bool 0", words("run --detach=0 -b A c"), runInv(a)),
		refuseRow("bool empty", words("run --detach= -b A c"), "expected true or false"),
		refuseRow("bool yes", words("run --detach=yes -b A c"), "expected true or false"),
		refuseRow("bool tRUE", words("run --detach=tRUE -b A c"), "expected true or false"),
		acceptRow("number, decimal", words("create -b A --preserve-fds 25 c"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 25})),
		acceptRow("number, hex", words("create -b A --preserve-fds 0x1F c"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 31})),
		acceptRow("number, octal", words("create -b A --preserve-fds 031 c"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 25})),
		acceptRow("number, 0o octal", words("create -b A --preserve-fds=0o31 c"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 25})),
		acceptRow("number, binary", words("create -b A --preserve-fds 0b11111 c"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 31})),
		acceptRow("number, underscore", words("create -b A --preserve-fds 1_000 c"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 1000})),
		acceptRow("number, plus", words("create -b A --preserve-fds +25 c"), createInv(VerbFlags{Bundle: "A", PreserveFDs: 25})),
		acceptRow("number, negative", words("create -b A --preserve-fds=-1 c"), createInv(VerbFlags{Bundle: "A", PreserveFDs: -1})),
		refuseRow("number, empty", words("create -b A --preserve-fds= c"), "expected a number"),
		refuseRow("number, word", words("create -b A --preserve-fds x c"), "expected a number"),
		refuseRow("number, fraction", words("create -b A --preserve-fds 1.0 c"), "expected a number"),
		refuseRow("number, bad octal", words("create -b A --preserve-fds 08 c"), "expected a number"),
		refuseRow("number, too big", words("create -b A --preserve-fds 9223372036854775808 c"), "expected a number"),

		// Help.
		acceptRow("help of create", words("create --help"), Invocation{Verb: "create", Help: true}),
		acceptRow("help of create, short", words("create -h"), Invocation{Verb: "create", Help: true}),
		acceptRow("help of create, one dash", words("create -help"), Invocation{Verb: "create", Help: true}),
		acceptRow("help after the ID", words("create --bundle A c --help"), Invocation{Verb: "create", Help: true}),
		acceptRow("help and too many words", words("create --help a b c"), Invocation{Verb: "create", Help: true}),
		acceptRow("help of run", words("run -h=true c"), Invocation{Verb: "run", Help: true}),
		acceptRow("help of exec", words("exec --help box /nope"), Invocation{Verb: "exec", Help: true}),
		acceptRow("help of delete", words("delete -h"), Invocation{Verb: "delete", Help: true}),
		acceptRow("help of restore", words("restore --help"), Invocation{Verb: "restore", Help: true}),
		acceptRow("help under globals", words("--debug --log l create --help"),
			Invocation{Verb: "create", Help: true, Global: GlobalFlags{Debug: true, Log: "l"}}),
		acceptRow("help off", words("create --help=false --bundle A c"), createInv(a)),
		refuseRow("help in two spellings", words("create --help -h"), "given as -help before"),
		refuseRow("help taken as a value", words("create --bundle --help"), "--bundle=--help"),
		refuseRow("bool takes the ID along, help", words("create --no-pivot c --help"), "put it last"),
		refuseRow("help, bad flag", words("create --help --bogus"), "--bogus: unknown flag"),
		acceptRow("global help", words("--help"), Invocation{Help: true}),
		acceptRow("global help, short", words("-h"), Invocation{Help: true}),
		acceptRow("global help before a verb", words("--help create --bundle A c"), Invocation{Help: true}),
		acceptRow("global help off", words("--help=0 create --bundle A c"), globalInv(GlobalFlags{})),
		acceptRow("version", words("--version"), Invocation{Version: true}),
		acceptRow("version, short", words("-v"), Invocation{Version: true}),
		acceptRow("version before a verb", words("-v create --bundle A c"), Invocation{Version: true}),
		acceptRow("version off", words("-v=false create --bundle A c"), globalInv(GlobalFlags{})),
		acceptRow("help and version", words("--version --help"), Invocation{Help: true}),
		refuseRow("version in two spellings", words("-v --version"), "given as -v before"),
		acceptRow("nothing", nil, Invocation{Help: true}),
		acceptRow("no verb", words("--debug"), Invocation{Help: true, Global: GlobalFlags{Debug: true}}),
		acceptRow("help command", words("help"), Invocation{Verb: "help", Help: true}),
		acceptRow("help command of create", words("help create"), Invocation{Verb: "help", Help: true, Args: words("create")}),
		acceptRow("h command", words("h run"), Invocation{Verb: "h", Help: true, Args: words("run")}),
	}, argsRowsGlobal(), argsRowsExec(), argsRowsRestore())
}

func argsRowsGlobal() []argsRow {
	const early = "runc fails later, at the log or the state directory, or differs by version"
	return []argsRow{
		acceptRow("root", words("--root r create --bundle A c"), globalInv(GlobalFlags{Root: "r", RootSet: true})),
		acceptRow("root, joined", words("--root=r create --bundle A c"), globalInv(GlobalFlags{Root: "r", RootSet: true})),
		acceptRow("root, one dash", words("-root r create --bundle A c"), globalInv(GlobalFlags{Root: "r", RootSet: true})),
		acceptRow("root twice", words("--root q --root r create --bundle A taken"),
			Invocation{Verb: "create", ID: "taken", Flags: VerbFlags{Bundle: "A"}, Global: GlobalFlags{Root: "r", RootSet: true}}),
		acceptRow("root with a dash", words("--root -r create --bundle A c"), globalInv(GlobalFlags{Root: "-r", RootSet: true})),
		acceptRow("root that is a verb", words("--root state create --bundle A c"), globalInv(GlobalFlags{Root: "state", RootSet: true})),
		acceptRow("root that is a flag", words("--root --debug create --bundle A c"), globalInv(GlobalFlags{Root: "--debug", RootSet: true})),
		strictRow("root empty", []string{"--root", "", "create", "--bundle", "A", "c"}, "expected a directory", early),
		strictRow("root empty, joined", words("--root= state c"), "expected a directory", early),
		strictRow("root is /", words("--root / state c"), "expected a directory", early),
		strictRow("root is /, cleaned", words("--root=/r/../. state c"), "expected a directory", early),
		refuseRow("root, no value", words("--root"), "--root: expected a value"),
		acceptRow("log", words("--log l create --bundle A c"), globalInv(GlobalFlags{Log: "l"})),
		acceptRow("log empty", words("--log= create --bundle A c"), globalInv(GlobalFlags{})),
		acceptRow("log with equals", words("--log=a=b create --bundle A c"), globalInv(GlobalFlags{Log: "a=b"})),
		acceptRow("log in no directory", words("--log no/such/log create --bundle A c"), globalInv(GlobalFlags{Log: "no/such/log"})),
		acceptRow("log-format json", words("--log l --log-format json create --bundle A c"), globalInv(GlobalFlags{Log: "l", LogFormat: "json"})),
		acceptRow("log-format text", words("--log-format text create --bundle A c"), globalInv(GlobalFlags{LogFormat: "text"})),
		acceptRow("log-format empty", words("--log-format= create --bundle A c"), globalInv(GlobalFlags{})),
		strictRow("log-format unknown", words("--log-format xml create --bundle A c"), "expected text or json", early),
		strictRow("log-format unknown, version", words("--log-format xml --version"), "expected text or json", early),
		acceptRow("debug", words("--debug create --bundle A c"), globalInv(GlobalFlags{Debug: true})),
		acceptRow("debug, one dash, joined", words("-debug=t create --bundle A c"), globalInv(GlobalFlags{Debug: true})),
		refuseRow("debug, bad", words("--debug=2 create --bundle A c"), "expected true or false"),
		acceptRow("systemd-cgroup", words("--systemd-cgroup create --bundle B c"),
			Invocation{Verb: "create", ID: "c", Flags: VerbFlags{Bundle: "B"}, Global: GlobalFlags{SystemdCgroup: true}}),
		acceptRow("systemd-cgroup off", words("--systemd-cgroup=false create --bundle A c"), globalInv(GlobalFlags{})),
		acceptRow("rootless", words("--rootless false create --bundle A c"), globalInv(GlobalFlags{Rootless: "false"})),
		acceptRow("rootless, bad", words("--rootless maybe create --bundle A c"), globalInv(GlobalFlags{Rootless: "maybe"})),
		acceptRow("-- before the verb", words("--debug=false -- create --bundle A c"), globalInv(GlobalFlags{})),
		refuseRow("unknown", words("--bogus create --bundle A c"), "--bogus: unknown flag"),
		refuseRow("crun's cgroup-manager", words("--cgroup-manager systemd create --bundle A c"), "--cgroup-manager: unknown flag"),
		strictRow("criu of runc 1.1", words("--criu /nope create --bundle A c"), "--criu: unknown flag", "later runcs don't know it, and it is a program that runs as root"),
		refuseRow("verb's flag first", words("--bundle A create c"), "--bundle: unknown flag"),
		refuseRow("bash completion", words("--generate-bash-completion"), "unknown flag"),
		refuseRow("dash", words("- create c"), `"-": unknown command`),
		refuseRow("unknown verb", words("frobnicate c"), `"frobnicate": unknown command`),
		refuseRow("abbreviated verb", words("crea --bundle A c"), "unknown command"),
		refuseRow("verb in wrong case", words("Create --bundle A c"), "unknown command"),
		strictRow("empty verb", []string{"", "c"}, `"": unknown command`, "runc prints help"),
		refuseRow("flag as verb", words("-- --root r create c"), `"--root": unknown command`),
		{
			name: "init", argv: words("init c"), refused: `"init": unknown command`,
			strict: "runc's own entry into a container, nobody else's",
		},

		// Verbs that pass.
		acceptRow("state", words("state c"), passInv("state", "c", "c")),
		acceptRow("state under globals", words("--root r --log l --log-format json state c"),
			Invocation{
				Verb: "state", ID: "c", Args: words("c"),
				Global: GlobalFlags{Root: "r", RootSet: true, Log: "l", LogFormat: "json"},
			}),
		acceptRow("state without a word", words("state"), passInv("state", "")),
		acceptRow("kill", words("kill c KILL"), passInv("kill", "c", "c", "KILL")),
		acceptRow("kill, all: no hint", words("kill c --all 9"), passInv("kill", "", "c", "--all", "9")),
		acceptRow("ps", words("ps c aux"), passInv("ps", "c", "c", "aux")),
		acceptRow("ps, a dash: no hint", words("ps c -o pid"), passInv("ps", "", "c", "-o", "pid")),
		acceptRow("start", words("start c"), passInv("start", "c", "c")),
		acceptRow("pause", words("pause c"), passInv("pause", "c", "c")),
		acceptRow("resume", words("resume c"), passInv("resume", "c", "c")),
		acceptRow("events", words("events --stats c"), passInv("events", "", "--stats", "c")),
		acceptRow("update, garbage", words("update --bogus -- c"), passInv("update", "", "--bogus", "--", "c")),
		acceptRow("checkpoint", words("checkpoint --image-path i c"), passInv("checkpoint", "", "--image-path", "i", "c")),
		acceptRow("list", words("list -f json"), passInv("list", "", "-f", "json")),
		acceptRow("features", words("features"), passInv("features", "")),
		acceptRow("features, help", words("features --help"), passInv("features", "", "--help")),

		// Our own flags.
		acceptRow("owner", words("--owner alice create --bundle A c"), ownedInv("alice", "", globalInv(GlobalFlags{}))),
		acceptRow("owner, joined", words("--owner=alice state c"), ownedInv("alice", "", passInv("state", "c", "c"))),
		acceptRow("owner, one dash", words("-owner alice --root r create --bundle A c"),
			ownedInv("alice", "", globalInv(GlobalFlags{Root: "r", RootSet: true}))),
		acceptRow("config", words("--config /f.toml create --bundle A c"), ownedInv("", "/f.toml", globalInv(GlobalFlags{}))),
		acceptRow("config, joined, and owner", words("-config=f --owner=bob create --bundle A c"), ownedInv("bob", "f", globalInv(GlobalFlags{}))),
		acceptRow("owner with equals", words("--owner=a=b create --bundle A c"), ownedInv("a=b", "", globalInv(GlobalFlags{}))),
		acceptRow("owner with a dash, joined", words("--owner=-a create --bundle A c"), ownedInv("-a", "", globalInv(GlobalFlags{}))),
		acceptRow("owner is a verb", words("--owner create state c"), ownedInv("create", "", passInv("state", "c", "c"))),
		acceptRow("owner, version", words("--owner alice --version"), ownedInv("alice", "", Invocation{Version: true})),
		acceptRow("owner in the command", words("exec -d -t box /nope --owner bob"), execInv(VerbFlags{Detach: true, TTY: true}, "/nope", "--owner", "bob")),
		acceptRow("owner as a value", words("--root --owner create --bundle A c"), globalInv(GlobalFlags{Root: "--owner", RootSet: true})),
		refuseRow("owner twice", words("--owner alice --owner alice create c"), "--owner: given twice"),
		refuseRow("config twice", words("--config f --owner bob -config=f create c"), "-config=f: given twice"),
		refuseRow("owner empty", []string{"--owner", "", "create", "c"}, "--owner: expected a value"),
		refuseRow("owner empty, joined", words("--owner= create c"), "--owner=: expected a value"),
		refuseRow("owner, no value", words("--owner"), "--owner: expected a value"),
		refuseRow("owner takes a flag", words("--owner --root r create c"), "--owner=--root"),
		refuseRow("owner takes --", words("--owner -- create c"), "--owner=--"),
		refuseRow("owner after runc's", words("--root r --owner alice create c"), "expected before all of runc's flags"),
		refuseRow("owner after --", words("-- --owner alice create c"), `"--owner": unknown command`),
		refuseRow("owner after the ID", words("create --bundle A c --owner=alice"), "expected before all of runc's flags"),
		refuseRow("owner, three dashes", words("---owner alice create c"), "---owner: not a flag"),
	}
}

func argsRowsExec() []argsRow {
	// A terminal that is detached without a socket stops runc before it starts
	// anything.
	dt := func(f VerbFlags) VerbFlags {
		f.Detach, f.TTY = true, true
		return f
	}
	return []argsRow{
		acceptRow("exec", words("exec -d -t box /nope"), execInv(dt(VerbFlags{}), "/nope")),
		acceptRow("exec, nothing", words("exec -d -t box"), execInv(dt(VerbFlags{}))),
		acceptRow("exec, joined", words("exec --detach=true --tty=1 box /nope a"), execInv(dt(VerbFlags{}), "/nope", "a")),
		acceptRow("exec, flags in the command", words("exec -d -t box /nope --env A=1 -t -- x"), execInv(dt(VerbFlags{}), "/nope", "--env", "A=1", "-t", "--", "x")),
		acceptRow("exec, -- before the ID", words("exec -d -t -- box /nope -x"), execInv(dt(VerbFlags{}), "/nope", "-x")),
		acceptRow("exec, -- after the ID is the command", words("exec -d -t box -- /nope"), execInv(dt(VerbFlags{}), "--", "/nope")),
		acceptRow("exec, two --", words("exec -d -t -- box -- /nope"), execInv(dt(VerbFlags{}), "--", "/nope")),
		acceptRow("exec, -- is the ID", words("exec -d -t -- -- box"), Invocation{Verb: "exec", ID: "--", Flags: dt(VerbFlags{}), Args: words("box")}),
		acceptRow("exec, flag after the ID is the command", words("exec -d -t box --user 1 /nope"), execInv(dt(VerbFlags{}), "--user", "1", "/nope")),
		acceptRow("exec, help in the command", words("exec -d -t box /nope --help"), execInv(dt(VerbFlags{}), "/nope", "--help")),
		acceptRow("exec, help after the ID", words("exec -d -t box --help"), execInv(dt(VerbFlags{}), "--help")),
		acceptRow("exec, help as a value", words("exec -d -t --cwd --help box /nope"), execInv(dt(VerbFlags{Cwd: "--help"}), "/nope")),
		acceptRow("exec, empty words", []string{"exec", "-d", "-t", "box", "", "a b", ""}, execInv(dt(VerbFlags{}), "", "a b", "")),
		acceptRow("exec, dash is the ID", words("exec -d -t - /nope"), Invocation{Verb: "exec", ID: "-", Flags: dt(VerbFlags{}), Args: words("/nope")}),
		acceptRow("exec, no such container", words("exec nobox /nope"), Invocation{Verb: "exec", ID: "nobox", Args: words("/nope")}),
		refuseRow("exec, no ID", words("exec -d -t"), "expected a container ID"),
		refuseRow("exec, no word", words("exec"), "expected a container ID"),
		refuseRow("exec, -- and nothing", words("exec -t --"), "expected a container ID"),
		acceptRow("exec, separate value with a dash", words("exec -d -t --cwd -x box /nope"), execInv(dt(VerbFlags{Cwd: "-x"}), "/nope")),
		acceptRow("exec, separate value --", words("exec -d -t --cwd -- box /nope"), execInv(dt(VerbFlags{Cwd: "--"}), "/nope")),
		acceptRow("exec, value is the next flag", words("exec -d --cwd -t box /nope"), execInv(VerbFlags{Detach: true, Cwd: "-t"}, "/nope")),
		acceptRow("exec, env", words("exec -d -t -e A=1 -e B=2=3 box /nope"), execInv(dt(VerbFlags{Env: words("A=1 B=2=3")}), "/nope")),
		acceptRow("exec, env long", words("exec -d -t --env=A=1 --env B= box /nope"), execInv(dt(VerbFlags{Env: words("A=1 B=")}), "/nope")),
		acceptRow("exec, env empty", words("exec -d -t --env= box /nope"), execInv(dt(VerbFlags{Env: []string{""}}), "/nope")),
		acceptRow("exec, env with comma", words("exec -d -t -e A=1,2 box /nope"), execInv(dt(VerbFlags{Env: words("A=1,2")}), "/nope")),
		acceptRow("exec, cwd", words("exec --cwd rel box /nope"), execInv(VerbFlags{Cwd: "rel"}, "/nope")),
		acceptRow("exec, user", words("exec --user x box /nope"), execInv(VerbFlags{User: "x"}, "/nope")),
		acceptRow("exec, user and group", words("exec -u 0:y box /nope"), execInv(VerbFlags{User: "0:y"}, "/nope")),
		acceptRow("exec, gids", words("exec -d -t -g 5 -g 6 box /nope"), execInv(dt(VerbFlags{AdditionalGIDs: []int64{5, 6}}), "/nope")),
		acceptRow("exec, negative gid", words("exec -g -5 box /nope"), execInv(VerbFlags{AdditionalGIDs: []int64{-5}}, "/nope")),
		acceptRow("exec, negative gid second", words("exec --additional-gids 3 --additional-gids=-6 box /nope"), execInv(VerbFlags{AdditionalGIDs: []int64{3, -6}}, "/nope")),
		acceptRow("exec, gid in decimal", words("exec --additional-gids=-010 box /nope"), execInv(VerbFlags{AdditionalGIDs: []int64{-10}}, "/nope")),
		refuseRow("exec, gid in hex", words("exec -g 0x5 box /nope"), "expected a decimal number"),
		refuseRow("exec, gids with comma", words("exec -g 5,6 box /nope"), "expected a decimal number"),
		refuseRow("exec, gid empty", words("exec --additional-gids= box /nope"), "expected a decimal number"),
		acceptRow("exec, process", words("exec --process p.json box"), execInv(VerbFlags{Process: "p.json"})),
		acceptRow("exec, process, short, and a command", words("exec -p p.json box /nope"), execInv(VerbFlags{Process: "p.json"}, "/nope")),
		refuseRow("exec, process twice", words("exec -p p --process p box"), "given as -p before"),
		acceptRow("exec, console-socket", words("exec -d -t --console-socket s box /nope"), execInv(dt(VerbFlags{ConsoleSocket: "s"}), "/nope")),
		acceptRow("exec, pid-file", words("exec -d -t --pid-file p box /nope"), execInv(dt(VerbFlags{PidFile: "p"}), "/nope")),
		sinceRow(2, acceptRow("exec, pidfd-socket", words("exec -d -t --pidfd-socket s box /nope"), execInv(dt(VerbFlags{PidfdSocket: "s"}), "/nope"))),
		acceptRow("exec, labels", words("exec -d -t --process-label l --apparmor p box /nope"), execInv(dt(VerbFlags{ProcessLabel: "l", AppArmor: "p"}), "/nope")),
		acceptRow("exec, no-new-privs", words("exec -d -t --no-new-privs box /nope"), execInv(dt(VerbFlags{NoNewPrivs: true, NoNewPrivsSet: true}), "/nope")),
		acceptRow("exec, no-new-privs off", words("exec -d -t --no-new-privs=false box /nope"), execInv(dt(VerbFlags{NoNewPrivsSet: true}), "/nope")),
		acceptRow("exec, cap", words("exec -d -t -c CAP_KILL -c CAP_CHOWN box /nope"), execInv(dt(VerbFlags{Cap: words("CAP_KILL CAP_CHOWN")}), "/nope")),
		acceptRow("exec, preserve-fds", words("exec --preserve-fds 25 box /nope"), execInv(VerbFlags{PreserveFDs: 25}, "/nope")),
		acceptRow("exec, cgroup", words("exec --cgroup a:b --cgroup a:c box /nope"), execInv(VerbFlags{Cgroup: words("a:b a:c")}, "/nope")),
		acceptRow("exec, ignore-paused", words("exec -d -t --ignore-paused box /nope"), execInv(dt(VerbFlags{IgnorePaused: true}), "/nope")),
		refuseRow("exec, unknown", words("exec --bogus box /nope"), "--bogus: unknown flag"),
		refuseRow("exec, a flag of run", words("exec --bundle A box /nope"), "--bundle: unknown flag"),
		refuseRow("exec, combined", words("exec -it box /nope"), "-it: unknown flag"),
		refuseRow("exec, value forgotten", words("exec --user"), "--user: expected a value"),
		refuseRow("exec, owner", words("exec --owner bob box /nope"), "expected before all of runc's flags"),
		refuseRow("exec, bash completion", words("exec --generate-bash-completion"), "unknown flag"),
	}
}

func argsRowsRestore() []argsRow {
	return []argsRow{
		acceptRow("restore", words("restore --bundle A c"), restoreInv(VerbFlags{Bundle: "A"})),
		acceptRow("restore, detach", words("restore -d -b A --image-path i c"), restoreInv(VerbFlags{Bundle: "A", Detach: true, ImagePath: "i"})),
		acceptRow("restore, flags after the ID", words("restore c --bundle A --detach"), restoreInv(VerbFlags{Bundle: "A", Detach: true})),
		acceptRow("restore, all", words("restore --console-socket s --image-path i --work-path k --tcp-established --ext-unix-sk --shell-job "+
			"--file-locks --manage-cgroups-mode soft -b A -d --pid-file p --no-subreaper --no-pivot --empty-ns network --auto-dedup "+
			"--lazy-pages --lsm-profile apparmor:x --lsm-mount-context y c"),
			restoreInv(VerbFlags{
				ConsoleSocket: "s", ImagePath: "i", WorkPath: "k", TCPEstablished: true, ExtUnixSk: true, ShellJob: true,
				FileLocks: true, ManageCgroupsMode: "soft", Bundle: "A", Detach: true, PidFile: "p", NoSubreaper: true,
				NoPivot: true, EmptyNS: words("network"), AutoDedup: true, LazyPages: true, LSMProfile: "apparmor:x",
				LSMMountContext: "y",
			}),
		),
		acceptRow("restore, empty-ns", words("restore -b A --empty-ns=network --empty-ns foo c"), restoreInv(VerbFlags{Bundle: "A", EmptyNS: words("network foo")})),
		acceptRow("restore, empty-ns empty", words("restore -b A --empty-ns= c"), restoreInv(VerbFlags{Bundle: "A", EmptyNS: []string{""}})),
		acceptRow("restore, console-socket", words("restore -d -b A --console-socket=s c"), restoreInv(VerbFlags{Bundle: "A", Detach: true, ConsoleSocket: "s"})),
		refuseRow("restore, preserve-fds", words("restore -b A --preserve-fds 3 c"), "--preserve-fds: unknown flag"),
		refuseRow("restore, parent-path", words("restore -b A --parent-path p c"), "--parent-path: unknown flag"),
		refuseRow("restore, keep", words("restore -b A --keep c"), "--keep: unknown flag"),
		refuseRow("restore, bool takes the ID along", words("restore -d c --bundle A"), "put it last"),
		refuseRow("restore, no ID", words("restore --bundle A -d"), "expected a container ID"),
		refuseRow("restore, two IDs", words("restore --bundle A c d"), "expected one container ID"),
	}
}
