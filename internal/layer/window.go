// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io"
)

// Sizes of buffers in bytes. A pipe gives at most 64 KiB at once, as long as
// nobody has enlarged it (pipe(7)).
const (
	windowSize = 256 << 10
	stageSize  = 256 << 10
	stageBelow = 16 << 10
)

// window is the part of an archive that is in memory. What was passed goes to dst
// as it stands in the buffer, so that a change in place costs nothing; it is
// dropped where there is no dst.
type window struct {
	src io.Reader
	dst *stage // may be nil
	// buf[start:pos] is passed but not written, buf[pos:end] is still to come.
	buf             []byte
	start, pos, end int
	offset          int64 // of pos in the archive
	err             error // of src, io.EOF at its end
}

func newWindow(src io.Reader, dst io.Writer) *window {
	w := &window{src: src, buf: make([]byte, windowSize)}
	if dst != nil {
		w.dst = newStage(dst)
	}
	return w
}

// errShort says that the archive ends before what is needed.
var errShort = errors.New("the archive ends")

// peek gives the next n bytes without passing them. They may be changed in place,
// and are valid until the next call. An end before them is errShort; what there is
// is given along.
func (w *window) peek(n int) ([]byte, error) {
	for w.end-w.pos < n {
		if err := w.fill(n); err != nil {
			return w.buf[w.pos:w.end], err
		}
	}
	return w.buf[w.pos : w.pos+n], nil
}

// fill reads once, with room for n bytes from pos on.
func (w *window) fill(n int) error {
	if errors.Is(w.err, io.EOF) {
		return errShort
	}
	if w.err != nil {
		return w.err
	}
	if err := w.flush(); err != nil {
		return err
	}
	switch {
	case n > len(w.buf):
		bigger := make([]byte, n+windowSize)
		copy(bigger, w.buf[w.pos:w.end])
		w.buf = bigger
	case w.pos > 0:
		copy(w.buf, w.buf[w.pos:w.end])
	}
	w.start, w.pos, w.end = 0, 0, w.end-w.pos
	for range 100 { // as io.ErrNoProgress of bufio
		got, err := w.src.Read(w.buf[w.end:])
		w.end += got
		if err != nil {
			w.err = err
			if err != io.EOF {
				if errors.Is(err, io.EOF) { // somebody's failure, and not the end
					err = io.ErrUnexpectedEOF
				}
				w.err = fmt.Errorf("byte %d: %w", w.offset+int64(w.end), err)
			}
		}
		if got > 0 {
			return nil
		}
		if w.err != nil {
			return w.fill(n)
		}
	}
	return io.ErrNoProgress
}

// pass lets n bytes that were peeked at through.
func (w *window) pass(n int) {
	w.pos += n
	w.offset += int64(n)
}

// passAll lets n bytes through, however many. An end before is errShort, after all
// that there is.
func (w *window) passAll(n int64) error {
	for n > 0 {
		if w.pos == w.end {
			if err := w.fill(1); err != nil {
				return err
			}
		}
		part := int(min(n, int64(w.end-w.pos)))
		w.pass(part)
		n -= int64(part)
	}
	return nil
}

// replace passes n bytes that were peeked at, and writes others in their place.
func (w *window) replace(n int, by ...[]byte) error {
	if err := w.flush(); err != nil {
		return err
	}
	for _, p := range by {
		if err := w.write(p); err != nil {
			return err
		}
	}
	w.pass(n)
	w.start = w.pos
	return nil
}

// flush writes what was passed, or drops it.
func (w *window) flush() error {
	passed := w.buf[w.start:w.pos]
	w.start = w.pos
	return w.write(passed)
}

func (w *window) write(p []byte) error {
	if w.dst == nil {
		return nil
	}
	if err := w.dst.write(p); err != nil {
		return fmt.Errorf("byte %d: %w", w.offset, err)
	}
	return nil
}

// finish writes all that was passed.
func (w *window) finish() error {
	if err := w.flush(); err != nil || w.dst == nil {
		return err
	}
	if err := w.dst.flush(); err != nil {
		return fmt.Errorf("byte %d: %w", w.offset, err)
	}
	return nil
}

// stage collects what is written in small parts, and gives big ones to dst without a
// copy, unless some are staged: then one copy is cheaper than two system calls.
type stage struct {
	dst    io.Writer
	staged []byte
}

func newStage(dst io.Writer) *stage { return &stage{dst, make([]byte, 0, stageSize)} }

func (s *stage) write(p []byte) error {
	if len(s.staged)+len(p) > cap(s.staged) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if len(s.staged) == 0 && len(p) >= stageBelow {
		_, err := s.dst.Write(p)
		return err
	}
	s.staged = append(s.staged, p...)
	return nil
}

func (s *stage) flush() error {
	if len(s.staged) == 0 {
		return nil
	}
	_, err := s.dst.Write(s.staged)
	s.staged = s.staged[:0]
	return err
}
