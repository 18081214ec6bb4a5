// SPDX-License-Identifier: Apache-2.0

package census

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// book is a book with these lines.
func book(t *testing.T, lines ...string) *registry.Book {
	t.Helper()
	b, err := new(registry.Book).With(registry.Path, []byte(strings.Join(lines, "\n")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func set(start, count uint32) idmap.Set {
	return idmap.NewSet(idmap.Range{Start: start, Count: count})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func held(root, id string, userNS uint64, ids idmap.Set) lease.Status {
	return lease.Status{
		Entry: lease.Entry{Key: lease.Key{Root: root, ID: id}, Ranges: ids, UserNS: userNS, PID: 1},
		State: lease.Container,
	}
}

func live(inode uint64, maps idmap.Map) lease.LiveNS {
	return lease.LiveNS{Inode: inode, PID: os.Getpid(), UIDs: maps, GIDs: maps}
}

func TestWorld(t *testing.T) {
	dir := t.TempDir()
	p := Paths{
		Passwd: filepath.Join(dir, "passwd"), Group: filepath.Join(dir, "group"),
		SubUID: filepath.Join(dir, "subuid"), SubGID: filepath.Join(dir, "subgid"), Root: dir,
	}
	write(t, p.Passwd, "root:x:0:0::/:\nalice:x:1000:1000::/:\n")
	write(t, p.Group, "root:x:0:\n")
	write(t, p.SubUID, "alice:100000:65536\nbad\n")
	write(t, p.SubGID, "worse\nbob:300000:65536\n")
	write(t, dir+"/usr/bin/systemd-nspawn", "")
	w, warnings, err := p.World()
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Host.Users) != 2 || len(w.Host.Groups) != 2 || len(w.SubUIDs) != 1 || len(w.SubGIDs) != 1 {
		t.Errorf("got %+v", w)
	}
	if !slices.Equal(w.Installed, []registry.Software{registry.SystemdNspawn}) {
		t.Errorf("installed: %v", w.Installed)
	}
	if len(warnings) != 2 || warnings[0].Where != p.SubUID+":2" || warnings[1].Where != p.SubGID+":1" {
		t.Errorf("warnings: %+v", warnings)
	}
	for name, path := range map[string]*string{"passwd": &p.Passwd, "subuid": &p.SubUID, "subgid": &p.SubGID} {
		was := *path
		*path = dir // can't be read as a file
		if _, _, err := p.World(); err == nil || !strings.Contains(err.Error(), "census: ") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s is a directory: %v", name, err)
		}
		*path = was
	}
}

func TestInstalled(t *testing.T) {
	for name, tc := range map[string]struct {
		files []string
		dirs  []string
		links map[string]string
		want  []registry.Software
	}{
		"nothing":                    {},
		"systemd":                    {files: []string{"/usr/lib/systemd/systemd"}, want: []registry.Software{registry.Systemd}},
		"systemd, /usr not merged":   {files: []string{"/lib/systemd/systemd"}, want: []registry.Software{registry.Systemd}},
		"homed":                      {files: []string{"/usr/lib/systemd/systemd-homed"}, want: []registry.Software{registry.SystemdHomed}},
		"incusd":                     {files: []string{"/usr/libexec/incus/incusd"}, want: []registry.Software{registry.Incus}},
		"the client of incus alone":  {files: []string{"/usr/bin/incus"}},
		"kubelet by hand":            {files: []string{"/usr/local/bin/kubelet"}, want: []registry.Software{registry.Kubelet}},
		"kubelet's unit":             {files: []string{"/etc/systemd/system/kubelet.service"}, want: []registry.Software{registry.Kubelet}},
		"kubelet's data":             {files: []string{"/var/lib/kubelet/config.yaml"}},
		"a directory named so":       {dirs: []string{"/usr/bin/kubelet"}},
		"a file instead of /usr/bin": {files: []string{"/usr/bin"}},
		"a masked unit":              {links: map[string]string{"/etc/systemd/system/kubelet.service": "/dev/null"}},
		"a link that leads nowhere":  {links: map[string]string{"/usr/bin/k3s": "/nowhere"}},
		"two": {
			files: []string{"/usr/bin/k3s", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"},
			want:  []registry.Software{registry.Systemd, registry.Kubelet},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range tc.files {
				write(t, root+f, "")
			}
			for _, d := range tc.dirs {
				if err := os.MkdirAll(root+d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for at, to := range tc.links {
				if err := os.MkdirAll(filepath.Dir(root+at), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(to, root+at); err != nil {
					t.Fatal(err)
				}
			}
			got, err := installed(root)
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
	root := t.TempDir()
	if err := os.MkdirAll(root+"/usr/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("kubelet", root+"/usr/bin/kubelet"); err != nil { // a circle
		t.Fatal(err)
	}
	if got, err := installed(root); err == nil || !strings.Contains(err.Error(), "kubelet: whether it is installed: ") {
		t.Errorf("what can't be looked at: %v, %v", got, err)
	}
}

// Every known allocator can be found, or its ranges would never be errors.
func TestSignsOfAll(t *testing.T) {
	for _, a := range registry.Allocators() {
		if !slices.ContainsFunc(signs, func(s sign) bool { return s.software == a.Software }) {
			t.Errorf("%s has no sign", a.Software)
		}
	}
}

func TestUses(t *testing.T) {
	c := &Census{
		World: registry.World{
			Host: registry.Host{
				Users:  []registry.Account{{Name: "alice", ID: 1000, Where: "/etc/passwd:2"}},
				Groups: []registry.Account{{Name: "staff", ID: 50, Where: "/etc/group:9"}},
			},
			SubUIDs:   []registry.SubID{{Owner: "bob", Range: idmap.Range{Start: 100000, Count: 10}, Where: "/etc/subuid:1"}},
			SubGIDs:   []registry.SubID{{Owner: "bob", Range: idmap.Range{Start: 100010, Count: 10}, Where: "/etc/subgid:1"}},
			Installed: []registry.Software{registry.Systemd},
		},
		Leases: []lease.Status{held("/run/runc", "web", 77, set(200000, 10))},
		Live: []lease.LiveNS{
			live(77, idmap.Map{{Inner: 0, Outer: 200000, Count: 10}}),       // the lease's
			live(78, idmap.Map{{Inner: 0, Outer: 300000, Count: 10}}),       // nobody's
			live(79, idmap.Map{{Inner: 0, Outer: 0, Count: idmap.Invalid}}), // the host's IDs
			live(80, nil), // not mapped yet
			live(0, idmap.Map{{Inner: 0, Outer: 200000, Count: 10}}), // whose namespace can't be told
		},
	}
	got := make(map[string]string)
	for _, u := range c.Uses(book(t, "carol:400000:65536:", "r:500000:5:reserved")) {
		got[u.Why] += u.IDs.String()
	}
	me := fmt.Sprintf("process %d (census.test) in a user namespace", os.Getpid())
	want := map[string]string{
		"carol (/etc/usernamespaces:1)":          "[400000-465536)",
		"r (/etc/usernamespaces:2)":              "[500000-500005)",
		"user alice (/etc/passwd:2)":             "[1000-1001)",
		"group staff (/etc/group:9)":             "[50-51)",
		"bob (/etc/subuid:1)":                    "[100000-100010)",
		"bob (/etc/subgid:1)":                    "[100010-100020)",
		"systemd, for dynamic users of services": "[61184-65520)",
		"systemd, for foreign files":             "[2147352576-2147418112)",
		"container web of /run/runc":             "[200000-200010)",
		me:                                       "[300000-300010)[200000-200010)",
	}
	for why, ids := range want {
		if got[why] != ids {
			t.Errorf("%s: got %q, want %q", why, got[why], ids)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	alive := c.Alive(set(300005, 1))
	if len(alive) != 1 || alive[0].IDs.String() != "[300000-300010)" {
		t.Errorf("alive: %v", alive)
	}
	if alive := c.Alive(set(200005, 1)); len(alive) != 2 {
		t.Errorf("alive: %v", alive)
	}
	if alive := c.Alive(idmap.Set{}); len(alive) != 0 {
		t.Errorf("nothing is in use by %v", alive)
	}
}

// A lease that doesn't answer for all IDs of its namespace hides nothing.
func TestAliveBeyondLease(t *testing.T) {
	c := &Census{
		Leases: []lease.Status{held("/r", "a", 7, set(200000, 10))},
		Live:   []lease.LiveNS{live(7, idmap.Map{{Inner: 0, Outer: 200000, Count: 20}})},
	}
	if alive := c.Alive(set(200015, 1)); len(alive) != 1 || !strings.HasPrefix(alive[0].Why, "process ") {
		t.Errorf("got %v", alive)
	}
}

func TestHolderAndProcess(t *testing.T) {
	l := held("/r", "a", 7, set(1, 1))
	for name, tc := range map[string]struct {
		change func(*lease.Status)
		live   []lease.LiveNS
		holder string
		pid    int
	}{
		"container":            {func(*lease.Status) {}, nil, "container a of /r", 0},
		"container, seen":      {func(*lease.Status) {}, []lease.LiveNS{{Inode: 6, PID: 5}, {Inode: 7, PID: 8}}, "container a of /r", 8},
		"starting":             {func(l *lease.Status) { l.State = lease.Starting }, nil, "container a of /r, process 1", 1},
		"left over":            {func(l *lease.Status) { l.State, l.Alive = lease.Process, 9 }, nil, "container a of /r, process 9", 9},
		"found alive":          {func(l *lease.Status) { l.Key, l.State, l.Alive = lease.Key{}, lease.Process, 9 }, nil, "a container that was found alive, process 9", 9},
		"no namespace is none": {func(l *lease.Status) { l.UserNS = 0 }, []lease.LiveNS{{Inode: 0, PID: 5}}, "container a of /r", 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := l
			tc.change(&l)
			if got := Holder(l); got != tc.holder {
				t.Errorf("got %q, want %q", got, tc.holder)
			}
			if got := Process(l, tc.live); got != tc.pid {
				t.Errorf("process %d, want %d", got, tc.pid)
			}
		})
	}
}

func TestHeld(t *testing.T) {
	leases := []lease.Status{held("/r", "a", 1, set(200000, 10)), held("/r", "b", 2, set(200010, 10))}
	for name, tc := range map[string]struct {
		ids  idmap.Set
		want string
	}{
		"both":       {set(200009, 2), "ab"},
		"the second": {set(200010, 1), "b"},
		"between":    {set(200020, 100), ""},
		"no IDs":     {idmap.Set{}, ""},
	} {
		got := ""
		for _, l := range Held(leases, tc.ids) {
			got += l.ID
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestSortLeases(t *testing.T) {
	all := []lease.Status{
		held("/r", "d", 0, set(300, 1)), held("/r", "c", 0, set(200, 2)), held("/r", "b", 0, set(200, 1)), held("/a", "b", 0, set(200, 1)), held("/r", "e", 0, idmap.Set{}),
	}
	SortLeases(all)
	got := ""
	for _, l := range all {
		got += l.Root + l.ID + " "
	}
	if got != "/re /ab /rb /rc /rd " {
		t.Errorf("got %s", got)
	}
}

// The namespace of a child is found, and its IDs are kept clear of.
func TestTake(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the leases are root's")
	}
	id := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 3000000000, Size: 1}}
	child := exec.Command("sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: id, GidMappings: id, Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	c, err := Take(HostPaths())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.World.Host.Users) == 0 {
		t.Error("no user is known")
	}
	alive := c.Alive(set(3000000000, 1))
	if want := fmt.Sprintf("process %d (sleep) in a user namespace", child.Process.Pid); len(alive) != 1 || alive[0].Why != want {
		t.Errorf("got %v, want %q", alive, want)
	}
	if fit, err := c.Place(book(t, ""), 65536); err != nil || fit.Contains(3000000000) {
		t.Errorf("place: %v, %v", fit, err)
	}
}
