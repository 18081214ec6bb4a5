// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// errImages is wrapped by every error about the images of a checkpoint whose
// user namespace can't be told.
var errImages = errors.New("images of the checkpoint")

// wantsRestored reads the user namespace that CRIU will make, from the images
// that it will make it from: on restore the bundle has no say in it. The caller
// may shift the root filesystem to those maps, as on create.
//
// The images are CRIU's, which restores credentials and files from them as
// root, so they must be root's, like the bundle.
func wantsRestored(c *call, spec *specs.Spec) (wanted, error) {
	if spec.Linux != nil {
		for _, ns := range spec.Linux.Namespaces {
			if ns.Type == specs.UserNamespace && ns.Path != "" {
				return wanted{}, fmt.Errorf("linux.namespaces: user: path: on restore the namespace is made by CRIU: remove the path")
			}
		}
		if err := checkRestoredJoins(spec); err != nil {
			return wanted{}, err
		}
	}
	uids, gids, err := c.takeImages()
	if err != nil {
		return wanted{}, err
	}
	w := wanted{restored: true}
	if w.uids, err = uids.Through(c.subject.UIDs); err != nil {
		return wanted{}, fmt.Errorf("%w: UIDs: %w", errImages, err)
	}
	if w.gids, err = gids.Through(c.subject.GIDs); err != nil {
		return wanted{}, fmt.Errorf("%w: GIDs: %w", errImages, err)
	}
	return w, nil
}

// checkRestoredJoins refuses the namespaces of other containers. CRIU makes the user namespace anew, so the container
// would be in what belongs to another one's, and whether its owner may have that isn't asked. A network that an
// engine made is what CRIU is to put it into.
func checkRestoredJoins(spec *specs.Spec) error {
	j, err := findJoins(spec)
	for _, file := range j.files {
		defer file.Close()
	}
	if err != nil || j.owner == nil {
		return err
	}
	defer j.owner.Close()
	return fmt.Errorf("linux.namespaces: path: %s: it is another container's, which none can be in that CRIU restores: leave the path out, or start the container anew", j.ownerOf)
}

// takeImages judges the images, and hands on the very directory that was judged,
// whatever becomes of its path.
func (c *call) takeImages() (uids, gids idmap.Map, err error) {
	path := c.inv.Flags.ImagePath
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errImages, &os.PathError{Op: "open", Path: path, Err: err})
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	kept, err := linux.KeepAcrossExec(dir, c.firstFD())
	if err != nil {
		return nil, nil, err
	}
	c.inv.Flags.ImagePath = "/proc/self/fd/" + strconv.Itoa(kept)
	if uids, gids, err = dumpedMaps(c.inv.Flags.ImagePath); err != nil {
		text := strings.ReplaceAll(err.Error(), c.inv.Flags.ImagePath, path)
		return nil, nil, fmt.Errorf("%w%s", errImages, strings.TrimPrefix(text, errImages.Error()))
	}
	return uids, gids, nil
}

// dumpedMaps is the maps of the one user namespace in the directory dir of CRIU
// images. Every process dumped there must be in it.
func dumpedMaps(dir string) (uids, gids idmap.Map, err error) {
	if err := checkImages(dir); err != nil {
		return nil, nil, err
	}
	namespaces, err := filepath.Glob(filepath.Join(dir, "userns-*.img"))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", errImages, dir, err)
	}
	if len(namespaces) != 1 {
		return nil, nil, fmt.Errorf("%w: %s: %d user namespaces are dumped there: expected one: "+
			"a container that was dumped outside of one would come back as the host's root", errImages, dir, len(namespaces))
	}
	name := filepath.Base(namespaces[0])
	id, err := idmap.ParseID(strings.TrimSuffix(strings.TrimPrefix(name, "userns-"), ".img"))
	if err != nil || id == 0 {
		return nil, nil, fmt.Errorf("%w: %s: its name has no namespace's number", errImages, namespaces[0])
	}
	if uids, gids, err = readUserNS(namespaces[0]); err != nil {
		return nil, nil, err
	}
	if err := checkTasks(dir, id); err != nil {
		return nil, nil, err
	}
	return uids, gids, nil
}

// checkTasks refuses images in which a process isn't in the dumped namespace id.
// CRIU makes a namespace for the root process only if its number isn't the one
// that CRIU itself was in, which the inventory tells.
func checkTasks(dir string, id uint32) error {
	inventory := filepath.Join(dir, "inventory.img")
	entries, err := readEntries(inventory, magicInventory)
	if err != nil {
		return err
	}
	own, err := userNSOf(entries[0], inventoryRootIDs)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errImages, inventory, err)
	}
	if own == 0 || own == id {
		return fmt.Errorf("%w: %s: CRIU was in user namespace %d and the processes in %d, so it would make none for them", errImages, inventory, own, id)
	}
	tree := filepath.Join(dir, "pstree.img")
	processes, err := readEntries(tree, magicCommon, magicTree)
	if err != nil {
		return err
	}
	for _, process := range processes {
		pid := uint64(0)
		if err := eachField(process, func(field, value uint64, _ []byte) error {
			if field == 1 {
				pid = value
			}
			return narrow(value)
		}); err != nil {
			return fmt.Errorf("%w: %s: %w", errImages, tree, err)
		}
		path := filepath.Join(dir, "ids-"+strconv.FormatUint(pid, 10)+".img")
		ids, err := readEntries(path, magicCommon, magicIDs)
		if err != nil {
			return err
		}
		in, err := userNSOf(ids[0])
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errImages, path, err)
		}
		if in != id {
			return fmt.Errorf("%w: %s: process %d was in user namespace %d, and number %d is the one that is dumped", errImages, path, pid, in, id)
		}
	}
	return nil
}

// checkImages refuses images that others than root could have written.
func checkImages(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errImages, err)
	}
	paths := []string{dir}
	for _, entry := range entries {
		paths = append(paths, filepath.Join(dir, entry.Name()))
	}
	for _, path := range paths {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("%w: %w", errImages, &os.PathError{Op: "lstat", Path: path, Err: err})
		}
		if path == dir {
			if err := unix.Stat(path, &st); err != nil {
				return fmt.Errorf("%w: %w", errImages, &os.PathError{Op: "stat", Path: path, Err: err})
			}
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
			return fmt.Errorf("%w: %s: it is neither a file nor a directory, and what it leads to isn't judged: put the file itself there", errImages, path)
		}
		if int(st.Uid) != os.Geteuid() || st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0 {
			return fmt.Errorf("%w: %s: UID %d owns it, mode %04o, so others could have written it, and CRIU does as it says: expected images that only root could write",
				errImages, path, st.Uid, st.Mode&0o7777)
		}
	}
	return nil
}

// CRIU's image files: the magic number of all (but the inventory), and that of a
// kind, then entries, each its size in four bytes and a message in the encoding
// of Protocol Buffers (criu.org/Images; images/*.proto of CRIU).
const (
	magicCommon    = 0x54564319
	magicInventory = 0x58313116
	magicTree      = 0x50273030
	magicUserNS    = 0x55474906
	magicIDs       = 0x54432030
	maxImage       = 1 << 20

	inventoryRootIDs = 3  // inventory_entry.root_ids
	userNSField      = 10 // task_kobj_ids_entry.user_ns_id
)

// readEntries is the entries, at least one, of an image file with these magic
// numbers.
func readEntries(path string, magics ...uint32) ([][]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errImages, err)
	}
	number := func() (n uint32, ok bool) {
		if len(raw) < 4 || len(raw) > maxImage {
			return 0, false
		}
		n, raw = binary.LittleEndian.Uint32(raw), raw[4:]
		return n, true
	}
	for _, magic := range magics {
		if n, ok := number(); !ok || n != magic {
			return nil, fmt.Errorf("%w: %s: it isn't an image of that kind by CRIU 2 or later", errImages, path)
		}
	}
	var entries [][]byte
	for len(raw) > 0 {
		size, ok := number()
		if !ok || uint64(size) > uint64(len(raw)) {
			return nil, fmt.Errorf("%w: %s: it is cut off", errImages, path)
		}
		entries, raw = append(entries, raw[:size]), raw[size:]
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: %s: it is empty", errImages, path)
	}
	return entries, nil
}

func readUserNS(path string) (uids, gids idmap.Map, err error) {
	entries, err := readEntries(path, magicCommon, magicUserNS)
	if err != nil {
		return nil, nil, err
	}
	err = eachField(slices.Concat(entries...), func(field, _ uint64, message []byte) error {
		var e idmap.Extent
		err := eachField(message, func(field, value uint64, _ []byte) error {
			if err := narrow(value); err != nil {
				return err
			}
			switch field {
			case 1:
				e.Inner = uint32(value)
			case 2:
				e.Outer = uint32(value)
			case 3:
				e.Count = uint32(value)
			}
			return nil
		})
		switch field {
		case 1:
			uids = append(uids, e)
		case 2:
			gids = append(gids, e)
		}
		return err
	})
	if err == nil {
		err = errors.Join(uids.Validate(), gids.Validate())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", errImages, path, err)
	}
	return uids, gids, nil
}

// userNSOf is the number of a user namespace in the IDs of a process; within is
// the fields that lead to those, from the message given. 0 is none.
func userNSOf(message []byte, within ...uint64) (id uint32, err error) {
	err = eachField(message, func(field, value uint64, inner []byte) (err error) {
		switch {
		case len(within) > 0 && field == within[0]:
			id, err = userNSOf(inner, within[1:]...)
		case len(within) == 0 && field == userNSField:
			id, err = uint32(value), narrow(value)
		}
		return err
	})
	return id, err
}

// narrow refuses a number of more than 32 bits: CRIU would take the low ones.
func narrow(value uint64) error {
	if value > uint64(idmap.Invalid) {
		return fmt.Errorf("%d has more than 32 bits", value)
	}
	return nil
}

// eachField goes through a message: a number comes as value, anything with a
// length as message.
func eachField(raw []byte, do func(field, value uint64, message []byte) error) error {
	number := func() (uint64, error) {
		n, size := binary.Uvarint(raw)
		if size <= 0 {
			return 0, errors.New("it is cut off")
		}
		raw = raw[size:]
		return n, nil
	}
	for len(raw) > 0 {
		key, err := number()
		if err != nil {
			return err
		}
		value, err := number()
		if err != nil {
			return err
		}
		var message []byte
		switch key & 7 {
		case 0:
		case 2:
			if value > uint64(len(raw)) {
				return errors.New("it is cut off")
			}
			message, raw = raw[:value], raw[value:]
		default:
			return fmt.Errorf("field %d has a form that isn't used there", key>>3)
		}
		if err := do(key>>3, value, message); err != nil {
			return err
		}
	}
	return nil
}
