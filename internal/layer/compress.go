// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how a layer is compressed.
type Compression int

// Compressions of layers (OCI image-spec, layer.md, "Layer media types").
const (
	Plain Compression = iota
	Gzip
	Zstd
)

func (c Compression) String() string {
	switch c {
	case Plain:
		return "plain"
	case Gzip:
		return "gzip"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("compression %d", int(c))
}

// maxWindow is the most memory that a zstd stream can ask for, in bytes: what zstd(1)
// grants unless it is told otherwise (--memory). gzip needs 32 KiB.
const maxWindow = 128 << 20

// ErrCompression is wrapped by errors about a compression that is known, but not read.
var ErrCompression = errors.New("expected gzip, zstd, or no compression")

// refused are compressions that layers don't have, with the command that unpacks them.
var refused = []struct {
	at                   int // of the magic; bzip2 has the size of its blocks before the part that never differs
	magic, name, command string
}{
	{0, "\xfd7zXZ\x00", "xz", "xz -dc"},
	{4, "1AY&SY", "bzip2", "bzip2 -dc"},
	{0, "LZIP", "lzip", "lzip -dc"},
	{0, "\x04\x22\x4d\x18", "lz4", "lz4 -dc"},
	{0, "\x1f\x9d", "compress", "gzip -dc"},
}

// Decompress sniffs how r is compressed, and gives what it holds. A stream of several
// members is read as one, as by gzip(1) and zstd(1). A truncated one, and bytes behind
// the last member that aren't another, are errors of Read. Close gives the memory
// back, and leaves r open.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, Plain, err
	}
	for _, c := range refused {
		if begins(head[min(c.at, len(head)):], c.magic) {
			return nil, Plain, fmt.Errorf("compressed with %s: %w: unpack it before: %s", c.name, ErrCompression, c.command)
		}
	}
	switch {
	case begins(head, "\x1f\x8b"):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, Gzip, fmt.Errorf("gzip: %w", err)
		}
		return &unpacker{z, Gzip, func() {}}, Gzip, nil
	case begins(head, "\x28\xb5\x2f\xfd"), len(head) > 3 && head[0]&0xf0 == 0x50 && begins(head[1:], "\x2a\x4d\x18"): // or a frame to be skipped
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<63-1))
		if err != nil {
			return nil, Zstd, fmt.Errorf("zstd: %w", err)
		}
		return &unpacker{z, Zstd, z.Close}, Zstd, nil
	}
	return io.NopCloser(b), Plain, nil
}

func begins(b []byte, magic string) bool { return bytes.HasPrefix(b, []byte(magic)) }

// unpacker says in errors what was being unpacked.
type unpacker struct {
	r     io.Reader
	kind  Compression
	close func()
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return n, fmt.Errorf("%s: the compressed stream ends before its end: it is truncated", u.kind)
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return n, fmt.Errorf("%s: %w: expected at most %d MiB: unpack it before: zstd -dc --long=31", u.kind, err, maxWindow>>20)
	}
	return n, fmt.Errorf("%s: %w", u.kind, err)
}

func (u *unpacker) Close() error {
	u.close()
	return nil
}

// Compress compresses what is written to w. The same bytes give the same bytes for one
// version of this program. Close ends the stream, and leaves w open.
func Compress(w io.Writer, kind Compression) (io.WriteCloser, error) {
	switch kind {
	case Plain:
		return writeNopCloser{w}, nil
	case Gzip:
		return gzip.NewWriter(w), nil
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	}
	return nil, fmt.Errorf("%s: %w", kind, ErrCompression)
}

type writeNopCloser struct{ io.Writer }

func (writeNopCloser) Close() error { return nil }

// Blob is Stream for a layer that may be compressed: what is written is compressed the
// same way, though not to the same bytes as by another compressor.
func (s *Shift) Blob(dst io.Writer, src io.Reader) (Compression, error) {
	r, kind, err := Decompress(src)
	if err != nil {
		return kind, err
	}
	w, err := Compress(dst, kind)
	if err == nil {
		err = s.Stream(w, r)
	}
	if err == nil {
		err = w.Close()
	}
	return kind, errors.Join(err, r.Close())
}
