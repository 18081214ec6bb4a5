// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layouts is layouts of several kinds, with how many layers a reader finds in them.
func layouts() map[string]struct {
	files  files
	layers int
} {
	one := tarOf(0, 1000)
	two := tarOf(33, 0, 65535)
	nested := files{}
	for depth, in := 0, nested.image(gzipLayer, one, two); ; depth++ {
		if depth == 5 {
			nested.index(in)
			break
		}
		in = nested.blob(ociIndex, `{ "schemaVersion" : 2 , "manifests" : [ `+in+` ] , "n" : 12345678901234567890 }`)
	}
	platforms := files{}
	arm := platforms.image(gzipLayer, one)
	arm = arm[:len(arm)-1] + `,"platform":{"architecture":"arm64","os":"linux"}}`
	amd := platforms.image(zstdLayer, one, two)
	proof := platforms.blob("application/vnd.in-toto+json", `{"predicate":1}`)
	proofConfig := platforms.blob(ociConfig, `{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":["`+sum(`{"predicate":1}`)+`"]}}`)
	attestation := platforms.blob(ociManifest, `{"schemaVersion":2,"config":`+proofConfig+`,"layers":[`+proof+`]}`,
		`,"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"`+digestOf(arm)+`"}`)
	// Before what it is about.
	platforms.index(platforms.blob(dockerIndex, `{"mediaType":"`+dockerIndex+`","manifests":[`+attestation+`,`+arm+`,`+amd+`]}`))

	referrers := files{}
	subject := referrers.image(gzipLayer, one)
	sbom := referrers.blob("text/spdx", "SPDX")
	none := referrers.blob(ociEmpty, "{}", `,"data":"e30="`)
	about := referrers.blob(ociManifest, `{"schemaVersion":2,"artifactType":"application/spdx","config":`+none+`,"layers":[`+sbom+`],"subject":`+subject+`,"annotations":{"of":"`+digestOf(subject)+`"}}`)
	elsewhere := referrers.blob(ociManifest, `{"config":`+none+`,"layers":[],"subject":`+descriptorOf(ociManifest, sum("elsewhere"), 9)+`}`)
	oras := referrers.blob(ociManifest, `{"config":`+none+`,"layers":[`+referrers.blob(plainLayer, "not a tar")+`]}`)
	related := referrers.blob(ociIndex, `{"manifests":[],"subject":`+subject[:len(subject)-1]+`,"annotations":{"is":"`+digestOf(subject)+`"}},"annotations":{"of":"`+digestOf(subject)+`"}}`)
	referrers.index(related, about, subject, elsewhere, oras)

	embedded := files{}
	manifest := embedded.image(plainLayer, one)
	raw := embedded[pathOf(manifest)]
	embedded.index(manifest[:len(manifest)-1] + `,"data":"` + base64.StdEncoding.EncodeToString([]byte(raw)) + `"}`)

	strong := files{}
	config := `{"rootfs":{"type":"layers","diff_ids":["` + sum(one) + `"]}}`
	strong["blobs/sha512/"+hexOf(sum512(config))] = config
	strong["blobs/sha512/"+hexOf(sum512(one))] = one
	strong.index(strong.blob(dockerManifest, `{"mediaType":"`+dockerManifest+`","config":`+descriptorOf(dockerConfig, sum512(config), len(config))+
		`,"layers":[`+descriptorOf("application/vnd.docker.image.rootfs.diff.tar", sum512(one), len(one))+`]}`))

	annotated := files{}
	layer := annotated.blob(plainLayer, one)
	config = annotated.blob(ociConfig, `{"rootfs":{"type":"layers","diff_ids":["`+sum(one)+`"]}}`, `,"annotations":{"of":"`+digestOf(layer)+`"}`)
	annotated.index(annotated.blob(ociManifest, `{"config":`+config+`,"layers":[`+layer+`],"annotations":null,"subject":null}`))

	extra := files{}
	extra.index(extra.image(gzipLayer, one))
	extra["README"] = "not a blob"
	extra.blob("", "that nothing names")

	many := files{}
	var entries []string
	for i := range 1000 {
		entries = append(entries, many.image(plainLayer, tarOf(i%7)))
	}
	many.index(entries...)

	all := map[string]struct {
		files  files
		layers int
	}{
		"nested indexes": {nested, 2}, "platforms and an attestation": {platforms, 3}, "referrers": {referrers, 1},
		"content as data": {embedded, 1}, "annotated configuration": {annotated, 1}, "sha512": {strong, 1}, "more than there is to be": {extra, 1}, "1,000 manifests": {many, 1000},
		"nothing": {files{}.index(), 0},
	}
	for _, kind := range []string{plainLayer, gzipLayer, zstdLayer} {
		f := files{}
		f.index(f.image(kind, one, two, one))
		all[kind[strings.LastIndexByte(kind, '.'):]] = struct {
			files  files
			layers int
		}{f, 3}
	}
	return all
}

func digestOf(descriptor string) string {
	_, rest, _ := strings.Cut(descriptor, `"digest":"`)
	digest, _, _ := strings.Cut(rest, `"`)
	return digest
}

func pathOf(descriptor string) string { return "blobs/sha256/" + hexOf(digestOf(descriptor)) }

// same compares images but for how their layers are compressed.
func sameFiles(t *testing.T, want, got files) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %q, want %q", name, short(got[name]), short(want[name]))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s isn't expected: %q", name, short(got[name]))
		}
	}
}

func short(text string) string { return text[:min(len(text), 1000)] }

func TestImageShiftLayout(t *testing.T) {
	for name, tc := range layouts() {
		t.Run(name, func(t *testing.T) {
			if got := tc.files.whole(t, nil); got != tc.layers {
				t.Fatalf("the test's own image has %d layers, want %d", got, tc.layers)
			}
			out := mustShift(t, tc.files.tar(), false)
			shifted := filesOfTar(t, out)
			if got := shifted.whole(t, tc.files); got != tc.layers {
				t.Errorf("%d layers, want %d", got, tc.layers)
			}
			for name, data := range shifted {
				if _, kept := tc.files[name]; kept || isJSON(data) {
					continue
				}
				for _, owner := range layerOwners(t, data) {
					if owner < 100000 {
						t.Errorf("%s: owner %d", name, owner)
					}
				}
			}
			if again := mustShift(t, tc.files.tar(), false); !bytes.Equal(out, again) {
				t.Error("the same image was shifted twice, and two came out")
			}
			back := filesOfTar(t, mustShift(t, out, true))
			back.whole(t, shifted)
			if !strings.Contains(name, "gzip") && !strings.Contains(name, "zstd") {
				return
			}
			// Those that were made here are compressed as they come back.
			sameFiles(t, tc.files, back)
		})
	}
}

// isJSON says whether it is a JSON text and no layer.
func isJSON(data string) bool { return strings.HasPrefix(strings.TrimSpace(data), "{") }

func TestImageShiftDirectory(t *testing.T) {
	for name, tc := range layouts() {
		t.Run(name, func(t *testing.T) {
			in := tc.files.dir(t)
			if err := errors.Join(os.Chmod(in, 0o750), os.Chmod(filepath.Join(in, "index.json"), 0o640), os.Mkdir(filepath.Join(in, "d"), 0o510)); err != nil {
				t.Fatal(err)
			}
			parent := t.TempDir()
			out := filepath.Join(parent, "out")
			if err := (&ImageShift{Shift: Shift{Map: imageMap}}).Layout(context.Background(), out, in); err != nil {
				t.Fatal(err)
			}
			sameFiles(t, filesOfTar(t, mustShift(t, tc.files.tar(), false)), filesOfDir(t, out))
			for name, want := range map[string]os.FileMode{".": 0o750, "index.json": 0o640, "d": 0o510, "oci-layout": 0o644} {
				info, err := os.Stat(filepath.Join(out, name))
				if err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
				}
			}
			sameFiles(t, tc.files, filesOfDir(t, in))
			if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
				t.Errorf("beside the output: %v, %v", entries, err)
			}
		})
	}
}

// The order of members, spaces and numbers stay, and what nobody here knows.
func TestImageShiftKeepsJSON(t *testing.T) {
	f := files{}
	one := tarOf(0)
	layer := f.blob(plainLayer, one, `, "x" : [1.50, 1E400]`)
	config := f.blob(ociConfig, "\n{\"z\":12345678901234567890,\t\"rootfs\" : { \"diff_ids\":[ \""+sum(one)+"\" ], \"type\":\"layers\" },\"a\":\"<\\u003c\"}\n")
	manifest := f.blob(ociManifest, `{ "layers" : [ `+layer+` ], "config":`+config+`, "annotations" : { "z":"1", "a" : "<>&" } } `)
	f.index(manifest)
	shifted := filesOfTar(t, mustShift(t, f.tar(), false))

	newLayer := shifted.named(t, plainLayer, tarOf(100000))
	newConfig := "\n{\"z\":12345678901234567890,\t\"rootfs\" : { \"diff_ids\":[ \"" + newLayer + "\" ], \"type\":\"layers\" },\"a\":\"<\\u003c\"}\n"
	newManifest := strings.NewReplacer(digestOf(layer), newLayer, digestOf(config), sum(newConfig)).Replace(f[pathOf(manifest)])
	for _, want := range []string{newConfig, newManifest} {
		if got := shifted["blobs/sha256/"+hexOf(sum(want))]; got != want {
			t.Errorf("there is no\n%s\nin %q", want, slices.Sorted(maps.Keys(shifted)))
		}
	}
}

// named is the digest of a blob with that content.
func (f files) named(t *testing.T, what, data string) string {
	t.Helper()
	d := sum(data)
	if _, ok := f["blobs/sha256/"+hexOf(d)]; !ok {
		t.Fatalf("%s: no blob %s in %q", what, d, slices.Sorted(maps.Keys(f)))
	}
	return d
}

// A layer in which nothing changes stays as it was compressed, by whatever.
func TestImageShiftKeepsUnchangedLayers(t *testing.T) {
	for name, layer := range map[string]string{"no entry": tarOf(), "same IDs": tarOf(7, 8)} {
		t.Run(name, func(t *testing.T) {
			f := files{}
			stored := compressed("gzip", layer[:1000]) + compressed("gzip", layer[1000:]) // as nobody else would
			d := f.blob(gzipLayer, stored, `,"annotations":{"containerd.io/snapshot/stargz/toc.digest":"sha256:0"}`)
			config := f.blob(ociConfig, `{"rootfs":{"type":"layers","diff_ids":["`+sum(layer)+`"]}}`)
			f.index(f.blob(ociManifest, `{"config":`+config+`,"layers":[`+d+`]}`))
			var out bytes.Buffer
			same := imageMap
			if name == "same IDs" {
				same = slices.Clone(imageMap)
				same[0].Outer = 0
			}
			err := (&ImageShift{Shift: Shift{Map: same}}).Archive(context.Background(), &out, bytes.NewReader(f.tar()))
			if err != nil {
				t.Fatal(err)
			}
			sameFiles(t, f, filesOfTar(t, out.Bytes()))
		})
	}
}

// Annotations about the compressed bytes go with them; all others stay.
func TestImageShiftStaleAnnotations(t *testing.T) {
	f := files{}
	one := tarOf(0)
	layer := f.blob(plainLayer, one, `,"annotations":{"containerd.io/snapshot/stargz/toc.digest":"sha256:0","title" : "x","io.github.containers.zstd-chunked.manifest-position":"1:2:3:4"}`)
	config := f.blob(ociConfig, `{"rootfs":{"type":"layers","diff_ids":["`+sum(one)+`"]}}`)
	f.index(f.blob(ociManifest, `{"config":`+config+`,"layers":[`+layer+`]}`))
	shifted := filesOfTar(t, mustShift(t, f.tar(), false))
	shifted.whole(t, f)
	found := ""
	for _, text := range shifted {
		if strings.Contains(text, `"layers":[`) {
			found = text
		}
	}
	if !strings.Contains(found, `"annotations":{"title" : "x"}`) {
		t.Errorf("the manifest is %s", found)
	}
}

// Two layers that become one are written once, and one that several name is shifted once.
func TestImageShiftMerged(t *testing.T) {
	f := files{}
	f.index(f.image(plainLayer, tarOf(70000), tarOf(80000)))
	var out bytes.Buffer
	var last int64
	err := (&ImageShift{
		Shift: Shift{Map: imageMap, Squash: true},
		Progress: func(read, total int64) {
			if read < last || read > total {
				t.Errorf("progress %d of %d, after %d", read, total, last)
			}
			last = read
		},
	}).Archive(context.Background(), &out, bytes.NewReader(f.tar()))
	if err != nil {
		t.Fatal(err)
	}
	shifted := filesOfTar(t, out.Bytes())
	if shifted.whole(t, f); len(shifted) != len(f)-1 {
		t.Errorf("%d files, of %d", len(shifted), len(f))
	}
	if last == 0 {
		t.Error("no progress")
	}
}

func TestImageShiftArchiveForms(t *testing.T) {
	f := files{}
	f.index(f.image(gzipLayer, tarOf(0)))
	plain := f.tar()
	want := mustShift(t, plain, false)
	t.Run("compressed", func(t *testing.T) {
		for _, kind := range []string{"gzip", "zstd"} {
			out := mustShift(t, []byte(compressed(kind, string(plain))), false)
			if _, got, _ := Decompress(bytes.NewReader(out)); fmt.Sprint(got) == fmt.Sprint(Plain) {
				t.Errorf("%s came out plain", kind)
			}
			if decompressed(t, string(out)) != string(want) {
				t.Errorf("%s isn't what came out plain", kind)
			}
		}
	})
	t.Run("file, from where it stands", func(t *testing.T) {
		for _, kind := range []string{"plain", "gzip"} {
			file, err := os.Create(filepath.Join(t.TempDir(), "image"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := io.WriteString(file, "before"+compressed(kind, string(plain))); err != nil {
				t.Fatal(err)
			}
			if _, err := file.Seek(int64(len("before")), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := (&ImageShift{Shift: Shift{Map: imageMap}}).Archive(context.Background(), &out, file); err != nil {
				t.Fatal(err)
			}
			if decompressed(t, out.String()) != string(want) {
				t.Errorf("%s: something else came out", kind)
			}
		}
	})
	t.Run("names with ./", func(t *testing.T) {
		dotted := files{}
		for name, data := range f {
			dotted["./"+name] = data
		}
		for name, data := range filesOfTar(t, mustShift(t, dotted.tar(), false)) {
			if clean, ok := strings.CutPrefix(name, "./"); !ok || filesOfTar(t, want)[clean] != data {
				t.Errorf("%s isn't expected", name)
			}
		}
	})
	t.Run("record padding", func(t *testing.T) {
		if out := mustShift(t, append(slices.Clone(plain), make([]byte, 10240)...), false); !bytes.Equal(out, want) {
			t.Error("something else came out")
		}
	})
}
