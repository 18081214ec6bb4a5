// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// ofPins is what a book of these lines gives an account that pins are tested with.
func ofPins(t *testing.T, p Pin, lines string) *registry.Grant {
	t.Helper()
	book, err := (&registry.Book{}).With("book", []byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	grant, err := book.Grant(p.Holder(), registry.Host{})
	if err != nil {
		t.Fatal(err)
	}
	return grant
}

func TestPinOf(t *testing.T) {
	for _, owner := range []string{"root", "0"} {
		p, err := PinOf(owner, "dev")
		if err != nil || p != (Pin{"root", 0, "dev"}) || p.String() != "root/dev" || p.Path() != "/run/userns/root/dev" {
			t.Errorf("%q: %+v, %v", owner, p, err)
		}
	}
	for _, owner := range []string{"", "no-such-user", "4294967295", "-1", "0x0", "../root", "2999999999"} {
		if p, err := PinOf(owner, "dev"); err == nil || !strings.Contains(err.Error(), "has no account") {
			t.Errorf("%q: %+v, %v", owner, p, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "a b", "a\tb", "a:b", "#a", "a\x00", "\xff", "a\nb", "\u202e", strings.Repeat("x", 256)} {
		if p, err := PinOf("root", name); err == nil || !strings.Contains(err.Error(), "it becomes a file's name") {
			t.Errorf("%q: %+v, %v", name, p, err)
		}
	}
	if _, err := PinOf("root", strings.Repeat("x", 255)); err != nil {
		t.Error(err)
	}
}

func TestPinNamespace(t *testing.T) {
	p := Pin{"alice", 1234567, "dev"}
	for _, row := range []struct {
		lines string
		want  string // maps and setgroups, or a part of the error
	}{
		{"alice:3000000:65536:", "0:3000000:65536 false"},
		{"1234567:3000000:65536:deny-setgroups,size=100,shared,owned", "0:3000000:65536 true"},
		{"alice:5000000:7:\nalice:3000000:65536:no-new-privs", "0:5000000:7 false"},
		{"alice:3000000:65536:no-new-privs,deny-setgroups", "flags no-new-privs can't hold in a user namespace that belongs to alice"},
		{"alice:3000000:65536:\nbob:3000010:1:", "belongs to bob"},
		{"alice:3000000:65536:\nalice:3000010:1:reserved", "reserve"},
	} {
		want, _, err := p.Namespace(ofPins(t, p, row.lines))
		got := fmt.Sprintf("%s %v", want.UIDs, want.DenySetgroups)
		if err != nil {
			got = err.Error()
			if want.UIDs != nil || want.Owner != nil {
				t.Errorf("%q: %+v beside an error", row.lines, want)
			}
		} else if !want.UIDs.Equal(want.GIDs) || want.Owner == nil || *want.Owner != p.UID {
			t.Errorf("%q: %+v", row.lines, want)
		}
		if !strings.Contains(got, row.want) {
			t.Errorf("%q: got %s, expected %s", row.lines, got, row.want)
		}
	}
	if _, _, err := p.Namespace((&registry.Book{}).GrantOrOwn(p.Holder(), registry.Host{})); err == nil || !strings.Contains(err.Error(), "usernsctl add alice") {
		t.Errorf("without a line: %v", err)
	}
}

// inEmptyRun calls do where /run is empty and nobody else's.
func inEmptyRun(t *testing.T, do func() error) {
	t.Helper()
	requireRoot(t)
	restoreDumpable(t)
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, and with it its mounts, end
		err := linux.PrivateMounts()
		if err == nil {
			err = linux.MountTmpfs("/run", 0o755)
		}
		if err == nil {
			err = do()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func TestPinBindOpenUnbind(t *testing.T) {
	p := Pin{"alice", 2999999, "dev"}
	c := Caller{UIDs: idmap.Host(), GIDs: idmap.Host()}
	grant := ofPins(t, p, "alice:3000000:65536:")
	inEmptyRun(t, func() error {
		want, _, err := p.Namespace(grant)
		if err != nil {
			return err
		}
		if _, _, err := p.Open(c, grant); !isMissing(err) {
			return fmt.Errorf("nothing there: %w", err)
		}
		if err := p.Unbind(); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("nothing to unbind: %w", err)
		}
		ns, err := Create(want)
		if err != nil {
			return err
		}
		defer ns.Close()
		// Whatever umask its maker has, and whatever is there.
		for _, before := range []func() error{
			func() error { return nil },
			func() error { return os.Symlink("/etc", PinDir) },
			func() error { return os.WriteFile(PinDir, nil, 0o600) },
			func() error { return os.Mkdir(PinDir, 0o777) },
			func() error { return os.MkdirAll(p.Path(), 0o700) },
			func() error {
				return errors.Join(os.MkdirAll(filepath.Dir(p.Path()), 0o755), os.Symlink("/etc/passwd", p.Path()))
			},
			func() error {
				return errors.Join(os.MkdirAll(filepath.Dir(p.Path()), 0o755), unix.Mkfifo(p.Path(), 0o666), os.Chown(filepath.Dir(p.Path()), 5, 5))
			},
		} {
			if err := before(); err != nil {
				return err
			}
			if err := p.Bind(ns); err != nil {
				return err
			}
			if err := isWhole(p, c, grant, ns); err != nil {
				return err
			}
			// Over itself, as often as one likes.
			if err := p.Bind(ns); err != nil {
				return err
			}
			if err := isWhole(p, c, grant, ns); err != nil {
				return err
			}
			if err := p.Unbind(); err != nil {
				return err
			}
			if left, err := os.ReadDir(PinDir); err != nil || len(left) > 0 {
				return fmt.Errorf("left: %v, %w", left, err)
			}
			if err := os.Remove(PinDir); err != nil {
				return err
			}
		}
		return nil
	})
}

func isMissing(err error) bool {
	wrong, ok := errors.AsType[*PinError](err)
	return ok && wrong.Missing
}

func isWhole(p Pin, c Caller, grant *registry.Grant, ns *os.File) error {
	got, is, err := p.Open(c, grant)
	if err != nil {
		return err
	}
	defer got.Close()
	if same, err := linux.SameFile(got, ns); err != nil || !same || is.Owner != p.UID {
		return fmt.Errorf("another namespace: %+v, %w", is, err)
	}
	names, err := PinNames()
	if err != nil || len(names) != 1 || names[0] != (Pin{Owner: p.Owner, Name: p.Name}) {
		return fmt.Errorf("names: %+v, %w", names, err)
	}
	return nil
}

func TestPinOpenRefuses(t *testing.T) {
	p := Pin{"alice", 2999999, "dev"}
	c := Caller{UIDs: idmap.Host(), GIDs: idmap.Host()}
	grant := ofPins(t, p, "alice:3000000:65536:")
	another := uint32(2999998)
	m := idmap.Map{{Inner: 0, Outer: 3000000, Count: 65536}}
	shorter := idmap.Map{{Inner: 0, Outer: 3000000, Count: 65535}}
	inEmptyRun(t, func() error {
		for name, tc := range map[string]struct {
			is   Namespace
			do   func() error
			want string
		}{
			"another's":        {Namespace{UIDs: m, GIDs: m, Owner: &another}, nil, "it belongs to UID 2999998"},
			"root's":           {Namespace{UIDs: m, GIDs: m}, nil, "it belongs to UID 0"},
			"fewer UIDs":       {Namespace{UIDs: shorter, GIDs: m, Owner: &p.UID}, nil, "it maps UIDs 0:3000000:65535"},
			"fewer GIDs":       {Namespace{UIDs: m, GIDs: shorter, Owner: &p.UID}, nil, "and GIDs 0:3000000:65535"},
			"setgroups denied": {Namespace{UIDs: m, GIDs: m, Owner: &p.UID, DenySetgroups: true}, nil, "it denies setgroups"},
			"unmounted":        {Namespace{UIDs: m, GIDs: m, Owner: &p.UID}, func() error { return unix.Unmount(p.Path(), 0) }, "it is an empty file"},
			"group may write":  {Namespace{UIDs: m, GIDs: m, Owner: &p.UID}, func() error { return os.Chmod(PinDir, 0o775) }, "mode 0775, writable by others"},
			"/run is a user's": {Namespace{UIDs: m, GIDs: m, Owner: &p.UID}, func() error { return os.Chown("/run", 5, 0) }, "/run: is owned by UID 5"},
		} {
			ns, err := Create(tc.is)
			if err != nil {
				return err
			}
			if err := p.Bind(ns); err != nil {
				return err
			}
			ns.Close()
			if tc.do != nil {
				if err := tc.do(); err != nil {
					return err
				}
			}
			got, _, err := p.Open(c, grant)
			wrong, ok := errors.AsType[*PinError](err)
			if !ok || wrong.Missing || got != nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), p.Path()+": ") ||
				!strings.HasSuffix(err.Error(), "`usernsctl pin alice/dev`") {
				t.Errorf("%s: got %v, expected %q", name, err, tc.want)
			}
			if err := errors.Join(os.Chown("/run", 0, 0), p.Unbind(), os.Remove(PinDir)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
}

// Whoever looks from a namespace in which the owner is somebody else isn't misled by the number.
func TestPinOpenCountsOnTheHost(t *testing.T) {
	p := Pin{"alice", 2999999, "dev"}
	grant := ofPins(t, p, "alice:3000000:65536:")
	c := Caller{UIDs: idmap.Map{{Inner: 0, Outer: 0, Count: 1}, {Inner: 2999999, Outer: 2999990, Count: 1}}, GIDs: idmap.Host()}
	inEmptyRun(t, func() error {
		want, _, err := p.Namespace(grant)
		if err != nil {
			return err
		}
		ns, err := Create(want)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := p.Bind(ns); err != nil {
			return err
		}
		if _, _, err := p.Open(c, grant); err == nil || !strings.Contains(err.Error(), "it belongs to UID 2999999") {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
}
