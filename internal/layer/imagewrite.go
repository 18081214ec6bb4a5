// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// nameOf is what a member, which may be a link, is called in the written image.
func (c *imageConverter) nameOf(m *imageFile) string {
	name := m.name
	if b, ok := c.layers[m]; ok {
		name = b.name
	} else if placed := c.placed[m]; len(placed) > 0 {
		name = placed[0].name
	}
	return c.below(name)
}

// below gives the directory of a legacy image its new name.
func (c *imageConverter) below(name string) string {
	top, rest, _ := strings.Cut(name, "/")
	if after, ok := c.renamed[top]; ok {
		return path.Join(after, rest)
	}
	return name
}

// imageOutput is one file to be written.
type imageOutput struct {
	header  *tar.Header // of the source
	name    string      // now, and as it was
	was     string
	content blobContent // of a regular file
	digest  digest      // of it
	link    string      // where a link leads
}

// aDirectory stands where there might be a digest.
const aDirectory digest = "a directory"

// outputs is the files of the image in the order of those they come from. Two blobs that
// have become one are written once.
func (c *imageConverter) outputs() ([]imageOutput, error) {
	var all []imageOutput
	names := map[string]digest{}
	for _, m := range c.source.members {
		o := imageOutput{header: m.header, name: c.below(m.name), was: m.name, link: m.header.Linkname}
		switch {
		case m.directory():
			if before, ok := names[o.name]; ok && before != aDirectory {
				return nil, fileError(m.name, "would be called %s, as another file is", o.name)
			} else if !ok || o.name == o.was {
				all = append(all, o)
			}
			names[o.name] = aDirectory
			continue
		case !m.regular():
			o.link = c.linkOf(m)
			o.digest = digest("-> " + o.link)
		}
		// A link is there once, and has no content.
		placed := c.placed[m]
		if !m.regular() {
			placed = []*blob{{name: m.name, new: o.digest}}
		}
		for _, b := range placed {
			o.name, o.content, o.digest = c.below(b.name), b.content, b.new
			if before, ok := names[o.name]; ok {
				if before != o.digest {
					return nil, fileError(m.name, "would be called %s, as another file is", o.name)
				}
				continue
			}
			names[o.name] = o.digest
			all = append(all, o)
		}
	}
	for _, o := range all {
		for dir := path.Dir(o.name); dir != "."; dir = path.Dir(dir) {
			if kind, ok := names[dir]; ok && kind != aDirectory {
				return nil, fileError(o.was, "would be below %s, as another file is called then", dir)
			}
		}
	}
	return all, nil
}

// linkOf is the target of a link, spelled as it was unless one of the two has a new name.
func (c *imageConverter) linkOf(m *imageFile) string {
	at, to := c.nameOf(m), c.nameOf(m.target)
	if at == m.name && to == m.target.name {
		return m.header.Linkname
	}
	if m.header.Typeflag == tar.TypeLink {
		return to
	}
	up := strings.Repeat("../", strings.Count(at, "/"))
	return up + to
}

// copyTo writes the content of a file. What comes from the source is seen again to be what
// it was when it was judged.
func (c *imageConverter) copyTo(w io.Writer, o imageOutput) error {
	if o.content.from == nil {
		_, err := io.Copy(w, interruptible{Reader: c.kept.section(o.content), ctx: c.ctx})
		return err
	}
	r, done, err := c.source.open(o.content.from)
	if err != nil {
		return err
	}
	defer done()
	sum := digesterLike(o.digest)
	n, err := io.Copy(w, io.TeeReader(io.LimitReader(interruptible{Reader: r, ctx: c.ctx}, o.content.size), sum))
	switch {
	case err != nil:
		return err
	case n != o.content.size:
		return fileError(o.was, "has %d bytes now: expected %d: was it changed meanwhile?", n, o.content.size)
	case sum.digest() != o.digest:
		return fileError(o.was, "%w", notDigest(sum.digest(), o.digest))
	}
	return nil
}

// writeArchive writes the image as an archive, compressed as it was.
func (c *imageConverter) writeArchive(w io.Writer) error {
	outputs, err := c.outputs()
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(destination{w}, 1<<16)
	packed, err := Compress(buffered, c.source.packed)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(packed)
	for _, o := range outputs {
		header := *o.header
		if o.name != o.was {
			header.Name = strings.Replace(header.Name, o.was, o.name, 1)
		}
		header.Linkname = o.link
		if header.Typeflag == tar.TypeReg {
			header.Size = o.content.size
		}
		if err := writeHeader(archive, &header); err != nil {
			return fileError(o.name, "%w", err)
		}
		if header.Typeflag == tar.TypeReg {
			if err := c.copyTo(archive, o); err != nil {
				return err
			}
		}
	}
	for _, end := range []func() error{archive.Close, packed.Close, buffered.Flush} {
		if err := end(); err != nil {
			return err
		}
	}
	return nil
}

// writeHeader writes a header in the format that it came in, or else in one that can hold
// what it says now.
func writeHeader(w *tar.Writer, header *tar.Header) error {
	err := w.WriteHeader(header)
	if err != nil && header.Format != tar.FormatUnknown { // what is wrong with dst is so the second time, too
		header.Format = tar.FormatUnknown
		err = w.WriteHeader(header)
	}
	return err
}

// destination tells errors of what is written from those of what is read.
type destination struct{ io.Writer }

func (d destination) Write(p []byte) (int, error) {
	n, err := d.Writer.Write(p)
	if err != nil {
		err = fmt.Errorf("write the shifted image: %w", err)
	}
	return n, err
}

// writeLayout writes the image into the empty directory dir. Files have the permissions that they had, and are the caller's.
func (c *imageConverter) writeLayout(dir string, mode os.FileMode) error {
	outputs, err := c.outputs()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, o := range outputs {
		if err := c.writeFile(root, o); err != nil {
			return err
		}
	}
	// Directories last: one may not be writable.
	for i := len(outputs) - 1; i >= 0; i-- {
		if o := outputs[i]; o.header.Typeflag == tar.TypeDir && o.name != "." {
			if err := root.Chmod(o.name, o.header.FileInfo().Mode().Perm()); err != nil {
				return err
			}
		}
	}
	return root.Chmod(".", mode)
}

func (c *imageConverter) writeFile(root *os.Root, o imageOutput) error {
	if dir := path.Dir(o.name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	switch o.header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(o.name, 0o700)
	case tar.TypeSymlink:
		return root.Symlink(o.link, o.name)
	}
	f, err := root.OpenFile(o.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = c.copyTo(f, o)
	if err == nil {
		err = f.Chmod(o.header.FileInfo().Mode().Perm())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", o.name, err)
	}
	return nil
}
