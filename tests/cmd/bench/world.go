// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

const (
	owner  = "userns-runtime-bench"
	held   = "held" // the container that states looks at
	dropIn = registry.DropInDir + "/" + owner + ".conf"

	// firstID is where systemd, Incus and the kubelet hand out nothing.
	firstID  = 0x70000000
	rangeIDs = 65536
)

// world is what the measured programs find: a directory with bundles, and a
// line in the book. Its fields are set as far as it was made.
type world struct {
	ctx        context.Context
	dir        string
	ids        idmap.Range
	many       idmap.Range // of manyOwner
	drop, dirs bool        // the drop-in, and its directory, are ours
	holding    bool
	gatePath   string
	runcPath   string
	ctlPath    string
}

// newWorld makes it. What is there of it on error has to be removed, too.
func newWorld(ctx context.Context) (*world, error) {
	w := &world{ctx: ctx}
	if os.Geteuid() != 0 {
		return w, errors.New("needs root, to hand out IDs of the host: sudo make bench")
	}
	// The gate refuses a runtime that a group could write.
	syscall.Umask(0o022)
	for name, to := range map[string]*string{"userns-runtime": &w.gatePath, "runc": &w.runcPath, "usernsctl": &w.ctlPath} {
		var err error
		if *to, err = filepath.Abs("bin/" + name); err != nil {
			return w, err
		}
		if _, err := os.Stat(*to); err != nil {
			return w, fmt.Errorf("%w: run `make build`, and this in the root of the tree", err)
		}
	}
	if err := w.register(); err != nil {
		return w, err
	}
	return w, w.fill()
}

// register puts a line into the book, for IDs that nobody has.
func (w *world) register() error {
	taken, err := takenIDs()
	if err != nil {
		return err
	}
	if w.ids, err = free(taken, rangeIDs); err != nil {
		return err
	}
	if w.many, err = free(taken.Union(idmap.NewSet(w.ids)), (leases+2*atOnce)*rangeIDs); err != nil {
		return err
	}
	err = os.Mkdir(registry.DropInDir, 0o755)
	if w.dirs = err == nil; err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(dropIn, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("%w: another bench runs, or was killed: remove it with `rm %s`", err, dropIn)
	}
	w.drop = true
	_, err = fmt.Fprintf(f, "%s:%d:%d:\n%s:%d:%d:\n", owner, w.ids.Start, w.ids.Count, manyOwner, w.many.Start, w.many.Count)
	return errors.Join(err, f.Close())
}

// takenIDs is every ID of the book, of accounts and of subordinate ranges. What
// lives without any of them isn't looked for: the bench takes no file of it.
func takenIDs() (idmap.Set, error) {
	var ranges []idmap.Range
	b, err := registry.Load(registry.Path, registry.DropInDir)
	switch {
	case errors.Is(err, registry.ErrNoBook):
	case err != nil:
		return idmap.Set{}, err
	default:
		for _, line := range b.Lines() {
			ranges = append(ranges, line.Range)
		}
	}
	host, err := registry.LoadHost("/etc/passwd", "/etc/group")
	if err != nil {
		return idmap.Set{}, err
	}
	for _, a := range append(host.Users, host.Groups...) {
		ranges = append(ranges, idmap.Range{Start: a.ID, Count: 1})
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		ids, _, err := registry.LoadSubIDs(file)
		if err != nil {
			return idmap.Set{}, err
		}
		for _, id := range ids {
			ranges = append(ranges, id.Range)
		}
	}
	return idmap.NewSet(ranges...), nil
}

// free is the first range of so many IDs from firstID on that isn't taken.
func free(taken idmap.Set, count uint32) (idmap.Range, error) {
	all := idmap.NewSet(idmap.Range{Start: firstID, Count: idmap.Invalid - firstID})
	r, ok := all.Subtract(taken).FirstFit(count)
	if !ok {
		return idmap.Range{}, fmt.Errorf("no %d IDs are free above %d", count, firstID)
	}
	return r, nil
}

// fill makes the directory: two bundles of one content, programs of our own,
// and the configurations.
func (w *world) fill() error {
	var err error
	if w.dir, err = os.MkdirTemp("", owner+"-"); err != nil {
		return err
	}
	// Root of the plain bundle is no root, and has to walk through.
	if err := os.Chmod(w.dir, 0o711); err != nil {
		return err
	}
	for _, program := range []string{"empty", "grant", "maxrss", "shift"} {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", w.path(program), "./tests/cmd/bench/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := run(cmd); err != nil {
			return err
		}
	}
	for file, runtime := range map[string]string{"config.toml": w.runcPath, "fake.toml": w.path("empty")} {
		text := fmt.Sprintf("runtimes = [%q]\n[audit]\npath = %q\nmode = \"require\"\n", runtime, w.path("audit.jsonl"))
		if err := os.WriteFile(w.path(file), []byte(text), 0o644); err != nil {
			return err
		}
	}

	// The gate refuses to shift what others can reach; plain runc's mapped root
	// has to reach it.
	if err := w.bundle("ours", 0o700, nil, "true"); err != nil {
		return err
	}
	userns := func(spec map[string]any) {
		linux := spec["linux"].(map[string]any)
		linux["namespaces"] = append(linux["namespaces"].([]any), map[string]string{"type": "user"})
		maps := []map[string]uint32{{"containerID": 0, "hostID": w.ids.Start, "size": w.ids.Count}}
		linux["uidMappings"], linux["gidMappings"] = maps, maps
	}
	if err := w.bundle("plain", 0o711, userns, "true"); err != nil {
		return err
	}
	if err := w.bundle(held, 0o700, nil, "sleep", "86400"); err != nil {
		return err
	}
	return filepath.WalkDir(w.path("plain/rootfs"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(w.ids.Start), int(w.ids.Start))
	})
}

// bundle makes what runc spec writes, changed by change, on a busybox.
func (w *world) bundle(name string, mode fs.FileMode, change func(map[string]any), args ...string) error {
	dir := w.path(name)
	for _, sub := range []string{"bin", "dev", "etc", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		return err
	}
	box, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: install busybox-static with `make deps`", err)
	}
	data, err := os.ReadFile(box)
	if err != nil {
		return err
	}
	for _, program := range []string{"true", "sleep"} {
		if err := os.WriteFile(filepath.Join(dir, "rootfs/bin", program), data, 0o755); err != nil {
			return err
		}
	}
	if err := run(exec.Command(w.runcPath, "spec", "--bundle", dir)); err != nil {
		return err
	}
	config := filepath.Join(dir, "config.json")
	if data, err = os.ReadFile(config); err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, args
	if change != nil {
		change(spec)
	}
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(config, data, 0o644)
}

// hold starts the container that states looks at.
func (w *world) hold() error {
	w.holding = true
	return run(command("", w.runc("run", "--detach", "--bundle", w.path(held), held)))
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// Both have a --root of their own, so that no container of the host is met.
func (w *world) runc(args ...string) []string {
	return append([]string{w.runcPath, "--root", w.path("state")}, args...)
}

func (w *world) gate(config string, args ...string) []string {
	return append([]string{w.gatePath, "--config", w.path(config), "--owner", owner, "--root", w.path("state")}, args...)
}

// remove leaves nothing of the world. Each step is tried.
func (w *world) remove() error {
	var errs []error
	if w.holding {
		errs = append(errs, run(command("", w.runc("delete", "--force", held))))
	}
	if w.drop {
		errs = append(errs, os.Remove(dropIn))
	}
	if w.dirs {
		// Somebody else's drop-in keeps the directory.
		if err := os.Remove(registry.DropInDir); !errors.Is(err, syscall.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
		// What ran in the foreground, and what only seemed to be held.
		if store, err := lease.Open(); err != nil {
			errs = append(errs, err)
		} else if _, err := store.Collect(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// run runs a command whose output matters only if it fails. A file takes it: a
// container that goes on would hold a pipe open.
func run(cmd *exec.Cmd) error {
	said, err := os.CreateTemp("", owner+"-")
	if err != nil {
		return err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(said.Name())
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(text)))
	}
	return nil
}
