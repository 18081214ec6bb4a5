// SPDX-License-Identifier: Apache-2.0

package report

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Log is the --log file of one call of the runtime, and its standard error.
//
// Engines read that file back (containerd the last error object in it, Podman
// the whole file as one object), so it stays empty on success and gets
// exactly one line on failure. The zero Log must not be used.
type Log struct {
	path   string // "" when there is no log file
	json   bool
	file   int // -1 when there is no log file
	stderr int
	opened time.Time
}

// OpenLog opens the file of runc's --log for appending, in the format of
// --log-format: "text", "json", or "" for text. The file is created with mode
// 0644 less the umask if it is missing. With an empty path there is no file,
// and the line goes to standard error in that format.
//
// It doesn't wait: a FIFO that nobody reads is an error, where runc would hang.
//
// The Log is never nil. Beside an error it is one without a file, so that
// Fail can still say on standard error, in the form runc would use, what was
// wrong with the log.
func OpenLog(path, format string) (*Log, error) {
	return openLog(path, format, unix.Stderr)
}

func openLog(path, format string, stderr int) (*Log, error) {
	l := &Log{file: -1, stderr: stderr, opened: time.Now()}
	switch format {
	case "", "text":
	case "json":
		l.json = true
	default:
		return l, fmt.Errorf("invalid log-format: %s: expected \"text\" or \"json\"", oneLine(format))
	}
	if path == "" {
		return l, nil
	}
	// O_SYNC is runc's. O_NOCTTY: a log that is a terminal must not become
	// the controlling terminal of a shim that leads its session.
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND | unix.O_SYNC |
		unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := open(path, flags, 0o644)
	if errors.Is(err, unix.ENXIO) {
		err = fmt.Errorf("a FIFO that nobody reads, or a socket: %w", err)
	}
	if err != nil {
		return l, fmt.Errorf("log: %s: %w", path, err)
	}
	// Only the open mustn't wait. Without O_NONBLOCK a line longer than what
	// a pipe holds is written whole rather than cut.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND|unix.O_SYNC); err != nil {
		_ = unix.Close(fd)
		return l, fmt.Errorf("log: %s: make it blocking: %w", path, err)
	}
	l.path, l.file = path, fd
	return l, nil
}

// Fail writes the one line about the error that ends this call: to the log
// file, in its format, and the bare message to standard error; without a log
// file, only the formatted line, to standard error. An error of several lines
// becomes one, joined with "; ".
//
// A log file that can't be written is named on standard error; Fail has
// nobody else to tell. A nil error writes nothing.
func (l *Log) Fail(err error) {
	if err == nil {
		return
	}
	msg := oneLine(err.Error())
	if l.file < 0 {
		_ = writeAll(l.stderr, l.line(l.stderr, "error", msg))
		return
	}
	if werr := writeAll(l.file, l.line(l.file, "error", msg)); werr != nil {
		msg += "\nlog: " + l.path + ": " + werr.Error()
	}
	_ = writeAll(l.stderr, []byte(msg+"\n"))
}

// Warn says something on standard error, and never in the log file, where an
// engine would take it for the reason of a failure.
func (l *Log) Warn(msg string) {
	msg = oneLine(msg)
	if l.file < 0 {
		_ = writeAll(l.stderr, l.line(l.stderr, "warning", msg))
		return
	}
	_ = writeAll(l.stderr, []byte("warning: "+msg+"\n"))
}

// Close gives the log file back. A call that ends in exec doesn't need it: the
// descriptor is closed there.
func (l *Log) Close() error {
	if l.file < 0 {
		return nil
	}
	fd := l.file
	l.file = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("log: %s: close: %w", l.path, err)
	}
	return nil
}

// line is one entry as runc's logger forms it for that descriptor: an object,
// key=value, or the short coloured form when it is a terminal.
func (l *Log) line(fd int, level, msg string) []byte {
	now := time.Now()
	stamp := now.Format(time.RFC3339)
	switch {
	case l.json:
		// HTML is escaped because runc's logger does so.
		b, _ := jsonLine(struct { // three strings always have a JSON form
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Time  string `json:"time"`
		}{level, msg, stamp}, true)
		return b
	case isTerminal(fd):
		colour := 31
		if level == "warning" {
			colour = 33
		}
		return fmt.Appendf(nil, "\x1b[%dm%s\x1b[0m[%04d] %-44s \n",
			colour, strings.ToUpper(level[:4]), int(now.Sub(l.opened)/time.Second), msg)
	default:
		b := fmt.Appendf(nil, "time=%q level=%s", stamp, level)
		if msg != "" {
			b = append(b, " msg="...)
			b = append(b, quoted(msg)...)
		}
		return append(b, '\n')
	}
}

// quoted puts a value in quotes where runc's logger would: when it holds
// anything but ASCII letters, digits and -._/@^+.
func quoted(text string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.ContainsRune("-._/@^+", c)
	}
	for _, c := range text {
		if !plain(c) {
			return fmt.Sprintf("%q", text)
		}
	}
	return text
}

// mostMessage is how many bytes of a message are shown: some quote what a bundle
// holds.
const mostMessage = 256 << 10

// oneLine makes a message fit for one line of a log or terminal. Lines are
// joined with "; ", as the lines of errors.Join are findings of equal weight.
// Other control characters become escapes: a message quotes paths and names
// that the caller chose, and they mustn't drive the terminal it is shown on.
func oneLine(msg string) string {
	if len(msg) > mostMessage {
		msg = msg[:mostMessage] + "..."
	}
	var b strings.Builder
	for line := range strings.FieldsFuncSeq(msg, func(c rune) bool { return c == '\n' || c == '\r' }) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		for _, c := range line {
			if c < ' ' && c != '\t' || c >= 0x7f && c < 0xa0 {
				fmt.Fprintf(&b, `\x%02x`, c)
			} else {
				b.WriteRune(c)
			}
		}
	}
	return b.String()
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// writeAll writes a line, in one write(2) unless the other side takes less.
// It goes past os.File, whose Write would end the process by SIGPIPE when
// standard error is a pipe that nobody reads any more, before the caller has
// undone its work.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		b = b[n:]
	}
	return nil
}

// open is open(2), again when a signal came in between.
func open(path string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Open(path, flags, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, os.NewSyscallError("open", err)
		}
	}
}
