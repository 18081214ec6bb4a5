// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
)

func TestChooseOwner(t *testing.T) {
	root := delegate.Caller{UID: 0, Name: "root"}
	alice := delegate.Caller{UID: 1000, Name: "alice"}
	cfg := config.Default()
	cfg.DefaultOwner = "fallback"
	cfg.Rules = []config.Rule{{Root: "/run/k8s", Owner: "kube"}}
	allowed := cfg
	allowed.Annotations = []string{config.AnnotationOwner}
	nobody := cfg
	nobody.DefaultOwner = ""
	annotation := map[string]string{config.AnnotationPrefix + config.AnnotationOwner: "noted"}

	for name, tc := range map[string]struct {
		who         delegate.Caller
		flag        string
		program     string
		root        string
		cfg         config.Config
		annotations map[string]string
		want        string // "" is a refusal
		by          string // or, in the refusal
	}{
		"flag first":               {root, "flagged", "/usr/bin/userns-runtime-link", "/run/k8s", allowed, annotation, "flagged", "--owner"},
		"then the program's name":  {root, "", "/usr/bin/userns-runtime-link", "/run/k8s", allowed, annotation, "link", "program name userns-runtime-link"},
		"then the rule":            {root, "", "userns-runtime", "/run/k8s/ns", allowed, annotation, "kube", "[[rule]]"},
		"then the annotation":      {root, "", "userns-runtime", "/run/other", allowed, annotation, "noted", "annotation io.userns-runtime.owner"},
		"then the default":         {root, "", "userns-runtime", "/run/other", allowed, nil, "fallback", "default-owner"},
		"annotation not allowed":   {root, "", "userns-runtime", "/run/other", cfg, annotation, "fallback", "default-owner"},
		"nobody":                   {root, "", "userns-runtime", "/run/other", nobody, nil, "", "nobody owns this container"},
		"another name, no owner":   {root, "", "/x/my-userns-runtime-link", "/run/other", cfg, nil, "fallback", "default-owner"},
		"a directory of that name": {root, "", "/x/userns-runtime-link/runc", "/run/other", cfg, nil, "fallback", "default-owner"},
		"user":                     {alice, "", "userns-runtime", "/run/k8s", allowed, annotation, "alice", "the caller"},
		"user, by name":            {alice, "alice", "userns-runtime", "/r", cfg, nil, "alice", "the caller"},
		"user, by number":          {alice, "1000", "userns-runtime", "/r", cfg, nil, "alice", "the caller"},
		"user for another":         {alice, "bob", "userns-runtime", "/r", cfg, nil, "", "--owner asks for owner \"bob\""},
		"user by another's link":   {alice, "", "userns-runtime-bob", "/r", cfg, nil, "", "program name userns-runtime-bob asks for owner"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := oci.Invocation{Owner: tc.flag, OwnerSet: tc.flag != ""}
			got, err := chooseOwner(tc.who, inv, tc.program, tc.root, tc.cfg, tc.annotations)
			if tc.want == "" {
				if err == nil || !strings.Contains(err.Error(), tc.by) {
					t.Fatalf("got %+v %v, expected %q", got, err, tc.by)
				}
				return
			}
			if err != nil || got.Name != tc.want || !strings.Contains(got.By, tc.by) {
				t.Fatalf("got %+v %v, expected %q by %q", got, err, tc.want, tc.by)
			}
		})
	}
}

func TestHolderNames(t *testing.T) {
	for owner, want := range map[string][]string{
		"root": {"root", "0"}, "0": {"0", "root"}, "no-such-account": {"no-such-account"}, "4000000000": {"4000000000"},
	} {
		if got := holder(delegate.Caller{}, ownership{Name: owner}); !slices.Equal(got.Names, want) || got.Own != nil {
			t.Errorf("%s: got %+v, expected %v", owner, got, want)
		}
	}
	got := holder(delegate.Caller{UID: 1234567, GID: 7, Name: "alice"}, ownership{Name: "alice"})
	if !slices.Equal(got.Names, []string{"alice", "1234567"}) || got.Own == nil || got.Own.UID != 1234567 || got.Own.GID != 7 {
		t.Errorf("a user: got %+v", got)
	}
}

// The images of a checkpoint are made here by hand, in the form that CRIU 3
// writes: CRIU itself doesn't run on every kernel (its dump fails on 6.18).
func image(magic uint32, message []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, magicCommon)
	out = binary.LittleEndian.AppendUint32(out, magic)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(message)))
	return append(out, message...)
}

func concat(images ...[]byte) []byte { return slices.Concat(images...) }

// inner is a message within a message.
func inner(number uint64, message []byte) []byte {
	return concat(binary.AppendUvarint(nil, number<<3|2), binary.AppendUvarint(nil, uint64(len(message))), message)
}

func inventory(userns uint64) []byte {
	message := concat(field(1, 2), inner(inventoryRootIDs, concat(field(1, 1), field(userNSField, userns))), field(4, 1))
	out := binary.LittleEndian.AppendUint32(nil, magicInventory)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(message))), message...)
}

// tree is pstree.img of these processes.
func tree(pids ...uint64) []byte {
	out := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, magicCommon), magicTree)
	for _, pid := range pids {
		message := concat(field(1, pid), field(2, 0), field(3, pid), field(4, pid), field(5, pid))
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(message))), message...)
	}
	return out
}

func field(number, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, number<<3), value)
}

func extent(number, from, to, count uint64) []byte {
	message := slices.Concat(field(1, from), field(2, to), field(3, count))
	return inner(number, message)
}

func TestDumpedMaps(t *testing.T) {
	ids := func(userns uint64) []byte {
		return image(magicIDs, slices.Concat(field(1, 1), field(2, 1), field(3, 1), field(4, 1), field(9, 3), field(userNSField, userns)))
	}
	good := slices.Concat(extent(1, 0, 100000, 65536), extent(2, 0, 200000, 10), extent(2, 10, 300000, 5))
	complete := func() map[string][]byte {
		return map[string][]byte{"userns-10.img": image(magicUserNS, good), "ids-1.img": ids(10), "ids-7.img": ids(10), "inventory.img": inventory(1), "pstree.img": tree(1, 7)}
	}
	for name, tc := range map[string]struct {
		change  func(map[string][]byte)
		message string
	}{
		"complete":              {func(map[string][]byte) {}, ""},
		"no user namespace":     {func(f map[string][]byte) { delete(f, "userns-10.img") }, "0 user namespaces"},
		"two user namespaces":   {func(f map[string][]byte) { f["userns-11.img"] = f["userns-10.img"] }, "2 user namespaces"},
		"a process outside":     {func(f map[string][]byte) { f["ids-7.img"] = ids(1) }, "ids-7.img: process 7 was in user namespace 1"},
		"a process of no word":  {func(f map[string][]byte) { f["ids-7.img"] = image(magicIDs, field(1, 1)) }, "user namespace 0"},
		"a process without IDs": {func(f map[string][]byte) { f["pstree.img"] = tree(1, 7, 8) }, "ids-8.img: no such file"},
		"no processes":          {func(f map[string][]byte) { f["pstree.img"] = tree() }, "pstree.img: it is empty"},
		"no process tree":       {func(f map[string][]byte) { delete(f, "pstree.img") }, "pstree.img: no such file"},
		"CRIU was in there too": {func(f map[string][]byte) { f["inventory.img"] = inventory(10) }, "it would make none for them"},
		"low bits alike":        {func(f map[string][]byte) { f["inventory.img"] = inventory(1<<32 + 10) }, "more than 32 bits"},
		"low bits of a PID":     {func(f map[string][]byte) { f["pstree.img"] = tree(1, 1<<32+7) }, "more than 32 bits"},
		"low bits of an ID":     {func(f map[string][]byte) { f["ids-7.img"] = ids(1<<32 + 10) }, "more than 32 bits"},
		"CRIU was nowhere":      {func(f map[string][]byte) { f["inventory.img"] = inventory(0) }, "it would make none for them"},
		"no inventory":          {func(f map[string][]byte) { delete(f, "inventory.img") }, "inventory.img: no such file"},
		"no number":             {func(f map[string][]byte) { f["userns-x.img"] = f["userns-10.img"]; delete(f, "userns-10.img") }, "no namespace's number"},
		"another kind":          {func(f map[string][]byte) { f["userns-10.img"] = image(magicIDs, good) }, "isn't an image of that kind"},
		"truncated":             {func(f map[string][]byte) { f["userns-10.img"] = f["userns-10.img"][:30] }, "cut off"},
		"truncated message":     {func(f map[string][]byte) { f["userns-10.img"] = image(magicUserNS, good[:len(good)-1]) }, "cut off"},
		"something behind":      {func(f map[string][]byte) { f["userns-10.img"] = append(f["userns-10.img"], 1, 2, 3) }, "cut off"},
		"no GIDs":               {func(f map[string][]byte) { f["userns-10.img"] = image(magicUserNS, extent(1, 0, 1, 1)) }, "impossible map"},
		"33 bits":               {func(f map[string][]byte) { f["userns-10.img"] = image(magicUserNS, extent(1, 0, 1<<32+5, 1)) }, "more than 32 bits"},
		"empty file":            {func(f map[string][]byte) { f["userns-10.img"] = nil }, "isn't an image of that kind"},
		"a form that isn't one": {func(f map[string][]byte) { f["ids-1.img"] = image(magicIDs, []byte{1<<3 | 5, 0, 0, 0, 0}) }, "a form that isn't used"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := complete()
			tc.change(files)
			for name, data := range files {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			uids, gids, err := dumpedMaps(dir)
			if tc.message == "" {
				if err != nil || uids.String() != "0:100000:65536" || gids.String() != "0:200000:10,10:300000:5" {
					t.Fatalf("got %v %v %v", uids, gids, err)
				}
				return
			}
			if !errors.Is(err, errImages) || !strings.Contains(err.Error(), tc.message) || uids != nil || gids != nil {
				t.Fatalf("got %v %v %v, expected %q", uids, gids, err, tc.message)
			}
		})
	}
	t.Run("writable by others", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "core-1.img")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o666)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := dumpedMaps(dir); !errors.Is(err, errImages) || !strings.Contains(err.Error(), "core-1.img: UID 0 owns it, mode 0666") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a link to elsewhere", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Symlink("/etc/passwd", filepath.Join(dir, "core-1.img")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := dumpedMaps(dir); !errors.Is(err, errImages) || !strings.Contains(err.Error(), "core-1.img: it is neither") {
			t.Fatalf("got %v", err)
		}
	})
	if _, _, err := dumpedMaps(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, errImages) {
		t.Errorf("no directory: got %v", err)
	}
}

func FuzzEachField(f *testing.F) {
	f.Add(extent(1, 0, 100000, 65536))
	f.Add([]byte{1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		total := 0
		_ = eachField(raw, func(_, _ uint64, message []byte) error {
			total += len(message)
			return nil
		})
		if total > len(raw) {
			t.Fatalf("%x: %d bytes of messages in %d", raw, total, len(raw))
		}
	})
}

func TestListenFDs(t *testing.T) {
	for value, want := range map[string]int{"LISTEN_FDS=3": 3, "LISTEN_FDS=": 0, "LISTEN_FDS=-2": 0, "LISTEN_FDS=x": 0, "XLISTEN_FDS=3": 0} {
		if got := listenFDs([]string{"A=b", value}); got != want {
			t.Errorf("%s: got %d", value, got)
		}
	}
}

func TestLastMessage(t *testing.T) {
	for stderr, want := range map[string]string{
		`time="2026-11-22T01:20:19Z" level=error msg="container \"x\" does not exist"` + "\n": `container "x" does not exist`,
		"time=\"x\" level=warning msg=\"first\"\ntime=\"x\" level=error msg=word\n":           "word",
		"plain words\n": "plain words",
		"":              "",
	} {
		if got := lastMessage(stderr); got != want {
			t.Errorf("%q: got %q", stderr, got)
		}
	}
}
