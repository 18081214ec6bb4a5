// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Setup is how one engine of a host is configured, as far as its files and the command
// line of its daemon say. Nothing is asked of the engine itself, which may be down.
type Setup struct {
	Engine  string // "docker", "containerd", "podman", "crio"
	Program string // the path of its program
	File    string // of its settings, or where they would be
	// Files is the files and directories that the settings are read from; File is among them
	// if it is there.
	Files []string
	// Default is what starts a container when nobody asks for another runtime. Its Name is
	// empty where the engine starts none by itself: a containerd without CRI.
	Default Runtime
	// Others is what a user of the engine may ask for by name; the default isn't among them.
	Others []Runtime
	Stores []Store
	// Remap is Docker's userns-remap, "" without.
	Remap string
	// Problems is what couldn't be read, each with its file. What isn't known by them is as
	// if it weren't set.
	Problems []error
}

// Runtime is a program that an engine starts containers with.
type Runtime struct {
	Name string // by which the engine knows it
	Path string // "" where it is looked for and isn't there
	// Other says that it isn't runc, nor a program with runc's command line: a shim of its own
	// (Kata Containers, gVisor), which makes no use of the host's IDs.
	Other bool
	// Owner is whose ranges userns-runtime is told to give, by --owner among its arguments or
	// by the name of a link to it; "" where neither says so.
	Owner string
	Where string // the file that says so, or "" for what the engine does by itself
}

// Store is where an engine keeps images and the files of containers.
type Store struct {
	Dir string
	// Driver is the storage driver or snapshotter, by the engine's own name for it; "" where
	// that isn't known: nothing is stored yet.
	Driver string
	// Program is what mounts its layers in place of the kernel (Podman's mount_program).
	Program string
	Where   string // the file that says so, or "" for the engine's own default
}

// Look is the setups of all engines that are installed below root ("" is the host's
// own). Of Docker there is one for each daemon that runs, or, where none does, one by its
// file.
func Look(root string) []Setup {
	var all []Setup
	for _, look := range []func(lookHost) []Setup{lookDocker, lookContainerd, lookPodman, lookCRIO} {
		all = append(all, look(lookHost(root))...)
	}
	return all
}

// ProgramDirs is where an engine finds a program that it knows by its name alone. It
// doesn't depend on PATH, which is the caller's and not the engine's. The one of a daemon that
// runs comes before: k3s, RKE2 and MicroK8s bring a runc of their own.
var ProgramDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/bin", "/snap/bin"}

// lookHost is a directory that stands for "/" of a host.
type lookHost string

func (h lookHost) path(path string) string { return string(h) + path }

// find is the path of a program, "" where there is none. A path stays one.
func (h lookHost) find(name string) string { return h.findIn(nil, name) }

// findIn is find for a daemon that looks into these directories first.
func (h lookHost) findIn(dirs []string, name string) string {
	if filepath.IsAbs(name) {
		return h.path(name)
	}
	for _, dir := range slices.Concat(dirs, ProgramDirs) {
		path := filepath.Join(h.path(dir), name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// mostSettings is far above what anybody writes into settings.
const mostSettings = 4 << 20 // bytes

// readSettings is the content of a file of settings; ok is false where there is none. Symbolic
// links are followed, since those who manage hosts put them there.
func readSettings(path string) (data []byte, ok bool, err error) {
	// A FIFO would never end to open.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if null, err := os.Stat(os.DevNull); err == nil && os.SameFile(info, null) {
		return nil, false, nil // the usual way to say that there shall be none
	}
	if !info.Mode().IsRegular() {
		return nil, false, fmt.Errorf("%s: is not a regular file", path)
	}
	if data, err = io.ReadAll(io.LimitReader(f, mostSettings+1)); err != nil {
		return nil, false, err
	}
	if len(data) > mostSettings {
		return nil, false, fmt.Errorf("%s: is larger than %d bytes", path, mostSettings)
	}
	return data, true, nil
}

// lookPatience is how long the server of a filesystem may take to say what is there.
var lookPatience = 5 * time.Second

// firstThere is the first of the names of which there is one of the paths that it gives, "" where there
// is none. A store may lie on a filesystem whose server is gone, which never answers: nothing is
// known then.
func firstThere(names []string, paths func(name string) []string) string {
	found := make(chan string, 1) // so that a late answer is in nobody's way
	go func() {
		for _, name := range names {
			if slices.ContainsFunc(paths(name), isThere) {
				found <- name
				return
			}
		}
		found <- ""
	}()
	select {
	case name := <-found:
		return name
	case <-time.After(lookPatience):
		return ""
	}
}

// isThere says whether something is at path. What can't be looked at isn't known to be.
func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
