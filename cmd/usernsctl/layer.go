// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/userns-runtime/userns-runtime/internal/layer"
	"github.com/userns-runtime/userns-runtime/internal/linux"
	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

// Flags of several verbs of layer.
const (
	flagMap       = "map"
	flagSquash    = "squash"
	flagDropNames = "drop-names"
)

func (p *program) layerVerb() *cli.Command {
	return &cli.Command{
		Name:      "layer",
		Usage:     "translate the owners of image layers between a container and the host",
		UsageText: programName + " layer VERB [flags and arguments]",
		Subcommands: []*cli.Command{
			p.layerShiftVerb(), p.layerUnpackVerb(), p.layerPackVerb(), p.layerVerifyVerb(),
		},
	}
}

// mapFlag and squashFlag are those of every verb that translates IDs.
func mapFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: flagMap, Usage: "`INNER:OUTER:COUNT`, an extent of the container's map; may be given several times"}
}

func squashFlag() cli.Flag {
	return yes(flagSquash, "make nobody of IDs that the map doesn't hold, instead of refusing them")
}

// shiftFlags say how IDs are translated; see shiftOf.
func shiftFlags() []cli.Flag {
	return []cli.Flag{
		mapFlag(), squashFlag(),
		yes(flagDropNames, "take the names of owners out, so that their numbers count alone"),
	}
}

// shiftOf reads how IDs are translated, but for the direction.
func shiftOf(c *cli.Context) (*layer.Shift, error) {
	s := &layer.Shift{Squash: c.Bool(flagSquash), DropNames: c.Bool(flagDropNames)}
	texts := c.StringSlice(flagMap)
	if len(texts) == 0 {
		return nil, misused(verbOf(c), "--%s is missing: expected INNER:OUTER:COUNT, such as 0:100000:65536", flagMap)
	}
	for _, text := range texts {
		extent, err := idmap.ParseExtent(text)
		if err != nil {
			return nil, misused(verbOf(c), "--%s: %w", flagMap, err)
		}
		s.Map = append(s.Map, extent)
	}
	if err := s.Map.Validate(); err != nil {
		return nil, misused(verbOf(c), "--%s: %w", flagMap, err)
	}
	return s, nil
}

// layerFailed is the failure of work on layers, with what helps.
func (p *program) layerFailed(verb string, squash bool, err error) error {
	hint := ""
	if errors.Is(err, layer.ErrUnmapped) && !squash {
		hint = command(append(p.args, "--"+flagSquash)...)
	}
	return failed(hint, "%s: %w", verb, err)
}

// fileOf reads a flag that names a file, "" where it isn't given.
func fileOf(c *cli.Context, flag string) (string, error) {
	if c.IsSet(flag) && c.String(flag) == "" {
		return "", misused(verbOf(c), "--%s: is empty: expected a file", flag)
	}
	return c.String(flag), nil
}

// input opens what is read, and says what it is: the file of --input, or standard input.
func (p *program) input(c *cli.Context) (from io.Reader, closed func(), what string, err error) {
	name, err := fileOf(c, flagInput)
	if err != nil {
		return nil, nil, "", err
	}
	if name != "" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, "", failed("", "%s: %w", verbOf(c), err)
		}
		return f, func() { f.Close() }, name, nil
	}
	if isTerminal(p.stdin) {
		return nil, nil, "", misused(verbOf(c), "standard input is a terminal: expected an archive: <FILE")
	}
	widen(p.stdin)
	return p.stdin, func() {}, "standard input", nil
}

// isTerminal says whether a stream is one, of whatever width.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// widen gives a pipe more room, so that both ends wait less often: half of what a user may
// give one, since with more it is no longer in the cache when it is read. One that can't have
// it is as good, but slower.
func widen(stream any) {
	if f, ok := stream.(*os.File); ok {
		_ = linux.SetPipeSize(f, 512<<10)
	}
}

// goods is what an archive is written to: a file, which comes into its place when it is
// whole, or standard output. Until then the file has no name where the filesystem can do that
// (open(2), O_TMPFILE), so that nothing of it stays, however the program ends.
type goods struct {
	io.Writer
	file  *os.File // nil for standard output
	path  string   // its place
	temp  string   // its name beside that
	named bool     // it has that name from the first
	// mu is held by who ends it: the program, or a signal.
	mu    sync.Mutex
	ended bool
	stop  func() // watching for signals
}

// unnamed opens a file that has no name; in tests, the way of a filesystem that can't.
var unnamed = unix.O_TMPFILE

// output opens what is written: the file of --output, or standard output.
func (p *program) output(c *cli.Context) (*goods, error) {
	verb := verbOf(c)
	name, err := fileOf(c, flagOutput)
	if err != nil {
		return nil, err
	}
	if name == "" {
		if isTerminal(p.stdout) {
			return nil, misused(verb, "standard output is a terminal: expected a file or a pipe: >FILE")
		}
		widen(p.stdout)
		return &goods{Writer: p.stdout}, nil
	}
	switch st, err := os.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, failed("", "%s: %w", verb, err)
	case !st.Mode().IsRegular():
		return nil, failed("", "%s: %s: is no regular file: expected one, or none: write into it with >", verb, name)
	}
	dir, base := filepath.Split(name)
	g := &goods{path: name}
	g.stop = onSignal(func() { _ = g.end(false) })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.temp = filepath.Join(dir, fmt.Sprintf(".%s.%d", base, os.Getpid()))
	// As the shell makes one: who may read it is the umask's to say.
	f, err := os.OpenFile(cmp.Or(dir, "."), os.O_WRONLY|unnamed, 0o666) //nolint:gosec // G302: the umask's
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		g.named = true
		f, err = os.OpenFile(g.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // G302: the umask's
	}
	if err != nil {
		g.stop()
		return nil, failed("", "%s: %w", verb, err)
	}
	g.Writer, g.file = f, f
	return g, nil
}

// end puts the file into its place, or removes it if it isn't whole.
func (g *goods) end(whole bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file == nil || g.ended {
		return nil
	}
	g.ended = true
	if !whole {
		return errors.Join(g.file.Close(), g.discard())
	}
	err := g.file.Sync()
	if err == nil && !g.named {
		// linkat(2) doesn't replace a file, as rename(2) does.
		err = unix.Linkat(unix.AT_FDCWD, linux.FDPath(g.file), unix.AT_FDCWD, g.temp, unix.AT_SYMLINK_FOLLOW)
		if err != nil {
			err = &os.PathError{Op: "linkat", Path: g.temp, Err: err}
		}
		g.named = err == nil
	}
	err = errors.Join(err, g.file.Close())
	if err == nil {
		err = os.Rename(g.temp, g.path)
	}
	if err != nil {
		err = errors.Join(err, g.discard())
	}
	return err
}

// discard removes the name beside the place, if the file has one.
func (g *goods) discard() error {
	if !g.named {
		return nil
	}
	return os.Remove(g.temp)
}

// close ends what was written, for a verb that ends with err, and gives the error with
// which it ends then.
func (g *goods) close(verb string, err error) error {
	if ended := g.end(err == nil); err == nil && ended != nil {
		err = failed("", "%s: %w", verb, ended)
	}
	if g.stop != nil {
		g.stop()
	}
	return err
}

// onSignal calls clean when the program is told to end, and lets the signal end it then, so that
// whoever called it sees that. stop doesn't come back once that has begun.
func onSignal(clean func()) (stop func()) {
	signals, done, stopped := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if !signal.Ignored(s) { // as by nohup(1)
			signal.Notify(signals, s)
		}
	}
	go func() {
		select {
		case s := <-signals:
			clean()
			signal.Reset(s)
			if number, ok := s.(unix.Signal); ok {
				_ = unix.Kill(os.Getpid(), number) // our own process can't refuse
			}
		case <-done:
			close(stopped)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-stopped
	}
}

// untilSignal does what ends with its context, and then leaves nothing, before a signal
// ends the program.
func untilSignal(do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	stop := onSignal(func() {
		cancel()
		<-done
	})
	err := do(ctx)
	close(done)
	stop()
	return err
}

// watched is r, with a bar on standard error that shows how much of it was read, if that
// is a terminal. finish takes the bar away.
func (p *program) watched(r io.Reader, what string) (watched io.Reader, finish func()) {
	size := int64(-1)
	if f, ok := r.(interface{ Stat() (fs.FileInfo, error) }); ok {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			size = st.Size()
		}
	}
	bar, finish := p.bar(size, what)
	if bar == nil {
		return r, finish
	}
	return io.TeeReader(r, bar), finish
}

// watchedWriter is w, as watched shows what is read.
func (p *program) watchedWriter(w io.Writer, what string) (watched io.Writer, finish func()) {
	bar, finish := p.bar(-1, what)
	if bar == nil {
		return w, finish
	}
	return io.MultiWriter(w, bar), finish
}

// bar is nil where standard error isn't a terminal. size is in bytes, -1 for unknown.
func (p *program) bar(size int64, what string) (bar *progressbar.ProgressBar, finish func()) {
	if !isTerminal(p.stderr) {
		return nil, func() {}
	}
	b := progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(p.stderr), progressbar.OptionSetDescription(visible(what)),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionUseIECUnits(true))
	return b, func() { _ = b.Finish() }
}
