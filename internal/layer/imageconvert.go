// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"
)

// imageConverter makes one image of another: what each file of it becomes.
type imageConverter struct {
	ctx      context.Context
	shift    *Shift
	source   *imageSource
	kept     *spool
	progress func(n int)

	layers  map[*imageFile]*blob
	stored  map[digest]*blob // the same, by the digest they had
	texts   map[*imageFile]*rewritten
	configs map[*imageFile]*imageConfig
	known   map[digest]digest      // what has changed, by its digest or diff ID
	renamed map[string]string      // legacy IDs of layers
	placed  map[*imageFile][]*blob // what is written in the place of a file; itself, where there is none
	checked map[*imageFile]bool    // kept as it is, and has its digest
}

// rewritten is a JSON text that is read once, and written anew.
type rewritten struct {
	role string // what it was read as
	blob *blob  // nil for as long as what it names is being read
}

func newConverter(ctx context.Context, i *ImageShift, s *imageSource, kept *spool) *imageConverter {
	c := &imageConverter{
		ctx: ctx, shift: &i.Shift, source: s, kept: kept,
		layers: map[*imageFile]*blob{}, stored: map[digest]*blob{}, texts: map[*imageFile]*rewritten{}, configs: map[*imageFile]*imageConfig{},
		known: map[digest]digest{}, renamed: map[string]string{}, placed: map[*imageFile][]*blob{}, checked: map[*imageFile]bool{},
	}
	var total, read int64
	for _, m := range s.members {
		if m.regular() {
			total += m.header.Size
		}
	}
	c.progress = func(n int) {
		read = min(read+int64(n), total) // some are read twice
		if i.Progress != nil {
			i.Progress(read, total)
		}
	}
	return c
}

// The files of the two forms (image-layout.md of the OCI image specification; Docker's
// image specification v1.2). An image of both has both.
const (
	layoutFile       = "oci-layout"
	indexFile        = "index.json"
	manifestFile     = "manifest.json"
	repositoriesFile = "repositories"
)

// convert reads all of the image and shifts its layers.
func (c *imageConverter) convert() error {
	_, layout := c.source.byName[layoutFile]
	_, archive := c.source.byName[manifestFile]
	if !layout && !archive {
		return fmt.Errorf("has neither %s nor %s: expected an OCI image layout, or what `docker save` writes", layoutFile, manifestFile)
	}
	if layout {
		if err := c.layout(); err != nil {
			return err
		}
	}
	if archive {
		if err := c.dockerArchive(); err != nil {
			return err
		}
	}
	// What nothing names stays, and is what its name says, if it is a digest.
	for _, m := range c.source.members {
		if m.regular() && len(c.placed[m]) == 0 {
			want, _ := blobDigest(m.name)
			if err := c.keep(m, want); err != nil {
				return err
			}
		}
	}
	return nil
}

// open is the content of a file, which is counted, and ends with the context.
func (c *imageConverter) open(m *imageFile) (r io.Reader, done func(), err error) {
	in, done, err := c.source.open(m)
	return interruptible{in, c.ctx, c.progress}, done, err
}

// read is all of a JSON text, which has to have the digest want, if that is known.
func (c *imageConverter) read(m *imageFile, want digest) ([]byte, error) {
	if m.header.Size > maxJSON {
		return nil, fileError(m.name, "has %d bytes: expected a JSON text of at most %d", m.header.Size, maxJSON)
	}
	in, done, err := c.open(m)
	if err != nil {
		return nil, err
	}
	defer done()
	raw := make([]byte, m.header.Size)
	if _, err := io.ReadFull(in, raw); err != nil {
		return nil, fileError(m.name, "%w", err)
	}
	if want != "" {
		sum := digesterLike(want)
		sum.Write(raw)
		if got := sum.digest(); got != want {
			return nil, fileError(m.name, "%w", notDigest(got, want))
		}
	}
	return raw, nil
}

// keep lets a file stay as it is, if it is what its digest says; "" where it has none.
func (c *imageConverter) keep(m *imageFile, want digest) error {
	if c.checked[m] {
		return nil
	}
	in, done, err := c.open(m)
	if err != nil {
		return err
	}
	defer done()
	sum := digesterLike(want)
	if _, err := io.Copy(sum, in); err != nil {
		return fileError(m.name, "%w", err)
	}
	got := sum.digest()
	if want != "" && got != want {
		return fileError(m.name, "%w", notDigest(got, want))
	}
	c.checked[m] = true
	return c.place(m, &blob{old: got, new: got, size: m.header.Size, content: blobContent{from: m, size: m.header.Size}})
}

// rewrite has change make another text of a JSON text. What is read once isn't read again,
// and not as anything else. stored is the digest that it was found by, "" if by its path.
func (c *imageConverter) rewrite(m *imageFile, role string, stored digest, change func(raw []byte) (*jsonText, error)) (*blob, error) {
	if t, ok := c.texts[m]; ok {
		switch {
		case t.role != role:
			return nil, fileError(m.name, "is named as %s, and as %s: readers differ in what it is", t.role, role)
		case t.blob == nil:
			return nil, fileError(m.name, "leads to itself")
		}
		return t.blob, nil
	}
	t := &rewritten{role: role}
	c.texts[m] = t
	raw, err := c.read(m, stored)
	if err != nil {
		return nil, err
	}
	doc, err := change(raw)
	if err != nil {
		return nil, err
	}
	t.blob, err = c.written(m, doc, stored)
	return t.blob, err
}

// written keeps the new text of a document.
func (c *imageConverter) written(m *imageFile, doc *jsonText, stored digest) (*blob, error) {
	raw := doc.bytes()
	before, after := digesterLike(stored), digesterLike(stored)
	before.Write(doc.text)
	after.Write(raw)
	b := &blob{old: before.digest(), new: after.digest(), size: int64(len(raw)), content: blobContent{from: m, size: m.header.Size}}
	if b.old != b.new {
		start := c.kept.end
		if _, err := c.kept.Write(raw); err != nil {
			return nil, err
		}
		b.content = c.kept.since(start)
	}
	c.know(b.old, b.new)
	return b, c.place(m, b)
}

// know remembers what a digest has become.
func (c *imageConverter) know(before, after digest) {
	if before != after {
		c.known[before] = after
	}
}

// place has a blob written in the place of a file.
func (c *imageConverter) place(m *imageFile, b *blob) error {
	b.name = renameBlob(m.name, b.old, b.new)
	if b.name == m.name {
		b.name = renameBlob(m.name, b.oldDiff, b.newDiff)
	}
	for _, other := range c.placed[m] {
		if other.name == b.name {
			return nil
		}
	}
	c.placed[m] = append(c.placed[m], b)
	return nil
}

// renameBlob gives the file of a blob its new name, if it was called by the digest: a layout's
// blobs/sha256/HEX, and HEX.json, HEX.tar, sha256:HEX or HEX.tar.gz of archives.
func renameBlob(name string, before, after digest) string {
	if before == after {
		return name
	}
	dir, base := path.Split(name)
	prefix := ""
	if rest, ok := strings.CutPrefix(base, before.algorithm()+":"); ok {
		prefix, base = before.algorithm()+":", rest
	}
	rest, ok := strings.CutPrefix(base, before.hex())
	if !ok || rest != "" && rest[0] != '.' {
		return name
	}
	return dir + prefix + after.hex() + rest
}
