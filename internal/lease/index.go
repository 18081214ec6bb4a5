// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A host may have many thousands of entries, and to list a directory takes a
// microsecond for each. So their names also stand in one file, which is read as a
// whole: a line each, of which the first byte is overwritten when the entry goes.
//
// The file is believed only while the directory is sealed. The seal is the directory's time
// of modification, set to as many seconds since 1970 as there are entries. Whoever makes
// or removes anything in it breaks the seal by that, and we set it anew, with the lock.
// It is broken if somebody removes an entry by hand, or one of us is killed in the middle;
// then the directory is listed, and what is alive is looked for before a range is given.

const (
	indexName = "index"
	// gone begins the line of an entry that was removed.
	gone = '#'
	// mostEntries is far more than there are user IDs for, and long ago as a time.
	mostEntries = 100_000_000
)

// sealOf is how many entries a directory has that is sealed.
func sealOf(st *unix.Stat_t) (entries int, sealed bool) {
	return int(st.Mtim.Sec), st.Mtim.Nsec == 0 && st.Mtim.Sec >= 0 && st.Mtim.Sec < mostEntries
}

// load reads the names of all entries, from the index if that can be believed.
func (sec *section) load() error {
	if err := unix.Fstat(int(sec.dir.Fd()), &sec.before); err != nil {
		return fmt.Errorf("lease: %w", &os.PathError{Op: "fstat", Path: sec.store.path, Err: err})
	}
	if entries, sealed := sealOf(&sec.before); sealed {
		text, err := sec.readIndex()
		if err != nil {
			return err
		}
		sec.names, sec.lines = parseIndex(text)
		if sec.whole = len(sec.names) == entries; sec.whole {
			return nil
		}
	}
	sec.anew = true
	texts, err := sec.dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	sec.names = nil
	for _, text := range texts {
		if n, err := parseName(text); err == nil {
			sec.names = append(sec.names, n)
		}
	}
	return nil
}

func (sec *section) readIndex() (string, error) {
	f, err := sec.openAt(indexName, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := readAll(f)
	if err != nil {
		return "", fmt.Errorf("lease: %w", err)
	}
	return text, nil
}

// readAll is the whole of a file, without a copy.
func readAll(f *os.File) (string, error) {
	var text strings.Builder
	if st, err := f.Stat(); err == nil {
		text.Grow(int(st.Size()) + bytes.MinRead)
	}
	if _, err := f.WriteTo(&text); err != nil {
		return "", err
	}
	return text.String(), nil
}

// parseIndex reads the lines of an index; lines is how many there are, with those of entries
// that are gone.
func parseIndex(text string) (names []name, lines int) {
	names = make([]name, 0, len(text)/48)
	for at := 0; at < len(text); lines++ {
		end := strings.IndexByte(text[at:], '\n')
		if end < 0 {
			break // cut off, so the number will not be right
		}
		if line := text[at : at+end]; line != "" && line[0] != gone {
			if n, err := parseName(line); err == nil {
				n.line, n.at = true, int64(at)
				names = append(names, n)
			}
		}
		at += end + 1
	}
	return names, lines
}

// seal brings the index up to date, and seals the directory. If something is in the way
// it stays unsealed, which costs the next one some time and nothing else.
func (sec *section) seal() {
	if sec.writeIndex() != nil {
		return
	}
	seal := unix.Timespec{Sec: int64(len(sec.names))}
	if err := unix.UtimesNanoAt(int(sec.dir.Fd()), ".", []unix.Timespec{seal, seal}, 0); err != nil {
		return
	}
	if sec.othersChanged() {
		now := unix.Timespec{Nsec: unix.UTIME_NOW}
		_ = unix.UtimesNanoAt(int(sec.dir.Fd()), ".", []unix.Timespec{now, now}, 0)
	}
}

// direntSize is what the size of a directory on tmpfs grows by with each name
// (BOGO_DIRENT_SIZE, mm/shmem.c).
const direntSize = 20

// othersChanged says whether somebody without the lock has made or removed anything since
// we have it, as far as that can be told without listing the directory.
func (sec *section) othersChanged() bool {
	var on unix.Statfs_t
	var now unix.Stat_t
	if unix.Fstatfs(int(sec.dir.Fd()), &on) != nil || on.Type != unix.TMPFS_MAGIC || unix.Fstat(int(sec.dir.Fd()), &now) != nil {
		return false
	}
	return now.Size != sec.before.Size+direntSize*sec.grown
}

// writeIndex makes the index say what the names are. The directory isn't sealed meanwhile,
// since the entries themselves have changed.
func (sec *section) writeIndex() error {
	if len(sec.names) == 0 {
		return sec.unlink(indexName)
	}
	flags := unix.O_RDWR
	// More that is gone than that is there.
	anew := sec.anew || sec.lines > 2*len(sec.names)+64
	if anew {
		flags |= unix.O_TRUNC
	}
	f, err := sec.openAt(indexName, flags)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = sec.openAt(indexName, flags|unix.O_CREAT|unix.O_EXCL); err == nil {
			sec.grown++
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(sec.writeLines(f, anew), f.Close())
}

// writeLines strikes out the lines of what is gone, and adds those that aren't there: all, if
// the file is anew.
func (sec *section) writeLines(f *os.File, anew bool) error {
	if !anew {
		for _, at := range sec.struck {
			if _, err := f.WriteAt([]byte{gone}, at); err != nil {
				return err
			}
		}
	}
	var added strings.Builder
	for _, n := range sec.names {
		if anew || !n.line {
			added.WriteString(n.text + "\n")
		}
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	_, err := f.WriteString(added.String())
	return err
}

// openAt opens a file of the directory. Anything else in its place is refused.
func (sec *section) openAt(text string, flags int) (*os.File, error) {
	path := filepath.Join(sec.store.path, text)
	fd, err := unix.Openat(int(sec.dir.Fd()), text, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	switch {
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("lease: %s: it isn't a file: remove it", path)
	case err != nil:
		return nil, fmt.Errorf("lease: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(fmt.Errorf("lease: %s: it isn't a file: remove it", path), err, f.Close())
	}
	return f, nil
}

// unlink removes a name, if it is there.
func (sec *section) unlink(text string) error {
	err := unix.Unlinkat(int(sec.dir.Fd()), text, 0)
	switch {
	case err == nil:
		sec.grown--
	case !errors.Is(err, unix.ENOENT):
		return fmt.Errorf("lease: %w", &os.PathError{Op: "unlink", Path: filepath.Join(sec.store.path, text), Err: err})
	}
	return nil
}

// Holds says whether there may be an entry of the container: one of that name. It doesn't
// wait for the lock.
func (s *Store) Holds(k Key) (bool, error) {
	var st unix.Stat_t
	err := unix.Stat(s.path, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lease: %w", &os.PathError{Op: "stat", Path: s.path, Err: err})
	}
	if entries, sealed := sealOf(&st); sealed {
		text, err := os.ReadFile(filepath.Join(s.path, indexName))
		var now unix.Stat_t
		// Unless it was being written meanwhile.
		if unix.Stat(s.path, &now) == nil && now.Mtim == st.Mtim && now.Ctim == st.Ctim && (err == nil || entries == 0) {
			return bytes.Contains(text, []byte("."+k.text()+"\n")), nil
		}
	}
	names, err := listDir(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lease: %w", err)
	}
	for _, text := range names {
		if strings.HasSuffix(text, "."+k.text()) {
			return true, nil
		}
	}
	return false, nil
}
