// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func kindsOf(target *Target) (kinds []string) {
	for _, e := range target.Namespaces {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func openTarget(t *testing.T, pid int, without ...string) *Target {
	t.Helper()
	target, err := OpenTarget(pid, without)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

func TestOpenTarget(t *testing.T) {
	requireRoot(t)
	pid := inNamespace(t, exec.Command("unshare", "--user", "--map-root-user", "--mount", "--uts", "sleep", "1000"), 1)
	target := openTarget(t, pid)
	if got := kindsOf(target); !slices.Equal(got, []string{"user", "uts", "mnt"}) {
		t.Errorf("namespaces: %v", got)
	}
	if is := target.State; is.UIDs.String() != "0:0:1" || is.GIDs.String() != "0:0:1" || !is.DenySetgroups || is.Owner != 0 {
		t.Errorf("state: %+v", is)
	}
	if !target.Enters("mnt") || target.Enters("net") {
		t.Error("what it enters")
	}
	if got := kindsOf(openTarget(t, pid, "mnt")); !slices.Equal(got, []string{"user", "uts"}) {
		t.Errorf("without mnt: %v", got)
	}
}

func TestOpenTargetRefuses(t *testing.T) {
	requireRoot(t)
	// Another test may have left the process as making a namespace for somebody else does.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	restoreDumpable(t)
	child := target(t)
	root := idmap.Map{{Inner: 0, Outer: 0, Count: 1}}
	if err := open(t, child.PID()).Write(Namespace{UIDs: root, GIDs: root}); err != nil {
		t.Fatal(err)
	}
	hostNet := inNamespace(t, exec.Command("unshare", "--net", "unshare", "--user", "sleep", "1000"), 1)
	for name, tc := range map[string]struct {
		pid     int
		want    error
		message string
	}{
		"our own":            {os.Getpid(), ErrNotTheirs, "there is nothing to be entered"},
		"nested":             {nested(t, child), ErrNotTheirs, "directly"},
		"somebody else's":    {foreign(t), ErrNotTheirs, "belongs to UID 3000007"},
		"nobody":             {1 << 30, unix.ENOENT, "there is none"},
		"0":                  {0, nil, "no process has this number"},
		"the host's network": {hostNet, nil, "its net namespace belongs to another user namespace than the process is in, which isn't entered: leave it out: --without net"},
	} {
		got, err := OpenTarget(tc.pid, nil)
		if err == nil {
			got.Close()
			t.Errorf("%s: taken", name)
			continue
		}
		if tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.message) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := kindsOf(openTarget(t, hostNet, "net")); !slices.Equal(got, []string{"user"}) {
		t.Errorf("without net: %v", got)
	}
}

// A process goes from one user namespace to the next below it while it is looked at. What is
// taken is its first one, with what belongs to that, or nothing.
func TestTargetThatChanges(t *testing.T) {
	requireRoot(t)
	taken, refused := 0, 0
	for range 5 {
		// Each step of it is in the same process.
		const script = `n=$1; if [ "$n" -gt 0 ]; then exec unshare --user --uts --map-root-user sh -c "$2" sh $((n - 1)) "$2"; fi; exec sleep 1000`
		cmd := exec.Command("sh", "-c", script, "sh", "20", script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for name := ""; name != "sleep\n"; {
			target, err := OpenTarget(cmd.Process.Pid, nil)
			text, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
			if readErr != nil {
				t.Fatal(readErr)
			}
			name = string(text)
			if err != nil {
				refused++
				continue
			}
			taken++
			userns := target.Namespaces[0].File
			if err := judgeOwned(userns, ""); err != nil {
				t.Errorf("taken: %v", err)
			}
			for _, e := range target.Namespaces[1:] {
				owner, err := linux.OwningUserNS(e.File)
				if err != nil {
					t.Fatal(err)
				}
				if same, err := linux.SameFile(owner, userns); err != nil || !same {
					t.Errorf("%s belongs to another: %v", e.Kind, err)
				}
				owner.Close()
			}
			target.Close()
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if taken == 0 || refused == 0 {
		t.Errorf("%d were taken and %d refused: expected some of both", taken, refused)
	}
}

// What is held is the process' namespaces after its end too. That its number is another's by then is in
// TestNumberReused.
func TestTargetThatEnds(t *testing.T) {
	requireRoot(t)
	first := target(t)
	held := openTarget(t, first.PID())
	want, err := held.UserNS()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if is, err := held.UserNS(); err != nil || is != want {
		t.Errorf("%d, before %d: %v", is, want, err)
	}
	if err := judgeOwned(held.Namespaces[0].File, ""); err != nil {
		t.Error(err)
	}
}

func TestOwned(t *testing.T) {
	requireRoot(t)
	pid := inNamespace(t, exec.Command("unshare", "--user", "--map-root-user", "sleep", "1000"), 1)
	others := foreign(t)
	all, err := Owned()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(n OwnedNS) bool { return n.PID == pid && n.State.UIDs.String() == "0:0:1" }) {
		t.Errorf("process %d isn't in %v", pid, all)
	}
	if slices.ContainsFunc(all, func(n OwnedNS) bool { return n.PID == others || n.PID == os.Getpid() }) {
		t.Errorf("what isn't the caller's is in %v", all)
	}
}

func TestCgroupNames(t *testing.T) {
	text := "12:pids:/docker/0123\n1:name=systemd:/a/b-0123.scope\n0::/\n"
	if got := strings.Join(CgroupNames(text), " "); got != "0123 b-0123.scope " {
		t.Errorf("%q", got)
	}
	if got := CgroupNames(""); got != nil {
		t.Errorf("%q", got)
	}
}
