// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ImageShift is how a whole image is shifted: an OCI image layout (image-layout.md of the
// specification), as a directory or as an archive of one, or an archive of `docker save`
// or `podman save` in their old form or the new one, which is a layout too.
//
// Every layer of every image in it is shifted, once, and compressed as it was. All that
// names its content is rewritten: diff IDs, configurations, manifests, indexes,
// descriptors in annotations and as "subject", manifest.json, repositories and the legacy
// IDs of layers. Whatever else is there stays as it is, to the order and the spaces of its
// JSON. A layer in which nothing changes stays as it is compressed, too. The same image
// gives the same bytes for one version of this program.
//
// To the host and then to the container gives an image with the diff IDs and the
// configuration's digest (the image ID) that it had, as far as [Shift.Stream] gives the
// bytes that there were. The digests of compressed layers, and of manifests with them, are
// those of our own compressor.
//
// What others have said about the image is passed on, and names the shifted one where it
// does so by a descriptor: attestations, signatures, indexes into layers. Their content
// isn't looked at, and speaks of the image as it was. Annotations that are about the bytes
// of a compressed layer (eStargz, zstd:chunked) go with those bytes.
//
// Refused are layers that can't be shifted (encrypted, to be fetched by URL, of another
// form than a tar that is plain or compressed by gzip or zstd), an index with images that
// it doesn't bring, and whatever readers could understand differently.
type ImageShift struct {
	Shift Shift
	// TempDir is where the shifted layers of an archive are kept until all of it is known,
	// and the archive itself if it can't be read twice. They have no name there, so that
	// nothing of them stays, however the process ends. Empty is [os.TempDir].
	TempDir string
	// Progress, if set, is called with the bytes that were read, and with how many there
	// will be.
	Progress func(read, total int64)
}

// Archive shifts an image that is an archive, which may be compressed, and is then
// compressed the same way again.
//
// Nothing is written before all of the image is known to be right: each digest, each size,
// each ID of each layer. Errors name the file in the image, and the field, or the entry of
// a layer.
func (i *ImageShift) Archive(ctx context.Context, dst io.Writer, src io.Reader) error {
	dir := i.TempDir
	if dir == "" {
		dir = os.TempDir()
	}
	kept, err := newSpool(dir)
	if err != nil {
		return err
	}
	defer kept.close()
	source, err := archiveOf(ctx, src, kept)
	if err != nil {
		return err
	}
	c := newConverter(ctx, i, source, kept)
	if err := c.convert(); err != nil {
		return err
	}
	return c.writeArchive(dst)
}

// Layout shifts an image layout that is a directory, and makes the directory dst of it,
// which isn't there yet. As with [Unpack], it is there at once, at the end, and what is
// kept beside it until then is removed by the next call for it if the process was killed.
func (i *ImageShift) Layout(ctx context.Context, dst, src string) (err error) {
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("%s: is there already: expected a path where nothing is", dst)
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(src)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	// Before there is a stage, which may be in it.
	source, err := openLayout(root)
	if err != nil {
		return err
	}
	stage, err := newStaging(dst)
	if err != nil {
		return err
	}
	defer stage.close()
	defer func() { err = errors.Join(err, stage.discard()) }()
	kept, err := newSpool(stage.staged())
	if err != nil {
		return err
	}
	defer kept.close()
	c := newConverter(ctx, i, source, kept)
	if err := c.convert(); err != nil {
		return err
	}
	if err := c.writeLayout(filepath.Join(stage.staged(), stageTree), info.Mode().Perm()); err != nil {
		return err
	}
	return stage.publish(false)
}

// archiveOf opens an archive that can be read anywhere where it is, and any other as it is
// copied to the spool.
func archiveOf(ctx context.Context, in io.Reader, kept *spool) (*imageSource, error) {
	if f, ok := in.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		start, err := f.Seek(0, io.SeekCurrent)
		if err == nil && info.Mode().IsRegular() {
			whole := io.NewSectionReader(f, start, info.Size()-start)
			head := make([]byte, min(sniffed, whole.Size()))
			if _, err := whole.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			if isPlain(head) {
				return openArchive(whole, whole.Size())
			}
		}
	}
	unpacked, packed, err := Decompress(interruptible{Reader: in, ctx: ctx})
	if err != nil {
		return nil, err
	}
	defer func() { _ = unpacked.Close() }()
	start := kept.end
	if _, err := io.Copy(kept, unpacked); err != nil {
		return nil, err
	}
	copied := kept.since(start)
	s, err := openArchive(io.NewSectionReader(kept.file, copied.at, copied.size), copied.size)
	if err != nil {
		return nil, err
	}
	s.packed = packed
	return s, nil
}

// sniffed is how much of what may be compressed is looked at, in bytes.
const sniffed = 512

// isPlain says whether what begins so isn't compressed. What can't be told is no.
func isPlain(head []byte) bool {
	r, packed, err := Decompress(bytes.NewReader(head))
	if err != nil {
		return false
	}
	_ = r.Close() // which has nothing to tell
	return packed == Plain
}
