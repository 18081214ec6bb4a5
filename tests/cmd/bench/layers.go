// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/userns-runtime/userns-runtime/internal/layer"
)

const (
	manyEntries = 1_000_000
	mostMemory  = 64.0 // MiB, for a layer of that many
)

// layers is what usernsctl does with layers: the filter against the same bytes through
// cat, and unpacking against those who only unpack.
func layers(w *world, n int) ([]row, error) {
	for _, program := range []string{"tar", "umoci"} {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Fprintf(os.Stderr, "bench: no rows of layers: %v: run `make deps`\n", err)
			return nil, nil
		}
	}
	archive, err := w.archive()
	if err != nil {
		return nil, err
	}
	shifted, err := w.throughPipes(n, archive)
	if err != nil {
		return nil, err
	}
	unpacked, err := w.unpacks(n, archive)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(archive); err != nil {
		return nil, err
	}
	peaks, err := w.layerPeaks()
	return append(append([]row{shifted}, unpacked...), peaks...), err
}

// archive is the image of DESIGN.md, section 14, as a layer.
func (w *world) archive() (string, error) {
	dir, err := w.image("layer", imageFiles, imageBytes)
	if err != nil {
		return "", err
	}
	name := w.path("layer.tar")
	if err := run(exec.Command("tar", "--numeric-owner", "--sort=name", "-cf", name, "-C", dir, ".")); err != nil {
		return "", err
	}
	return name, os.RemoveAll(dir)
}

func (w *world) idMap() string {
	return fmt.Sprintf("0:%d:%d", w.ids.Start, w.ids.Count)
}

// throughPipes is the filter where cat might stand. Its speed is the reciprocal of the time.
func (w *world) throughPipes(n int, archive string) (row, error) {
	pipe := func(middle string) func(string) (float64, error) {
		return timed("sh", "-c", "cat "+archive+" | "+middle+" | cat >/dev/null")
	}
	out, err := w.turnsAfter(2, min(n, 20), pipe(w.ctlPath+" layer shift --to-host --map "+w.idMap()), pipe("cat"))
	if err != nil {
		return row{}, err
	}
	return newRow("layer shift, 1 GiB in 50,000 files", "cat between the same pipes", 1/0.8, "ms", out[0], out[1]), nil
}

// unpacks is a layer made a directory. What was made is removed outside of the time.
func (w *world) unpacks(n int, archive string) ([]row, error) {
	layout := w.path("layout")
	if err := w.layout(layout, archive); err != nil {
		return nil, err
	}
	each := func(name string, argv func(dir string) []string) func(string) (float64, error) {
		return func(round string) (float64, error) {
			dir := w.path(name + "-unpacked")
			if err := os.Mkdir(dir, 0o755); err != nil {
				return 0, err
			}
			cmd := command(round, argv(dir))
			start := time.Now()
			err := run(cmd)
			took := time.Since(start)
			if err != nil {
				return 0, err
			}
			return float64(took.Microseconds()) / 1000, os.RemoveAll(dir)
		}
	}
	out, err := w.turnsAfter(1, min(n, 10),
		each("ours", func(dir string) []string {
			return []string{w.ctlPath, "layer", "unpack", "--map", w.idMap(), "--input", archive, dir}
		}),
		each("tar", func(dir string) []string {
			return []string{"tar", "--numeric-owner", "-xpf", archive, "-C", dir}
		}),
		each("umoci", func(dir string) []string {
			return []string{"umoci", "raw", "unpack", "--image", layout + ":v1", filepath.Join(dir, "rootfs")}
		}))
	if err != nil {
		return nil, err
	}
	const what = "layer unpack of it"
	return []row{
		newRow(what, "tar --numeric-owner -xpf", 1.0, "ms", out[0], out[1]),
		newRow(what, "umoci raw unpack", 1.0, "ms", out[0], out[2]),
	}, os.RemoveAll(layout)
}

// layout makes an OCI image layout of one layer, which isn't compressed: nobody's time
// shall be gzip's.
func (w *world) layout(dir, archive string) error {
	blobs := filepath.Join(dir, "blobs/sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	if err := os.Link(archive, filepath.Join(blobs, digest)); err != nil {
		return err
	}
	descriptor := func(kind, digest string, size int64) string {
		return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d`, kind, digest, size)
	}
	blob := func(kind, text string) (string, error) {
		sum := sha256.Sum256([]byte(text))
		digest := hex.EncodeToString(sum[:])
		return descriptor(kind, digest, int64(len(text))), os.WriteFile(filepath.Join(blobs, digest), []byte(text), 0o644)
	}
	config, err := blob("config.v1+json", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:`+digest+`"]}}`)
	if err != nil {
		return err
	}
	manifest, err := blob("manifest.v1+json", `{"schemaVersion":2,"config":`+config+`},"layers":[`+descriptor("layer.v1.tar", digest, size)+`}]}`)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
		"index.json": `{"schemaVersion":2,"manifests":[` + manifest + `,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// layerPeaks is the most memory that layers of a million entries take. What is a number
// once is one the next time, so there is one round.
func (w *world) layerPeaks() ([]row, error) {
	archive, dir := w.path("many.tar"), w.path("many")
	if err := manyEntriesTo(archive); err != nil {
		return nil, err
	}
	layout := w.path("many-layout")
	if err := w.layout(layout, archive); err != nil {
		return nil, err
	}
	var rows []row
	for _, tc := range []struct {
		what string
		args []string
	}{
		{"shift", []string{"--to-host", "--input", archive, "--output", w.path("shifted")}},
		{"shift", []string{"--image", "--to-host", "--input", layout, "--output", w.path("shifted-image")}},
		{"unpack", []string{"--input", archive, dir}},
		{"pack", []string{"--output", w.path("packed"), dir}},
	} {
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
		argv := append([]string{w.ctlPath, "layer", tc.what, "--map", w.idMap()}, tc.args...)
		mib, err := w.peak(argv...)("")
		if err != nil {
			return nil, err
		}
		what := tc.what
		if tc.args[0] == "--image" {
			what += " --image"
		}
		rows = append(rows, newRow("peak memory of layer "+what+", 1,000,000 entries", "the limit", 1.0, "MiB", []float64{mib}, []float64{mostMemory}))
	}
	for _, made := range []string{archive, dir, layout, w.path("shifted"), w.path("shifted-image"), w.path("packed")} {
		if err := os.RemoveAll(made); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// manyEntriesTo writes a layer of so many empty files, a thousand in each directory, of
// which one in ten has a second name.
func manyEntriesTo(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	out := layer.NewWriter(f)
	for i := range manyEntries {
		e := layer.Entry{Type: layer.TypeReg, Mode: 0o644, UID: uint32(i % 1000), GID: uint32(i % 1000), ModTime: time.Unix(int64(i), 0)}
		dir := strings.Repeat("a-directory/", 3) + strconv.Itoa(i/1000)
		e.Name = dir + "/file-" + strconv.Itoa(i)
		if i%1000 == 0 {
			e.Name, e.Type, e.Mode = dir+"/", layer.TypeDir, 0o755
		} else if i%10 == 9 {
			e.Type, e.Link = layer.TypeLink, dir+"/file-"+strconv.Itoa(i-1)
		}
		if err := out.WriteEntry(&e); err != nil {
			return err
		}
	}
	return out.Close()
}
