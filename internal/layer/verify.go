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
// It keeps 32 bytes for an entry of a. a is read once more to tell what differs, so an
// archive has to be a regular file; b may be any. An archive with one name twice is
// refused.
func Verify(ctx context.Context, a, b string, o VerifyOptions) (told []Difference, differ int, err error) {
	if err := checkPatterns(o.Directory.SkipXattrs); err != nil {
		return nil, 0, err
	}
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
	seen []bool // which of a's names b has: its files, then its links

	onlyB, differ int
	optional      [1 << optCount]int // names that differ in just those
	suspects      map[key]*suspect
}

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
		p, _, err := v.print(&v.a, e, name, data)
		if err != nil {
			return err
		}
		if e.Type == TypeLink {
			v.a.links.add(p)
		} else {
			v.a.files.add(p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.a.group()
	if twice, found := v.a.twice(); found {
		return v.refuseTwice(path, twice)
	}
	v.seen = make([]bool, v.a.files.n+v.a.links.n)
	return nil
}

// print is that of an entry; of a hard link the target's name is in place of the rest.
func (v *verifier) print(s *half, e *Entry, name string, data io.Reader) (imprint, []byte, error) {
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
	for i, sum := range p.opt {
		s.has[i] = s.has[i] || sum != 0
	}
	return p, content[:], nil
}

// twice is a name that is there more than once.
func (s *half) twice() (key, bool) {
	for _, l := range []*imprints{&s.files, &s.links} {
		for i := 1; i < l.n; i++ {
			if l.at(i).name == l.at(i-1).name {
				return l.at(i).name, true
			}
		}
	}
	for i := range s.links.n {
		if name := s.links.at(i).name; s.files.find(name) >= 0 {
			return name, true
		}
	}
	return key{}, false
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
		p, content, err := v.print(&v.b, e, name, data)
		if err != nil {
			return err
		}
		at := v.findA(p.name)
		if at >= 0 {
			if v.seen[at] {
				return twiceError(e.Name)
			}
			v.seen[at] = true
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
			v.compare(p, s)
		}
		if e.Type == TypeLink {
			v.b.links.add(p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.b.group()
	return nil
}

// findA is the place of a name of a in seen.
func (v *verifier) findA(name key) int {
	if i := v.a.files.find(name); i >= 0 {
		return i
	}
	if i := v.a.links.find(name); i >= 0 {
		return v.a.files.n + i
	}
	return -1
}

// contentA is the imprint of the file that a has by a name.
func (v *verifier) contentA(name key) (imprint, bool) {
	i := v.a.files.find(v.a.root(name))
	if i < 0 {
		return imprint{}, false
	}
	return *v.a.files.at(i), true
}

// compare judges a file of b whose name a has.
func (v *verifier) compare(p imprint, s *suspect) {
	has, ok := v.contentA(p.name)
	if !ok || has.core != p.core {
		v.differ++
		v.suspect(p.name, s)
		return
	}
	for i := range has.opt {
		if has.opt[i] != p.opt[i] {
			s.mask |= 1 << i
		}
	}
	if s.mask != 0 {
		v.optional[s.mask]++
		v.suspect(p.name, s)
	}
}

// suspect remembers a name, as long as there aren't too many of its kind.
func (v *verifier) suspect(name key, s *suspect) {
	if s.mask != 0 && v.optional[s.mask] > v.Most || s.mask == 0 && v.onlyB+v.differ > v.Most {
		return
	}
	v.suspects[name] = s
}

// judge counts the names that differ, now that all is known.
func (v *verifier) judge() int {
	counts := 0 // optional facts that both have
	for i := range optCount {
		if v.a.has[i] && v.b.has[i] {
			counts |= 1 << i
		}
	}
	total := v.onlyB
	for mask, n := range v.optional {
		if mask&counts != 0 {
			total += n
		}
	}
	for name, s := range v.suspects {
		if s.mask != 0 && s.mask&counts == 0 {
			delete(v.suspects, name)
		}
	}
	top := v.name("")
	for at, seen := range v.seen {
		if name := v.nameA(at); !seen && name != top {
			total++
			if len(v.suspects) < v.Most {
				v.suspects[name] = &suspect{onlyA: true}
			}
		}
	}
	return total + v.judgeLinks() + v.differ
}

func (v *verifier) nameA(at int) key {
	if at < v.a.files.n {
		return v.a.files.at(at).name
	}
	return v.a.links.at(at - v.a.files.n).name
}

// judgeLinks counts the names, that both have, which are names of one file with others on
// one half than on the other.
func (v *verifier) judgeLinks() int {
	total := 0
	judge := func(name key) {
		if v.findA(name) < 0 || !v.seen[v.findA(name)] {
			return
		}
		a, b := v.a.groupOf(name), v.b.groupOf(name)
		if a.sum == b.sum {
			return
		}
		if s := v.suspects[name]; s != nil {
			s.links = true
			return // it is counted
		}
		total++
		if len(v.suspects) < v.Most {
			v.suspects[name] = &suspect{links: true}
		}
	}
	// Each name once: those of a's groups, and those of b's that aren't in one of a.
	for _, g := range v.a.groups {
		judge(g.root)
	}
	for i := range v.a.links.n {
		judge(v.a.links.at(i).name)
	}
	single := func(name key) bool { return v.a.groupOf(name).count == 1 }
	for _, g := range v.b.groups {
		if single(g.root) {
			judge(g.root)
		}
	}
	for i := range v.b.links.n {
		if name := v.b.links.at(i).name; single(name) {
			judge(name)
		}
	}
	return total
}
