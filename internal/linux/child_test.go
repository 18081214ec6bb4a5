// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outputOf runs the program after the script, with a pipe for its standard output,
// and gives what it wrote and how it ended.
func outputOf(t *testing.T, s *Script, program Program) (string, unix.WaitStatus, error) {
	t.Helper()
	// The thread must outlive the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.Call("dup2", unix.SYS_DUP3, w.Fd(), 1, 0)
	child, err := s.Fork(0, program)
	w.Close()
	if err != nil {
		return "", 0, err
	}
	if err := child.Become(nil); err != nil {
		return "", 0, errors.Join(err, child.Close())
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	status, err := child.Wait(0)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), status, child.Close()
}

func sh(command string, args ...string) Program {
	return Program{File: "/bin/sh", Argv: append([]string{"sh", "-c", command}, args...), Env: []string{"A=1", "B=2"}}
}

func TestScriptBecomesItsProgram(t *testing.T) {
	dir := t.TempDir()
	var s Script
	s.Call("chdir", unix.SYS_CHDIR, s.Text(dir))
	s.CallAccepting(unix.EBADF, "close", unix.SYS_CLOSE, 99999)
	text, status, err := outputOf(t, &s, sh(`pwd; echo "$A$B $0 $1"; exit 7`, "zero", "one"))
	if err != nil || text != dir+"\n12 zero one\n" || status.ExitStatus() != 7 {
		t.Errorf("got %q, status %d, %v", text, status.ExitStatus(), err)
	}
}

// A link in /proc leads to what is open, until it is closed.
func TestScriptClosesOthers(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	link := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd()))
	open, closed := Script{}, Script{}
	open.Call("chdir", unix.SYS_CHDIR, open.Text(link))
	if text, _, err := outputOf(t, &open, sh("pwd")); err != nil || text != dir.Name()+"\n" {
		t.Errorf("while it is open: got %q, %v", text, err)
	}
	closed.CloseOthers()
	closed.Call("chdir", unix.SYS_CHDIR, closed.Text(link))
	_, _, err = outputOf(t, &closed, sh("pwd"))
	var step *StepError
	if !errors.As(err, &step) || step.Step != "chdir" || step.Errno != unix.ENOENT {
		t.Errorf("when it was closed: got %v, expected ENOENT of chdir", err)
	}
	last := Script{}
	last.CloseOthers()
	child, err := last.Fork(0, sh("exit 5"))
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if err := child.Become(nil); err != nil {
		t.Fatalf("it became no program: %v", err)
	}
	if status, err := child.Wait(0); err != nil || status.ExitStatus() != 5 {
		t.Errorf("got status %d, %v, expected 5", status.ExitStatus(), err)
	}
}

// What the program has is the caller's, but for what Go did to it.
func TestScriptLeavesNothingOfGo(t *testing.T) {
	hidden, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer hidden.Close()
	open, err := KeepAcrossExec(hidden, 50)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(open)
	var first, second Script
	text, _, err := outputOf(t, &first, Program{File: "cat", Path: "/usr/bin:/bin", Argv: []string{"cat", "/proc/self/status"}})
	if err != nil {
		t.Fatal(err)
	}
	const none = "0000000000000000"
	if !strings.Contains(text, "SigPnd:\t"+none+"\nShdPnd:\t"+none+"\nSigBlk:\t"+none+"\n") || !strings.Contains(text, "SigCgt:\t"+none+"\n") {
		t.Errorf("signals: %s", text)
	}
	text, status, err := outputOf(t, &second, sh(`echo /proc/self/fd/*; kill -TERM $$`))
	if err != nil || status.Signal() != unix.SIGTERM {
		t.Errorf("status %#x, %v", status, err)
	}
	fds := strings.Fields(text)
	if slices.Contains(fds, "/proc/self/fd/50") || !slices.Contains(fds, "/proc/self/fd/2") {
		t.Errorf("descriptors: %v", fds)
	}
}

func TestScriptFails(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"closed/tool": "", "plain/tool": "echo plain $0 $1\n", "there/tool": "#!/bin/sh\necho there $1\n"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o700)
		if content == "" {
			mode = 0o600
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	closed, plain, there := dir+"/closed", dir+"/plain", dir+"/there"
	for name, tc := range map[string]struct {
		file, path string
		want       string
		errno      syscall.Errno
	}{
		"the first":                        {"tool", there + ":" + plain, "there x\n", 0},
		"behind one that isn't there":      {"tool", "/nonexistent:" + there, "there x\n", 0},
		"behind one that may not be run":   {"tool", closed + ":" + there, "there x\n", 0},
		"behind a file for a directory":    {"tool", there + "/tool:" + there, "there x\n", 0},
		"one without a format":             {"tool", plain + ":" + there, "plain " + plain + "/tool x\n", 0},
		"by its path":                      {there + "/tool", closed, "there x\n", 0},
		"none":                             {"tool", "/nonexistent:/", "", unix.ENOENT},
		"none that may be run":             {"tool", closed + ":/nonexistent", "", unix.EACCES},
		"no name":                          {"", there, "", unix.ENOENT},
		"no directories, not even the one": {"tool", "", "", unix.ENOENT},
		"a directory":                      {dir, there, "", unix.EACCES},
	} {
		t.Run(name, func(t *testing.T) {
			var s Script
			text, _, err := outputOf(t, &s, Program{File: tc.file, Path: tc.path, Argv: []string{"tool", "x"}})
			var step *StepError
			switch {
			case tc.errno == 0 && (err != nil || text != tc.want):
				t.Errorf("got %q, %v", text, err)
			case tc.errno != 0 && (!errors.As(err, &step) || step.Step != StepExecve || step.Errno != tc.errno):
				t.Errorf("got %v, expected %v of execve", err, tc.errno)
			}
		})
	}
	var s Script
	s.Call("first", unix.SYS_GETPID)
	s.Call("chdir(/nonexistent)", unix.SYS_CHDIR, s.Text("/nonexistent"))
	var step *StepError
	if _, _, err := outputOf(t, &s, sh("true")); !errors.As(err, &step) || step.Step != "chdir(/nonexistent)" || step.Errno != unix.ENOENT {
		t.Errorf("got %v", err)
	}
	var nul, many Script
	nul.Text("a\x00b")
	many.Call("many", unix.SYS_GETPID, 1, 2, 3, 4, 5, 6, 7)
	for name, tc := range map[string]struct {
		script  Script
		program Program
	}{
		"a NUL byte in a text": {nul, sh("true")}, "seven arguments": {many, sh("true")},
		"a NUL byte in an argument": {Script{}, sh("a\x00b")}, "a NUL byte in the path": {Script{}, Program{File: "a\x00b"}},
		"a NUL byte in the environment": {Script{}, Program{File: "/bin/true", Env: []string{"a\x00b"}}},
	} {
		if child, err := tc.script.Fork(0, tc.program); err == nil {
			t.Errorf("%s: forked: %v", name, child.Close())
		}
	}
}

// A child stands where the parent has it stand, and dies when it is closed.
func TestScriptStopsAndEnds(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir := t.TempDir()
	var s Script
	s.Sync()
	s.Call("mkdir", unix.SYS_MKDIRAT, ^uintptr(99), s.Text(dir+"/made"), 0o700) // AT_FDCWD
	s.Sync()
	child, err := s.Fork(0, sh("sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Reach(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/made"); err == nil {
		t.Error("it went on")
	}
	// No signal finds Go's handlers in it, and of each pipe it has its own end only.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child.PID()))
	if err != nil || !strings.Contains(string(status), "SigBlk:\tfffffffffffbfeff\n") { // all but SIGKILL and SIGSTOP
		t.Errorf("signals: %s, %v", status, err)
	}
	for name, ours := range map[string]int{"report": child.report, "gate": child.gate} {
		if n := endsOf(t, child.PID(), ours); n != 1 {
			t.Errorf("%s: it has %d ends", name, n)
		}
	}
	if err := child.Pass(); err != nil {
		t.Fatal(err)
	}
	if err := child.Reach(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/made"); err != nil {
		t.Error(err)
	}
	pid := child.PID()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// It is gone, and can't be waited for but by its parent.
	if err := child.Pass(); err != nil && !errors.Is(err, ErrChildEnded) {
		t.Error(err)
	}
	if err := child.Reach(); !errors.Is(err, ErrChildEnded) {
		t.Errorf("got %v", err)
	}
	if err := child.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("it is still there: %v", err)
	}
}

// endsOf is how many descriptors a process has of the pipe that fd is an end of here.
func endsOf(t *testing.T, pid, fd int) (n int) {
	t.Helper()
	pipe, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	open, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range open {
		if link, err := os.Readlink(dir + e.Name()); err == nil && link == pipe {
			n++
		}
	}
	return n
}

func TestDieBySaysWhatAShellWould(t *testing.T) {
	if code := DieBy(unix.SIGCHLD); code != 128+int(unix.SIGCHLD) { // which ends nobody
		t.Errorf("got %d", code)
	}
}

// The child's own child is waited for in its place, with its exit code, its signals, and its errors.
func TestScriptAgain(t *testing.T) {
	var fine Script
	fine.Again()
	text, status, err := outputOf(t, &fine, sh("echo again; exit 6"))
	if err != nil || text != "again\n" || status.ExitStatus() != 6 {
		t.Errorf("got %q, status %d, %v", text, status.ExitStatus(), err)
	}
	var killed Script
	killed.Again()
	if _, status, err := outputOf(t, &killed, sh("kill -USR1 $$")); err != nil || status.Signal() != unix.SIGUSR1 {
		t.Errorf("by a signal: %v, %v", status.Signal(), err)
	}
	var later Script
	later.Again()
	later.Call("chdir(/nowhere)", unix.SYS_CHDIR, later.Text("/nowhere/at/all"))
	var step *StepError
	if _, _, err := outputOf(t, &later, sh("true")); !errors.As(err, &step) || step.Step != "chdir(/nowhere)" || !errors.Is(err, unix.ENOENT) {
		t.Errorf("a step of the second: %v", err)
	}
	var gone Script
	gone.Again()
	if _, _, err := outputOf(t, &gone, Program{File: "/nowhere/at/all", Argv: []string{"x"}}); !errors.As(err, &step) || step.Step != StepExecve {
		t.Errorf("no program: %v", err)
	}
}

// A first child that ends before it says who its child is leaves nobody waiting.
func TestScriptAgainEnds(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var s Script
	s.Call("exit_group", unix.SYS_EXIT_GROUP, 3)
	s.Again()
	child, err := s.Fork(0, sh("true"))
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Become(nil); !errors.Is(err, ErrChildEnded) {
		t.Errorf("got %v", err)
	}
	if err := child.Close(); err != nil {
		t.Error(err)
	}
}

// The child's own child may be stopped, by those it is among, before it has made one step: then it ends with the
// parent all the same.
func TestScriptAgainStopped(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 20 {
		var s Script
		s.Again()
		child, err := s.Fork(0, sh("sleep 1000"))
		if err != nil {
			t.Fatal(err)
		}
		step, number, err := child.readOrEnd()
		if err == nil && step != moved { // it is late to stop it
			step, number, err = child.readOrEnd()
		}
		if err != nil || step != moved {
			t.Fatalf("record %d, %d, %v", step, number, err)
		}
		pid := int(number)
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Wait4(pid, nil, unix.WUNTRACED, nil); err != nil {
			t.Fatal(err)
		}
		// To the other end it is as if this process were gone.
		unix.Close(child.gate)
		child.gate = -1
		var status unix.WaitStatus
		deadline := time.Now().Add(10 * time.Second)
		for gone := 0; gone == 0; {
			if gone, err = unix.Wait4(pid, &status, unix.WNOHANG, nil); err != nil {
				t.Fatal(err)
			}
			if gone == 0 && time.Now().After(deadline) {
				_ = unix.Kill(pid, unix.SIGKILL)
				t.Fatal("it is still there")
			}
			time.Sleep(time.Millisecond)
		}
		if status.Signal() != unix.SIGKILL {
			t.Errorf("it ended otherwise: %#x", status)
		}
		if err := child.Close(); err != nil {
			t.Error(err)
		}
	}
}

// started starts a process that ends with the test, and reads into word what it says first.
func started(t *testing.T, cmd *exec.Cmd, word any) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := fmt.Fscan(out, word); err != nil {
		t.Fatal(err)
	}
}

// A first child that somebody has taken over can't have another process ended in its place.
func TestScriptAgainElsewhere(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Not a child of ours, but a child's.
	parent := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	var elsewhere int
	started(t, parent, &elsewhere)
	defer func() { _ = unix.Kill(elsewhere, unix.SIGKILL) }()
	var s Script
	s.Again()
	child, err := s.Fork(0, sh("true"))
	if err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	record := binary.NativeEndian.AppendUint32(nil, 1<<32-2) // moved
	if _, err := unix.Write(pipe[1], binary.NativeEndian.AppendUint32(record, uint32(elsewhere))); err != nil {
		t.Fatal(err)
	}
	unix.Close(pipe[1])
	unix.Close(child.report)
	child.report = pipe[0]
	if err := child.Reach(); !errors.Is(err, unix.ECHILD) {
		t.Errorf("got %v", err)
	}
	if err := child.Close(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", elsewhere))
	if err != nil || strings.Contains(string(text), ") Z ") {
		t.Errorf("it was ended: %s, %v", text, err)
	}
}
