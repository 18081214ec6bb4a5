// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"strings"
)

// overlayOptions is what /proc/self/mountinfo says of an overlay
// (Documentation/filesystems/overlayfs.rst).
type overlayOptions struct {
	// lower is the read-only layers, the topmost first; data is those below
	// them that hold nothing but the content of files. As the mounter named
	// them: perhaps relative to a directory that only it knew.
	lower, data []string
	// upper is the writable layer; empty if there is none.
	upper string
	// readOnly says that nothing can be written, whatever its mounts allow.
	readOnly bool
	// kept is the options that the overlay to be built shall have too.
	kept []overlayOption
}

type overlayOption struct {
	name, value string
	flag        bool // it has no value
}

// What becomes of an option. One that isn't there could change what the files
// are, and is refused.
var overlayKnown = map[string]optionFate{
	"lowerdir": layerOption, "lowerdir+": layerOption, "datadir+": layerOption, "upperdir": layerOption,
	// Our own work directory has to lie on the shifted mount of the upper one.
	"workdir": dropOption,
	// Two overlays on one upper directory can't share an index; and without an
	// index there is no export (the kernel says EINVAL).
	"index": dropOption, "nfs_export": dropOption,
	// Which the kernel chooses by what is in the upper directory.
	"uuid": dropOption,
	// Of the mount, not of the filesystem; and what the kernel adds by itself.
	"rw": dropOption, "ro": dropOption, "seclabel": dropOption,

	"metacopy": keepOption, "redirect_dir": keepOption, "userxattr": keepOption, "xino": keepOption,
	"volatile": keepOption, "fsync": keepOption, "verity": keepOption, "default_permissions": keepOption,
	"context": keepOption, "fscontext": keepOption, "defcontext": keepOption, "rootcontext": keepOption,
}

type optionFate int

const (
	unknownOption optionFate = iota
	layerOption
	keepOption
	dropOption
)

// parseOverlay reads the options of an overlay, as the last field of its line in
// /proc/self/mountinfo has them.
func parseOverlay(text string) (overlayOptions, error) {
	var o overlayOptions
	for _, option := range splitOptions(text) {
		name, value, hasValue := strings.Cut(option, "=")
		value = unescapeOctal(value)
		switch overlayKnown[name] {
		case layerOption:
			switch name {
			case "lowerdir":
				o.lower, o.data = splitLayers(value)
			case "lowerdir+":
				o.lower = append(o.lower, value)
			case "datadir+":
				o.data = append(o.data, value)
			case "upperdir":
				o.upper = value
			}
		case keepOption:
			// The kernel puts a label in quotes, since it may have commas in it.
			value = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
			o.kept = append(o.kept, overlayOption{name, value, !hasValue})
		case dropOption:
			o.readOnly = o.readOnly || name == "ro"
		default:
			return overlayOptions{}, fmt.Errorf("its option %q isn't known to this build, and may change what its files are", option)
		}
	}
	if len(o.lower) == 0 {
		return overlayOptions{}, fmt.Errorf("no layer is named in its options")
	}
	return o, nil
}

// volatile says whether the overlay doesn't wait for the disk. Its work directory
// can be used once.
func (o overlayOptions) volatile() bool {
	for _, option := range o.kept {
		if option.name == "volatile" || (option.name == "fsync" && option.value == "volatile") {
			return true
		}
	}
	return false
}

// splitOptions parts a list at its commas, but for those in quotes.
func splitOptions(text string) []string {
	var out []string
	start, quoted := 0, false
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted:
			out = append(out, text[start:i])
			start = i + 1
		}
	}
	if start < len(text) {
		out = append(out, text[start:])
	}
	return out
}

// unescapeOctal takes back what the kernel writes for spaces, commas and
// backslashes in a file of /proc: a backslash and three octal digits.
func unescapeOctal(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	octal := func(c byte) bool { return c >= '0' && c <= '7' }
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) && octal(text[i+1]) && octal(text[i+2]) && octal(text[i+3]) {
			b.WriteByte((text[i+1]-'0')<<6 | (text[i+2]-'0')<<3 | (text[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// splitLayers parts the value of lowerdir: colons between layers, two before one
// that holds only data, a backslash before a character that is meant itself.
func splitLayers(value string) (lower, data []string) {
	var layer strings.Builder
	colons, started := 0, false
	end := func() {
		if !started {
			return
		}
		if colons > 1 {
			data = append(data, layer.String())
		} else {
			lower = append(lower, layer.String())
		}
		layer.Reset()
		colons, started = 0, false
	}
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == ':' {
			end()
			colons++
			continue
		}
		if c == '\\' && i+1 < len(value) {
			i++
			c = value[i]
		}
		started = true
		layer.WriteByte(c)
	}
	end()
	return lower, data
}

// joinLayers is the twin of [splitLayers].
func joinLayers(lower, data []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	var b strings.Builder
	for i, layer := range lower {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(escape.Replace(layer))
	}
	for _, layer := range data {
		b.WriteString("::" + escape.Replace(layer))
	}
	return b.String()
}
