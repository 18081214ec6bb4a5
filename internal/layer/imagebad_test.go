// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// changedFile is a layout with one layer, in which change makes another of a file's text.
func changed(change func(f files, layer, config, manifest string)) []byte {
	f := files{}
	one := tarOf(0)
	layer := f.blob(gzipLayer, compressed("gzip", one))
	config := f.blob(ociConfig, `{"rootfs":{"type":"layers","diff_ids":["`+sum(one)+`"]}}`)
	manifest := f.blob(ociManifest, `{"config":`+config+`,"layers":[`+layer+`]}`)
	f.index(manifest)
	change(f, layer, config, manifest)
	return f.tar()
}

// withManifest is a layout of this manifest, in which LAYER and CONFIG stand for
// descriptors.
func withManifest(text string, more ...string) []byte {
	return changed(func(f files, layer, config, _ string) {
		f.index(f.blob(ociManifest, strings.NewReplacer("LAYER", layer, "CONFIG", config).Replace(text), more...))
	})
}

func withConfig(text string) []byte {
	return changed(func(f files, layer, _, _ string) {
		one := tarOf(0)
		config := f.blob(ociConfig, strings.ReplaceAll(text, "DIFF", sum(one)))
		f.index(f.blob(ociManifest, `{"config":`+config+`,"layers":[`+layer+`]}`))
	})
}

func withType(mediaType string) []byte {
	return changed(func(f files, layer, config, _ string) {
		f.index(f.blob(ociManifest, `{"config":`+config+`,"layers":[`+strings.Replace(layer, gzipLayer, mediaType, 1)+`]}`))
	})
}

func withFile(name, data string) []byte {
	return changed(func(f files, _, _, _ string) { f[name] = data })
}

func TestImageShiftRefuses(t *testing.T) {
	docker := func(change func(f files)) []byte {
		f := maps.Clone(dockerSaves()["plain names"])
		change(f)
		return f.tar()
	}
	whole := changed(func(files, string, string, string) {})
	deep := files{}
	in := deep.image(plainLayer, tarOf(0))
	for range maxIndexes {
		in = deep.blob(ociIndex, `{"manifests":[`+in+`]}`)
	}
	self := files{}
	self.index(descriptorOf(ociIndex, "sha256:"+strings.Repeat("0", 64), 0))
	loop := `{"manifests":[` + descriptorOf(ociIndex, "sha256:"+strings.Repeat("0", 64), 245) + `]}`
	self["blobs/sha256/"+strings.Repeat("0", 64)] = loop
	self.index(descriptorOf(ociIndex, "sha256:"+strings.Repeat("0", 64), len(loop)))

	for name, tc := range map[string]struct {
		in   []byte
		want string // in the error
	}{
		"nothing":                    {nil, "ends at byte 0"},
		"noise":                      {[]byte(strings.Repeat("noise", 1000)), "member 1, byte 0"},
		"empty archive":              {files{}.tar(), "has neither oci-layout nor manifest.json"},
		"another archive":            {files{"etc/passwd": "root"}.tar(), "has neither oci-layout nor manifest.json"},
		"half a header":              {whole[:700], "byte"},
		"half a member":              {whole[:1030], "member 2, byte 1024"},
		"no end":                     {whole[:len(whole)-1024], "truncated"},
		"half an end":                {whole[:len(whole)-512], "truncated"},
		"half of what is packed":     {[]byte(compressed("gzip", string(whole)))[:100], "gzip: the compressed stream ends"},
		"layout of the future":       {withFile("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), `oci-layout: imageLayoutVersion is "2.0.0"`},
		"layout that is none":        {withFile("oci-layout", `[]`), "oci-layout: expected an object"},
		"no index":                   {changed(func(f files, _, _, _ string) { delete(f, "index.json") }), "index.json: isn't there"},
		"index that is none":         {withFile("index.json", `{`), "index.json: byte"},
		"index without manifests":    {withFile("index.json", `{}`), "index.json: has no manifests"},
		"two texts":                  {withFile("index.json", `{"manifests":[]} {}`), "index.json: byte"},
		"not UTF-8":                  {withFile("index.json", "{\"manifests\":[],\"\xff\":1}"), "index.json: isn't UTF-8"},
		"manifests twice":            {withFile("index.json", `{"manifests":[],"manifests":[]}`), `index.json: member "manifests" is there twice`},
		"manifests in capitals":      {withFile("index.json", `{"manifests":[],"Manifests":[]}`), `member "Manifests" is there twice`},
		"no digest":                  {withFile("index.json", `{"manifests":[{"mediaType":"x","size":1}]}`), `manifests[0]: digest "": expected a digest`},
		"digest of a path":           {withFile("index.json", `{"manifests":[`+descriptorOf(ociManifest, "sha256:../../../../etc/passwd", 1)+`]}`), "expected 64 hexadecimal digits"},
		"digest in capitals":         {withFile("index.json", `{"manifests":[`+descriptorOf(ociManifest, "sha256:"+strings.Repeat("A", 64), 1)+`]}`), "in lower case"},
		"weak digest":                {withFile("index.json", `{"manifests":[`+descriptorOf(ociManifest, "md5:"+strings.Repeat("a", 32), 1)+`]}`), "expected a digest by sha256 or sha512"},
		"size that is none":          {withFile("index.json", `{"manifests":[{"mediaType":"`+ociManifest+`","digest":"`+sum("")+`","size":-1}]}`), "manifests[0].size: expected a number of bytes"},
		"no size":                    {withFile("index.json", `{"manifests":[{"mediaType":"`+ociManifest+`","digest":"`+sum("")+`"}]}`), "manifests[0]: has no size"},
		"no media type":              {withFile("index.json", `{"manifests":[{"digest":"`+sum("")+`","size":1}]}`), "manifests[0]: has no mediaType"},
		"a string for a list":        {withFile("index.json", `{"manifests":"x"}`), "manifests: expected an array"},
		"first form":                 {withFile("index.json", `{"manifests":[`+descriptorOf("application/vnd.docker.distribution.manifest.v1+prettyjws", sum(""), 0)+`]}`), "Docker's first form"},
		"a layer alone":              {changed(func(f files, layer, _, _ string) { f.index(layer) }), "manifests[0]: " + gzipLayer + ": a layer without a manifest"},
		"indexes without end":        {deep.index(in).tar(), "expected at most 8 indexes inside of each other"},
		"an index that names itself": {self.tar(), "its digest is"},

		"missing manifest": {changed(func(f files, _, _, m string) { delete(f, pathOf(m)) }), "manifests[0]: blobs/sha256/"},
		"missing config":   {changed(func(f files, _, c, _ string) { delete(f, pathOf(c)) }), "config: blobs/sha256/"},
		"missing layer":    {changed(func(f files, l, _, _ string) { delete(f, pathOf(l)) }), "layers[0]: blobs/sha256/"},
		"other manifest":   {changed(func(f files, _, _, m string) { f[pathOf(m)] = strings.Replace(f[pathOf(m)], "[", " ", 1) }), "its digest is"},
		"other config":     {changed(func(f files, _, c, _ string) { f[pathOf(c)] = strings.Replace(f[pathOf(c)], "l", "L", 1) }), "its digest is"},
		"other layer": {changed(func(f files, l, _, _ string) {
			f[pathOf(l)] = f[pathOf(l)][:20] + "\xff" + f[pathOf(l)][21:]
		}), "its digest is"},
		"other plain layer": {changed(func(f files, _, _, _ string) {
			one := tarOf(0)
			f.index(f.image(plainLayer, one))
			f["blobs/sha256/"+hexOf(sum(one))] = "F" + one[1:] // whose header has a wrong checksum then
		}), hexOf(sum("F" + tarOf(0)[1:]))},
		"same layer, otherwise compressed": {changed(func(f files, l, c, _ string) {
			one := tarOf(0)
			other := compressed("gzip", one[:512]) + compressed("gzip", one[512:])
			f[pathOf(l)] = other
			f.index(f.blob(ociManifest, `{"config":`+c+`,"layers":[`+descriptorOf(gzipLayer, digestOf(l), len(other))+`]}`))
		}), "its digest is"},
		"large plain layer, changed at the start": {changed(func(f files, _, _, _ string) {
			one := tarOf(0) + strings.Repeat("\x00", 8<<20)
			f.index(f.image(plainLayer, one))
			f["blobs/sha256/"+hexOf(sum(one))] = "F" + one[1:]
		}), hexOf(sum("F" + tarOf(0)[1:] + strings.Repeat("\x00", 8<<20)))},
		"one layer, two diff IDs": {changed(func(f files, l, _, m string) {
			c := f.blob(ociConfig, `{"rootfs":{"type":"layers","diff_ids":["`+sum("x")+`"]}}`)
			f.index(m, f.blob(ociManifest, `{"config":`+c+`,"layers":[`+l+`]}`))
		}), "its diff ID is " + sum(tarOf(0)) + ": expected " + sum("x")},
		"capitals alone": {withFile("index.json", `{"Manifests":[]}`), `member "Manifests"`},
		"many links": {docker(func(f files) {
			f["l0"] = linkTo + "config.json"
			for i := range maxImageLinks {
				f[fmt.Sprint("l", i+1)] = linkTo + fmt.Sprint("l", i)
			}
		}), "is a link to"},
		"sparse": {sparseMember(), "index.json: is stored as a sparse file"},
		"sources of another layer": {docker(func(f files) {
			f["manifest.json"] = `[{"Config":"config.json","Layers":["a/layer.tar"],"LayerSources":{"` + sum("x") + `":` + descriptorOf(plainLayer, sum(f["a/layer.tar"]), len(f["a/layer.tar"])) + `}}]`
		}), "isn't the layer that has this diff ID"},
		"longer layer":       {changed(func(f files, l, _, _ string) { f[pathOf(l)] += "x" }), "bytes, and it has"},
		"other unnamed blob": {changed(func(f files, _, _, _ string) { f["blobs/sha256/"+strings.Repeat("0", 64)] = "x" }), "its digest is"},
		"large manifest": {changed(func(f files, _, _, _ string) {
			f.index(f.blob(ociManifest, `{"x":"`+strings.Repeat(" ", maxJSON)+`"}`))
		}), "expected a JSON text of at most"},
		"deep JSON": {withFile("index.json", `{"x":`+strings.Repeat("[", 100_000)), "index.json: byte"},
		"long list": {withFile("index.json", `{"manifests":[`+strings.Repeat("1,", maxJSONElements)+`1]}`), "expected at most"},

		"manifest named an index":   {changed(func(f files, _, _, m string) { f.index(strings.Replace(m, ociManifest, ociIndex, 1)) }), `has "layers" as well`},
		"index named a manifest":    {changed(func(f files, _, _, _ string) { f.index(f.blob(ociManifest, `{"manifests":[]}`)) }), `has "manifests" as well`},
		"index and manifest":        {withManifest(`{"config":CONFIG,"layers":[LAYER],"manifests":[]}`), `has "manifests" as well`},
		"another media type inside": {withManifest(`{"mediaType":"` + dockerManifest + `","config":CONFIG,"layers":[LAYER]}`), `mediaType is "` + dockerManifest + `": expected "` + ociManifest},
		"named as both": {changed(func(f files, _, _, _ string) {
			d := f.blob(ociManifest, `{"manifests":[]}`)
			f.index(strings.Replace(d, ociManifest, ociIndex, 1), d)
		}), "as an index, and as a manifest"},
		"manifest without config": {withManifest(`{"layers":[LAYER]}`), "has no config"},
		"annotation of a list":    {withManifest(`{"config":CONFIG,"layers":[LAYER],"annotations":{"x":[]}}`), "annotations.x: expected a string"},
		"layers of something":     {withManifest(`{"config":` + descriptorOf("application/x", sum(""), 0) + `,"layers":[LAYER]}`), "only an image's can be shifted"},
		"urls": {changed(func(f files, l, c, _ string) {
			f.index(f.blob(ociManifest, `{"config":`+c+`,"layers":[`+l[:len(l)-1]+`,"urls":["http://x"]}]}`))
		}), "layers[0]: has urls"},
		"subject of another kind": {changed(func(f files, l, c, _ string) {
			f.index(f.blob(ociManifest, `{"config":`+c+`,"layers":[`+l+`],"subject":`+l+`}`))
		}), "a layer without a manifest"},
		"encrypted":           {withType("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "layers[0]: application/vnd.oci.image.layer.v1.tar+gzip+encrypted: an encrypted layer"},
		"nondistributable":    {withType("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), "fetched from where it is kept"},
		"foreign":             {withType("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "fetched from where it is kept"},
		"unknown compression": {withType("application/vnd.oci.image.layer.v1.tar+xz"), "a layer of this kind"},
		"nydus":               {withType("application/vnd.oci.image.layer.nydus.blob.v1"), "a layer of this kind"},

		"config without rootfs":  {withConfig(`{}`), "has no rootfs"},
		"rootfs of another type": {withConfig(`{"rootfs":{"type":"layers+base","diff_ids":["DIFF"]}}`), `rootfs: type is "layers+base"`},
		"no diff IDs":            {withConfig(`{"rootfs":{"type":"layers"}}`), "has 0 diff_ids for 1 layers"},
		"too many diff IDs":      {withConfig(`{"rootfs":{"type":"layers","diff_ids":["DIFF","DIFF"]}}`), "has 2 diff_ids for 1 layers"},
		"another diff ID":        {withConfig(`{"rootfs":{"type":"layers","diff_ids":["` + sum("x") + `"]}}`), "expected " + sum("x") + ", as the configuration says"},
		"diff ID that is none":   {withConfig(`{"rootfs":{"type":"layers","diff_ids":["x"]}}`), "rootfs.diff_ids[0]: "},
		"diff_ids twice":         {withConfig(`{"rootfs":{"type":"layers","diff_ids":["DIFF"],"Diff_IDs":[]}}`), "is there twice"},

		"an ID beyond the map": {changed(func(f files, _, _, _ string) { f.index(f.image(gzipLayer, tarOf(0, 70000))) }), "file-1"},
		"not a tar":            {changed(func(f files, _, _, _ string) { f.index(f.image(gzipLayer, strings.Repeat("not a tar", 1000))) }), "blobs/sha256/"},

		"docker before 1.10":   {files{"repositories": "{}", "x/json": "{}", "x/layer.tar": tarOf(0)}.tar(), "has neither"},
		"no config named":      {docker(func(f files) { f["manifest.json"] = `[{"Layers":[]}]` }), `[0]: Config`},
		"config up":            {docker(func(f files) { f["manifest.json"] = `[{"Config":"../../etc/passwd","Layers":[]}]` }), "without .. in it"},
		"absolute layer":       {docker(func(f files) { f["manifest.json"] = `[{"Config":"config.json","Layers":["/etc/passwd"]}]` }), "[0].Layers[0]"},
		"missing file":         {docker(func(f files) { delete(f, "a/layer.tar") }), "a/layer.tar: isn't there"},
		"fewer layers":         {docker(func(f files) { f["manifest.json"] = `[{"Config":"config.json","Layers":[]}]` }), "has 0 layers, and 1 diff_ids"},
		"layer is a directory": {docker(func(f files) { f["manifest.json"] = `[{"Config":"config.json","Layers":["a"]}]`; f["a/x"] = "" }), "a: isn't there"},
		"other image ID": {docker(func(f files) {
			f[strings.Repeat("0", 64)+".json"] = f["config.json"]
			f["manifest.json"] = `[{"Config":"` + strings.Repeat("0", 64) + `.json","Layers":["a/layer.tar"]}]`
		}), "its digest is"},
		"sources of others": {docker(func(f files) {
			f["manifest.json"] = `[{"Config":"config.json","Layers":["a/layer.tar"],"LayerSources":{"` + sum("x") + `":` + descriptorOf(plainLayer, sum("x"), 1) + `}}]`
		}), "isn't the layer that has this diff ID"},
		"foreign sources": {docker(func(f files) {
			f["manifest.json"] = `[{"Config":"config.json","Layers":["a/layer.tar"],"LayerSources":{"` + sum("x") + `":` + descriptorOf("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", sum("x"), 1) + `}}]`
		}), "fetched from where it is kept"},

		"link out":             {docker(func(f files) { f["b"] = linkTo + "../../etc/passwd" }), `b: is a link to "../../etc/passwd"`},
		"absolute link":        {docker(func(f files) { f["b"] = linkTo + "/a/layer.tar" }), "b: is a link to"},
		"link to nothing":      {docker(func(f files) { f["b"] = linkTo + "c" }), "b: is a link to"},
		"links in a circle":    {docker(func(f files) { f["b"], f["c"] = linkTo+"c", linkTo+"b" }), "b: is a link to"},
		"file below a link":    {docker(func(f files) { f["b"] = linkTo + "config.json"; f["b/c"] = "x" }), "b/c: lies below b, which isn't a directory"},
		"file below a file":    {docker(func(f files) { f["b"] = ""; f["b/c"] = "x" }), "b/c: lies below b"},
		"link to a directory":  {withHeaders(tar.Header{Typeflag: tar.TypeDir, Name: "d"}, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "d"}), "l: is a link to a directory"},
		"absolute member":      {withHeaders(tar.Header{Name: "/etc/passwd"}), `"/etc/passwd": expected a relative path`},
		"member above":         {withHeaders(tar.Header{Name: "a/../../x"}), "expected a relative path"},
		"twisted member":       {withHeaders(tar.Header{Name: "a//b"}), "expected a relative path"},
		"member twice":         {withHeaders(tar.Header{Name: "a"}, tar.Header{Name: "./a"}), "a: is there twice"},
		"member and directory": {withHeaders(tar.Header{Name: "a"}, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}), "a: is there twice"},
		"blob that is a link": {changed(func(f files, l, _, _ string) {
			f["elsewhere"], f[pathOf(l)] = f[pathOf(l)], linkTo+"../../elsewhere"
		}), "is no regular file"},
		"blob that is a directory": {withHeaders(tar.Header{Typeflag: tar.TypeDir, Name: "blobs/sha256/" + strings.Repeat("0", 64)}), "is no regular file"},
		"layer with a slash":       {docker(func(f files) { f["manifest.json"] = `[{"Config":"config.json","Layers":["a/layer.tar/"]}]` }), "expected the path of a file"},
		"many names":               {withFile("index.json", `{"manifests":[]`+strings.Repeat(`,"":0`, maxJSONElements)+`}`), "expected at most 16384 members"},
		"size beyond all":          {withSize(whole, "777777777777\x00"), "truncated"},
		"size near 2^63":           {withSize(whole, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), "byte"},
		"directory of a new name": {docker(func(f files) {
			delete(f, "manifest.json")
			f[hexOf(sum(f["config.json"]))+".json"] = f["config.json"]
			f["manifest.json"] = `[{"Config":"` + hexOf(sum(f["config.json"])) + `.json","Layers":["a/layer.tar"]}]`
			f[hexOf(sum(strings.Replace(f["config.json"], sum(tarOf(0, 1000)), sum(tarOf(100000, 101000)), 1)))+".json/x"] = ""
		}), "would be below"},
		"device":        {withHeaders(tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}), "null: is of type"},
		"FIFO":          {withHeaders(tar.Header{Typeflag: tar.TypeFifo, Name: "f"}), "f: is of type"},
		"hard link out": {withHeaders(tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "../x"}), "l: is a link to"},
		"large headers": {withHeaders(largeHeaders()...), "expected headers of at most"},
		"many members":  {withHeaders(manyHeaders()...), "expected at most 65536 members"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := shiftImage(t, tc.in, false)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

func sparseMember() []byte {
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := w.WriteEntry(&Entry{Name: "index.json", Type: TypeReg, Size: 1 << 20, Data: []Segment{{Offset: 4096, Length: 4096}}}); err != nil {
		panic(err)
	}
	if _, err := w.Write(make([]byte, 4096)); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// withSize is an archive whose first member says so of its size.
func withSize(archive []byte, field string) []byte {
	b := slices.Clone(archive)
	copy(b[124:136], field)
	copy(b[148:156], "        ")
	total := 0
	for _, c := range b[:512] {
		total += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", total))
	return b
}

func withHeaders(headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func largeHeaders() (all []tar.Header) {
	comment := map[string]string{"X.y": strings.Repeat("x", 1<<20-100)}
	for i := range 60 {
		all = append(all, tar.Header{Name: fmt.Sprint(i), PAXRecords: comment})
	}
	return all
}

func manyHeaders() (all []tar.Header) {
	for i := range maxImageFiles + 1 {
		all = append(all, tar.Header{Name: fmt.Sprint(i)})
	}
	return all
}

// Every truncation of an image is seen.
func TestImageShiftTruncated(t *testing.T) {
	for name, f := range map[string]files{"docker": dockerSaves()["docker"], "layout": layouts()["platforms and an attestation"].files} {
		t.Run(name, func(t *testing.T) {
			in := f.tar()
			for n := 0; n < len(in); n += 512 {
				if _, err := shiftImage(t, in[:n], false); err == nil {
					t.Fatalf("%d of %d bytes: no error", n, len(in))
				}
			}
		})
	}
}

// What fails, or is told to stop, leaves nothing: not of its own, nor of the output.
func TestImageShiftLeavesNothing(t *testing.T) {
	good := files{}
	good.index(good.image(gzipLayer, tarOf(0)))
	bad := maps.Clone(good)
	bad.index(bad.image(gzipLayer, tarOf(0), tarOf(70000)))
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	goodDir, badDir := good.dir(t), bad.dir(t)
	dir := t.TempDir()
	for _, name := range []string{"is-there", ".full.unpack"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		ctx     context.Context
		in, out string
		want    string
	}{
		"bad":               {context.Background(), badDir, "out", "file-0"},
		"cancelled":         {cancelled, goodDir, "out", "context canceled"},
		"output is there":   {context.Background(), goodDir, "is-there", "is there already"},
		"output is nowhere": {context.Background(), goodDir, "no/such/dir", "no such file"},
		"no room beside it": {context.Background(), goodDir, "full", ".full.unpack"},
		"no input":          {context.Background(), filepath.Join(dir, "none"), "out", "no such file"},
		"input is a file":   {context.Background(), filepath.Join(dir, "is-there"), "out", "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			before := filesOfDir(t, dir)
			err := (&ImageShift{Shift: Shift{Map: imageMap}}).Layout(tc.ctx, filepath.Join(dir, tc.out), tc.in)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
			sameFiles(t, before, filesOfDir(t, dir))
			if names, err := os.ReadDir(dir); err != nil || len(names) != len(before) {
				t.Errorf("in the directory: %v, %v", names, err)
			}
		})
	}
}

// A directory's traps: what is no file there, and links that lead elsewhere.
func TestImageShiftDirectoryTraps(t *testing.T) {
	for name, tc := range map[string]struct {
		trap func(dir string) error
		want string
	}{
		"FIFO":     {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "f"), 0o600) }, "f: is of type"},
		"socket":   {func(dir string) error { return syscall.Mknod(filepath.Join(dir, "s"), syscall.S_IFSOCK|0o600, 0) }, "s: "},
		"link out": {func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "l")) }, "l: is a link to"},
		"link up":  {func(dir string) error { return os.Symlink("..", filepath.Join(dir, "l")) }, "l: is a link to"},
		"blobs are elsewhere": {func(dir string) error {
			elsewhere := dir + "-elsewhere"
			return errors.Join(os.Rename(filepath.Join(dir, "blobs"), elsewhere), os.Symlink(elsewhere, filepath.Join(dir, "blobs")))
		}, "blobs: is a link to"},
	} {
		t.Run(name, func(t *testing.T) {
			f := files{}
			f.index(f.image(gzipLayer, tarOf(0)))
			dir := f.dir(t)
			if err := tc.trap(dir); err != nil {
				t.Fatal(err)
			}
			err := (&ImageShift{Shift: Shift{Map: imageMap}}).Layout(context.Background(), dir+".out", dir)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

// A reader that goes on for ever is ended by its context.
func TestImageShiftCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	endless := readFunc(func(p []byte) (int, error) {
		if n++; n == 100 {
			cancel()
		}
		return len(p), nil
	})
	err := (&ImageShift{Shift: Shift{Map: imageMap}, TempDir: t.TempDir()}).Archive(ctx, io.Discard, endless)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// What is changed after it was judged, and before it is written, is seen.
func TestImageShiftChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(path string, size int64) error{
		"other bytes": func(path string, size int64) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), size-1<<20)
			return errors.Join(err, f.Close())
		},
		"shorter": func(path string, size int64) error { return os.Truncate(path, size-1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			f := files{}
			f.index(f.image(plainLayer, tarOf(0)))
			f["z"] = strings.Repeat("z", 4<<20) // the last
			in := f.tar()
			path := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(path, in, 0o600); err != nil {
				t.Fatal(err)
			}
			src, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			done := false
			dst := writeFunc(func(p []byte) (int, error) {
				if !done {
					done = true
					return len(p), change(path, int64(len(in)))
				}
				return len(p), nil
			})
			err = (&ImageShift{Shift: Shift{Map: imageMap}, TempDir: t.TempDir()}).Archive(context.Background(), dst, src)
			want := map[string]string{"other bytes": "z: its digest is", "shorter": "z: has"}[name]
			if err == nil || !strings.Contains(err.Error(), want) || !done {
				t.Errorf("got %v, want %q in it", err, want)
			}
		})
	}
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

// Where there is no room, the error says where.
func TestImageShiftNoSpace(t *testing.T) {
	f := files{}
	f.index(f.image(gzipLayer, tarOf(0)))
	err := (&ImageShift{Shift: Shift{Map: imageMap}, TempDir: t.TempDir()}).Archive(context.Background(), fullWriter{}, bytes.NewReader(f.tar()))
	if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "write the shifted image: ") {
		t.Errorf("got %v", err)
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// fuzzed is an image of both forms, in which one text, or all of it, is what a fuzzer says.
// Digests are right all the same: else it would never get beyond them.
func fuzzed(part uint8, in []byte) []byte {
	one := tarOf(0)
	f := maps.Clone(dockerSaves()["docker"])
	layer := f.blob(plainLayer, one)
	text := func(of uint8, text string) string {
		if part%fuzzedParts == of {
			return string(in)
		}
		return text
	}
	config := f.blob(ociConfig, text(1, `{"rootfs":{"type":"layers","diff_ids":["`+sum(one)+`"]}}`))
	manifest := f.blob(ociManifest, text(2, `{"config":`+config+`,"layers":[`+layer+`],"annotations":{"of":"`+digestOf(layer)+`"}}`))
	inner := f.blob(ociIndex, text(3, `{"manifests":[`+manifest+`],"subject":`+manifest+`}`))
	f.index(inner)
	f["index.json"] = text(4, f["index.json"])
	f["manifest.json"] = text(5, f["manifest.json"])
	f["repositories"] = text(6, f["repositories"])
	for name := range f {
		if strings.HasSuffix(name, "/json") {
			f[name] = text(7, f[name])
		}
	}
	if part%fuzzedParts == 0 && in != nil {
		return in
	}
	return f.tar()
}

const fuzzedParts = 8

// Whatever comes in, what comes out is the same each time, and goes the way back to the
// same layers.
func FuzzImage(f *testing.F) {
	f.Add(uint8(0), fuzzed(0, nil))
	f.Add(uint8(0), withFile("index.json", `{"manifests":[`))
	whole := filesOfFuzz(fuzzed(0, nil))
	for part, names := range [][]string{1: {"diff_ids"}, 2: {"of"}, 3: {"subject"}, 4: {"schemaVersion"}, 5: {"RepoTags"}, 6: {"latest"}, 7: {"created"}} {
		for _, name := range names {
			for _, text := range whole {
				if strings.Contains(text, `"`+name+`"`) && isJSON(strings.TrimLeft(text, "[")) {
					f.Add(uint8(part), []byte(text))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, part uint8, in []byte) {
		image := fuzzed(part, in)
		out, err := shiftImage(t, image, false)
		if err != nil {
			return
		}
		again, err := shiftImage(t, image, false)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("not the same a second time: %v", err)
		}
		back, err := shiftImage(t, out, true)
		if err != nil {
			t.Fatalf("what came out is refused: %v", err)
		}
		if a, b := plainFiles(t, image), plainFiles(t, back); !slices.Equal(a, b) {
			t.Errorf("the way back leads to other layers: %q, %q", a, b)
		}
	})
}

func filesOfFuzz(image []byte) files {
	f := files{}
	r := tar.NewReader(bytes.NewReader(image))
	for h, err := r.Next(); err == nil; h, err = r.Next() {
		data, _ := io.ReadAll(r)
		f[h.Name] = string(data)
	}
	return f
}

// plainFiles is the digests of the layers of an image, uncompressed.
func plainFiles(t *testing.T, image []byte) (all []string) {
	t.Helper()
	for _, data := range filesOfTar(t, []byte(decompressed(t, string(image)))) {
		if r, _, err := Decompress(strings.NewReader(data)); err == nil {
			if plain, err := io.ReadAll(r); err == nil && !isJSON(string(plain)) {
				all = append(all, sum(string(plain)))
			}
		}
	}
	slices.Sort(all)
	return all
}
