// SPDX-License-Identifier: Apache-2.0

package delegate

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

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// target is a child in a new user namespace, which ends with the test.
func target(t *testing.T) *linux.Parked {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	child, err := linux.ParkInNewUserNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Close() })
	return child
}

func open(t *testing.T, pid int) *Process {
	t.Helper()
	p, err := OpenProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// shows wants these maps, and this setgroups, of the child.
func shows(t *testing.T, child *linux.Parked, uids, gids idmap.Map, setgroups string) {
	t.Helper()
	for file, want := range map[string]idmap.Map{"uid_map": uids, "gid_map": gids} {
		text, err := child.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if is, err := idmap.ParseMap(text); err != nil || !is.Equal(want) {
			t.Errorf("%s is %s, %v: expected %s", file, is, err, want)
		}
	}
	if is, err := child.ReadFile("setgroups"); err != nil || is != setgroups+"\n" {
		t.Errorf("setgroups is %q, %v: expected %q", is, err, setgroups)
	}
}

var (
	some = idmap.Map{{Inner: 0, Outer: 3000000, Count: 10}, {Inner: 10, Outer: 4000000, Count: 1}}
	more = idmap.Map{{Inner: 0, Outer: 5000000, Count: 65536}}
)

func TestWrite(t *testing.T) {
	requireRoot(t)
	for name, tc := range map[string]struct {
		steps     []Namespace
		uids      idmap.Map
		gids      idmap.Map
		setgroups string
	}{
		"both":                       {[]Namespace{{UIDs: some, GIDs: more}}, some, more, "allow"},
		"one after the other":        {[]Namespace{{UIDs: some}, {GIDs: more}}, some, more, "allow"},
		"the GIDs first":             {[]Namespace{{GIDs: some}, {UIDs: more}}, more, some, "allow"},
		"without setgroups":          {[]Namespace{{UIDs: some, GIDs: more, DenySetgroups: true}}, some, more, "deny"},
		"setgroups denied by UIDs":   {[]Namespace{{UIDs: some, DenySetgroups: true}, {GIDs: more}}, some, more, "deny"},
		"setgroups denied twice":     {[]Namespace{{GIDs: some, DenySetgroups: true}, {UIDs: more, DenySetgroups: true}}, more, some, "deny"},
		"setgroups alone":            {[]Namespace{{DenySetgroups: true}}, nil, nil, "deny"},
		"only UIDs":                  {[]Namespace{{UIDs: some}}, some, nil, "allow"},
		"host's root, by a root":     {[]Namespace{{UIDs: idmap.Map{{Inner: 5, Outer: 0, Count: 1}}}}, idmap.Map{{Inner: 5, Outer: 0, Count: 1}}, nil, "allow"},
		"as many extents as it goes": {[]Namespace{{UIDs: extents(idmap.MaxExtents)}}, extents(idmap.MaxExtents), nil, "allow"},
	} {
		t.Run(name, func(t *testing.T) {
			child := target(t)
			p := open(t, child.PID())
			if p.PID() != child.PID() {
				t.Errorf("number %d, expected %d", p.PID(), child.PID())
			}
			for _, want := range tc.steps {
				if err := p.Write(want); err != nil {
					t.Fatal(err)
				}
			}
			shows(t, child, tc.uids, tc.gids, tc.setgroups)
		})
	}
}

// extents is a map of n extents, in as little text as there can be, but for root.
func extents(n uint32) (m idmap.Map) {
	for i := range n {
		m = append(m, idmap.Extent{Inner: 2 * i, Outer: 2*i + 1, Count: 1})
	}
	return m
}

func TestWriteRefuses(t *testing.T) {
	requireRoot(t)
	long := extents(idmap.MaxExtents)
	for i := range long {
		long[i].Outer += 4000000000
	}
	for name, tc := range map[string]struct {
		before []Namespace
		want   Namespace
		err    error
		says   string
	}{
		"UIDs twice":             {[]Namespace{{UIDs: some}}, Namespace{UIDs: more}, ErrMapped, "uid_map: mapped already"},
		"GIDs twice":             {[]Namespace{{GIDs: some}}, Namespace{UIDs: more, GIDs: more}, ErrMapped, "gid_map: mapped already"},
		"nothing, where it is":   {[]Namespace{{UIDs: some}}, Namespace{GIDs: more, UIDs: some, DenySetgroups: true}, ErrMapped, "uid_map"},
		"setgroups, too late":    {[]Namespace{{GIDs: some}}, Namespace{UIDs: more, DenySetgroups: true}, unix.EPERM, "its GIDs are mapped already, with setgroups allowed"},
		"one extent too many":    {nil, Namespace{UIDs: extents(idmap.MaxExtents + 1)}, idmap.ErrMap, "341 extents: the kernel takes 340"},
		"more than a page":       {nil, Namespace{GIDs: long}, idmap.ErrMap, "the kernel takes 4095"},
		"one of two more than a": {nil, Namespace{GIDs: some, UIDs: long}, idmap.ErrMap, "UIDs: impossible map: 340 extents"},
		"overlapping":            {nil, Namespace{UIDs: append(idmap.Map{{Inner: 10, Outer: 9, Count: 1}}, some...)}, idmap.ErrMap, "inner [10-11)"},
		"another owner":          {nil, Namespace{UIDs: some, Owner: new(uint32)}, nil, "owner"},
	} {
		t.Run(name, func(t *testing.T) {
			child := target(t)
			p := open(t, child.PID())
			var now Namespace
			for _, step := range tc.before {
				if err := p.Write(step); err != nil {
					t.Fatal(err)
				}
				now = step
			}
			err := p.Write(tc.want)
			if err == nil || tc.err != nil && !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, expected %v and %q", err, tc.err, tc.says)
			}
			shows(t, child, now.UIDs, now.GIDs, "allow")
		})
	}
}

// Whoever is asked about, and isn't the caller's to map.
func TestOpenProcessRefuses(t *testing.T) {
	requireRoot(t)
	child := target(t)
	if err := open(t, child.PID()).Write(Namespace{UIDs: idmap.Map{{Inner: 0, Outer: 0, Count: 1}}, GIDs: idmap.Map{{Inner: 0, Outer: 0, Count: 1}}}); err != nil {
		t.Fatal(err)
	}
	start := func(attr syscall.SysProcAttr) int {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &attr
		attr.Pdeathsig = syscall.SIGKILL
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	ended := target(t)
	endedPID := ended.PID()
	if err := ended.Close(); err != nil {
		t.Fatal(err)
	}
	zero := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 3000000, Size: 1}}
	for name, tc := range map[string]struct {
		pid  int
		err  error
		says string
	}{
		"no number":                    {0, nil, "no process has this number"},
		"below":                        {-1, nil, "no process has this number"},
		"ended":                        {endedPID, unix.ENOENT, "there is none"},
		"in no namespace of its own":   {start(syscall.SysProcAttr{}), ErrNotTheirs, "in the caller's own user namespace"},
		"another user's":               {start(syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 3000007}}), ErrNotTheirs, "it runs as UID 3000007 and GID 0"},
		"another group's":              {start(syscall.SysProcAttr{Credential: &syscall.Credential{Gid: 3000007}}), ErrNotTheirs, "it runs as UID 0 and GID 3000007"},
		"in a namespace, as another":   {start(syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: zero, GidMappings: zero, Credential: &syscall.Credential{}}), ErrNotTheirs, "runs as UID 3000000"},
		"in a namespace one below":     {nested(t, child), ErrNotTheirs, "doesn't lie directly in the caller's own"},
		"in another's namespace, ours": {foreign(t), ErrNotTheirs, "belongs to UID 3000007"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := OpenProcess(tc.pid)
			if err == nil {
				p.Close()
				t.Fatal("opened")
			}
			if tc.err != nil && !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, expected %v and %q", err, tc.err, tc.says)
			}
		})
	}
}

// nested is a process in a user namespace inside the one of child, which has root in it.
func nested(t *testing.T, child *linux.Parked) int {
	t.Helper()
	cmd := exec.Command("nsenter", "--user", "--preserve-credentials", "--target", strconv.Itoa(child.PID()), "unshare", "--user", "sleep", "1000")
	return inNamespace(t, cmd, 2)
}

// foreign is a process of root's in a user namespace that somebody else owns.
func foreign(t *testing.T) int {
	t.Helper()
	owner := uint32(3000007)
	ns, err := Create(Namespace{UIDs: idmap.Map{{Inner: 0, Outer: 0, Count: 1}}, GIDs: idmap.Map{{Inner: 0, Outer: 0, Count: 1}}, Owner: &owner})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	cmd := exec.Command("nsenter", "--user=/proc/self/fd/3", "--preserve-credentials", "sleep", "1000")
	cmd.ExtraFiles = []*os.File{ns}
	return inNamespace(t, cmd, 1)
}

// inNamespace starts a command, and waits until it is sleep.
func inNamespace(t *testing.T, cmd *exec.Cmd, depth int) int {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return sleeps(t, cmd, depth)
}

// sleeps waits until the command is sleep.
func sleeps(t *testing.T, cmd *exec.Cmd, depth int) int {
	t.Helper()
	for range 500 {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)); string(name) == "sleep\n" {
			return cmd.Process.Pid
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 10e6}, nil)
	}
	t.Fatalf("%v isn't in its namespace, %d deep", cmd.Args, depth)
	return 0
}

// One that leaves its namespace for one below it is written to in neither.
func TestWriteToWhomLeft(t *testing.T) {
	requireRoot(t)
	cmd := exec.Command("unshare", "--user", "sh", "-c", "echo; read go; exec unshare --user sleep 1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	held := open(t, cmd.Process.Pid)
	own := idmap.Map{{Inner: 0, Outer: 0, Count: 1}}
	if err := open(t, cmd.Process.Pid).Write(Namespace{UIDs: own, GIDs: own}); err != nil {
		t.Fatal(err)
	}
	if err := held.Write(Namespace{UIDs: own}); !errors.Is(err, ErrMapped) {
		t.Errorf("mapped meanwhile: got %v", err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	pid := sleeps(t, cmd, 2)
	for name, want := range map[string]Namespace{"UIDs": {UIDs: own}, "GIDs": {GIDs: own}, "setgroups": {UIDs: own, DenySetgroups: true}} {
		if err := held.Write(want); !errors.Is(err, ErrSuspicious) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for file, want := range map[string]string{"uid_map": "", "gid_map": "", "setgroups": "allow\n"} {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file)); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v", file, text, err)
		}
	}
}

func TestOpenProcessFD(t *testing.T) {
	requireRoot(t)
	child := target(t)
	proc := fmt.Sprintf("/proc/%d", child.PID())
	openFD := func(path string, flags int) int {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	pidfd, err := unix.PidfdOpen(child.PID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	for name, fd := range map[string]int{"a directory": openFD(proc, unix.O_DIRECTORY), "a path": openFD(proc, unix.O_PATH), "a pidfd": pidfd} {
		p, err := OpenProcessFD(fd)
		if err != nil || p.PID() != child.PID() {
			t.Errorf("%s: %v, %v", name, p, err)
			continue
		}
		p.Close()
	}
	for name, fd := range map[string]int{
		"none": 1 << 20, "less than none": -1, "/proc": openFD("/proc", 0), "the directory of a thread": openFD(fmt.Sprintf("%s/task/%d", proc, child.PID()), 0),
		"another directory": openFD(proc+"/fd", 0), "a file": openFD(proc+"/uid_map", 0), "somewhere else": openFD("/", 0), "a namespace": openFD(proc+"/ns/user", 0),
	} {
		if p, err := OpenProcessFD(fd); err == nil {
			p.Close()
			t.Errorf("%s: taken for process %d", name, p.PID())
		}
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if _, err := OpenProcessFD(pipe[0]); err == nil {
		t.Error("a pipe: taken for a process")
	}
	shows(t, child, nil, nil, "allow")
}

// The number of a process that has ended becomes another's, who would be mapped
// by anybody that knows a process by its number alone.
func TestNumberReused(t *testing.T) {
	requireRoot(t)
	const inside = "USERNS_TEST_NUMBERS"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNumberReused$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestNumberReused") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, "")); err != nil {
		t.Fatal(err)
	}
	first := target(t)
	number := first.PID()
	held := open(t, number)
	entered := openTarget(t, number)
	dir, err := unix.Open(fmt.Sprintf("/proc/%d", number), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(number, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var second *linux.Parked
	for range 100 { // a thread of Go's may take the number in between
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(number-1)), 0); err != nil {
			t.Fatal(err)
		}
		if second = target(t); second.PID() == number {
			break
		}
	}
	if second.PID() != number {
		t.Fatalf("number %d wasn't given again", number)
	}
	if err := held.Write(Namespace{UIDs: some, GIDs: some, DenySetgroups: true}); !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("held by its directory: got %v", err)
	}
	firsts, err1 := entered.UserNS()
	seconds, err2 := openTarget(t, number).UserNS()
	if err := errors.Join(err1, err2); err != nil || firsts == seconds {
		t.Errorf("to be entered was the namespace %d, and by the number is %d: %v", firsts, seconds, err)
	}
	for name, fd := range map[string]int{"directory": dir, "pidfd": pidfd} {
		if p, err := OpenProcessFD(fd); err == nil {
			p.Close()
			t.Errorf("%s: taken for the process that has its number now", name)
		}
	}
	shows(t, second, nil, nil, "allow")
	// By its number it is the second one.
	if err := open(t, number).Write(Namespace{UIDs: some}); err != nil {
		t.Error(err)
	}
}
