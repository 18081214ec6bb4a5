// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestUnpackWhiteouts(t *testing.T) {
	needRoot(t)
	white := func(name string) member {
		return file(name, "").but(func(e *Entry) { e.Mode, e.UID = 0o600, 3 })
	}
	for _, row := range []struct {
		name    string
		members []member
		overlay []string // without the top
		oci     []string
	}{
		{
			"a file", []member{white(".wh.f")},
			[]string{"f char 0600 3:0 0,0 day"}, []string{`.wh.f file 0600 3:0 "" day`},
		},
		{
			"all of a directory", []member{folder("d/"), white("d/.wh..wh..opq"), file("d/f", "")},
			[]string{"d dir 0755 0:0 day trusted.overlay.opaque=y", `d/f file 0644 0:0 "" day`},
			[]string{"d dir 0755 0:0 day", `d/.wh..wh..opq file 0600 3:0 "" day`, `d/f file 0644 0:0 "" day`},
		},
		{
			"all, before the directory", []member{white("d/.wh..wh..opq"), folder("d/").xattr("user.a", "b")},
			[]string{"d dir 0755 0:0 day trusted.overlay.opaque=y user.a=b"},
			[]string{"d dir 0755 0:0 day user.a=b", `d/.wh..wh..opq file 0600 3:0 "" day`},
		},
		{
			"a file, and a new one", []member{white(".wh.f"), file("f", "")},
			[]string{`f file 0644 0:0 "" day`}, []string{`.wh.f file 0600 3:0 "" day`, `f file 0644 0:0 "" day`},
		},
		{
			"a new file, and the old one", []member{file("f", ""), white(".wh.f")},
			[]string{`f file 0644 0:0 "" day`}, []string{`.wh.f file 0600 3:0 "" day`, `f file 0644 0:0 "" day`},
		},
		{
			"a file, and a directory", []member{white(".wh.f"), folder("f/")},
			[]string{"f dir 0755 0:0 day trusted.overlay.opaque=y"}, []string{`.wh.f file 0600 3:0 "" day`, "f dir 0755 0:0 day"},
		},
		{
			"a directory, and a file", []member{folder("f/"), white(".wh.f")},
			[]string{"f dir 0755 0:0 day trusted.overlay.opaque=y"}, []string{`.wh.f file 0600 3:0 "" day`, "f dir 0755 0:0 day"},
		},
		{
			"twice", []member{file(".wh.f", ""), white(".wh.f")},
			[]string{"f char 0600 3:0 0,0 day"}, []string{`.wh.f file 0600 3:0 "" day`},
		},
		{
			"a name that begins alike", []member{file(".who", ""), file(".whiteout", ""), file("a.wh.b", "")},
			[]string{`.whiteout file 0644 0:0 "" day`, `.who file 0644 0:0 "" day`, `a.wh.b file 0644 0:0 "" day`},
			[]string{`.whiteout file 0644 0:0 "" day`, `.who file 0644 0:0 "" day`, `a.wh.b file 0644 0:0 "" day`},
		},
		{"a device 0:0", []member{entryOf(TypeChar, "f", 0)}, nil, []string{"f char 0000 0:0 0,0 day"}},
		{"a name of aufs", []member{file(".wh..wh.aufs", "")}, nil, []string{`.wh..wh.aufs file 0644 0:0 "" day`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := t.TempDir()
			for how, want := range map[Whiteouts][]string{OverlayWhiteouts: row.overlay, OCIWhiteouts: row.oci} {
				dir := filepath.Join(up, how.String())
				err := unpackTo(t, dir, UnpackOptions{Shift: toHost, Whiteouts: how}, append([]member{folder("./")}, row.members...)...)
				if want == nil {
					if err == nil {
						t.Errorf("%s: no error", how)
					}
					continue
				}
				must(t, err)
				wantListed(t, dir, append([]string{". dir 0755 0:0 day"}, want...)...)
			}
		})
	}
}

func TestParseWhiteouts(t *testing.T) {
	for _, w := range []Whiteouts{OverlayWhiteouts, OCIWhiteouts} {
		if got, err := ParseWhiteouts(w.String()); err != nil || got != w {
			t.Errorf("%s: got %v, %v", w, got, err)
		}
	}
	_, err := ParseWhiteouts("aufs")
	wantRefusal(t, err, `"aufs"`, "overlay or oci")
}

// There and back a whiteout is the same one.
func TestWhiteoutsBack(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "r")
	members := []member{
		folder("./"), file("./.wh..wh..opq", ""), file("./.wh.a", "").but(func(e *Entry) { e.UID, e.Mode = 4, 0 }),
		folder("./d/"), file("./d/.wh..wh..opq", ""), file("./d/.wh.b", ""),
	}
	must(t, unpackTo(t, dir, UnpackOptions{Shift: toHost}, members...))
	data, err := packFrom(t, dir, PackOptions{Shift: toContainer})
	must(t, err)
	if got, want := namesIn(t, data), []string{"./", "./.wh..wh..opq", "./.wh.a", "./d/", "./d/.wh..wh..opq", "./d/.wh.b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	wantSame(t, packed(t, members...), data)
}
