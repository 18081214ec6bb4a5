// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

const (
	flagToHost      = "to-host"
	flagToContainer = "to-container"
	flagInput       = "input"
	flagOutput      = "output"
)

func (p *program) layerShiftVerb() *cli.Command {
	return &cli.Command{
		Name:      "shift",
		Usage:     "rewrite the IDs of a layer, and leave all else byte for byte",
		UsageText: programName + " layer shift --to-host|--to-container --map INNER:OUTER:COUNT [--image] [flags] <IN >OUT",
		Description: "A filter for tar archives (v7, ustar, GNU, pax): owners, POSIX ACLs and file capabilities are translated. What is\n" +
			"compressed with gzip or zstd is unpacked and compressed the same way. An ID that the map doesn't hold is refused.\n" +
			"On a failure standard output has got a part of the archive already; a file of --output is left as it was.\n" +
			"With --image every layer of an image is, and digests, manifests and configurations go along. Then nothing is written before\n" +
			"all of it is known to be right; of a directory another is made, which mustn't be there yet.",
		Flags: append([]cli.Flag{
			yes(flagToHost, "from IDs inside of the container to those of the host"),
			yes(flagToContainer, "from IDs of the host to those inside of the container"),
			imageFlag(),
			text(flagInput, "read this `FILE` instead of standard input"),
			text(flagOutput, "write this `FILE` instead of standard output, when all of it is there"),
		}, shiftFlags()...),
		Action: p.layerShift,
	}
}

func (p *program) layerShift(c *cli.Context) (err error) {
	verb := verbOf(c)
	if _, err := arguments(c, 0); err != nil {
		return err
	}
	if c.Bool(flagToHost) == c.Bool(flagToContainer) {
		return misused(verb, "expected one of --%s and --%s", flagToHost, flagToContainer)
	}
	s, err := shiftOf(c)
	if err != nil {
		return err
	}
	s.ToContainer = c.Bool(flagToContainer)
	if c.Bool(flagImage) && isDirectory(c.String(flagInput)) {
		return p.shiftLayout(c, s)
	}
	from, closed, what, err := p.input(c)
	if err != nil {
		return err
	}
	defer closed()
	to, err := p.output(c)
	if err != nil {
		return err
	}
	defer func() { err = to.close(verb, err) }()
	if c.Bool(flagImage) {
		err = p.shiftArchive(c, s, to.Writer, from, what)
	} else {
		r, finish := p.watched(from, what)
		_, err = s.Blob(to.Writer, r)
		finish()
	}
	if err != nil {
		return p.layerFailed(verb, s.Squash, fmt.Errorf("%s: %w", what, err))
	}
	return nil
}
