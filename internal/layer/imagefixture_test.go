// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// What tests of images share: images made by hand, and a second opinion on what a whole
// image is.

var imageMap = idmap.Map{{Inner: 0, Outer: 100000, Count: 65536}}

// files is an image by the names of its files. A text that begins with linkTo is a
// symbolic link.
type files map[string]string

const linkTo = "\x00-> "

func sum(data string) string {
	s := sha256.Sum256([]byte(data))
	return "sha256:" + hex.EncodeToString(s[:])
}

func sum512(data string) string {
	s := sha512.Sum512([]byte(data))
	return "sha512:" + hex.EncodeToString(s[:])
}

func hexOf(digest string) string { return digest[strings.IndexByte(digest, ':')+1:] }

// blob puts content into a layout, and gives a descriptor of it.
func (f files) blob(mediaType, data string, more ...string) string {
	d := sum(data)
	f["blobs/sha256/"+hexOf(d)] = data
	return descriptorOf(mediaType, d, len(data), more...)
}

func descriptorOf(mediaType, digest string, size int, more ...string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d%s}`, mediaType, digest, size, strings.Join(more, ""))
}

// image puts an image of layers into a layout, and gives a descriptor of it.
func (f files) image(kind string, layers ...string) string {
	var diffs, descriptors []string
	for _, l := range layers {
		diffs = append(diffs, fmt.Sprintf("%q", sum(l)))
		descriptors = append(descriptors, f.blob(kind, compressed(kind, l)))
	}
	config := f.blob(ociConfig, `{"os":"linux","x":1.50, "rootfs":{"type":"layers","diff_ids":[`+strings.Join(diffs, ", ")+`]}}`)
	return f.blob(ociManifest, `{"schemaVersion":2,"config":`+config+`,"layers":[`+strings.Join(descriptors, ",")+`]}`)
}

// index makes it a layout of these manifests.
func (f files) index(manifests ...string) files {
	f["oci-layout"] = `{"imageLayoutVersion":"1.0.0"}`
	f["index.json"] = `{"schemaVersion":2,"manifests":[` + strings.Join(manifests, ",") + `]}`
	return f
}

const (
	plainLayer = "application/vnd.oci.image.layer.v1.tar"
	gzipLayer  = "application/vnd.oci.image.layer.v1.tar+gzip"
	zstdLayer  = "application/vnd.oci.image.layer.v1.tar+zstd"
)

func compressed(kind, data string) string {
	how := Plain
	switch {
	case strings.HasSuffix(kind, "gzip"):
		how = Gzip
	case strings.HasSuffix(kind, "zstd"):
		how = Zstd
	}
	var b bytes.Buffer
	w, err := Compress(&b, how)
	if err != nil {
		panic(err)
	}
	if _, err := io.WriteString(w, data); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func decompressed(t *testing.T, data string) string {
	t.Helper()
	r, _, err := Decompress(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// tarOf is a layer with one file of each owner.
func tarOf(owners ...int) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, owner := range owners {
		name := fmt.Sprintf("file-%d", i)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Uid: owner, Gid: owner, Size: int64(len(name)), Format: tar.FormatPAX}); err != nil {
			panic(err)
		}
		_, _ = io.WriteString(w, name)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// layerOwners is those of a layer's entries.
func layerOwners(t *testing.T, layer string) (all []int) {
	t.Helper()
	r := tar.NewReader(strings.NewReader(decompressed(t, layer)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != h.Gid {
			t.Errorf("%s: UID %d, GID %d", h.Name, h.Uid, h.Gid)
		}
		all = append(all, h.Uid)
	}
}

// dir writes an image as a directory.
func (f files) dir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	for name, data := range f {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(data, linkTo); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(data), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tar writes an image as an archive, sorted by name.
func (f files) tar() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(f[name]))}
		target, link := strings.CutPrefix(f[name], linkTo)
		if link {
			h.Typeflag, h.Linkname, h.Size, h.Mode = tar.TypeSymlink, target, 0, 0o777
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if !link {
			_, _ = io.WriteString(w, f[name])
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func filesOfDir(t *testing.T, dir string) files {
	t.Helper()
	f := files{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if e.Type()&os.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			f[name] = linkTo + target
			return err
		}
		data, err := os.ReadFile(path)
		f[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func filesOfTar(t *testing.T, data []byte) files {
	t.Helper()
	f := files{}
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return f
		}
		if err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			f[h.Name] = linkTo + h.Linkname
		case tar.TypeReg:
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			f[h.Name] = string(data)
		}
	}
}

// shiftImage shifts an archive that comes by a pipe.
func shiftImage(t *testing.T, data []byte, back bool) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	temp := t.TempDir()
	// Not a file, nor anything else that can be read twice.
	err := (&ImageShift{Shift: Shift{Map: imageMap, ToContainer: back}, TempDir: temp}).
		Archive(context.Background(), &out, io.MultiReader(bytes.NewReader(data)))
	leftNothing(t, temp)
	if err != nil && out.Len() > 0 {
		t.Errorf("%d bytes were written, and then: %v", out.Len(), err)
	}
	return out.Bytes(), err
}

func mustShift(t *testing.T, data []byte, back bool) []byte {
	t.Helper()
	out, err := shiftImage(t, data, back)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// leftNothing says that nothing is left in a directory.
func leftNothing(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left in %s", e.Name(), dir)
	}
}

// whole looks at a layout as a reader of it would, and gives how many layers it has.
// Everything that a descriptor leads to has its digest and size, and layers have the
// diff IDs of their configuration. No digest of the old image is left.
func (f files) whole(t *testing.T, old files) (layers int) {
	t.Helper()
	var walk func(name string, text string)
	get := func(d map[string]any) string {
		digest := d["digest"].(string)
		data, ok := f["blobs/"+strings.Replace(digest, ":", "/", 1)]
		if !ok {
			t.Fatalf("%s isn't there", digest)
		}
		if got := map[bool]string{true: sum512(data), false: sum(data)}[strings.HasPrefix(digest, "sha512")]; got != digest {
			t.Errorf("%s has digest %s", digest, got)
		}
		if d["size"].(float64) != float64(len(data)) {
			t.Errorf("%s: size %v, has %d bytes", digest, d["size"], len(data))
		}
		return data
	}
	walk = func(name, text string) {
		var doc map[string]any
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list, _ := doc["manifests"].([]any)
		for _, m := range list {
			d := m.(map[string]any)
			walk(d["digest"].(string), get(d))
		}
		config, ok := doc["config"].(map[string]any)
		if !ok {
			return
		}
		var c struct {
			RootFS struct {
				DiffIDs []string `json:"diff_ids"`
			} `json:"rootfs"`
		}
		if err := json.Unmarshal([]byte(get(config)), &c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list, _ = doc["layers"].([]any)
		for i, l := range list {
			d := l.(map[string]any)
			data := get(d)
			if !layerTypes[d["mediaType"].(string)] || config["mediaType"] == ociEmpty {
				continue
			}
			layers++
			if got := sum(decompressed(t, data)); got != c.RootFS.DiffIDs[i] {
				t.Errorf("%s: layer %d has diff ID %s, in its configuration %s", name, i, got, c.RootFS.DiffIDs[i])
			}
		}
	}
	walk("index.json", f["index.json"])
	for name := range old {
		d, ok := blobDigest(name)
		if _, kept := f[name]; !ok || kept {
			continue
		}
		for other, text := range f {
			if strings.Contains(text, string(d)) {
				t.Errorf("%s names %s, which is gone", other, d)
			}
		}
	}
	return layers
}
