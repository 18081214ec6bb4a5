// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/internal/oci"
	"github.com/userns-runtime/userns-runtime/internal/rootfs"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// exec is the road of exec: it obeys the record that was made when the
// container was created, whatever the book and the bundle say by now.
func (c *call) exec(low string) error {
	d := c.newDecision()
	_, err := c.knownRuntime(low, d)
	var record lease.Record
	var flags registry.Flags
	if err == nil {
		record, flags, err = c.prepareExec(low, d)
	}
	if err == nil && record.Method == string(rootfs.Overlay) {
		if err := c.adopt(record.Rootfs); err != nil {
			d.Note = "not all of what the engine wrote is seen inside: " + err.Error()
		}
	}
	if err := c.audited(d, err); err != nil {
		return execFailed(err)
	}
	if err := c.giveStdio(record.UIDs, record.GIDs); err != nil {
		return execFailed(err)
	}
	if flags.DenySetgroups && !c.rootless() {
		if err := linux.DropGroups(); err != nil {
			return execFailed(err)
		}
	}
	return execFailed(c.execLow(low))
}

// execFailed gives every failure of exec runc's words, and the status by which
// its callers tell it from one of the process' own.
func execFailed(err error) error {
	return statusError{fmt.Errorf("exec failed: %w", err), 255}
}

// prepareExec changes the call so that the process gets the flags of the
// container.
func (c *call) prepareExec(low string, d *decision) (record lease.Record, flags registry.Flags, err error) {
	record, bundle, err := c.record(low)
	if err != nil {
		return record, flags, err
	}
	// runc goes to the directory that it knows the root filesystem by; what is below /run may
	// have been deleted.
	if !c.rootless() {
		if err := makeStageDirs(idmap.RootAs(c.subject.UIDs)); err != nil {
			return record, flags, err
		}
	}
	d.Owner, d.OwnerBy, d.Lines, d.Flags = record.Owner, "record", record.Lines, record.Flags
	d.GrantedUIDs, d.GrantedGIDs = record.UIDs.String(), record.GIDs.String()
	if flags, err = registry.ParseFlags(record.Flags); err != nil {
		return record, flags, fmt.Errorf("%w: %w", lease.ErrRecord, err)
	}
	if broken := flags.BrokenByOwner(); flags.Owned && broken != "" {
		return record, flags, fmt.Errorf("%w: it says owned and %s, which the owner of a user namespace undoes: start the container anew", lease.ErrRecord, broken)
	}
	process := processFlags(flags)
	if c.inv.Flags.Process != "" {
		d.Changes, err = c.patchProcess(flags, record)
		return record, flags, err
	}
	if err := c.checkExecUser(process, record); err != nil {
		return record, flags, err
	}
	if needsProcess(flags) {
		d.Changes, err = c.makeProcess(bundle, flags)
		return record, flags, err
	}
	if err := c.version.CheckCapNames("--cap", c.inv.Flags.Cap); err != nil {
		return record, flags, err
	}
	// runc takes the process from the bundle as it is on disk now, and its
	// flags override that.
	if process.NoNewPrivs {
		c.inv.Flags.NoNewPrivs, c.inv.Flags.NoNewPrivsSet = true, true
		d.Changes = append(d.Changes, specpatch.Change{Path: []string{"--no-new-privs"}, After: true, Why: "flag no-new-privs"})
	}
	if process.DenySetgroups && c.inv.Flags.AdditionalGIDs != nil {
		d.Changes = append(d.Changes, specpatch.Change{Path: []string{"--additional-gids"}, Before: c.inv.Flags.AdditionalGIDs, Why: "flag deny-setgroups"})
		c.inv.Flags.AdditionalGIDs = nil
	}
	return record, flags, nil
}

// patchProcess replaces the file of --process by a copy in memory that obeys
// the flags. It is read once, and runc gets what was judged.
func (c *call) patchProcess(flags registry.Flags, record lease.Record) ([]specpatch.Change, error) {
	path := c.inv.Flags.Process
	raw, err := readProcess(path)
	if err != nil {
		return nil, fmt.Errorf("--process: %w", err)
	}
	var process specs.Process
	if err := json.Unmarshal(raw, &process); err != nil {
		return nil, fmt.Errorf("--process: %s: it isn't the process of an OCI runtime specification: %w", path, err)
	}
	if err := specpatch.CheckUser("--process: user", process.User, planOf(processFlags(flags), record)); err != nil {
		return nil, err
	}
	changes, err := c.giveProcess("--process: capabilities", raw, &process, flags)
	if err != nil {
		return nil, fmt.Errorf("--process: %s: %w", path, err)
	}
	return changes, nil
}

// planOf is what was decided about the container that matters to one more process.
func planOf(flags specpatch.ProcessFlags, record lease.Record) specpatch.Plan {
	return specpatch.Plan{UIDs: record.UIDs, GIDs: record.GIDs, ProcessFlags: flags}
}

// checkExecUser refuses --user and --additional-gids with IDs that the container hasn't
// got. What isn't a number is runc's to refuse. Those that aren't given are the bundle's,
// and were judged when it was created.
func (c *call) checkExecUser(flags specpatch.ProcessFlags, record lease.Record) error {
	plan := planOf(flags, record)
	root := func(m idmap.Map) uint32 {
		if set := m.Inner(); !set.Empty() {
			return set.Ranges()[0].Start // one that there is
		}
		return 0
	}
	user := specs.User{UID: root(plan.UIDs), GID: root(plan.GIDs)}
	uid, gid, hasGID := strings.Cut(c.inv.Flags.User, ":")
	if id, err := idmap.ParseID(uid); err == nil {
		user.UID = id
	}
	if id, err := idmap.ParseID(gid); hasGID && err == nil {
		user.GID = id
	}
	for _, id := range c.inv.Flags.AdditionalGIDs {
		if id >= 0 && id < int64(idmap.Invalid) {
			user.AdditionalGids = append(user.AdditionalGids, uint32(id))
		}
	}
	return specpatch.CheckUser("--user", user, plan)
}

func readProcess(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, oci.MaxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > oci.MaxConfig {
		return nil, fmt.Errorf("%s: it is larger than %d MiB", path, oci.MaxConfig>>20)
	}
	if err := oci.CheckJSON(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, nil
}

// firstFD is the lowest descriptor above those that the caller passes on, which begin
// at 3.
func (c *call) firstFD() int { return 3 + c.inv.Flags.PreserveFDs + listenFDs(c.environ) }

// listenFDs is how many descriptors systemd passes on, which runc hands to the
// container before those of --preserve-fds (sd_listen_fds(3)).
func listenFDs(environ []string) int {
	for _, v := range environ {
		if number, ok := strings.CutPrefix(v, "LISTEN_FDS="); ok {
			if n, err := strconv.Atoi(number); err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// containerState is what the low-level runtime says of a container
// (runtime-spec runtime.md, "State").
type containerState struct {
	Pid         int               `json:"pid"`
	Bundle      string            `json:"bundle"`
	Annotations map[string]string `json:"annotations"`
}

// record is the container's record, or one rebuilt from its live maps and the
// book when it has none; and its bundle. It must agree with the maps that the container has.
func (c *call) record(low string) (record lease.Record, bundle string, err error) {
	state, err := c.state(low)
	if err != nil {
		return lease.Record{}, "", err
	}
	if state.Pid <= 0 {
		return lease.Record{}, "", errors.New("cannot exec in a stopped container")
	}
	uids, gids, err := c.liveMaps(state.Pid)
	if err != nil {
		return lease.Record{}, "", fmt.Errorf("container %q: %w", c.inv.ID, err)
	}
	text, ok := state.Annotations[specpatch.RecordAnnotation]
	if !ok {
		record, err = rebuiltRecord(c.inv.ID, uids, gids)
		return record, state.Bundle, err
	}
	if record, err = lease.ParseRecord(text); err != nil {
		return lease.Record{}, "", fmt.Errorf("container %q: %w", c.inv.ID, err)
	}
	if !record.UIDs.Equal(uids) || !record.GIDs.Equal(gids) {
		return lease.Record{}, "", fmt.Errorf("container %q: %w: it says UIDs %s, GIDs %s, and the container has %s and %s: it wasn't started by this runtime",
			c.inv.ID, lease.ErrRecord, record.UIDs, record.GIDs, uids, gids)
	}
	return record, state.Bundle, nil
}

// state asks the low-level runtime, in the caller's own words for its root.
func (c *call) state(low string) (containerState, error) {
	args := []string{}
	switch {
	case c.version.IsCrun():
		args = append(args, "--root="+c.engineRoot()) // its own default is another
	case c.inv.Global.RootSet:
		args = append(args, "--root="+c.inv.Global.Root)
	}
	cmd := exec.Command(low, append(args, "state", "--", c.inv.ID)...)
	cmd.Env = c.environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			return containerState{}, errors.New(lastMessage(string(exit.Stderr)))
		}
		return containerState{}, fmt.Errorf("low-level runtime: %s state: %w", low, err)
	}
	var state containerState
	if err := json.Unmarshal(output, &state); err != nil {
		return containerState{}, fmt.Errorf("low-level runtime: %s state: %w", low, err)
	}
	return state, nil
}

// lastMessage is what a line of runc's log says.
func lastMessage(stderr string) string {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	line := lines[len(lines)-1]
	if _, message, ok := strings.Cut(line, "msg="); ok {
		if plain, err := strconv.Unquote(message); err == nil {
			return plain
		}
		return message
	}
	return line
}

// liveMaps is the maps of a process, counted on the host.
func (c *call) liveMaps(pid int) (uids, gids idmap.Map, err error) {
	for _, side := range []struct {
		file string
		own  idmap.Map
		m    *idmap.Map
	}{{"uid_map", c.subject.UIDs, &uids}, {"gid_map", c.subject.GIDs, &gids}} {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + side.file)
		if err != nil {
			return nil, nil, err
		}
		seen, err := idmap.ParseMap(string(text))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", side.file, err)
		}
		if *side.m, err = seen.Through(side.own); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", side.file, err)
		}
	}
	return uids, gids, nil
}

// rebuiltRecord finds the lines of the book that the live maps lie in: their
// flags are what the container must have been started with.
func rebuiltRecord(id string, uids, gids idmap.Map) (lease.Record, error) {
	refused := func(why error) (lease.Record, error) {
		return lease.Record{}, fmt.Errorf("container %q has no record, and none can be rebuilt from its maps (UIDs %s, GIDs %s): %w: start it anew through userns-runtime",
			id, uids, gids, why)
	}
	if slices.ContainsFunc(uids, func(e idmap.Extent) bool { return e.OuterRange().Contains(0) }) {
		return refused(errors.New("its root is the host's root: it was started past this runtime"))
	}
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if err != nil {
		return refused(err)
	}
	all := uids.Outer().Union(gids.Outer())
	record := lease.Record{UIDs: uids, GIDs: gids}
	var lines []registry.Line
	left := all
	for _, line := range book.Lines() {
		if line.Flags.Reserved || left.Intersect(idmap.NewSet(line.Range)).Empty() {
			continue
		}
		if record.Owner != "" && record.Owner != line.Owner {
			return refused(fmt.Errorf("they lie in lines of %s and of %s (%s)", record.Owner, line.Owner, line.Where()))
		}
		record.Owner = line.Owner
		lines = append(lines, line)
		record.Lines = append(record.Lines, line.Where())
		left = left.Subtract(idmap.NewSet(line.Range))
	}
	if !left.Empty() {
		return refused(fmt.Errorf("no line of the book has %s", left))
	}
	record.Flags = registry.FlagsOf(lines).String()
	return record, nil
}
