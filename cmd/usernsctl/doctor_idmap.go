// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// checkDiverted is whether shadow's newuidmap and newgidmap, where they were diverted, are still out
// of everybody's way: they give IDs by /etc/subuid, and are setuid root.
func (h *host) checkDiverted() {
	if h.uid != 0 {
		return // what was diverted is root's to know
	}
	host := engines.Host{Root: h.root}
	dir, diverted, err := host.IDMapDiverted()
	if err != nil {
		h.failed("newuidmap", err)
		return
	}
	if !diverted {
		return
	}
	again := command("configure", idMapWord)
	for _, m := range engines.IDMappers {
		if to, err := os.Readlink(h.path(m.Path)); err != nil || to != m.Own(dir) {
			h.add(sevError, m.Path, again, "was diverted, and isn't the link to %s any more: who calls it gets IDs by /etc/subuid and /etc/subgid, whatever the book says", m.Own(dir))
			continue
		}
		h.fine(m.Path, "goes by the book")
	}
	aside := h.path(engines.IDMapAside)
	switch info, err := os.Lstat(aside); {
	case errors.Is(err, fs.ErrNotExist):
		h.add(sevError, engines.IDMapAside, again, "isn't there, and dpkg has the package's newuidmap and newgidmap in it: an upgrade of uidmap fails")
	case err != nil:
		h.failed(engines.IDMapAside, err)
	case !info.IsDir():
		h.add(sevError, engines.IDMapAside, "mv "+rootfile.ShellQuote(aside)+" "+rootfile.ShellQuote(aside+".other")+" && "+again,
			"isn't a directory, and dpkg puts the package's newuidmap and newgidmap, which are setuid, below it")
	case info.Mode().Perm()&0o077 != 0 || uidOf(info) != 0:
		h.add(sevError, engines.IDMapAside, "chown root: "+rootfile.ShellQuote(aside)+" && chmod 0700 "+rootfile.ShellQuote(aside),
			"is owned by UID %d, and has mode %04o: others than root reach the setuid programs in it, which give IDs by /etc/subuid", uidOf(info), info.Mode().Perm())
	}
}

func uidOf(info os.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// isOwnHelper says whether a path leads to the program of ours, which has been looked at by itself.
func (h *host) isOwnHelper(path, name string) bool {
	real, err := filepath.EvalSymlinks(path)
	return err == nil && real == h.path(filepath.Join(ownDir, name))
}
