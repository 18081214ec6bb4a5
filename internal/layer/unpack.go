// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// UnpackOptions is how an archive becomes a directory.
type UnpackOptions struct {
	// Shift is applied to every entry, nil for none. It has to be one to the host.
	Shift *Shift
	// Whiteouts is how they are to stand on disk.
	Whiteouts Whiteouts
	// SkipXattrs is patterns (path.Match) of the names of extended attributes that are
	// left out, ACLs among them. Without it one that the filesystem refuses is an error.
	SkipXattrs []string
	// Sync says that all is to be on disk before the directory gets its name, which takes
	// as long as the disk takes.
	Sync bool
}

// unpackBuffer is how much of a file is written at a time, in bytes.
const unpackBuffer = 1 << 20

// Unpack makes the directory dir of an archive, which may be compressed. dir isn't there
// yet, or is empty. It becomes the whole tree at once, at the end: on any failure, and
// when ctx ends, it is as it was and nothing is left beside it. What a killed process
// left is removed by the next call for the same directory, and two at once are refused.
// When ctx ends, src may still be read from by a call that was waiting.
//
// Every path is resolved as by a process whose root directory is dir, so that no entry
// reaches out of it. A later entry replaces what has its name, but a directory stays one
// with all that is in it. Directories without an entry before that of a file in them are
// root's of the container, with mode 0755. So is dir, where it wasn't there and
// the archive has no entry of it; one that was there then keeps its owner and mode.
//
// Owners, modes, extended attributes, ACLs, file capabilities, and times to the
// nanosecond are the archive's; a hard link's own header isn't looked at. Access times
// are set where it has them; times of status change can't be.
// Attributes of overlay's own (trusted.overlay.*) are refused unless they are skipped.
//
// The caller needs to be root. Errors name the entry and the system call.
func Unpack(ctx context.Context, src io.Reader, dir string, o UnpackOptions) (err error) {
	if err := checkPatterns(o.SkipXattrs); err != nil {
		return err
	}
	s, err := newStaging(dir)
	if err != nil {
		return err
	}
	defer s.close()
	published := false
	defer func() {
		if !published {
			err = errors.Join(err, s.discard())
		}
	}()
	u := &unpacking{UnpackOptions: o, top: s.tree, at: place{fd: -1}, buf: make([]byte, unpackBuffer)}
	if err := u.all(ctx, src); err != nil {
		return err
	}
	if err := u.finish(s.found); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := s.publish(o.Sync); err != nil {
		return err
	}
	published = true
	return s.discard()
}

// unpacking is one call of [Unpack].
type unpacking struct {
	UnpackOptions
	top    linux.FD
	hasTop bool // there was an entry of the top
	at     place
	buf    []byte
}

func (u *unpacking) all(ctx context.Context, src io.Reader) error {
	defer func() { // of a failure nobody needs the time of a directory
		if u.at.fd >= 0 {
			_ = u.at.fd.Close()
		}
	}()
	if err := eachEntry(ctx, src, u.entry); err != nil {
		return err
	}
	return inEntry(u.at.path+"/", u.leave())
}

// finish gives the top what it has, if the archive has said nothing of it: what the
// directory had whose place it takes.
func (u *unpacking) finish(found *linux.Stat) error {
	if u.hasTop {
		return nil
	}
	top := linux.At{Dir: u.top}
	if found != nil {
		if err := top.Chown(found.UID, found.GID); err != nil {
			return inEntry("./", err)
		}
		return inEntry("./", top.Chmod(found.Mode&^linux.TypeMask))
	}
	e := &Entry{Name: "./", Type: TypeDir, Mode: 0o755}
	if err := u.translate(e); err != nil {
		return err
	}
	return inEntry(e.Name, u.dress(top, e, true))
}

// translate shifts the owners of an entry.
func (u *unpacking) translate(e *Entry) error {
	if u.Shift == nil {
		return nil
	}
	_, err := u.Shift.Entry(e)
	return err
}

// entry makes the file of one entry, whose data is the archive's next.
func (u *unpacking) entry(e *Entry, data io.Reader) error {
	if e.Type == TypeVolume {
		return nil
	}
	name, err := cleanPath(e.Name)
	if err != nil {
		return inEntry(e.Name, err)
	}
	e.Xattrs = without(e.Xattrs, u.SkipXattrs)
	if err := overlaysOwn(e); err != nil {
		return inEntry(e.Name, err)
	}
	if err := u.translate(e); err != nil {
		return err
	}
	if name == "" {
		if e.Type != TypeDir {
			return inEntry(e.Name, errors.New("is the top of the archive, and no directory"))
		}
		if err := u.leave(); err != nil { // or it would get its old time back
			return inEntry(e.Name, err)
		}
		u.hasTop = true
		return inEntry(e.Name, u.again(linux.At{Dir: u.top}, e))
	}
	dir, base := split(name)
	if u.Whiteouts == OverlayWhiteouts {
		hides, opaque, err := hidden(e, name)
		if err == nil && (hides != "" || opaque) {
			err = u.enter(dir)
			if err == nil {
				err = u.whiteout(e, hides, opaque)
			}
			return inEntry(e.Name, err)
		}
		if err != nil {
			return inEntry(e.Name, err)
		}
	}
	if err := u.enter(dir); err != nil {
		return inEntry(e.Name, err)
	}
	return inEntry(e.Name, u.file(linux.At{Dir: u.at.fd, Name: base}, e, data))
}

// file makes a in the directory that was entered.
func (u *unpacking) file(a linux.At, e *Entry, data io.Reader) error {
	switch e.Type {
	case TypeReg, TypeCont:
		return u.regular(a, e, data)
	case TypeDir:
		return u.directory(a, e)
	case TypeLink:
		return u.link(a, e)
	case TypeSymlink:
		if e.Link == "" {
			return errors.New("is a symbolic link to nothing: expected a target")
		}
		if err := u.make(a, func() error { return a.Symlink(e.Link) }); err != nil {
			return err
		}
		return u.dress(a, e, false)
	case TypeChar, TypeBlock, TypeFifo:
		return u.node(a, e)
	}
	return fmt.Errorf("has the type %q, which is no file of Linux: expected one of 0 to 7", e.Type)
}

// make calls for a file to be made, after what has its name is removed.
func (u *unpacking) make(a linux.At, call func() error) error {
	err := call()
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := remove(a); err != nil {
		return err
	}
	return call()
}

func (u *unpacking) regular(a linux.At, e *Entry, data io.Reader) (err error) {
	fd := linux.FD(-1)
	err = u.make(a, func() (err error) {
		fd, err = a.Create(0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if closed := fd.Close(); err == nil {
			err = closed
		}
	}()
	if err := u.fill(fd, e, data); err != nil {
		return err
	}
	return u.dress(linux.At{Dir: fd}, e, false)
}

// fill writes what the archive has of a file; holes aren't written.
func (u *unpacking) fill(fd linux.FD, e *Entry, data io.Reader) error {
	segments := e.Data
	if segments == nil {
		segments = []Segment{{0, e.Size}}
	}
	end := int64(0)
	for _, s := range segments {
		for done := int64(0); done < s.Length; {
			part := u.buf[:min(int64(len(u.buf)), s.Length-done)]
			if _, err := io.ReadFull(data, part); err != nil {
				return err
			}
			if _, err := fd.WriteAt(part, s.Offset+done); err != nil {
				return err
			}
			done += int64(len(part))
		}
		end = s.Offset + s.Length
	}
	if end < e.Size {
		return fd.Truncate(e.Size)
	}
	return nil
}

func (u *unpacking) directory(a linux.At, e *Entry) error {
	err := a.Mkdir(0o700)
	if !errors.Is(err, fs.ErrExist) {
		return u.dressDir(a, e, err, false)
	}
	st, err := a.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		return u.dressDir(a, e, nil, true)
	}
	// In overlay's form the name had hidden what lower layers have, and still has to.
	white := u.Whiteouts == OverlayWhiteouts && isWhiteout(&st)
	if err := a.Remove(); err != nil {
		return err
	}
	if err := u.dressDir(a, e, a.Mkdir(0o700), false); err != nil || !white {
		return err
	}
	return a.SetXattr(overlayOpaque, []byte("y"))
}

// dressDir is [unpacking.dress] for a directory, by a descriptor, unless err says that it
// couldn't be made.
func (u *unpacking) dressDir(a linux.At, e *Entry, err error, again bool) error {
	if err != nil {
		return err
	}
	fd, err := a.OpenDir()
	if err != nil {
		return err
	}
	defer fd.Close()
	if again {
		return u.again(linux.At{Dir: fd}, e)
	}
	return u.dress(linux.At{Dir: fd}, e, false)
}

// link gives a file that was made before one more name. Its header says nothing of its
// own: it is the same file.
func (u *unpacking) link(a linux.At, e *Entry) error {
	target, err := cleanPath(e.Link)
	if err != nil {
		return fmt.Errorf("is a hard link to %s, which %w", e.Link, err)
	}
	dir, base := split(target)
	missing := fmt.Errorf("is a hard link to %s, which isn't there: expected an entry of it before", e.Link)
	if base == "" {
		return fmt.Errorf("is a hard link to %s, which is a directory", e.Link)
	}
	fd := u.at.fd
	if dir != u.at.path {
		if dir == "" {
			dir = "."
		}
		if fd, err = u.top.DirInRoot(dir); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return missing
			}
			return fmt.Errorf("is a hard link to %s: %w", e.Link, err)
		}
		defer fd.Close()
	}
	old := linux.At{Dir: fd, Name: base}
	st, err := old.Stat()
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && u.Whiteouts == OverlayWhiteouts && isWhiteout(&st):
		return missing
	case err != nil:
		return fmt.Errorf("is a hard link to %s: %w", e.Link, err)
	case st.IsDir():
		return fmt.Errorf("is a hard link to %s, which is a directory", e.Link)
	}
	err = a.Link(old)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if now, err := a.Stat(); err != nil || now.Same(&st) { // it is that file already, perhaps by that name
		return err
	}
	return u.make(a, func() error { return a.Link(old) })
}

func (u *unpacking) node(a linux.At, e *Entry) error {
	kind := linux.TypeFIFO
	switch e.Type {
	case TypeChar:
		kind = linux.TypeChar
	case TypeBlock:
		kind = linux.TypeBlock
	}
	if e.Type == TypeChar && e.Major == 0 && e.Minor == 0 && u.Whiteouts == OverlayWhiteouts {
		return errors.New("is a character device 0:0, which hides a name from overlay: expected whiteouts as .wh.NAME, or none of them to be overlay's")
	}
	if err := u.make(a, func() error { return a.Mknod(kind|0o600, e.Major, e.Minor) }); err != nil {
		return err
	}
	return u.dress(a, e, false)
}

// dress gives a file what its entry says. The order matters: a change of owner takes
// setuid bits and capabilities away, and an ACL sets bits of the mode. bare says that
// nothing else may be there; so it may where the directory has a default ACL.
func (u *unpacking) dress(a linux.At, e *Entry, bare bool) error {
	if err := a.Chown(e.UID, e.GID); err != nil {
		return err
	}
	if bare || u.at.inherits && e.Type != TypeSymlink {
		if err := u.strip(a, e); err != nil {
			return err
		}
	}
	for _, x := range e.Xattrs {
		if err := a.SetXattr(x.Name, x.Value); err != nil {
			return refusedXattr(x, err)
		}
	}
	if e.Type != TypeSymlink {
		if err := a.Chmod(e.Mode & 0o7777); err != nil {
			return err
		}
	}
	return a.SetTimes(e.AccessTime, e.ModTime)
}

// again is [unpacking.dress] for a directory that is there already: what it has by an
// earlier entry, or by the directory that it was made in, goes.
func (u *unpacking) again(a linux.At, e *Entry) error { return u.dress(a, e, true) }
