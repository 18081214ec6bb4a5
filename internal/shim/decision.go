// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"time"

	"github.com/userns-runtime/userns-runtime/config"
	"github.com/userns-runtime/userns-runtime/internal/report"
	"github.com/userns-runtime/userns-runtime/pkg/registry"
	"github.com/userns-runtime/userns-runtime/pkg/specpatch"
)

// decision is the audit line of one start or exec of a container, granted or
// refused: what was asked, by whom, what allowed it, what was done.
type decision struct {
	Time     string `json:"time"`
	Decision string `json:"decision"` // "granted", "refused"
	Verb     string `json:"verb"`
	Error    string `json:"error,omitempty"`
	Note     string `json:"note,omitempty"`

	Subject  string  `json:"subject"`
	UID      uint32  `json:"uid"`
	LoginUID *uint32 `json:"loginUID,omitempty"`
	Owner    string  `json:"owner,omitempty"`
	OwnerBy  string  `json:"ownerBy,omitempty"`

	Root   string `json:"root"`
	ID     string `json:"id"`
	Bundle string `json:"bundle,omitempty"`

	AskedUIDs   string   `json:"askedUIDs,omitempty"`
	AskedGIDs   string   `json:"askedGIDs,omitempty"`
	GrantedUIDs string   `json:"grantedUIDs,omitempty"`
	GrantedGIDs string   `json:"grantedGIDs,omitempty"`
	Lines       []string `json:"lines,omitempty"`
	Flags       string   `json:"flags,omitempty"`

	Changes []specpatch.Change `json:"changes,omitempty"`
	Binds   []bind             `json:"binds,omitempty"`
	// Confined is what was asked for and the container has in name only.
	Confined []string `json:"confined,omitempty"`
	Rootfs   string   `json:"rootfs,omitempty"`
	Runtime  string   `json:"runtime,omitempty"`
}

func (c *call) newDecision() *decision {
	return &decision{
		Verb: c.inv.Verb, ID: c.inv.ID, Root: c.engineRoot(),
		Subject: c.subject.Name, UID: c.subject.UID, LoginUID: loginUID(),
	}
}

func (d *decision) allowedBy(v registry.Verdict) {
	d.Lines = nil
	for _, line := range v.Lines {
		d.Lines = append(d.Lines, line.Where())
	}
	d.Flags = v.Flags.String()
}

// mostText is how many bytes of what a bundle can make long go into the log.
const mostText = 4096

// brief is a value of a bundle as the log holds it.
func brief(value any) any {
	if ids, ok := value.([]uint32); ok && len(ids) > 64 {
		return fmt.Sprintf("%d IDs", len(ids))
	}
	if text, ok := value.(string); ok && len(text) > mostText {
		return text[:mostText] + "..."
	}
	return value
}

// audited writes the decision that ended with err, nil for granted, and gives
// err back. Under audit.mode "require" a grant that can't be written is
// refused; under "warn" the caller is told, on standard error alone, since an
// engine reads --log as the reason of a failure.
func (c *call) audited(d *decision, err error) error {
	d.Time = time.Now().UTC().Format(time.RFC3339Nano)
	d.Decision = "granted"
	if err != nil {
		d.Decision, d.Error = "refused", err.Error()
		if len(d.Error) > mostText {
			d.Error = d.Error[:mostText] + "..."
		}
	}
	for i := range d.Changes {
		d.Changes[i].Before = brief(d.Changes[i].Before)
	}
	auditErr := report.OpenAudit(c.cfg.Audit.Path).Write(d)
	switch {
	case auditErr == nil:
	case !c.subject.IsRoot() && c.cfg.Audit.Mode != config.AuditRequire:
		// The file is root's, and nothing that a user could mend: they act with
		// their own privileges, which leaves other traces.
	case err == nil && c.cfg.Audit.Mode == config.AuditRequire:
		return unrecorded(auditErr)
	default:
		c.log.Warn("this decision isn't recorded: " + auditErr.Error())
	}
	return err
}

func unrecorded(err error) error {
	return fmt.Errorf("this decision can't be recorded, and the configuration requires it (audit.mode): %w", err)
}
