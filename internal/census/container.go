// SPDX-License-Identifier: Apache-2.0

package census

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// maxState is the most bytes of a state.json that are read. A bundle may bring annotations of
// any length, which are in it.
const maxState = 64 << 20

// ErrNoRecord says that a container has no record: it is being started, or was started by
// something else.
var ErrNoRecord = errors.New("no record")

// Record is what was written down when a container was created: it lies in the low-level
// runtime's state, as an annotation ([specpatch.RecordAnnotation]). Of a pin it is what its namespace
// shows. Errors wrap [ErrNoRecord] or [lease.ErrRecord].
//
// Who may write there, the host's root in that mount namespace, could write anything. What
// counts for a process is its live maps.
func Record(l lease.Status) (lease.Record, error) {
	store, err := lease.Open()
	if err != nil {
		return lease.Record{}, fmt.Errorf("census: %w", err)
	}
	if l.IsPin() {
		r, err := store.PinRecord(l)
		if errors.Is(err, lease.ErrRecord) {
			// It was unmounted, and whoever has it yet can't be asked.
			return lease.Record{}, fmt.Errorf("census: %w: %w", ErrNoRecord, err)
		}
		if err != nil {
			return lease.Record{}, fmt.Errorf("census: %w", err)
		}
		return r, nil
	}
	path, err := store.StatePath(l.Key)
	if err != nil {
		return lease.Record{}, fmt.Errorf("census: %w", err)
	}
	if path == "" {
		return lease.Record{}, fmt.Errorf("census: container %s: %w", l.ID, ErrNoRecord)
	}
	return readRecord(path)
}

// readRecord reads the labels of a libcontainer state: annotations as KEY=VALUE.
func readRecord(path string) (lease.Record, error) {
	// Not a FIFO that never ends, nor a link to one.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return crunRecord(filepath.Join(filepath.Dir(path), "config.json"))
	}
	if err != nil {
		return lease.Record{}, fmt.Errorf("census: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return lease.Record{}, errors.Join(fmt.Errorf("census: %s: %w: it isn't a regular file", path, ErrNoRecord), err)
	}
	var state struct {
		Config struct {
			Labels []string `json:"labels"`
		} `json:"config"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(&state); err != nil {
		return lease.Record{}, fmt.Errorf("census: %s: %w: %w", path, ErrNoRecord, err)
	}
	for _, label := range state.Config.Labels {
		if text, ok := strings.CutPrefix(label, specpatch.RecordAnnotation+"="); ok {
			record, err := lease.ParseRecord(text)
			if err != nil {
				return lease.Record{}, fmt.Errorf("census: %s: %w", path, err)
			}
			return record, nil
		}
	}
	return lease.Record{}, fmt.Errorf("census: %s: %w", path, ErrNoRecord)
}

// crunRecord reads the copy of config.json that crun keeps with its state.
func crunRecord(path string) (lease.Record, error) {
	text, err := rootfile.Read(path, maxState, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return lease.Record{}, fmt.Errorf("census: %s: %w", path, ErrNoRecord)
	}
	if err != nil {
		return lease.Record{}, fmt.Errorf("census: %w", err)
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return lease.Record{}, fmt.Errorf("census: %s: %w: %w", path, ErrNoRecord, err)
	}
	record, ok := spec.Annotations[specpatch.RecordAnnotation]
	if !ok {
		return lease.Record{}, fmt.Errorf("census: %s: %w", path, ErrNoRecord)
	}
	out, err := lease.ParseRecord(record)
	if err != nil {
		return lease.Record{}, fmt.Errorf("census: %s: %w", path, err)
	}
	return out, nil
}

// Differs is what the book says of a container by now that it didn't when the container
// was started; nothing if it says the same. A running container keeps what it has.
func (c *Census) Differs(b *registry.Book, l lease.Status, r lease.Record) []string {
	return differs(c.owners(), b.Lines(), l, r)
}

func differs(same owners, lines []registry.Line, l lease.Status, r lease.Record) []string {
	var out []string
	own := ownLines(same, lines, l.Ranges, r.Owner)
	missing := l.Ranges
	for _, line := range own {
		missing = missing.Subtract(idmap.NewSet(line.Range))
	}
	if !missing.Empty() {
		out = append(out, fmt.Sprintf("%s isn't granted to %s any more", missing, r.Owner))
	}
	then, err := registry.ParseFlags(r.Flags)
	if err != nil {
		return append(out, fmt.Sprintf("it has the flags %q, which this build doesn't know", r.Flags))
	}
	if len(own) == 0 {
		return out
	}
	now := registry.FlagsOf(own)
	if l.IsPin() {
		now.Owned, now.IdmapBinds = false, false // they are about containers
	}
	if was, is := restricting(then), restricting(now); was != is {
		out = append(out, fmt.Sprintf("it has the flags %s, and the book says %s", orNone(was), orNone(is)))
	}
	return out
}

// ownLines is the lines that grant some of the IDs to an owner.
func ownLines(same owners, lines []registry.Line, ids idmap.Set, owner string) []registry.Line {
	return slices.DeleteFunc(slices.Clone(lines), func(line registry.Line) bool {
		return line.Flags.Reserved || !ids.Touches(line.Range) || !same.are(line.Owner, owner)
	})
}

// restricting is the flags that a process feels: not those about how IDs are handed out.
func restricting(f registry.Flags) string {
	f.Size, f.Shared = 0, false
	return f.String()
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// owners is the accounts by which an owner is known: login names, each with its UID in decimal.
type owners map[string]string

func (c *Census) owners() owners {
	out := make(owners, 2*len(c.World.Host.Users))
	for _, u := range c.World.Host.Users {
		number := strconv.FormatUint(uint64(u.ID), 10)
		out[number] = number
		if _, known := out[u.Name]; !known {
			out[u.Name] = number
		}
	}
	return out
}

// are says whether two names are of one owner.
func (o owners) are(a, b string) bool { return a == b || o[a] != "" && o[a] == o[b] }
