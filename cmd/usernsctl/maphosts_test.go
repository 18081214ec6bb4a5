// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Made-up hosts that the pictures are tested with.

func bookOf(t testing.TB, lines ...string) *registry.Book {
	t.Helper()
	b, err := new(registry.Book).With(registry.Path, []byte(strings.Join(lines, "\n")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sight() *census.Sight {
	s := &census.Sight{LeasesKnown: true, LiveKnown: true, Names: map[int]string{}}
	for i, name := range strings.Fields("root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc") {
		s.World.Host.Users = append(s.World.Host.Users, registry.Account{Name: name, ID: uint32(i), Where: fmt.Sprintf("/etc/passwd:%d", i+1)})
	}
	s.World.Host.Users = append(s.World.Host.Users,
		registry.Account{Name: "alice", ID: 1000, Where: "/etc/passwd:20"}, registry.Account{Name: "bob", ID: 1001, Where: "/etc/passwd:21"},
		registry.Account{Name: "nobody", ID: 65534, Where: "/etc/passwd:17"})
	s.World.Host.Groups = []registry.Account{{Name: "docker", ID: 998, Where: "/etc/group:50"}, {Name: "nogroup", ID: 65534, Where: "/etc/group:41"}}
	s.World.SubUIDs = []registry.SubID{
		{Owner: "alice", Range: idmap.Range{Start: 100000, Count: 65536}, Where: "/etc/subuid:1"},
		{Owner: "bob", Range: idmap.Range{Start: 165536, Count: 65536}, Where: "/etc/subuid:2"},
	}
	for _, id := range s.World.SubUIDs {
		id.Where = strings.Replace(id.Where, "uid", "gid", 1)
		s.World.SubGIDs = append(s.World.SubGIDs, id)
	}
	s.World.Installed = []registry.Software{registry.Systemd}
	return s
}

// hold gives a container IDs.
func hold(s *census.Sight, owner, id string, start, count uint32) {
	s.Leases = append(s.Leases, lease.Status{
		Entry: lease.Entry{
			Key: lease.Key{Root: "/run/docker/runtime-runc/moby", ID: id}, Owner: owner, UserNS: 4026531837 + uint64(len(s.Leases)),
			Ranges: idmap.NewSet(idmap.Range{Start: start, Count: count}),
		},
		State: lease.Container,
	})
}

func enter(s *census.Sight, pid int, start, count uint32) {
	maps := idmap.Map{{Inner: 0, Outer: start, Count: count}}
	s.Live = append(s.Live, lease.LiveNS{Inode: 4026540000 + uint64(pid), PID: pid, UIDs: maps, GIDs: maps})
	s.Names[pid] = fmt.Sprintf("process %d (rootlesskit) in a user namespace", pid)
}

// example is the host of docs/map.svg: three tenants, a conflict, a rootless user.
func example(t testing.TB) *census.Atlas {
	s := sight()
	for i := range uint32(310) {
		hold(s, "dockroot", fmt.Sprintf("web-%d", i), 1879048192+i*65536, 65536)
	}
	for i := range uint32(40) {
		hold(s, "dockroot", fmt.Sprintf("job-%d", i), 1879048192+(512+7*i)*65536, 65536)
	}
	for i := range uint32(12) {
		hold(s, "ci", fmt.Sprintf("build-%d", i), 1946157056+i*65536, 65536)
	}
	hold(s, "shop", "db", 300000, 65536)
	hold(s, "shop", "cache", 365536, 65536)
	hold(s, "payroll", "batch", 700000, 65536)
	enter(s, 4711, 100000, 65536)
	return s.Atlas(bookOf(t,
		"dockroot:1879048192:67108864:", "ci:1946157056:1048576:no-new-privs", "batch:1947205632:16777216:",
		"shop:300000:262144:deny-setgroups", "payroll:700000:131072:no-new-privs", "audit:830000:65536:", "nfs:1200000:200000:reserved",
		"1001:200000:65536:"))
}

// many is a host with so many lines, of a fifth as many owners, side by side or spread over the space.
func many(t testing.TB, lines, leases int, spread bool) *census.Atlas {
	s, random := sight(), rand.New(rand.NewPCG(1, 2))
	var book []string
	at := uint64(200000)
	for i := range lines {
		length := uint64(65536)
		if lines > 5000 {
			length = 4096
		}
		owner := fmt.Sprintf("tenant-%04d", random.IntN(lines/5+1))
		flags := fmt.Sprintf("size=%d", min(length, 4096))
		if i%37 == 36 {
			owner, flags = "storage", "reserved"
		}
		book = append(book, fmt.Sprintf("%s:%d:%d:%s", owner, at, length, flags))
		if i < leases && flags != "reserved" {
			hold(s, owner, fmt.Sprint("c", i), uint32(at), 4096)
		}
		at += length
		if spread {
			at += uint64(random.IntN(int((uint64(idmap.Invalid) - 300000) / uint64(lines) / 2)))
		}
	}
	return s.Atlas(bookOf(t, book...))
}

// worst is a host on which nothing can be drawn together: neighbours differ everywhere, and all
// conflicts there can be.
func worst(t testing.TB) *census.Atlas {
	s := sight()
	var book []string
	long := strings.Repeat("<&'\"", 60)
	for i := range uint32(20000) {
		at := 200000 + i*200000
		book = append(book, fmt.Sprintf("%s%04d:%d:%d:size=1", long, i%9999, at, 90000))
		if i%2 == 0 {
			hold(s, "x", long+fmt.Sprint(i), at, 50)
			s.World.SubUIDs = append(s.World.SubUIDs, registry.SubID{Owner: long + fmt.Sprint(i), Range: idmap.Range{Start: at + 50000, Count: 90000}, Where: "/etc/subuid:9"})
		}
		s.World.Host.Users = append(s.World.Host.Users, registry.Account{Name: long + fmt.Sprint(i), ID: at + 60, Where: "/etc/passwd:9"})
		enter(s, int(i), at+70000, 10)
	}
	return s.Atlas(bookOf(t, book...))
}

// hostile is a host whose names do what they can.
func hostile(t testing.TB) *census.Atlas {
	s := sight()
	hold(s, "a&b", "]]><!--", 400000, 65536)
	s.World.Host.Users = append(s.World.Host.Users, registry.Account{Name: "\x1b]0;gone\a<b>\xff", ID: 300005, Where: "/etc/passwd:\x1b[2J"})
	s.World.SubUIDs = append(s.World.SubUIDs, registry.SubID{Owner: "e\u202evil\u200b", Range: idmap.Range{Start: 400000, Count: 10}, Where: "/etc/subuid:7"})
	s.Names[9] = "process 9 (\x1b[31m</svg>) in a user namespace"
	enter(s, 8, 500000, 10)
	s.Names[8] = s.Names[9]
	return s.Atlas(bookOf(t,
		"<script>alert(1)</script>:300000:65536:", "a&b\"'<>:400000:65536:", strings.Repeat("long-", 51)+":500000:65536:",
		"שלום-עולם:600000:65536:", "مستخدم:700000:65536:", "🐳-容器-用户:800000:65536:", "z\u0310\u0311\u0312algo:1000000:65536:",
		"\u115f\u3164:1100000:65536:", "﷽﷽﷽﷽﷽﷽﷽﷽﷽﷽:1200000:65536:", "--><![CDATA[:1400000:65536:", strings.Repeat("容", 80)+":1500000:65536:"))
}

// made is the hosts, once they were asked for. Pictures don't change them.
var made map[string]*census.Atlas

func hosts(t testing.TB) map[string]*census.Atlas {
	t.Helper()
	if made != nil {
		return made
	}
	unknown := sight()
	unknown.LeasesKnown, unknown.LiveKnown = false, false
	enter(unknown, 12, 100000, 65536)
	enter(unknown, 13, 310000, 65536)
	bare := &census.Sight{LeasesKnown: true, LiveKnown: true}
	over := sight()
	hold(over, "all", "one", 1<<31, 65536)
	tiny := &census.Sight{LeasesKnown: true, LiveKnown: true}
	hold(tiny, "a", "c", 300002, 2)
	across := sight()
	across.World.SubUIDs = append(across.World.SubUIDs, registry.SubID{Owner: "x", Range: idmap.Range{Start: 65000, Count: 10000}, Where: "/etc/subuid:3"})
	deep := sight()
	var pile []string
	for i := range uint32(120) {
		pile = append(pile, fmt.Sprintf("owner%d:%d:%d:", i, 300000+i*100, 1000000-i*200))
	}
	made = map[string]*census.Atlas{
		"ten":       example(t),
		"thousand":  many(t, 1000, 500, false),
		"hostile":   hostile(t),
		"no-book":   sight().Atlas(&registry.Book{}),
		"nothing":   bare.Atlas(&registry.Book{}),
		"whole":     over.Atlas(bookOf(t, "all:65536:4294901759:")),
		"not-root":  unknown.Atlas(bookOf(t, "shop:300000:262144:", "pay:700000:131072:shared")),
		"tiny":      tiny.Atlas(bookOf(t, "a:300000:5:size=1", "b:300006:1:size=1")),
		"pile":      deep.Atlas(bookOf(t, pile...)),
		"across":    across.Atlas(bookOf(t, "low:65000:500:size=10", "one:1:1:reserved", "top:4294967290:5:size=1")),
		"reserving": sight().Atlas(bookOf(t, "keep:300000:65536:reserved")),
	}
	if !testing.Short() { // "thousand" is of their kind
		made["twenty"] = many(t, 20000, 10000, false)
		made["spread"] = many(t, 20000, 10000, true)
		made["worst"] = worst(t)
	}
	return made
}
