// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
)

// ConfigName is the file of a bundle that holds its specification (runtime-spec
// bundle.md).
const ConfigName = "config.json"

// MaxConfig is how many bytes of config.json are read. The largest that engines
// are known to write are some hundred KiB.
const MaxConfig = 4 << 20

// ErrAmbiguous is wrapped by errors about a config.json that two readers could
// understand differently: what is judged must be what is run.
var ErrAmbiguous = errors.New("it can be read in more than one way")

// Bundle is a config.json, read once.
type Bundle struct {
	// Dir is the bundle's directory: absolute, free of symbolic links.
	Dir string
	// Raw is every byte of config.json.
	Raw []byte
	// Spec is what Raw says, as runc reads it, without the members that nobody
	// judges: linux.seccomp and the like are nil, and linux.resources has only devices.
	Spec *specs.Spec

	file unix.Stat_t
	dir  unix.Stat_t
}

// OpenBundle reads the config.json of the bundle in the directory dir.
//
// It must be a regular file of at most [MaxConfig] bytes that holds one JSON
// object in UTF-8, no member of it named twice. Errors name the file.
func OpenBundle(dir string) (*Bundle, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	b := &Bundle{Dir: real}
	if err := unix.Stat(real, &b.dir); err != nil {
		return nil, fmt.Errorf("bundle: %w", &os.PathError{Op: "stat", Path: real, Err: err})
	}
	path := filepath.Join(real, ConfigName)
	if b.Raw, err = readConfig(path, &b.file); err != nil {
		return nil, err
	}
	if b.Spec, err = decodeSpec(b.Raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// readConfig reads the file in one go. It is opened without blocking, since it
// could be a FIFO.
func readConfig(path string, st *unix.Stat_t) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s: it is a symbolic link, whose target could be replaced while it is judged: put the file itself there", path)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := unix.Fstat(fd, st); err != nil {
		return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s: it isn't a regular file: expected a specification in JSON (`runc spec` writes one)", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxConfig {
		return nil, fmt.Errorf("%s: it is larger than %d MiB: expected a specification", path, MaxConfig>>20)
	}
	return raw, nil
}

// decodeSpec reads a specification as runc does, and refuses what another
// reader could take for something else.
func decodeSpec(raw []byte) (*specs.Spec, error) {
	if err := CheckJSON(raw); err != nil {
		return nil, err
	}
	var members judged
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, fmt.Errorf("it isn't an OCI runtime specification: %w", err)
	}
	return members.spec(), nil
}

// judged is the members of a specification that are judged or changed. The
// first use of a type costs encoding/json a look at all types below it; those of
// the whole specification, other systems' among them, would take longer than
// all else that is done with a bundle. Bytes of other members are never touched.
type judged struct {
	Version     string            `json:"ociVersion"`
	Process     *specs.Process    `json:"process"`
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname"`
	Domainname  string            `json:"domainname"`
	Mounts      []specs.Mount     `json:"mounts"`
	Hooks       *specs.Hooks      `json:"hooks"`
	Annotations map[string]string `json:"annotations"`
	Linux       *struct {
		UIDMappings       []specs.LinuxIDMapping          `json:"uidMappings"`
		GIDMappings       []specs.LinuxIDMapping          `json:"gidMappings"`
		Sysctl            map[string]string               `json:"sysctl"`
		CgroupsPath       string                          `json:"cgroupsPath"`
		Namespaces        []specs.LinuxNamespace          `json:"namespaces"`
		Devices           []specs.LinuxDevice             `json:"devices"`
		NetDevices        map[string]specs.LinuxNetDevice `json:"netDevices"`
		RootfsPropagation string                          `json:"rootfsPropagation"`
		MaskedPaths       []string                        `json:"maskedPaths"`
		ReadonlyPaths     []string                        `json:"readonlyPaths"`
		MountLabel        string                          `json:"mountLabel"`
		Seccomp           *struct {
			ListenerPath string `json:"listenerPath"`
		} `json:"seccomp"`
		Resources *struct {
			Devices []specs.LinuxDeviceCgroup `json:"devices"`
		} `json:"resources"`
	} `json:"linux"`
}

func (j judged) spec() *specs.Spec {
	spec := &specs.Spec{
		Version: j.Version, Process: j.Process, Root: j.Root, Hostname: j.Hostname, Domainname: j.Domainname,
		Mounts: j.Mounts, Hooks: j.Hooks, Annotations: j.Annotations,
	}
	if l := j.Linux; l != nil {
		spec.Linux = &specs.Linux{
			UIDMappings: l.UIDMappings, GIDMappings: l.GIDMappings, Sysctl: l.Sysctl, CgroupsPath: l.CgroupsPath,
			Namespaces: l.Namespaces, Devices: l.Devices, NetDevices: l.NetDevices, RootfsPropagation: l.RootfsPropagation,
			MaskedPaths: l.MaskedPaths, ReadonlyPaths: l.ReadonlyPaths, MountLabel: l.MountLabel,
		}
		if l.Seccomp != nil {
			spec.Linux.Seccomp = &specs.LinuxSeccomp{ListenerPath: l.Seccomp.ListenerPath}
		}
		if l.Resources != nil {
			spec.Linux.Resources = &specs.LinuxResources{Devices: l.Resources.Devices}
		}
	}
	return spec
}

// CheckJSON refuses text that isn't exactly one JSON object in UTF-8, and one
// in which an object names a member twice, for which readers take the first,
// the last, or a mixture. Names that differ in upper and lower case only are one
// name for some readers, runc among them, and two for others; they are refused
// but in the objects whose names are data ([caseful]). Errors say at which byte.
func CheckJSON(raw []byte) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return errors.New("it is empty: expected a JSON object")
	}
	if !utf8.Valid(raw) {
		return errors.New("it isn't UTF-8, which JSON is written in (RFC 8259, section 8.1)")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := checkValue(decoder, "", 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("byte %d: %w", decoder.InputOffset(), err)
	}
	if bytes.TrimSpace(raw)[0] != '{' {
		return errors.New("expected a JSON object")
	}
	if rest := bytes.TrimSpace(raw[decoder.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("byte %d: %w: something follows the JSON object", decoder.InputOffset(), ErrAmbiguous)
	}
	return nil
}

// maxDepth of nested values; a specification has less than ten.
const maxDepth = 100

// caseful says whether the names in the object called name are data: keys of
// annotations, of sysctls, of cgroup files.
func caseful(name string) bool { return name == "annotations" || name == "sysctl" || name == "unified" }

// checkValue checks the next value, which is the member called name.
func checkValue(decoder *json.Decoder, name string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d values inside of each other", maxDepth)
	}
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	opening, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	var seen map[string]bool
	if opening == '{' {
		seen = map[string]bool{}
	}
	for decoder.More() {
		key := ""
		if seen != nil {
			token, err := decoder.Token()
			if err != nil {
				return err
			}
			key, _ = token.(string)
			folded := key
			if !caseful(name) {
				folded = fold(key)
			}
			if seen[folded] {
				return fmt.Errorf("%w: member %q is there twice, perhaps in other letters", ErrAmbiguous, key)
			}
			seen[folded] = true
		}
		if err := checkValue(decoder, key, depth+1); err != nil {
			return err
		}
	}
	_, err = decoder.Token() // the closing one
	return err
}

// fold makes names equal that encoding/json takes for one: those that are equal
// under simple Unicode case folding, so "ſ" is "s" too.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for first := r; ; {
			// Upwards through the runes that fold alike, then to the lowest.
			if r = unicode.SimpleFold(r); r <= first {
				return r
			}
		}
	}, name)
}

// Patched is config.json with the edits made, and every other byte as it was.
// want is the specification that the edits are meant to give.
//
// The result is read again as runc will read it: where it says anything else
// than want, because of a member in other letters ("Linux" beside "linux"), the
// error wraps [ErrAmbiguous].
func (b *Bundle) Patched(edits []Edit, want *specs.Spec) ([]byte, error) {
	path := filepath.Join(b.Dir, ConfigName)
	patched, err := EditJSON(b.Raw, edits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	got, err := decodeSpec(patched)
	if err == nil {
		err = same(got, want)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: once changed: %w", path, err)
	}
	return patched, nil
}

// EditProcess makes the edits in the process of a specification, a file of its
// own for runc's exec, as [Bundle.Patched] does in the whole.
func EditProcess(raw []byte, edits []Edit, want *specs.Process) ([]byte, error) {
	patched, err := EditJSON(raw, edits)
	if err != nil {
		return nil, err
	}
	if err := CheckJSON(patched); err != nil {
		return nil, err
	}
	got := new(specs.Process)
	if err := json.Unmarshal(patched, got); err != nil {
		return nil, err
	}
	return patched, same(got, want)
}

func same[T any](got, want *T) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%w: look for members whose names aren't written as in the specification", ErrAmbiguous)
	}
	return nil
}

// CheckPrivate refuses a bundle that somebody other than root or the caller
// could change between the moment it is judged and the moment the low-level
// runtime reads it: renaming a file over a mounted one takes the mount away.
//
// inside says of a UID whether it is one of the container's own, to whom an
// engine that chose the maps itself gives the bundle. Then cover is true: the
// low-level runtime must be shown another directory in its place.
func (b *Bundle) CheckPrivate(inside func(uid uint32) bool) (cover bool, err error) {
	self := uint32(os.Geteuid())
	for _, it := range []struct {
		path string
		st   *unix.Stat_t
	}{{b.Dir, &b.dir}, {filepath.Join(b.Dir, ConfigName), &b.file}} {
		if it.st.Uid != 0 && it.st.Uid != self {
			if !inside(it.st.Uid) {
				return false, fmt.Errorf("bundle: %s: UID %d owns it, and could change it while it is judged: expected root: run `chown root:root %s`", it.path, it.st.Uid, it.path)
			}
			cover = true
		}
		if it.st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0 {
			return false, fmt.Errorf("bundle: %s: its mode is %04o, so others than its owner could change it while it is judged: run `chmod go-w %s`", it.path, it.st.Mode&0o7777, it.path)
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(b.Dir, &fs); err != nil {
		return false, fmt.Errorf("bundle: %w", &os.PathError{Op: "statfs", Path: b.Dir, Err: err})
	}
	if uint32(fs.Type) == unix.FUSE_SUPER_MAGIC {
		return false, fmt.Errorf("bundle: %s: it is on FUSE, whose server may show another file after each look: move it to a filesystem of the kernel's own", b.Dir)
	}
	return cover, nil
}

// OpenConfig opens config.json in the directory dir, for mounting over it. It
// must be the very file that was judged.
func (b *Bundle) OpenConfig(dir string) (*os.File, error) {
	path := filepath.Join(b.Dir, ConfigName)
	fd, err := unix.Open(filepath.Join(dir, ConfigName), unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if err := sameMount(dir, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(&os.PathError{Op: "fstat", Path: path, Err: err}, f.Close())
	}
	if st.Dev != b.file.Dev || st.Ino != b.file.Ino {
		return nil, errors.Join(fmt.Errorf("%s: it was replaced while it was judged", path), f.Close())
	}
	return f, nil
}

// sameMount refuses a file that is mounted over its name in dir. The file itself
// then lies in a directory that nobody has judged, and whoever removes it there
// takes away the mount, and ours on top of it.
func sameMount(dir string, f *os.File) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	dirID, err := linux.MountID(d)
	if err != nil {
		return err
	}
	fileID, err := linux.MountID(f)
	if err != nil {
		return err
	}
	if dirID != fileID {
		return fmt.Errorf("%s: another file is mounted there: unmount it, and put the file itself there", f.Name())
	}
	return nil
}

// Mode is the permission bits of config.json.
func (b *Bundle) Mode() os.FileMode { return os.FileMode(b.file.Mode & 0o777) }

// Enter makes the bundle's directory the working directory, and refuses one
// that isn't the judged one any more.
func (b *Bundle) Enter() error {
	if err := os.Chdir(b.Dir); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(".", &st); err != nil {
		return fmt.Errorf("bundle: %w", &os.PathError{Op: "stat", Path: b.Dir, Err: err})
	}
	if st.Dev != b.dir.Dev || st.Ino != b.dir.Ino {
		return fmt.Errorf("bundle: %s: it was replaced while it was judged", b.Dir)
	}
	return nil
}
