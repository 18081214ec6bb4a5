// SPDX-License-Identifier: Apache-2.0

// Command bench compares bin/userns-runtime with plain bin/runc, in whole
// processes that take turns, and prints the rows of DESIGN.md, section 14, that
// it knows how to measure. The first rounds are dropped. A reach that is missed
// is printed, and is no error.
//
// It must be run by root, in the root of the tree, after make build. For as long
// as it runs there is a line of its own in the book, in a drop-in.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
)

const warmUp = 5

func main() {
	n := flag.Int("n", 100, "rounds of each row")
	asJSON := flag.Bool("json", false, "print a JSON array of the rows")
	million := flag.Bool("million", false, "the image of 1,000,000 files, too (some minutes)")
	flag.Parse()
	if *n < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := bench(*n, *asJSON, *million); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(n int, asJSON, million bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rows, err := measure(ctx, n, million)
	if err != nil {
		return err
	}
	return write(os.Stdout, rows, asJSON)
}

func write(w io.Writer, rows []row, asJSON bool) error {
	if !asJSON {
		return table(w, rows)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

// measure makes a world, measures all rows in it, and leaves nothing of it.
func measure(ctx context.Context, n int, million bool) (rows []row, err error) {
	w, err := newWorld(ctx)
	defer func() { err = errors.Join(err, w.remove()) }()
	if err != nil {
		return nil, err
	}
	measurements := []func(*world, int) (row, error){runs, states, memory, shifts(imageFiles, imageBytes)}
	if million {
		measurements = append(measurements, shifts(1_000_000, 0))
	}
	for _, f := range measurements {
		r, err := f(w, n)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	large, err := grants(w, n)
	if err != nil {
		return nil, err
	}
	many, err := creates(w, n)
	if err != nil {
		return nil, err
	}
	engines, err := dockerRuns(w, n)
	return append(append(append(rows, large...), many), engines...), err
}

// row is a line of the table. Ratio is the median of ratios, each of one round;
// Ours and Theirs are medians, with their median absolute deviations.
type row struct {
	What, Against     string
	Rounds            int
	Ratio, RatioMAD   float64
	Reach             float64
	Ours, OursMAD     float64
	Theirs, TheirsMAD float64
	Unit              string
}

func newRow(what, against string, reach float64, unit string, ours, theirs []float64) row {
	r := ratios(ours, theirs)
	return row{
		What: what, Against: against, Rounds: len(r), Reach: reach, Unit: unit,
		Ratio: median(r), RatioMAD: mad(r),
		Ours: median(ours), OursMAD: mad(ours),
		Theirs: median(theirs), TheirsMAD: mad(theirs),
	}
}

// verdict is empty for a row that nobody has set a reach for.
func (r row) verdict() string {
	if r.Reach == 0 {
		return ""
	}
	if r.Ratio > r.Reach {
		return "MISSED"
	}
	return "reached"
}

func table(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tagainst\tratio\treach\t\tours\ttheirs\trounds")
	for _, r := range rows {
		reach := ""
		if r.Reach > 0 {
			reach = fmt.Sprintf("<= %.2f", r.Reach)
		}
		fmt.Fprintf(t, "%s\t%s\t%.3f ±%.3f\t%s\t%s\t%.2f ±%.2f %s\t%.2f ±%.2f %s\t%d\n",
			r.What, r.Against, r.Ratio, r.RatioMAD, reach, r.verdict(), r.Ours, r.OursMAD, r.Unit, r.Theirs, r.TheirsMAD, r.Unit, r.Rounds)
	}
	return t.Flush()
}
