// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// enterOptions is the command line of enter.
type enterOptions struct {
	target   string
	uid, gid uint32 // inner IDs
	wd       string
	without  []string // kinds of namespaces
	env      []string // NAME or NAME=VALUE
	help     bool
	version  bool
	command  []string
}

// parseEnter reads the options of enter. The first word that is none is the target,
// and what follows that the program and its arguments.
func parseEnter(args []string) (o enterOptions, usages string, err error) {
	f := pflag.NewFlagSet("enter", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.SortFlags = false
	f.Usage = func() {}
	setuid := f.StringP("setuid", "S", "0", "the inner UID of PROGRAM")
	setgid := f.StringP("setgid", "G", "0", "the inner GID of PROGRAM")
	f.StringVarP(&o.wd, "wd", "w", "/", "run PROGRAM in this directory inside")
	f.StringSliceVar(&o.without, "without", nil, "stay out of these namespaces of the target: "+strings.Join(delegate.NamespaceKinds(), ", "))
	f.StringArrayVarP(&o.env, "env", "e", nil, "a variable for PROGRAM, as NAME=VALUE, or NAME for your own; may be given again")
	f.BoolVarP(&o.help, "help", "h", false, "show this")
	f.BoolVarP(&o.version, "version", "V", false, "show the version")
	if err := f.Parse(args); err != nil {
		return enterOptions{}, "", fmt.Errorf("%w: see `%s enter --help`", err, programName)
	}
	usages = f.FlagUsagesWrapped(100)
	if o.help || o.version {
		return o, usages, nil
	}
	var errs []error
	for _, id := range []struct {
		option, value string
		to            *uint32
	}{{"setuid", *setuid, &o.uid}, {"setgid", *setgid, &o.gid}} {
		inner, err := parseInner(id.option, id.value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		*id.to = *inner
	}
	if o.wd == "" {
		errs = append(errs, errors.New("--wd: it is empty: expected a directory"))
	}
	for _, kind := range o.without {
		if !slices.Contains(delegate.NamespaceKinds(), kind) {
			errs = append(errs, fmt.Errorf("--without %q: expected %s", kind, strings.Join(delegate.NamespaceKinds(), ", ")))
		}
	}
	for _, v := range o.env {
		if name, _, _ := strings.Cut(v, "="); name == "" || strings.ContainsRune(v, 0) {
			errs = append(errs, fmt.Errorf("--env %q: expected NAME or NAME=VALUE", v))
		}
	}
	switch rest := f.Args(); {
	case len(rest) == 0:
		errs = append(errs, fmt.Errorf("what is to be entered is missing: expected the name of a pin, the ID of a container, or the number of a process: see `%s list`", programName))
	default:
		o.target, o.command = rest[0], rest[1:]
		if len(o.command) > 0 && o.command[0] == "--" {
			o.command = o.command[1:]
		}
	}
	return o, usages, errors.Join(errs...)
}

// enter runs a program in namespaces that are there already, and gives its exit code.
func (p *program) enter(args []string) (int, error) {
	o, usages, err := parseEnter(args)
	if err != nil {
		return 0, err
	}
	switch {
	case o.help:
		return p.show("enter", "Usage:\n  "+programName+" enter [options] TARGET [--] [PROGRAM [ARGUMENT...]]\n\n"+
			"Runs PROGRAM (a shell) in a user namespace that is yours, and in the other namespaces\n"+
			"of what runs there. TARGET is the NAME of a pin, the ID of a container, or the PID of\n"+
			"a process; pin:NAME, id:ID and pid:PID say which.\n\nOptions:\n"+usages), nil
	case o.version:
		return p.show("enter", programName+" version "+version+"\n"), nil
	}
	caller, err := delegate.Identify()
	if err != nil {
		return 0, err
	}
	target, err := findTarget(caller, o.target, o.without)
	d := decision{Verb: "enter", Subject: caller.Name, UID: caller.UID, Target: o.target}
	var script *linux.Script
	var term *terminal
	if err == nil {
		defer target.Close()
		script, term, err = p.prepareEnter(o, target)
	}
	d.logged(err)
	if err != nil {
		return 0, err
	}
	a, err := p.goIn(o, target, script, term)
	if err != nil {
		term.end()
		return 0, err
	}
	return a.attend()
}

// prepareEnter judges all that can be judged before there is a child.
func (p *program) prepareEnter(o enterOptions, target *delegate.Target) (*linux.Script, *terminal, error) {
	if err := linux.CheckSuidDumpable(); err != nil {
		return nil, nil, err
	}
	for _, side := range []struct {
		kind, option string
		id           uint32
		m            idmap.Map
	}{
		{"UID", "--setuid", o.uid, target.State.UIDs},
		{"GID", "--setgid", o.gid, target.State.GIDs},
	} {
		if _, ok := side.m.ToOuter(side.id); !ok {
			return nil, nil, fmt.Errorf("%s %d: the namespace has no such %s: it has UIDs %s and GIDs %s", side.option, side.id, side.kind, target.State.UIDs, target.State.GIDs)
		}
	}
	groups, err := howToDrop(target.State.DenySetgroups)
	if err != nil {
		return nil, nil, err
	}
	term, err := newTerminal()
	if err != nil {
		return nil, nil, err
	}
	return o.script(target, groups, term), term, nil
}

// goIn starts the program. Where it fails nothing is left.
func (p *program) goIn(o enterOptions, target *delegate.Target, script *linux.Script, term *terminal) (_ *attendant, err error) {
	image := p.insideImage(o, target, term != nil)
	child, err := script.Fork(0, image)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, child.Close())
		}
	}()
	// Its session is its own: nobody else sends it what this process gets.
	a := &attendant{child: child, heard: func(syscall.Signal) bool { return false }, stops: term != nil, term: term}
	// The child has what it needs. What comes now is the caller's own doing.
	if err := linux.DropCapabilities(); err != nil {
		return nil, err
	}
	if err := child.Become(nil); err != nil {
		return nil, notBecome(explainEnter(err), image.File)
	}
	if err := a.hear(); err != nil {
		return nil, err
	}
	if term != nil {
		if err := term.begin(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// explainEnter says what else may be the reason why a namespace isn't entered.
func explainEnter(err error) error {
	var step *linux.StepError
	if !errors.As(err, &step) {
		return err
	}
	switch {
	case strings.HasPrefix(step.Step, "setns(") && step.Errno == unix.EPERM:
		return fmt.Errorf("%w: the caller may not enter it: it isn't theirs, or they are in a chroot", err)
	case step.Step == "clone" && step.Errno == unix.ENOMEM:
		// pid_namespaces(7), "The namespace init process".
		return fmt.Errorf("%w: the first process of its PID namespace has ended, and nobody can be in there any more", err)
	}
	return err
}

// defaultPath is where programs are looked for in a container.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// insideImage is what the child becomes. Where it runs on the mounts of a container, nothing of the
// caller's environment comes along but what they name: whoever is root there reads it.
func (p *program) insideImage(o enterOptions, target *delegate.Target, terminal bool) linux.Program {
	if !target.Enters("mnt") {
		image := p.image(o.command)
		image.Env = p.withEnv(slices.Clone(image.Env), o.env)
		return image
	}
	home := "/"
	if o.uid == 0 {
		home = "/root"
	}
	env := []string{"PATH=" + defaultPath, "HOME=" + home}
	if terminal {
		env = append(env, "TERM="+p.variable("TERM", "dumb"))
	}
	image := linux.Program{File: "/bin/sh", Argv: []string{"sh"}, Env: p.withEnv(env, o.env), Path: defaultPath}
	if len(o.command) > 0 {
		image.File, image.Argv = o.command[0], o.command
	}
	return image
}

// withEnv sets variables in env: those of --env.
func (p *program) withEnv(env, named []string) []string {
	for _, v := range named {
		name, value, given := strings.Cut(v, "=")
		if !given {
			const missing = "\x00"
			if value = p.variable(name, missing); value == missing {
				continue
			}
		}
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		env = append(env, name+"="+value)
	}
	return env
}

// dropping is how the child loses the caller's supplementary groups.
type dropping int

const (
	dropNothing dropping = iota // there are none
	dropBefore                  // with CAP_SETGID, before it enters
	dropInside                  // with what it may inside
)

// howToDrop refuses to enter with groups of the host, which would be in force inside.
func howToDrop(denied bool) (dropping, error) {
	permitted, err := linux.Permitted()
	if err != nil {
		return 0, err
	}
	groups, err := unix.Getgroups()
	switch {
	case err != nil:
		return 0, err
	case permitted&linux.Caps(unix.CAP_SETGID) != 0:
		return dropBefore, nil
	case len(groups) == 0:
		return dropNothing, nil
	case !denied:
		return dropInside, nil
	}
	return 0, fmt.Errorf("your supplementary groups would come along, since setgroups is denied inside: %s", delegate.WithoutCapability(unix.CAP_SETGID))
}

// script is what the child does. From its first step to the program that it becomes it isn't
// dumpable: the namespace's processes may be privileged in it, and whoever could trace the child
// had the caller's memory and descriptors, and for a while their UID (ptrace(2), "Ptrace access mode
// checking").
func (o enterOptions) script(target *delegate.Target, groups dropping, term *terminal) *linux.Script {
	s := &linux.Script{}
	hide := func() { s.Call("prctl(PR_SET_DUMPABLE)", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0) }
	hide()
	if groups == dropBefore {
		capabilities(s, linux.Caps(unix.CAP_SETGID))
		s.Call("setgroups", unix.SYS_SETGROUPS, 0, 0)
	}
	capabilities(s, 0)
	if hasKeys() {
		// Whoever has the caller's session keyring has what is in it, in any user namespace.
		s.Call("keyctl(KEYCTL_JOIN_SESSION_KEYRING)", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	}
	for _, ns := range target.Namespaces {
		s.Call("setns("+ns.Kind+")", unix.SYS_SETNS, ns.File.Fd(), ns.Flag)
		if ns.Kind == "user" {
			// New credentials have set it anew, and whoever is in there may stop it from now on.
			hide()
			s.DieWithParent()
			if groups == dropInside {
				s.Call("setgroups", unix.SYS_SETGROUPS, 0, 0)
			}
		}
	}
	if target.Enters("pid") {
		s.Again()
	}
	// A session of the program's own: through /dev/tty inside the caller's terminal would be to be
	// had. Not before it is the last child, or its end would be that of the session.
	s.Call("setsid", unix.SYS_SETSID)
	if term != nil {
		slave := term.slave.Fd()
		s.Call("ioctl(TIOCSCTTY)", unix.SYS_IOCTL, slave, unix.TIOCSCTTY, 0)
		for _, fd := range term.replaced {
			s.Call("dup3", unix.SYS_DUP3, slave, uintptr(fd), 0)
		}
	}
	// The names are those of whoever made the mounts, and could lead back by what is still open.
	s.CloseOthers()
	s.Call("chdir("+o.wd+")", unix.SYS_CHDIR, s.Text(o.wd))
	gid, uid := uintptr(o.gid), uintptr(o.uid)
	s.Call("setresgid("+strconv.Itoa(int(gid))+")", unix.SYS_SETRESGID, gid, gid, gid)
	s.DieWithParent()
	s.Call("setresuid("+strconv.Itoa(int(uid))+")", unix.SYS_SETRESUID, uid, uid, uid)
	hide()
	s.DieWithParent()
	return s
}

// hasKeys says whether there are keyrings for this program and its children: not every kernel has
// them, nor lets every seccomp filter them be asked for.
func hasKeys() bool {
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	return !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM)
}

// capabilities leaves a child with these of its capabilities, and no others.
func capabilities(s *linux.Script, set linux.CapSet) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	for i := range sets {
		half := uint32(set >> (32 * i))
		sets[i] = unix.CapUserData{Effective: half, Permitted: half}
	}
	s.Call("capset", unix.SYS_CAPSET, linux.Keep(s, &header), linux.Keep(s, &sets))
}
