// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// spool is a file without a name, which therefore goes with the process however
// that ends. It is written at its end, and read anywhere.
type spool struct {
	file *os.File
	dir  string
	end  int64
}

// newSpool makes one on the filesystem of dir.
func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, ".usernsctl-*")
	if err != nil {
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	return &spool{file: f, dir: dir}, nil
}

func (s *spool) Write(p []byte) (int, error) {
	n, err := s.file.WriteAt(p, s.end)
	s.end += int64(n)
	if pathErr, ok := errors.AsType[*os.PathError](err); ok { // its path is gone
		err = fmt.Errorf("temporary file in %s: %w", s.dir, pathErr.Err)
	}
	return n, err
}

// since is what was written from start on.
func (s *spool) since(start int64) blobContent { return blobContent{at: start, size: s.end - start} }

// forget takes back what was written from start on.
func (s *spool) forget(start int64) { s.end = start }

func (s *spool) section(c blobContent) io.Reader { return io.NewSectionReader(s.file, c.at, c.size) }

func (s *spool) close() { s.file.Close() }

// content is where bytes of the image that is written are: a file of the source, or a
// part of the spool.
type blobContent struct {
	from     *imageFile // nil for the spool
	at, size int64
}

// interruptible is a reader that ends with the context, and counts.
type interruptible struct {
	io.Reader
	ctx  context.Context
	read func(n int)
}

func (r interruptible) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.Reader.Read(p)
	if r.read != nil {
		r.read(n)
	}
	return n, err
}
