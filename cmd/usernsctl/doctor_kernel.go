// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// namespaceLimits is the limits of which 0 stops every container (namespaces(7),
// "/proc/sys/user"): each container has one of each, or may.
var namespaceLimits = []string{"user", "mnt", "pid", "ipc", "uts", "net", "cgroup"}

// checkNamespaces is whether root gets user namespaces at all.
func (h *host) checkNamespaces() {
	if _, err := os.Lstat(h.path("/proc/self/ns/user")); errors.Is(err, fs.ErrNotExist) {
		h.add(sevError, "kernel", `boot a kernel with it (grep CONFIG_USER_NS "/boot/config-$(uname -r)" shows what this one has)`,
			"it has no user namespaces (CONFIG_USER_NS): no container starts")
		return
	}
	if text, err := os.ReadFile(h.path("/proc/self/uid_map")); err != nil {
		h.failed("/proc/self/uid_map", err)
	} else if fields := strings.Fields(string(text)); !slices.Equal(fields, []string{"0", "0", "4294967295"}) {
		h.add(sevError, "/proc/self/uid_map", "run "+command("doctor")+" on the host itself",
			"doctor runs inside of a user namespace: what it sees as root's isn't the host's, and the rest of this says little")
	}
	allowed := true
	for _, kind := range namespaceLimits {
		allowed = h.checkLimit("user.max_"+kind+"_namespaces") && allowed
	}
	if !h.asRoot("user namespaces", "whether one can be made") {
		return
	}
	err := h.try.userNS()
	h.userNS = err == nil
	switch {
	case !allowed:
		// It is said already.
	case errors.Is(err, unix.ENOSPC):
		h.add(sevError, "user.max_user_namespaces", h.mendSysctl("user.max_user_namespaces", h.goodLimit()),
			"as many user namespaces as it allows are there already: no more container starts")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		h.add(sevError, "user namespaces", "look for the reason: dmesg | tail; grep Seccomp /proc/self/status",
			"the kernel makes none for root (%s): a security module or a seccomp filter forbids them, and no container starts", err)
	case err != nil:
		h.add(sevError, "user namespaces", "look for the reason: dmesg | tail", "none can be made, so no container starts: %s", err)
	default:
		h.fine("user namespaces", "one could be made")
	}
}

// sysctl is the number that a setting of the kernel has; ok is false where there is no
// such setting.
func (h *host) sysctl(name string) (n uint64, ok bool) {
	path := h.path("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false
	}
	if err == nil {
		n, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	}
	if err != nil {
		h.failed(name, err)
		return 0, false
	}
	return n, true
}

// fewContainers is how many a host should be able to run: what init makes room for.
const fewContainers = firstContainers

func (h *host) checkLimit(name string) bool {
	n, ok := h.sysctl(name)
	switch {
	case !ok:
		// A namespace that this kernel doesn't have.
		return true
	case n == 0:
		h.add(sevError, name, h.mendSysctl(name, h.goodLimit()), "is 0%s: no container starts", h.setBy(name))
		return false
	case n < fewContainers:
		h.add(sevWarning, name, h.mendSysctl(name, h.goodLimit()),
			"is %d%s: at most so many containers run at once", n, h.setBy(name))
	default:
		h.fine(name, "is %d", n)
	}
	return true
}

// goodLimit is what the kernel itself begins with: half of the threads that it allows.
func (h *host) goodLimit() uint64 {
	n := uint64(0)
	if text, err := os.ReadFile(h.path("/proc/sys/kernel/threads-max")); err == nil {
		n, _ = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	}
	return max(n/2, 8*fewContainers)
}

// ownSysctl is the file in which a setting is kept for the next boot. It is late in the
// order of sysctl.d(5).
const ownSysctl = "/etc/sysctl.d/99-userns-runtime.conf"

// mendSysctl is the commands that change a setting, now and for the next boots.
func (h *host) mendSysctl(name string, n uint64) string {
	mend := fmt.Sprintf("sysctl -w %s=%d && echo '%s = %d' >>%s", name, n, name, n, rootfile.ShellQuote(h.path(ownSysctl)))
	if where := h.sysctlFile(name); where != "" {
		mend = fmt.Sprintf("sysctl -w %s=%d, and write so in %s", name, n, where)
	}
	return mend
}

func (h *host) setBy(name string) string {
	if where := h.sysctlFile(name); where != "" {
		return " (" + where + ")"
	}
	return ""
}

// sysctlFile is the file:line that sets it at boot, "" if none does. Of several it is the
// last in the order of sysctl.d(5), with sysctl.conf behind all, as procps reads it.
func (h *host) sysctlFile(name string) string {
	files := map[string]string{} // a file hides those of its name in later directories
	for _, dir := range []string{"/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"} {
		paths, _ := filepath.Glob(h.path(dir) + "/*.conf")
		for _, path := range paths {
			if base := filepath.Base(path); files[base] == "" {
				files[base] = path
			}
		}
	}
	var names []string
	for base := range files {
		names = append(names, base)
	}
	slices.Sort(names)
	where := ""
	look := func(path string) {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return
		}
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			key, _, ok := strings.Cut(line, "=")
			key = strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(key), "-"), "/", ".")
			if ok && key == name {
				where = path + ":" + strconv.Itoa(number)
			}
		}
	}
	for _, base := range names {
		look(files[base])
	}
	look(h.path("/etc/sysctl.conf"))
	return where
}

// keyBytes is what the session keyring that runc makes for a container takes of
// kernel.keys.maxbytes: 23 bytes were measured.
const keyBytes = 24

// checkKeys is how many session keyrings one ID may have (keyrings(7)). Each container has
// one, which belongs to its root. Where containers of a line share their IDs, they share
// that root's quota: with the kernel's own 200, the 201st doesn't start.
func (h *host) checkKeys() {
	const name = "kernel.keys.maxkeys"
	if h.book == nil {
		return
	}
	for _, l := range h.book.Lines() {
		if !l.Flags.Shared || l.Flags.Reserved {
			continue
		}
		keys, ok := h.sysctl(name)
		bytes, ok2 := h.sysctl("kernel.keys.maxbytes")
		if most := min(keys, bytes/keyBytes); ok && ok2 && most < fewContainers {
			both := fmt.Sprintf("%s=%d kernel.keys.maxbytes=%d", name, max(keys, 8*fewContainers), max(bytes, 8*fewContainers*keyBytes))
			h.add(sevWarning, name, "sysctl -w "+both+" && printf '%s\\n' "+both+" >>"+rootfile.ShellQuote(h.path(ownSysctl)),
				"with it and maxbytes, one ID has at most %d keyrings, and containers of %s (%s) are all of one ID: no more of them run at once", most, l.Owner, l.Where())
		}
		return
	}
}

// checkDumpable is whether containers of lines with the flag owned start: see linux.CheckSuidDumpable.
func (h *host) checkDumpable() {
	const name = "fs.suid_dumpable"
	if h.book == nil {
		return
	}
	for _, l := range h.book.Lines() {
		if !l.Flags.Owned || l.Flags.Reserved {
			continue
		}
		if n, ok := h.sysctl(name); ok && n == 1 {
			h.add(sevError, name, h.mendSysctl(name, 0),
				"is 1%s: whoever owns a user namespace could trace what enters it as root, so no container of %s (%s, flag owned) starts", h.setBy(name), l.Owner, l.Where())
		}
		return
	}
}

// forUsers is the programs that make user namespaces for who isn't root.
var forUsers = []string{"userns", "podman", "buildah", "rootlesskit"}

// checkUsers is whether others than root get user namespaces, where something is installed
// that needs it. Root's engines don't.
func (h *host) checkUsers() {
	var names, paths []string
	for _, name := range forUsers {
		if path := h.find(name); path != "" {
			names, paths = append(names, name), append(paths, path)
		}
	}
	const clone = "kernel.unprivileged_userns_clone" // Debian's
	if n, ok := h.sysctl(clone); ok && n == 0 {
		if names == nil {
			h.fine(clone, "is 0, and nothing is installed that needs more")
		} else {
			h.add(sevWarning, clone, h.mendSysctl(clone, 1), "is 0%s: who isn't root can't make user namespaces with %s; root's engines work",
				h.setBy(clone), strings.Join(names, ", "))
		}
	}
	const confined = "kernel.apparmor_restrict_unprivileged_userns" // Ubuntu's, since 23.10
	if n, ok := h.sysctl(confined); ok && n != 0 {
		for i, path := range paths {
			if h.hasProfile(path) {
				continue
			}
			file := "/etc/apparmor.d/" + names[i]
			h.add(sevWarning, confined, fmt.Sprintf(
				`printf '%%s\n' 'abi <abi/4.0>,' 'include <tunables/global>' 'profile %s %s flags=(unconfined) {' '  userns,' '}' >%s && apparmor_parser -r %s`,
				names[i], path, file, file),
				"is %d, and %s has no profile of AppArmor that allows it user namespaces: it fails for who isn't root; root's engines work", n, path)
		}
	}
}

// hasProfile says whether a file of AppArmor's names the program and allows user
// namespaces to it.
func (h *host) hasProfile(program string) bool {
	paths, _ := filepath.Glob(h.path("/etc/apparmor.d/*"))
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), strings.TrimPrefix(program, h.root)) && strings.Contains(string(text), "userns") {
			return true
		}
	}
	return false
}

// find is a program of the host, "" where it isn't installed.
func (h *host) find(name string) string {
	for _, dir := range engines.ProgramDirs {
		path := filepath.Join(h.path(dir), name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// checkKernel is which row of the table in docs/engines.md this kernel is. It is tried
// where that is harmless, since distributions carry things back.
func (h *host) checkKernel() {
	release, err := h.try.release()
	if err != nil {
		h.failed("kernel", err)
		return
	}
	subject := "kernel " + release.Text
	old := func(what string) {
		h.add(sevError, subject, "boot Linux 5.19 or later; 6.3 is better", "%s", what)
	}
	const (
		noIDMap   = "has no idmapped mounts (Linux 5.12): no root filesystem can be shifted, so no container starts"
		noOverlay = "can't make overlays of idmapped layers (Linux 5.19; by its version): no image starts"
		noTmpfs   = "can't idmap a tmpfs (Linux 6.3): an engine's files there can't be shifted, and containers that bind some are refused"
		tmpfsMend = "boot Linux 6.3 or later, or set bind-fallback = 'plain' in /etc/userns-runtime/config.toml"
	)
	plain := h.config.BindFallback == "plain"
	if !h.asRoot(subject, "what it can do") {
		switch {
		case !release.AtLeast(5, 12):
			old(noIDMap + " (by its version)")
		case !release.AtLeast(5, 19):
			old(noOverlay)
		case !release.AtLeast(6, 3) && !plain:
			h.add(sevWarning, subject, tmpfsMend, noTmpfs+" (by its version)")
		}
		return
	}
	if !h.userNS {
		return // nothing can be tried, and the reason is said
	}
	tmpfs := h.try.tmpfs()
	if errors.Is(tmpfs, unix.ENOSYS) {
		old(noIDMap)
		return
	}
	if !release.AtLeast(5, 19) {
		old(noOverlay)
		return
	}
	descriptors, err := h.try.overlay()
	switch {
	case errors.Is(err, unix.ENODEV):
		h.add(sevError, subject, "modprobe overlay && echo overlay >>/etc/modules-load.d/userns-runtime.conf", "has no overlay: no image starts")
		return
	case err != nil:
		h.failed(subject, err)
		return
	}
	switch {
	case errors.Is(tmpfs, unix.EINVAL) && plain:
		h.fine(subject, "can't idmap a tmpfs; bind-fallback is 'plain'")
	case errors.Is(tmpfs, unix.EINVAL):
		h.add(sevWarning, subject, tmpfsMend, noTmpfs)
	case tmpfs != nil:
		h.failed(subject, tmpfs)
	case descriptors:
		h.fine(subject, "idmapped mounts, of tmpfs too; overlays of idmapped layers, by descriptor")
	default:
		h.fine(subject, "idmapped mounts, of tmpfs too; overlays of idmapped layers, as many as the options of a mount hold (Linux 6.13: by descriptor)")
	}
}
