// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"sort"
)

// imprints is those of one half, 32 bytes for each of its entries, sorted by their names.
// They grow a piece at a time, so that no old one is in memory beside a new one.
type imprints struct {
	chunks [][]imprint
	n      int
}

const imprintsChunk = 1 << 14

func (l *imprints) add(p imprint) {
	if l.n%imprintsChunk == 0 {
		l.chunks = append(l.chunks, make([]imprint, 0, imprintsChunk))
	}
	last := &l.chunks[len(l.chunks)-1]
	*last = append(*last, p)
	l.n++
}

func (l *imprints) at(i int) *imprint { return &l.chunks[i/imprintsChunk][i%imprintsChunk] }

// byKey sorts a list by the one or the other of its keys.
type byKey struct {
	*imprints
	of func(*imprint) *key
}

func nameOf(p *imprint) *key { return &p.name }
func coreOf(p *imprint) *key { return &p.core }

func (l byKey) Len() int { return l.n }
func (l byKey) Less(i, j int) bool {
	return bytes.Compare(l.of(l.at(i))[:], l.of(l.at(j))[:]) < 0
}
func (l byKey) Swap(i, j int) { *l.at(i), *l.at(j) = *l.at(j), *l.at(i) }

func (l *imprints) sort(of func(*imprint) *key) { sort.Sort(byKey{l, of}) }

// find is the place of a name in a list that is sorted by names, -1 for none.
func (l *imprints) find(name key) int {
	i := sort.Search(l.n, func(i int) bool { return bytes.Compare(l.at(i).name[:], name[:]) >= 0 })
	if i < l.n && l.at(i).name == name {
		return i
	}
	return -1
}

// half is what is known of an archive or a directory.
type half struct {
	files imprints // all but hard links
	links imprints
	// has says which of the optional facts it has anywhere.
	has [optCount]bool
	// groups is the files of several names, once [half.group] has found them.
	groups []linkGroup
}

// linkGroup is a file of several names: the one that the others link to, the sum of all,
// by which the groups of both sides can be compared, and how many there are.
type linkGroup struct {
	root, sum key
	count     int
}

// chainLimit is how many hard links one may go through to the file itself.
const chainLimit = 100

// root is the name that has a file's data, of a name that may be a hard link.
func (s *half) root(name key) key {
	for range chainLimit {
		i := s.links.find(name)
		if i < 0 {
			break
		}
		name = s.links.at(i).core
	}
	return name
}

// group sorts all names, makes every hard link one to the file itself, and finds the
// groups.
func (s *half) group() {
	s.files.sort(nameOf)
	s.links.sort(nameOf)
	for i := range s.links.n {
		s.links.at(i).core = s.root(s.links.at(i).name)
	}
	s.links.sort(coreOf)
	for i := range s.links.n {
		l := s.links.at(i)
		if n := len(s.groups); n == 0 || s.groups[n-1].root != l.core {
			s.groups = append(s.groups, linkGroup{l.core, l.core, 1})
		}
		g := &s.groups[len(s.groups)-1]
		g.count++
		for j := range g.sum {
			g.sum[j] ^= l.name[j]
		}
	}
	s.links.sort(nameOf)
}

// groupOf is the names of a file, of which this is one.
func (s *half) groupOf(name key) linkGroup {
	root := s.root(name)
	i := sort.Search(len(s.groups), func(i int) bool { return bytes.Compare(s.groups[i].root[:], root[:]) >= 0 })
	if i < len(s.groups) && s.groups[i].root == root {
		return s.groups[i]
	}
	return linkGroup{name, name, 1}
}
