// SPDX-License-Identifier: Apache-2.0

// Command shift mounts an overlay of the layer that it is given, as an engine
// does, and prints how many milliseconds it takes to shift that to a new range:
// a user namespace, clones of the layers, a second overlay. Chowning it would do
// the same for one container.
// usage: shift LAYER UPPER-PARENT START COUNT
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func init() { runtime.LockOSThread() }

func main() {
	took, err := shift(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "shift:", err)
		os.Exit(1)
	}
	fmt.Println(float64(took.Microseconds()) / 1000)
}

func shift(args []string) (time.Duration, error) {
	if len(args) != 4 {
		return 0, fmt.Errorf("usage: shift LAYER UPPER-PARENT START COUNT")
	}
	layer, top := args[0], args[1]
	start, err := idmap.ParseID(args[2])
	if err != nil {
		return 0, err
	}
	count, err := strconv.ParseUint(args[3], 10, 32)
	if err != nil {
		return 0, err
	}
	if err := linux.PrivateMounts(); err != nil {
		return 0, err
	}
	for _, dir := range []string{"diff", "work", "merged", "stage"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			return 0, err
		}
	}
	stage, merged := filepath.Join(top, "stage"), filepath.Join(top, "merged")
	options := "lowerdir=" + layer + ",upperdir=" + filepath.Join(top, "diff") + ",workdir=" + filepath.Join(top, "work")
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return 0, err
	}

	began := time.Now()
	if err := linux.MountTmpfs(stage, 0o711); err != nil {
		return 0, err
	}
	target := filepath.Join(stage, "rootfs")
	if err := os.Mkdir(target, 0o711); err != nil {
		return 0, err
	}
	ids := idmap.Map{{Inner: 0, Outer: start, Count: uint32(count)}}
	userns, err := delegate.Create(delegate.Namespace{UIDs: ids, GIDs: ids})
	if err != nil {
		return 0, err
	}
	mounts, err := rootfs.Mounts()
	if err != nil {
		return 0, err
	}
	source, err := rootfs.Open(merged)
	if err != nil {
		return 0, err
	}
	if _, err := rootfs.Prepare(rootfs.Request{
		Source: source, Target: target, Scratch: stage, Mounts: mounts, UserNS: userns,
		RootUID: start, RootGID: start, HasRoot: true,
	}); err != nil {
		return 0, err
	}
	took := time.Since(began)

	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil || st.Uid != start {
		return 0, fmt.Errorf("it isn't shifted: owner %d, %w", st.Uid, err)
	}
	return took, nil
}
