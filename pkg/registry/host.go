// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Account is a user or a group of the host.
type Account struct {
	Name  string
	ID    uint32
	Where string // "/etc/passwd:12"
}

// Host is the accounts whose IDs nobody else may use.
type Host struct {
	Users  []Account
	Groups []Account
}

// LoadHost reads files in the form of passwd(5) and group(5). A user's own
// group that the group file lacks is a group too, found at the user's line.
//
// Lines that aren't accounts are passed over, as getpwent(3) does: they can't
// log in, and one stray line must not stop every container. A missing file has
// no accounts. Directory services (NSS) are not asked.
func LoadHost(passwd, group string) (Host, error) {
	var h Host
	known := make(map[uint32]bool)
	err := eachLine(group, func(where, line string) {
		if f := strings.Split(line, ":"); len(f) >= 3 {
			if gid, ok := lenientID(f[2]); ok {
				h.Groups = append(h.Groups, Account{f[0], gid, where})
				known[gid] = true
			}
		}
	})
	if err != nil {
		return Host{}, err
	}
	err = eachLine(passwd, func(where, line string) {
		f := strings.Split(line, ":")
		if len(f) < 4 {
			return
		}
		if uid, ok := lenientID(f[2]); ok {
			h.Users = append(h.Users, Account{f[0], uid, where})
		}
		if gid, ok := lenientID(f[3]); ok && !known[gid] {
			h.Groups = append(h.Groups, Account{f[0], gid, where})
			known[gid] = true
		}
	})
	if err != nil {
		return Host{}, err
	}
	return h, nil
}

// SubID is a line of /etc/subuid or /etc/subgid.
type SubID struct {
	Owner string // a login name or a decimal UID
	Range idmap.Range
	Where string // "/etc/subuid:2"
}

// LoadSubIDs reads a file in the form of subuid(5). shadow passes over what it
// can't read, and so does this, but with a warning for each such line. Where
// readers make different ranges of a line, each is an entry, with a warning. A
// missing file has no entries.
func LoadSubIDs(path string) (ids []SubID, warnings []Conflict, err error) {
	warn := func(where, line, what string) {
		warnings = append(warnings, Conflict{Severity: Warning, Where: where, Message: fmt.Sprintf("%s: %q: %s", where, line, what)})
	}
	err = eachLine(path, func(where, line string) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			return
		}
		owner, ranges, alike := ParseSubID(line)
		var read []string
		for _, r := range ranges {
			ids = append(ids, SubID{owner, r, where})
			read = append(read, r.String())
		}
		switch {
		case len(ranges) == 0:
			warn(where, line, "is passed over: expected USER:START:COUNT: mend or remove the line")
		case !alike:
			warn(where, line, "programs make different things of it: "+strings.Join(read, " or ")+", or nothing: expected USER:START:COUNT, in decimal numbers without signs and leading zeros: write the line again")
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return ids, warnings, nil
}

// eachLine calls do with the place and text of every line of a file. Links are
// followed, as C libraries do; what isn't a regular file, and may never end, is
// refused.
func eachLine(path string, do func(where, line string)) error {
	data, err := readRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		do(path+":"+strconv.Itoa(number), strings.TrimSuffix(line, "\n"))
	}
	return nil
}

func readRegular(path string) ([]byte, error) {
	// To open a FIFO would wait for somebody who writes.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if null, err := os.Stat(os.DevNull); err == nil && os.SameFile(info, null) {
		return nil, nil // a way to have no such file
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: isn't a regular file (%s): expected one: put the file back: ls -l %[1]s", path, info.Mode().Type())
	}
	return io.ReadAll(f)
}

// lenientID reads a number as C libraries do in these files, where leading
// zeros and spaces are no error.
func lenientID(text string) (uint32, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	return uint32(n), err == nil
}
