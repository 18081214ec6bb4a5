// SPDX-License-Identifier: Apache-2.0

package layer

import "time"

// Type flags of entries (POSIX.1-2017, pax, "ustar Header Block"; GNU tar's
// manual, "Basic Tar Format"). Headers that only say more about the entry behind
// them aren't entries.
const (
	TypeReg     byte = '0'
	TypeLink    byte = '1' // hard link, to an entry before it
	TypeSymlink byte = '2'
	TypeChar    byte = '3'
	TypeBlock   byte = '4'
	TypeDir     byte = '5'
	TypeFifo    byte = '6'
	TypeCont    byte = '7' // a regular file, once meant to be contiguous on disk
	TypeDumpDir byte = 'D' // GNU: a directory of an incremental dump, whose list of names is its data
	TypeMulti   byte = 'M' // GNU: the rest of a file that began on another volume
	TypeVolume  byte = 'V' // GNU: the label of an archive, which is no file and has no owner
)

// Entry is one member of an archive, as its headers say. Records of pax headers
// rule over the fields of a header, and those of the entry over global ones.
type Entry struct {
	Name string // as it stands there, so a directory's may end with a slash; never empty, no NUL
	// Type is a flag from above. The old '\0' is read as [TypeReg], a file whose name
	// ends with a slash as [TypeDir], and GNU's sparse 'S' as [TypeReg] with Data.
	Type byte
	Link string // target of a symbolic or hard link, as it stands there; no NUL
	Mode uint32 // the twelve bits of chmod(2)
	// UID and GID are never idmap.Invalid.
	UID, GID uint32
	// User and Group are the owner's names, "" for none.
	User, Group string
	Size        int64 // of the file in bytes, with its holes; 0 for what has no data
	// The times are in UTC to the nanosecond, zero where the archive has none.
	ModTime, AccessTime, ChangeTime time.Time
	Major, Minor                    uint32 // of a device
	// Xattrs is the extended attributes in the archive's order, each name once. ACLs
	// are among them in the kernel's binary form, whatever their form in the archive
	// (system.posix_acl_access and system.posix_acl_default).
	Xattrs []Xattr
	// Data is where a sparse file has data, in rising order: nil is everywhere, and
	// empty is nowhere. No segment is empty.
	Data []Segment
	// Records is the other records of the entry's pax header, in the archive's order,
	// such as a comment. The Writer writes them as they are.
	Records []Record

	offset int64 // of its header in the archive, in bytes; 0 for one that wasn't read
}

// Xattr is an extended attribute (xattr(7)).
type Xattr struct {
	Name  string
	Value []byte
}

// Segment is a part of a sparse file that has data, in bytes.
type Segment struct{ Offset, Length int64 }

// Record is a record of a pax header.
type Record struct{ Key, Value string }

// Stored is how many bytes of data the archive holds for the entry: its segments
// where it is sparse, else all.
func (e *Entry) Stored() int64 {
	if e.Data == nil {
		return e.Size
	}
	n := int64(0)
	for _, s := range e.Data {
		n += s.Length
	}
	return n
}
