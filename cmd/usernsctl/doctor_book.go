// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// mendsIn is the beginnings of the commands that errors of ours end with.
var mendsIn = []string{"chmod ", "chown "}

// cutMend parts an error's text from the command that it ends with; otherwise is the
// command where it ends with none.
func cutMend(text, otherwise string) (message, mend string) {
	for _, begin := range mendsIn {
		if i := strings.LastIndex(text, ": "+begin); i >= 0 {
			return text[:i], text[i+2:]
		}
		if i := strings.LastIndex(text, ": run `"+begin); i >= 0 && strings.HasSuffix(text, "`") {
			return text[:i], strings.TrimSuffix(text[i+len(": run `"):], "`")
		}
	}
	return text, otherwise
}

// each adds a finding for every line of an error. subject is a file, which the lines
// needn't repeat.
func (h *host) each(severity, subject, mend string, err error, follows string) {
	for text := range strings.SplitSeq(err.Error(), "\n") {
		message, mend := cutMend(text, mend)
		for _, prefix := range []string{"config: ", "book: ", subject + ": "} {
			message = strings.TrimPrefix(message, prefix)
		}
		h.add(severity, subject, mend, "%s: %s", message, follows)
	}
}

// denied says whether an error is about who is asking, and adds it as such.
func (h *host) denied(subject string, err error) bool {
	if h.uid == 0 || !errors.Is(err, fs.ErrPermission) {
		return false
	}
	h.failed(subject, err)
	return true
}

// checkConfig reads the configuration; the defaults take its place where it is refused.
func (h *host) checkConfig() {
	path := h.path(config.Path)
	c, err := config.Load(path)
	if err != nil {
		h.config, h.refuses = config.Default(), true
		if !h.denied(path, err) {
			h.each(sevError, path, "correct the line; docs/configuration.md has all keys", err, "the whole file is refused, and no container starts")
		}
		return
	}
	h.config, h.refuses = c, false
	h.fine(path, "is in order, or isn't there")
}

// checkBook is the book by itself, and against the host.
func (h *host) checkBook() {
	path := h.path(registry.Path)
	book, err := registry.Load(path, h.path(registry.DropInDir))
	switch {
	case errors.Is(err, registry.ErrNoBook):
		h.add(sevError, path, command("init"), "isn't there: nobody may have IDs, and no container starts")
		return
	case err != nil && h.denied(path, err):
		return
	case err != nil:
		h.each(sevError, path, "correct the line; "+command("check")+" shows what is left", err, "the whole book is refused, and no container starts")
		return
	}
	h.book = book
	paths := census.Paths{
		Passwd: h.path("/etc/passwd"), Group: h.path("/etc/group"), SubUID: h.path("/etc/subuid"), SubGID: h.path("/etc/subgid"), Root: h.root,
	}
	world, _, err := paths.World()
	if err != nil {
		h.failed(path, err)
		return
	}
	h.accounts = &world.Host
	errs, warnings := 0, 0
	var collisions []collision
	for _, c := range registry.Check(book, world) {
		file, _, _ := cutLast(c.Other, ":")
		switch last := len(collisions) - 1; {
		case file == paths.SubUID || file == paths.SubGID:
			// Check goes by the lines of the book.
			if last >= 0 && collisions[last].Where == c.Where {
				collisions[last].more = append(collisions[last].more, strings.TrimPrefix(c.Message, c.Where+": "))
			} else {
				collisions = append(collisions, collision{Conflict: c})
			}
		case c.Severity == registry.Error:
			errs++
		default:
			warnings++
		}
	}
	h.addCollisions(collisions)
	switch {
	case errs > 0:
		h.add(sevError, path, command("check")+" names each", "it conflicts with itself or with the host: %s", plural(errs, "error"))
	case warnings > 0:
		// What may well be meant, such as a place that kubelet would take if it were installed.
		h.fine(path, "%s; check has %s", plural(len(book.Lines()), "line"), plural(warnings, "warning"))
	default:
		h.fine(path, "%s", plural(len(book.Lines()), "line"))
	}
}

// collision is the first entry of subuid or subgid that a line of the book collides with.
type collision struct {
	registry.Conflict
	more []string // the others, in words
}

// manyCollisions is how many lines of the book are named that collide with subuid or subgid.
const manyCollisions = 20

// addCollisions adds a finding for each line, since each has one mend.
func (h *host) addCollisions(all []collision) {
	if len(all) == 0 {
		return
	}
	lines := make(map[string]registry.Line)
	for _, l := range h.book.Lines() {
		lines[l.Where()] = l
	}
	for i, c := range all {
		if i == manyCollisions {
			h.add(sevError, h.path(registry.Path), command("check")+" names each", "%s more collide with /etc/subuid or /etc/subgid", plural(len(all)-i, "line"))
			break
		}
		entries := append([]string{strings.TrimPrefix(c.Message, c.Where+": ")}, c.more...)
		if len(entries) > maxNamed {
			entries = append(entries[:maxNamed], fmt.Sprintf("and %d more", len(entries)-maxNamed))
		}
		h.add(sevError, c.Where, h.moveLine(lines[c.Where]), "%s", strings.Join(entries, "; "))
	}
}

func cutLast(text, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return text, "", false
}

// moveLine is the commands that give a line of the book another place. Drop-ins aren't ours
// to write.
func (h *host) moveLine(l registry.Line) string {
	if l.File != h.path(registry.Path) {
		return "give the line another START, or remove it there: " + l.Where()
	}
	start, length := strconv.FormatUint(uint64(l.Range.Start), 10), strconv.FormatUint(uint64(l.Range.Count), 10)
	add := []string{"add", l.Owner, "--length", length}
	if flags := l.Flags.String(); flags != "" {
		add = append(add, "--flags", flags)
	}
	return command("del", l.Owner, "--start", start) + " && " + command(add...)
}

// checkAudit is whether decisions can be recorded. Nothing is written for it.
func (h *host) checkAudit() {
	path := h.path(h.config.Audit.Path)
	severity, follows := sevWarning, "decisions aren't recorded (audit.mode is \"warn\")"
	if h.config.Audit.Mode == config.AuditRequire {
		severity, follows = sevError, "no container starts (audit.mode is \"require\")"
	}
	if !h.asRoot(path, "whether it can be written") {
		return
	}
	bad := func(mend, format string, args ...any) {
		h.add(severity, path, mend, "%s: %s", fmt.Sprintf(format, args...), follows)
	}
	aside := "mv " + rootfile.ShellQuote(path) + " " + rootfile.ShellQuote(path+".old")
	info, err := os.Lstat(path)
	place := path
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// It is made, and the directory as well, but not the directory's own.
		place = filepath.Dir(path)
		if _, err := os.Stat(place); errors.Is(err, fs.ErrNotExist) {
			place = filepath.Dir(place)
		}
		if info, err := os.Stat(place); err != nil || !info.IsDir() {
			bad("install -d -m 0750 "+rootfile.ShellQuote(filepath.Dir(path)), "it can't be made, since %s isn't a directory", place)
			return
		}
	case err != nil:
		bad("mend what the message names", "can't be looked at: %s", err)
		return
	case info.Mode()&fs.ModeSymlink != 0:
		bad(aside, "is a symbolic link, and only a regular file is written to")
		return
	case !info.Mode().IsRegular():
		bad(aside, "is not a regular file")
		return
	}
	switch err := unix.Access(place, unix.W_OK); {
	case errors.Is(err, unix.EROFS):
		bad("mount -o remount,rw \"$(findmnt -n -o TARGET --target "+rootfile.ShellQuote(place)+")\"", "lies on a filesystem that is read-only")
		return
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		bad("chattr -i "+rootfile.ShellQuote(place), "%s can't be changed, not even by root", place)
		return
	case err != nil:
		bad("mend what the message names", "%s", &os.PathError{Op: "access", Path: place, Err: err})
		return
	}
	var st unix.Statfs_t
	if err := unix.Statfs(place, &st); err == nil && st.Blocks > 0 && st.Bavail == 0 {
		bad("make room: df "+rootfile.ShellQuote(place), "the filesystem it lies on is full")
		return
	}
	h.fine(path, "can be written")
}

// manyEnded is how many leases of containers that have ended are worth a word. They are
// taken over when their IDs are wanted; a start looks at each.
const manyEnded = 1000

func (h *host) checkLeases() {
	const subject = "leases"
	if !h.asRoot(subject, "which there are") {
		return
	}
	switch n, err := h.try.ended(); {
	case err != nil:
		h.add(sevError, subject, "mend what the message names, then run "+command("leases"), "can't be read, so no container starts: %s", err)
	case n >= manyEnded:
		h.add(sevWarning, subject, command("gc"), "%d are left by containers that have ended, which slows every start", n)
	default:
		h.fine(subject, "%d left by containers that have ended", n)
	}
}
