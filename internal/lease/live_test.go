// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("maps foreign IDs, mounts: needs root")
	}
}

// inNewUserNS has a child in a namespace that is mapped so.
func inNewUserNS(uids, gids string) *unix.SysProcAttr {
	extents := func(text string) (out []syscall.SysProcIDMap) {
		m, err := idmap.ParseMap(text)
		if err != nil {
			panic(err)
		}
		for _, e := range m {
			out = append(out, syscall.SysProcIDMap{ContainerID: int(e.Inner), HostID: int(e.Outer), Size: int(e.Count)})
		}
		return out
	}
	return &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: extents(uids), GidMappings: extents(gids), Pdeathsig: unix.SIGKILL}
}

// seen is what Live finds of a namespace that one of these processes is in.
func seen(t *testing.T, inode uint64) (out []LiveNS) {
	t.Helper()
	all, err := Live()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if l.Inode == inode && !l.Staged {
			out = append(out, l)
		}
	}
	return out
}

func userNSOf(t *testing.T, pid int) uint64 {
	t.Helper()
	inode, err := namespaceOf(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		t.Fatal(err)
	}
	return inode
}

func TestLive(t *testing.T) {
	requireRoot(t)
	own := userNSOf(t, os.Getpid())
	p, err := linux.ParkInNewUserNS()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	inode := userNSOf(t, p.PID())
	for file, text := range map[string]string{"uid_map": "0 3000000 10\n10 4000000 5\n", "gid_map": "0 3500000 20\n"} {
		if err := p.WriteFile(file, text); err != nil {
			t.Fatal(err)
		}
	}
	f, err := p.UserNS()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// A second one in the same namespace doesn't make two of it.
	second, err := linux.ParkInUserNS(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	got := seen(t, inode)
	if len(got) != 1 || got[0].PID != p.PID() && got[0].PID != second.PID() ||
		!got[0].UIDs.Equal(idmap.Map{{Inner: 0, Outer: 3000000, Count: 10}, {Inner: 10, Outer: 4000000, Count: 5}}) ||
		!got[0].GIDs.Equal(idmap.Map{{Inner: 0, Outer: 3500000, Count: 20}}) {
		t.Errorf("got %+v", got)
	}
	if got := seen(t, own); got != nil {
		t.Errorf("its own namespace: %+v", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, inode); len(got) != 1 || got[0].PID != second.PID() {
		t.Errorf("got %+v of process %d", got, second.PID())
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, inode); got != nil {
		t.Errorf("after the end of both: %+v", got)
	}
}

// What has ended and isn't reaped doesn't hold anything.
func TestLiveWithoutZombies(t *testing.T) {
	requireRoot(t)
	cmd := exec.Command("cat")
	cmd.SysProcAttr = inNewUserNS("0 3000000 10", "0 3000000 10")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inode := userNSOf(t, cmd.Process.Pid)
	if got := seen(t, inode); len(got) != 1 {
		t.Errorf("while it lives: %+v", got)
	}
	in.Close()
	stat := fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(stat)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), ") Z ") {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("it doesn't end: %s", text)
		}
	}
	if got := seen(t, inode); got != nil {
		t.Errorf("of a zombie: %+v", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// The first thread has ended, and is what /proc/PID shows; another one goes on.
func TestLiveWithoutItsFirstThread(t *testing.T) {
	requireRoot(t)
	h := startHelper(t, inNewUserNS("0 3000000 10", "0 3000000 10"), "one-thread-less")
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.Process.Pid))
	if err != nil || !strings.Contains(string(stat), ") Z ") {
		t.Fatalf("its first thread hasn't ended: %s %v", stat, err)
	}
	inode := userNSOf(t, h.Process.Pid)
	if got := seen(t, inode); len(got) != 1 || got[0].PID != h.Process.Pid || !got[0].IDs().Contains(idmap.Range{Start: 3000000, Count: 10}) {
		t.Errorf("got %+v", got)
	}
	h.end()
	if got := seen(t, inode); got != nil {
		t.Errorf("after its end: %+v", got)
	}
}

// helpLive is told the number of a process, and says what it sees of that one.
func helpLive() error {
	fmt.Println("ready")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	all, err := Live()
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.PID == pid {
			fmt.Println(l.UIDs, "and", l.GIDs)
			return nil
		}
	}
	fmt.Println("nothing")
	return nil
}

// A reader who is in a user namespace sees maps counted in that, and must count on the host.
func TestLiveFromAUserNamespace(t *testing.T) {
	requireRoot(t)
	for _, row := range []struct{ other, want string }{
		{"0 3000100 10", "0:3000100:10 and 0:3000100:10"},
		{"0 5000000 10", "0:5000000:10 and 0:5000000:10"},
	} {
		reader := startHelper(t, inNewUserNS("0 3000000 1000\n1000 5000000 1000", "0 3000000 1000\n1000 5000000 1000"), "live")
		other := exec.Command("cat")
		other.SysProcAttr = inNewUserNS(row.other, row.other)
		in, err := other.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(reader.in, other.Process.Pid)
		got, err := reader.out.ReadString('\n')
		if got = strings.TrimSpace(got); err != nil || got != row.want {
			t.Errorf("%s: %q %v, want %q", row.other, got, err, row.want)
		}
		in.Close()
		if err := other.Wait(); err != nil {
			t.Fatal(err)
		}
		reader.end()
	}
}

func TestHostMap(t *testing.T) {
	own := idmap.Map{{Inner: 0, Outer: 100000, Count: 1000}, {Inner: 1000, Outer: 500000, Count: 10}}
	for _, row := range []struct {
		text string
		own  idmap.Map
		want idmap.Map
	}{
		{"0 5 7\n", nil, idmap.Map{{Inner: 0, Outer: 5, Count: 7}}},
		{"0 5 7\n", idmap.Host(), idmap.Map{{Inner: 0, Outer: 5, Count: 7}}},
		{"         0          0 4294967295\n", idmap.Host(), idmap.Host()},
		{"", own, nil},
		{"0 0 1000\n", own, idmap.Map{{Inner: 0, Outer: 100000, Count: 1000}}},
		{"3 999 2\n", own, idmap.Map{{Inner: 3, Outer: 100999, Count: 1}, {Inner: 4, Outer: 500000, Count: 1}}},
		{"0 1005 100\n", own, idmap.Map{{Inner: 0, Outer: 500005, Count: 5}}},
		{"0 1010 100\n", own, nil},
		// What the reader's namespace doesn't map, the kernel shows so.
		{"0 4294967295 10\n10 5 1\n", own, idmap.Map{{Inner: 10, Outer: 100005, Count: 1}}},
	} {
		got, err := hostMap(row.text, row.own)
		if err != nil || !got.Equal(row.want) {
			t.Errorf("%q: %v %v, want %v", row.text, got, err, row.want)
		}
	}
}

// A process that leaves its life to a child, again and again, is in no list of processes long enough to
// be looked at, but the namespace is never without one.
func TestLiveFindsWhoForksAndEnds(t *testing.T) {
	requireRoot(t)
	// The test's own directory lies in one that only root may enter.
	dir, err := os.MkdirTemp("", "hop") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	script, stop := filepath.Join(dir, "hop"), filepath.Join(dir, "stop")
	// The parent ends only when the child is there.
	if err := os.WriteFile(script, []byte("test -e \"$1\" && exit\nsh \"$0\" \"$1\" &\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `read x; exec sh "$1" "$2"`, "sh", script, stop)
	cmd.SysProcAttr = inNewUserNS("0 3000000 10", "0 3000000 10")
	cmd.SysProcAttr.Pdeathsig = 0
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(stop, nil, 0o644); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			if all, err := Live(); err == nil && !slices.ContainsFunc(all, func(l LiveNS) bool { return l.IDs().Contains(idmap.Range{Start: 3000000, Count: 10}) }) {
				return
			}
		}
		t.Error("it doesn't end")
	}()
	inode := userNSOf(t, cmd.Process.Pid)
	fmt.Fprintln(in)
	// From here on the first process has gone.
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if running, err := runs(strconv.Itoa(cmd.Process.Pid)); err != nil || !running {
			break
		}
		if time.Now().After(until) {
			t.Fatal("it doesn't hop")
		}
	}
	found := 0
	for i := range 40 {
		all, err := Live()
		if errors.Is(err, errRestless) {
			continue // which nobody takes for an answer
		}
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(all, func(l LiveNS) bool { return l.Inode == inode }) {
			t.Fatalf("look %d: it isn't found", i)
		}
		found++
	}
	if found < 5 {
		t.Errorf("found in %d of 40 looks", found)
	}
}

// In a namespace without maps, or with one of the two, a process has the IDs that it had before.
func TestLiveWithoutMaps(t *testing.T) {
	requireRoot(t)
	for _, half := range []bool{false, true} {
		h := &helper{Cmd: exec.Command("setpriv", "--reuid", "3000007", "--regid", "3000008", "--groups", "3000009,3000011",
			"unshare", "--user", "sh", "-c", "echo ready; exec cat")}
		h.start(t)
		if half {
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/uid_map", h.Process.Pid), []byte("0 3000007 1"), 0); err != nil {
				t.Fatal(err)
			}
		}
		inode := userNSOf(t, h.Process.Pid)
		// Another one in it, who has others.
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", h.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		second, err := linux.ParkInUserNS(int(ns.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		ids := idmap.NewSet()
		got := seen(t, inode)
		for _, l := range got {
			ids = ids.Union(l.IDs())
		}
		if len(got) != 2 || !ids.ContainsSet(setOf(3000007, 3, 3000011, 1)) {
			t.Errorf("half %v: %+v", half, got)
		}
		if err := errors.Join(second.Close(), ns.Close()); err != nil {
			t.Error(err)
		}
		h.end()
	}
}

// A namespace that is mounted for a container about to be started is held by whoever has that
// mount namespace.
func TestLiveStaged(t *testing.T) {
	requireRoot(t)
	p, err := linux.ParkInNewUserNS()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, file := range []string{"uid_map", "gid_map"} {
		if err := p.WriteFile(file, "0 3000000 10\n"); err != nil {
			t.Fatal(err)
		}
	}
	inode := userNSOf(t, p.PID())
	stage := &helper{Cmd: exec.Command("unshare", "--mount", "sh", "-ec",
		`mount -t tmpfs tmpfs /run; mkdir -p "${1%/*}"; touch "$1"; mount --bind "/proc/$2/ns/user" "$1"; echo ready; exec cat`, "sh", StagedNS, strconv.Itoa(p.PID()))}
	stage.start(t)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	found := func() (out []LiveNS) {
		all, err := Live()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			if l.Inode == inode {
				out = append(out, l)
			}
		}
		return out
	}
	if got := found(); len(got) != 1 || !got[0].Staged || got[0].PID != stage.Process.Pid {
		t.Errorf("got %+v", got)
	}
	stage.end()
	if got := found(); got != nil {
		t.Errorf("after its end: %+v", got)
	}
}

func TestNamespaceNumber(t *testing.T) {
	for text, want := range map[string]uint64{
		"user:[4026531837]": 4026531837, "": 0, "user:[]": 0, "user:[x]": 0, "user:[5": 0, "user:5]": 0, "pipe:[12]": 12, "user:[-1]": 0,
		"/some/file": 0,
	} {
		if got, ok := namespaceNumber(text); ok != (want != 0) || ok && got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
	if _, err := namespaceOf(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("the number of nothing")
	}
}
