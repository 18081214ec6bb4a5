// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// checkEngines is which runtimes the engines start containers with.
func (h *host) checkEngines() {
	if len(h.engines) == 0 {
		h.fine("engines", "none is installed")
	}
	said := map[flaw]bool{}
	for _, s := range h.engines {
		h.checkSettings(s, said)
		for _, err := range s.Problems {
			if !h.denied(s.Engine, err) {
				h.add(sevError, s.Engine, "correct the file, then run "+command("doctor")+" again", "its settings can't be read, by the engine neither: %s", err)
			}
		}
		if len(s.Problems) > 0 {
			continue // what is known without them isn't what the engine does
		}
		if s.Default.Name == "" {
			h.fine(s.Engine, "starts no containers by itself (its CRI is off)")
			continue
		}
		if s.Default.Other {
			h.fine(s.Engine, "starts containers with %s, which is no runc", s.Default.Name)
		} else {
			h.checkDefault(s)
		}
		for _, r := range s.Others {
			h.checkOther(s, r)
		}
	}
}

// checkSettings is who can change what an engine is told, by which root runs any program that they
// like. said is what there has been a finding for.
func (h *host) checkSettings(s engines.Setup, said map[flaw]bool) {
	files := s.Files
	if !slices.Contains(files, s.File) && s.File != os.DevNull {
		// Where it would be.
		dir := filepath.Dir(s.File)
		for !exists(dir) {
			dir = filepath.Dir(dir)
		}
		files = append(slices.Clone(files), dir)
	}
	for _, path := range files {
		err := changedBy(path)
		f, is := errors.AsType[*flaw](err)
		switch {
		case is && !said[*f]:
			said[*f] = true
			h.add(sevError, path, f.mend, "%s: who can change what %s is told is root, since it says which programs root runs", f.wrong, s.Engine)
		case err != nil && !is:
			h.failed(path, err)
		}
	}
}

// configure is the command that makes an engine use userns-runtime.
func (h *host) configure(s engines.Setup) string {
	if dir := filepath.Dir(s.File); strings.HasPrefix(dir, h.path("/var/lib/rancher/")) {
		// k3s and RKE2 write the file anew at each start.
		return "write userns-runtime as the default runtime into config.toml.tmpl (config-v3.toml.tmpl for containerd 2) in " + rootfile.ShellQuote(dir) + ", which the file is made of"
	}
	usual := map[string]string{"docker": engines.DockerFile, "containerd": engines.ContainerdFile}
	mend, file := command("configure", s.Engine), ""
	if usually, ok := usual[s.Engine]; ok && s.File != h.path(usually) {
		file = s.File
		mend = command("configure", s.Engine, "--file", file)
	}
	if h.uid == 0 && h.try.configure != nil {
		refused := make(chan error, 1)
		go func() { refused <- h.try.configure(s.Engine, file) }()
		var err error
		select {
		case err = <-refused:
		case <-time.After(patience / 3): // it looks into the engine's store, whose server may be gone
		}
		if err != nil {
			return "mend this first: " + strings.ReplaceAll(err.Error(), "\n", "; ") + "; then " + mend
		}
	}
	return mend
}

// orConfigure is the mend, if there is one already.
func (h *host) orConfigure(mend string, s engines.Setup) string {
	if mend != "" {
		return mend
	}
	return h.configure(s)
}

// checkDefault is what starts an engine's containers when nobody asks for another.
func (h *host) checkDefault(s engines.Setup) {
	where := ""
	if s.Default.Where != "" {
		where = " (" + s.Default.Where + ")"
	}
	path := s.Default.Path
	if path != "" && isGate(path) && !h.isProgram(path) {
		wrong, mend, ok := h.judge(s.Engine, path)
		if wrong != "" {
			h.add(sevError, s.Engine, h.orConfigure(mend, s), "starts containers with %s%s, and %s %s", s.Default.Name, where, path, wrong)
		}
		if wrong != "" || !ok {
			return
		}
		h.checkVersion(path, ", and "+s.Engine+" starts containers with it"+where, s)
	}
	switch {
	case path == "" || !isGate(path) && !exists(path):
		h.add(sevError, s.Engine, h.configure(s), "starts containers with %s%s, which isn't there: none starts", s.Default.Name, where)
	case !isGate(path):
		h.add(sevWarning, s.Engine, h.configure(s), "starts containers with %s, %s%s, and not with userns-runtime: they get no range, and root inside is root outside",
			s.Default.Name, path, where)
	default:
		h.fine(s.Engine, "starts containers with %s, %s%s", s.Default.Name, path, where)
	}
}

// checkOther is a runtime that may be asked for by name.
func (h *host) checkOther(s engines.Setup, r engines.Runtime) {
	switch {
	case r.Other, r.Path == "", !exists(r.Path):
		// Not runc, or nothing at all.
		return
	case h.isProgram(r.Path):
		return // what is wrong with it is said already
	case isGate(r.Path):
		wrong, mend, ok := h.judge(s.Engine, r.Path)
		if wrong != "" {
			h.add(sevError, s.Engine, h.orConfigure(mend, s), "its runtime %s is %s, which %s", r.Name, r.Path, wrong)
		} else if ok {
			h.checkVersion(r.Path, ", and it is "+s.Engine+"'s runtime "+r.Name, s)
		}
		return
	}
	real, err := filepath.EvalSymlinks(r.Path)
	if err == nil && slices.Contains(h.twins(), real) {
		// The runc of the host, which has a finding of its own.
		return
	}
	mend := "take it out of the runtimes in " + rootfile.ShellQuote(s.File)
	if strings.HasPrefix(filepath.Base(r.Path), "nvidia-") {
		// NVIDIA's calls the first runc of PATH, which is what --divert is for.
		if len(h.twins()) == 0 {
			return
		}
		mend = command("configure", "--divert")
	}
	h.add(sevWarning, s.Engine, mend, "its runtime %s is %s, and not userns-runtime: containers that ask for it walk past the gate", r.Name, r.Path)
}

// checkStores is where the engines' images and volumes lie.
func (h *host) checkStores() {
	seen := map[string]bool{}
	for _, s := range h.engines {
		for _, store := range s.Stores {
			key := store.Dir + "\x00" + store.Driver
			if seen[key] {
				continue // Podman's and CRI-O's is one
			}
			seen[key] = true
			h.checkDriver(s, store)
			if h.asRoot(store.Dir, "whether its files can be shifted, and who can reach them") {
				// Each by itself, since each may have a server that is gone.
				h.limited(store.Dir, func(h *host) { h.checkStore(s, store) })
			}
		}
	}
}

func (h *host) checkStore(s engines.Setup, store engines.Store) {
	if h.userNS {
		h.checkFilesystem(s, store)
	}
	h.checkExposure(s, store)
}

// settingOf is how a store's place or driver is changed.
func settingOf(s engines.Setup, docker, containers, containerd string) string {
	switch s.Engine {
	case "docker":
		return docker + " in " + rootfile.ShellQuote(s.File)
	case "containerd":
		return containerd + " in " + rootfile.ShellQuote(s.File)
	}
	return containers + " in /etc/containers/storage.conf"
}

// plainDirs is where drivers without layers unpack images to, below the store's
// directory: plain directories, which are shifted only where the configuration says so.
var plainDirs = map[string]map[string]string{
	"docker":     {"vfs": "vfs/dir", "btrfs": "btrfs/subvolumes", "zfs": "zfs/graph", "devicemapper": "devicemapper/mnt"},
	"containerd": {"native": "io.containerd.snapshotter.v1.native/snapshots", "btrfs": "io.containerd.snapshotter.v1.btrfs"},
	"podman":     {"vfs": "vfs/dir", "btrfs": "btrfs/subvolumes", "zfs": "zfs/graph"},
	"crio":       {"vfs": "vfs/dir", "btrfs": "btrfs/subvolumes", "zfs": "zfs/graph"},
}

// checkDriver is the storage driver, as far as it decides by itself.
func (h *host) checkDriver(s engines.Setup, store engines.Store) {
	overlay := settingOf(s, `write "storage-driver": "overlay2"`, `write driver = "overlay", without mount_program,`, `write snapshotter = "overlayfs"`) +
		" (images have to be pulled again)"
	driver := store.Driver
	if store.Program != "" {
		driver = filepath.Base(store.Program)
	}
	switch driver {
	case "fuse-overlayfs", "aufs", "stargz", "nydus":
		h.add(sevError, s.Engine, overlay, "keeps images with %s, whose mounts can't be shifted: no image starts", driver)
		return
	}
	below, plain := plainDirs[s.Engine][driver]
	if !plain {
		return
	}
	dir := filepath.Join(store.Dir, below)
	for _, allowed := range h.config.RootfsDirs {
		if rel, err := filepath.Rel(h.path(allowed), dir); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			h.fine(s.Engine, "keeps images with %s, which rootfs-dirs allows", driver)
			return
		}
	}
	h.add(sevError, s.Engine, fmt.Sprintf("write rootfs-dirs = ['%s'] in /etc/userns-runtime/config.toml, before its tables; or %s", dir, overlay),
		"keeps images with %s, in plain directories that rootfs-dirs doesn't name: no image starts", driver)
}

// checkFilesystem is whether what lies in a store can be shifted, by trying.
func (h *host) checkFilesystem(s engines.Setup, store engines.Store) {
	dir, there := store.Dir, true
	for {
		info, err := os.Stat(dir)
		if err == nil && info.IsDir() {
			break
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			if err == nil {
				err = fmt.Errorf("%s isn't a directory", dir)
			}
			h.failed(s.Engine, err)
			return
		}
		dir, there = filepath.Dir(dir), false
	}
	err := h.try.idmap(dir)
	what := store.Dir
	if !there {
		what += " (which will lie in " + dir + ")"
	}
	_, plain := plainDirs[s.Engine][store.Driver]
	switch {
	case errors.Is(err, rootfs.ErrNoIDMap) && plain && h.config.Shift == config.ShiftChown:
		h.fine(s.Engine, "its files, in %s, can't be shifted, and their owners are changed on disk (shift = 'chown')", what)
	case errors.Is(err, rootfs.ErrNoIDMap):
		h.add(sevError, s.Engine,
			"put it on ext4, xfs, btrfs or tmpfs: "+settingOf(s, `write "data-root": "DIRECTORY"`, `write graphroot = "DIRECTORY"`, `write root = "DIRECTORY"`),
			"its files, in %s, can't be shifted, so no container starts: %s", what, err)
	case err != nil:
		h.failed(s.Engine, err)
	default:
		h.fine(s.Engine, "its files, in %s, can be shifted", what)
	}
}

// kept is what of a store root inside of containers may write to, by engine, and the mode
// that the directory above has when the engine makes it.
var kept = map[string]struct {
	below []string
	close string // the directory to close, below the store's own
	mode  string
}{
	"docker":     {[]string{"volumes", "overlay2", "containers"}, "", "0710"},
	"podman":     {[]string{"volumes", "overlay"}, "", "0700"},
	"crio":       {[]string{"overlay"}, "", "0700"},
	"containerd": {[]string{"io.containerd.snapshotter.v1.overlayfs/snapshots"}, "io.containerd.snapshotter.v1.overlayfs", "0700"},
}

// checkExposure is whether users of the host can walk to what root inside writes. A setuid
// program left there is root's outside.
func (h *host) checkExposure(s engines.Setup, store engines.Store) {
	for _, below := range kept[s.Engine].below {
		path := filepath.Join(store.Dir, below)
		if !exists(path) {
			continue
		}
		by, err := h.try.exposed(path)
		if err != nil {
			h.failed(path, err)
			return
		}
		if by == "" {
			h.fine(path, "nobody but root can reach it")
			continue
		}
		dir := filepath.Join(store.Dir, kept[s.Engine].close)
		mend := "chmod " + kept[s.Engine].mode + " " + rootfile.ShellQuote(dir)
		if real, err := filepath.EvalSymlinks(path); err == nil && by != real {
			// It is mounted at another place as well.
			mend = "umount the mount that " + rootfile.ShellQuote(by) + " lies on, or mount -o remount,bind,nosuid it"
		}
		h.add(sevError, path, mend, "users of the host can reach it (by %s), and root inside of a container could leave a setuid program there that is root's outside: %s's volumes aren't shifted until that is mended, and those that are shifted now aren't safe",
			by, s.Engine)
		return // the others have the same reason
	}
}

// checkRemap is Docker's own userns-remap, whose ranges the book has to know.
func (h *host) checkRemap() {
	for _, s := range h.engines {
		if s.Remap == "" {
			continue
		}
		name, _, _ := strings.Cut(s.Remap, ":")
		if name == "default" {
			name = "dockremap"
		}
		mend := `take "userns-remap" out of ` + rootfile.ShellQuote(s.File) + ", restart docker, and pull the images again: userns-runtime does without it"
		missing := "/etc/subuid has no range for " + name
		if subs, _, err := registry.LoadSubIDs(h.path("/etc/subuid")); err == nil {
			for _, sub := range subs {
				if sub.Owner != name {
					continue
				}
				if h.book == nil {
					return // said by itself
				}
				missing = fmt.Sprintf("the book grants %s (%s) to nobody", sub.Range, sub.Where)
				var granted []idmap.Range
				for _, l := range h.book.Lines() {
					if !l.Flags.Reserved {
						granted = append(granted, l.Range)
					}
				}
				if idmap.NewSet(granted...).Contains(sub.Range) {
					h.fine(s.Engine, "userns-remap %s: its range is in the book", s.Remap)
					missing = ""
				}
				break
			}
		}
		if missing != "" {
			h.add(sevError, s.Engine, mend, "userns-remap is %s, so Docker chooses the IDs itself, and %s: its containers are refused", s.Remap, missing)
		}
	}
}
