// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// VerifyOptions is how two layers are compared.
type VerifyOptions struct {
	// Directory is how one that is a directory is read. Its Shift, one to the container,
	// isn't applied to archives; what it skips isn't compared on either half.
	Directory PackOptions
	// Most is how many differing names are told of; the others are counted.
	Most int
}

// Difference is what two layers don't have in common by one name.
type Difference struct {
	Name string // clean; "." is the top
	What string // the field that differs, or "only in A" or "only in B"
	A, B string // what both have there, in words
}

// Verify compares two layers, each an archive, which may be compressed, or a directory,
// name by name, whatever their order: every field of a header, extended attributes, ACLs,
// what is a hard link to what, and the content. It tells of the differences, and gives
// the number of differing names, among them those that aren't told of.
//
// Names are compared as paths below the top. Not compared are what a directory can't
// have: times of status change and owner, mode and time of an opaque marker (.wh..wh..opq),
// nor whether zeros are stored as a hole. Names of owners, access times, and records that
// nobody knows count if both sides have some; so does the entry of the top.
//
// It keeps 28 bytes for an entry of a. a is read once more to tell what differs, so an
// archive has to be a regular file; b may be any. An archive with one name twice is
// refused.
func Verify(ctx context.Context, a, b string, o VerifyOptions) (told []Difference, differ int, err error) {
	if err := checkPatterns(o.Directory.SkipXattrs); err != nil {
		return nil, 0, err
	}
	o.Directory.anyOrder = true
	v := &verifier{VerifyOptions: o, ctx: ctx, imprinter: newImprinter(), suspects: make(map[key]*suspect)}
	if err := v.readA(a); err != nil {
		return nil, 0, err
	}
	if err := v.readB(b); err != nil {
		return nil, 0, err
	}
	differ = v.judge()
	if differ == 0 {
		return nil, 0, nil
	}
	told, err = v.tell(a)
	return told, differ, err
}

// verifier is one call of [Verify].
type verifier struct {
	VerifyOptions
	*imprinter
	ctx  context.Context
	a, b half
	// groupsA and groupsB are what is a hard link to what, once all is read.
	groupsA, groupsB *groups
	state            []byte // of each name of a, as its bits below
	onlyB            int
	suspects         map[key]*suspect
	kept             [1 << optCount]int // suspects, by their mask
}

// Bits of the state of a name.
const (
	inBoth   = 1 << iota
	other           // it differs by itself
	optShift = iota // from here on: the optional facts in which it differs
)

// suspect is a name that differs, or may.
type suspect struct {
	entry   *Entry // b's, if it differs there, or is only there
	name    string // of that, clean
	content []byte // the digest of that
	onlyA   bool
	onlyB   bool
	links   bool // what it is a name of has other names
	mask    int  // the optional facts, if it differs in those alone
}

// each reads one half.
func (v *verifier) each(path string, do func(e *Entry, name string, data io.Reader) error) error {
	named := func(e *Entry, data io.Reader) error {
		if e.Type == TypeVolume {
			return nil
		}
		name, err := cleanPath(e.Name)
		if err != nil {
			return inEntry(e.Name, err)
		}
		e.Xattrs = without(e.Xattrs, v.Directory.SkipXattrs)
		return do(e, name, data)
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return eachFile(v.ctx, path, v.Directory, named)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := eachEntry(v.ctx, f, named); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (v *verifier) readA(path string) error {
	if st, err := os.Stat(path); err == nil && !st.IsDir() && !st.Mode().IsRegular() {
		return fmt.Errorf("%s: isn't a regular file: expected one, or a directory, since it is read twice", path)
	}
	err := v.each(path, func(e *Entry, name string, data io.Reader) error {
		p, _, err := v.print(e, name, data)
		if err != nil {
			return err
		}
		v.a.add(p, e.Type == TypeLink)
		return nil
	})
	if err != nil {
		return err
	}
	v.a.sort()
	if twice, found := v.a.twice(); found {
		return v.refuseTwice(path, twice)
	}
	v.state = make([]byte, v.a.Len())
	return nil
}

// print is that of an entry; of a hard link the target's name is in place of the rest.
func (v *verifier) print(e *Entry, name string, data io.Reader) (imprint, []byte, error) {
	if e.Type == TypeLink {
		target, err := cleanPath(e.Link)
		if err != nil {
			return imprint{}, nil, inEntry(e.Name, fmt.Errorf("is a hard link to %q, which %w", e.Link, err))
		}
		return imprint{name: v.name(name), core: v.name(target)}, nil, nil
	}
	p, content, err := v.imprint(e, name, data)
	if err != nil {
		return imprint{}, nil, inEntry(e.Name, err)
	}
	return p, content[:], nil
}

func twiceError(name string) error {
	return inEntry(name, errors.New("is there twice: expected every name once: unpack it, and compare the directory"))
}

func (v *verifier) refuseTwice(path string, twice key) error {
	err := v.each(path, func(e *Entry, name string, _ io.Reader) error {
		if v.name(name) == twice {
			return twiceError(e.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: has changed while it was read", path)
}

func (v *verifier) readB(path string) error {
	// Hard links are judged at the end, when all of them are known.
	err := v.each(path, func(e *Entry, name string, data io.Reader) error {
		p, content, err := v.print(e, name, data)
		if err != nil {
			return err
		}
		at := v.a.find(p.name)
		if at >= 0 {
			if v.state[at] != 0 {
				return twiceError(e.Name)
			}
			v.state[at] = inBoth
		}
		s := &suspect{entry: e, name: name, content: content}
		switch {
		case at < 0:
			if name != "" {
				s.onlyB = true
				v.onlyB++
				v.suspect(p.name, s)
			}
		case e.Type == TypeLink:
		default:
			v.compare(p, at, s)
		}
		// Of its files only that they have optional facts has to be known from here on.
		if e.Type == TypeLink {
			v.b.add(p, true)
		}
		for i, sum := range p.opt {
			v.b.has[i] = v.b.has[i] || sum != 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.b.sort()
	v.groupsA, v.groupsB = groupsOf(&v.a, &v.a), groupsOf(&v.b, &v.a)
	return nil
}

// compare judges a file of b whose name a has at that place.
func (v *verifier) compare(p imprint, at int, s *suspect) {
	file := v.a.files.find(v.a.root(p.name))
	if file < 0 || *v.a.files.cores.at(file) != p.core {
		v.state[at] |= other
		v.suspect(p.name, s)
		return
	}
	for i, sum := range v.a.files.opts.at(file) {
		if sum != p.opt[i] {
			s.mask |= 1 << i
		}
	}
	if s.mask != 0 {
		v.state[at] |= byte(s.mask << optShift)
		v.suspect(p.name, s)
	}
}

// suspect remembers a name, as long as there aren't too many of its kind.
func (v *verifier) suspect(name key, s *suspect) {
	if v.kept[s.mask] < v.Most {
		v.kept[s.mask]++
		v.suspects[name] = s
	}
}

// judge counts the names that differ, now that all is known.
func (v *verifier) judge() int {
	counts := 0 // optional facts that both have
	for i := range optCount {
		if v.a.has[i] && v.b.has[i] {
			counts |= 1 << i
		}
	}
	for name, s := range v.suspects {
		if s.mask != 0 && s.mask&counts == 0 {
			delete(v.suspects, name)
		}
	}
	links := v.a.links.Len() > 0 || v.b.links.Len() > 0
	top, total := v.name(""), v.onlyB
	for at, state := range v.state {
		name := v.a.name(at)
		switch {
		case state == 0 && name == top:
		case state == 0:
			total++
			v.mark(name, func(s *suspect) { s.onlyA = true })
		case links && v.groupsA.sum(name) != v.groupsB.sum(name):
			total++
			v.mark(name, func(s *suspect) { s.links = true })
		case state&other != 0, int(state>>optShift)&counts != 0:
			total++
		}
	}
	return total
}

// mark says more of a suspect, or makes it one.
func (v *verifier) mark(name key, say func(*suspect)) {
	s := v.suspects[name]
	if s == nil {
		if len(v.suspects) >= v.Most {
			return
		}
		s = &suspect{}
		v.suspects[name] = s
	}
	say(s)
}
