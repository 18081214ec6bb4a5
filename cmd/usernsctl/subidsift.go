// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// importFile stands for a file in the places of lines that are to be imported.
const importFile = "import"

// sift adds rows to the book, and leaves out those that collide with what is in it, or with the
// host: of rows of two owners that overlap neither can be, by the entry of the other.
func (im *importer) sift(host *census.Census, rows []int) {
	rows = slices.DeleteFunc(slices.Clone(rows), func(i int) bool {
		why := im.alone(host, im.rows[i])
		im.leaveOut(i, why)
		return len(why) > 0
	})
	for len(rows) > 0 {
		after, err := im.book.With(importFile, im.text(rows))
		if err != nil {
			for _, i := range rows {
				im.leaveOut(i, []string{err.Error()})
			}
			return
		}
		why, cut := im.judged(after, host.World, rows)
		var stay []int
		for _, i := range rows {
			if im.leaveOut(i, why[i]); len(why[i]) == 0 {
				stay = append(stay, i)
			}
		}
		switch {
		case cut == "": // all there is was told
			im.keep(stay)
			return
		case len(stay) == len(rows): // what was told isn't of these
			for _, i := range rows {
				im.leaveOut(i, []string{cut})
			}
			return
		}
		rows = stay
	}
}

// keep adds rows to the book.
func (im *importer) keep(rows []int) {
	after, err := im.book.With(importFile, im.text(rows))
	if err != nil {
		for _, i := range rows {
			im.leaveOut(i, []string{err.Error()})
		}
		return
	}
	im.book = after
}

// text is the lines of the book that rows make.
func (im *importer) text(rows []int) []byte {
	var text strings.Builder
	for _, i := range rows {
		fmt.Fprintf(&text, "%s\n", im.line(im.rows[i]))
	}
	return []byte(text.String())
}

// leaveOut says of a row that it can't be imported, if there is a reason.
func (im *importer) leaveOut(i int, why []string) {
	if len(why) == 0 {
		return
	}
	r := &im.rows[i]
	r.State = stateLeft
	r.Reason = fmt.Sprintf("%s: %s of %s: %s", r.From, r.ids(), r.Owner, strings.Join(why, "; "))
}

// alone is what speaks against a row whatever else is imported.
func (im *importer) alone(host *census.Census, r importJSON) []string {
	if _, err := new(registry.Book).With(importFile, fmt.Appendf(nil, "%s\n", im.line(r))); err != nil {
		return []string{strings.ReplaceAll(err.Error(), "book: "+importFile+":1: ", "")}
	}
	if im.flags.Reserved {
		return nil
	}
	if account, ok := im.accounts.Find(r.Owner); census.IsEngineName(r.Owner) || ok && account.UID == "0" {
		return []string{fmt.Sprintf("engines of root's take them for containers of their own, and ask nobody: to have them kept clear of: %s",
			command(im.verb, r.Owner, "--"+flagFlags, "reserved"))}
	}
	return im.alive(host, r)
}

// judged finds what speaks against rows in the book, where they are the lines of importFile; cut says
// that there is more, and is empty if there isn't.
func (im *importer) judged(after *registry.Book, world registry.World, rows []int) (why map[int][]string, cut string) {
	at := make(map[string]int)
	for n, i := range rows {
		at[fmt.Sprintf("%s:%d", importFile, n+1)] = i
	}
	why = make(map[int][]string)
	add := func(row int, message string) { why[row] = append(why[row], message) }
	for _, c := range registry.Check(after, world) {
		if c.Severity != registry.Error {
			continue
		}
		if c.Where == "" {
			cut = c.Message
			continue
		}
		where, isWhere := at[c.Where]
		other, isOther := at[c.Other]
		message := c.Message
		if isWhere {
			message = strings.TrimPrefix(message, c.Where+": ")
		}
		if isOther {
			message = strings.ReplaceAll(message, "("+c.Other+")", "("+im.rows[other].From+")")
		}
		switch {
		case isWhere:
			add(where, message)
		case isOther:
			add(other, message)
		}
	}
	return why, cut
}

// alive is who has some of the IDs now and isn't their owner: they are the owner's by the files that
// they are imported from, so that their own rootless containers are no reason against it.
func (im *importer) alive(host *census.Census, r importJSON) []string {
	ids := idmap.NewSet(r.ids())
	var why []string
	for _, l := range census.Held(host.Leases, ids) {
		why = append(why, fmt.Sprintf("%s is in use by %s", l.Ranges.Intersect(ids), census.Holder(l)))
	}
	for _, ns := range host.Unleased() {
		if used := ns.IDs().Intersect(ids); !used.Empty() && !im.owns(host, r, ns) {
			why = append(why, fmt.Sprintf("%s is in use by process %d in a user namespace that isn't of %s", used, ns.PID, r.Owner))
		}
	}
	return why
}

// owns says whether a user namespace was made by the owner, or by one of their IDs: in a
// container of theirs. If that can't be told it wasn't, unless its process has ended.
func (im *importer) owns(host *census.Census, r importJSON, ns lease.LiveNS) bool {
	kin, known := host.Kin[ns.Inode]
	if !known {
		_, err := os.Lstat(fmt.Sprintf("/proc/%d", ns.PID))
		return errors.Is(err, fs.ErrNotExist)
	}
	account, ok := im.accounts.Find(r.Owner)
	return ok && account.UID == fmt.Sprint(kin.Creator) || r.ids().Contains(kin.Creator)
}
