// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// ErrLayers is wrapped when the layers of an overlay can't be found.
var ErrLayers = errors.New("its layers can't be found")

// layers is an overlay's, each opened where it is.
type layers struct {
	lower, data []*os.File
	upper       *os.File // nil if nothing can be written
}

func (l *layers) close() {
	for _, f := range l.all() {
		f.Close()
	}
}

// findLayers opens the layers of the overlay that is mounted on merged.
//
// Names that aren't absolute are relative to a directory that the engine was in:
// for Docker and Podman the one that holds the directories of all layers, two
// above the overlay's mount point; for containerd, whose mount point lies
// elsewhere, two above the upper layer. What was found so must show the overlay's own root.
func findLayers(merged *os.File, o overlayOptions) (found *layers, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("root filesystem: %s: an overlay: %w: %w", merged.Name(), ErrLayers, err)
		}
	}()
	upper := upperPath(merged, o)
	lower, err := namedByFile(o.lower, upper)
	if err != nil {
		return nil, err
	}
	bases := []string{""}
	if !filepath.IsAbs(o.upper) || anyRelative(lower) || anyRelative(o.data) {
		bases = []string{grandparent(merged.Name())}
		if upper != "" && grandparent(upper) != bases[0] {
			bases = append([]string{grandparent(upper)}, bases...)
		}
	}
	var errs []error
	for _, base := range bases {
		found, err := openLayers(base, lower, o.data, upper)
		if err == nil && base != "" {
			if err = found.show(merged); err != nil {
				found.close()
			}
		}
		if err == nil {
			return found, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// UpperDir is the real path of the upper layer of the overlay that source is the
// root of, and "" if it is no overlay, or has no such layer.
func UpperDir(source *os.File, mounts []*mountinfo.Info) string {
	info, err := mountOf(source, mounts)
	if err != nil || info.FSType != "overlay" {
		return ""
	}
	options, err := parseOverlay(info.VFSOptions)
	if err != nil {
		return ""
	}
	real, err := filepath.EvalSymlinks(upperPath(source, options))
	if err != nil {
		return ""
	}
	return real
}

// upperPath is where the upper layer must be; see findLayers.
func upperPath(merged *os.File, o overlayOptions) string {
	switch {
	case strings.HasPrefix(o.upper, "/proc/"), allDigits(o.upper):
		return filepath.Join(filepath.Dir(merged.Name()), "diff")
	case o.upper != "" && !filepath.IsAbs(o.upper):
		return filepath.Join(grandparent(merged.Name()), o.upper)
	}
	return o.upper
}

func grandparent(path string) string { return filepath.Dir(filepath.Dir(path)) }

func anyRelative(paths []string) bool {
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			return true
		}
	}
	return false
}

func allDigits(name string) bool { return name != "" && strings.Trim(name, "0123456789") == "" }

// namedByFile replaces layers that are named by numbers. containers/storage
// names them so when there are too many for a page: the numbers are descriptors
// that its mounter had, and the real names are in a file beside the upper layer.
func namedByFile(lower []string, upper string) ([]string, error) {
	for _, name := range lower {
		if !allDigits(name) {
			return lower, nil
		}
	}
	if upper == "" {
		return nil, fmt.Errorf("they are named by descriptors (%s) that only its mounter had", strings.Join(lower, ":"))
	}
	path := filepath.Join(filepath.Dir(upper), "lower")
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("they are named by descriptors (%s) that only its mounter had: %w", strings.Join(lower, ":"), err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, err
	}
	names := strings.Split(strings.TrimSpace(string(text)), ":")
	if len(names) != len(lower) {
		return nil, fmt.Errorf("they are named by %d descriptors, and %s names %d", len(lower), path, len(names))
	}
	for i, name := range names {
		if !filepath.IsAbs(name) {
			names[i] = filepath.Join(grandparent(upper), name)
		}
	}
	return names, nil
}

func openLayers(base string, lower, data []string, upper string) (*layers, error) {
	found := new(layers)
	open := func(name string) (*os.File, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(base, name)
		}
		f, err := linux.OpenPlace(name, true)
		if err != nil {
			found.close()
		}
		return f, err
	}
	for _, side := range []struct {
		names []string
		to    *[]*os.File
	}{{lower, &found.lower}, {data, &found.data}} {
		for _, name := range side.names {
			f, err := open(name)
			if err != nil {
				return nil, err
			}
			*side.to = append(*side.to, f)
		}
	}
	if upper != "" {
		f, err := open(upper)
		if err != nil {
			return nil, err
		}
		found.upper = f
	}
	return found, nil
}

// show refuses layers none of which is the root of the overlay at merged. On one
// filesystem an overlay's root has the inode number of a layer's; where the
// layers are on several it needn't.
func (l *layers) show(merged *os.File) error {
	var root unix.Stat_t
	if err := unix.Fstat(int(merged.Fd()), &root); err != nil {
		return &os.PathError{Op: "fstat", Path: merged.Name(), Err: err}
	}
	all := l.lower
	if l.upper != nil {
		all = append([]*os.File{l.upper}, all...)
	}
	var first uint64
	for i, layer := range all {
		var st unix.Stat_t
		if err := unix.Fstat(int(layer.Fd()), &st); err != nil {
			return &os.PathError{Op: "fstat", Path: layer.Name(), Err: err}
		}
		if i == 0 {
			first = st.Dev
		}
		if st.Ino == root.Ino || st.Dev != first {
			return nil
		}
	}
	return fmt.Errorf("%s is there, and isn't a layer of it", all[0].Name())
}
