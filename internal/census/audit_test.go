// SPDX-License-Identifier: Apache-2.0

package census

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// roomy is where no allocator warns.
const roomy = 1879048192

func at(start, count uint32) idmap.Map { return idmap.Map{{Inner: 0, Outer: start, Count: count}} }

// recorded is a record for each lease, with these flags.
func recorded(flags string) func(lease.Status) (lease.Record, error) {
	return func(l lease.Status) (lease.Record, error) {
		return lease.Record{Owner: l.Owner, Flags: flags}, nil
	}
}

func unrecorded(lease.Status) (lease.Record, error) { return lease.Record{}, ErrNoRecord }

// of gives a lease its owner.
func of(owner string, l lease.Status) lease.Status {
	l.Owner = owner
	return l
}

func users(all ...registry.Account) registry.World {
	return registry.World{Host: registry.Host{Users: all}}
}

var (
	alice = registry.Account{Name: "alice", ID: 1000, Where: "/etc/passwd:2"}
	bob   = registry.Account{Name: "bob", ID: 1001, Where: "/etc/passwd:3"}
)

func TestAudit(t *testing.T) {
	me := fmt.Sprintf("process %d (census.test) in a user namespace", os.Getpid())
	two := []string{fmt.Sprintf("alice:%d:65536:", roomy), fmt.Sprintf("bob:%d:65536:", roomy+65536)}
	for name, tc := range map[string]struct {
		census Census
		lines  []string
		record func(lease.Status) (lease.Record, error)
		want   []string // the beginning of each finding
	}{
		"nothing": {lines: two},
		"a container in its own line": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))}}, lines: two,
		},
		"by name and by number": {
			census: Census{World: users(alice), Leases: []lease.Status{of("1000", held("/r", "a", 7, set(roomy, 65536)))}}, lines: two,
		},
		"in another's line": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy+65536, 65536)))}}, lines: two,
			want: []string{
				"error: container a of /r: has [1879113728-1879179264) of owner alice, which belongs to bob (/etc/usernamespaces:2) by now: stop it",
				"warning: container a of /r: [1879113728-1879179264) isn't granted to alice any more: it keeps",
			},
		},
		"in no line": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy+(1<<20), 1)))}}, lines: two,
			want: []string{"warning: container a of /r: [1880096768-1880096769) isn't granted to alice any more"},
		},
		"half in its line": {
			census: Census{Leases: []lease.Status{of("bob", held("/r", "a", 7, set(roomy+131072-10, 20)))}}, lines: two,
			want: []string{"warning: container a of /r: [1879179264-1879179274) isn't granted to bob any more"},
		},
		"other flags by now": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))}}, record: recorded(""),
			lines: []string{fmt.Sprintf("alice:%d:65536:deny-setgroups", roomy)},
			want:  []string{"warning: container a of /r: it has the flags none, and the book says deny-setgroups: it keeps"},
		},
		"fewer flags by now": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))}}, record: recorded("deny-setgroups,no-new-privs"), lines: two,
			want: []string{"warning: container a of /r: it has the flags deny-setgroups,no-new-privs, and the book says none: it keeps"},
		},
		"another size is no difference": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))}}, record: recorded("size=65536"), lines: two,
		},
		"flags of another build": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))}}, record: recorded("of-tomorrow"), lines: two,
			want: []string{`warning: container a of /r: it has the flags "of-tomorrow", which this build doesn't know`},
		},
		"a record that can't be read": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))}}, lines: two,
			record: func(lease.Status) (lease.Record, error) { return lease.Record{}, lease.ErrRecord },
			want:   []string{"warning: container a of /r: what was written down of it can't be read: record of the container: exec is refused"},
		},
		"another way of handing out is no difference": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))}}, record: recorded("no-new-privs"),
			lines: []string{fmt.Sprintf("alice:%d:65536:no-new-privs,shared", roomy)},
		},
		"flags of several lines": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 131072)))}}, record: recorded("deny-setgroups"),
			lines: []string{fmt.Sprintf("alice:%d:65536:deny-setgroups", roomy), fmt.Sprintf("alice:%d:65536:no-new-privs", roomy+65536)},
			want:  []string{"warning: container a of /r: it has the flags deny-setgroups, and the book says deny-setgroups,no-new-privs: it keeps"},
		},
		"two have the same": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 10))), of("alice", held("/r", "b", 8, set(roomy+5, 10)))}}, lines: two,
			want: []string{"error: container a of /r: has [1879048197-1879048202), and so has container b of /r: stop one of them"},
		},
		"two in one namespace": {
			census: Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 10))), of("alice", held("/r", "b", 7, set(roomy, 10)))}}, lines: two,
		},
		"one that has ended, with a process": {
			census: Census{Leases: []lease.Status{func() lease.Status {
				l := of("alice", held("/r", "a", 7, set(roomy, 10)))
				l.State, l.Alive = lease.Process, 4711
				return l
			}()}}, lines: two,
			want: []string{"warning: container a of /r, process 4711: has ended, and a process has IDs of [1879048192-1879048202) still, so that nobody else gets them: ps -fp 4711"},
		},
		"one that was found alive": {
			census: Census{Leases: []lease.Status{{Entry: lease.Entry{Ranges: set(roomy, 10), Rebuilt: true, UserNS: 7}, State: lease.Process, Alive: 4711}}}, lines: two,
			want: []string{"warning: a container that was found alive, process 4711: has [1879048192-1879048202), and no lease of it was left"},
		},
		"root's namespace in a line": {
			census: Census{Live: []lease.LiveNS{live(9, at(roomy, 10))}, Kin: map[uint64]Kin{9: {}}}, lines: two,
			want: []string{"error: " + me + " that UID 0 made: has [1879048192-1879048202) of alice (/etc/usernamespaces:1), and no lease: a container of alice could get them too: end it, or move the line: ps -fp "},
		},
		"a namespace of who can't be told": {
			census: Census{Live: []lease.LiveNS{live(9, at(roomy, 10))}}, lines: two,
			want: []string{"error: " + me + ": has [1879048192-1879048202) of alice"},
		},
		"in a reserved line": {
			census: Census{Live: []lease.LiveNS{live(9, at(roomy, 10))}, Kin: map[uint64]Kin{9: {}}},
			lines:  []string{fmt.Sprintf("incus:%d:65536:reserved", roomy)},
		},
		"her own, in her line": {
			census: Census{World: users(alice), Live: []lease.LiveNS{live(9, at(roomy, 10))}, Kin: map[uint64]Kin{9: {Creator: 1000}}}, lines: two,
		},
		"two users of one group": {
			census: Census{
				World: users(alice, bob),
				Live: []lease.LiveNS{
					{Inode: 9, PID: os.Getpid(), UIDs: at(1000, 1), GIDs: at(100, 1)}, {Inode: 10, PID: os.Getpid(), UIDs: at(1001, 1), GIDs: at(100, 1)},
				}, Kin: map[uint64]Kin{9: {Creator: 1000}, 10: {Creator: 1001}},
			},
		},
		"a user's number that is another's group": {
			census: Census{
				World: users(alice, bob),
				Live: []lease.LiveNS{
					{Inode: 9, PID: os.Getpid(), UIDs: at(3000000, 5), GIDs: at(3000010, 5)}, {Inode: 10, PID: os.Getpid(), UIDs: at(3000010, 5), GIDs: at(3000000, 5)},
				}, Kin: map[uint64]Kin{9: {Creator: 1000}, 10: {Creator: 1001}},
			},
		},
		"inside of her own, in her line": {
			census: Census{
				World: users(alice), Live: []lease.LiveNS{live(9, at(roomy, 10)), live(10, at(roomy+5, 1))},
				Kin: map[uint64]Kin{9: {Creator: 1000}, 10: {Creator: roomy + 5, Parents: []uint64{9}}},
			}, lines: two,
		},
		"two of root's that overlap": {
			census: Census{Live: []lease.LiveNS{live(9, at(3000000, 10)), live(10, at(3000005, 10))}, Kin: map[uint64]Kin{9: {}, 10: {}}},
			want:   []string{"warning: " + me + " that UID 0 made: has [3000005-3000010), and so has " + me + " that UID 0 made: end one of them"},
		},
		"one range that an engine of root's gives to all": {
			census: Census{Live: []lease.LiveNS{live(9, at(3000000, 10)), live(10, at(3000000, 10))}, Kin: map[uint64]Kin{9: {}, 10: {}}},
		},
		"IDs of a container that are others' by now": {
			census: Census{
				World: registry.World{
					Host:    registry.Host{Users: []registry.Account{{Name: "new", ID: 3000001, Where: "/etc/passwd:9"}, alice}},
					SubUIDs: []registry.SubID{{Owner: "new", Range: idmap.Range{Start: 3000005, Count: 100}, Where: "/etc/subuid:1"}, {Owner: "alice", Range: idmap.Range{Start: 3000000, Count: 3}, Where: "/etc/subuid:2"}},
				},
				Leases: []lease.Status{of("alice", held("/r", "a", 7, set(3000000, 10)))},
			},
			want: []string{
				"error: container a of /r: has [3000001-3000002), which no line grants any more, and which is user new's (/etc/passwd:9) by now: stop it",
				"error: container a of /r: has [3000005-3000010), which no line grants any more, and which is new's (/etc/subuid:1) by now: stop it",
				"warning: container a of /r: [3000000-3000010) isn't granted to alice any more",
			},
		},
		"a restored container, of whose namespace the lease says nothing": {
			census: Census{
				Leases: []lease.Status{of("alice", held("/r", "a", 0, set(roomy, 65536)))}, Live: []lease.LiveNS{live(7, at(roomy, 65536))}, Kin: map[uint64]Kin{7: {}},
			}, lines: two,
		},
		"one that has ended meanwhile": {
			census: Census{
				Ended: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))}, Live: []lease.LiveNS{live(7, at(roomy, 65536))}, Kin: map[uint64]Kin{7: {}},
			}, lines: two,
		},
		"lost leases": {
			census: Census{Unkept: true, Live: []lease.LiveNS{live(7, at(roomy, 65536))}, Kin: map[uint64]Kin{7: {}}}, lines: two,
			want: []string{"error: " + me + " that UID 0 made: has [1879048192-1879113728) of alice (/etc/usernamespaces:1), and no lease: none is kept on this host: if userns-runtime has started it, they were lost"},
		},
		"four of root's": {
			census: Census{
				Live: []lease.LiveNS{live(9, at(3000000, 10)), live(10, at(3000001, 5)), live(11, at(3000009, 5)), live(12, at(3000014, 5))}, Kin: map[uint64]Kin{9: {}, 10: {}, 11: {}, 12: {}},
			},
			want: []string{"warning: " + me + " that UID 0 made: has [3000001-3000006), and so has " + me + " that UID 0 made, and 1 more have some of its IDs: end one"},
		},
		"IDs that are themselves inside, of services of root's": {
			census: Census{
				Live: []lease.LiveNS{
					{Inode: 9, PID: os.Getpid(), UIDs: idmap.Map{{Inner: 0, Outer: 0, Count: 1}, {Inner: 33, Outer: 33, Count: 1}}, GIDs: idmap.Map{{Inner: 33, Outer: 33, Count: 1}}},
					{Inode: 10, PID: os.Getpid(), UIDs: idmap.Map{{Inner: 0, Outer: 0, Count: 1}, {Inner: 33, Outer: 33, Count: 1}}, GIDs: idmap.Map{{Inner: 110, Outer: 110, Count: 1}}},
				}, Kin: map[uint64]Kin{9: {}, 10: {}},
			},
		},
		"two of root's that have no group yet": {
			census: Census{
				Live: []lease.LiveNS{
					{Inode: 9, PID: os.Getpid(), UIDs: at(3000000, 5), Has: set(0, 1)}, {Inode: 10, PID: os.Getpid(), UIDs: at(3000005, 5), Has: set(0, 1)},
				}, Kin: map[uint64]Kin{9: {}, 10: {}},
			},
		},
		"another in the range of a restored container": {
			census: Census{
				Leases: []lease.Status{of("alice", held("/r", "a", 0, set(roomy, 65536)))}, Live: []lease.LiveNS{live(7, at(roomy, 65536)), live(8, at(roomy+5, 5))}, Kin: map[uint64]Kin{7: {}, 8: {}},
			}, lines: two,
			want: []string{
				"error: " + me + " that UID 0 made: has [1879048197-1879048202) of alice (/etc/usernamespaces:1), and no lease",
				"error: " + me + " that UID 0 made: has [1879048197-1879048202), which container a of /r holds",
			},
		},
		"one that is being started": {
			census: Census{
				Leases: []lease.Status{func() lease.Status {
					l := of("alice", held("/r", "a", 0, set(roomy, 65536)))
					l.State = lease.Starting
					return l
				}()}, Live: []lease.LiveNS{live(7, at(roomy, 10))}, Kin: map[uint64]Kin{7: {}},
			}, lines: two,
		},
		"shared, of two owners": {
			census: Census{
				Leases: []lease.Status{
					func() lease.Status { l := of("alice", held("/r", "a", 7, set(roomy, 10))); l.Shared = true; return l }(),
					func() lease.Status { l := of("bob", held("/r", "b", 8, set(roomy+5, 5))); l.Shared = true; return l }(),
				},
			}, lines: []string{fmt.Sprintf("alice:%d:65536:shared", roomy)}, record: recorded(""),
			want: []string{
				"error: container a of /r: has [1879048197-1879048202), and so has container b of /r",
				"error: container b of /r: has [1879048197-1879048202) of owner bob, which belongs to alice",
				"warning: container b of /r: [1879048197-1879048202) isn't granted to bob any more",
			},
		},
		"two deep inside of a container": {
			census: Census{
				Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))},
				Live:   []lease.LiveNS{live(9, at(roomy+1000, 10))}, Kin: map[uint64]Kin{9: {Creator: roomy, Parents: []uint64{8, 7}}},
			}, lines: two,
		},
		"more IDs than its container's lease has": {
			census: Census{
				Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 10)))},
				Live:   []lease.LiveNS{live(9, at(roomy, 20))}, Kin: map[uint64]Kin{9: {Creator: roomy, Parents: []uint64{7}}},
			}, lines: two,
			want: []string{"error: " + me + " that UID 1879048192 made: has [1879048192-1879048212) of alice"},
		},
		"over what was found alive": {
			census: Census{
				Leases: []lease.Status{{Entry: lease.Entry{Ranges: set(3000000, 10), Rebuilt: true, UserNS: 7}, State: lease.Process, Alive: 4711}},
				Live:   []lease.LiveNS{live(9, at(3000000, 10))}, Kin: map[uint64]Kin{9: {}},
			},
			want: []string{"warning: a container that was found alive"},
		},
		"a group that isn't the user's": {
			census: Census{
				World: registry.World{Host: registry.Host{Users: []registry.Account{alice}, Groups: []registry.Account{{Name: "staff", ID: 50, Where: "/etc/group:9"}}}},
				Live:  []lease.LiveNS{{Inode: 9, PID: os.Getpid(), UIDs: at(1000, 1), GIDs: at(49, 3)}}, Kin: map[uint64]Kin{9: {Creator: 1000}},
			},
			want: []string{"error: " + me + " that alice made: may be group staff (/etc/group:9), since 50 is in its map"},
		},
		"IDs that a user keeps in a namespace without maps": {
			census: Census{
				World: registry.World{Host: registry.Host{Users: []registry.Account{alice}, Groups: []registry.Account{{Name: "alice", ID: 1000, Where: "/etc/group:1"}}}},
				Live:  []lease.LiveNS{{Inode: 9, PID: os.Getpid(), Has: set(1000, 1)}}, Kin: map[uint64]Kin{9: {Creator: 1000}},
			},
		},
		"a line that she and root use": {
			census: Census{
				World: users(alice), Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))},
				Live: []lease.LiveNS{live(9, at(roomy+65536, 10))}, Kin: map[uint64]Kin{9: {Creator: 1000}},
			}, lines: []string{fmt.Sprintf("alice:%d:131072:", roomy)},
			want: []string{"warning: " + me + " that alice made: has [1879113728-1879113738) of alice's own line (/etc/usernamespaces:1), from which root starts containers too (container a of /r)"},
		},
		"hers, in his line": {
			census: Census{World: users(alice, bob), Live: []lease.LiveNS{live(9, at(roomy+65536, 10))}, Kin: map[uint64]Kin{9: {Creator: 1000}}}, lines: two,
			want: []string{"error: " + me + " that alice made: has [1879113728-1879113738) of bob"},
		},
		"inside of a container": {
			census: Census{
				Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))},
				Live:   []lease.LiveNS{live(7, at(roomy, 65536)), live(9, at(roomy+1000, 10))}, Kin: map[uint64]Kin{9: {Creator: roomy, Parents: []uint64{7}}},
			}, lines: two,
		},
		"beside a container": {
			census: Census{
				Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy, 65536)))},
				Live:   []lease.LiveNS{live(7, at(roomy, 65536)), live(9, at(roomy+1000, 10))}, Kin: map[uint64]Kin{9: {Creator: 1000}},
			}, lines: two,
			want: []string{
				"error: " + me + " that UID 1000 made: has [1879049192-1879049202) of alice",
				"error: " + me + " that UID 1000 made: has [1879049192-1879049202), which container a of /r holds: end one of them",
			},
		},
		"two users have the same": {
			census: Census{
				World: users(alice, bob), Live: []lease.LiveNS{live(9, at(3000000, 10)), live(10, at(3000005, 10))},
				Kin: map[uint64]Kin{9: {Creator: 1000}, 10: {Creator: 1001}},
			},
			want: []string{"error: " + me + " that alice made: has [3000005-3000010), and so has " + me + " that bob made: end one of them"},
		},
		"two of one user, and one inside of another": {
			census: Census{
				World: users(alice), Live: []lease.LiveNS{live(9, at(3000000, 10)), live(10, at(3000005, 10)), live(11, at(3000006, 2))},
				Kin: map[uint64]Kin{9: {Creator: 1000}, 10: {Creator: 1000}, 11: {Creator: 3000005, Parents: []uint64{10}}},
			},
		},
		"her own ID": {
			census: Census{World: users(alice), Live: []lease.LiveNS{live(9, at(1000, 1))}, Kin: map[uint64]Kin{9: {Creator: 1000}}},
		},
		"another account": {
			census: Census{World: users(alice, bob), Live: []lease.LiveNS{live(9, at(1000, 2))}, Kin: map[uint64]Kin{9: {Creator: 1000}}},
			want:   []string{"error: " + me + " that alice made: may be user bob (/etc/passwd:3), since 1001 is in its map: move the account"},
		},
		"root's map of an account": {
			census: Census{World: users(alice), Live: []lease.LiveNS{live(9, at(1000, 2))}, Kin: map[uint64]Kin{9: {}}},
		},
		"lines of nobody": {
			census: Census{World: registry.World{
				Host:    registry.Host{Users: []registry.Account{alice}},
				SubUIDs: []registry.SubID{{Owner: "alice", Range: idmap.Range{Start: 3000000, Count: 1}, Where: "/etc/subuid:1"}, {Owner: "gone", Range: idmap.Range{Start: 3000001, Count: 1}, Where: "/etc/subuid:2"}},
				SubGIDs: []registry.SubID{{Owner: "containers", Range: idmap.Range{Start: 3000000, Count: 1}, Where: "/etc/subgid:1"}, {Owner: "1000", Range: idmap.Range{Start: 3000001, Count: 1}, Where: "/etc/subgid:2"}},
			}},
			want: []string{"warning: /etc/subuid:2: gone has no account, and [3000001-3000002) is kept for them"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			record := tc.record
			if record == nil {
				record = unrecorded
			}
			var got []string
			for _, f := range tc.census.Audit(book(t, tc.lines...), record) {
				got = append(got, f.Severity.String()+": "+f.Message)
				if f.Where == "" || f.Range.Count == 0 || strings.Contains(f.Message, "%!") {
					t.Errorf("%+v", f)
				}
			}
			if len(got) != len(tc.want) {
				t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
			for i, want := range tc.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got  %s\nwant %s", got[i], want)
				}
			}
		})
	}
}

func TestKin(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	id := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 3000000000, Size: 10}}
	child := exec.Command("unshare", "--user", "--map-root-user", "unshare", "--user", "--map-root-user", "sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: id, GidMappings: id, Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{NoSetGroups: true}}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	proc := fmt.Sprintf("/proc/%d/", child.Process.Pid)
	own, err := inodeOf("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if name, err := os.ReadFile(proc + "comm"); err != nil {
			t.Fatal(err)
		} else if string(name) == "sleep\n" {
			break
		}
		_ = exec.Command("sleep", "0.01").Run()
	}
	inode, err := inodeOf(proc + "ns/user")
	if err != nil {
		t.Fatal(err)
	}
	kin, ok := kinAt(proc+"ns/user", inode, own)
	if !ok || kin.Creator != 3000000000 || len(kin.Parents) != 2 || slices.Contains(kin.Parents, own) || slices.Contains(kin.Parents, inode) || kin.Parents[0] == kin.Parents[1] {
		t.Errorf("got %+v %v", kin, ok)
	}
	if _, ok := kinAt(proc+"ns/user", inode+1, own); ok {
		t.Error("another namespace than the one that was meant")
	}
	if _, ok := kinAt(proc+"ns/net", inode, own); ok {
		t.Error("not a user namespace")
	}
	all := kinOf([]lease.LiveNS{{Inode: inode, PID: child.Process.Pid}, {Inode: 0, PID: child.Process.Pid}, {Inode: 1, PID: 1 << 30}})
	if len(all) != 1 || all[inode].Creator != 3000000000 {
		t.Errorf("got %+v", all)
	}
}

func TestReadRecord(t *testing.T) {
	dir := t.TempDir()
	record := lease.Record{Owner: "alice", UIDs: at(1, 2), GIDs: at(3, 4)}
	path := filepath.Join(dir, "state.json")
	write(t, path, fmt.Sprintf(`{"id":"a","config":{"labels":["bundle=/x",%q]},"more":1}`, specpatch.RecordAnnotation+"="+record.String()))
	got, err := readRecord(path)
	if err != nil || got.Owner != "alice" || !got.UIDs.Equal(at(1, 2)) || !got.GIDs.Equal(at(3, 4)) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.Symlink(path, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/none", `{"config":{"labels":["bundle=/x"]}}`)
	write(t, dir+"/broken", `{"config":`)
	write(t, dir+"/odd", `{"config":{"labels":["`+specpatch.RecordAnnotation+`={}"]}}`)
	for name, want := range map[string]string{
		"gone": "no record", "link": "too many levels of symbolic links", "fifo": "isn't a regular file", "none": "no record", "broken": "unexpected EOF", "odd": "it has version 0",
	} {
		if got, err := readRecord(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestWho(t *testing.T) {
	l := of("alice", held("/r", "a", 7, set(roomy, 65536)))
	early := of("alice", held("/r", "early", 0, set(roomy+65536, 10)))
	recorded := of("alice", held("/r", "recorded", 0, set(roomy+65546, 10)))
	c := &Census{
		World: registry.World{
			Host:      registry.Host{Users: []registry.Account{alice}, Groups: []registry.Account{{Name: "staff", ID: 1000, Where: "/etc/group:1"}}},
			SubUIDs:   []registry.SubID{{Owner: "alice", Range: idmap.Range{Start: roomy, Count: 10}, Where: "/etc/subuid:1"}},
			SubGIDs:   []registry.SubID{{Owner: "bob", Range: idmap.Range{Start: roomy, Count: 10}, Where: "/etc/subgid:1"}},
			Installed: []registry.Software{registry.Systemd},
		},
		Leases: []lease.Status{l, early, recorded},
		Live: []lease.LiveNS{
			{Inode: 7, PID: os.Getpid(), UIDs: at(roomy, 65536), GIDs: at(roomy, 5)},
			live(9, at(3000000, 10)),
			{Inode: 10, PID: os.Getpid(), Has: set(1000, 1)},
		},
	}
	b := book(t, fmt.Sprintf("alice:%d:131072:", roomy), "later:5000000:10:reserved")
	for id, want := range map[uint32]string{
		roomy + 3:     "container a user 3 inside, group 3 inside|line alice user, group|subuid alice user|subgid bob group",
		roomy + 7:     "container a user 7 inside|line alice user, group|subuid alice user|subgid bob group",
		roomy + 65540: "container early user, group|line alice user, group",
		roomy + 65549: "container recorded user 1 inside|line alice user, group",
		3000004:       "namespace ME user 4 inside, group 4 inside",
		1000:          "namespace ME user, group|user alice user|group staff group",
		5000001:       "reserved later user, group",
		61200:         "allocator systemd user, group",
		77:            "",
	} {
		var got []string
		for _, claim := range c.Who(b, id, func(l lease.Status) (lease.Record, error) {
			if l.ID != "recorded" {
				return lease.Record{}, ErrNoRecord
			}
			return lease.Record{UIDs: at(roomy+65548, 8), GIDs: at(1, 1)}, nil
		}) {
			who := claim.Who
			if claim.Kind == KindNamespace {
				who = "ME"
			}
			got = append(got, fmt.Sprintf("%s %s %s", claim.Kind, who, claim.As()))
		}
		if text := strings.Join(got, "|"); text != want {
			t.Errorf("%d: got %s, want %s", id, text, want)
		}
	}
}

func TestFiles(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	dir := t.TempDir()
	for name, owner := range map[string][2]int{
		"host": {0, 0}, "sub/left": {roomy + 5, 0}, "sub/group": {0, roomy + 6}, "held": {roomy + 100, roomy + 100}, "mixed": {roomy + 100, roomy + 1}, "beyond": {roomy + 65536, 0}, "reserved": {5000000, 0},
	} {
		write(t, filepath.Join(dir, name), "")
		if err := os.Lchown(filepath.Join(dir, name), owner[0], owner[1]); err != nil {
			t.Fatal(err)
		}
	}
	c := &Census{Leases: []lease.Status{of("alice", held("/r", "a", 7, set(roomy+100, 100)))}}
	b := book(t, fmt.Sprintf("alice:%d:65536:", roomy), "later:5000000:10:reserved")
	got := map[string]bool{}
	note := Files{
		Found: func(l Left) {
			rel, _ := filepath.Rel(dir, l.Path)
			got[rel] = l.Line.Owner == "alice" && !l.Account
		},
		Mount:  func(path string) { t.Errorf("a mount on %s", path) },
		Failed: func(path string, err error) { t.Errorf("%s: %v", path, err) },
	}
	if err := c.Files(b, dir, note); err != nil {
		t.Error(err)
	}
	if len(got) != 3 || !got["sub/left"] || !got["sub/group"] || !got["mixed"] {
		t.Errorf("got %v", got)
	}
	if err := c.Files(b, dir+"/host", note); err == nil || !strings.Contains(err.Error(), "isn't a directory") {
		t.Errorf("a file: %v", err)
	}
	// A shared line's are its owner's for good; those of an account may be in use unseen.
	clear(got)
	c.World = users(alice)
	if err := c.Files(book(t, fmt.Sprintf("alice:%d:65536:shared", roomy)), dir, note); err != nil || len(got) != 0 {
		t.Errorf("shared: got %v, %v", got, err)
	}
	if err := c.Files(b, dir, note); err != nil || len(got) != 3 || got["mixed"] {
		t.Errorf("an account's: got %v, %v", got, err)
	}
}

// What is mounted below isn't even asked: its server may be dead.
func TestFilesMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount")
	}
	dir := t.TempDir()
	write(t, dir+"/real/left", "")
	write(t, dir+"/real/mnt/x", "")
	write(t, dir+"/real/file", "")
	if err := os.Symlink("real", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{{"tmpfs", "/real/mnt", "tmpfs", 0}, {dir + "/real/left", "/real/file", "", unix.MS_BIND}} {
		if err := unix.Mount(m.source, dir+m.target, m.kind, m.flags, ""); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount(dir+m.target, unix.MNT_DETACH) }()
	}
	write(t, dir+"/real/mnt/left", "")
	for _, name := range []string{"/real/mnt/left", "/real/left"} {
		if err := os.Chown(dir+name, roomy, 0); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err := new(Census).Files(book(t, fmt.Sprintf("alice:%d:65536:", roomy)), dir+"/link", Files{
		Found:  func(l Left) { got = append(got, "found "+l.Path) },
		Mount:  func(path string) { got = append(got, "mount "+path) },
		Failed: func(path string, err error) { t.Errorf("%s: %v", path, err) },
	})
	slices.Sort(got)
	if want := []string{"found " + dir + "/real/left", "mount " + dir + "/real/file", "mount " + dir + "/real/mnt"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// A directory that is replaced by a link while it is looked at leads nowhere: Found is called between
// the look at it and its opening.
func TestFilesReplaced(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, dir+"/d/x", "")
	write(t, elsewhere+"/left", "")
	for _, path := range []string{dir + "/d", elsewhere + "/left"} {
		if err := os.Chown(path, roomy, 0); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err := new(Census).Files(book(t, fmt.Sprintf("alice:%d:65536:", roomy)), dir, Files{
		Found: func(l Left) {
			got = append(got, l.Path)
			if l.Path == dir+"/d" {
				if err := errors.Join(os.Rename(dir+"/d", elsewhere+"/d"), os.Symlink(elsewhere, dir+"/d")); err != nil {
					t.Error(err)
				}
			}
		},
		Failed: func(path string, err error) { t.Errorf("%s: %v", path, err) },
	})
	if err != nil || !slices.Equal(got, []string{dir + "/d"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// A tree may be deeper than there is memory and descriptors for.
func TestFilesTooDeep(t *testing.T) {
	dir := t.TempDir()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDepth + 10 {
		if err := unix.Mkdirat(at, "d", 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(at)
		at = next
	}
	_ = unix.Close(at)
	failures := 0
	err = new(Census).Files(book(t), dir, Files{Failed: func(_ string, err error) {
		failures++
		if !strings.Contains(err.Error(), "more than 2048 directories lie within each other") {
			t.Error(err)
		}
	}})
	if err != nil || failures != 1 {
		t.Errorf("%d failures, %v", failures, err)
	}
}

// Deeper than a path can be.
func TestFilesFarBelow(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	dir := t.TempDir()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 200)
	for range 30 {
		if err := unix.Mkdirat(at, name, 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(at)
		at = next
	}
	defer func() { _ = unix.Close(at) }()
	if err := unix.Fchown(at, roomy+7, 0); err != nil {
		t.Fatal(err)
	}
	found := 0
	err = new(Census).Files(book(t, fmt.Sprintf("alice:%d:65536:", roomy)), dir, Files{
		Found: func(l Left) { found += len(l.Path) }, Failed: func(path string, err error) { t.Errorf("%.50s...: %v", path, err) },
	})
	if err != nil || found < 6000 {
		t.Errorf("got %d, %v", found, err)
	}
}

// Two users can make as many pairs as they like: what is said of them is limited.
func TestAuditOfAStorm(t *testing.T) {
	c := &Census{World: users(alice, bob), Kin: map[uint64]Kin{}}
	spaces := 3000
	if testing.Short() {
		spaces = 300
	}
	for i := range uint64(spaces) {
		ns := live(i+1, at(3000000, 10))
		ns.PID = 1
		c.Live = append(c.Live, ns)
		c.Kin[i+1] = Kin{Creator: 1000 + uint32(i%2)}
	}
	if found := c.Audit(book(t), unrecorded); len(found) != spaces-1 || !strings.Contains(found[0].Message, fmt.Sprint(spaces/2-1, " more have some of its IDs")) {
		t.Errorf("%d findings, first %+v", len(found), found[0])
	}
	// Each severity has a limit of its own: warnings never become an error.
	for i := range uint64(maxFindings) + 7 {
		c.Leases = append(c.Leases, of("gone", held("/r", fmt.Sprint(i), i+1000000, set(uint32(4000000+i*10), 10))))
	}
	found := c.Audit(book(t), unrecorded)
	if last := found[len(found)-1]; len(found) != maxFindings+1+spaces-1 || last.Severity != registry.Warning || last.Message != "7 more findings: mend these first" {
		t.Errorf("%d findings, last %+v", len(found), last)
	}
}

// A host of many lines, containers and accounts: by the product of their numbers it would take
// longer than tests may.
func TestAuditOfMany(t *testing.T) {
	var lines []string
	c := &Census{}
	lots := uint32(20000)
	if testing.Short() {
		lots = 2000
	}
	for i := range lots {
		owner := fmt.Sprintf("u%d", i%3000)
		lines = append(lines, fmt.Sprintf("%s:%d:4096:size=4096", owner, roomy+i*4096))
		if i%10 == 0 {
			c.Leases = append(c.Leases, of(owner, held("/r", fmt.Sprint("c", i), uint64(i+5), set(roomy+i*4096, 4096))))
		}
	}
	for i := range uint32(3000) {
		c.World.Host.Users = append(c.World.Host.Users, registry.Account{Name: fmt.Sprintf("u%d", i), ID: 1000 + i, Where: "/etc/passwd"})
	}
	b := book(t, lines...)
	for _, f := range c.Audit(b, unrecorded) {
		if f.Severity == registry.Error {
			t.Fatalf("%+v", f)
		}
	}
}
