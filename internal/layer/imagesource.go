// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// What an image may have. Real ones are far below, and what is kept in memory has an end.
const (
	maxImageFiles   = 1 << 16
	maxImageHeaders = 48 << 20 // bytes of all headers of an archive
	maxJSON         = 4 << 20  // bytes of a JSON text; registries have to take as much (OCI distribution specification)
	maxJSONElements = 1 << 14  // of a list in one
	maxLegacy       = 16 << 20 // bytes of all texts of legacy images
	maxIndexes      = 8        // indexes inside of each other
	maxImageLinks   = 8        // one leading to the next
)

// imageFile is one file of an image, as it came.
type imageFile struct {
	name   string      // relative, with slashes, without "." and ".."
	header *tar.Header // as the archive has it, or as one would have it
	offset int64       // of its content in the archive
	target *imageFile  // where a link ends
}

func (m *imageFile) directory() bool { return m.header.Typeflag == tar.TypeDir }
func (m *imageFile) regular() bool   { return m.header.Typeflag == tar.TypeReg }

// imageSource is an image as it came: an archive, or a directory.
type imageSource struct {
	members []*imageFile
	byName  map[string]*imageFile
	open    func(*imageFile) (r io.Reader, done func(), err error)
	packed  Compression // of the archive as a whole
}

// fileError is about one file of an image; who opened the image puts its name before it.
func fileError(name, format string, args ...any) error {
	return fmt.Errorf("%s: %w", name, fmt.Errorf(format, args...))
}

// add takes a member in, and refuses what would be a trap for whoever unpacks the image.
func (s *imageSource) add(m *imageFile) error {
	switch m.header.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	default:
		return fileError(m.name, "is of type %q: expected files, directories and links in an image", m.header.Typeflag)
	}
	if len(s.members) == maxImageFiles {
		return fileError(m.name, "expected at most %d members in an image", maxImageFiles)
	}
	if _, blob := blobDigest(m.name); blob && !m.regular() {
		return fileError(m.name, "is no regular file: expected one, as every blob is")
	}
	if before, ok := s.byName[m.name]; ok {
		if !before.directory() || !m.directory() {
			return fileError(m.name, "is there twice: readers differ in which one counts")
		}
	} else {
		s.byName[m.name] = m
	}
	s.members = append(s.members, m)
	return nil
}

// settle finds where links end, once all members are there.
func (s *imageSource) settle() error {
	for _, m := range s.members {
		for dir := path.Dir(m.name); dir != "."; dir = path.Dir(dir) {
			if above, ok := s.byName[dir]; ok && !above.directory() {
				return fileError(m.name, "lies below %s, which isn't a directory", dir)
			}
		}
	}
	for _, m := range s.members {
		at := m
		for n := 0; at.header.Typeflag == tar.TypeSymlink || at.header.Typeflag == tar.TypeLink; n++ {
			name := at.header.Linkname
			if at.header.Typeflag == tar.TypeSymlink {
				name = path.Join(path.Dir(at.name), name) //nolint:gosec // G305: it is looked up among the members
			}
			next, ok := s.byName[path.Clean(name)]
			if !ok || path.IsAbs(at.header.Linkname) || n == maxImageLinks {
				return fileError(m.name, "is a link to %q: expected one to a file of the image", at.header.Linkname)
			}
			at = next
		}
		if !m.directory() && !at.regular() {
			return fileError(m.name, "is a link to a directory: expected one to a file of the image")
		}
		m.target = at
	}
	return nil
}

// file is the regular file that a path in the image leads to.
func (s *imageSource) file(name string) (*imageFile, error) {
	m, ok := s.byName[name]
	if !ok {
		return nil, fileError(name, "isn't there, though the image names it: is the image whole?")
	}
	if !m.target.regular() {
		return nil, fileError(name, "isn't a regular file")
	}
	return m.target, nil
}

// cleanName is the name of a member without what says nothing: "./" before it, and the
// slash behind a directory. Every other spelling is refused, since it would lead elsewhere
// for some.
func cleanName(name string) (string, error) {
	clean := name
	for strings.HasPrefix(clean, "./") {
		clean = clean[2:]
	}
	clean = strings.TrimSuffix(clean, "/")
	if clean == "" || clean == "." {
		return ".", nil
	}
	if !fs.ValidPath(clean) || strings.ContainsRune(clean, 0) {
		return "", fmt.Errorf("member %q: expected a relative path without .. in it", name)
	}
	return clean, nil
}

// openLayout looks at an image that is a directory.
func openLayout(root *os.Root) (*imageSource, error) {
	s := &imageSource{byName: map[string]*imageFile{}}
	s.open = func(m *imageFile) (io.Reader, func(), error) {
		f, err := root.Open(m.name)
		return f, func() { f.Close() }, err
	}
	err := fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = root.Readlink(name); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return fileError(name, "%w", err)
		}
		return s.add(&imageFile{name: name, header: header})
	})
	if err != nil {
		return nil, err
	}
	return s, s.settle()
}

// countReader knows where in an archive a reader of it has got.
type countReader struct {
	io.ReadSeeker
	at int64
}

func (r *countReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeeker.Read(p)
	r.at += int64(n)
	return n, err
}

func (r *countReader) Seek(offset int64, whence int) (int64, error) {
	at, err := r.ReadSeeker.Seek(offset, whence)
	if err == nil {
		r.at = at
	}
	return at, err
}

// openArchive looks at an image that is an archive of size bytes.
//
// It is read with the standard library, unlike the layers in it: an archive of an image
// has a few plain files, and what counts here is where in it they lie.
func openArchive(in io.ReaderAt, size int64) (*imageSource, error) {
	s := &imageSource{byName: map[string]*imageFile{}}
	s.open = func(m *imageFile) (io.Reader, func(), error) {
		return io.NewSectionReader(in, m.offset, m.header.Size), func() {}, nil
	}
	at := &countReader{ReadSeeker: io.NewSectionReader(in, 0, size)}
	reader := tar.NewReader(at)
	var end, headers int64 // of the last member with its padding; of the headers
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("member %d, byte %d: %w: is it an archive of an image, and whole?", len(s.members)+1, end, err)
		}
		if headers += at.at - end; headers > maxImageHeaders {
			return nil, fmt.Errorf("member %d: expected headers of at most %d bytes", len(s.members)+1, maxImageHeaders)
		}
		name, err := cleanName(header.Name)
		if err != nil {
			return nil, err
		}
		if header.Typeflag == tar.TypeReg && sparse(header) {
			return nil, fileError(name, "is stored as a sparse file: expected the files of an image as they are")
		}
		m := &imageFile{name: name, header: header, offset: at.at}
		if err := s.add(m); err != nil {
			return nil, err
		}
		end = at.at
		if !m.regular() {
			continue
		}
		if header.Size > size-end {
			return nil, fileError(name, "%d bytes are said to follow byte %d, and the archive ends at byte %d: it is truncated", header.Size, end, size)
		}
		end += (header.Size + 511) &^ 511
	}
	if at.at < end+1024 {
		return nil, fmt.Errorf("ends at byte %d, without the two blocks of zeros behind the last member: it is truncated", size)
	}
	return s, s.settle()
}

// sparse says whether the size of a member isn't that of its bytes in the archive.
func sparse(header *tar.Header) bool {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
