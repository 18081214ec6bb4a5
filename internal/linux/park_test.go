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
	"syscall"
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
	if signal, err := strconv.Atoi(os.Getenv(stopVar)); err == nil {
		fmt.Println("ready")
		for {
			_ = unix.Kill(-1, syscall.Signal(signal)) // there may be none
		}
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

// Whoever owns the namespace may stop the child that joins it: once, or all the time.
func TestHearStopped(t *testing.T) {
	for name, row := range map[string]struct {
		script string
		want   string
		err    error
	}{
		"not at all":   {"echo well", "well\n", nil},
		"once":         {"kill -STOP $$; echo well", "well\n", nil},
		"twice":        {"kill -STOP $$; kill -STOP $$; echo well", "well\n", nil},
		"all the time": {"while :; do kill -STOP $$; done", "", ErrHeldUp},
		"and ended":    {"kill -STOP $$; exit", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			patience = time.Second
			defer func() { patience = 10 * time.Second }()
			var pipe [2]int
			if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pipe[0])
			says := os.NewFile(uintptr(pipe[1]), "pipe")
			cmd := exec.Command("sh", "-c", row.script)
			cmd.Stdout = says
			err := cmd.Start()
			says.Close()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			var text [64]byte
			n, err := hear(cmd.Process.Pid, pipe[0], text[:])
			if string(text[:n]) != row.want || !errors.Is(err, row.err) {
				t.Errorf("got %q, %v", text[:n], err)
			}
		})
	}
}

// stopVar makes the test binary send that signal to what it may, but for itself, as fast as it can.
const stopVar = "USERNS_TEST_STOP"

// The owner of a namespace stops, or kills, whatever appears in it, and holds nobody up for good who looks at it.
func TestOwnerCannotHoldUpParked(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"stops": unix.SIGSTOP, "kills": unix.SIGKILL} {
		t.Run(name, func(t *testing.T) { heldUpBy(t, signal) })
	}
}

func heldUpBy(t *testing.T, signal syscall.Signal) {
	requireRoot(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	patience = time.Second
	defer func() { patience = 10 * time.Second }()
	owner := 2_000_000_000 + uint32(os.Getpid()) // nobody's, so that nothing else is stopped
	var ns *os.File
	err := AsEffectiveUser(owner, func() error {
		p, err := ParkInNewUserNS()
		if err != nil {
			return err
		}
		defer p.Close()
		ns, err = p.UserNS()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	stopper := exec.Command("/proc/self/fd/3") // which it can't walk to
	stopper.ExtraFiles = []*os.File{self}
	stopper.Env = append(os.Environ(), stopVar+"="+strconv.Itoa(int(signal)))
	stopper.Dir = "/"
	stopper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner, Gid: owner}, Pdeathsig: unix.SIGKILL}
	started(t, stopper, new(string))
	looked, heldUp := 0, 0
	for range 50 {
		start := time.Now()
		p, err := ParkInUserNS(int(ns.Fd()))
		if err == nil {
			_, err = p.ReadFile("uid_map")
			err = errors.Join(err, p.Close())
			looked++
		} else if errors.Is(err, ErrHeldUp) {
			err = nil
			heldUp++
		}
		if took := time.Since(start); err != nil || took > 5*time.Second {
			t.Fatalf("after %v: %v", took, err)
		}
	}
	t.Logf("looked %d times, held up %d times", looked, heldUp)
	if looked == 0 {
		t.Error("it was held up each time")
	}
}
