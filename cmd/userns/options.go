// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// execOptions is the command line of exec. Options that unshare(1) of util-linux 2.38
// has too have its names and its meaning.
type execOptions struct {
	maps mapOptions
	// namespaces is those to be made beside the user namespace (clone(2), CLONE_NEW*).
	namespaces uintptr
	fork       bool
	// mountProc is where a proc filesystem is mounted, "" for nowhere.
	mountProc string
	// propagation is the flags of mount(2) for a new mount namespace, 0 for as it is.
	propagation uintptr
	root, wd    string
	uid, gid    *uint32 // -S and -G, inner IDs
	keepCaps    bool
	deathSignal syscall.Signal
	// offsets is the lines of /proc/PID/timens_offsets.
	offsets string
	help    bool
	version bool
	command []string
}

// mapOptions is which IDs are asked for.
type mapOptions struct {
	uids, gids idmap.Map // the raw ones; empty if none are given
	mode       string    // --map, "" if it isn't given
	root       bool      // -r
	current    bool      // -c
	setgroups  string    // "allow", "deny" or ""
}

// The words of --map.
const (
	mapAuto   = "auto"
	mapRoot   = "root"
	mapKeepID = "keep-id"
)

// The words of --setgroups, as the kernel has them (user_namespaces(7)).
const (
	setgroupsAllow = "allow"
	setgroupsDeny  = "deny"
)

// namespaceFlags is the options that make a namespace.
var namespaceFlags = [...]struct {
	long, short string
	flag        uintptr
	usage       string
}{
	{"mount", "m", unix.CLONE_NEWNS, "a new mount namespace"},
	{"uts", "u", unix.CLONE_NEWUTS, "a new UTS namespace (host name)"},
	{"ipc", "i", unix.CLONE_NEWIPC, "a new IPC namespace"},
	{"net", "n", unix.CLONE_NEWNET, "a new network namespace"},
	{"pid", "p", unix.CLONE_NEWPID, "a new PID namespace, for the children of PROGRAM; with --fork for PROGRAM itself"},
	{"cgroup", "C", unix.CLONE_NEWCGROUP, "a new cgroup namespace"},
	{"time", "T", unix.CLONE_NEWTIME, "a new time namespace"},
}

// propagations is the words of --propagation.
var propagations = map[string]uintptr{
	"private": unix.MS_REC | unix.MS_PRIVATE, "shared": unix.MS_REC | unix.MS_SHARED, "slave": unix.MS_REC | unix.MS_SLAVE, "unchanged": 0,
}

// parseExec reads the options of exec; what follows the first word that is none is
// the program and its arguments.
func parseExec(args []string) (execOptions, string, error) {
	var o execOptions
	f := pflag.NewFlagSet("exec", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.SortFlags = false
	f.Usage = func() {}
	uids := f.StringArray("uid-map", nil, "INNER:OUTER:COUNT\tmap COUNT user IDs, INNER and on inside to OUTER and on; again for more")
	gids := f.StringArray("gid-map", nil, "INNER:OUTER:COUNT\tthe same for group IDs")
	f.StringVar(&o.maps.mode, "map", "", "auto|root|keep-id\tauto, the default: all of your first line, from inner 0; root: you alone, as inner 0; keep-id: your first line, and you as who you are")
	auto := f.Bool("map-auto", false, "the same as --map auto")
	f.BoolVarP(&o.maps.root, "map-root-user", "r", false, "you are inner 0: alone, or beside --map auto")
	f.BoolVarP(&o.maps.current, "map-current-user", "c", false, "you are who you are: alone, or beside --map auto, which is keep-id")
	f.StringVar(&o.maps.setgroups, "setgroups", "", "allow|deny\twhether setgroups(2) works inside")
	f.BoolP("user", "U", false, "a new user namespace, which there always is")
	wanted := make([]*bool, len(namespaceFlags))
	for i, n := range namespaceFlags {
		wanted[i] = f.BoolP(n.long, n.short, false, n.usage)
	}
	f.BoolVarP(&o.fork, "fork", "f", false, "see --pid; this program stays as the parent in any case")
	f.StringVar(&o.mountProc, "mount-proc", "", "DIR\tmount a proc filesystem at DIR (/proc) before; implies --mount")
	f.Lookup("mount-proc").NoOptDefVal = "/proc"
	propagation := f.String("propagation", "private", "private|shared|slave|unchanged\tof the mounts in a new mount namespace (private)")
	f.StringVarP(&o.root, "root", "R", "", "DIR\tthe root directory of PROGRAM")
	f.StringVarP(&o.wd, "wd", "w", "", "DIR\tthe working directory of PROGRAM")
	setuid := f.StringP("setuid", "S", "", "UID\tthe inner UID of PROGRAM")
	setgid := f.StringP("setgid", "G", "", "GID\tthe inner GID of PROGRAM, without supplementary groups")
	f.BoolVar(&o.keepCaps, "keep-caps", false, "keep the capabilities inside, whoever PROGRAM is run as")
	kill := f.String("kill-child", "SIGKILL", "SIGNAL\twhat PROGRAM gets when this one is killed (SIGKILL)")
	f.Lookup("kill-child").NoOptDefVal = "SIGKILL"
	monotonic := f.String("monotonic", "", "SECONDS\thow far CLOCK_MONOTONIC is ahead in the time namespace")
	boottime := f.String("boottime", "", "SECONDS\thow far CLOCK_BOOTTIME is ahead in the time namespace")
	f.BoolVarP(&o.help, "help", "h", false, "show this")
	f.BoolVarP(&o.version, "version", "V", false, "show the version")

	if err := f.Parse(args); err != nil {
		return execOptions{}, "", fmt.Errorf("%w: see `%s exec --help`", err, programName)
	}
	usages := listOptions(f)
	o.command = f.Args()
	for i, n := range namespaceFlags {
		if *wanted[i] {
			o.namespaces |= n.flag
		}
	}
	if f.Changed("mount-proc") {
		o.namespaces |= unix.CLONE_NEWNS
	}
	if *auto {
		if f.Changed("map") && o.maps.mode != mapAuto {
			return execOptions{}, "", fmt.Errorf("--map-auto and --map %s: choose one", o.maps.mode)
		}
		o.maps.mode = mapAuto
	}
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	o.maps.uids, err = parseMap("uid-map", *uids)
	note(err)
	o.maps.gids, err = parseMap("gid-map", *gids)
	note(err)
	note(o.maps.check(f.Changed("map"), f.Changed("setgroups")))
	propagated, known := propagations[*propagation]
	if !known {
		note(fmt.Errorf("--propagation %q: expected private, shared, slave or unchanged", *propagation))
	}
	o.propagation = propagated
	for _, text := range []struct{ option, value string }{{"mount-proc", o.mountProc}, {"root", o.root}, {"wd", o.wd}} {
		if f.Changed(text.option) && text.value == "" {
			note(fmt.Errorf("--%s: it is empty: expected a directory", text.option))
		}
	}
	if f.Changed("setuid") {
		o.uid, err = parseInner("setuid", *setuid)
		note(err)
	}
	if f.Changed("setgid") {
		o.gid, err = parseInner("setgid", *setgid)
		note(err)
	}
	o.deathSignal, err = parseSignal(*kill)
	note(err)
	for _, clock := range []struct{ option, value string }{{"monotonic", *monotonic}, {"boottime", *boottime}} {
		if !f.Changed(clock.option) {
			continue
		}
		line, err := parseOffset(clock.option, clock.value)
		note(err)
		if o.namespaces&unix.CLONE_NEWTIME == 0 {
			note(fmt.Errorf("--%s: it needs a new time namespace: add --time", clock.option))
		}
		o.offsets += line
	}
	return o, usages, errors.Join(errs...)
}

// listOptions is one line for each option, in the order they were defined. What comes
// before a tab in its usage is the name of its value.
func listOptions(f *pflag.FlagSet) string {
	var b strings.Builder
	f.VisitAll(func(o *pflag.Flag) {
		value, usage, valued := strings.Cut(o.Usage, "\t")
		switch {
		case !valued:
			value, usage = "", value
		case o.NoOptDefVal != "":
			value = "[=" + value + "]"
		default:
			value = " " + value
		}
		short := "   "
		if o.Shorthand != "" {
			short = "-" + o.Shorthand + ","
		}
		fmt.Fprintf(&b, "  %s --%s%s\n        %s\n", short, o.Name, value, usage)
	})
	return b.String()
}

// parseMap reads the extents of --uid-map or --gid-map: each value has one, or
// several with commas between them.
func parseMap(option string, values []string) (idmap.Map, error) {
	var m idmap.Map
	for _, value := range values {
		for text := range strings.SplitSeq(value, ",") {
			e, err := idmap.ParseExtent(text)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", option, err)
			}
			m = append(m, e)
		}
	}
	if len(values) > 0 {
		if err := m.Validate(); err != nil {
			return nil, fmt.Errorf("--%s: %w", option, err)
		}
	}
	return m, nil
}

// check refuses what contradicts itself.
func (m mapOptions) check(modeGiven, setgroupsGiven bool) error {
	raw := len(m.uids)+len(m.gids) > 0
	switch {
	case modeGiven && m.mode != mapAuto && m.mode != mapRoot && m.mode != mapKeepID:
		return fmt.Errorf("--map %q: expected %s, %s or %s", m.mode, mapAuto, mapRoot, mapKeepID)
	case setgroupsGiven && m.setgroups != setgroupsAllow && m.setgroups != setgroupsDeny:
		return fmt.Errorf("--setgroups %q: expected %s or %s", m.setgroups, setgroupsAllow, setgroupsDeny)
	case raw && (m.mode != "" || m.root || m.current):
		return errors.New("--uid-map and --gid-map say all that is mapped: leave out --map, -r and -c")
	case m.root && m.current, m.root && m.mode == mapKeepID, m.current && m.mode == mapRoot:
		return errors.New("-r (--map root) and -c (--map keep-id) map your own ID twice: choose one")
	}
	return nil
}

func parseInner(option, value string) (*uint32, error) {
	id, err := idmap.ParseID(value)
	if err == nil && id == idmap.Invalid {
		err = fmt.Errorf("%w: the last ID there is is %d", idmap.ErrRange, idmap.Invalid-1)
	}
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", option, err)
	}
	return &id, nil
}

// parseSignal reads the name of a signal, with or without SIG, or its number.
func parseSignal(text string) (syscall.Signal, error) {
	if n, err := strconv.ParseUint(text, 10, 7); err == nil && n >= 1 && n <= 64 {
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if signal := unix.SignalNum(name); signal != 0 {
		return signal, nil
	}
	return 0, fmt.Errorf("--kill-child %q: expected the name or the number of a signal", text)
}

// parseOffset gives the line of a clock (time_namespaces(7)).
func parseOffset(clock, text string) (string, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > math.MaxInt64/int64(1e9) || n < math.MinInt64/int64(1e9) {
		return "", fmt.Errorf("--%s %q: expected a whole number of seconds", clock, text)
	}
	return fmt.Sprintf("%s %d 0\n", clock, n), nil
}
