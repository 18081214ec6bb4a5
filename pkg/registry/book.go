// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

const (
	// Path is the book.
	Path = "/etc/usernamespaces"
	// DropInDir holds more of it, in files named *.conf.
	DropInDir = "/etc/usernamespaces.d"
)

// ErrNoBook is wrapped by the error of [Load] when neither the book nor a
// drop-in exists.
var ErrNoBook = errors.New("there is no book")

// Book is the lines of the book and its drop-ins, in the order they are read.
// The zero Book is empty. A Book never changes once it is made.
type Book struct {
	sources []source
	sets    flagSets
}

// Current is the host's own book, and its accounts: [Load] and [LoadHost] of the files that there are
// on every host.
func Current() (*Book, Host, error) {
	book, err := Load(Path, DropInDir)
	if err != nil {
		return nil, Host{}, err
	}
	host, err := LoadHost("/etc/passwd", "/etc/group")
	return book, host, err
}

// Load reads the book and then the files *.conf of the directory of drop-ins,
// in lexical order; dotfiles and other names are left alone. Any of them may be
// missing, but not all: that is [ErrNoBook].
//
// Files and the directory must be what they seem, owned by root and writable by
// nobody else; in a user namespace, root is the host's. One bad line or unsafe
// file refuses the whole book, as sudoers(5) is: the error joins everything
// that is wrong with all files.
func Load(path, dropins string) (*Book, error) {
	text, err := rootfile.OwnUIDMap()
	if err != nil {
		return nil, fmt.Errorf("book: %w", err)
	}
	uids, err := idmap.ParseMap(text)
	if err != nil {
		return nil, fmt.Errorf("book: uid map of this process: %w", err)
	}
	return load(path, dropins, idmap.RootAs(uids))
}

func load(path, dropins string, root uint32) (*Book, error) {
	b := &Book{}
	var bad problems
	add := func(path string, data []byte, err error) (found bool) {
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if err == nil {
			err = b.add(path, data)
		} else {
			err = unread(err)
		}
		if err != nil {
			bad.add(err)
		}
		return true
	}
	data, err := rootfile.Read(path, maxFile, root)
	found := add(path, data, err)
	dir, names, err := dropInNames(dropins, root)
	if err != nil {
		bad.add(err)
	}
	if dir != nil {
		defer dir.Close()
		for _, name := range names {
			// One that is removed meanwhile isn't part of the book any more.
			data, err := dir.Read(name, maxFile)
			found = add(filepath.Join(dropins, name), data, err) || found
		}
	}
	if err := bad.join(); err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("book: %s: %w, nor a file *.conf in %s: write a first line: usernsctl init", path, ErrNoBook, dropins)
	}
	return b, nil
}

// dropInNames opens the directory of drop-ins, for the caller to close, and
// lists its *.conf in lexical order. A missing directory is no error, and nil.
func dropInNames(path string, root uint32) (*rootfile.Dir, []string, error) {
	dir, err := rootfile.OpenDir(path, root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, unread(err)
	}
	all, err := dir.Names()
	if err != nil {
		dir.Close()
		return nil, nil, unread(err)
	}
	names := slices.DeleteFunc(all, func(name string) bool {
		return strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".conf")
	})
	slices.Sort(names)
	return dir, names, nil
}

// unread is the error for a file of the book that rootfile didn't read.
func unread(err error) error {
	if _, big := errors.AsType[*rootfile.SizeError](err); big {
		return fmt.Errorf("book: %w: split it into drop-ins", err)
	}
	return fmt.Errorf("book: %w", err)
}

// With is the book with one more file read after the others: a drop-in that is
// to be judged before it is installed. Errors as [Parse].
func (b *Book) With(file string, data []byte) (*Book, error) {
	with := &Book{sources: slices.Clone(b.sources)}
	// Its own flag sets, or two books would grow the same slice; the indexes
	// of the lines already read stay right.
	with.sets.sets = slices.Clone(b.sets.sets)
	if err := with.add(file, data); err != nil {
		return nil, err
	}
	return with, nil
}

func (b *Book) add(file string, data []byte) error {
	src, err := scan(file, data, &b.sets)
	if err != nil {
		return err
	}
	b.sources = append(b.sources, src)
	return nil
}

// Lines is every line of the book, in the order they are read.
func (b *Book) Lines() []Line {
	return b.find(func([]byte, idmap.Range) bool { return true })
}

// find is the lines whose owner and range are wanted, in book order.
func (b *Book) find(want func(owner []byte, ids idmap.Range) bool) []Line {
	var lines []Line
	for i := range b.sources {
		src := &b.sources[i]
		for j := range src.entries {
			e := &src.entries[j]
			if want(src.owner(e), e.ids) {
				lines = append(lines, src.line(j, b.sets.sets))
			}
		}
	}
	return lines
}
