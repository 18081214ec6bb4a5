// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// ProgramName is what this program is called by, and what comes before the
// owner's name in a symbolic link to it.
const ProgramName = "userns-runtime"

// subject is who is asking, counted on the host. Nothing of it is taken from
// the environment.
type subject struct {
	// UID and GID are the caller's real IDs, translated to the host.
	UID, GID uint32
	// Name is the login name of UID; its decimal form when it has none.
	Name string
	// ownUIDs and ownGIDs are the maps of the user namespace that the caller
	// is in.
	ownUIDs, ownGIDs idmap.Map
}

// initialMap is the map of the host's own user namespace.
var initialMap = idmap.Map{{Inner: 0, Outer: 0, Count: idmap.Invalid}}

// engine says whether the caller starts containers for others: only the host's
// root does.
func (s subject) engine() bool { return s.UID == 0 }

// onHost says whether the caller is in the host's own user namespace.
func (s subject) onHost() bool { return s.ownUIDs.Equal(initialMap) && s.ownGIDs.Equal(initialMap) }

// identify finds out who is asking: the real IDs, through the maps of the
// namespace that they are counted in.
func identify() (subject, error) {
	var s subject
	for _, side := range []struct {
		file string
		m    *idmap.Map
		id   *uint32
		real int
	}{
		{"/proc/self/uid_map", &s.ownUIDs, &s.UID, os.Getuid()},
		{"/proc/self/gid_map", &s.ownGIDs, &s.GID, os.Getgid()},
	} {
		text, err := os.ReadFile(side.file)
		if err != nil {
			return subject{}, fmt.Errorf("who is asking: %w", err)
		}
		if *side.m, err = idmap.ParseMap(string(text)); err != nil {
			return subject{}, fmt.Errorf("who is asking: %s: %w", side.file, err)
		}
		id, ok := side.m.ToOuter(uint32(side.real))
		if !ok {
			return subject{}, fmt.Errorf("who is asking: ID %d isn't mapped in %s, so nobody on the host is asking", side.real, side.file)
		}
		*side.id = id
	}
	if s.engine() && !s.onHost() {
		if err := checkRootIsHosts(); err != nil {
			return subject{}, err
		}
	}
	s.Name = strconv.FormatUint(uint64(s.UID), 10)
	if account, err := user.LookupUid(int(s.UID)); err == nil && account.Name != "" {
		s.Name = account.Name
	}
	return s, nil
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

// ownership is whose grant a container runs under, and what said so.
type ownership struct {
	Name string
	By   string
}

// chooseOwner finds the owner. Callers other than the host's root own what they
// start; for root the first of these decides: --owner, the program's name, a
// [[rule]] on the engine's --root, the annotation if the configuration allows
// it, default-owner.
func chooseOwner(s subject, inv oci.Invocation, program, engineRoot string, cfg config.Config, annotations map[string]string) (ownership, error) {
	byName, named := strings.CutPrefix(filepath.Base(program), ProgramName+"-")
	annotated, hasAnnotation := annotations[config.AnnotationPrefix+config.AnnotationOwner]
	annotationAllowed := slices.Contains(cfg.Annotations, config.AnnotationOwner)

	if !s.engine() {
		for _, asked := range []struct {
			name, by string
			there    bool
		}{
			{inv.Owner, "--owner", inv.OwnerSet},
			{byName, "program name " + filepath.Base(program), named},
		} {
			if asked.there && asked.name != s.Name && asked.name != strconv.FormatUint(uint64(s.UID), 10) {
				return ownership{}, fmt.Errorf("%s asks for owner %q, and %s (UID %d) asks: only the host's root starts containers for others; leave it out",
					asked.by, asked.name, s.Name, s.UID)
			}
		}
		return ownership{s.Name, "the caller"}, nil
	}
	if inv.OwnerSet {
		return ownership{inv.Owner, "--owner"}, nil
	}
	if named {
		return ownership{byName, "program name " + filepath.Base(program)}, nil
	}
	if owner, ok := cfg.OwnerByRoot(engineRoot); ok {
		return ownership{owner, "[[rule]] for --root " + engineRoot}, nil
	}
	if hasAnnotation && annotationAllowed {
		return ownership{annotated, "annotation " + config.AnnotationPrefix + config.AnnotationOwner}, nil
	}
	if cfg.DefaultOwner != "" {
		return ownership{cfg.DefaultOwner, "default-owner"}, nil
	}
	return ownership{}, errors.New("nobody owns this container: give --owner NAME before the subcommand, or set default-owner in the configuration")
}

// holder is the owner as the book knows them.
func holder(s subject, owner ownership) registry.Holder {
	if s.engine() {
		names := []string{owner.Name}
		// A line, and --owner, may name an account by its number as well.
		if account, err := user.LookupUser(owner.Name); err == nil {
			names = append(names, strconv.Itoa(account.Uid))
		} else if id, err := idmap.ParseID(owner.Name); err == nil {
			if account, err := user.LookupUid(int(id)); err == nil {
				names = append(names, account.Name)
			}
		}
		return registry.Holder{Names: names}
	}
	names := []string{s.Name}
	if number := strconv.FormatUint(uint64(s.UID), 10); number != s.Name {
		names = append(names, number)
	}
	return registry.Holder{Names: names, Own: &registry.Own{UID: s.UID, GID: s.GID}}
}

// loginUID is the user that logged in at the start of the session, as the audit
// subsystem keeps it; nil when there is none (proc(5), loginuid).
func loginUID() *uint32 {
	text, err := os.ReadFile("/proc/self/loginuid")
	if err != nil {
		return nil
	}
	id, err := idmap.ParseID(strings.TrimSpace(string(text)))
	if err != nil || id == idmap.Invalid {
		return nil
	}
	return &id
}
