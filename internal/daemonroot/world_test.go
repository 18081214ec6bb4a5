// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const childEnv = "DAEMONROOT_TEST_CHILD"

// TestMain is also the children of tests.
func TestMain(m *testing.M) {
	switch verb := os.Getenv(childEnv); verb {
	case "":
		os.Exit(m.Run())
	case "wait": // a process that is there, until its input ends
		_, _ = os.Stdin.Read(make([]byte, 1))
	default:
		w := world{data: os.Args[1], host: Host{Proc: os.Args[2]}}
		if _, err := w.do(verb, false); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// world is a data root as dockerd leaves it, in a directory of a test's.
type world struct {
	t    *testing.T
	data string
	host Host // without a process
}

var tenant = Identity{200000, 200007}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose the directories have to be")
	}
	// In memory, where flushing costs nothing.
	dir, err := os.MkdirTemp("/dev/shm", "daemonroot")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t, filepath.Join(dir, "docker"), Host{Root: filepath.Join(dir, "host"), Proc: filepath.Join(dir, "proc")}}
	for _, d := range []string{w.host.Proc, w.host.Root + "/etc/docker"} {
		w.must(os.MkdirAll(d, 0o755))
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) do(verb string, dry bool) (Result, error) {
	switch verb {
	case "migrate":
		return w.host.Migrate(w.data, nil, dry)
	case "migrate to":
		return w.host.Migrate(w.data, &tenant, dry)
	case "restore":
		return w.host.Restore(w.data, dry)
	}
	return w.host.Prepare(w.data, tenant, dry)
}

func (w *world) file(rel, text string, mode os.FileMode, uid, gid int) {
	w.t.Helper()
	path := filepath.Join(w.data, rel)
	w.must(os.MkdirAll(filepath.Dir(path), 0o710))
	w.must(os.WriteFile(path, []byte(text), mode))
	w.must(os.Chown(path, uid, gid))
	w.must(os.Chmod(path, mode))
	when := time.Unix(1700000000+int64(len(rel)), 123456789)
	w.must(os.Chtimes(path, when, when))
}

// fill puts the data of a dockerd there: what is moved, rewritten, and left alone.
func (w *world) fill() {
	w.t.Helper()
	w.must(os.RemoveAll(w.data))
	w.must(os.MkdirAll(w.data, 0o710))
	w.must(os.Chmod(w.data, 0o710))
	for i, id := range []string{"c0", "c1"} {
		dir := "containers/" + id + "/"
		w.file(dir+"config.v2.json", fmt.Sprintf(`{"State":{"Pid":0},"ID":%q,"LogPath":"%[2]s/containers/%[1]s/%[1]s-json.log","Config":{"Cmd":["%[2]s/volumes"]},"Unknown":{"n":1.50e1},`+
			`"MountPoints":{"/v":{"Source":"%[2]s/volumes/v/_data","Spec":{"Type":"volume","Source":"v"}},"/m":{"Source":"%[2]s/mine\u0026co","Spec":{"Source":"%[2]s/mine\u0026co"}}},"ShmPath":""}`+"\n", id, w.data), 0o600, 0, 0)
		w.file(dir+"hostconfig.json", fmt.Sprintf(`{"Binds":["v:/v","%s/mine\u0026co:/m:ro"],"Mounts":null}`, w.data), os.FileMode(0o600+i*0o44), i*1000, i*7)
		w.file(dir+id+"-json.log", `{"log":"hello"}`, 0o640, 0, 0)
	}
	err := unix.Setxattr(w.path("containers/c0/config.v2.json"), "user.test", []byte("kept"), 0)
	if !errors.Is(err, unix.ENOTSUP) { // tmpfs has them since Linux 6.6
		w.must(err)
	}
	w.file("containers/c2/config.v2.json", "", 0o600, 0, 0) // after a power failure
	w.file("volumes/v/_data/x", "data", 0o644, 5, 6)
	w.file("volumes/b/opts.json", fmt.Sprintf(`{"MountType":"none","MountOpts":"bind","MountDevice":"%s/mine\u0026co","Quota":{"Size":0}}`, w.data), 0o600, 0, 0)
	w.file("mine&co/file", "mine", 0o600, 0, 0)
	w.file("image/overlay2/repositories.json", `{"Repositories":{}}`, 0o600, 0, 0)
	w.must(os.Symlink("../x/diff", filepath.Join(w.data, "image/link")))
	w.must(os.MkdirAll(filepath.Join(w.data, "swarm"), 0o700))
	w.file("engine-id", "id", 0o600, 0, 0)
	w.must(os.Symlink("/srv/elsewhere", filepath.Join(w.data, "trust")))
}

// manifest is all there is below the super-root, with what a file has but for the time of its last look and
// change; of directories not their times, which renames below change.
func (w *world) manifest() string {
	w.t.Helper()
	var lines []string
	w.must(filepath.WalkDir(w.data, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(w.data, path)
		line := fmt.Sprintf("%s %s %d:%d", rel, info.Mode(), st.Uid, st.Gid)
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", text)
			if filepath.Base(path) != journalName {
				line += fmt.Sprintf(" %d", info.ModTime().UnixNano())
			}
			if value := make([]byte, 100); true {
				if n, err := unix.Getxattr(path, "user.test", value); err == nil {
					line += " " + string(value[:n])
				}
			}
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + to
		}
		lines = append(lines, line)
		return nil
	}))
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// same compares two manifests.
func (w *world) same(what, want, got string) {
	w.t.Helper()
	if want == got {
		return
	}
	for _, l := range strings.Split(want, "\n") {
		if !slices.Contains(strings.Split(got, "\n"), l) {
			w.t.Errorf("%s: missing: %s", what, l)
		}
	}
	for _, l := range strings.Split(got, "\n") {
		if !slices.Contains(strings.Split(want, "\n"), l) {
			w.t.Errorf("%s: not expected: %s", what, l)
		}
	}
}

// refuses wants an error with want in it, and a tree that is as before.
func (w *world) refuses(verb, want string) {
	w.t.Helper()
	before := w.manifest()
	for _, dry := range []bool{true, false} {
		if _, err := w.do(verb, dry); err == nil || !strings.Contains(err.Error(), want) {
			w.t.Errorf("%s (dry %v): got %v, expected %q", verb, dry, err, want)
		}
	}
	w.same(verb+" was refused", before, w.manifest())
}

func (w *world) path(rel string) string { return filepath.Join(w.data, rel) }
