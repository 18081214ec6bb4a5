// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
)

// The configuration may set paths of the host aside for an owner's containers ([[bind]]): on bind mounts of
// those, each ID inside is the same on disk, as on a named volume of an engine. It takes both, the
// administrator of the host, who names the path, and the grant, whose flag idmap-binds says that
// its containers may.

// listed decides by the configuration who root inside is on a bind mount; ok is false if
// that says nothing of it.
func (j *bindJudge) listed(b *bind) (ok bool) {
	entry, real := j.entry(b.Source)
	if entry == nil {
		return false
	}
	why := ""
	switch {
	case !j.p.verdict.Flags.IdmapBinds:
		why = fmt.Sprintf("the grant of %s (%s) hasn't the flag idmap-binds", j.owner.Name, where(j.p.verdict))
	case j.p.nsOwner != nil:
		why = fmt.Sprintf("by the flag owned %s would be root there, whatever the container may", j.owner.Name)
	default:
		err := checkWay(entry.Path, real)
		if err == nil {
			err = rootfs.CheckOwn(b.taken.Source, setAside(real))
		}
		if err != nil {
			why = err.Error()
		}
	}
	if why == "" {
		b.As = asRoot
		return true
	}
	why = fmt.Sprintf("not shifted as [[bind]] %s of the configuration: %s", entry.Path, why)
	// What the account owns, root inside is that account on, whatever the list says.
	if j.ofAccount(b) {
		return false
	}
	b.Why = why
	return true
}

// entry is the entry for a source, the one of the nearest path, and that path as it is without symbolic links. The
// source has none.
func (j *bindJudge) entry(source string) (nearest *config.Bind, real string) {
	if !j.c.subject.IsRoot() {
		return nil, "" // who may name a configuration of their own
	}
	names := holder(j.c.subject, j.owner).Names
	for i, e := range j.c.cfg.Binds {
		if !slices.Contains(names, e.Owner) {
			continue
		}
		path, err := filepath.EvalSymlinks(e.Path)
		if err != nil {
			continue
		}
		if (source == path || strings.HasPrefix(source, path+"/")) && len(path) > len(real) {
			nearest, real = &j.c.cfg.Binds[i], path
		}
	}
	return nearest, real
}

// checkWay refuses the path of an entry, which is real without symbolic links, where somebody else than root could
// put something else. A link of theirs would lead to what root has closed to all others, such as /root, and
// that is just what may be shifted. A link of root's may lie on what root inside of another container is root of.
func checkWay(path, real string) error {
	if real != filepath.Clean(path) {
		return fmt.Errorf("by a symbolic link it leads to %s: name that", real)
	}
	// From above, so that nobody can change any more what is looked at next.
	at, sticky := "/", false
	for _, name := range append(strings.Split(real[1:], "/"), "") {
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: at, Err: err}
		}
		last := name == ""
		writable := st.Mode&0o022 != 0
		switch {
		case st.Uid != 0 && (!last || sticky):
			return fmt.Errorf("UID %d owns %s, and could put something else at %s: move it below directories that root alone can write to", st.Uid, at, real)
		case writable && !last && st.Mode&unix.S_ISVTX == 0:
			return fmt.Errorf("%s has mode %04o, so others than root could put something else at %s: move it below directories that root alone can write to", at, st.Mode&0o7777, real)
		}
		// With the sticky bit others can't replace what is root's.
		at, sticky = filepath.Join(at, name), writable
	}
	return nil
}

// setAside is a path of the configuration as what is set aside for containers: a file by the directory that it lies in.
func setAside(path string) rootfs.Own {
	dir := path
	if info, err := os.Lstat(path); err == nil && !info.IsDir() {
		dir = filepath.Dir(path)
	}
	return rootfs.Own{Dir: dir, Top: func(file string) (string, bool) {
		return path, file == path || strings.HasPrefix(file, path+"/")
	}}
}
