// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onThread runs do on a thread that ends with it.
func onThread(t *testing.T, do func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("acts as others: needs root")
	}
	// A change of IDs makes the whole process undumpable, which other tests mind.
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) })
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- do()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// credentials is what the kernel says of the calling thread.
func credentials() (string, error) {
	text, err := os.ReadFile("/proc/thread-self/status")
	var kept []string
	for line := range strings.SplitSeq(string(text), "\n") {
		for _, field := range []string{"Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:"} {
			if strings.HasPrefix(line, field) {
				kept = append(kept, line)
			}
		}
	}
	return strings.Join(kept, "\n"), err
}

func TestAsFileOwner(t *testing.T) {
	dir := t.TempDir()
	onThread(t, func() error {
		before, err := credentials()
		if err != nil {
			return err
		}
		var st unix.Stat_t
		stop := errors.New("stop")
		err = AsFileOwner(3000000, 3000001, func() error {
			path := filepath.Join(dir, "file")
			within, err := credentials()
			if err != nil {
				return err
			}
			if !strings.Contains(within, "Uid:\t0\t0\t0\t3000000\n") || !strings.Contains(within, "Gid:\t0\t0\t0\t3000001\n") {
				t.Errorf("IDs: %s", within)
			}
			if line(before, "CapEff:") != line(within, "CapEff:") {
				t.Errorf("capabilities: %s, before %s", line(within, "CapEff:"), line(before, "CapEff:"))
			}
			return errors.Join(os.WriteFile(path, nil, 0o600), unix.Stat(path, &st), stop)
		})
		if !errors.Is(err, stop) || errors.Is(err, ErrIdentity) {
			t.Errorf("got %v", err)
		}
		if st.Uid != 3000000 || st.Gid != 3000001 {
			t.Errorf("a file of %d:%d", st.Uid, st.Gid)
		}
		after, err := credentials()
		if after != before {
			t.Errorf("after: %s\nbefore: %s", after, before)
		}
		return err
	})
}

func line(text, prefix string) string {
	for l := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(l, prefix) {
			return l
		}
	}
	return ""
}

// A caller who may not become somebody else is told so, and is who they were.
func TestAsFileOwnerWithoutTheRight(t *testing.T) {
	onThread(t, func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		if err := unix.Capget(&header, &caps[0]); err != nil {
			return err
		}
		caps[0].Effective &^= 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
		caps[0].Permitted &^= 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
		if err := unix.Capset(&header, &caps[0]); err != nil {
			return err
		}
		before, err := credentials()
		if err != nil {
			return err
		}
		if err := AsFileOwner(3000000, 3000000, func() error { t.Error("it was done"); return nil }); err == nil {
			t.Error("no error")
		}
		after, err := credentials()
		if after != before {
			t.Errorf("after: %s\nbefore: %s", after, before)
		}
		return err
	})
}

// What is done has the UID and all capabilities; the caller's own threads are what they were.
func TestAsEffectiveUser(t *testing.T) {
	onThread(t, func() error {
		before, err := credentials()
		if err != nil {
			return err
		}
		stop := errors.New("stop")
		err = AsEffectiveUser(3000000, func() error {
			within, err := credentials()
			if err != nil {
				return err
			}
			if !strings.Contains(within, "Uid:\t0\t3000000\t0\t3000000\n") {
				t.Errorf("IDs: %s", within)
			}
			for _, set := range []string{"CapEff:", "CapPrm:", "Gid:", "Groups:"} {
				if line(before, set) != line(within, set) {
					t.Errorf("%s, before %s", line(within, set), line(before, set))
				}
			}
			return stop
		})
		if !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
		if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
			t.Errorf("the process is dumpable (%d): %v", dumpable, err)
		}
		after, err := credentials()
		if after != before {
			t.Errorf("after: %s\nbefore: %s", after, before)
		}
		return err
	})
}

// setresuid(2) takes the last ID for "unchanged".
func TestAsEffectiveUserOfNobody(t *testing.T) {
	if err := AsEffectiveUser(^uint32(0), func() error { t.Error("it was done"); return nil }); !errors.Is(err, unix.EINVAL) {
		t.Errorf("got %v", err)
	}
}

func TestInNamespace(t *testing.T) {
	onThread(t, func() error {
		own, err := OpenNamespace("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer own.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		other, err := OpenNamespace("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer other.Close()
		if same, err := SameFile(own, other); err != nil || same {
			t.Errorf("two namespaces are one: %v", err)
		}
		for name, ns := range map[string]*os.File{"the old one": own, "the new one": other} {
			err := InNamespace(ns, unix.CLONE_NEWNET, func() error {
				is, err := OpenNamespace("/proc/thread-self/ns/net")
				if err != nil {
					return err
				}
				defer is.Close()
				if same, err := SameFile(is, ns); err != nil || !same {
					t.Errorf("%s: the thread isn't in it: %v", name, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		is, err := OpenNamespace("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer is.Close()
		if same, err := SameFile(is, other); err != nil || !same {
			t.Errorf("the caller was moved: %v", err)
		}
		if err := InNamespace(own, unix.CLONE_NEWNS, func() error { t.Error("it was done"); return nil }); !errors.Is(err, unix.EINVAL) {
			t.Errorf("a network as a mount namespace: %v", err)
		}
		return nil
	})
}

func TestOwningUserNS(t *testing.T) {
	for _, path := range []string{"/proc/self/ns/net", "/proc/self/ns/mnt"} {
		ns, err := OpenNamespace(path)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		owner, err := OwningUserNS(ns)
		if err != nil {
			t.Fatal(err)
		}
		defer owner.Close()
		self, err := OpenNamespace("/proc/self/ns/user")
		if err != nil {
			t.Fatal(err)
		}
		defer self.Close()
		if same, err := SameFile(owner, self); err != nil || !same {
			t.Errorf("%s: it belongs to another: %v", path, err)
		}
		if flags, err := unix.FcntlInt(owner.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: the descriptor would be inherited: %v", path, err)
		}
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if owner, err := OwningUserNS(f); err == nil {
		t.Errorf("/dev/null: %v", owner.Name())
	}
}

// What the kernel says of an option that it doesn't take is in the error.
func TestFilesystemExplains(t *testing.T) {
	onThread(t, func() error {
		fs, err := OpenFilesystem("overlay")
		if err != nil {
			return err
		}
		defer fs.Close()
		err = fs.SetString("shuffle", "on")
		if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "shuffle=on") || !strings.Contains(err.Error(), "overlay: Unknown parameter") {
			t.Errorf("got %v", err)
		}
		return nil
	})
	if _, err := OpenFilesystem("nothing"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v", err)
	}
}
