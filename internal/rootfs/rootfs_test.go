// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// inPrivateMounts runs do on a thread with mounts of its own, which end with
// it: the goroutine is never unlocked.
func inPrivateMounts(t *testing.T, do func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts: needs root")
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			result <- err
			return
		}
		if err := linux.PrivateMounts(); err != nil {
			result <- err
			return
		}
		result <- do()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func mountsNow(t *testing.T) []*mountinfo.Info {
	t.Helper()
	mounts, err := Mounts()
	if err != nil {
		t.Error(err)
	}
	return mounts
}

func newUserNS(t *testing.T) *os.File {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("maps foreign IDs: needs root")
	}
	m := idmap.Map{{Inner: 0, Outer: 3000000, Count: 65536}}
	ns, err := delegate.Create(delegate.Namespace{UIDs: m, GIDs: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// A root filesystem below a closed directory, with a file of inner UID 5 and a
// filesystem mounted in it.
func TestPrepare(t *testing.T) {
	ns := newUserNS(t)
	closed := filepath.Join(t.TempDir(), "closed")
	source, target := filepath.Join(closed, "rootfs"), t.TempDir()
	for _, dir := range []string{closed, source, filepath.Join(source, "mnt")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(closed, 0o700), os.WriteFile(filepath.Join(source, "file"), nil, 0o644), os.Chown(filepath.Join(source, "file"), 5, 7)); err != nil {
		t.Fatal(err)
	}
	owner := func(path string) [2]uint32 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return [2]uint32{idmap.Invalid, idmap.Invalid}
		}
		return [2]uint32{st.Uid, st.Gid}
	}
	for method, want := range map[Method]map[string][2]uint32{
		IDMap: {"": {3000000, 3000000}, "file": {3000005, 3000007}, "mnt": {0, 0}},
		AsIs:  {"": {0, 0}, "file": {5, 7}, "mnt": {0, 0}},
	} {
		t.Run(string(method), func(t *testing.T) {
			inPrivateMounts(t, func() error {
				// What is mounted below the root filesystem keeps its owners.
				if err := linux.MountTmpfs(filepath.Join(source, "mnt"), 0o755); err != nil {
					return err
				}
				dir, err := Open(source)
				if err != nil {
					return err
				}
				defer dir.Close()
				request := Request{Source: dir, Mounts: mountsNow(t), Target: target}
				if method == IDMap {
					request.UserNS, request.Within = ns, []string{"/nowhere", closed}
				}
				got, err := Prepare(request)
				if err != nil || got != method {
					t.Errorf("got %q %v", got, err)
				}
				for name, want := range want {
					if got := owner(filepath.Join(target, name)); got != want {
						t.Errorf("%q: owner %v, expected %v", name, got, want)
					}
				}
				return nil
			})
			if got := owner(filepath.Join(source, "file")); got != [2]uint32{5, 7} {
				t.Errorf("on disk: owner %v", got)
			}
			if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
				t.Errorf("the host has %v %v on the target", entries, err)
			}
		})
	}
}

func TestPrepareRefuses(t *testing.T) {
	ns := newUserNS(t)
	inPrivateMounts(t, func() error {
		dir, target := t.TempDir(), t.TempDir()
		ram := filepath.Join(dir, "ram")
		if err := os.Mkdir(ram, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("ramfs", ram, "ramfs", 0, ""); err != nil {
			return err
		}
		source, err := Open(ram)
		if err != nil {
			return err
		}
		defer source.Close()
		method, err := Prepare(Request{Source: source, Mounts: mountsNow(t), Target: target, UserNS: ns, Within: []string{dir}, AllowExposed: true})
		if !errors.Is(err, ErrNoIDMap) || method != "" || !strings.Contains(err.Error(), "on ramfs") {
			t.Errorf("ramfs: got %q %v", method, err)
		}
		if mounted, err := mountinfo.Mounted(target); err != nil || mounted {
			t.Errorf("ramfs: something is mounted: %v %v", mounted, err)
		}
		return nil
	})
}

func TestPrepareRefusesElsewhere(t *testing.T) {
	ns := newUserNS(t)
	inPrivateMounts(t, func() error {
		dir, target := t.TempDir(), t.TempDir()
		for name, within := range map[string][]string{
			"nowhere": nil, "the directory itself": {dir}, "a name that begins alike": {dir[:len(dir)-1]}, "below it": {filepath.Join(dir, "x")},
		} {
			source, err := Open(dir)
			if err != nil {
				return err
			}
			method, err := Prepare(Request{Source: source, Mounts: mountsNow(t), Target: target, UserNS: ns, Within: within, AllowExposed: true})
			if !errors.Is(err, ErrOutside) || method != "" {
				t.Errorf("%s: got %q %v", name, method, err)
			}
			source.Close()
		}
		return nil
	})
}

// A device node in an image belongs to root inside, once shifted: it must not
// open the device.
func TestPrepareShutsDevices(t *testing.T) {
	ns := newUserNS(t)
	inPrivateMounts(t, func() error {
		dir, target := t.TempDir(), t.TempDir()
		rootfs := filepath.Join(dir, "rootfs")
		null := filepath.Join(rootfs, "null")
		if err := errors.Join(os.Mkdir(rootfs, 0o755), unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))); err != nil {
			return err
		}
		if f, err := os.Open(null); err != nil {
			t.Skip("device nodes can't be opened here at all: ", err)
		} else {
			f.Close()
		}
		source, err := Open(rootfs)
		if err != nil {
			return err
		}
		defer source.Close()
		for _, userns := range []*os.File{ns, nil} {
			method, err := Prepare(Request{Source: source, Mounts: mountsNow(t), Target: target, UserNS: userns, Within: []string{dir}, AllowExposed: true})
			if err != nil {
				return err
			}
			if f, err := os.Open(filepath.Join(target, "null")); !errors.Is(err, unix.EACCES) {
				f.Close()
				t.Errorf("%s: the device can be opened: %v", method, err)
			}
			if err := unix.Unmount(target, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(dir, link)); err != nil {
		t.Fatal(err)
	}
	f, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Name() != dir {
		t.Errorf("got %s, expected %s", f.Name(), dir)
	}
	for _, path := range []string{file, filepath.Join(dir, "nowhere")} {
		if f, err := Open(path); err == nil {
			f.Close()
			t.Errorf("%s could be opened", path)
		}
	}
}

func TestPaths(t *testing.T) {
	mounts := []*mountinfo.Info{
		{ID: 1, Major: 8, Minor: 1, Root: "/", Mountpoint: "/", Options: "rw,relatime"},
		{ID: 2, Major: 0, Minor: 9, Root: "/", Mountpoint: "/tmp", Options: "rw"},
		{ID: 3, Major: 8, Minor: 1, Root: "/var/lib/images", Mountpoint: "/srv/images", Options: "rw"},
		{ID: 4, Major: 8, Minor: 1, Root: "/var/lib/images", Mountpoint: "/srv/safe", Options: "ro,nosuid,relatime"},
		{ID: 5, Major: 8, Minor: 1, Root: "/var/lib/images/a/rootfs/etc", Mountpoint: "/etc2", Options: "rw"},
		{ID: 6, Major: 8, Minor: 1, Root: "/var/lib/images/a", Mountpoint: "/mnt", Options: "rw"},
	}
	for name, tc := range map[string]struct {
		path string
		id   int
		want []string
	}{
		"by its own mount":    {"/var/lib/images/a/rootfs", 1, []string{"/var/lib/images/a/rootfs", "/srv/images/a/rootfs", "/etc2", "/mnt/rootfs"}},
		"by a bind mount":     {"/srv/images/a/rootfs", 3, []string{"/var/lib/images/a/rootfs", "/srv/images/a/rootfs", "/etc2", "/mnt/rootfs"}},
		"the bind's root":     {"/mnt", 6, []string{"/var/lib/images/a", "/srv/images/a", "/etc2", "/mnt"}},
		"no part elsewhere":   {"/var/lib/images/a/rootfs/etc/x", 1, []string{"/var/lib/images/a/rootfs/etc/x", "/srv/images/a/rootfs/etc/x", "/etc2/x", "/mnt/rootfs/etc/x"}},
		"a name that differs": {"/var/lib/images2/x", 1, []string{"/var/lib/images2/x"}},
		"another filesystem":  {"/tmp/x", 2, []string{"/tmp/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := places(tc.path, mounts[tc.id-1], mounts)
			if err != nil || !slices.Equal(got, tc.want) {
				t.Fatalf("got %v %v, expected %v", got, err, tc.want)
			}
		})
	}
	if got, err := places("/x", mounts[1], mounts); err == nil {
		t.Errorf("a path that isn't below its mount: got %v", got)
	}
}

func TestLayersTouch(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "l")
	if err := os.Symlink("/layers/one", link); err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(dir, "layer")
	if err := errors.Join(os.Mkdir(layer, 0o700), os.Remove(link), os.Symlink(layer, link)); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]bool{
		"rw,lowerdir=/a:" + link + ",upperdir=/b":        true,
		"rw,lowerdir=/a::" + layer:                       true,
		"rw,lowerdir=" + filepath.Dir(layer):             true,
		"rw,lowerdir=/a,upperdir=" + layer + "/below":    true,
		"rw,lowerdir+=/a,datadir+=" + layer:              true,
		"rw,lowerdir=/a:/b,upperdir=/c,workdir=" + layer: false,
		"rw,lowerdir=../x:/b":                            true,
		`rw,lowerdir=/a\072b`:                            true,
		"rw":                                             false,
	} {
		if got := layersTouch(options, []string{layer}); got != want {
			t.Errorf("%s: got %v", options, got)
		}
	}
}

func TestClosedAbove(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gives directories away: needs root")
	}
	// t.TempDir's own parents may be closed: take a place that is not.
	top, err := os.MkdirTemp("/", "userns-runtime-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	above, rootfs := filepath.Join(top, "above"), filepath.Join(top, "above/middle/rootfs")
	for name, tc := range map[string]struct {
		mode     os.FileMode
		uid, gid int
		acl      bool
		closed   bool
	}{
		"0755 root":              {0o755, 0, 0, false, false},
		"0711 root":              {0o711, 0, 0, false, false},
		"0701 root":              {0o701, 0, 0, false, false},
		"0700 root":              {0o700, 0, 0, false, true},
		"0710 root:root":         {0o710, 0, 0, false, true},
		"0710 root:docker":       {0o710, 0, 999, false, false},
		"0700 a user's":          {0o700, 1000, 1000, false, false},
		"0750 a user's":          {0o750, 1000, 0, false, false},
		"0710 root:root and ACL": {0o710, 0, 0, true, false},
		"0700 root and ACL":      {0o700, 0, 0, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(rootfs, 0o755); err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(above)
			if tc.acl {
				setACL(t, above)
			}
			if err := errors.Join(os.Chown(above, tc.uid, tc.gid), os.Chmod(above, tc.mode)); err != nil {
				t.Fatal(err)
			}
			got, err := (walker{}).closedAbove(rootfs)
			if err != nil || got != tc.closed {
				t.Fatalf("got %v %v, expected %v", got, err, tc.closed)
			}
			// The root filesystem's own mode is root inside's to change.
			if got, err := (walker{}).closedAbove(above); err != nil || got {
				t.Fatalf("the directory itself counts: %v %v", got, err)
			}
		})
	}
}

// setACL lets user 1234 in: user::rwx, user:1234:--x, group::---, mask::--x,
// other::--- in the form of the extended attribute (linux/posix_acl_xattr.h).
func setACL(t *testing.T, path string) {
	t.Helper()
	acl := []byte{2, 0, 0, 0}
	entry := func(tag, perm byte, id uint32) {
		acl = append(acl, tag, 0, perm, 0, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	entry(0x01, 7, idmap.Invalid)
	entry(0x02, 1, 1234)
	entry(0x04, 0, idmap.Invalid)
	entry(0x10, 1, idmap.Invalid)
	entry(0x20, 0, idmap.Invalid)
	if err := unix.Setxattr(path, "system.posix_acl_access", acl, 0); err != nil {
		t.Skip("this filesystem has no access control lists: ", err)
	}
}
