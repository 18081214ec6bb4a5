// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// wide is a map with room for what tests put into archives, whose outer IDs need more
// than seven octal digits in its second extent.
var wide = idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}, {Inner: 65536, Outer: 3000000000, Count: 4000000}, {Inner: 4000000000, Outer: 500, Count: 10}}

// raw is a header in one of the formats, of a regular file without data, changed as the
// test wants it.
func raw(magic string, change ...func(h header)) []byte {
	h := header(make([]byte, blockSize))
	copy(h.get(fieldName), "a")
	copy(h.get(fieldMagic), magic)
	h[fieldType.from] = TypeReg
	for f, text := range map[field]string{
		fieldMode: "0000644\x00", fieldUID: "0000000\x00", fieldGID: "0000000\x00", fieldSize: "00000000000\x00", fieldMTime: "00000000000\x00",
	} {
		copy(h.get(f), text)
	}
	for _, c := range change {
		c(h)
	}
	h.setSum(false)
	return h
}

// with sets a field.
func with(f field, text string) func(header) {
	return func(h header) {
		clear(h.get(f))
		copy(h.get(f), text)
	}
}

func typed(kind byte) func(header) { return with(fieldType, string(kind)) }

func sized(n int) func(header) {
	return func(h header) { grown(12).put(h.get(fieldSize), int64(n)) }
}

// side is a header that says more about the next, with its data.
func side(kind byte, data string) []byte {
	out := raw(magicPOSIX, typed(kind), sized(len(data)), with(fieldName, "side"))
	return append(out, blocks(data)...)
}

// pax is a pax header of that kind with records of keys and values.
func pax(kind byte, keysAndValues ...string) []byte {
	var data strings.Builder
	for i := 0; i < len(keysAndValues); i += 2 {
		data.Write(makeRecord(keysAndValues[i], []byte(keysAndValues[i+1])).raw)
	}
	return side(kind, data.String())
}

// blocks is data in whole blocks.
func blocks(data string) []byte {
	return append([]byte(data), make([]byte, padded(int64(len(data)))-int64(len(data)))...)
}

// archive is those parts and an archive's end.
func archive(parts ...[]byte) []byte {
	return append(bytes.Join(parts, nil), make([]byte, 2*blockSize)...)
}

// readAll is the entries of an archive, with their stored data.
func readAll(data []byte) (entries []*Entry, contents []string, err error) {
	r := NewReader(bytes.NewReader(data))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries, contents, nil
		}
		if err != nil {
			return entries, contents, err
		}
		stored, err := io.ReadAll(r)
		if err != nil {
			return entries, contents, err
		}
		if int64(len(stored)) != e.Stored() {
			return entries, contents, errors.New(e.Name + ": Stored says " + strconv.FormatInt(e.Stored(), 10) + ", and there are " + strconv.Itoa(len(stored)))
		}
		entries, contents = append(entries, e), append(contents, string(stored))
	}
}

// only is the one entry of an archive.
func only(t *testing.T, data []byte) *Entry {
	t.Helper()
	entries, _, err := readAll(data)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v: expected one", len(entries), err)
	}
	return entries[0]
}

// wantError fails unless err says that.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v\nexpected %q", err, want)
	}
}

// stream shifts an archive.
func stream(s Shift, data []byte) ([]byte, error) {
	var out bytes.Buffer
	err := s.Stream(&out, bytes.NewReader(data))
	return out.Bytes(), err
}

// thereAndBack shifts an archive to the host and back, which has to be as it was.
func thereAndBack(t *testing.T, m idmap.Map, data []byte) (host []byte) {
	t.Helper()
	host, err := stream(Shift{Map: m}, data)
	if err != nil {
		t.Fatalf("to the host: %v", err)
	}
	back, err := stream(Shift{Map: m, ToContainer: true}, host)
	if err != nil {
		t.Fatalf("to the container: %v", err)
	}
	if !bytes.Equal(back, data) {
		at := 0
		for at < min(len(back), len(data)) && back[at] == data[at] {
			at++
		}
		t.Errorf("there and back isn't as it was: %d bytes instead of %d, the first other one is %d: %q instead of %q",
			len(back), len(data), at, back[at:min(at+80, len(back))], data[at:min(at+80, len(data))])
	}
	return host
}
