// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"slices"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// texts keeps short texts for little more than their bytes, where a string each would
// take several times as much: a directory may have a million names. None has a NUL.
type texts struct{ chunks [][]byte }

// text is one of [texts]: the chunk, and where it begins in it.
type text uint32

const (
	chunkBits = 16
	chunkSize = 1 << chunkBits // bytes
)

func (t *texts) add(s string) text {
	last := len(t.chunks) - 1
	if last < 0 || len(t.chunks[last])+len(s)+1 > chunkSize {
		t.chunks = append(t.chunks, nil)
		last++
	}
	at := text(last<<chunkBits | len(t.chunks[last]))
	t.chunks[last] = append(append(t.chunks[last], s...), 0)
	return at
}

func (t *texts) get(at text) []byte {
	from := t.chunks[at>>chunkBits][at&(chunkSize-1):]
	return from[:bytes.IndexByte(from, 0)]
}

// eachName calls do for every name in a directory, as it has them. path is the directory's
// for messages.
func eachName(dir linux.FD, path string, do func(name string) error) error {
	buf := make([]byte, namesBuffer)
	for {
		names, err := dir.Names(buf)
		if err != nil {
			return inEntry(path, err)
		}
		if len(names) == 0 {
			return nil
		}
		for _, name := range names {
			if err := do(name); err != nil {
				return err
			}
		}
	}
}

// sortedNames is as eachName, in the order of the names' bytes.
func sortedNames(dir linux.FD, path string, do func(name string) error) error {
	var all texts
	var order []text
	err := eachName(dir, path, func(name string) error {
		order = append(order, all.add(name))
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(order, func(a, b text) int { return bytes.Compare(all.get(a), all.get(b)) })
	for _, at := range order {
		if err := do(string(all.get(at))); err != nil {
			return err
		}
	}
	return nil
}

// hardLinks is the files with several names of which not all were seen yet.
type hardLinks struct {
	texts
	of  map[device]map[uint64]hardLink // by inode
	dir string                         // the last that was added, as text
	at  text
	n   int
}

type device struct{ major, minor uint32 }

type hardLink struct {
	dir, base text   // its first name
	left      uint32 // names that weren't seen
}

// first is the name by which a file was seen first, "" if that is this one. dir has a
// slash at its end.
func (h *hardLinks) first(st *linux.Stat, dir, base string) string {
	dev := device{st.DevMajor, st.DevMinor}
	if l, ok := h.of[dev][st.Inode]; ok {
		if l.left--; l.left == 0 {
			delete(h.of[dev], st.Inode)
			h.n--
		} else {
			h.of[dev][st.Inode] = l
		}
		return string(h.get(l.dir)) + string(h.get(l.base))
	}
	if h.n == 0 {
		*h = hardLinks{of: make(map[device]map[uint64]hardLink)}
	}
	if h.of[dev] == nil {
		h.of[dev] = make(map[uint64]hardLink)
	}
	if h.dir != dir || len(h.chunks) == 0 {
		h.dir, h.at = dir, h.add(dir)
	}
	h.of[dev][st.Inode] = hardLink{h.at, h.add(base), st.Links - 1}
	h.n++
	return ""
}
