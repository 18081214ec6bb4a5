// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// inMountNS runs do where nothing that it mounts is seen by others.
func inMountNS(t *testing.T, do func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts: needs root")
	}
	onThread(t, func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			return err
		}
		return do()
	})
}

func TestOpenBelow(t *testing.T) {
	proc, err := OpenProc()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	own := strconv.Itoa(os.Getpid())
	for _, name := range []string{own, own + "/uid_map", "self/uid_map", own + "/task"} {
		f, err := OpenBelow(proc, name, unix.O_PATH)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f.Close()
	}
	for name, want := range map[string]error{
		"..": unix.EXDEV, "/etc": unix.EXDEV, own + "/root": unix.ELOOP, own + "/root/etc": unix.ELOOP, own + "/ns/user": unix.ELOOP, "self/cwd/.": unix.ELOOP, "none": unix.ENOENT,
	} {
		f, err := OpenBelow(proc, name, unix.O_RDONLY)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, expected %v", name, err, want)
		}
	}
}

// Who can mount can't have us look at something else than the kernel's own.
func TestOpenBelowMounted(t *testing.T) {
	inMountNS(t, func() error {
		other := "/proc/" + strconv.Itoa(os.Getppid())
		own := "/proc/" + strconv.Itoa(os.Getpid())
		if err := unix.Mount(other+"/uid_map", own+"/uid_map", "", unix.MS_BIND, ""); err != nil {
			return err
		}
		proc, err := OpenProc()
		if err != nil {
			return err
		}
		if f, err := OpenBelow(proc, own[len("/proc/"):]+"/uid_map", unix.O_RDONLY); !errors.Is(err, unix.EXDEV) {
			f.Close()
			t.Errorf("a file that is mounted over: got %v", err)
		}
		proc.Close()
		if err := unix.Mount(other, own, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if proc, err = OpenProc(); err != nil {
			return err
		}
		if f, err := OpenBelow(proc, own[len("/proc/"):], unix.O_PATH|unix.O_DIRECTORY); !errors.Is(err, unix.EXDEV) {
			f.Close()
			t.Errorf("a directory that is mounted over: got %v", err)
		}
		proc.Close()
		for name, over := range map[string]func() error{
			"a part of it":       func() error { return unix.Mount("/proc/sys", "/proc", "", unix.MS_BIND, "") },
			"another filesystem": func() error { return unix.Mount("tmpfs", "/proc", "tmpfs", 0, "") },
		} {
			if err := over(); err != nil {
				return err
			}
			if f, err := OpenProc(); !errors.Is(err, ErrNotProc) {
				f.Close()
				t.Errorf("%s: got %v", name, err)
			}
			if err := unix.Unmount("/proc", unix.MNT_DETACH); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestUserNSOf(t *testing.T) {
	proc, err := OpenProc()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	dir, err := OpenBelow(proc, "self", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	ns, err := UserNSOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	named, err := OpenNamespace("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	if same, err := SameFile(ns, named); err != nil || !same {
		t.Errorf("another namespace: %v", err)
	}
	if _, err := UserNSParent(named); !errors.Is(err, unix.EPERM) {
		t.Errorf("a parent that the caller isn't in: got %v", err)
	}
}

func TestProcessOf(t *testing.T) {
	proc, err := OpenProc()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if pid, err := ProcessOfPIDFD(proc, pidfd); err != nil || pid != os.Getpid() {
		t.Errorf("pidfd: %d, %v", pid, err)
	}
	if pid, err := ProcessOfPIDFD(proc, int(proc.Fd())); err != nil || pid != 0 {
		t.Errorf("no pidfd: %d, %v", pid, err)
	}
	if _, err := ProcessOfPIDFD(proc, 1<<20); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no descriptor: %v", err)
	}
	dir, err := os.Open("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if pid, err := ProcessOfDir(int(dir.Fd())); err != nil || pid != os.Getpid() {
		t.Errorf("directory: %d, %v", pid, err)
	}
	if pid, err := ProcessOfDir(int(proc.Fd())); err == nil {
		t.Errorf("/proc: %d", pid)
	}
}

func TestWithCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root's capabilities")
	}
	onThread(t, func() error {
		before, err := credentials()
		if err != nil {
			return err
		}
		stop := errors.New("stop")
		err = WithCapabilities(Caps(unix.CAP_SETUID, unix.CAP_CHECKPOINT_RESTORE), func() error {
			within, err := credentials()
			if err != nil {
				return err
			}
			if got := line(within, "CapEff:"); got != "CapEff:\t0000010000000080" {
				t.Errorf("in force: %s", got)
			}
			if line(within, "CapPrm:") != line(before, "CapPrm:") {
				t.Errorf("permitted: %s", line(within, "CapPrm:"))
			}
			return stop
		})
		if !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
		after, err := credentials()
		if after != before {
			t.Errorf("after: %s\nbefore: %s", after, before)
		}
		return err
	})
}

func TestRoomForSignals(t *testing.T) {
	for status, refused := range map[string]bool{
		"Threads:\t5\nSigQ:\t0/6\n":                    false,
		"Threads:\t5\nSigQ:\t0/5\n":                    true,
		"Threads:\t5\nSigQ:\t0/0\n":                    true,
		"Threads:\t5\nSigQ:\t1000/1006\n":              false,
		"Threads:\t5\nSigQ:\t1001/1006\n":              true,
		"Threads:\t5\nSigQ:\t7/0\n":                    true, // the limit was lowered since
		"Threads:\t5\nSigQ:\t0/18446744073709551615\n": false,
		"SigQ:\t0/100\n":                               true,
		"Threads:\t5\n":                                true,
	} {
		if err := roomForSignals(status); (err != nil) != refused {
			t.Errorf("%q: %v", status, err)
		}
	}
}

func TestFileCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs CAP_SETFCAP")
	}
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	is := func(set CapSet, want bool) {
		t.Helper()
		if got, err := GivesOnly(path, set); err != nil || got != want {
			t.Errorf("%#x: %v, %v", set, got, err)
		}
	}
	is(Caps(unix.CAP_SETUID), false)
	is(0, true)
	if err := GiveOnly(path, Caps(unix.CAP_SETUID)); err != nil {
		t.Fatal(err)
	}
	is(Caps(unix.CAP_SETUID), true)
	is(Caps(unix.CAP_SETGID), false)
	is(Caps(unix.CAP_SETUID, unix.CAP_SETGID), false)
	is(0, false)
	// A write takes them away.
	if err := os.WriteFile(path, []byte("y"), 0o755); err != nil {
		t.Fatal(err)
	}
	is(0, true)
	if err := GiveOnly(path+".none", 1); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no file: %v", err)
	}
}
