// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// What grows with the host: the book, and the number of containers.

const (
	bookLines = 1_000_000
	tenantIDs = 100
	atOnce    = 200
	leases    = 10_000
	manyOwner = owner + "-many" // who has room for all of these
)

// grants is a grant from a large book, and a check of all of it.
func grants(w *world, n int) ([]row, error) {
	var text bytes.Buffer
	// Where no allocator is known to take any, so that Check finds nothing to say.
	for i := range bookLines {
		fmt.Fprintf(&text, "tenant%d:%d:%d:size=%d\n", i, firstID+i*tenantIDs, tenantIDs, tenantIDs)
	}
	fmt.Fprintf(&text, "%s:%d:%d:\n", owner, firstID+bookLines*tenantIDs, rangeIDs)
	book := w.path("book")
	if err := os.WriteFile(book, text.Bytes(), 0o644); err != nil {
		return nil, err
	}
	out, err := w.turns(min(n, 20),
		timed(w.path("grant"), book, owner),
		timed("sh", "-c", "grep -c : "+book+" >"+w.path("counted")), // into /dev/null it wouldn't count
		timed(w.path("grant"), "-check", book, "tenant7"))
	if err != nil {
		return nil, err
	}
	return []row{
		newRow("Grant from a book of 1,000,000 lines", "grep -c on it", 1.0, "ms", out[0], out[1]),
		newRow("Check of it", "grep -c on it", 0, "ms", out[2], out[1]),
	}, os.Remove(book)
}

// creates is many containers made at once, while many others hold ranges. Without keyrings, of
// which the kernel gives one user 200: plain runc has one user for all of them.
func creates(w *world, n int) (row, error) {
	if err := w.holdLeases(); err != nil {
		return row{}, err
	}
	each := func(argv func(verb string, args ...string) []string, name, bundle string) func(string) (float64, error) {
		return func(round string) (float64, error) {
			ids := make([]string, atOnce)
			for i := range ids {
				ids[i] = name + round + "-" + strconv.Itoa(i)
			}
			start := time.Now()
			err := atTheSameTime(ids, func(id string) error {
				return run(command("", argv("create", "--no-new-keyring", "--bundle", bundle, id)))
			})
			took := time.Since(start)
			err = errors.Join(err, atTheSameTime(ids, func(id string) error {
				return run(command("", argv("delete", "--force", id)))
			}))
			return float64(took.Microseconds()) / 1000, err
		}
	}
	gate := func(verb string, args ...string) []string {
		return append([]string{w.gatePath, "--config", w.path("config.toml"), "--owner", manyOwner, "--root", w.path("state"), verb}, args...)
	}
	runc := func(verb string, args ...string) []string { return w.runc(append([]string{verb}, args...)...) }
	out, err := w.turnsAfter(1, min(n, 5), each(gate, "many-ours", w.path(held)), each(runc, "many-plain", w.path("plain")))
	if err != nil {
		return row{}, err
	}
	return newRow("200 creates at once, 10,000 leases held", "runc's 200 at once", 1.10, "ms", out[0], out[1]), nil
}

// atTheSameTime does something for each of the names, all at once.
func atTheSameTime(names []string, do func(string) error) error {
	done := make(chan error)
	for _, name := range names {
		go func() { done <- do(name) }()
	}
	var errs []error
	for range names {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// holdLeases makes entries of containers that nobody runs, but whose state is there as
// a low-level runtime would have it.
func (w *world) holdLeases() error {
	store, err := lease.Open()
	if err != nil {
		return err
	}
	room := lease.Room{IDs: w.many, Free: idmap.NewSet(w.many), Size: rangeIDs}
	for i := range leases {
		id := "held-" + strconv.Itoa(i)
		dir := filepath.Join(w.path("others"), id)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "state.json"), nil, 0o600); err != nil {
			return err
		}
		l, err := store.Acquire(lease.Request{
			Key: store.KeyOf(w.path("others"), id), Owner: manyOwner, Rooms: []lease.Room{room},
		})
		if err != nil {
			return err
		}
		l.Close()
	}
	return nil
}
