// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// DockerFile is where dockerd reads its settings unless --config-file says otherwise.
const DockerFile = "/etc/docker/daemon.json"

// dockerSettings is what matters here of daemon.json (dockerd(8)).
type dockerSettings struct {
	DataRoot       string                   `json:"data-root"`
	Graph          string                   `json:"graph"` // data-root, before Docker 17.05
	StorageDriver  string                   `json:"storage-driver"`
	DefaultRuntime string                   `json:"default-runtime"`
	Runtimes       map[string]dockerRuntime `json:"runtimes"`
	Remap          string                   `json:"userns-remap"`
}

type dockerRuntime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs"`
	// A shim of containerd in place of a path, since Docker 23.
	Type    string         `json:"runtimeType"`
	Options map[string]any `json:"options"`
}

// The names of flags of dockerd that have more than one, the setting's own first.
var (
	dataRootFlag      = []string{"data-root", "graph", "g"}
	storageDriverFlag = []string{"storage-driver", "s"}
)

func lookDocker(h lookHost) []Setup {
	program := h.find("dockerd")
	daemons := h.daemons("dockerd")
	if program == "" && len(daemons) == 0 {
		return nil
	}
	if len(daemons) == 0 {
		return []Setup{h.docker(program, nil, nil)}
	}
	var all []Setup
	for _, d := range daemons {
		all = append(all, h.docker(cmp.Or(program, d.program), d.args, d.path()))
	}
	return all
}

// docker is the setup of a dockerd that is called with these arguments, and looks for programs in dirs.
func (h lookHost) docker(program string, args, dirs []string) Setup {
	flag := func(names ...string) string {
		value, _ := option(args, names...)
		return value
	}
	s := Setup{Engine: "docker", Program: program, File: h.path(cmp.Or(flag("config-file"), DockerFile))}
	var set dockerSettings
	data, ok, err := readSettings(s.File)
	if ok {
		s.Files = []string{s.File}
		// dockerd takes a byte order mark as well.
		data = bytes.TrimPrefix(data, []byte("\ufeff"))
		if len(bytes.TrimSpace(data)) > 0 {
			err = json.Unmarshal(data, &set)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", s.File, err)
			set = dockerSettings{}
		}
	}
	if err != nil {
		s.Problems = append(s.Problems, err)
	}
	// dockerd refuses a setting that is in both, so the order is of no matter.
	where := func(value string, names ...string) string {
		switch {
		case len(options(args, names...)) > 0:
			return "the command line of dockerd"
		case value != "":
			return s.File
		}
		return ""
	}
	name := cmp.Or(flag(dockerDefault), set.DefaultRuntime, "runc")
	s.Remap = cmp.Or(flag("userns-remap"), set.Remap)

	runtimes := map[string]Runtime{}
	for name, r := range set.Runtimes {
		runtimes[name] = h.dockerRuntime(dirs, name, r, s.File)
	}
	for _, added := range options(args, "add-runtime") {
		name, path, _ := strings.Cut(added, "=")
		runtimes[name] = h.dockerRuntime(dirs, name, dockerRuntime{Path: path}, "the command line of dockerd")
	}
	if _, ok := runtimes[name]; !ok {
		// "runc" is there by itself, as is a shim of containerd by its whole name.
		r := dockerRuntime{Path: name}
		if strings.Contains(name, ".") {
			r = dockerRuntime{Type: name}
		}
		runtimes[name] = h.dockerRuntime(dirs, name, r, where(set.DefaultRuntime, dockerDefault))
	}
	for n, r := range runtimes {
		if n == name {
			s.Default = r
		} else {
			s.Others = append(s.Others, r)
		}
	}
	slices.SortFunc(s.Others, func(a, b Runtime) int { return cmp.Compare(a.Name, b.Name) })

	dir := cmp.Or(flag(dataRootFlag...), set.DataRoot, set.Graph, "/var/lib/docker")
	store := Store{Dir: h.path(dir), Where: where(cmp.Or(set.DataRoot, set.Graph), dataRootFlag...)}
	if store.Driver = cmp.Or(flag(storageDriverFlag...), set.StorageDriver); store.Driver == "" {
		// dockerd goes on with what it has; this is where it looks.
		store.Driver = firstThere(dockerDrivers, func(driver string) []string {
			return []string{filepath.Join(store.Dir, driver, "l"), filepath.Join(store.Dir, "image", driver)}
		})
	}
	s.Stores = []Store{store}
	return s
}

// dockerDrivers is the storage drivers in the order in which dockerd prefers what it has
// (the "priority" of moby's daemon/graphdriver).
var dockerDrivers = []string{"overlay2", "fuse-overlayfs", "btrfs", "zfs", "devicemapper", "aufs", "overlay", "vfs"}

func (h lookHost) dockerRuntime(dirs []string, name string, r dockerRuntime, where string) Runtime {
	out := Runtime{Name: name, Where: where}
	binary, _ := r.Options["BinaryName"].(string)
	switch {
	case r.Type != "" && !isRuncShim(r.Type):
		out.Other = true
		out.Path = r.Type
	case r.Type != "":
		out.Path = h.findIn(dirs, cmp.Or(binary, "runc"))
	default:
		out.Path = h.findIn(dirs, cmp.Or(r.Path, name))
		out.Other = isOther(out.Path)
	}
	owner, _ := option(r.Args, "owner")
	out.Owner = cmp.Or(owner, ownerByName(out.Path))
	return out
}

// isRuncShim says whether a shim of containerd runs runc, or what is called as runc is.
func isRuncShim(kind string) bool {
	return kind == "" || strings.HasPrefix(kind, "io.containerd.runc.") || strings.HasPrefix(kind, "io.containerd.runtime.v1.")
}

// isOther knows those that have runc's command line, and make a machine or a kernel of
// their own for a container.
func isOther(path string) bool {
	base := filepath.Base(path)
	return base == "runsc" || strings.HasPrefix(base, "kata-")
}
