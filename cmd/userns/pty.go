// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal of its own for a program that isn't to be trusted with the
// caller's: whoever has that open could read what is typed there, change how it works, or,
// where it is the controlling one, type into it (ioctl_tty(2), TIOCSTI).
type terminal struct {
	master, slave *os.File
	// outer is the descriptor of the caller's terminal; input says that it is standard input, which
	// is passed on.
	outer int
	input bool
	// replaced is the descriptors that the program gets the new one for.
	replaced []int

	settings sync.Mutex    // over the next two, and the end of master
	before   *unix.Termios // of the caller's terminal, while it is raw
	made     unix.Termios  // what it is meanwhile
	changes  chan os.Signal
	// ended is at its end once nothing more is to be waited for that the program writes: the other end is
	// closed then, once. drained says that what there was is passed on.
	ended, whileRuns *os.File
	closing          sync.Once
	drained          chan struct{}
	// hurried says that somebody wants the end of it.
	hurried  chan struct{}
	hurrying sync.Once
	finished bool
}

// newTerminal makes one if any of the first three descriptors is a terminal; else it is nil.
func newTerminal() (*terminal, error) {
	t := &terminal{outer: -1, hurried: make(chan struct{})}
	for fd := range 3 {
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
			continue
		}
		t.replaced = append(t.replaced, fd)
		if t.outer < 0 || fd == 1 && t.outer != 0 {
			t.outer = fd
		}
	}
	if t.outer < 0 {
		return nil, nil
	}
	t.input = t.outer == 0
	if err := t.open(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// open makes the two ends, and gives the new one the settings and the size of the caller's.
func (t *terminal) open() error {
	// Not found by a path in /dev/pts, which somebody may have mounted.
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	t.master = os.NewFile(uintptr(master), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return os.NewSyscallError("ioctl(TIOCSPTLCK)", err)
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return os.NewSyscallError("ioctl(TIOCGPTPEER)", errno)
	}
	t.slave = os.NewFile(slave, "the new terminal")
	settings, err := unix.IoctlGetTermios(t.outer, unix.TCGETS)
	if err != nil {
		return os.NewSyscallError("ioctl(TCGETS)", err)
	}
	if !t.input {
		settings.Oflag &^= unix.OPOST // the caller's terminal does it
	}
	if err := unix.IoctlSetTermios(int(slave), unix.TCSETS, settings); err != nil {
		return os.NewSyscallError("ioctl(TCSETS)", err)
	}
	t.resize()
	return nil
}

// resize gives the new one the size of the caller's. One without a size is nobody's loss.
func (t *terminal) resize() {
	t.settings.Lock()
	defer t.settings.Unlock()
	if size, err := unix.IoctlGetWinsize(t.outer, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// begin passes on what is typed and what the program writes. The program has the other end.
func (t *terminal) begin() error {
	_ = t.slave.Close() // so that the end of the program is the end of its terminal
	t.changes = make(chan os.Signal, 1)
	signal.Notify(t.changes, unix.SIGWINCH, unix.SIGCONT)
	go func() {
		for range t.changes {
			t.catchUp()
		}
	}()
	t.resize() // what came before was for nobody
	if err := t.raw(); err != nil {
		return err
	}
	out := t.outer
	if out == 0 {
		for _, fd := range t.replaced {
			if fd > 0 {
				out = fd
				break
			}
		}
	}
	var err error
	if t.ended, t.whileRuns, err = os.Pipe(); err != nil {
		return err
	}
	t.drained = make(chan struct{})
	go func() {
		defer close(t.drained)
		t.written(out)
	}()
	if t.input {
		// It ends with this process: nobody can wait for what isn't typed.
		go t.typed()
	}
	return nil
}

// raw leaves to the new terminal what the caller's does with what is typed. In a shell's background
// the kernel stops this process until it is in the foreground (termios(3), SIGTTOU).
func (t *terminal) raw() error {
	if t == nil || !t.input {
		return nil
	}
	t.settings.Lock()
	defer t.settings.Unlock()
	if t.before != nil {
		return nil
	}
	return t.makeRaw()
}

// catchUp is for what may have changed while this process was stopped, as a shell has the terminal
// otherwise then, and its size is told to who is in the foreground only.
func (t *terminal) catchUp() {
	t.resize()
	t.settings.Lock()
	defer t.settings.Unlock()
	if t.before != nil {
		_ = t.makeRaw() // it may be gone
	}
}

// makeRaw keeps in before what isn't raw.
func (t *terminal) makeRaw() error {
	before, err := unix.IoctlGetTermios(t.outer, unix.TCGETS)
	if err != nil {
		return os.NewSyscallError("ioctl(TCGETS)", err)
	}
	raw := *before
	// cfmakeraw(3).
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if t.before != nil && *before == t.made {
		return nil
	}
	if err := unix.IoctlSetTermios(t.outer, unix.TCSETSW, &raw); err != nil {
		return os.NewSyscallError("ioctl(TCSETSW)", err)
	}
	t.before, t.made = before, raw
	// A terminal may not be able to be all of it.
	if is, err := unix.IoctlGetTermios(t.outer, unix.TCGETS); err == nil {
		t.made = *is
	}
	return nil
}

// restore gives the caller's terminal its settings back.
func (t *terminal) restore() {
	if t == nil {
		return
	}
	t.settings.Lock()
	defer t.settings.Unlock()
	if t.before != nil {
		_ = unix.IoctlSetTermios(t.outer, unix.TCSETSW, t.before) // it may be gone
		t.before = nil
	}
}

// typed passes on what is typed, until there is no more. Where that is since the caller's terminal was closed,
// the new one is closed as well, or the program would wait for somebody to type there who is gone.
func (t *terminal) typed() {
	buffer := make([]byte, 4<<10)
	for {
		n, err := unix.Read(0, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			// To read is an error too in the background of a shell that is gone.
			is := []unix.PollFd{{Fd: 0}}
			if _, err := unix.Poll(is, 0); err == nil && is[0].Revents&unix.POLLHUP != 0 {
				t.hangUp()
			}
			return
		}
		if write(int(t.master.Fd()), buffer[:n]) != nil {
			return
		}
	}
}

// hangUp closes the new terminal. The kernel tells the program, as it has told this one.
func (t *terminal) hangUp() {
	t.stopWriting()
	<-t.drained
	t.settings.Lock()
	defer t.settings.Unlock()
	_ = t.master.Close()
}

// stopWriting has written end soon.
func (t *terminal) stopWriting() {
	t.closing.Do(func() { _ = t.whileRuns.Close() }) // the other end tells
}

// hurry says that what the program has written isn't to be waited for without limit once it has ended: the caller's
// terminal may take nothing any more.
func (t *terminal) hurry() {
	if t != nil {
		t.hurrying.Do(func() { close(t.hurried) })
	}
}

// mostLeft is how many bytes are passed on at most once the program has ended. A terminal holds less.
const mostLeft = 256 << 10

// written passes on what the program writes, to its end. Then it passes on what is left, and
// doesn't wait for what others may write who have the terminal too.
func (t *terminal) written(to int) {
	master := int(t.master.Fd())
	buffer := make([]byte, 32<<10)
	fds := []unix.PollFd{{Fd: int32(master), Events: unix.POLLIN}, {Fd: int32(t.ended.Fd()), Events: unix.POLLIN}}
	for left := mostLeft; left > 0; {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		if fds[0].Revents == 0 {
			if fds[1].Revents != 0 {
				return
			}
			continue
		}
		n, err := unix.Read(master, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return // EIO: nobody has the other end
		}
		_ = write(to, buffer[:n]) // what nobody hears mustn't stop the program
		if fds[1].Revents != 0 {
			left -= n
		}
	}
}

func write(to int, text []byte) error {
	for len(text) > 0 {
		n, err := unix.Write(to, text)
		switch err {
		case nil:
			text = text[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLOUT}}, -1); err != nil && err != unix.EINTR {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

// end is called when the program has ended, and gives the caller's terminal back as it was.
func (t *terminal) end() {
	if t == nil || t.finished {
		return
	}
	t.finished = true
	if t.changes != nil {
		signal.Stop(t.changes)
	}
	if t.drained != nil {
		t.stopWriting()
		select {
		case <-t.drained:
		case <-t.hurried:
			select {
			case <-t.drained:
			case <-time.After(patience):
			}
		}
	}
	t.restore()
	// What is open ends with this process: what is typed may still be on its way.
}

// close frees what open has made.
func (t *terminal) close() {
	for _, f := range []*os.File{t.master, t.slave, t.ended} {
		if f != nil {
			_ = f.Close() // the slave may be closed already
		}
	}
}
