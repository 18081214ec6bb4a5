// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/layer"
)

const flagImage = "image"

func imageFlag() cli.Flag {
	return yes(flagImage, "a whole image: an OCI layout, as a directory or an archive, or what docker save or podman save writes")
}

// layerShiftImage is layer shift --image.
func (p *program) layerShiftImage(c *cli.Context, s *layer.Shift) error {
	verb := verbOf(c)
	src, dst := c.String(flagInput), c.String(flagOutput)
	if src == "" {
		return p.shiftArchive(c, s, "standard input")
	}
	info, err := os.Stat(src)
	switch {
	case err != nil:
		return failed("", "%s: %w", verb, err)
	case !info.IsDir():
		return p.shiftArchive(c, s, src)
	case dst == "":
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

// untilSignal does what ends with its context, and then leaves nothing, before a signal
// ends the program.
func untilSignal(do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	stop := onSignal(func() {
		cancel()
		<-done
	})
	err := do(ctx)
	close(done)
	stop()
	return err
}

// shiftArchive shifts an image that is an archive. What it keeps meanwhile has no name, and
// goes with the program however that ends.
func (p *program) shiftArchive(c *cli.Context, s *layer.Shift, what string) (err error) {
	verb := verbOf(c)
	from, closed, err := p.source(verb, c.String(flagInput))
	if err != nil {
		return err
	}
	defer closed()
	to, err := p.destination(verb, c.String(flagOutput))
	if err != nil {
		return err
	}
	defer func() { err = to.close(verb, err) }()
	image := layer.ImageShift{Shift: *s}
	if c.IsSet(flagOutput) {
		image.TempDir = filepath.Dir(c.String(flagOutput))
	}
	finish := p.watchedImage(&image, what)
	err = image.Archive(context.Background(), to.Writer, from)
	finish()
	if err != nil {
		return p.layerFailed(verb, s.Squash, fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

// watchedImage has a bar show how much of an image was read, as watched does.
func (p *program) watchedImage(image *layer.ImageShift, what string) (finish func()) {
	bar, finish := p.bar(-1, what)
	if bar != nil {
		image.Progress = func(read, total int64) {
			bar.ChangeMax64(total)
			_ = bar.Set64(read) // which tells of a terminal that has gone
		}
	}
	return finish
}
