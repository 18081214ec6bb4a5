// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The severities of [Syslog] (syslog(3)).
const (
	SyslogNotice  = 5
	SyslogWarning = 4
)

// Syslog sends record, in JSON, to the socket of the host's log as one datagram of the
// facility authpriv, in the form of glibc's syslog(3). It never waits: a log that is
// full, or that isn't there, is an error.
func Syslog(socket, program string, severity int, record any) error {
	line, err := jsonLine(record, false)
	if err != nil {
		return fmt.Errorf("syslog: make a record: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("syslog: %w", os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	const authpriv = 10
	text := fmt.Appendf(nil, "<%d>%s %s[%d]: %s", authpriv<<3|severity, time.Now().Format(time.Stamp), program, os.Getpid(), line[:len(line)-1])
	if err := unix.Sendto(fd, text, unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: socket}); err != nil {
		return fmt.Errorf("syslog: %w", &os.PathError{Op: "sendto", Path: socket, Err: err})
	}
	return nil
}
