// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe" //nolint:depguard // PTRACE_GET_SYSCALL_INFO, which golang.org/x/sys/unix doesn't wrap

	"golang.org/x/sys/unix"
)

// changes is the system calls that change something on disk, or have it there for good.
var changes = []uint64{
	unix.SYS_MKDIRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT,
	unix.SYS_UTIMENSAT, unix.SYS_FSETXATTR, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FTRUNCATE, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
}

// syscallInfo is struct ptrace_syscall_info of ptrace(2), of an entry.
type syscallInfo struct {
	op      uint8
	_       [3]uint8
	arch    uint32
	_, _    uint64 // instruction and stack pointer
	nr      uint64
	args    [6]uint64
	_       [4]uint64
	_unused uint64
}

const syscallEntry = 1 // PTRACE_SYSCALL_INFO_ENTRY

// isChange says whether a thread that has stopped is about to change something.
func isChange(tid int) bool {
	var info syscallInfo
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || info.op != syscallEntry {
		return false
	}
	switch info.nr {
	case unix.SYS_OPENAT:
		return info.args[2]&(unix.O_CREAT|unix.O_TRUNC) != 0
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		return info.args[0] > 2 && info.args[2] > 8 // not the runtime's own, of an eventfd
	}
	return slices.Contains(changes, info.nr)
}

// killAt calls a verb in a process of its own, and ends that by SIGKILL when it is about to make its
// change number n. ended says that it had come to its end before.
func (w *world) killAt(n int, verb string) (ended bool) {
	w.t.Helper()
	runtime.LockOSThread() // one thread traces
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	w.must(err)
	cmd := exec.Command(self, w.data, w.host.Proc)
	cmd.Env = append(os.Environ(), childEnv+"="+verb)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	w.must(cmd.Start())
	pid := cmd.Process.Pid
	wait := func() (tid int, ws unix.WaitStatus) {
		tid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		w.must(err)
		return tid, ws
	}
	wait() // for its execve
	w.must(unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL))
	w.must(unix.PtraceSyscall(pid, 0))
	for {
		tid, ws := wait()
		switch {
		case tid == pid && ws.Exited():
			if ws.ExitStatus() != 0 {
				w.t.Fatalf("%s, before its change %d: exit code %d", verb, n, ws.ExitStatus())
			}
			return true
		case tid == pid && ws.Signaled(): //nolint:misspell // its name
			return false
		case !ws.Stopped():
			continue
		}
		signal := 0
		switch stop := ws.StopSignal(); {
		case stop == unix.SIGTRAP|0x80:
			if isChange(tid) {
				if n--; n == 0 {
					w.must(unix.Kill(pid, unix.SIGKILL))
					continue
				}
			}
		case stop != unix.SIGTRAP && stop != unix.SIGSTOP: // those are the tracer's
			signal = int(stop)
		}
		_ = unix.PtraceSyscall(tid, signal) // it may be gone
	}
}

// SIGKILL before each change of migrate, and of restore: one more call finishes what was begun, or undoes
// it.
func TestKilledAtEveryStep(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 5 // each is a process of its own
	}
	w := newWorld(t)
	w.fill()
	before := w.manifest()
	_, err := w.do("migrate to", false)
	w.must(err)
	withRoot := w.manifest()
	w.fill()
	_, err = w.do("migrate", false)
	w.must(err)
	after := w.manifest()
	for _, row := range []struct{ verb, then, want string }{
		{"migrate", "migrate", after},
		{"migrate", "restore", before},
		{"migrate to", "migrate to", withRoot},
		{"migrate to", "restore", before},
		{"restore", "restore", before},
		{"restore", "migrate", after},
	} {
		t.Run(row.verb+", killed, then "+row.then, func(t *testing.T) {
			w.t = t
			n := 1
			for ; ; n += step {
				w.fill()
				if row.verb == "restore" {
					_, err := w.do("migrate to", false)
					w.must(err)
				}
				if w.killAt(n, row.verb) {
					break
				}
				w.closed(n)
				_, err := w.do(row.then, false)
				w.must(err)
				got := w.manifest()
				if row.verb == "restore" && row.then == "migrate" {
					// The tenant's root is empty, and may be gone already.
					got = without(got, tenant.String())
				}
				w.same(fmt.Sprintf("killed at change %d", n), row.want, got)
				again, err := w.do(row.then, false)
				w.must(err)
				if t.Failed() || len(again.Steps) > 0 {
					t.Fatalf("killed at change %d; a second call after that does: %+v", n, again.Steps)
				}
			}
			t.Logf("%d changes, or up to %d less", n-1, step-1)
			if n < 30 {
				t.Errorf("only %d changes were seen: it has more", n-1)
			}
		})
	}
}

// without is a manifest without what is in one directory.
func without(manifest, dir string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(manifest, "\n"), func(l string) bool { return strings.HasPrefix(l, dir) }), "\n")
}

// closed wants what the super-root's mode had closed to others to be so at any moment: they may get into it
// only while it has nothing but roots.
func (w *world) closed(n int) {
	w.t.Helper()
	info, err := os.Stat(w.data)
	w.must(err)
	names, err := os.ReadDir(w.data)
	w.must(err)
	for _, e := range names {
		if _, isRoot := ParseIdentity(e.Name()); info.Mode()&0o005 != 0 && !isRoot && !ours(e.Name()) {
			w.t.Errorf("killed at change %d: %s was open to others", n, e.Name())
		}
	}
}
