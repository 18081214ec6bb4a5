// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// What the journal says of the data that was in the super-root. Where each of its entries is is seen on
// disk.
const (
	migrating = "migrating"
	migrated  = "migrated"
	restoring = "restoring"
)

// journalVersion changes when an older program would misread it.
const journalVersion = 1

// maxJournal is far above what is written.
const maxJournal = 4096 // bytes

// journal is what the super-root was before, and what is being done to it.
type journal struct {
	Version int    `json:"version"`
	State   string `json:"state"`
	Mode    string `json:"mode"` // "0710"
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
}

// mode is the twelve bits of chmod(2).
func (j *journal) mode() uint32 {
	n, err := strconv.ParseUint(j.Mode, 8, 12)
	if err != nil {
		panic("bug: a journal whose mode wasn't judged: " + j.Mode)
	}
	return uint32(n)
}

// verbs is what finishes what was begun, and what undoes it.
func (j *journal) verbs() (finish, undo string) {
	if j.State == migrating {
		return "migrate", "restore"
	}
	return "restore", "migrate"
}

// before is the journal's account of the super-root as it is now, for what is about to begin.
func (s *super) before() journal {
	if s.old != nil {
		return *s.old
	}
	return journal{Version: journalVersion, Mode: octal(s.stat.Mode), UID: s.stat.Uid, GID: s.stat.Gid}
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

func (s *super) readJournal() (*journal, error) {
	path := s.data(journalName)
	f, err := s.openat(journalName, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%s: stat: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("%s: is %s of UID %d with mode %s: expected a file of root that nobody else can write", path, kind(st.Mode), st.Uid, octal(st.Mode))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil {
		return nil, fmt.Errorf("%s: read: %w", path, bare(err))
	}
	var j journal
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&j); err != nil || len(text) > maxJournal {
		return nil, s.badJournal("isn't what this program writes")
	}
	switch _, err := strconv.ParseUint(j.Mode, 8, 12); {
	case j.Version != journalVersion:
		return nil, fmt.Errorf("%s: has version %d: expected %d: use the program that wrote it", path, j.Version, journalVersion)
	case j.State != migrating && j.State != migrated && j.State != restoring:
		return nil, s.badJournal(fmt.Sprintf("has the state %q", j.State))
	case err != nil:
		return nil, s.badJournal(fmt.Sprintf("has the mode %q", j.Mode))
	}
	return &j, nil
}

func (s *super) badJournal(seen string) error {
	good, _ := json.Marshal(journal{journalVersion, migrated, octal(dataMode), 0, 0})
	return fmt.Errorf("%s: %s: expected such as %s", s.data(journalName), seen, good)
}

// writeJournal is a step: from then on the next call knows what was begun.
func (s *super) writeJournal(j journal) Step {
	return Step{Action: ActionJournal, Path: s.data(journalName), State: j.State, do: func() error {
		if err := s.flush(); err != nil {
			return err
		}
		text, err := json.Marshal(j)
		if err != nil {
			return err
		}
		if err := replace(s.dir, journalName, append(text, '\n'), attributes{mode: 0o600}); err != nil {
			return err
		}
		if err := s.dir.Sync(); err != nil {
			return fmt.Errorf("%s: flush to disk: %w", s.path, bare(err))
		}
		return nil
	}}
}

// removeJournal is the last step of a way back.
func (s *super) removeJournal() Step {
	step := s.remove(journalName)
	remove := step.do
	step.do = func() error {
		if err := s.flush(); err != nil {
			return err
		}
		if err := remove(); err != nil {
			return err
		}
		return s.flush()
	}
	return step
}

// flush has on disk what was renamed and written, before the journal says so (syncfs(2)).
func (s *super) flush() error {
	if err := unix.Syncfs(s.fd()); err != nil {
		return fmt.Errorf("%s: flush to disk: %w", s.path, err)
	}
	return nil
}

// unfinished is the error where a migration, or the way back, was begun and isn't done.
func (s *super) unfinished() error {
	if s.old == nil || s.old.State == migrated {
		return nil
	}
	finish, undo := s.old.verbs()
	return fmt.Errorf("%s: is %s, and was left in the middle: finish it: %s; or undo it: %s", s.path, s.old.State, s.command(finish), s.command(undo))
}

// command is a call of ours on this super-root; flags are words that a shell takes as they are.
func (s *super) command(verb string, flags ...string) string {
	return s.called("daemon-root "+verb, flags...)
}

func (s *super) called(verbs string, flags ...string) string {
	words := append([]string{"usernsctl", verbs}, flags...)
	if s.path != DefaultData {
		words = append(words, "--data", rootfile.ShellQuote(s.path))
	}
	return strings.Join(words, " ")
}

// replace puts a file with that content in the place of name in an open directory, so that each reader
// has all of the old one or all of the new one. That the name leads to the new one isn't flushed to disk.
func replace(dir *os.File, name string, data []byte, at attributes) error {
	path := dir.Name() + "/" + name
	fail := func(op string, err error) error { return fmt.Errorf("%s: %s: %w", path, op, bare(err)) }
	temp, fd := temporary(name), int(dir.Fd())
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	n, err := unix.Openat(fd, temp, flags, 0o600)
	if errors.Is(err, unix.EEXIST) { // what a killed call has left; nobody else writes under that name
		if err := unix.Unlinkat(fd, temp, 0); err != nil {
			return fail("remove "+temp+" beside it", err)
		}
		n, err = unix.Openat(fd, temp, flags, 0o600)
	}
	if err != nil {
		return fail("create beside it", err)
	}
	f := os.NewFile(uintptr(n), path)
	defer f.Close()
	err = func() error {
		if _, err := f.Write(data); err != nil {
			return fail("write", err)
		}
		if err := at.set(f); err != nil {
			return fail("keep its owner, mode and times", err)
		}
		if err := f.Sync(); err != nil {
			return fail("flush to disk", err)
		}
		if err := unix.Renameat2(fd, temp, fd, name, 0); err != nil {
			return fail("replace", err)
		}
		return nil
	}()
	if err != nil {
		_ = unix.Unlinkat(fd, temp, 0) // if not, the next call does
	}
	return err
}
