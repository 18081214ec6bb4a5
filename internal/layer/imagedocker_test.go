// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dockerSaves is archives of `docker save` and its like: what real ones look like, made by
// hand. Each is of the images base (one layer) and two (the same and another).
func dockerSaves() map[string]files {
	one, two := tarOf(0, 1000), tarOf(33)
	base := `{"os":"linux","rootfs":{"type":"layers","diff_ids":["` + sum(one) + `"]}}`
	both := `{"os":"linux","rootfs":{"type":"layers","diff_ids":["` + sum(one) + `","` + sum(two) + `"]}}`
	chain := sum(sum(one) + " " + sum(two))

	// IDs as Docker has them: "os" isn't counted but of the topmost layer, and the parent
	// is a digest.
	created := `"created":"1970-01-01T00:00:00Z"`
	lowID := hexOf(sum(`{` + created + `,"layer_id":"` + sum(one) + `"}`))
	topBase := hexOf(sum(`{"config":{"Env":["a=\u003cb\u003e"]},` + created + `,"layer_id":"` + sum(one) + `","os":"linux"}`))
	topTwo := hexOf(sum(`{"config":{},"layer_id":"` + chain + `","os":"linux","parent":"sha256:` + lowID + `"}`))
	low := `{"id":"` + lowID + `",` + created + `,"os":"linux"}`
	baseJSON := `{"id":"` + topBase + `",` + created + `,"config":{"Env":["a=\u003cb\u003e"]},"os":"linux"}`
	twoJSON := `{"id":"` + topTwo + `","parent":"` + lowID + `","config":{},"os":"linux"}`
	old := files{
		lowID + "/VERSION": "1.0", lowID + "/json": low, lowID + "/layer.tar": one,
		topBase + "/VERSION": "1.0", topBase + "/json": baseJSON, topBase + "/layer.tar": linkTo + "../" + lowID + "/layer.tar",
		topTwo + "/VERSION": "1.0", topTwo + "/json": twoJSON, topTwo + "/layer.tar": two,
		hexOf(sum(base)) + ".json": base, hexOf(sum(both)) + ".json": both,
		"manifest.json": `[{"Config":"` + hexOf(sum(base)) + `.json","RepoTags":["base:1"],"Layers":["` + topBase + `/layer.tar"]},` +
			`{"Config":"` + hexOf(sum(both)) + `.json","RepoTags":null,"Layers":["` + lowID + `/layer.tar","` + topTwo + `/layer.tar"],"Parent":"` + sum(base) + `"}]` + "\n",
		"repositories": `{"base":{"1":"` + topBase + `"},"two":{"latest":"` + topTwo + `"}}` + "\n",
	}

	// As podman and skopeo have it: files called by what is in them, and IDs by other rules.
	podLow := hexOf(sum(`{"layer_id":"` + sum(one) + `"}`))
	podTop := hexOf(sum(`{"config":{},"layer_id":"` + chain + `","os":"linux","parent":"` + podLow + `"}`))
	podman := files{
		hexOf(sum(one)) + ".tar": one, hexOf(sum(two)) + ".tar": two, hexOf(sum(both)) + ".json": both,
		podLow + "/VERSION": "1.0", podLow + "/json": `{"id":"` + podLow + `"}`, podLow + "/layer.tar": linkTo + "../" + hexOf(sum(one)) + ".tar",
		podTop + "/VERSION": "1.0", podTop + "/json": `{"config":{},"id":"` + podTop + `","os":"linux","parent":"` + podLow + `"}`,
		podTop + "/layer.tar": linkTo + "../" + hexOf(sum(two)) + ".tar",
		"manifest.json":       `[{"Config":"` + hexOf(sum(both)) + `.json","RepoTags":["two:1"],"Layers":["` + hexOf(sum(one)) + `.tar","` + hexOf(sum(two)) + `.tar"]}]`,
		"repositories":        `{"two":{"1":"` + podTop + `"}}`,
	}

	// Docker 25 and later: a layout, with manifest.json beside it, and legacy images among
	// the blobs.
	recent := files{}
	layers := recent.blob(plainLayer, one) + "," + recent.blob(plainLayer, two)
	config := recent.blob(ociConfig, both)
	recent.index(recent.blob(ociManifest, `{"mediaType":"`+ociManifest+`","config":`+config+`,"layers":[`+layers+`]}`,
		`,"annotations":{"io.containerd.image.name":"docker.io/library/two:1","config.digest":"`+sum(both)+`"}`))
	recent.blob("", low)
	recent.blob("", twoJSON)
	recent["manifest.json"] = `[{"Config":"blobs/sha256/` + hexOf(sum(both)) + `","RepoTags":["two:1"],"Layers":["blobs/sha256/` + hexOf(sum(one)) + `","blobs/sha256/` + hexOf(sum(two)) + `"],` +
		`"LayerSources":{"` + sum(one) + `":` + descriptorOf(plainLayer, sum(one), len(one)) + `,"` + sum(two) + `":` + descriptorOf(plainLayer, sum(two), len(two)) + `}}]`
	recent["repositories"] = `{"two":{"1":"` + hexOf(sum(two)) + `"}}`

	// Google's tools: layers are compressed, and the configuration is called by its digest.
	packed := compressed("gzip", one)
	google := files{
		sum(base): base, hexOf(sum(packed)) + ".tar.gz": packed,
		"manifest.json": `[{"Config":"` + sum(base) + `","RepoTags":["base:1"],"Layers":["` + hexOf(sum(packed)) + `.tar.gz"]}]`,
	}
	// Names that say nothing.
	plain := files{"config.json": base, "a/layer.tar": one, "manifest.json": `[{"Config":"config.json","Layers":["a/layer.tar"]}]`}
	odd := files{"a&<b>/" + hexOf(sum(base)) + ".json": base, hexOf(sum(one)) + "-layer": one,
		"manifest.json": `[{"Config":"./a&<b>/` + hexOf(sum(base)) + `.json","Layers":["` + hexOf(sum(one)) + `-layer"]}]`}
	// IDs that nobody can compute stay.
	foreign := files{"manifest.json": `[{"Config":"config.json","Layers":["` + strings.Repeat("ab", 32) + `/layer.tar"]}]`, "config.json": base,
		strings.Repeat("ab", 32) + "/layer.tar": one, strings.Repeat("ab", 32) + "/json": `{"id":"` + strings.Repeat("ab", 32) + `"}`}
	return map[string]files{"docker": old, "podman": podman, "docker 25": recent, "google": google, "plain names": plain, "odd names": odd, "foreign IDs": foreign}
}

func TestImageShiftDockerSave(t *testing.T) {
	for name, f := range dockerSaves() {
		t.Run(name, func(t *testing.T) {
			in := f.tar()
			out := mustShift(t, in, false)
			shifted := filesOfTar(t, out)
			if len(shifted) != len(f) {
				t.Errorf("%d files, of %d: %q", len(shifted), len(f), slices.Sorted(maps.Keys(shifted)))
			}
			if _, ok := f["index.json"]; ok {
				shifted.whole(t, f)
			}
			layers := 0
			for name, data := range shifted {
				switch plain := data; {
				case strings.HasPrefix(data, linkTo):
					target := filepath.Join(filepath.Dir(name), data[len(linkTo):])
					if _, ok := shifted[target]; !ok {
						t.Errorf("%s leads to %s, which isn't there", name, target)
					}
				case strings.HasPrefix(data, "\x1f\x8b"):
					plain = decompressed(t, data)
					fallthrough
				case strings.HasPrefix(data, "file-0"):
					layers++
					for _, owner := range layerOwners(t, plain) {
						if owner < 100000 {
							t.Errorf("%s: owner %d", name, owner)
						}
					}
				}
				// No ID of the image as it was, by name or in a text.
				for was := range f {
					id := strings.TrimSuffix(filepath.Base(was), ".json")
					if _, kept := shifted[was]; !kept && len(id) == 64 && strings.Contains(name+data, id) {
						t.Errorf("%s still has %s", name, id)
					}
				}
			}
			if layers == 0 {
				t.Error("no layers")
			}
			if back := mustShift(t, out, true); !bytes.Equal(back, in) && name != "google" {
				t.Error("what came back isn't what it was")
				sameFiles(t, f, filesOfTar(t, back))
			} else if name == "google" {
				sameFiles(t, f, filesOfTar(t, back))
			}
		})
	}
}

// The IDs of legacy images are those that Docker would give the shifted ones.
func TestImageShiftLegacyIDs(t *testing.T) {
	shifted := filesOfTar(t, mustShift(t, dockerSaves()["docker"].tar(), false))
	one, two := tarOf(100000, 101000), tarOf(100033)
	low := hexOf(sum(`{"created":"1970-01-01T00:00:00Z","layer_id":"` + sum(one) + `"}`))
	top := hexOf(sum(`{"config":{},"layer_id":"` + sum(sum(one)+" "+sum(two)) + `","os":"linux","parent":"sha256:` + low + `"}`))
	if got := shifted[low+"/layer.tar"]; got != one {
		t.Errorf("no layer %s in %q", low, slices.Sorted(maps.Keys(shifted)))
	}
	want := `{"id":"` + top + `","parent":"` + low + `","config":{},"os":"linux"}`
	if got := shifted[top+"/json"]; got != want {
		t.Errorf("the topmost is %q, want %q", got, want)
	}
	if got := shifted["repositories"]; !strings.Contains(got, `"latest":"`+top+`"`) {
		t.Errorf("repositories: %s", got)
	}
}

// Two images that differ in their owners alone become one, when all owners are nobody.
func TestImageShiftDockerMerged(t *testing.T) {
	f := files{"manifest.json": "["}
	for i, layer := range []string{tarOf(70000), tarOf(80000)} {
		id := hexOf(sum(`{"layer_id":"` + sum(layer) + `"}`))
		config := `{"rootfs":{"type":"layers","diff_ids":["` + sum(layer) + `"]}}`
		f[id+"/VERSION"], f[id+"/json"], f[id+"/layer.tar"] = "1.0", `{"id":"`+id+`"}`, layer
		f[hexOf(sum(config))+".json"] = config
		f["manifest.json"] += strings.Repeat(",", i) + `{"Config":"` + hexOf(sum(config)) + `.json","Layers":["` + id + `/layer.tar"]}`
	}
	f["manifest.json"] += "]"
	var out bytes.Buffer
	err := (&ImageShift{Shift: Shift{Map: imageMap, Squash: true}}).Archive(context.Background(), &out, bytes.NewReader(f.tar()))
	if err != nil {
		t.Fatal(err)
	}
	if got := filesOfTar(t, out.Bytes()); len(got) != 5 {
		t.Errorf("%d files: %q", len(got), slices.Sorted(maps.Keys(got)))
	}
}

// Headers of an archive stay as they were, but for names and sizes.
func TestImageShiftHeaders(t *testing.T) {
	f := dockerSaves()["plain names"]
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	long := strings.Repeat("long/", 40) + "name"
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "a/", Mode: 0o2755, Uid: 7, Uname: "x", Format: tar.FormatGNU},
		{Name: "config.json", Mode: 0o600, Format: tar.FormatUSTAR},
		{Name: "a/layer.tar", Mode: 0o640, Uid: 1 << 20, Gid: 5, Gname: "g", Format: tar.FormatPAX, PAXRecords: map[string]string{"X.y": "z"}},
		{Name: "manifest.json", Mode: 0o444, Format: tar.FormatGNU},
		{Name: long, Mode: 0o444, Format: tar.FormatGNU},
		{Typeflag: tar.TypeLink, Name: "b", Linkname: "a/layer.tar", Format: tar.FormatUSTAR},
		{Typeflag: tar.TypeSymlink, Name: "c", Linkname: "./b", Format: tar.FormatUSTAR},
	} {
		h.Size = int64(len(f[h.Name]))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, f[h.Name])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out := mustShift(t, b.Bytes(), false)
	if back := mustShift(t, out, true); !bytes.Equal(back, b.Bytes()) {
		t.Error("what came back isn't what it was")
	}
	if r := tar.NewReader(bytes.NewReader(out)); r != nil {
		for range 3 {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if h, err := r.Next(); err != nil || h.Mode != 0o444 {
			t.Errorf("the fourth is %v, %v", h, err)
		}
	}
}

// The names of files are those that they are called by in manifest.json.
func TestImageShiftOddNames(t *testing.T) {
	shifted := filesOfTar(t, mustShift(t, dockerSaves()["odd names"].tar(), false))
	one := tarOf(100000, 101000)
	config := `{"os":"linux","rootfs":{"type":"layers","diff_ids":["` + sum(one) + `"]}}`
	want := files{"a&<b>/" + hexOf(sum(config)) + ".json": config, hexOf(sum(tarOf(0, 1000))) + "-layer": one,
		"manifest.json": `[{"Config":"./a&<b>/` + hexOf(sum(config)) + `.json","Layers":["` + hexOf(sum(tarOf(0, 1000))) + `-layer"]}]`}
	sameFiles(t, want, shifted)
}

func TestImageWriteHeader(t *testing.T) {
	w := tar.NewWriter(io.Discard)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: 9 << 30, Format: tar.FormatUSTAR}
	if err := writeHeader(w, h); err != nil {
		t.Errorf("9 GiB, which ustar can't say: %v", err)
	}
}

// Real images, which others have made: USERNS_TEST_IMAGES is a directory of them.
func TestImageShiftReal(t *testing.T) {
	dir := os.Getenv("USERNS_TEST_IMAGES")
	if dir == "" {
		t.Skip("USERNS_TEST_IMAGES isn't set: tests/bats/layer-image.bats has images of real engines")
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("%v, %v", archives, err)
	}
	for _, archive := range archives {
		t.Run(filepath.Base(archive), func(t *testing.T) {
			in, err := os.ReadFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			out := mustShift(t, in, false)
			if back := mustShift(t, out, true); !bytes.Equal(back, in) {
				sameFiles(t, filesOfTar(t, in), filesOfTar(t, back))
			}
		})
	}
}
