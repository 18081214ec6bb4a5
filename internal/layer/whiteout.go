// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// Whiteouts is how the names that a layer hides of those below it stand on disk. In an
// archive they are empty files (OCI image-spec, layer.md, "Whiteouts"): .wh.NAME hides
// NAME, and .wh..wh..opq all that lower layers have in its directory.
type Whiteouts int

const (
	// OverlayWhiteouts are overlay's: a character device 0:0 in place of what is hidden,
	// and the attribute trusted.overlay.opaque of a directory, as y
	// (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
	OverlayWhiteouts Whiteouts = iota
	// OCIWhiteouts are files, as in the archive.
	OCIWhiteouts
)

// ParseWhiteouts reads "overlay" or "oci".
func ParseWhiteouts(text string) (Whiteouts, error) {
	switch text {
	case "overlay":
		return OverlayWhiteouts, nil
	case "oci":
		return OCIWhiteouts, nil
	}
	return 0, fmt.Errorf("%q: expected overlay or oci", text)
}

// String is what [ParseWhiteouts] reads.
func (w Whiteouts) String() string {
	if w == OCIWhiteouts {
		return "oci"
	}
	return "overlay"
}

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = whiteoutPrefix + whiteoutPrefix + ".opq"
	// Overlay's own attributes begin so. It believes them, so none is taken from an
	// archive: one by the name of redirect would show a lower layer's directory.
	overlayXattrs  = "trusted.overlay."
	overlayOpaque  = overlayXattrs + "opaque"
	overlayWhite   = overlayXattrs + "whiteout" // of an empty file, since Linux 6.7
	overlayNoData  = overlayXattrs + "metacopy"
	overlayElse    = overlayXattrs + "redirect"
	aufsOwn        = "is a name of aufs' own: expected .wh. and the name of a file"
	notOfWhiteouts = "has a name that stands for a whiteout: expected an empty regular file"
)

// hidden is what the clean path of an entry hides: the name of a file in its directory,
// or all of that (opaque). Neither is for an entry that is no whiteout.
func hidden(e *Entry, clean string) (name string, opaque bool, err error) {
	if !strings.Contains(clean, whiteoutPrefix) {
		return "", false, nil
	}
	dir, base := split(clean)
	if strings.HasPrefix(dir, whiteoutPrefix) || strings.Contains(dir, "/"+whiteoutPrefix) {
		return "", false, errors.New("lies in a directory whose name stands for a whiteout")
	}
	name, is := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !is:
		return "", false, nil
	case base == opaqueMarker:
		name, opaque = "", true
	case strings.HasPrefix(name, whiteoutPrefix):
		return "", false, errors.New(aufsOwn)
	case name == "", name == ".", name == "..":
		return "", false, errors.New("hides no name of a file: expected .wh. and a name")
	}
	if e.Type != TypeReg || e.Size != 0 {
		return "", false, errors.New(notOfWhiteouts)
	}
	return name, opaque, nil
}

// isWhiteout says whether a file is overlay's whiteout.
func isWhiteout(st *linux.Stat) bool {
	return st.Mode&linux.TypeMask == linux.TypeChar && st.Major == 0 && st.Minor == 0
}

// whiteout makes overlay's whiteout of an entry, in the directory that was entered. What
// the layer itself has by the name hides the one below already, a directory if it is
// opaque.
func (u *unpacking) whiteout(e *Entry, hides string, opaque bool) error {
	yes := []byte("y")
	if opaque {
		return linux.At{Dir: u.at.fd}.SetXattr(overlayOpaque, yes)
	}
	a := linux.At{Dir: u.at.fd, Name: hides}
	err := a.Mknod(linux.TypeChar|0o600, 0, 0)
	if errors.Is(err, fs.ErrExist) {
		st, err := a.Stat()
		switch {
		case err != nil:
			return err
		case st.IsDir():
			return a.SetXattr(overlayOpaque, yes)
		case !isWhiteout(&st):
			return nil
		}
		return u.dress(a, e, true)
	}
	if err != nil {
		return err
	}
	return u.dress(a, e, false)
}
