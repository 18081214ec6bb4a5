// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// PackOptions is how a directory becomes an archive.
type PackOptions struct {
	// Shift is applied to every entry, nil for none. It has to be one to the container.
	Shift *Shift
	// Whiteouts is how they stand on disk.
	Whiteouts Whiteouts
	// SkipXattrs is patterns (path.Match) of the names of extended attributes that are
	// left out, ACLs among them.
	SkipXattrs []string
	// AccessTimes says that the archive is to have them.
	AccessTimes bool
	// Warn is told of what is left out, nil for nobody.
	Warn func(message string)

	anyOrder bool // of names, so that not all of a directory's have to be in memory
}

// packBuffer is how much of a file is read at a time, in bytes.
const packBuffer = 1 << 20

// Pack writes an archive of the directory dir to dst. Names begin with "./", are sorted by
// their bytes in each directory, and a directory stands before what is in it. Of a file
// with several names the first has the data, and the others are hard links to it. Holes
// of sparse files are left out.
//
// No symbolic link is followed below dir, and no mount entered. The tree mustn't change:
// if that is seen, it is an error. Nothing else is: what was written by then isn't a
// whole archive.
//
// Extended attributes are those of user, security and trusted, and the ACLs. Of
// overlay's own, opaque becomes a whiteout, those are refused by which a file's content
// is elsewhere (metacopy, redirect), and the others are left out. Sockets are left out
// with a warning.
//
// The caller needs to be root. Errors name the entry.
func Pack(ctx context.Context, dir string, dst io.Writer, o PackOptions) error {
	w := NewWriter(dst)
	buf := make([]byte, packBuffer)
	err := eachFile(ctx, dir, o, func(e *Entry, data io.Reader) error {
		if err := w.WriteEntry(e); err != nil {
			return err
		}
		_, err := io.CopyBuffer(w, data, buf)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}

// packer is a walk through one directory.
type packer struct {
	PackOptions
	ctx   context.Context
	do    func(e *Entry, data io.Reader) error
	mount uint64
	links hardLinks
}

// eachFile calls do for every entry that a directory makes, as [Pack] says, as
// [eachEntry] does for those of an archive.
func eachFile(ctx context.Context, dir string, o PackOptions, do func(e *Entry, data io.Reader) error) error {
	if err := checkPatterns(o.SkipXattrs); err != nil {
		return err
	}
	fd, err := linux.OpenDirectory(dir)
	if err != nil {
		return err
	}
	defer fd.Close()
	st, err := linux.At{Dir: fd}.Stat()
	if err != nil {
		return inFile(dir, err)
	}
	p := &packer{PackOptions: o, ctx: ctx, do: do, mount: st.MountID}
	return p.directory(fd, &st, "./")
}

// errChanged is wrapped by errors about a tree that isn't at rest.
var errChanged = errors.New("has changed while it was packed: expected a tree at rest: end what writes to it: fuser -vm on its filesystem tells who has it open")

// directory packs an open directory; name ends with a slash.
func (p *packer) directory(fd linux.FD, st *linux.Stat, name string) error {
	self := linux.At{Dir: fd}
	e := p.entry(TypeDir, name, st)
	own, err := p.xattrs(self, e)
	if err != nil {
		return inEntry(name, err)
	}
	if own.white {
		return inEntry(name, errors.New("is a directory with overlay's attribute of a whiteout"))
	}
	// The marker says once more what the directory is, as other packers have it.
	marker := p.entry(TypeReg, name+opaqueMarker, st)
	if err := p.give(e, noData); err != nil {
		return err
	}
	if own.opaque {
		if err := p.give(marker, noData); err != nil {
			return err
		}
	}
	each := sortedNames
	if p.anyOrder {
		each = eachName
	}
	err = each(fd, name, func(base string) error {
		if err := context.Cause(p.ctx); err != nil {
			return err
		}
		return p.file(linux.At{Dir: fd, Name: base}, name, base)
	})
	if err != nil {
		return err
	}
	return p.atRest(self, st, name)
}

// atRest refuses a file that isn't as it was when it was looked at.
func (p *packer) atRest(a linux.At, st *linux.Stat, name string) error {
	now, err := a.Stat()
	if err != nil {
		return inEntry(name, err)
	}
	if now.Size != st.Size || !now.MTime.Equal(st.MTime) || !now.CTime.Equal(st.CTime) {
		return inEntry(name, errChanged)
	}
	return nil
}

// file packs what is called base in the directory dir, which ends with a slash.
func (p *packer) file(a linux.At, dir, base string) error {
	name := dir + base
	st, err := a.Stat()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return inEntry(name, errChanged)
	case err != nil:
		return inEntry(name, err)
	case st.MountID != p.mount:
		return inEntry(name, errors.New("is a mount point: expected a tree of one mount: unmount it, or pack what is below it by a bind mount of the whole"))
	}
	if p.Whiteouts == OverlayWhiteouts {
		switch {
		case strings.HasPrefix(base, whiteoutPrefix):
			return inEntry(name, errors.New("has a name that stands for a whiteout in an archive: expected another one, or whiteouts that are files on disk"))
		case isWhiteout(&st):
			return p.whiteout(dir, base, &st)
		}
	}
	switch st.Mode & linux.TypeMask {
	case linux.TypeDir:
		fd, err := p.open(a.OpenDir, &st)
		if err != nil {
			return inEntry(name, err)
		}
		defer fd.Close()
		return p.directory(fd, &st, name+"/")
	case linux.TypeSocket:
		if p.Warn != nil {
			p.Warn(fmt.Sprintf("%q: is a socket, which no archive can have: left out", name))
		}
		return nil
	}
	if st.Links > 1 {
		if first := p.links.first(&st, dir, base); first != "" {
			e := p.entry(TypeLink, name, &st)
			e.Link = first
			return p.give(e, noData)
		}
	}
	switch st.Mode & linux.TypeMask {
	case linux.TypeRegular:
		return p.regular(a, &st, dir, base)
	case linux.TypeSymlink:
		e := p.entry(TypeSymlink, name, &st)
		if e.Link, err = a.ReadLink(); err != nil {
			return inEntry(name, err)
		}
		return p.plain(a, e)
	case linux.TypeChar:
		e := p.entry(TypeChar, name, &st)
		e.Major, e.Minor = st.Major, st.Minor
		return p.plain(a, e)
	case linux.TypeBlock:
		e := p.entry(TypeBlock, name, &st)
		e.Major, e.Minor = st.Major, st.Minor
		return p.plain(a, e)
	case linux.TypeFIFO:
		return p.plain(a, p.entry(TypeFifo, name, &st))
	}
	return inEntry(name, fmt.Errorf("has the mode %o, which is of no type that is known", st.Mode))
}

// open opens what was looked at, and refuses what has taken its place since.
func (p *packer) open(call func() (linux.FD, error), st *linux.Stat) (linux.FD, error) {
	fd, err := call()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, linux.ErrNotDirectory) || errors.Is(err, linux.ErrLoop) {
		return -1, errChanged
	}
	if err != nil {
		return -1, err
	}
	now, err := linux.At{Dir: fd}.Stat()
	if err == nil && (!now.Same(st) || now.MountID != st.MountID || now.Mode != st.Mode) {
		err = errChanged
	}
	if err != nil {
		_ = fd.Close()
		return -1, err
	}
	return fd, nil
}

// entry is what the archive will say of a file, but for attributes.
func (p *packer) entry(kind byte, name string, st *linux.Stat) *Entry {
	e := &Entry{Name: name, Type: kind, Mode: st.Mode &^ linux.TypeMask, UID: st.UID, GID: st.GID, ModTime: st.MTime}
	if p.AccessTimes {
		e.AccessTime = st.ATime
	}
	return e
}

// noData is that of what has none.
var noData io.Reader = strings.NewReader("")

// give gives an entry with its data to whom the walk is for.
func (p *packer) give(e *Entry, data io.Reader) error {
	if p.Shift != nil {
		if _, err := p.Shift.Entry(e); err != nil {
			return err
		}
	}
	return p.do(e, data)
}

// plain packs a file without data.
func (p *packer) plain(a linux.At, e *Entry) error {
	if _, err := p.xattrs(a, e); err != nil {
		return inEntry(e.Name, err)
	}
	return p.give(e, noData)
}

func (p *packer) whiteout(dir, base string, st *linux.Stat) error {
	return p.give(p.entry(TypeReg, dir+whiteoutPrefix+base, st), noData)
}

func (p *packer) regular(a linux.At, st *linux.Stat, dir, base string) error {
	name := dir + base
	fd, err := p.open(a.OpenFile, st)
	if err != nil {
		return inEntry(name, err)
	}
	defer fd.Close()
	self := linux.At{Dir: fd}
	e := p.entry(TypeReg, name, st)
	e.Size = st.Size
	own, err := p.xattrs(self, e)
	if err != nil {
		return inEntry(name, err)
	}
	if own.white && st.Size == 0 {
		return p.whiteout(dir, base, st)
	}
	if st.Blocks*512 < st.Size {
		if e.Data, err = segmentsOf(fd, st.Size); err != nil {
			return inEntry(name, err)
		}
	}
	left := e.Data
	if left == nil {
		left = []Segment{{0, e.Size}}
	}
	if err := p.give(e, &contentReader{ctx: p.ctx, name: name, fd: fd, left: left}); err != nil {
		return err
	}
	return p.atRest(self, st, name)
}

// contentReader reads a file's segments, one behind the other.
type contentReader struct {
	ctx  context.Context
	name string
	fd   linux.FD
	left []Segment
	done int64 // bytes of the first of them
}

// Read is as [io.Reader].
func (r *contentReader) Read(p []byte) (int, error) {
	for len(r.left) > 0 && r.left[0].Length == r.done {
		r.left, r.done = r.left[1:], 0
	}
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	now := r.left[0]
	n, err := r.fd.ReadAt(p[:min(int64(len(p)), now.Length-r.done)], now.Offset+r.done)
	if errors.Is(err, io.EOF) {
		err = errChanged
	}
	if err != nil {
		return 0, inEntry(r.name, err)
	}
	r.done += int64(n)
	return n, nil
}

// segmentsOf is where a file has data, as its filesystem tells; nil is everywhere. Where
// there are more parts than an archive can have, the shortest holes become data.
func segmentsOf(fd linux.FD, size int64) ([]Segment, error) {
	all := []Segment{}
	least := int64(1) // of a hole
	for at := int64(0); at < size; {
		start, end, err := fd.NextData(at)
		if err != nil {
			return nil, err
		}
		end = min(end, size)
		if start >= end {
			break
		}
		all = joined(append(all, Segment{start, end - start}), len(all), least)
		for len(all) == maxSegments/2 {
			least *= 2
			all = joined(all, 1, least)
		}
		at = end
	}
	if len(all) == 1 && all[0] == (Segment{0, size}) {
		return nil, nil
	}
	return all, nil
}

// joined joins each segment from the one with the number from on to the one before, if
// the hole between is shorter than least.
func joined(all []Segment, from int, least int64) []Segment {
	kept := all[:min(max(from, 1), len(all))]
	for _, s := range all[len(kept):] {
		last := &kept[len(kept)-1]
		if s.Offset-(last.Offset+last.Length) < least {
			last.Length = s.Offset + s.Length - last.Offset
			continue
		}
		kept = append(kept, s)
	}
	return kept
}
