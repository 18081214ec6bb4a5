// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

func compress(t *testing.T, kind Compression, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Compress(&out, kind)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func decompress(t *testing.T, data []byte, want Compression) []byte {
	t.Helper()
	r, kind, err := Decompress(iotest.OneByteReader(bytes.NewReader(data)))
	if err != nil || kind != want {
		t.Fatalf("%s, %v: expected %s", kind, err, want)
	}
	out, err := io.ReadAll(r)
	if err == nil {
		err = r.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCompression(t *testing.T) {
	data := []byte(strings.Repeat("layer", 10000))
	for _, kind := range []Compression{Plain, Gzip, Zstd} {
		packed := compress(t, kind, data)
		if got := decompress(t, packed, kind); !bytes.Equal(got, data) {
			t.Errorf("%s: %d other bytes", kind, len(got))
		}
		if !bytes.Equal(packed, compress(t, kind, data)) {
			t.Errorf("%s: the same gave other bytes", kind)
		}
		if kind == Plain {
			continue
		}
		// Members one behind the other are one stream.
		if got := decompress(t, slices.Concat(packed, packed), kind); len(got) != 2*len(data) {
			t.Errorf("%s: two members have %d bytes", kind, len(got))
		}
		// Each cut, a flipped bit, and what stands behind are noticed.
		for n := 1; n < len(packed); n++ {
			r, _, err := Decompress(bytes.NewReader(packed[:n]))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if n >= 4 && err == nil {
				t.Errorf("%s: the first %d of %d bytes are taken for all", kind, n, len(packed))
			}
		}
		flipped := slices.Clone(packed)
		flipped[len(flipped)-3] ^= 1
		for name, bad := range map[string][]byte{"flipped": flipped, "garbage behind": append(slices.Clone(packed), "garbage"...)} {
			r, _, err := Decompress(bytes.NewReader(bad))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			wantError(t, err, kind.String()+": ")
			if err == nil {
				t.Error(name)
			}
		}
	}
	if _, err := Compress(io.Discard, 9); !errors.Is(err, ErrCompression) {
		t.Error(err)
	}
}

func TestSniff(t *testing.T) {
	for magic, want := range map[string]string{
		"\xfd7zXZ\x00":     "compressed with xz: expected gzip, zstd, or no compression: unpack it before: xz -dc",
		"BZh91AY&SY":       "compressed with bzip2",
		"BZh11AY&SY":       "compressed with bzip2",
		"LZIP\x01":         "compressed with lzip",
		"\x04\x22\x4d\x18": "compressed with lz4",
		"\x1f\x9d\x90":     "compressed with compress",
		"\x1f\x8b\x08":     "gzip: ",
		"\x1f\x8b\x07\x00\x00\x00\x00\x00\x00\x00": "gzip: ",
	} {
		_, _, err := Decompress(strings.NewReader(magic))
		wantError(t, err, want)
	}
	for _, plain := range []string{"", "B", "BZh9.txt\x00\x00", "usr/", "\x00\x00\x00\x00\x00"} {
		if got := decompress(t, []byte(plain), Plain); string(got) != plain {
			t.Errorf("%q: %q", plain, got)
		}
	}
	// A frame to be skipped, as pzstd writes one, and an error before the first byte.
	skipped := append([]byte("\x5a\x2a\x4d\x18\x02\x00\x00\x00xx"), compress(t, Zstd, []byte("data"))...)
	if got := decompress(t, skipped, Zstd); string(got) != "data" {
		t.Errorf("%q", got)
	}
	broken := errors.New("broken")
	if _, _, err := Decompress(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestZstdWindow has a stream that asks for more memory than it may.
func TestZstdWindow(t *testing.T) {
	for size, fits := range map[int]bool{maxWindow: true, 2 * maxWindow: false} {
		// A frame by hand (RFC 8878, 3.1.1): magic, descriptor, window, and a raw block of one byte, the last.
		exponent := 0
		for 1<<(10+exponent) < size {
			exponent++
		}
		frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, byte(exponent << 3), 0x09, 0x00, 0x00, 'x'}
		r, _, err := Decompress(bytes.NewReader(frame))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if (err == nil) != fits || !fits && !errors.Is(err, zstd.ErrWindowSizeExceeded) {
			t.Errorf("a window of %d MiB: %v", size>>20, err)
		}
	}
}
