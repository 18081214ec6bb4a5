// SPDX-License-Identifier: Apache-2.0

package lockedfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func appendInt(to []byte, n int) []byte { return strconv.AppendInt(to, int64(n), 10) }

// The file of the tests of many processes is lines, and their number at its end:
// one that is cut short or mixed from two shows.

func addLine(old []byte, line string) ([]byte, error) {
	lines, err := checked(old)
	if err != nil {
		return nil, err
	}
	text := strings.Join(append(lines, line, ""), "\n")
	return fmt.Appendf(nil, "%send %d\n", text, len(lines)+1), nil
}

func checked(data []byte) ([]string, error) {
	if len(data) == 0 {
		return nil, nil
	}
	text, ok := bytes.CutSuffix(data, []byte("\n"))
	lines := strings.Split(string(text), "\n")
	last := len(lines) - 1
	if !ok || lines[last] != fmt.Sprintf("end %d", last) {
		return nil, fmt.Errorf("not whole: %d bytes, %d lines, ends in %q", len(data), len(lines), lines[last])
	}
	return lines[:last], nil
}

// appendForever is a process that adds lines NAME:N, says each on its standard
// output when it is done, and stops after so many.
func appendForever(args string) {
	words := strings.Fields(args) // PATH NAME COUNT
	count, err := strconv.Atoi(words[2])
	for n := 0; err == nil && n < count; n++ {
		line := fmt.Sprintf("%s:%d", words[1], n)
		err = Edit(words[0], 0o644, func(old []byte) ([]byte, error) { return addLine(old, line) })
		if err == nil {
			_, err = os.Stdout.WriteString(line + "\n")
		}
		time.Sleep(time.Duration(rand.N(3000)) * time.Microsecond) // let others in
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

// watch reads the file over and over, as readers without a lock do, until stopped;
// it says how often.
func watch(t *testing.T, path string) (stop func() int) {
	end := make(chan struct{})
	count := make(chan int)
	go func() {
		n := 0
		for {
			data, err := os.ReadFile(path)
			if err == nil {
				_, err = checked(data)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a reader saw: %v", err)
			}
			n++
			select {
			case <-end:
				count <- n
				return
			case <-time.After(200 * time.Microsecond):
			}
		}
	}()
	return func() int { close(end); return <-count }
}

// wantLines wants each line that was reported once in the file, and nothing left
// beside it but what is named.
func wantLines(t *testing.T, path string, reported []string) map[string]int {
	t.Helper()
	lines, err := checked([]byte(get(t, path)))
	must(t, err)
	times := map[string]int{}
	for _, line := range lines {
		times[line]++
	}
	for _, line := range reported {
		if times[line] != 1 {
			t.Errorf("%s was done, and is %d times in the file", line, times[line])
		}
	}
	return times
}

func TestManyProcesses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	const processes, each = 16, 12
	var all []*exec.Cmd
	stop := watch(t, path)
	for n := range processes {
		cmd := self(fmt.Sprintf("append %s p%d %d", path, n, each))
		must(t, cmd.Start())
		all = append(all, cmd)
	}
	var reported []string
	for n, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v", n, err)
		}
		for m := range each {
			reported = append(reported, fmt.Sprintf("p%d:%d", n, m))
		}
	}
	if n := stop(); n < 10 {
		t.Errorf("the file was read %d times", n)
	}
	if times := wantLines(t, path, reported); len(times) != processes*each {
		t.Errorf("got %d lines", len(times))
	}
	if got := tree(t, dir); len(got) != 2 { // f and f-
		t.Errorf("left: %q", got)
	}
}

func TestManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	var wait sync.WaitGroup
	var inside atomic.Int32
	for n := range 50 {
		wait.Go(func() {
			err := Edit(path, 0o644, func(old []byte) ([]byte, error) {
				if inside.Add(1) != 1 {
					t.Error("two at once")
				}
				defer inside.Add(-1)
				return append(old, byte(n)), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	text := get(t, path)
	for n := range 50 {
		if strings.Count(text, string(rune(n))) != 1 {
			t.Errorf("%d is lost: %q", n, text)
		}
	}
	if got := tree(t, dir); len(text) != 50 || len(got) != 2 {
		t.Errorf("got %q, left %d files", text, len(got))
	}
}

// Killed at any instant, an edit is wholly done or not at all, what was reported
// is done, and the next edit goes on with no help.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	stop := watch(t, path)
	var mutex sync.Mutex
	var reported []string
	var wait sync.WaitGroup
	kills, rounds := atomic.Int32{}, 40
	for worker := range 3 {
		wait.Go(func() {
			for round := range rounds {
				cmd := self(fmt.Sprintf("append %s w%d.%d 1000000", path, worker, round))
				out, err := cmd.StdoutPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					t.Error(err)
					return
				}
				// Not before it works, or nothing is tested but its start.
				r := bufio.NewReader(out)
				first, _ := r.ReadString('\n')
				time.Sleep(rand.N(15 * time.Millisecond))
				_ = cmd.Process.Kill()
				rest, _ := io.ReadAll(r)
				err = cmd.Wait()
				if cmd.ProcessState.ExitCode() == -1 { // by a signal
					kills.Add(1)
				} else {
					t.Errorf("ended by itself: %v", err)
				}
				mutex.Lock()
				for line := range strings.Lines(first + string(rest)) {
					if line, ok := strings.CutSuffix(line, "\n"); ok {
						reported = append(reported, line)
					}
				}
				mutex.Unlock()
			}
		})
	}
	wait.Wait()
	reads := stop()
	if int(kills.Load()) != 3*rounds || len(reported) < 3*rounds {
		t.Errorf("%d killed, %d lines reported", kills.Load(), len(reported))
	}
	times := wantLines(t, path, reported)
	for line, n := range times {
		if n != 1 {
			t.Errorf("%s is there %d times", line, n)
		}
	}
	t.Logf("%d lines, %d reported, %d reads", len(times), len(reported), reads)
	must(t, Edit(path, 0o644, func(old []byte) ([]byte, error) { return addLine(old, "last") }))
	wantLines(t, path, append(reported, "last"))
	if _, err := checked([]byte(get(t, path+"-"))); err != nil {
		t.Errorf("backup: %v", err)
	}
	if got := tree(t, dir); len(got) != 2 {
		t.Errorf("left: %q", got)
	}
}

// hold takes the lock as another process would, by its file.
func hold(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	t.Cleanup(func() { f.Close() })
	return f
}

func TestHeld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put(t, path, "a", 0o600)
	hold(t, path)
	start := time.Now()
	err := edit(path, 0o644, 300*time.Millisecond, to("b"))
	wantError(t, err, path+".lock", "is still held by another edit", "fuser -v "+path+".lock")
	if took := time.Since(start); took < 300*time.Millisecond || took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	wantTree(t, dir, "f=a", "f.lock=")
}

// The one before lets go in either way: its file removed while it is held, as Edit
// does, or left and unlocked, as by kill -9. In between comes another one, who
// makes a lock file anew: nobody must take the removed one for it.
func TestHandedOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	first := hold(t, path)
	done := make(chan error)
	var order atomic.Int32
	go func() {
		done <- Edit(path, 0o644, func(old []byte) ([]byte, error) {
			if order.Load() != 2 {
				t.Errorf("went ahead at step %d", order.Load())
			}
			return append(old, 'x'), nil
		})
	}()
	time.Sleep(50 * time.Millisecond) // it waits by now
	order.Store(1)
	must(t, os.Remove(path+".lock"))
	second := hold(t, path)
	first.Close()
	time.Sleep(50 * time.Millisecond)
	order.Store(2)
	second.Close() // the file stays
	must(t, <-done)
	wantTree(t, dir, "f=x")
}

// Somebody removed the lock file by hand: another edit may run, so this one may
// not write, and must leave the other's lock alone.
func TestLockRemoved(t *testing.T) {
	for _, again := range []bool{false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		put(t, path, "a", 0o600)
		want := []string{"f=a"}
		err := Edit(path, 0o644, func([]byte) ([]byte, error) {
			must(t, os.Remove(path+".lock"))
			if again {
				hold(t, path)
				want = append(want, "f.lock=")
			}
			return []byte("b"), nil
		})
		wantError(t, err, path+".lock", "was removed or replaced by somebody while it was held")
		wantTree(t, dir, want...)
	}
}

// One that others can open isn't waited for: they could hold it for ever.
func TestUnsafeLock(t *testing.T) {
	for _, row := range []struct {
		mode os.FileMode
		uid  int
	}{{0o640, -1}, {0o604, -1}, {0o622, -1}, {0o600, 1000}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		put(t, path+".lock", "", row.mode)
		if row.uid >= 0 {
			needRoot(t)
			must(t, os.Chown(path+".lock", row.uid, -1))
		}
		err := Edit(path, 0o644, to("b"))
		wantError(t, err, path+".lock", fmt.Sprintf("has mode %04o: expected a file of UID %d", row.mode, os.Geteuid()), "rm "+path+".lock")
		wantTree(t, dir, "f.lock=")
	}
}

// While it is held, the lock is for its owner alone.
func TestLockMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, umask := range []int{0, 0o777} {
		before := unix.Umask(umask)
		err := Edit(path, 0o644, func([]byte) ([]byte, error) {
			st, err := os.Stat(path + ".lock")
			if err != nil || st.Mode() != 0o600 {
				t.Errorf("umask %#o: got %v, %v", umask, st, err)
			}
			return nil, nil
		})
		unix.Umask(before)
		must(t, err)
	}
}

// A change that panics doesn't keep the lock.
func TestPanic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put(t, path, "a", 0o600)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = Edit(path, 0o644, func([]byte) ([]byte, error) { panic("no") })
	}()
	wantTree(t, dir, "f=a")
	must(t, edit(path, 0o644, time.Second, to("b")))
}
