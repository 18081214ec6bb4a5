// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// turns runs some measurements round after round, each round beginning with
// another, and gives the numbers of each without those of the first rounds.
func (w *world) turns(n int, each ...func(round string) (float64, error)) ([][]float64, error) {
	return w.turnsAfter(warmUp, n, each...)
}

// turnsAfter is turns with so many rounds before those that count.
func (w *world) turnsAfter(warm, n int, each ...func(round string) (float64, error)) ([][]float64, error) {
	out := make([][]float64, len(each))
	for round := range n + warm {
		for i := range each {
			if err := w.ctx.Err(); err != nil {
				return nil, err
			}
			k := (i + round) % len(each)
			x, err := each[k](strconv.Itoa(round))
			if err != nil {
				return nil, err
			}
			if round >= warm {
				out[k] = append(out[k], x)
			}
		}
	}
	return out, nil
}

// timed runs a command to its end, without looking at what it prints, and gives
// the milliseconds that it took. %s in its arguments is the round.
func timed(argv ...string) func(string) (float64, error) {
	return func(round string) (float64, error) {
		cmd := command(round, argv)
		start := time.Now()
		err := cmd.Run()
		took := time.Since(start)
		if err != nil {
			// Once more, to hear why.
			said, _ := command(round+"-again", argv).CombinedOutput()
			return 0, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, said)
		}
		return float64(took.Microseconds()) / 1000, nil
	}
}

func command(round string, argv []string) *exec.Cmd {
	args := make([]string, len(argv))
	for i, arg := range argv {
		args[i] = strings.ReplaceAll(arg, "%s", round)
	}
	return exec.Command(args[0], args[1:]...)
}

// runs is a whole container, from nothing to its end.
func runs(w *world, n int) (row, error) {
	out, err := w.turns(n,
		timed(w.gate("config.toml", "run", "--bundle", w.path("ours"), "ours-%s")...),
		timed(w.runc("run", "--bundle", w.path("plain"), "plain-%s")...))
	if err != nil {
		return row{}, err
	}
	return newRow("run, range and rootfs shifted", "runc, equal maps, rootfs chowned before", 1.10, "ms", out[0], out[1]), nil
}

// states is a verb that is passed through.
func states(w *world, n int) (row, error) {
	if err := w.hold(); err != nil {
		return row{}, err
	}
	out, err := w.turns(n,
		timed(w.gate("config.toml", "state", held)...),
		timed(w.runc("state", held)...),
		timed(w.path("empty")))
	if err != nil {
		return row{}, err
	}
	theirs := out[1]
	for i := range theirs {
		theirs[i] += out[2][i]
	}
	return newRow("state, passed through", "runc, and an exec of an empty Go program", 1.05, "ms", out[0], theirs), nil
}

// peak runs a command to its end, and gives the most MiB of memory that it had.
func (w *world) peak(argv ...string) func(round string) (float64, error) {
	return func(round string) (float64, error) {
		cmd := command(round, append([]string{w.path("maxrss")}, argv...))
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return 0, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, &said)
		}
		kib, err := strconv.Atoi(strings.TrimSpace(string(out)))
		return float64(kib) / 1024, err
	}
}

// memory is the most that the gate needs, up to its execve of a low-level
// runtime that does nothing.
func memory(w *world, n int) (row, error) {
	out, err := w.turns(min(n, 20),
		w.peak(w.gate("fake.toml", "run", "--bundle", w.path("ours"), "ours-%s")...),
		w.peak(w.runc("run", "--bundle", w.path("plain"), "plain-%s")...))
	if err != nil {
		return row{}, err
	}
	return newRow("peak memory of the gate's run", "runc's own", 1.0, "MiB", out[0], out[1]), nil
}
