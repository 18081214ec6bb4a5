// SPDX-License-Identifier: Apache-2.0

package layer

import "sort"

// key is the keyed hash of a name, or of what an entry says.
type key uint64

// pieces is a list that grows a piece at a time, so that no old one is in memory beside a
// new one.
type pieces[T any] struct {
	chunks [][]T
	n      int
}

const piecesChunk = 1 << 14

func (p *pieces[T]) add(v T) {
	if p.n%piecesChunk == 0 {
		p.chunks = append(p.chunks, make([]T, piecesChunk))
	}
	p.chunks[p.n/piecesChunk][p.n%piecesChunk] = v
	p.n++
}

// grow makes it n long; what is new is zero.
func (p *pieces[T]) grow(n int) {
	for p.n < n {
		var zero T
		p.add(zero)
	}
}

func (p *pieces[T]) at(i int) *T { return &p.chunks[i/piecesChunk][i%piecesChunk] }

func (p *pieces[T]) swap(i, j int) {
	a, b := p.at(i), p.at(j)
	*a, *b = *b, *a
}

// table is the names of one half, each with one more key and, of files, the hashes of
// optional facts: 28 bytes for a file, 16 for a hard link.
type table struct {
	names, cores pieces[key]
	opts         pieces[[optCount]uint32]
}

func (t *table) Len() int           { return t.names.n }
func (t *table) Less(i, j int) bool { return *t.names.at(i) < *t.names.at(j) }
func (t *table) Swap(i, j int) {
	t.names.swap(i, j)
	t.cores.swap(i, j)
	if t.opts.n > 0 {
		t.opts.swap(i, j)
	}
}

// find is the place of a name in a sorted table, -1 for none.
func (t *table) find(name key) int {
	i := sort.Search(t.names.n, func(i int) bool { return *t.names.at(i) >= name })
	if i < t.names.n && *t.names.at(i) == name {
		return i
	}
	return -1
}

// half is what is known of an archive or a directory.
type half struct {
	files table // all but hard links
	links table // of which the other key is the name of what they link to
	// has says which of the optional facts it has anywhere.
	has [optCount]bool
}

func (h *half) add(p imprint, link bool) {
	if link {
		h.links.names.add(p.name)
		h.links.cores.add(p.core)
		return
	}
	h.files.names.add(p.name)
	h.files.cores.add(p.core)
	h.files.opts.add(p.opt)
	for i, sum := range p.opt {
		h.has[i] = h.has[i] || sum != 0
	}
}

// chainLimit is how many hard links one may go through to the file itself.
const chainLimit = 100

// sort makes names to be found, and every hard link one to the file itself.
func (h *half) sort() {
	sort.Sort(&h.files)
	sort.Sort(&h.links)
	for i := range h.links.Len() {
		*h.links.cores.at(i) = h.root(*h.links.names.at(i))
	}
}

// root is the name that has a file's data, of a name that may be a hard link.
func (h *half) root(name key) key {
	for range chainLimit {
		i := h.links.find(name)
		if i < 0 {
			break
		}
		name = *h.links.cores.at(i)
	}
	return name
}

// Len is how many names it has.
func (h *half) Len() int { return h.files.Len() + h.links.Len() }

// find is the place of a name, from 0 to Len, -1 for none.
func (h *half) find(name key) int {
	if i := h.files.find(name); i >= 0 {
		return i
	}
	if i := h.links.find(name); i >= 0 {
		return h.files.Len() + i
	}
	return -1
}

// name is the one at a place.
func (h *half) name(at int) key {
	if at < h.files.Len() {
		return *h.files.names.at(at)
	}
	return *h.links.names.at(at - h.files.Len())
}

// twice is a name that is there more than once.
func (h *half) twice() (key, bool) {
	for _, t := range []*table{&h.files, &h.links} {
		for i := 1; i < t.Len(); i++ {
			if *t.names.at(i) == *t.names.at(i - 1) {
				return *t.names.at(i), true
			}
		}
	}
	for i := range h.links.Len() {
		if name := *h.links.names.at(i); h.files.find(name) >= 0 {
			return name, true
		}
	}
	return 0, false
}

// groups is which names of one half are names of one file, each group as a sum that doesn't
// depend on the order. They stand at the place that another half has for the file's own
// name: if that has no such name, no group of its own is the same.
type groups struct {
	of   *half
	in   *half
	sums pieces[key] // 0 for a file of one name
}

// groupsOf finds those of a half.
func groupsOf(of, in *half) *groups {
	g := &groups{of: of, in: in}
	if of.links.Len() == 0 {
		return g
	}
	g.sums.grow(in.Len())
	for i := range of.links.Len() {
		name, root := *of.links.names.at(i), *of.links.cores.at(i)
		if at := in.find(root); at >= 0 {
			sum := g.sums.at(at)
			if *sum == 0 {
				*sum = root
			}
			*sum ^= name
		}
	}
	return g
}

// sum is the group of a name that both halves have.
func (g *groups) sum(name key) key {
	if g.sums.n == 0 {
		return name
	}
	root := g.of.root(name)
	at := g.in.find(root)
	if at < 0 {
		return ^root
	}
	if sum := *g.sums.at(at); sum != 0 {
		return sum
	}
	return name
}

// count is how many names the file has.
func (g *groups) count(name key) int {
	root, n := g.of.root(name), 1
	for i := range g.of.links.Len() {
		if *g.of.links.cores.at(i) == root {
			n++
		}
	}
	return n
}
