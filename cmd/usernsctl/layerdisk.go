// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/internal/layer"
)

const (
	flagWhiteouts   = "whiteouts"
	flagSkipXattrs  = "skip-xattrs"
	flagSync        = "sync"
	flagCompress    = "compress"
	flagAccessTimes = "access-times"
	flagMost        = "most"
)

// layerMemory is what a verb on a layer of a million entries may use, in bytes. The
// garbage of that many would be as much once more.
const layerMemory = 48 << 20

// diskFlags are those of verbs on a layer that is a directory, which has no names of
// owners.
func diskFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		mapFlag(), squashFlag(),
		text(flagWhiteouts, "`overlay|oci`, what hides names of lower layers on disk: overlay's devices 0:0 and opaque attributes (the default), or files as in the archive"),
		&cli.StringSliceFlag{Name: flagSkipXattrs, Usage: "leave extended attributes out whose name matches this `PATTERN`, as user.*; may be given several times"},
	}, more...)
}

// whiteoutsOf reads --whiteouts.
func whiteoutsOf(c *cli.Context) (layer.Whiteouts, error) {
	if !c.IsSet(flagWhiteouts) {
		return layer.OverlayWhiteouts, nil
	}
	w, err := layer.ParseWhiteouts(c.String(flagWhiteouts))
	if err != nil {
		return w, misused(verbOf(c), "--%s: %w", flagWhiteouts, err)
	}
	return w, nil
}

// diskFailed is the failure of work on a layer that is a directory.
func (p *program) diskFailed(verb string, squash bool, err error) error {
	if x, ok := errors.AsType[*layer.XattrError](err); ok {
		return failed(command(append(p.args, "--"+flagSkipXattrs, x.Name)...), "%s: %w", verb, err)
	}
	return p.layerFailed(verb, squash, err)
}

func (p *program) layerUnpackVerb() *cli.Command {
	return &cli.Command{
		Name:      "unpack",
		Usage:     "make a directory of a layer, its IDs shifted to those of the host",
		UsageText: programName + " layer unpack --map INNER:OUTER:COUNT [flags] DIR <IN",
		Description: "DIR is made as a whole, or not at all; it mustn't be there yet, or be empty. No entry reaches out of it.\n" +
			"What is compressed with gzip or zstd is unpacked.",
		Flags: diskFlags(
			text(flagInput, "read this `FILE` instead of standard input"),
			yes(flagSync, "end only when all is on disk"),
		),
		Action: p.layerUnpack,
	}
}

func (p *program) layerUnpack(c *cli.Context) error {
	verb := verbOf(c)
	words, err := arguments(c, 1, "DIR")
	if err != nil {
		return err
	}
	o := layer.UnpackOptions{SkipXattrs: c.StringSlice(flagSkipXattrs), Sync: c.Bool(flagSync)}
	if o.Shift, err = shiftOf(c); err != nil {
		return err
	}
	if o.Whiteouts, err = whiteoutsOf(c); err != nil {
		return err
	}
	if err := p.needsRoot(c); err != nil {
		return err
	}
	from, closed, what, err := p.input(c)
	if err != nil {
		return err
	}
	defer closed()
	debug.SetMemoryLimit(layerMemory)
	r, finish := p.watched(from, what)
	err = untilSignal(func(ctx context.Context) error {
		defer finish()
		return layer.Unpack(ctx, r, words[0], o)
	})
	if err != nil {
		return p.diskFailed(verb, o.Shift.Squash, err)
	}
	return nil
}

func (p *program) layerPackVerb() *cli.Command {
	return &cli.Command{
		Name:      "pack",
		Usage:     "make a layer of a directory, its IDs shifted to those inside of the container",
		UsageText: programName + " layer pack --map INNER:OUTER:COUNT [flags] DIR >OUT",
		Description: "The way back from unpack. The same tree gives the same bytes. A tree that changes meanwhile is refused; on a\n" +
			"failure standard output has got a part of the archive already.",
		Flags: diskFlags(
			text(flagOutput, "write this `FILE` instead of standard output, when all of it is there"),
			text(flagCompress, "`gzip|zstd|none`, none by default"),
			yes(flagAccessTimes, "write the times of last access too"),
		),
		Action: p.layerPack,
	}
}

func (p *program) layerPack(c *cli.Context) (err error) {
	verb := verbOf(c)
	words, err := arguments(c, 1, "DIR")
	if err != nil {
		return err
	}
	o, err := p.packOptions(c)
	if err != nil {
		return err
	}
	kind := layer.Plain
	switch name := c.String(flagCompress); name {
	case "", "none":
	case "gzip":
		kind = layer.Gzip
	case "zstd":
		kind = layer.Zstd
	default:
		return misused(verb, "--%s: %q: expected gzip, zstd or none", flagCompress, name)
	}
	if err := p.needsRoot(c); err != nil {
		return err
	}
	to, err := p.output(c)
	if err != nil {
		return err
	}
	defer func() { err = to.close(verb, err) }()
	debug.SetMemoryLimit(layerMemory)
	w, err := layer.Compress(to.Writer, kind)
	if err != nil {
		return failed("", "%s: %w", verb, err)
	}
	watched, finish := p.watchedWriter(w, words[0])
	err = layer.Pack(context.Background(), words[0], watched, o)
	finish()
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return p.diskFailed(verb, o.Shift.Squash, err)
	}
	return nil
}

// packOptions reads how a directory becomes a layer.
func (p *program) packOptions(c *cli.Context) (o layer.PackOptions, err error) {
	o = layer.PackOptions{SkipXattrs: c.StringSlice(flagSkipXattrs), AccessTimes: c.Bool(flagAccessTimes)}
	if o.Shift, err = shiftOf(c); err != nil {
		return o, err
	}
	o.Shift.ToContainer = true
	o.Warn = func(message string) { p.warn("%s", message) }
	o.Whiteouts, err = whiteoutsOf(c)
	return o, err
}

func (p *program) layerVerifyVerb() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "compare two layers, each an archive or a directory",
		UsageText: programName + " layer verify [--map INNER:OUTER:COUNT] [flags] A B",
		Description: "Every field of every entry is compared, whatever their order, with the content. --map is for a directory, whose\n" +
			"IDs are those of the host. Nothing is shown where both are the same. Exit code 3 where they differ.",
		Flags: diskFlags(
			text(flagMost, "show `N` names at most that differ, 100 by default; all are counted"),
			jsonFlag("the differences"),
		),
		Action: p.layerVerify,
	}
}

// differenceJSON is what two layers don't have in common.
type differenceJSON struct {
	Name string `json:"name"`
	What string `json:"what"`
	A    string `json:"a"`
	B    string `json:"b"`
}

func (p *program) layerVerify(c *cli.Context) error {
	verb := verbOf(c)
	words, err := arguments(c, 2, "A", "B")
	if err != nil {
		return err
	}
	o := layer.VerifyOptions{Most: 100}
	most, given, err := number(c, flagMost, 1)
	if err != nil {
		return err
	}
	if given {
		o.Most = int(min(most, 1000))
	}
	directory := slices.ContainsFunc(words, isDirectory)
	if directory || c.IsSet(flagMap) {
		if o.Directory, err = p.packOptions(c); err != nil {
			return err
		}
	}
	o.Directory.AccessTimes = false
	if directory {
		if err := p.needsRoot(c); err != nil {
			return err
		}
	}
	debug.SetMemoryLimit(layerMemory)
	told, differ, err := layer.Verify(context.Background(), words[0], words[1], o)
	if err != nil {
		return p.diskFailed(verb, c.Bool(flagSquash), err)
	}
	shown := []differenceJSON{}
	names := make(map[string]bool)
	for _, d := range told {
		names[d.Name] = true
		shown = append(shown, differenceJSON{d.Name, d.What, d.A, d.B})
	}
	if c.Bool(flagJSON) {
		if err := p.json(shown); err != nil {
			return err
		}
	} else {
		p.differences(words, told)
		if more := differ - len(names); more > 0 {
			fmt.Fprintf(&p.out, "and %s more\n", plural(more, "name"))
		}
	}
	if differ > 0 {
		return &failure{code: exitFound}
	}
	return nil
}

// differences shows what was told, a line each.
func (p *program) differences(words []string, told []layer.Difference) {
	for _, d := range told {
		switch d.What {
		case layer.OnlyInA:
			fmt.Fprintf(&p.out, "%s: only in %s\n", visible(d.Name), visible(words[0]))
		case layer.OnlyInB:
			fmt.Fprintf(&p.out, "%s: only in %s\n", visible(d.Name), visible(words[1]))
		default:
			fmt.Fprintf(&p.out, "%s: %s: %s, and %s\n", visible(d.Name), d.What, visible(orNone(d.A)), visible(orNone(d.B)))
		}
	}
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
