// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("maps foreign IDs: needs root")
	}
}

func mapped(t *testing.T) *Parked {
	t.Helper()
	p, err := ParkInNewUserNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	for _, file := range []string{"gid_map", "uid_map"} {
		if err := p.WriteFile(file, "0 3000000 65536\n"); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestParkedEnds(t *testing.T) {
	p, err := ParkInNewUserNS()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.PID(), 0); err != nil {
		t.Fatalf("it isn't there: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.PID(), 0); !errors.Is(err, unix.ESRCH) {
		t.Fatalf("it is still there: %v", err)
	}
}

// A child that held what the caller has open would keep pipes from their end.
func TestParkedHoldsNothing(t *testing.T) {
	for name, park := range map[string]func() (*Parked, error){
		"new": ParkInNewUserNS,
		"joined": func() (*Parked, error) {
			ns, err := mapped(t).UserNS()
			if err != nil {
				return nil, err
			}
			defer ns.Close()
			return ParkInUserNS(int(ns.Fd()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			requireRoot(t)
			p, err := park()
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			// The last one, by which it reports, it closes after that.
			deadline := time.Now().Add(10 * time.Second)
			for {
				held, err := os.ReadDir("/proc/" + strconv.Itoa(p.PID()) + "/fd")
				if err == nil && len(held) == 0 {
					return
				}
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("it holds %v %v", held, err)
				}
				runtime.Gosched()
			}
		})
	}
}

func TestParkInUserNSRefusesWhatIsNone(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var call *os.SyscallError
	if p, err := ParkInUserNS(int(f.Fd())); !errors.As(err, &call) || call.Syscall != "setns" {
		t.Fatalf("got %v %v", p, err)
	}
}

// traceVar makes the test binary try to trace the process it names.
const traceVar = "USERNS_TEST_TRACE"

func TestMain(m *testing.M) {
	if pid, err := strconv.Atoi(os.Getenv(traceVar)); err == nil {
		runtime.LockOSThread()
		if err := unix.PtraceSeize(pid); err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Root of a namespace that is looked into must not be able to take over the
// process that looks: it has the host's root for its UID, and its files.
func TestRootInsideCannotTraceParked(t *testing.T) {
	requireRoot(t)
	inside := mapped(t)
	ns, err := inside.UserNS()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	looking, err := ParkInUserNS(int(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer looking.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()

	// Root inside, with all capabilities there. It runs this binary by a
	// descriptor, since it can't walk to where it is.
	trace := func(pid int) (string, error) {
		cmd := exec.Command("nsenter", "--user=/proc/"+strconv.Itoa(inside.PID())+"/ns/user", "--setuid=0", "--setgid=0", "/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{self}
		cmd.Env = append(os.Environ(), traceVar+"="+strconv.Itoa(pid))
		output, err := cmd.CombinedOutput()
		return string(output), err
	}
	// The one that made the namespace is as good as any to show that root
	// inside can trace at all.
	if output, err := trace(inside.PID()); err != nil {
		t.Fatalf("root inside can't trace anything, so this test shows nothing: %v: %s", err, output)
	}
	if output, err := trace(looking.PID()); err == nil || !strings.Contains(output, "not permitted") {
		t.Errorf("root inside can trace the process that looks at its namespace: %v: %s", err, output)
	}
}
