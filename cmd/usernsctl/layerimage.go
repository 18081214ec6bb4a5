// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/layer"
)

const flagImage = "image"

func imageFlag() cli.Flag {
	return yes(flagImage, "a whole image: an OCI layout, as a directory or an archive, or what docker save or podman save writes")
}

// isDirectory says whether there is one at path, which may be empty.
func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// shiftLayout shifts an image that is a directory.
func (p *program) shiftLayout(c *cli.Context, s *layer.Shift) error {
	verb, src := verbOf(c), c.String(flagInput)
	dst, err := fileOf(c, flagOutput)
	if err != nil {
		return err
	}
	if dst == "" {
		return misused(verb, "--%s: %s is a directory: expected --%s with the path of another, which isn't there yet", flagInput, src, flagOutput)
	}
	image := layer.ImageShift{Shift: *s}
	finish := p.watchedImage(&image, src)
	err = untilSignal(func(ctx context.Context) error {
		defer finish()
		return image.Layout(ctx, dst, src)
	})
	if err != nil {
		return p.layerFailed(verb, s.Squash, fmt.Errorf("%s: %w", src, err))
	}
	return nil
}

// shiftArchive shifts an image that is an archive. What it keeps meanwhile has no name, and
// goes with the program however that ends.
func (p *program) shiftArchive(c *cli.Context, s *layer.Shift, dst io.Writer, src io.Reader, what string) error {
	image := layer.ImageShift{Shift: *s}
	if c.IsSet(flagOutput) {
		image.TempDir = filepath.Dir(c.String(flagOutput))
	}
	finish := p.watchedImage(&image, what)
	defer finish()
	return image.Archive(context.Background(), dst, src)
}

// watchedImage has a bar show how much of an image was read, as watched does. It begins
// when it is known how much there is.
func (p *program) watchedImage(image *layer.ImageShift, what string) (finish func()) {
	var bar *progressbar.ProgressBar
	end := func() {}
	if isTerminal(p.stderr) {
		image.Progress = func(read, total int64) {
			if bar == nil {
				bar, end = p.bar(total, what)
			}
			_ = bar.Set64(read) // which tells of a terminal that has gone
		}
	}
	return func() { end() }
}
