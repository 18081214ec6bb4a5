// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/userns-runtime/userns-runtime/internal/report"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
)

// logSocket is where the host's log is told.
const logSocket = "/dev/log"

// mostText is how many bytes of an error, and of what the caller has typed, go into the log: a
// datagram that is too long isn't taken at all.
const mostText = 2048

// decision is one line of the host's log: who asked for which IDs of the host, and
// what allowed or refused it. The audit log is root's, and this program has no right to it.
type decision struct {
	Decision string   `json:"decision"` // "granted", "refused"
	Verb     string   `json:"verb"`
	Error    string   `json:"error,omitempty"`
	Subject  string   `json:"subject"`
	UID      uint32   `json:"uid"`
	UIDs     string   `json:"uids,omitempty"`
	GIDs     string   `json:"gids,omitempty"`
	Lines    []string `json:"lines,omitempty"`
	Flags    string   `json:"flags,omitempty"`
	Target   string   `json:"target,omitempty"`
}

// allowedBy notes the lines that decided.
func (d *decision) allowedBy(v registry.Verdict) {
	for _, line := range v.Lines {
		d.Lines = append(d.Lines, line.Where())
	}
	d.Flags = v.Flags.String()
}

// logged tells the host's log that the decision ended with err, nil for granted. It does what it
// can: a log that isn't there changes nothing.
func (d *decision) logged(err error) {
	d.Decision = "granted"
	severity := report.SyslogNotice
	if err != nil {
		severity = report.SyslogWarning
		d.Decision, d.Error = "refused", clipped(err.Error())
	}
	d.Target = clipped(d.Target)
	_ = report.Syslog(logSocket, programName, severity, d)
}

func clipped(text string) string {
	if len(text) > mostText {
		return text[:mostText] + "..."
	}
	return text
}

// log tells the host's log of a namespace that was asked for.
func (p *program) log(verb string, made plan, err error) {
	d := decision{Verb: verb, Subject: made.caller.Name, UID: made.caller.UID}
	if len(made.hostUIDs) > 0 && len(made.hostGIDs) > 0 {
		d.UIDs, d.GIDs = made.hostUIDs.String(), made.hostGIDs.String()
	}
	d.allowedBy(made.verdict)
	d.logged(err)
}
