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
	"strings"
	"syscall"
	"text/tabwriter"
)

const warmUp = 5

func main() {
	n := flag.Int("n", 100, "rounds of each row")
	asJSON := flag.Bool("json", false, "print a JSON array of the rows")
	million := flag.Bool("million", false, "the image of 1,000,000 files, too (some minutes)")
	only := flag.String("only", "", "`NAME` of the rows to measure, instead of all: "+strings.Join(names(measurements(true)), ", "))
	flag.Parse()
	chosen := choose(measurements(*million || *only != ""), *only)
	if *n < 1 || flag.NArg() > 0 || chosen == nil {
		flag.Usage()
		os.Exit(2)
	}
	if err := bench(*n, *asJSON, chosen); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(n int, asJSON bool, chosen []measurement) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rows, err := measure(ctx, n, chosen)
	if err != nil {
		return err
	}
	return write(os.Stdout, rows, asJSON)
}

// measurement is what gives one row or several, by its name for -only.
type measurement struct {
	name string
	rows func(*world, int) ([]row, error)
}

// measurements is all of them, in their order, with the long one if million is set.
func measurements(million bool) []measurement {
	all := []measurement{
		{"run", one(runs)}, {"state", one(states)}, {"memory", one(memory)}, {"shift", one(shifts(imageFiles, imageBytes))},
	}
	if million {
		all = append(all, measurement{"million", one(shifts(1_000_000, 0))})
	}
	return append(all, measurement{"book", grants}, measurement{"creates", one(creates)}, measurement{"engines", dockerRuns}, measurement{"layer", layers})
}

func one(f func(*world, int) (row, error)) func(*world, int) ([]row, error) {
	return func(w *world, n int) ([]row, error) {
		r, err := f(w, n)
		return []row{r}, err
	}
}

func names(of []measurement) (all []string) {
	for _, m := range of {
		all = append(all, m.name)
	}
	return all
}

// choose is the measurement of that name, or all for an empty one; nil if there is none.
func choose(from []measurement, name string) []measurement {
	if name == "" {
		return from
	}
	for _, m := range from {
		if m.name == name {
			return []measurement{m}
		}
	}
	return nil
}

func write(w io.Writer, rows []row, asJSON bool) error {
	if !asJSON {
		return table(w, rows)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

// measure makes a world, measures rows in it, and leaves nothing of it.
func measure(ctx context.Context, n int, chosen []measurement) (rows []row, err error) {
	w, err := newWorld(ctx)
	defer func() { err = errors.Join(err, w.remove()) }()
	if err != nil {
		return nil, err
	}
	for _, m := range chosen {
		more, err := m.rows(w, n)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
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
