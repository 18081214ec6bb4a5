// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// Caller is who runs this program, counted on the host. Nothing of it is taken
// from the environment.
type Caller struct {
	// UID and GID are the real IDs, translated to the host.
	UID, GID uint32
	// Name is the login name of UID; its decimal form when it has none: see [OwnerNames].
	Name string
	// UIDs and GIDs are the maps of the user namespace that the caller is in.
	UIDs, GIDs idmap.Map
}

// Identify finds out who is asking: the real IDs, through the maps of the
// namespace that they are counted in. An ID that isn't mapped there is an error.
//
// A map shows one namespace further out, and no more (user_namespaces(7)):
// where that isn't the host, its IDs are taken for the host's, but for root,
// who is refused.
func Identify() (Caller, error) {
	var c Caller
	for _, side := range []struct {
		file string
		m    *idmap.Map
		id   *uint32
		real int
	}{
		{"/proc/self/uid_map", &c.UIDs, &c.UID, os.Getuid()},
		{"/proc/self/gid_map", &c.GIDs, &c.GID, os.Getgid()},
	} {
		text, err := os.ReadFile(side.file)
		if err != nil {
			return Caller{}, fmt.Errorf("who is asking: %w", err)
		}
		if *side.m, err = idmap.ParseMap(string(text)); err != nil {
			return Caller{}, fmt.Errorf("who is asking: %s: %w", side.file, err)
		}
		id, ok := side.m.ToOuter(uint32(side.real))
		if !ok {
			return Caller{}, fmt.Errorf("who is asking: ID %d isn't mapped in %s, so nobody on the host is asking", side.real, side.file)
		}
		*side.id = id
	}
	if c.IsRoot() && !c.onHost() {
		if err := checkRootIsHosts(); err != nil {
			return Caller{}, err
		}
	}
	c.Name = strconv.FormatUint(uint64(c.UID), 10)
	// A caller who has a name that can't be found out isn't taken for one without:
	// their lines would be somebody else's.
	switch account, err := user.LookupUid(int(c.UID)); {
	case err == nil:
		c.Name = OwnerNames(account)[0]
	case !errors.Is(err, user.ErrNoPasswdEntries) && !errors.Is(err, fs.ErrNotExist):
		return Caller{}, fmt.Errorf("who is asking: the name of UID %d: %w", c.UID, err)
	}
	return c, nil
}

// IsRoot says whether the caller is the host's root, who alone acts for others.
func (c Caller) IsRoot() bool { return c.UID == 0 }

// onHost says whether the caller is in the host's own user namespace.
func (c Caller) onHost() bool {
	host := idmap.Host()
	return c.UIDs.Equal(host) && c.GIDs.Equal(host)
}

// Holder is the caller as the book knows them: by login name and by number, and,
// for anybody but root, with the IDs that they have already.
func (c Caller) Holder() registry.Holder {
	holder := registry.Holder{Names: []string{c.Name}}
	if number := strconv.FormatUint(uint64(c.UID), 10); number != c.Name {
		holder.Names = append(holder.Names, number)
	}
	if !c.IsRoot() {
		holder.Own = &registry.Own{UID: c.UID, GID: c.GID}
	}
	return holder
}

// checkRootIsHosts refuses a root that is only an enclosing namespace's. A map
// shows one namespace further out, no more: in a namespace inside a user's
// namespace it may say 0 as well. What the host's root owns tells them apart.
func checkRootIsHosts() error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/sys", &st); err != nil {
		return fmt.Errorf("who is asking: %w", &os.PathError{Op: "stat", Path: "/proc/sys", Err: err})
	}
	if int(st.Uid) != os.Getuid() {
		return errors.New("who is asking: this user namespace lies in another one, whose root isn't the host's: " +
			"call from the outer one, where /proc/self/uid_map shows the host's IDs")
	}
	return nil
}
