// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Key says which container an entry is for. Two engines may have one of the same
// ID, and two mount namespaces a directory of the same name.
type Key struct {
	Root    string // the engine's --root, without symbolic links
	ID      string
	MountNS uint64 // inode number of the mount namespace that Root is a path in
}

// Entry is one holder of IDs.
type Entry struct {
	Key
	Owner  string    // in the book; "" of one that was found alive
	Ranges idmap.Set // the IDs, of users and of groups, counted on the host
	// Shared entries of one owner may lie over each other.
	Shared bool
	// UserNS is the inode number of the user namespace; 0 until it is known.
	// Entries of one namespace may lie over each other.
	UserNS uint64
	// PIDNS is the inode number of the PID namespace that the entry was made from:
	// only from there, and from the host's, can the processes be seen.
	PIDNS uint64
	// PID is the process that made the entry, and became the low-level runtime;
	// of one that was found alive, a process in the namespace.
	PID int
	// Rebuilt says that the entry was made from a namespace that was found alive
	// when the directory had been lost.
	Rebuilt bool
	// Handle is of the user namespace of a pin: see [linux.NamespaceHandle]; "" where there are none.
	Handle string
	// UID is the account that the user namespace of a pin belongs to: there may be another one
	// of the owner's name by now. nil of others, and of what an older version wrote.
	UID *uint32

	// recovered says that the entry is a copy of one that PID has locked, whose file was
	// deleted; start is when that began.
	start     string
	recovered bool
}

// entryVersion is the version of an entry's file. A later one is read as far as
// it can be: what is unknown in it can't make IDs free.
const entryVersion = 1

// storedEntry is the content of an entry's file.
type storedEntry struct {
	Version   int         `json:"version"`
	Owner     string      `json:"owner,omitempty"`
	Root      string      `json:"root,omitempty"`
	ID        string      `json:"id,omitempty"`
	MountNS   uint64      `json:"mountNS,omitempty"`
	PIDNS     uint64      `json:"pidNS,omitempty"`
	PID       int         `json:"pid,omitempty"`
	Start     string      `json:"start,omitempty"`
	Shared    bool        `json:"shared,omitempty"`
	Rebuilt   bool        `json:"rebuilt,omitempty"`
	Recovered bool        `json:"recovered,omitempty"`
	Ranges    [][2]uint32 `json:"ranges"`
	Handle    string      `json:"handle,omitempty"`
	UID       *uint32     `json:"uid,omitempty"`
	// The last one, so that writing it only makes the text longer.
	UserNS uint64 `json:"userNS"`
}

func (e Entry) text() []byte {
	s := storedEntry{
		Version: entryVersion, Owner: e.Owner, Root: e.Root, ID: e.ID, MountNS: e.MountNS, PIDNS: e.PIDNS, UserNS: e.UserNS,
		PID: e.PID, Start: e.start, Shared: e.Shared, Rebuilt: e.Rebuilt, Recovered: e.recovered, Handle: e.Handle, UID: e.UID,
	}
	for _, r := range e.Ranges.Ranges() {
		s.Ranges = append(s.Ranges, [2]uint32{r.Start, r.Count})
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic("bug: an entry of numbers and strings doesn't become JSON: " + err.Error())
	}
	return append(text, '\n')
}

// maxEntry is the most bytes of an entry's file: 2 maps of 340 extents and some paths.
const maxEntry = 64 << 10

// readEntry reads what an entry's file says. One that is empty, or cut off, is no error:
// its maker ended before anything was started, or it can't be trusted, and what
// its name says is all that is known.
func readEntry(f *os.File, named name) (Entry, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxEntry))
	if err != nil {
		return Entry{}, fmt.Errorf("lease: %w", err)
	}
	ranges, _ := named.ranges()
	var s storedEntry
	if err := json.Unmarshal(text, &s); err != nil {
		return Entry{Ranges: idmap.NewSet(ranges...)}, nil //nolint:nilerr // see above
	}
	e := Entry{
		Key:   Key{Root: s.Root, ID: s.ID, MountNS: s.MountNS},
		Owner: s.Owner, Shared: s.Shared, UserNS: s.UserNS, PIDNS: s.PIDNS, PID: s.PID, start: s.Start,
		Rebuilt: s.Rebuilt, recovered: s.Recovered, Handle: s.Handle, UID: s.UID,
	}
	for _, r := range s.Ranges {
		ranges = append(ranges, idmap.Range{Start: r[0], Count: r[1]})
	}
	e.Ranges = idmap.NewSet(ranges...)
	return e, nil
}

// name is the name of an entry's file, which has the ranges in it, so that what
// is held can be told from a list of names: "1879048192-65536.KEY", several
// ranges joined by "_". Where they are too many they are in the file alone.
type name struct {
	text  string
	first idmap.Range
	more  bool // first isn't all
	// line says that the index has the name, in a line that begins there.
	line bool
	at   int64
}

// pin says whether it is a pin's.
func (n name) pin() bool { return strings.HasPrefix(n.key(), pinPrefix) }

// key is what stands behind the ranges.
func (n name) key() string { return n.text[strings.IndexByte(n.text, '.')+1:] }

// ranges is the IDs that the name tells of; inside says that they are in the file.
func (n name) ranges() (ranges []idmap.Range, inside bool) {
	if !n.more {
		return []idmap.Range{n.first}, false
	}
	text, _, _ := strings.Cut(n.text, ".")
	if text == manyRanges {
		return nil, true
	}
	for part := range strings.SplitSeq(text, "_") {
		r, _, _ := parseRange(part) // as parseName has
		ranges = append(ranges, r)
	}
	return ranges, false
}

const (
	// manyRanges stands in the place of ranges that make the name too long.
	manyRanges = "many"
	maxRanges  = 200 // bytes
	// alivePrefix begins the key of an entry that was made of what was found alive.
	alivePrefix = "alive-"
	// pinPrefix begins the key of a pin's entry, whose owner has to be read where it is in the way.
	pinPrefix = "pin-"
)

// keyText is the key as it stands in a name. It finds entries of a container; that they
// are is what the file says.
func (e Entry) keyText() string {
	if e.Rebuilt {
		return alivePrefix + strconv.FormatUint(e.UserNS, 10)
	}
	if e.IsPin() {
		return e.Key.text() + "-" + strconv.FormatUint(e.UserNS, 10)
	}
	return e.Key.text()
}

// isOf says whether it is of a container, or of any of the namespaces of a pin, by the text of
// the key.
func (n name) isOf(key string) bool {
	text := n.key()
	return text == key || n.pin() && strings.HasPrefix(text, key+"-")
}

func (k Key) text() string {
	h := fnv.New128a()
	_, _ = fmt.Fprintf(h, "%s\x00%s\x00%d", k.Root, k.ID, k.MountNS) // never fails
	text := fmt.Sprintf("%x", h.Sum(nil))
	if k.IsPin() {
		return pinPrefix + text
	}
	return text
}

func (e Entry) name() name {
	ranges := e.Ranges.Ranges()
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		parts[i] = fmt.Sprintf("%d-%d", r.Start, r.Count)
	}
	text := strings.Join(parts, "_")
	if len(text) > maxRanges {
		text = manyRanges
	}
	n, err := parseName(text + "." + e.keyText())
	if err != nil {
		panic("bug: the name of an entry can't be read: " + err.Error())
	}
	return n
}

var errName = errors.New("not the name of an entry")

// parseName reads what [Entry.name] made. Other files in the directory aren't
// entries.
func parseName(text string) (name, error) {
	n := name{text: text}
	var rest string
	var ok bool
	if rest, n.more = strings.CutPrefix(text, manyRanges); !n.more {
		if n.first, rest, ok = parseRange(text); !ok {
			return name{}, errName
		}
	}
	for strings.HasPrefix(rest, "_") && text[0] != manyRanges[0] {
		n.more = true
		if _, rest, ok = parseRange(rest[1:]); !ok {
			return name{}, errName
		}
	}
	if len(rest) < 2 || rest[0] != '.' || strings.IndexByte(rest, '\n') >= 0 {
		return name{}, errName
	}
	return n, nil
}

// parseRange reads "START-COUNT" from the beginning of a text.
func parseRange(text string) (r idmap.Range, rest string, ok bool) {
	if r.Start, rest, ok = parseNumber(text); !ok || !strings.HasPrefix(rest, "-") {
		return idmap.Range{}, text, false
	}
	if r.Count, rest, ok = parseNumber(rest[1:]); !ok || r.Validate() != nil {
		return idmap.Range{}, text, false
	}
	return r, rest, true
}

// parseNumber reads a decimal number, as it is written; there may be ten thousand of them to read.
func parseNumber(text string) (n uint32, rest string, ok bool) {
	var sum uint64
	i := 0
	for ; i < len(text) && i < 10 && text[i] >= '0' && text[i] <= '9'; i++ {
		sum = 10*sum + uint64(text[i]-'0')
	}
	if i == 0 || text[0] == '0' && i > 1 || sum > uint64(idmap.Invalid) {
		return 0, text, false
	}
	return uint32(sum), text[i:], true
}
