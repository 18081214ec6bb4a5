// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// engine is a directory as an engine has it: below a closed directory, layers in
// directories of their own, and the overlay's mount point beside its upper layer.
type engine struct{ dir, merged string }

func newEngine(t *testing.T, lowers int) engine {
	t.Helper()
	// t.TempDir's own parents may be closed to others: take a place that is not.
	open, err := os.MkdirTemp("/", "userns-runtime-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(open, "closed")
	e := engine{closed, filepath.Join(closed, "top/merged")}
	dirs := []string{"", "top", "top/diff", "top/work", "top/merged", "l"}
	for i := range lowers {
		dirs = append(dirs, fmt.Sprintf("%d", i), fmt.Sprintf("%d/diff", i))
	}
	for _, dir := range dirs {
		if err := os.Mkdir(filepath.Join(closed, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range lowers {
		file := filepath.Join(closed, fmt.Sprintf("%d/diff/file%d", i, i))
		if err := errors.Join(
			os.WriteFile(file, []byte(file), 0o644), os.Chown(file, i, i),
			os.Symlink(fmt.Sprintf("../%d/diff", i), filepath.Join(closed, fmt.Sprintf("l/L%d", i))),
		); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	return e
}

// mount mounts the overlay as an engine does, in the directory dir.
func (e engine) mount(dir, options string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	defer os.Chdir("/")
	if err := unix.Mount("overlay", e.merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount -o %s: %w", options, err)
	}
	return nil
}

func (e engine) request(t *testing.T, userns *os.File, target string) (Request, error) {
	source, err := Open(e.merged)
	if err != nil {
		return Request{}, err
	}
	t.Cleanup(func() { source.Close() })
	scratch := t.TempDir()
	return Request{
		Source: source, Target: target, Scratch: scratch, Mounts: mountsNow(t),
		UserNS: userns, RootUID: 3000000, RootGID: 3000000, HasRoot: true,
	}, linux.MountTmpfs(scratch, 0o700)
}

func numbers(n int, format string) string {
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(names, ":")
}

// Each way in which an engine names layers, and both in which a kernel takes them.
func TestPrepareOverlay(t *testing.T) {
	ns := newUserNS(t)
	for name, tc := range map[string]struct {
		lowers  int
		base    string // the mounter's directory, below the engine's
		options func(e engine) string
		volat   bool
	}{
		"absolute": {2, "", func(e engine) string {
			return "lowerdir=" + numbers(2, e.dir+"/%d/diff") + ",upperdir=" + e.dir + "/top/diff,workdir=" + e.dir + "/top/work"
		}, false},
		"symbolic links": {3, "", func(e engine) string {
			return "lowerdir=" + numbers(3, e.dir+"/l/L%d") + ",upperdir=" + e.dir + "/top/diff,workdir=" + e.dir + "/top/work"
		}, false},
		"all relative as of Docker": {3, "", func(engine) string {
			return "lowerdir=" + numbers(3, "l/L%d") + ",upperdir=top/diff,workdir=top/work"
		}, false},
		"lower ones relative as of containerd": {3, "", func(e engine) string {
			return "lowerdir=" + numbers(3, "%d/diff") + ",upperdir=" + e.dir + "/top/diff,workdir=" + e.dir + "/top/work"
		}, false},
		"200 layers": {200, "", func(engine) string {
			return "lowerdir=" + numbers(200, "%d/diff") + ",upperdir=top/diff,workdir=top/work"
		}, false},
		"volatile": {2, "", func(engine) string {
			return "lowerdir=" + numbers(2, "%d/diff") + ",upperdir=top/diff,workdir=top/work,volatile"
		}, true},
		"metacopy and redirects": {2, "", func(engine) string {
			return "lowerdir=" + numbers(2, "%d/diff") + ",upperdir=top/diff,workdir=top/work,metacopy=on,redirect_dir=on"
		}, false},
		"an index": {2, "", func(engine) string {
			return "lowerdir=" + numbers(2, "%d/diff") + ",upperdir=top/diff,workdir=top/work,index=on,nfs_export=on"
		}, false},
	} {
		for _, byString := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s by string %v", name, byString), func(t *testing.T) {
				e, target := newEngine(t, tc.lowers), t.TempDir()
				inPrivateMounts(t, func() error {
					if err := e.mount(filepath.Join(e.dir, tc.base), tc.options(e)); err != nil {
						return err
					}
					// Twice: a restarted container has the same layers.
					for turn := range 2 {
						request, err := e.request(t, ns, target)
						if err != nil {
							return err
						}
						request.StringLayers = byString
						method, err := Prepare(request)
						if err != nil || method != Overlay || request.Method() != Overlay {
							return fmt.Errorf("got %q: %w", method, err)
						}
						checkShifted(t, target, tc.lowers, turn)
						if entries, err := mountinfo.GetMounts(mountinfo.PrefixFilter(request.Scratch)); err != nil || len(entries) != 1 {
							t.Errorf("mounts left in the scratch directory: %v %v", entries, err)
						}
						if err := unix.Unmount(target, 0); err != nil {
							return err
						}
					}
					return nil
				})
				checkDisk(t, e)
			})
		}
	}
}

// checkShifted looks at the overlay as the host does, and writes to it as root
// inside would.
func checkShifted(t *testing.T, target string, lowers, turn int) {
	t.Helper()
	for i := range lowers {
		var st unix.Stat_t
		path := filepath.Join(target, fmt.Sprintf("file%d", i))
		err := unix.Lstat(path, &st)
		if i == 0 && turn > 0 {
			if !errors.Is(err, unix.ENOENT) {
				t.Errorf("%s is there again: %v", path, err)
			}
			continue
		}
		want := [2]uint32{3000000 + uint32(i), 3000000 + uint32(i)}
		if i == lowers-1 && turn > 0 {
			want = [2]uint32{3000007, 3000008}
		}
		if err != nil || st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%s: owner %d:%d %v", path, st.Uid, st.Gid, err)
		}
	}
	// The host's root isn't mapped, so it can't make a file there; it can act as who is.
	err := linux.AsFileOwner(3000000, 3000005, func() error {
		return errors.Join(
			os.WriteFile(filepath.Join(target, "new"), []byte("x"), 0o644),
			os.Chown(filepath.Join(target, fmt.Sprintf("file%d", lowers-1)), 3000007, 3000008),
			os.RemoveAll(filepath.Join(target, "file0")),
		)
	})
	if err != nil {
		t.Errorf("writing: %v", err)
	}
	if err := os.WriteFile(filepath.Join(target, "hosts"), nil, 0o644); !errors.Is(err, unix.EOVERFLOW) {
		t.Errorf("the host's root made a file that has no owner inside: %v", err)
	}
}

// checkDisk looks at the upper layer: what was written is there with the
// owners that it has inside.
func checkDisk(t *testing.T, e engine) {
	t.Helper()
	upper := filepath.Join(e.dir, "top/diff")
	entries, err := os.ReadDir(upper)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(upper, entry.Name()), &st); err != nil {
			t.Fatal(err)
		}
		want := [2]uint32{7, 8}
		switch {
		case entry.Name() == "new":
			want = [2]uint32{0, 5}
		case entry.Name() == "file0":
			want = [2]uint32{0, st.Gid}
			if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
				t.Errorf("file0 isn't a whiteout: mode %o", st.Mode)
			}
		}
		if st.Uid != want[0] || st.Gid != want[1] || st.Uid > 65535 || st.Gid > 65535 {
			t.Errorf("%s on disk: owner %d:%d, expected %v", entry.Name(), st.Uid, st.Gid, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(e.dir, "top", WorkDir), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o700 {
		t.Errorf("the work directory: owner %d, mode %o, %v", st.Uid, st.Mode, err)
	}
}

// An overlay that was mounted read-only stays so, whatever its mount allows since.
func TestPrepareOverlayReadOnlyFilesystem(t *testing.T) {
	ns := newUserNS(t)
	e, target := newEngine(t, 2), t.TempDir()
	inPrivateMounts(t, func() error {
		options := "lowerdir=" + numbers(2, e.dir+"/%d/diff") + ",upperdir=" + e.dir + "/top/diff,workdir=" + e.dir + "/top/work"
		if err := errors.Join(
			unix.Mount("overlay", e.merged, "overlay", unix.MS_RDONLY, options),
			unix.Mount("", e.merged, "", unix.MS_REMOUNT|unix.MS_BIND, ""),
		); err != nil {
			return err
		}
		request, err := e.request(t, ns, target)
		if err != nil {
			return err
		}
		if _, err := Prepare(request); err != nil {
			return err
		}
		err = linux.AsFileOwner(3000000, 3000000, func() error { return os.WriteFile(filepath.Join(target, "new"), nil, 0o600) })
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("it can be written: %v", err)
		}
		return nil
	})
}

func TestPrepareOverlayReadOnly(t *testing.T) {
	ns := newUserNS(t)
	e, target := newEngine(t, 2), t.TempDir()
	inPrivateMounts(t, func() error {
		if err := e.mount("/", "lowerdir="+numbers(2, e.dir+"/%d/diff")); err != nil {
			return err
		}
		request, err := e.request(t, ns, target)
		if err != nil {
			return err
		}
		if _, err := Prepare(request); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(target, "file1"), &st); err != nil || st.Uid != 3000001 {
			t.Errorf("owner %d %v", st.Uid, err)
		}
		err = linux.AsFileOwner(3000000, 3000000, func() error { return os.WriteFile(filepath.Join(target, "new"), nil, 0o600) })
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("it can be written: %v", err)
		}
		return nil
	})
}

// The names of containers/storage for stacks that don't fit into a page: numbers
// of descriptors, and a file beside the upper layer that has the real ones.
func TestPrepareOverlayNumbered(t *testing.T) {
	ns := newUserNS(t)
	for name, tc := range map[string]struct{ lower, refused string }{
		"named in the file": {"l/L0:l/L1", ""},
		"fewer named":       {"l/L0", "2 descriptors, and"},
		"no file":           {"", "that only its mounter had"},
		"another's layers":  {"l/L0:nowhere", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			e, target := newEngine(t, 2), t.TempDir()
			if tc.lower != "" {
				if err := os.WriteFile(filepath.Join(e.dir, "top/lower"), []byte(tc.lower), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			inPrivateMounts(t, func() error {
				var fds [2]int
				for i := range fds {
					fd, err := unix.Open(filepath.Join(e.dir, fmt.Sprintf("%d/diff", i)), unix.O_PATH, 0)
					if err != nil {
						return err
					}
					defer unix.Close(fd)
					fds[i] = fd
				}
				if err := e.mount("/proc/self/fd", fmt.Sprintf("lowerdir=%d:%d,upperdir=%[3]s/top/diff,workdir=%[3]s/top/work", fds[0], fds[1], e.dir)); err != nil {
					return err
				}
				request, err := e.request(t, ns, target)
				if err != nil {
					return err
				}
				_, err = Prepare(request)
				if tc.refused == "" {
					if err == nil {
						checkShifted(t, target, 2, 0)
					}
					return err
				}
				if !errors.Is(err, ErrLayers) || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("got %v, expected %q", err, tc.refused)
				}
				return nil
			})
		})
	}
}

func TestPrepareOverlayRefuses(t *testing.T) {
	ns := newUserNS(t)
	for name, tc := range map[string]struct {
		spoil func(e engine, r *Request) error
		want  error
		text  string
	}{
		"layers that went away": {func(e engine, _ *Request) error {
			return os.Rename(filepath.Join(e.dir, "1"), filepath.Join(e.dir, "gone"))
		}, ErrLayers, "1/diff"},
		"an upper layer that others reach": {func(e engine, _ *Request) error {
			return os.Chmod(e.dir, 0o755)
		}, ErrExposed, "top/diff"},
		"an overlay of the host's, not beside its upper layer": {func(e engine, r *Request) error {
			at := filepath.Join(filepath.Dir(e.dir), "at")
			if err := errors.Join(os.Mkdir(at, 0o755), unix.Mount(e.merged, at, "", unix.MS_BIND, "")); err != nil {
				return err
			}
			var err error
			if r.Source, err = Open(at); err != nil {
				return err
			}
			r.Mounts = mountsNow(t)
			return nil
		}, ErrOutside, "expected one strictly below"},
		"a lower layer from elsewhere": {func(e engine, r *Request) error {
			if err := errors.Join(r.Source.Close(), unix.Unmount(e.merged, 0), e.mount("/", "lowerdir="+e.dir+"/0/diff:/usr,upperdir="+e.dir+"/top/diff,workdir="+e.dir+"/top/work")); err != nil {
				return err
			}
			var err error
			if r.Source, err = Open(e.merged); err != nil {
				return err
			}
			r.Mounts = mountsNow(t)
			return nil
		}, ErrOutside, "its layer /usr"},
		"no root inside": {func(_ engine, r *Request) error {
			r.HasRoot = false
			return nil
		}, nil, "no ID 0"},
		"an option from the future": {func(_ engine, r *Request) error {
			for _, m := range r.Mounts {
				if m.Mountpoint == r.Source.Name() {
					m.VFSOptions += ",shuffle=on"
				}
			}
			return nil
		}, nil, `"shuffle=on" isn't known`},
	} {
		t.Run(name, func(t *testing.T) {
			e, target := newEngine(t, 2), t.TempDir()
			inPrivateMounts(t, func() error {
				if err := e.mount("/", "lowerdir="+numbers(2, e.dir+"/%d/diff")+",upperdir="+e.dir+"/top/diff,workdir="+e.dir+"/top/work"); err != nil {
					return err
				}
				request, err := e.request(t, ns, target)
				if err != nil {
					return err
				}
				if err := tc.spoil(e, &request); err != nil {
					return err
				}
				method, err := Prepare(request)
				if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("got %q %v", method, err)
				}
				if mounted, err := mountinfo.Mounted(target); err != nil || mounted {
					t.Errorf("something is mounted: %v %v", mounted, err)
				}
				if _, err := os.Lstat(filepath.Join(e.dir, "top", WorkDir)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a work directory was made: %v", err)
				}
				return nil
			})
		})
	}
}

func TestPrepareOverlayOnOverlay(t *testing.T) {
	ns := newUserNS(t)
	e, target := newEngine(t, 2), t.TempDir()
	inPrivateMounts(t, func() error {
		// Layer 0 becomes an overlay of its own.
		layer := filepath.Join(e.dir, "0/diff")
		if err := unix.Mount("overlay", layer, "overlay", 0, "lowerdir="+layer+":"+e.dir+"/1/diff"); err != nil {
			return err
		}
		if err := e.mount("/", fmt.Sprintf("lowerdir=%s,upperdir=%[2]s/top/diff,workdir=%[2]s/top/work", layer, e.dir)); err != nil {
			return err
		}
		request, err := e.request(t, ns, target)
		if err != nil {
			return err
		}
		if _, err := Prepare(request); !errors.Is(err, ErrNoIDMap) || !strings.Contains(err.Error(), "layer "+layer+" lies on an overlay itself") {
			t.Errorf("got %v", err)
		}
		// A directory inside of an overlay isn't one.
		if err := os.Mkdir(filepath.Join(e.merged, "sub"), 0o755); err != nil {
			return err
		}
		if request.Source, err = Open(filepath.Join(e.merged, "sub")); err != nil {
			return err
		}
		request.Within = []string{e.dir}
		if _, err := Prepare(request); !errors.Is(err, ErrNoIDMap) || !strings.Contains(err.Error(), "a directory inside of an overlay") {
			t.Errorf("below: got %v", err)
		}
		return request.Source.Close()
	})
}

// An overlay shows its layers to whoever can walk to it.
func TestExposedByOverlay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts: needs root")
	}
	e := newEngine(t, 2)
	at, other := filepath.Join(filepath.Dir(e.dir), "at"), filepath.Join(filepath.Dir(e.dir), "other")
	if err := errors.Join(os.Mkdir(at, 0o755), os.Mkdir(other, 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		options, want string
		flags         uintptr
	}{
		"the file's layer":   {"lowerdir=" + numbers(2, e.dir+"/%d/diff"), at, 0},
		"others":             {"lowerdir=" + e.dir + "/1/diff:" + e.dir + "/l", "", 0},
		"without setuid":     {"lowerdir=" + numbers(2, e.dir+"/%d/diff"), "", unix.MS_NOSUID},
		"a directory above":  {"lowerdir=" + e.dir + ":" + other, at, 0},
		"by a symbolic link": {"lowerdir=" + e.dir + "/l/L0:" + other, at, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inPrivateMounts(t, func() error {
				if err := unix.Mount("overlay", at, "overlay", tc.flags, tc.options); err != nil {
					return err
				}
				dir, err := Open(filepath.Join(e.dir, "0/diff"))
				if err != nil {
					return err
				}
				defer dir.Close()
				if got, err := exposedBy(dir, mountsNow(t)); err != nil || got != tc.want {
					t.Errorf("got %q %v, expected %q", got, err, tc.want)
				}
				return nil
			})
		})
	}
}

func TestUpperDir(t *testing.T) {
	newUserNS(t)
	e := newEngine(t, 2)
	inPrivateMounts(t, func() error {
		if err := e.mount(e.dir, "lowerdir="+numbers(2, "%d/diff")+",upperdir=top/diff,workdir=top/work"); err != nil {
			return err
		}
		for path, want := range map[string]string{e.merged: filepath.Join(e.dir, "top/diff"), filepath.Join(e.dir, "1"): ""} {
			dir, err := Open(path)
			if err != nil {
				return err
			}
			if got := UpperDir(dir, mountsNow(t)); got != want {
				t.Errorf("%s: got %q", path, got)
			}
			dir.Close()
		}
		return nil
	})
}

// A layer that holds only the content of files, which those above it name.
func TestPrepareOverlayData(t *testing.T) {
	ns := newUserNS(t)
	for _, byString := range []bool{false, true} {
		e, target := newEngine(t, 3), t.TempDir()
		// file2, of layer 2, is content for a file of layer 0 that has none itself.
		named := filepath.Join(e.dir, "0/diff/named")
		if err := errors.Join(
			os.WriteFile(named, nil, 0o644), os.Truncate(named, int64(len(filepath.Join(e.dir, "2/diff/file2")))), os.Chown(named, 4, 4),
			unix.Setxattr(named, "trusted.overlay.metacopy", nil, 0), unix.Setxattr(named, "trusted.overlay.redirect", []byte("/file2"), 0),
		); err != nil {
			t.Fatal(err)
		}
		inPrivateMounts(t, func() error {
			options := "lowerdir=0/diff:1/diff::2/diff,upperdir=top/diff,workdir=top/work,metacopy=on,redirect_dir=on"
			if err := e.mount(e.dir, options); err != nil {
				return err
			}
			want, err := os.ReadFile(filepath.Join(e.merged, "named"))
			if err != nil || len(want) == 0 {
				return fmt.Errorf("the engine's overlay has %q: %w", want, err)
			}
			request, err := e.request(t, ns, target)
			if err != nil {
				return err
			}
			request.StringLayers = byString
			if _, err := Prepare(request); err != nil {
				return err
			}
			got, err := os.ReadFile(filepath.Join(target, "named"))
			if err != nil || string(got) != string(want) {
				t.Errorf("by string %v: got %q %v, expected %q", byString, got, err, want)
			}
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(target, "named"), &st); err != nil || st.Uid != 3000004 {
				t.Errorf("by string %v: owner %d %v", byString, st.Uid, err)
			}
			if _, err := os.Lstat(filepath.Join(target, "file2")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("by string %v: the layer of data can be seen: %v", byString, err)
			}
			return nil
		})
	}
}
