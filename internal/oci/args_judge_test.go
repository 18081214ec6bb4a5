// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The judge gives each row of the table to real runcs, in a small world of
// files in which every command line fails, or has done all it can, before runc
// starts a container. What runc read shows in its exit code, in what it prints,
// in its log and in the files it leaves. Where ParseArgs accepts a row, its
// canonical form has to do the same; where runc calls it a usage error,
// ParseArgs has to refuse it.

// judgeSpec gets as far as a spec can that starts nothing: it wants a terminal,
// and there is none.
const judgeSpec = `{"ociVersion":"1.0.2","process":{"terminal":true,"cwd":"/","args":["/nope"],"user":{"uid":0,"gid":0},` +
	`"capabilities":{"bounding":[],"effective":[],"permitted":[]}},` +
	`"root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}`

// judgeBoxState is the state of a container that seems to run: runc's exec
// checks all its flags against it, and then finds no namespace to enter.
const judgeBoxState = `{"id":"box","init_process_pid":%d,"init_process_start":%d,"created":"2026-01-01T00:00:00Z",` +
	`"config":{"rootfs":"/","namespaces":[],"labels":["bundle=%s"],"version":"1.0.2",` +
	`"cgroups":{"path":"/userns-runtime-args-test","memory":0,"Resources":{"memory":0}}},` +
	`"rootless":false,"cgroup_paths":{},"namespace_paths":{},"external_descriptors":[],"intel_rdt_path":""}`

type judge struct {
	runc  string
	minor int    // N of runc 1.N
	world string // made anew for every command line
	box   string // the state of the container that seems to run
}

// outcome is all that can be seen of one run of runc.
type outcome struct {
	exit           int
	stdout, stderr string
	files          []string // of the world; with content if runc wrote it
}

func (o outcome) usage() bool {
	return strings.Contains(o.stdout, "Incorrect Usage") || strings.Contains(o.stdout, "Cannot use two forms") ||
		strings.Contains(o.stderr, "No help topic")
}

func (o outcome) same(p outcome) bool {
	return o.exit == p.exit && o.stdout == p.stdout && o.stderr == p.stderr && slices.Equal(o.files, p.files)
}

func (o outcome) String() string {
	out := o.stdout
	if len(out) > 200 {
		out = out[:200] + "..."
	}
	return fmt.Sprintf("exit %d, stdout %q, stderr %q, files %q", o.exit, out, o.stderr, o.files)
}

func newJudge(t *testing.T, runc string) *judge {
	t.Helper()
	out, err := exec.Command(runc, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	j := &judge{runc: runc, world: filepath.Join(t.TempDir(), "w")}
	if _, err := fmt.Sscanf(string(out), "runc version 1.%d.", &j.minor); err != nil {
		t.Fatalf("%s --version says %q: expected runc 1.N", runc, out)
	}
	seeming := exec.Command("sleep", "600")
	if err := seeming.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = seeming.Process.Kill()
		_ = seeming.Wait()
	})
	pid := seeming.Process.Pid
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// proc_pid_stat(5): field 22, the start; the name before it is in brackets.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	start, err := strconv.ParseUint(fields[22-3], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	j.box = fmt.Sprintf(judgeBoxState, pid, start, filepath.Join(j.world, "A"))
	return j
}

// make builds the world. Each part that a flag can choose differs from its
// siblings in what runc says of it.
func (j *judge) make(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(j.world); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"A/rootfs", "B", "--no-pivot", "--", "-x", "A B", "A=B", "A\nB", "state0/taken", "r/taken", "i"} {
		if err := os.MkdirAll(filepath.Join(j.world, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"A/config.json":          judgeSpec,
		"B/config.json":          "B",
		"--no-pivot/config.json": "N",
		"--/config.json":         "-",
		"-x/config.json":         "x",
		"A B/config.json":        "S",
		"A=B/config.json":        "=",
		"A\nB/config.json":       "L",
		"config.json":            "W",
		"p.json":                 "P",
		"state0/box/state.json":  j.box,
	} {
		path := filepath.Join(j.world, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// see runs argv in a new world, with --root set unless argv says otherwise.
func (j *judge) see(t *testing.T, argv []string) outcome {
	t.Helper()
	j.make(t)
	words := argv[1:]
	if !slices.ContainsFunc(words, func(w string) bool { return w == "--root" || w == "-root" || strings.HasPrefix(w, "--root=") }) {
		words = slices.Concat([]string{"--root=" + filepath.Join(j.world, "state0")}, words)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, j.runc, words...)
	cmd.Dir = j.world
	// TMPDIR for restore, nothing that tells of sockets; no terminal of ours.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + j.world}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	o := outcome{exit: cmd.ProcessState.ExitCode(), stdout: steady(stdout.String()), stderr: steady(stderr.String())}
	err := filepath.WalkDir(j.world, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(j.world, path)
		if !d.Type().IsRegular() {
			o.files = append(o.files, name)
			return nil
		}
		text, err := os.ReadFile(path)
		o.files = append(o.files, name+": "+steady(string(text)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// steady takes out what differs from run to run: times, process IDs, addresses.
func steady(text string) string {
	for _, r := range [][2]string{
		{`time="[^"]*"`, `time=T`},
		{`"time":"[^"]*"`, `"time":T`},
		{`\[\d+\]`, `[N]`},
		{`\bpid \d+`, `pid N`},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	if i := strings.Index(text, "goroutine "); i >= 0 {
		text = text[:i]
	}
	return text
}

// judgeRuncs are the runcs to ask: the pinned one and the distribution's.
func judgeRuncs(t *testing.T) map[string]string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("runc is judged as root: for another user it does other things")
	}
	pinned := os.Getenv("USERNS_TEST_RUNC")
	if pinned == "" {
		pinned = filepath.Join("..", "..", "bin", "runc")
	}
	found := map[string]string{}
	for name, paths := range map[string][]string{
		"pinned": {pinned},
		"distro": {"/usr/sbin/runc", "/usr/bin/runc"},
	} {
		for _, path := range paths {
			path, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); err == nil && found[name] == "" {
				found[name] = path
			}
		}
		if found[name] == "" {
			t.Run(name, func(t *testing.T) {
				t.Skipf("no runc at %s: 1 of 2 judges is missing (make build, or USERNS_TEST_RUNC)", strings.Join(paths, " or "))
			})
		}
	}
	return found
}

func TestParseArgsJudgedByRunc(t *testing.T) {
	if testing.Short() {
		t.Skip("runs runc some hundred times")
	}
	runcs := judgeRuncs(t)
	rows := argsRows()
	// Whether a runc accepted a row that we refuse, by runc and row.
	stricter := map[string]map[string]bool{}
	for name := range runcs {
		stricter[name] = map[string]bool{}
	}
	t.Run("by", func(t *testing.T) {
		for name, runc := range runcs {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				j := newJudge(t, runc)
				judged := 0
				for _, row := range rows {
					argv := append([]string{"runc"}, row.argv...)
					inv, refusal := ParseArgs(argv)
					switch {
					case len(row.argv) > 0 && row.argv[0] == "init":
						continue // it waits for a pipe that only runc can give it
					case refusal == nil && !inv.Gated() && !inv.Help && !inv.Version:
						continue // runc gets the same words
					}
					t.Run(row.name, func(t *testing.T) {
						judged++
						if refusal != nil {
							stricter[name][row.name] = j.refused(t, row, argv, refusal)
						} else {
							j.accepted(t, row, inv)
						}
					})
				}
				t.Logf("runc 1.%d at %s: %d rows", j.minor, runc, judged)
			})
		}
	})
	for _, row := range rows {
		asked, accepted := 0, false
		for name := range runcs {
			if is, ok := stricter[name][row.name]; ok {
				asked++
				accepted = accepted || is
			}
		}
		if row.strict != "" && asked == 2 && !accepted {
			t.Errorf("%s: said to be stricter than runc, but no runc accepts it", row.name)
		}
	}
}

// refused judges a row that we refuse, and says whether runc accepts it.
func (j *judge) refused(t *testing.T, row argsRow, argv []string, refusal error) bool {
	t.Helper()
	o := j.see(t, argv)
	// The second is said by runc's verb, of the same word that we refuse.
	if o.usage() || strings.Contains(o.stderr, "container id cannot be empty") {
		return false
	}
	if row.strict == "" {
		t.Fatalf("runc accepts what we refuse with %q:\n%v", refusal, o)
	}
	return true
}

// accepted judges a row that we accept.
func (j *judge) accepted(t *testing.T, row argsRow, inv Invocation) {
	t.Helper()
	original := j.see(t, inv.Raw)
	tooOld := j.minor < row.since
	if original.usage() != tooOld {
		t.Fatalf("we accept, and runc 1.%d says:\n%v", j.minor, original)
	}
	printed := original.exit == 0 && strings.HasPrefix(original.stdout, "NAME:")
	if inv.Version {
		printed = original.exit == 0 && strings.HasPrefix(original.stdout, "runc version")
	}
	if printed != (inv.Help || inv.Version) {
		t.Fatalf("Help is %v and Version %v, and runc does\n%v", inv.Help, inv.Version, original)
	}
	if !inv.Gated() {
		return
	}
	canonical := j.see(t, inv.Argv())
	if tooOld {
		// A flag that runc 1.1 doesn't know is a word more to it, after which
		// it says other things, but still refuses.
		if !canonical.usage() {
			t.Fatalf("%q is too new for runc 1.%d, and %q does\n%v", inv.Raw, j.minor, inv.Argv(), canonical)
		}
		return
	}
	if !original.same(canonical) {
		t.Fatalf("%q does\n%v\nits canonical form %q does\n%v", inv.Raw, original, inv.Argv(), canonical)
	}
}

// TestParseArgsJudgedAtRandom looks for the orders of words that nobody thought
// of. Here runc may accept what we refuse.
func TestParseArgsJudgedAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("runs runc some hundred times")
	}
	lines := 400
	if n, err := strconv.Atoi(os.Getenv("USERNS_TEST_RANDOM")); err == nil {
		lines = n
	}
	shared := words("-- - A B c taken --help -h=false -x = --=")
	common := append(words("--bundle --bundle=A -b -b=B --pid-file=p --console-socket --console-socket=s --no-pivot --no-pivot=false "+
		"--preserve-fds --preserve-fds=99 0x63"), shared...)
	vocabulary := map[string][]string{
		"create":  append(words("--no-new-keyring"), common...),
		"run":     append(words("-d --detach --keep --keep=1"), common...),
		"restore": append(words("-d --empty-ns --empty-ns=foo --shell-job"), common...),
		"delete":  append(words("-f --force --force=f"), shared...),
		"exec":    append(words("-d -t -dt --tty=1 --cwd --cwd=rel -e A=1 --user --user=x -g -5 --process=p.json box box"), shared...),
	}
	for name, runc := range judgeRuncs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJudge(t, runc)
			rnd := rand.New(rand.NewPCG(1, 2))
			accepted := 0
			for range lines {
				verb := words("create run restore delete exec")[rnd.IntN(5)]
				argv := []string{"runc", verb}
				for range rnd.IntN(6) {
					argv = append(argv, vocabulary[verb][rnd.IntN(len(vocabulary[verb]))])
				}
				inv, err := ParseArgs(argv)
				if err != nil {
					continue
				}
				accepted++
				j.accepted(t, argsRow{}, inv)
			}
			t.Logf("%d of %d lines were accepted", accepted, lines)
			if accepted == 0 {
				t.Fatal("none was accepted, so none was judged")
			}
		})
	}
}

// TestJudgeSees: a judge for whom two readings look the same would pass
// anything. Each pair differs in one thing that runc reads.
func TestJudgeSees(t *testing.T) {
	for name, runc := range judgeRuncs(t) {
		t.Run(name, func(t *testing.T) {
			j := newJudge(t, runc)
			for thing, pair := range map[string][2]string{
				"bundle":         {"create --bundle=A c", "create --bundle=B c"},
				"no bundle":      {"create --bundle=A c", "create c"},
				"ID":             {"create --bundle=A c", "create --bundle=A taken"},
				"ID left behind": {"run --keep --preserve-fds=99 --bundle=A c", "run --keep --preserve-fds=99 --bundle=A d"},
				"keep":           {"run --keep --bundle=A c", "run --bundle=A c"},
				"detach":         {"run --detach --bundle=A c", "run --bundle=A c"},
				"preserve-fds":   {"create --preserve-fds=98 --console-socket=s --bundle=A c", "create --preserve-fds=99 --console-socket=s --bundle=A c"},
				"console-socket": {"create --console-socket=s --bundle=A c", "create --console-socket=q --bundle=A c"},
				"force":          {"delete --force c", "delete c"},
				"root":           {"--root=r create --bundle=A box", "--root=state0 create --bundle=A box"},
				"log":            {"--log=l delete c", "--log=m delete c"},
				"log-format":     {"--log-format=json delete c", "delete c"},
				"debug":          {"--debug create --bundle=A c", "create --bundle=A c"},
				"systemd-cgroup": {"--systemd-cgroup create --bundle=A c", "create --bundle=A c"},
				"rootless":       {"--rootless=maybe create --bundle=A c", "create --bundle=A c"},
				"exec, ID":       {"exec -d -t box /nope", "exec -d -t c /nope"},
				"exec, nothing":  {"exec -d -t box", "exec -d -t box /nope"},
				"exec, detach":   {"exec -d -t box /nope", "exec -t box /nope"},
				"exec, tty":      {"exec -t --console-socket=s -d box /nope", "exec --console-socket=s -d box /nope"},
				"exec, cwd":      {"exec -d -t --cwd=rel box /nope", "exec -d -t --cwd=/ box /nope"},
				"exec, user":     {"exec --user=x box /nope", "exec --user=y box /nope"},
				"exec, gids":     {"exec -g=-5 box /nope", "exec -g=-6 box /nope"},
				"exec, cgroup":   {"exec --cgroup=a:b --cgroup=a:c box /nope", "exec --cgroup=b:b --cgroup=b:c box /nope"},
				"exec, process":  {"exec --process=p.json box", "exec --process=q.json box"},
				"restore, ns":    {"restore --bundle=A --empty-ns=foo c", "restore --bundle=A --empty-ns=bar c"},
				"help":           {"create --help", "run --help"},
			} {
				t.Run(thing, func(t *testing.T) {
					one := j.see(t, append([]string{"runc"}, words(pair[0])...))
					two := j.see(t, append([]string{"runc"}, words(pair[1])...))
					if one.same(two) {
						t.Fatalf("%q and %q look the same:\n%v", pair[0], pair[1], one)
					}
				})
			}
		})
	}
}
