// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/delegate"
)

// explain says what exec would do with the same options. It makes nothing and logs nothing. What
// is refused is told as the answer, with the exit code of a failure.
func (p *program) explain(args []string) (int, error) {
	if len(args) > 0 && args[0] == "exec" {
		args = args[1:]
	}
	o, usages, err := parseExec(args)
	if err != nil {
		return 0, err
	}
	if o.help {
		return p.show("explain", "Usage:\n  "+programName+" explain [exec] [options of exec]\n\n"+
			"Says what exec would do, and which line of the book allows or refuses it.\n\nOptions:\n"+usages), nil
	}
	caller, err := delegate.Identify()
	if err != nil {
		return 0, err
	}
	made, refused := makePlan(caller, o)
	if refused == nil {
		refused = made.unable()
	}
	if code := p.show("explain", made.explanation(o, refused)); code != exitFine || refused == nil {
		return code, nil
	}
	return exitFailed, nil
}

// unable is why the kernel would refuse what the book allows.
func (p *plan) unable() error {
	if p.caller.IsRoot() {
		return nil
	}
	has, err := linux.Permitted()
	if err != nil {
		return err
	}
	var errs []error
	for _, side := range []struct {
		capability int
		alone      bool
	}{
		{unix.CAP_SETGID, p.verdict.OwnGroup && len(p.gids) == 1 && p.gids[0].Count == 1},
		{unix.CAP_SETUID, len(p.uids) == 1 && p.uids[0].Count == 1 && p.hostUIDs[0].Outer == p.caller.UID},
	} {
		if !side.alone && has&linux.Caps(side.capability) == 0 {
			errs = append(errs, errors.New(delegate.WithoutCapability(side.capability)))
		}
	}
	return errors.Join(errs...)
}

// mend is the command at the end of a refusal that only root can give; "" if there is none.
func mend(refusal string) string {
	for _, command := range []string{"usernsctl add ", "setcap "} {
		if i := strings.LastIndex(refusal, ": "+command); i >= 0 {
			return refusal[i+2:]
		}
	}
	return ""
}

// explanation is the answer: a label and what it is about in every line.
func (p *plan) explanation(o execOptions, refused error) string {
	var b strings.Builder
	say := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-11s %s\n", label+":", fmt.Sprintf(format, args...))
	}
	say("you", "%s (UID %d, GID %d)", p.caller.Name, p.caller.UID, p.caller.GID)
	if len(p.uids) > 0 && len(p.gids) > 0 {
		say("UIDs", "%s", p.uids)
		say("GIDs", "%s", p.gids)
		if !p.uids.Equal(p.hostUIDs) || !p.gids.Equal(p.hostGIDs) {
			say("on the host", "UIDs %s, GIDs %s", p.hostUIDs, p.hostGIDs)
		}
	}
	if refused != nil {
		var asks []string
		for line := range strings.SplitSeq(refused.Error(), "\n") {
			say("refused", "%s", line)
			if ask := mend(line); ask != "" && !slices.Contains(asks, ask) {
				asks = append(asks, ask)
			}
		}
		for _, ask := range asks {
			say("ask root", "%s", ask)
		}
		return b.String()
	}
	for _, line := range p.verdict.Lines {
		grants := line.Range.String()
		if flags := line.Flags.String(); flags != "" {
			grants += " with " + flags
		}
		say("allowed by", "%s, which grants %s", line.Where(), grants)
	}
	if len(p.verdict.Lines) == 0 {
		say("allowed", "these IDs are your own, which need no line of the book")
	}
	if p.denySetgroups {
		say("setgroups", "denied%s", p.whyDenied(o.maps.setgroups))
	} else {
		say("setgroups", "allowed")
	}
	say("runs as", "UID %d, GID %d inside", p.uid, p.gid)
	return b.String()
}
