// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// skipped says whether one of the patterns matches.
func skipped(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		match, _ := path.Match(p, name) // they were tried before
		return match
	})
}

func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("extended attributes to be skipped: %q: %w", p, err)
		}
	}
	return nil
}

// without is the attributes that no pattern matches.
func without(all []Xattr, patterns []string) []Xattr {
	if len(patterns) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(x Xattr) bool { return skipped(x.Name, patterns) })
}

// XattrError says that a file can't get an extended attribute that its entry has.
type XattrError struct {
	Name string
	err  error
}

func (e *XattrError) Error() string { return fmt.Sprintf("extended attribute %s: %s", e.Name, e.err) }

func (e *XattrError) Unwrap() error { return e.err }

// overlaysOwn refuses attributes that overlay believes.
func overlaysOwn(e *Entry) error {
	for _, x := range e.Xattrs {
		if strings.HasPrefix(x.Name, overlayXattrs) {
			return &XattrError{x.Name, errors.New("is overlay's own, and not for an archive to set: expected whiteouts as .wh.NAME, or that it is skipped")}
		}
	}
	return nil
}

// refusedXattr is the error of a filesystem that doesn't take an attribute.
func refusedXattr(x Xattr, err error) error {
	if in, ok := errors.AsType[*os.PathError](err); ok {
		err = in.Err
	}
	return &XattrError{x.Name, fmt.Errorf("%d bytes: is refused by the filesystem: %w: expected one that takes it, or that it is skipped", len(x.Value), err)}
}

// strip removes what a file may have got from elsewhere than its entry, an earlier entry
// or the default ACL of its directory. Labels that the kernel gives to every file stay,
// as does that a directory is opaque.
func (u *unpacking) strip(a linux.At, e *Entry) error {
	names, err := a.Xattrs()
	if err != nil {
		return err
	}
	for _, name := range names {
		ours := strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") && name != overlayOpaque ||
			name == xattrAccess || name == xattrDefault || name == xattrCaps
		if !ours || slices.ContainsFunc(e.Xattrs, func(x Xattr) bool { return x.Name == name }) {
			continue
		}
		if err := a.RemoveXattr(name); err != nil && !errors.Is(err, linux.ErrNoXattr) {
			return err
		}
	}
	return nil
}

// overlayState is what overlay's own attributes say of a file.
type overlayState struct{ opaque, white bool }

// xattrs puts the attributes of a file into its entry.
func (p *packer) xattrs(a linux.At, e *Entry) (own overlayState, err error) {
	names, err := a.Xattrs()
	if err != nil {
		return own, err
	}
	slices.Sort(names)
	for _, name := range names {
		kept := strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.") ||
			name == xattrAccess || name == xattrDefault
		if !kept || skipped(name, p.SkipXattrs) {
			continue
		}
		value, err := a.Xattr(name)
		if errors.Is(err, linux.ErrNoXattr) {
			return own, errChanged
		}
		if err != nil {
			return own, err
		}
		if strings.HasPrefix(name, overlayXattrs) {
			if err := own.take(name, value, p.Whiteouts); err != nil {
				return own, err
			}
			continue
		}
		e.Xattrs = append(e.Xattrs, Xattr{name, value})
	}
	return own, nil
}

// take looks at one of overlay's own attributes.
func (o *overlayState) take(name string, value []byte, w Whiteouts) error {
	switch name {
	case overlayNoData, overlayElse:
		return fmt.Errorf("has overlay's attribute %s: what it holds is in a lower layer: expected a tree that is whole: pack a mount of the overlay", name)
	case overlayOpaque:
		o.opaque = string(value) == "y"
	case overlayWhite:
		o.white = true
	}
	if (o.opaque || o.white) && w == OCIWhiteouts {
		return fmt.Errorf("has overlay's attribute %s: expected whiteouts that are files, and none of overlay's", name)
	}
	return nil
}
