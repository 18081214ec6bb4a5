// SPDX-License-Identifier: Apache-2.0

// Package report is how the runtime speaks: [Log] writes runc's --log file and
// standard error exactly as runc does, nothing on success and one line on
// failure, and [Audit] appends one JSON line per decision.
//
// It doesn't know what a decision is, which messages are worth a line, or what
// follows when the audit file can't be written: that is the caller's policy.
// It isn't a logging library: there are no levels to set and nothing is kept.
package report
