// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// schema is every key there is, each with where it goes in c and what it takes.
func schema(c *Config) []field {
	return []field{
		list("runtimes", &c.Runtimes, aFile, true),
		text("default-owner", &c.DefaultOwner, anOwnerOrNone),
		list("annotations", &c.Annotations, oneOf(AnnotationOwner, AnnotationStableName, AnnotationSize), false),
		text("shift", &c.Shift, oneOf(ShiftAuto, ShiftChown)),
		text("bind-fallback", &c.BindFallback, oneOf(BindFallbackError, BindFallbackPlain)),
		list("rootfs-dirs", &c.RootfsDirs, aDir, false),
		text("exposed-rootfs", &c.ExposedRootfs, oneOf(ExposedRootfsRefuse, ExposedRootfsAllow)),
		group("audit",
			text("path", &c.Audit.Path, aFile),
			text("mode", &c.Audit.Mode, oneOf(AuditRequire, AuditWarn))),
		tables("rule", &c.Rules, func(e *Rule) []field {
			return []field{text("root", &e.Root, aPath), text("owner", &e.Owner, anOwner)}
		}),
		tables("bind", &c.Binds, func(e *Bind) []field {
			return []field{text("path", &e.Path, aPath), text("owner", &e.Owner, anOwner)}
		}),
		tables("pin", &c.Pins, func(e *Pin) []field {
			return []field{text("owner", &e.Owner, aPinName), text("name", &e.Name, aPinName)}
		}),
	}
}

// field is a key of a table. read puts a value of the file where it belongs or
// refuses it.
type field struct {
	name     string
	expected string
	required bool
	fields   []field // of a table
	read     func(r *reader, path string, v any)
}

// check is a kind of string: whether one is of it, and how to say what is.
type check struct {
	ok       func(string) bool
	expected string
}

func text[T ~string](name string, to *T, is check) field {
	return field{name: name, expected: is.expected, read: func(r *reader, path string, v any) {
		if s, ok := r.text(path, v, is); ok {
			*to = T(s)
		}
	}}
}

func list(name string, to *[]string, is check, nonEmpty bool) field {
	expected := "an array of strings, each " + is.expected
	return field{name: name, expected: expected, read: func(r *reader, path string, v any) {
		values, ok := v.([]any)
		if !ok {
			r.refuse(path, "is %s: expected %s", kind(v), expected)
			return
		}
		if nonEmpty && len(values) == 0 {
			r.refuse(path, "is empty: expected %s", expected)
		}
		*to = nil
		for i, v := range values {
			if s, ok := r.text(fmt.Sprintf("%s[%d]", path, i), v, is); ok {
				*to = append(*to, s)
			}
		}
	}}
}

func group(name string, fields ...field) field {
	return field{name: name, fields: fields, read: func(r *reader, path string, v any) {
		doc, ok := v.(map[string]any)
		if !ok {
			r.refuse(path, "is %s: expected a table, [%s]", kind(v), name)
			return
		}
		r.table(path, doc, fields)
	}}
}

// tables is a list of tables, all of whose fields are required. An entry that
// was refused is in the list too, with what could be read of it.
func tables[E any](name string, to *[]E, fields func(*E) []field) field {
	return field{name: name, fields: fields(new(E)), read: func(r *reader, path string, v any) {
		values, ok := v.([]any)
		if !ok {
			r.refuse(path, "is %s: expected an array of tables, [[%s]]", kind(v), name)
			return
		}
		for i, v := range values {
			at := fmt.Sprintf("%s[%d]", path, i)
			doc, ok := v.(map[string]any)
			if !ok {
				r.refuse(at, "is %s: expected a table, [[%s]]", kind(v), name)
			}
			var e E
			fs := fields(&e)
			for i := range fs {
				fs[i].required = true
			}
			if ok {
				r.table(at, doc, fs)
			}
			*to = append(*to, e)
		}
	}}
}

func (r *reader) text(path string, v any, is check) (string, bool) {
	s, ok := v.(string)
	if !ok {
		r.refuse(path, "is %s: expected a string, %s", kind(v), is.expected)
		return "", false
	}
	if !is.ok(s) {
		r.refuse(path, "is %q: expected %s", s, is.expected)
		return "", false
	}
	return s, true
}

func kind(v any) string {
	switch v := v.(type) {
	case string:
		return "a string"
	case bool, int64, float64:
		return fmt.Sprint(v)
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}

const anOwnerIs = "a name as in the book /etc/usernamespaces: at most 256 bytes, printable, no colon, no space, no # at its start"

// These are laid out by the compiler: nothing runs at start-up.
var (
	aPath = check{cleanAbs, `an absolute path without "..", "//" or a slash at its end`}
	aFile = check{
		func(s string) bool { return cleanAbs(s) && s != "/" },
		`an absolute path of a file, without "..", "//" or a slash at its end`,
	}
	aDir = check{
		func(s string) bool { return cleanAbs(s) && s != "/" },
		`an absolute path of a directory other than /, without "..", "//" or a slash at its end`,
	}
	anOwner       = check{ownerName, anOwnerIs}
	anOwnerOrNone = check{
		func(s string) bool { return s == "" || ownerName(s) },
		anOwnerIs + `, or "" for nobody`,
	}
	aPinName = check{
		func(s string) bool {
			return ownerName(s) && len(s) <= maxFileName && s != "." && s != ".." && !strings.Contains(s, "/")
		},
		"a name as in the book /etc/usernamespaces, without slashes and of at most 255 bytes: it becomes a file's name",
	}
)

// maxFileName is the most bytes of a file's name (NAME_MAX, limits.h).
const maxFileName = 255

func cleanAbs(s string) bool {
	return filepath.IsAbs(s) && filepath.Clean(s) == s && !strings.ContainsFunc(s, unicode.IsControl)
}

func ownerName(s string) bool {
	return s != "" && len(s) <= 256 && utf8.ValidString(s) && s[0] != '#' &&
		!strings.ContainsFunc(s, func(c rune) bool {
			return c == ':' || unicode.IsSpace(c) || !unicode.IsPrint(c)
		})
}

func oneOf[T ~string](values ...T) check {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", v)
	}
	return check{
		func(s string) bool { return slices.Contains(values, T(s)) },
		strings.Join(quoted, " or "),
	}
}
