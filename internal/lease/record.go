// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// RecordVersion is the version of [Record] that this build writes. It reads
// this one and the one before.
const RecordVersion = 2

// ErrRecord is wrapped by every error about a record that can't be obeyed.
var ErrRecord = errors.New("record of the container")

// Record is what was decided when a container was created.
type Record struct {
	// Owner is the name in the book whose grant the container runs under.
	Owner string
	// Flags is what that grant takes from every process, as the book spells it.
	Flags string
	// UIDs and GIDs are the container's maps, the outer IDs the host's.
	UIDs, GIDs idmap.Map
	// Lines is the lines of the book that allowed them, as file:line.
	Lines []string
	// Method is how the root filesystem was shifted.
	Method string
	// Rootfs is where the engine has it, on the host; empty in a record of version 1.
	Rootfs string
	// Runtime is the low-level runtime, its path and version.
	Runtime string
}

// stored is the form of a Record outside of the process.
type stored struct {
	Version int      `json:"version"`
	Owner   string   `json:"owner"`
	Flags   string   `json:"flags"`
	UIDMap  string   `json:"uidMap"`
	GIDMap  string   `json:"gidMap"`
	Lines   []string `json:"lines"`
	Method  string   `json:"method"`
	Rootfs  string   `json:"rootfs,omitempty"`
	Runtime string   `json:"runtime"`
}

// String is the record as JSON, which [ParseRecord] reads.
func (r Record) String() string {
	text, err := json.Marshal(stored{
		Version: RecordVersion,
		Owner:   r.Owner, Flags: r.Flags,
		UIDMap: r.UIDs.Kernel(), GIDMap: r.GIDs.Kernel(),
		Lines: r.Lines, Method: r.Method, Rootfs: r.Rootfs, Runtime: r.Runtime,
	})
	if err != nil {
		panic("bug: a record of strings doesn't become JSON: " + err.Error())
	}
	return string(text)
}

// ParseRecord reads what [Record.String] wrote. A version that this build
// doesn't know, or maps that are none, are refused with an error wrapping
// [ErrRecord]: a record that isn't wholly understood can't be obeyed. The flags
// are for the caller to read.
func ParseRecord(text string) (Record, error) {
	var s stored
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if s.Version != RecordVersion && s.Version != RecordVersion-1 {
		return Record{}, fmt.Errorf("%w: it has version %d, and this build reads %d and the one before: the container was made by another version of userns-runtime", ErrRecord, s.Version, RecordVersion)
	}
	r := Record{Owner: s.Owner, Flags: s.Flags, Lines: s.Lines, Method: s.Method, Rootfs: s.Rootfs, Runtime: s.Runtime}
	var errUIDs, errGIDs error
	r.UIDs, errUIDs = idmap.ParseMap(s.UIDMap)
	r.GIDs, errGIDs = idmap.ParseMap(s.GIDMap)
	if err := errors.Join(errUIDs, errGIDs); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if len(r.UIDs) == 0 || len(r.GIDs) == 0 {
		return Record{}, fmt.Errorf("%w: it has no maps", ErrRecord)
	}
	return r, nil
}
