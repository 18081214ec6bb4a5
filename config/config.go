// SPDX-License-Identifier: Apache-2.0

package config

import (
	_ "embed"
	"path/filepath"
	"strings"
)

// Path is where the configuration is read from unless --config says otherwise.
const Path = "/etc/userns-runtime/config.toml"

// AnnotationPrefix comes before the names of Config.Annotations in a bundle's
// config.json.
const AnnotationPrefix = "io.userns-runtime."

// The names Config.Annotations may hold.
const (
	AnnotationOwner      = "owner"
	AnnotationStableName = "stable-name"
	AnnotationSize       = "size"
)

// DefaultTOML is the shipped file: every key with its default, explained.
// Reading it gives Default.
//
//go:embed default.toml
var DefaultTOML string

// Config is what a host's administrator decided. docs/configuration.md has
// the table of all keys.
type Config struct {
	// Runtimes are the low-level runtimes, as absolute paths. The first one
	// that exists is used.
	Runtimes []string
	// DefaultOwner is who an engine's containers belong to when nothing else
	// says so. Empty means nobody: such a container is refused.
	DefaultOwner string
	// Annotations are the names, without AnnotationPrefix, that a bundle may
	// decide by.
	Annotations  []string
	Shift        Shift
	BindFallback BindFallback
	// RootfsDirs are the directories, beside the bundle's own, below which a
	// plain directory may lie that is idmapped as a root filesystem: root
	// inside is root there.
	RootfsDirs    []string
	ExposedRootfs ExposedRootfs
	Audit         Audit
	Rules         []Rule
	Binds         []Bind
	Pins          []Pin
}

// Shift is how a root filesystem gets the IDs of its container.
type Shift string

// ShiftAuto takes idmapped mounts, and refuses where there are none;
// ShiftChown changes the owners on disk there, until delete.
const (
	ShiftAuto  Shift = "auto"
	ShiftChown Shift = "chown"
)

// BindFallback is what becomes of a bind mount that should be idmapped and
// lies on a filesystem that can't be.
type BindFallback string

// BindFallbackError refuses the container; BindFallbackPlain binds it as it
// is, so that root inside is nobody there.
const (
	BindFallbackError BindFallback = "error"
	BindFallbackPlain BindFallback = "plain"
)

// ExposedRootfs is whether a plain directory that users of the host other than
// root can reach may be idmapped as a root filesystem. A setuid program that
// root inside leaves there belongs to root outside too.
type ExposedRootfs string

// ExposedRootfsRefuse refuses such a container; ExposedRootfsAllow starts it.
const (
	ExposedRootfsRefuse ExposedRootfs = "refuse"
	ExposedRootfsAllow  ExposedRootfs = "allow"
)

// Audit is where decisions are recorded.
type Audit struct {
	Path string
	Mode AuditMode
}

// AuditMode is what follows when a decision can't be recorded.
type AuditMode string

// AuditWarn says so on standard error; AuditRequire refuses the container.
const (
	AuditWarn    AuditMode = "warn"
	AuditRequire AuditMode = "require"
)

// Rule gives an owner to the engine whose --root is Root or lies below it.
type Rule struct{ Root, Owner string }

// Bind sets Path, and what is below it, aside for the containers of Owner whose grant has the flag
// idmap-binds: on bind mounts of it an ID inside is the same on disk.
type Bind struct{ Path, Owner string }

// Pin is a namespace of Owner that is made at boot and kept.
type Pin struct{ Owner, Name string }

// Default is the settings of a host without a file. It is a literal, and not
// DefaultTOML parsed, since it is on the way of every container that starts.
func Default() Config {
	return Config{
		Runtimes: []string{
			"/usr/libexec/userns-runtime/runc",
			"/usr/bin/runc",
			"/usr/sbin/runc",
		},
		DefaultOwner:  "dockroot",
		Shift:         ShiftAuto,
		BindFallback:  BindFallbackError,
		ExposedRootfs: ExposedRootfsRefuse,
		Audit: Audit{
			Path: "/var/log/userns-runtime/audit.jsonl",
			Mode: AuditWarn,
		},
	}
}

// OwnerByRoot is the owner that the rules give to an engine's state directory:
// by the rule of that very path, else of its nearest ancestor. Paths are
// compared by their components, as they are written: root should be absolute
// and free of symlinks, and a relative one matches nothing.
func (c Config) OwnerByRoot(root string) (owner string, ok bool) {
	if !filepath.IsAbs(root) {
		return "", false
	}
	root = filepath.Clean(root)
	longest := -1
	for _, r := range c.Rules {
		below := root == r.Root || r.Root == "/" || strings.HasPrefix(root, r.Root+"/")
		if below && len(r.Root) > longest {
			owner, longest = r.Owner, len(r.Root)
		}
	}
	return owner, longest >= 0
}
