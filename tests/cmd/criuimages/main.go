// SPDX-License-Identifier: Apache-2.0

// Command criuimages writes the kinds of CRIU's image files that say which user
// namespace a checkpoint was in, for tests of restore on machines where CRIU
// itself doesn't work: userns-10.img with the given maps, pstree.img and ids-1.img
// of one process, and inventory.img of a CRIU that was in namespace 1
// (criu.org/Images; images/*.proto).
//
// It is a test's helper and never shipped.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	magicCommon    = 0x54564319
	magicInventory = 0x58313116
	magicTree      = 0x50273030
	magicUserNS    = 0x55474906
	magicIDs       = 0x54432030

	criuUserNS = 1
	process    = 1
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: criuimages DIR INNER:OUTER:COUNT[,...] INNER:OUTER:COUNT[,...] USERNS-ID-OF-PROCESS")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "criuimages:", err)
		os.Exit(1)
	}
}

func write(dir, uids, gids, in string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var userns []byte
	for field, text := range []string{1: uids, 2: gids} {
		if field == 0 {
			continue
		}
		for extent := range strings.SplitSeq(text, ",") {
			message, err := numbers(strings.Split(extent, ":"))
			if err != nil {
				return err
			}
			userns = binary.AppendUvarint(userns, uint64(field)<<3|2)
			userns = binary.AppendUvarint(userns, uint64(len(message)))
			userns = append(userns, message...)
		}
	}
	id, err := strconv.ParseUint(in, 10, 32)
	if err != nil {
		return err
	}
	own := inUserNS(criuUserNS)
	inventory := binary.AppendUvarint(binary.AppendUvarint(nil, 3<<3|2), uint64(len(own)))
	for _, file := range []struct {
		name   string
		entry  []byte
		magics []uint32
	}{
		{"userns-10.img", userns, []uint32{magicCommon, magicUserNS}},
		{"ids-1.img", inUserNS(id), []uint32{magicCommon, magicIDs}},
		{"pstree.img", binary.AppendUvarint(binary.AppendUvarint(nil, 1<<3), process), []uint32{magicCommon, magicTree}},
		{"inventory.img", append(inventory, own...), []uint32{magicInventory}},
	} {
		if err := image(filepath.Join(dir, file.name), file.entry, file.magics...); err != nil {
			return err
		}
	}
	return nil
}

// inUserNS is the message about a process' namespaces, as far as it matters.
func inUserNS(id uint64) []byte {
	const userNSID = 10
	return binary.AppendUvarint(binary.AppendUvarint(nil, userNSID<<3), id)
}

// numbers is a message whose fields 1, 2, ... are these.
func numbers(texts []string) (message []byte, err error) {
	for i, text := range texts {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, err
		}
		message = binary.AppendUvarint(message, uint64(i+1)<<3)
		message = binary.AppendUvarint(message, n)
	}
	return message, nil
}

func image(path string, entry []byte, magics ...uint32) error {
	var raw []byte
	for _, word := range append(magics, uint32(len(entry))) {
		raw = binary.LittleEndian.AppendUint32(raw, word)
	}
	return os.WriteFile(path, append(raw, entry...), 0o600)
}
