// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"errors"
	"io"
)

const (
	aheadPieces = 4
	aheadSize   = 256 << 10 // bytes of a piece
)

// ahead reads a compressed or plain archive in a goroutine of its own: while a file is
// written the next is read and decompressed, and whoever waits for a pipe can be stopped.
type ahead struct {
	ctx  context.Context
	stop context.CancelFunc
	full chan piece
	free chan []byte
	now  piece
	rest []byte // of now, not yet read
}

// piece is what a read has given.
type piece struct {
	data []byte
	err  error
}

// readAhead begins. Whoever called it calls stop; a read of src that waits then goes
// on, until it has an end of its own.
func readAhead(ctx context.Context, src io.Reader) *ahead {
	a := &ahead{full: make(chan piece, aheadPieces), free: make(chan []byte, aheadPieces)}
	a.ctx, a.stop = context.WithCancel(ctx)
	for range aheadPieces {
		a.free <- make([]byte, aheadSize)
	}
	go a.pump(src)
	return a
}

// pump is the goroutine. Nobody but it touches src.
func (a *ahead) pump(src io.Reader) {
	plain, _, err := Decompress(src)
	if err == nil {
		defer func() { _ = plain.Close() }() // what it has to say of the data it has said by then
	}
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.ctx.Done():
			return
		}
		n := 0
		if err == nil {
			n, err = plain.Read(buf[:aheadSize])
		}
		// full has room for every piece there is.
		a.full <- piece{buf[:n], err}
		if err != nil {
			return
		}
	}
}

// Read is as [io.Reader]. It ends with the cause of the context's end.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.data != nil {
			a.free <- a.now.data
			a.now = piece{}
		}
		select {
		case a.now = <-a.full:
			a.rest = a.now.data
		case <-a.ctx.Done():
			a.now = piece{err: context.Cause(a.ctx)}
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// eachEntry calls do for every entry of an archive, which may be compressed. do may read
// the entry's data.
func eachEntry(ctx context.Context, src io.Reader, do func(e *Entry, data io.Reader) error) error {
	in := readAhead(ctx, src)
	defer in.stop()
	archive := NewReader(in)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		e, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := do(e, archive); err != nil {
			return err
		}
	}
}
