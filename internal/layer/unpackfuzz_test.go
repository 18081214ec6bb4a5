// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Whatever an archive says, nothing outside of the directory changes, a failure leaves
// nothing, and what was unpacked comes back the same from then on.
func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, everything()...), true)
	f.Add(packed(f, folder("d/"), symlink("d/l", "../../x"), file("d/l", "a"), file("d/l/y", "b")), false)
	f.Add(packed(f, symlink("l", "../../x"), hardlink("h", "l"), file("h/y", ""), file("l/y", "")), true)
	f.Add(packed(f, symlink("a", "b"), symlink("b", "c/../../x"), file("a/y", "z"), symlink("x", "/"), file("x/x/tmp/y", "")), true)
	f.Add(packed(f, file("a/b/c", "1"), hardlink("a/b", "a/b/c"), file("a", ""), folder("a/")), true)
	f.Add(packed(f, file(".wh.x", ""), folder("x/"), file("x/.wh..wh..opq", ""), file("x/.wh.y", "")), true)
	f.Add(packed(f, file(".wh.x", ""), folder(".wh..wh..opq/"), file("../.wh.x", "")), false)
	f.Add(packed(f, file("../x", ""), file("/../x", ""), hardlink("l", "../x")), false)
	f.Add(packed(f, entryOf(TypeFifo, "p", 0o600), file("p", "x"), symlink("p", "p"), file("p/p", "")), true)
	f.Fuzz(func(t *testing.T, data []byte, overlay bool) {
		up := t.TempDir()
		in := filepath.Join(up, "in")
		must(t, os.Chmod(up, 0o700), os.Mkdir(in, 0o755), os.WriteFile(filepath.Join(up, "x"), []byte("mine"), 0o600))
		before := listed(t, up)
		whiteouts := OCIWhiteouts
		if overlay {
			whiteouts = OverlayWhiteouts
		}
		there, back := UnpackOptions{Shift: toHost, Whiteouts: whiteouts}, PackOptions{Shift: toContainer, Whiteouts: whiteouts}
		if os.Geteuid() != 0 {
			there.Shift, back.Shift = nil, nil
		}
		first, second := filepath.Join(in, "1"), filepath.Join(in, "2")
		if Unpack(context.Background(), bytes.NewReader(data), first, there) == nil {
			one, err := packFrom(t, first, back)
			must(t, err, Unpack(context.Background(), bytes.NewReader(one), second, there))
			two, err := packFrom(t, second, back)
			must(t, err)
			if !bytes.Equal(one, two) {
				t.Errorf("%d bytes, and then %d", len(one), len(two))
			}
			must(t, os.RemoveAll(first), os.RemoveAll(second))
		}
		wantNothing(t, in)
		if after := listed(t, up); !slices.Equal(before, after) {
			t.Errorf("outside was\n%q, and is\n%q", before, after)
		}
	})
}
