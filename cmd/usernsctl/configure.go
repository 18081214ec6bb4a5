// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/census"
	"github.com/userns-runtime/userns-runtime/internal/daemonroot"
	"github.com/userns-runtime/userns-runtime/internal/engines"
	"github.com/userns-runtime/userns-runtime/internal/lease"
	"github.com/userns-runtime/userns-runtime/internal/rootfile"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

const (
	flagDivert = "divert"
	flagFile   = "file"
	// flagCutExec is consent to what --divert does to containers that are there.
	flagCutExec = "cut-exec"
)

func (p *program) configureVerb() *cli.Command {
	return &cli.Command{
		Name:      "configure",
		Usage:     "make userns-runtime an engine's default runtime, or take that back",
		UsageText: programName + " configure " + strings.Join(append(engines.Names(), idMapWord), "|") + " [flags]\n" + programName + " configure --divert [flags]",
		Description: "Changes the one file of the engine that decides, and says which. Its text is edited: comments,\n" +
			"order and unknown keys stay. What was before is kept, and --undo gives it back byte for byte. The\n" +
			"engine isn't told: the command that has it read the file is shown.\n\n" +
			"With " + idMapWord + ", shadow's newuidmap and newgidmap make way for ours, which go by the book (dpkg-divert).",
		Flags: []cli.Flag{
			yes(flagDryRun, "show what would be changed, and change nothing"),
			yes(flagUndo, "give back what was before"),
			text(flagOwner, "`NAME` whose ranges the engine's containers get"),
			rootFlag("docker: " + rootSpecUsage + "; dockerd gets a data root of its own, and its containers that owner's ranges"),
			text(flagData, "docker: `DIR` of the roots ("+daemonroot.DefaultData+")"),
			yes(flagDivert, "put userns-runtime in the place of the packages' runc (dpkg-divert)"),
			yes(flagCutExec, "divert runc although exec and health checks fail from then on in containers that it started before"),
			text(flagFile, "`PATH` of the engine's configuration, of the drop-in for podman and crio, if it isn't the usual one"),
			jsonFlag("what was changed"),
		},
		Action: p.configure,
	}
}

// configuring is a call of configure, as it was read.
type configuring struct {
	engine string // "" if only runc is diverted
	idmap  bool   // newuidmap and newgidmap, and no engine
	owner  string
	file   string
	divert bool
	undo   bool
	dry    bool
	cut    bool
	root   *rooting // nil if the data root stays
	host   engines.Host
	result []engines.Step
	edited string // the engine's file
	moved  bool   // its data root is another one
}

func (p *program) configure(c *cli.Context) error {
	do, err := configuringOf(c)
	if err != nil {
		return err
	}
	if err := p.needsRoot(c); err != nil {
		return err
	}
	switch {
	case do.idmap:
		err = p.configureIDMap(do)
	case do.undo:
		err = p.unconfigure(do)
	default:
		err = p.setUp(c, do)
	}
	if err != nil {
		return err
	}
	if c.Bool(flagJSON) {
		p.out.Reset()
		return p.json(append([]engines.Step{}, do.result...))
	}
	return nil
}

func configuringOf(c *cli.Context) (*configuring, error) {
	words, err := arguments(c, 0, "ENGINE")
	if err != nil {
		return nil, err
	}
	do := &configuring{file: c.String(flagFile), divert: c.Bool(flagDivert), undo: c.Bool(flagUndo), dry: c.Bool(flagDryRun), cut: c.Bool(flagCutExec)}
	what := append(engines.Names(), idMapWord)
	switch {
	case len(words) == 0 && !do.divert:
		return nil, misused("configure", "ENGINE is missing: expected one of %s, or --%s", strings.Join(what, ", "), flagDivert)
	case len(words) > 0 && words[0] == idMapWord:
		do.idmap = true
		return do, notIDMap(c)
	case len(words) > 0 && !slices.Contains(engines.Names(), words[0]):
		near := ""
		if word, ok := registry.Nearest(words[0], what); ok {
			near = ": did you mean " + word + "?"
		}
		return nil, misused("configure", "engine %q: unknown%s: expected one of %s", words[0], near, strings.Join(what, ", "))
	case len(words) > 0:
		do.engine = words[0]
	case c.IsSet(flagFile):
		return nil, misused("configure", "--%s: is an engine's: expected ENGINE", flagFile)
	case c.IsSet(flagOwner):
		return nil, misused("configure", "--%s: is an engine's: who calls runc by its own name gets the default-owner of %s", flagOwner, config.Path)
	}
	if c.IsSet(flagOwner) {
		if do.undo {
			return nil, misused("configure", "--%s: has no meaning with --%s: leave it out", flagOwner, flagUndo)
		}
		if do.owner, err = ownerOf(c, c.String(flagOwner)); err != nil {
			return nil, err
		}
	}
	if do.root, err = rootingOf(c, do); err != nil {
		return nil, err
	}
	if do.cut && (!do.divert || do.undo) {
		return nil, misused("configure", "--%s: has a meaning with --%s alone: leave it out", flagCutExec, flagDivert)
	}
	if c.IsSet(flagFile) && (!strings.HasPrefix(do.file, "/") || strings.HasSuffix(do.file, "/")) {
		return nil, misused("configure", "--%s: %q: expected an absolute path of a file", flagFile, do.file)
	}
	if do.file != "" {
		do.file = filepath.Clean(do.file) // by which its state is known
	}
	return do, nil
}

// setUp carries out what is asked, once nothing of it is refused.
func (p *program) setUp(c *cli.Context, do *configuring) error {
	self, err := os.Executable()
	if err != nil {
		return failed("", "configure: %w", err)
	}
	program, err := do.host.Program(self)
	if err != nil {
		return failed("", "configure: %w", err)
	}
	cfg, err := config.Load(config.Path)
	if err != nil {
		return failed("", "configure: %w", err)
	}
	if err := do.host.LowLevel(nil); err != nil {
		return failed("", "configure: %w", err)
	}
	r := engines.Request{File: do.file, Program: program, Owner: do.owner}
	if do.root != nil {
		if r, err = p.rootRequest(c, do.root, r, true); err != nil {
			return err
		}
	} else if do.engine != "" {
		if err := do.owned(cfg); err != nil {
			return err
		}
	}
	if do.engine != "" {
		if _, err := do.host.Configure(do.engine, r, true); err != nil {
			return failed("", "configure: %w", err)
		}
	}
	if do.divert {
		if err := divertOwned(cfg); err != nil {
			return err
		}
		out, err := do.host.Divert(program, true)
		if err != nil {
			return failed("", "configure: %w", err)
		}
		if err := p.startedBare(do, len(out.Steps) > 0); err != nil {
			return err
		}
	}
	if do.root != nil {
		if !do.dry {
			if r, err = p.rootRequest(c, do.root, r, false); err != nil {
				return err
			}
		}
		p.tellRoot(do)
	}
	if do.engine != "" {
		out, err := do.host.Configure(do.engine, r, do.dry)
		if err != nil {
			return failed("", "configure: %w", err)
		}
		do.edited, do.moved = out.File, out.Moved
		p.tell(do, out, do.already(out.File))
	}
	if do.divert {
		out, err := do.host.Divert(program, do.dry)
		if err != nil {
			return failed("", "configure: %w", err)
		}
		p.tell(do, out, "already: userns-runtime is in the place of runc")
	}
	p.takesEffect(do)
	return nil
}

// startedBare refuses a diversion while there are containers that runc started before it, but where
// that is meant. Nobody knows the IDs of what runs in them but that they are the host's own, so that
// exec refuses them: who watches over them by it, such as kubelet, ends them.
func (p *program) startedBare(do *configuring, now bool) error {
	host, err := census.Take(census.HostPaths())
	if err != nil {
		return failed("", "configure: %w", err)
	}
	var bare []string
	for _, c := range do.host.Containers() {
		known := slices.ContainsFunc(host.Leases, func(l lease.Status) bool { return l.Root == c.Root && l.ID == c.ID })
		if !known && (!host.Unkept || !c.InUserNS()) {
			bare = append(bare, engines.Printable(c.ID))
		}
	}
	const what = "until they are made again; all else is as before"
	switch number, names := plural(len(bare), "container"), strings.Join(bare, " "); {
	case len(bare) == 0:
	case now && !do.cut:
		return failed("", "configure: %s started by runc itself: with --%s there is no exec in them any more, so that their health checks and probes fail, %s: end them first, on a node of Kubernetes by kubectl drain, or accept it: --%s: %s",
			number, flagDivert, what, flagCutExec, names)
	default:
		p.warn("configure: %s started before by runc itself: no exec in them from now on, of health checks neither, %s: %s", number, what, names)
	}
	return nil
}

const defaultOwner = "default-owner of " + config.Path

// owned refuses an engine whose containers nobody with a line would own: --owner, who a [[rule]] gives
// them to, or the default-owner, as the runtime decides it.
func (do *configuring) owned(cfg config.Config) error {
	root := engines.StateRoot(do.engine)
	byRule, ruled := cfg.OwnerByRoot(root)
	switch {
	case do.owner != "":
		return needsLine(do.owner, "--"+flagOwner)
	case ruled:
		return needsLine(byRule, "[[rule]] of "+config.Path+" for "+root)
	case cfg.DefaultOwner != "":
		return needsLine(cfg.DefaultOwner, defaultOwner)
	}
	return failed(command("configure", do.engine, "--"+flagOwner, "NAME"), "configure: %s has no default-owner, and no [[rule]] for %s, so nobody would own the containers: name who does",
		config.Path, root)
}

// divertOwned is owned, of those who call runc by its name.
func divertOwned(cfg config.Config) error {
	if cfg.DefaultOwner != "" {
		return needsLine(cfg.DefaultOwner, defaultOwner)
	}
	for _, r := range cfg.Rules {
		if err := needsLine(r.Owner, "[[rule]] of "+config.Path+" for "+r.Root); err != nil {
			return err
		}
	}
	if len(cfg.Rules) == 0 {
		return failed("", "configure: %s has no default-owner, and no [[rule]], so nobody would own what is started by the name runc: set default-owner", config.Path)
	}
	return nil
}

// needsLine refuses an owner without a line in the book, by whom no container would start. by is what
// names them.
func needsLine(owner, by string) error {
	book, err := registry.Load(registry.Path, registry.DropInDir)
	if errors.Is(err, registry.ErrNoBook) {
		return failed(command("init"), "configure: %w", err)
	}
	if err != nil {
		return failed(command("check"), "configure: %w", err)
	}
	host, err := registry.LoadHost("/etc/passwd", "/etc/group")
	if err != nil {
		return failed("", "configure: %w", err)
	}
	if hasGrant(book, host, owner) {
		return nil
	}
	hint := command("add", owner)
	if !slices.ContainsFunc(book.Lines(), grants) {
		hint = command("init", "--"+flagOwner, owner)
	}
	near := ""
	if word, ok := nearOwner(book, owner); ok {
		near = fmt.Sprintf(": did you mean %s?", word)
	}
	return failed(hint, "configure: owner %s (%s): %w, so that no container would start%s", rootfile.ShellQuote(owner), by, registry.ErrNoGrant, near)
}

func (p *program) unconfigure(do *configuring) error {
	notConfigured := func(err error) error {
		hint := ""
		if errors.Is(err, engines.ErrNotConfigured) {
			hint = cmp.Or(engines.UndoOfOther(err), command("configure", "--help"))
		}
		return failed(hint, "configure: %w", err)
	}
	if do.engine != "" {
		// Where there is nothing, the call below says so, and sweeps what a killed one has left.
		if _, err := do.host.Undo(do.engine, do.file, do.free, true); err != nil && (do.dry || !errors.Is(err, engines.ErrNotConfigured)) {
			return notConfigured(err)
		}
	}
	if do.divert {
		if _, err := do.host.Undivert(do.free, true); err != nil {
			return notConfigured(err)
		}
	}
	if do.engine != "" {
		out, err := do.host.Undo(do.engine, do.file, do.free, do.dry)
		if err != nil {
			return notConfigured(err)
		}
		do.edited, do.moved = out.File, out.Moved
		p.tell(do, out, "nothing to give back: "+out.File+" stays as it is")
	}
	if do.divert {
		out, err := do.host.Undivert(do.free, do.dry)
		if err != nil {
			return notConfigured(err)
		}
		p.tell(do, out, "nothing to give back: runc is in its place")
	}
	p.takesEffect(do)
	return nil
}

// free is an error while containers need what is to be taken away.
func (do *configuring) free() error {
	host, err := census.Take(census.HostPaths())
	if err != nil {
		return err
	}
	var held []string
	for _, l := range host.Leases {
		if !l.IsPin() && (do.divert || engines.Concerns(do.engine, l.Root)) {
			held = append(held, census.Holder(l))
		}
	}
	held = append(held, unkept(host)...)
	if len(held) == 0 {
		return nil
	}
	number, more := plural(len(held), "container"), ""
	if len(held) > 10 {
		more = fmt.Sprintf("\nand %d more", len(held)-10)
		held = held[:10]
	}
	return fmt.Errorf("%s can't be stopped and removed without the runtime: end what is alive first:\n%s%s",
		number, strings.Join(held, "\n"), more)
}

// unkept is the containers whose leases were lost: any may be the engine's. It is what root has made,
// with IDs of the book; without a book, with any.
func unkept(host *census.Census) (held []string) {
	if !host.Unkept {
		return nil
	}
	book, err := registry.Load(registry.Path, registry.DropInDir)
	for _, ns := range host.Live {
		kin, known := host.Kin[ns.Inode]
		ids := ns.IDs()
		if known && kin.Creator != 0 || ids.Empty() {
			continue
		}
		ours := func(l registry.Line) bool { return ids.Touches(l.Range) }
		if err != nil || slices.ContainsFunc(book.Lines(), ours) {
			held = append(held, fmt.Sprintf("process %d in a user namespace, whose lease was lost", ns.PID))
		}
	}
	return held
}

// tell shows what was done, or would be.
func (p *program) tell(do *configuring, out engines.Result, nothing string) {
	for _, w := range out.Warnings {
		p.warn("configure: %s", w)
	}
	if len(out.Steps) == 0 {
		fmt.Fprintln(&p.out, nothing)
	}
	for _, s := range out.Steps {
		do.result = append(do.result, s)
		if do.dry {
			p.out.WriteString(planned(s))
		} else {
			fmt.Fprintln(&p.out, did(s))
		}
	}
}

// did is a step in words.
func did(s engines.Step) string {
	file := rootfile.ShellQuote(s.File)
	switch s.Action {
	case "create", "mkdir":
		return "made " + file
	case "change":
		return "changed " + file
	case "restore":
		return "restored " + file
	case "remove", "rmdir", "unlink":
		return "removed " + file
	case "link":
		return "made " + file + ", a link to " + rootfile.ShellQuote(s.To)
	case "setcap":
		return "gave " + file + " the file capabilities " + s.To
	case "divert":
		return "diverted " + file + " to " + rootfile.ShellQuote(s.To)
	}
	if s.To == "" {
		return "removed " + file + ": nothing is left of what was there: where its package is installed still, install it again"
	}
	return "gave back " + file + " from " + rootfile.ShellQuote(s.To)
}

// planned is a step that isn't done: a diff, or the command that would do it by hand.
func planned(s engines.Step) string {
	file := rootfile.ShellQuote(s.File)
	switch s.Action {
	case "mkdir":
		if s.To != "" {
			return "mkdir -m " + s.To + " " + file + "\n"
		}
		fallthrough
	case "rmdir":
		return s.Action + " " + file + "\n"
	case "link":
		return "ln -s " + rootfile.ShellQuote(s.To) + " " + file + "\n"
	case "unlink":
		return "rm " + file + "\n"
	case "setcap":
		return "setcap " + s.To + " " + file + "\n"
	case "divert":
		return "dpkg-divert --local --rename --divert " + rootfile.ShellQuote(s.To) + " --add " + file + "\n"
	case "undivert":
		return "rm " + file + "\ndpkg-divert --rename --remove " + file + "\n"
	}
	return s.Diff
}

// takesEffect says how the engine comes to know.
func (p *program) takesEffect(do *configuring) {
	if do.dry || do.engine == "" || len(do.result) == 0 {
		return
	}
	switch command := do.host.TakesEffect(do.engine, do.edited, do.moved); {
	case command != "":
		fmt.Fprintf(&p.out, "takes effect by: %s\n", command)
	case do.engine == "podman":
		fmt.Fprintln(&p.out, "takes effect with the next container")
	default:
		fmt.Fprintf(&p.out, "takes effect when %s is started\n", do.engine)
	}
}
