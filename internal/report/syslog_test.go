// SPDX-License-Identifier: Apache-2.0

package report

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := Syslog(path, "userns", SyslogNotice, 1); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without a log: got %v", err)
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	// No line feed of a record begins a second line.
	record := map[string]string{"error": "a\nb<c>\x1b"}
	if err := Syslog(path, "userns", SyslogWarning, record); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 1024)
	if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := socket.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`^<84>[A-Z][a-z]{2} [ 1-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} userns\[%d\]: \{"error":"a\\nb<c>\\u001b"\}$`, os.Getpid())
	if !regexp.MustCompile(want).Match(text[:n]) {
		t.Errorf("got %q", text[:n])
	}
	// One that nobody reads is full at some time, and is never waited for.
	for range 10000 {
		if err = Syslog(path, "userns", SyslogNotice, strings.Repeat("x", 1000)); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a full log: got %v", err)
	}
	if err := Syslog(path, "userns", SyslogNotice, func() {}); err == nil {
		t.Error("a record that isn't one was sent")
	}
}
