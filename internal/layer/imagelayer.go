// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bufio"
	"fmt"
	"io"
)

// blob is what has become of a file of the source.
type blob struct {
	old, new digest // of its bytes, as they are stored
	size     int64  // of the new ones
	content  blobContent
	name     string // in the written image
	// Of a layer, and of none else:
	oldDiff, newDiff digest
}

// changed says whether it has other bytes than before.
func (b *blob) changed() bool { return b.content.from == nil }

// layer shifts a layer. diff is what its configuration calls it, stored is the digest that
// it was found by, "" if it was by its path.
func (c *imageConverter) layer(m *imageFile, diff, stored digest) (*blob, error) {
	if done, ok := c.layers[m]; ok {
		if done.oldDiff != diff {
			return nil, fileError(m.name, "its diff ID is %s: expected %s, as the configuration says", done.oldDiff, diff)
		}
		return done, nil
	}
	b, err := c.shiftLayer(m, diff, stored)
	if err != nil {
		return nil, fileError(m.name, "%w", err)
	}
	if b.newDiff == b.oldDiff {
		// As it was, and as it was compressed.
		c.kept.forget(b.content.at)
		b.content, b.new, b.size = blobContent{from: m, size: m.header.Size}, b.old, m.header.Size
	}
	c.layers[m], c.stored[b.old] = b, b
	c.know(b.old, b.new)
	c.know(b.oldDiff, b.newDiff)
	return b, c.place(m, b)
}

func (c *imageConverter) shiftLayer(m *imageFile, diff, stored digest) (b *blob, err error) {
	in, done, err := c.open(m)
	if err != nil {
		return nil, err
	}
	defer done()
	oldBlob, oldDiff := digesterLike(stored), digesterLike(diff)
	newBlob, newDiff := digesterLike(stored), digesterLike(diff)
	start := c.kept.end
	buffered := bufio.NewReaderSize(in, 1<<16)
	var packed io.Reader = buffered
	var stage io.Writer = c.kept
	if head, _ := buffered.Peek(sniffed); isPlain(head) && oldBlob.algorithm == oldDiff.algorithm {
		// Then both are of the same bytes, which are counted once.
		oldBlob, newBlob = oldDiff, newDiff
	} else {
		packed, stage = io.TeeReader(buffered, oldBlob), io.MultiWriter(c.kept, newBlob)
	}
	unpacked, kind, err := Decompress(packed)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unpacked.Close() }()
	out, err := Compress(stage, kind)
	if err != nil {
		return nil, err
	}
	plain := io.TeeReader(unpacked, oldDiff)
	err = c.shift.Stream(io.MultiWriter(out, newDiff), plain)
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		// What is wrong with a blob that isn't the right one is of no interest.
		_, _ = io.Copy(io.Discard, plain)
		if _, drained := io.Copy(io.Discard, packed); drained == nil && stored != "" && oldBlob.digest() != stored {
			err = notDigest(oldBlob.digest(), stored)
		}
		return nil, err
	}
	if stored != "" && oldBlob.digest() != stored {
		return nil, notDigest(oldBlob.digest(), stored)
	}
	if oldDiff.digest() != diff {
		return nil, fmt.Errorf("its diff ID is %s: expected %s, as the configuration says: it was changed, or damaged", oldDiff.digest(), diff)
	}
	whole := c.kept.since(start)
	return &blob{
		old: oldBlob.digest(), new: newBlob.digest(), size: whole.size, content: whole,
		oldDiff: diff, newDiff: newDiff.digest(),
	}, nil
}

func notDigest(got, want digest) error {
	return fmt.Errorf("its digest is %s: expected %s: it was changed, or damaged", got, want)
}
