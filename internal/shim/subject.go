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

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// ProgramName is what this program is called by, and what comes before the
// owner's name in a symbolic link to it.
const ProgramName = "userns-runtime"

// ownership is whose grant a container runs under, and what said so.
type ownership struct {
	Name string
	By   string
}

// chooseOwner finds the owner. Callers other than the host's root own what they
// start; for root the first of these decides: --owner, the program's name, a
// [[rule]] on the engine's --root, the annotation if the configuration allows
// it, default-owner.
func chooseOwner(s delegate.Caller, inv oci.Invocation, program, engineRoot string, cfg config.Config, annotations map[string]string) (ownership, error) {
	byName, named := strings.CutPrefix(filepath.Base(program), ProgramName+"-")
	annotated, hasAnnotation := annotations[config.AnnotationPrefix+config.AnnotationOwner]
	annotationAllowed := slices.Contains(cfg.Annotations, config.AnnotationOwner)

	if !s.IsRoot() {
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
func holder(s delegate.Caller, owner ownership) registry.Holder {
	if s.IsRoot() {
		names := []string{owner.Name}
		// A line, and --owner, may name an account by its number as well.
		if account, err := delegate.AccountOf(owner.Name); err == nil {
			names = append(names, slices.DeleteFunc(delegate.OwnerNames(account), func(name string) bool { return name == owner.Name })...)
		}
		return registry.Holder{Names: names}
	}
	return s.Holder()
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
