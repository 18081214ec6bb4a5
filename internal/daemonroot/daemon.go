// SPDX-License-Identifier: Apache-2.0

package daemonroot

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dockerFile is where dockerd reads its settings unless --config-file says otherwise.
const dockerFile = "/etc/docker/daemon.json"

// pidFiles is where a dockerd without --pidfile writes its number; /var/run is the older name.
var pidFiles = []string{"/run/docker.pid", "/var/run/docker.pid"}

// maxSettings is far above what anybody writes into settings.
const maxSettings = 4 << 20 // bytes

// daemon is a dockerd that runs, and has its data in the super-root.
type daemon struct {
	pid int
	rel string // of its data root from the super-root; "" is that itself
	by  string // ", by /run/docker.pid" where it isn't known by its name
}

// daemons is the dockerds whose data root is the super-root, or one of its roots. A process is one by
// its name, or by a pid file of dockerd's.
func (s *super) daemons() (found []daemon, err error) {
	proc := cmp.Or(s.host.Proc, "/proc")
	pids, err := processes(proc)
	if err != nil {
		return nil, err
	}
	by := make(map[int]string)
	for _, file := range pidFiles {
		text, err := os.ReadFile(s.host.Root + file)
		if pid, bad := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bad == nil && slices.Contains(pids, pid) && by[pid] == "" {
			by[pid] = fmt.Sprintf(", by %s (if that isn't dockerd, remove the file)", file)
		}
	}
	for _, pid := range pids {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		text, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(text) == 0 {
			continue // it has ended, or is the kernel's
		}
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if filepath.Base(args[0]) != "dockerd" && by[pid] == "" {
			continue
		}
		rel, ok, err := s.dataOf(dir, args[1:])
		switch {
		case err != nil && ended(err):
		case err != nil:
			return nil, fmt.Errorf("dockerd (process %d): its data root can't be known: %w: stop it", pid, err)
		case ok:
			found = append(found, daemon{pid, rel, by[pid]})
		}
	}
	return found, nil
}

// dataOf is the data root of a dockerd with these arguments, if it is in the super-root.
func (s *super) dataOf(proc string, args []string) (rel string, ok bool, err error) {
	root, err := os.Open(proc + "/root")
	if err != nil {
		return "", false, err
	}
	defer root.Close()
	path := option(args, "data-root", "graph", "g")
	if path == "" {
		file := option(args, "config-file")
		f, err := openIn(root, cmp.Or(file, dockerFile), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
		switch {
		case err == nil:
			path, err = dataRootOf(f)
			f.Close()
			if err != nil {
				return "", false, err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return "", false, err
		}
	}
	if path == "" {
		path = DefaultData
	}
	f, err := openIn(root, path, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", false, err
	}
	return s.which(st)
}

// which is the data root that a directory is, by its inode.
func (s *super) which(st unix.Stat_t) (rel string, ok bool, err error) {
	same := func(other unix.Stat_t) bool { return st.Dev == other.Dev && st.Ino == other.Ino }
	if same(s.stat) {
		return "", true, nil
	}
	names, err := s.names(".")
	if err != nil {
		return "", false, err
	}
	for _, name := range names {
		if _, isRoot := ParseIdentity(name); !isRoot {
			continue
		}
		rel := filepath.Join(name, dataName)
		if other, found, err := s.look(rel); err == nil && found && same(other) {
			return rel, true, nil
		}
	}
	return "", false, nil
}

// openIn opens a path as a process with that root sees it.
func openIn(root *os.File, path string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), path, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// dataRootOf is what daemon.json has as the data root, "" if it has none.
func dataRootOf(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", nil // such as /dev/null
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSettings))
	if err != nil {
		return "", err
	}
	// dockerd takes a byte order mark, and an empty file, as well.
	if text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff"))); len(text) == 0 {
		return "", nil
	}
	var set struct {
		DataRoot string `json:"data-root"`
		Graph    string `json:"graph"` // before Docker 17.05
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return "", fmt.Errorf("%s: %w", f.Name(), err)
	}
	return cmp.Or(set.DataRoot, set.Graph), nil
}

// option is the value of a flag on dockerd's command line, the last one's: --name VALUE, --name=VALUE, -g VALUE.
func option(args []string, names ...string) (value string) {
	for i := 0; i < len(args); i++ {
		word, v, equals := strings.Cut(args[i], "=")
		if !strings.HasPrefix(word, "-") || !slices.Contains(names, strings.TrimLeft(word, "-")) {
			continue
		}
		if !equals && i+1 < len(args) {
			i++
			v = args[i]
		}
		value = v
	}
	return value
}
