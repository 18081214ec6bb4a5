// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
)

// StateDir is where it is kept what files were, and what they were made, a directory for each
// engine. It is root's alone: daemon.json can hold what isn't everybody's to read.
const StateDir = "/var/lib/userns-runtime/configure"

// phase is how far a change has come.
type phase string

const (
	writing phase = "writing" // the file is the old or the new one
	done    phase = "done"
	undoing phase = "undoing" // the file is the new or the old one
)

// state is what is known of a change. The contents lie beside it, named by their hash.
type state struct {
	Version int    `json:"version"`
	Engine  string `json:"engine"`
	Phase   phase  `json:"phase"`
	Time    string `json:"time"` // of the last change of the phase, RFC 3339
	Main    string `json:"main"` // the engine's configuration
	File    string `json:"file"` // the one of it that was changed
	// Before, After and Previous are the hashes of contents; "" is that there was no file.
	// Previous is what we wrote before After, where that isn't the first time.
	Before   string  `json:"before"`
	After    string  `json:"after"`
	Previous *string `json:"previous,omitempty"`
	// Backup says that FILE- was there, which is somebody's.
	Backup bool `json:"backup"`
	// Dirs is the directories that were made, outermost first.
	Dirs []string `json:"dirs,omitempty"`
	// Links is those beside the program that the file names, or has named.
	Links []stateLink `json:"links,omitempty"`

	dir string // where it is kept
}

// stateLink is a link that an engine needs; Made says that it wasn't there before us.
type stateLink struct {
	Path string `json:"path"`
	Made bool   `json:"made"`
}

const stateVersion = 1

// checkpoint is called between any two steps that change something; a test ends there.
var checkpoint = func() {}

// store is the directory of all states, locked.
type store struct {
	Host
	lock *os.File
}

// open locks the states, and makes their directory. Whoever holds the lock has one change to do,
// of milliseconds.
func (h Host) open() (*store, error) {
	dir := h.path(StateDir)
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{filepath.Dir(dir), 0o755}, {dir, 0o700}} {
		if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
			return nil, fmt.Errorf("%s: %w", h.name(filepath.Dir(d.path)), unpath(err))
		}
		err := os.Mkdir(d.path, d.mode)
		if err == nil {
			err = os.Chmod(d.path, d.mode) // whatever the umask
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s: %w", h.name(d.path), unpath(err))
		}
	}
	if _, err := h.resolve(StateDir); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", StateDir, unpath(err))
	}
	until := time.Now().Add(30 * time.Second)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return &store{h, f}, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			f.Close()
			return nil, fmt.Errorf("%s: lock: %w", StateDir, err)
		case time.Now().After(until):
			f.Close()
			return nil, fmt.Errorf("%s: is still locked by another usernsctl configure: see which process has it, end it or wait: fuser -v %[1]s", StateDir)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// close lets go of the lock, if it was taken.
func (s *store) close() {
	if s.lock != nil {
		s.lock.Close()
	}
}

// stateKey is the directory of an engine whose main file is that.
func (e engine) stateKey(main string) string {
	if main == e.file {
		return e.name
	}
	return e.name + "-" + hash([]byte(main))[:12]
}

func hash(data []byte) string {
	if data == nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

const stateFile = "state.json"

// stateText is what is stored under that name, nil if nothing is.
func (h Host) stateText(key string) (path string, text []byte, err error) {
	path = filepath.Join(StateDir, key, stateFile)
	text, err = os.ReadFile(h.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil, nil
	}
	if err != nil {
		return path, nil, fmt.Errorf("%s: %w", path, unpath(err))
	}
	return path, text, nil
}

// known refuses a state of another version of this program.
func known(path string, version int) error {
	if version == stateVersion {
		return nil
	}
	return fmt.Errorf("%s: version %d: this program knows %d: use the one that wrote it", path, version, stateVersion)
}

// load is the state of that name, nil if there is none.
func (h Host) load(key string) (*state, error) {
	path, text, err := h.stateText(key)
	if err != nil || text == nil {
		return nil, err
	}
	st := &state{dir: filepath.Dir(path)}
	if err := json.Unmarshal(text, st); err != nil {
		return nil, fmt.Errorf("%s: isn't what this program wrote: %w: %s", path, err, h.salvage(key))
	}
	if _, err := find(st.Engine); st.Version == stateVersion && (err != nil || st.Main == "" || st.File == "") {
		return nil, fmt.Errorf("%s: isn't what this program wrote: it has no engine, or no file: %s", path, h.salvage(key))
	}
	if err := known(path, st.Version); err != nil {
		return nil, err
	}
	return st, nil
}

// states is all that there are.
func (h Host) states() (found []*state, err error) {
	entries, err := os.ReadDir(h.path(StateDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", StateDir, unpath(err))
	}
	for _, e := range entries {
		if !e.IsDir() || isPlace(e.Name()) {
			continue
		}
		st, err := h.load(e.Name())
		if err != nil {
			return nil, err
		}
		if st != nil {
			found = append(found, st)
		}
	}
	return found, nil
}

// salvage is how to do by hand what a broken state doesn't tell: the contents that it named are
// beside it, the one before and what was written.
func (h Host) salvage(key string) string {
	dir := filepath.Join(StateDir, key)
	var kept []string
	entries, _ := os.ReadDir(h.path(dir)) // then none are named
	for _, e := range entries {
		if e.Name() != stateFile {
			kept = append(kept, rootfile.ShellQuote(filepath.Join(dir, e.Name())))
		}
	}
	file := "the engine's file"
	if e, err := find(key); err == nil {
		file = e.file
		if key == "containerd" {
			file += ", or a file that it imports,"
		}
	}
	mend := "see whether " + file + " names the runtime " + RuntimeName + ", and take that out by hand"
	if len(kept) > 0 {
		mend = "put " + file + " right by hand: what it was before, and what was written, is kept in: " + strings.Join(kept, " ")
	}
	return mend + "; then: rm -r " + rootfile.ShellQuote(dir)
}

// content is what was kept under a hash; nil for "".
func (h Host) content(st *state, sum string) ([]byte, error) {
	if sum == "" {
		return nil, nil
	}
	path := filepath.Join(st.dir, sum)
	data, err := os.ReadFile(h.path(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: put %s right by hand; then: rm -r %s", path, unpath(err), st.File, rootfile.ShellQuote(st.dir))
	}
	if data == nil {
		data = []byte{}
	}
	if hash(data) != sum {
		return nil, fmt.Errorf("%s: isn't what was written there: put %s right by hand; then: rm -r %s", path, st.File, rootfile.ShellQuote(st.dir))
	}
	return data, nil
}

// keptDir has what files were before, where others have put something else there that stays.
const keptDir = StateDir + "/kept"

// keep puts the content before where it stays when the state goes, if it isn't the file's now,
// and says so.
func (s *store) keep(st *state, current, before []byte, dry bool) (warnings []string, err error) {
	if before == nil || bytes.Equal(before, current) {
		return nil, nil
	}
	path := filepath.Join(keptDir, filepath.Base(st.File)+"-"+hash(before)[:12])
	if !dry {
		if err := os.Mkdir(s.path(keptDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s: %w", keptDir, unpath(err))
		}
		if err := s.put(path, before); err != nil {
			return nil, err
		}
		checkpoint()
	}
	return []string{st.File + ": what was there before this program wrote it is kept as " + path}, nil
}

// save writes the state, after the contents that it names.
func (s *store) save(st *state, contents ...[]byte) error {
	st.Version, st.Time = stateVersion, time.Now().UTC().Format(time.RFC3339)
	if err := os.Mkdir(s.path(st.dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", st.dir, unpath(err))
	}
	for _, data := range contents {
		if data == nil {
			continue
		}
		if err := s.put(filepath.Join(st.dir, hash(data)), data); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("bug: a state doesn't become JSON: %w", err)
	}
	if err := s.put(filepath.Join(st.dir, stateFile), append(text, '\n')); err != nil {
		return err
	}
	checkpoint()
	return nil
}

// put makes a file of the state, whole or not at all, on disk when it returns.
func (s *store) put(path string, data []byte) error {
	next := s.path(path + ".new")
	err := func() error {
		f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err == nil {
			err = f.Sync()
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err == nil {
			err = os.Rename(next, s.path(path))
		}
		return err
	}()
	if err == nil {
		err = syncDir(filepath.Dir(next))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, unpath(err))
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// forget removes a state: first what makes it one. What a killed one has left is removed with
// the next.
func (s *store) forget(st *state) error {
	if err := os.Remove(s.path(filepath.Join(st.dir, stateFile))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", st.dir, unpath(err))
	}
	checkpoint()
	return s.sweep(st.dir)
}

// sweep removes the directory of a state that has ended.
func (s *store) sweep(dir string) error {
	if _, err := os.Lstat(s.path(filepath.Join(dir, stateFile))); err == nil {
		return nil
	}
	if err := os.RemoveAll(s.path(dir)); err != nil {
		return fmt.Errorf("%s: %w", dir, unpath(err))
	}
	return nil
}

// kept removes contents that the state doesn't name any more.
func (s *store) kept(st *state) error {
	entries, err := os.ReadDir(s.path(st.dir))
	if err != nil {
		return fmt.Errorf("%s: %w", st.dir, unpath(err))
	}
	for _, e := range entries {
		name := e.Name()
		if name == stateFile || name == st.Before || name == st.After || st.Previous != nil && name == *st.Previous || strings.HasPrefix(name, ".") {
			continue
		}
		if err := os.Remove(s.path(filepath.Join(st.dir, name))); err != nil {
			return fmt.Errorf("%s: %w", st.dir, unpath(err))
		}
	}
	return nil
}
