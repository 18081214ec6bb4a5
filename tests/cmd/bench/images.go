// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// imageFiles and imageBytes are the image of DESIGN.md, section 14.
const (
	imageFiles = 50_000
	imageBytes = 1 << 30
)

// image is a tree of so many files, of so many bytes together, a hundred in each
// directory.
func (w *world) image(name string, files int, bytes int64) (string, error) {
	dir := filepath.Join(w.path("store"), name)
	if err := os.MkdirAll(filepath.Join(w.path("store"), "top"), 0o700); err != nil {
		return "", err
	}
	content := make([]byte, bytes/int64(files))
	for i := range files {
		if i%1000 == 0 && w.ctx.Err() != nil {
			return "", w.ctx.Err()
		}
		sub := filepath.Join(dir, strconv.Itoa(i/10_000), strconv.Itoa(i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), content, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// shifts is an image shifted to a new range, against its owners changed on disk.
func shifts(files int, bytes int64) func(*world, int) (row, error) {
	return func(w *world, n int) (row, error) {
		dir, err := w.image(fmt.Sprintf("image-%d", files), files, bytes)
		if err != nil {
			return row{}, err
		}
		top := filepath.Join(w.path("store"), "top")
		ours := func(string) (float64, error) {
			out, err := exec.Command(w.path("shift"), dir, top, strconv.FormatUint(uint64(w.ids.Start), 10), strconv.FormatUint(uint64(w.ids.Count), 10)).Output()
			if err != nil {
				return 0, fmt.Errorf("shift: %w", withStderr(err))
			}
			return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		}
		// Another owner in each round, as each new range would be.
		chown := func(round string) (float64, error) {
			i, err := strconv.Atoi(round)
			if err != nil {
				return 0, err
			}
			id := strconv.FormatUint(uint64(w.ids.Start)+uint64(i%2), 10)
			return timed("chown", "-R", id+":"+id, dir)(round)
		}
		out, err := w.turns(min(n, 20), ours, chown)
		if err != nil {
			return row{}, err
		}
		if err := os.RemoveAll(dir); err != nil {
			return row{}, err
		}
		return newRow(fmt.Sprintf("shift of an image of %d files (in process)", files), "chown -R of it, cache warm", 0.01, "ms", out[0], out[1]), nil
	}
}

func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// dockerRuns is a whole `docker run` of that image under the gate against one under
// plain runc, and one of Podman's with --userns=auto. Engines run in a sandbox of
// their own.
func dockerRuns(w *world, n int) ([]row, error) {
	for _, program := range []string{"dockerd", "podman", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Fprintf(os.Stderr, "bench: no rows of engines: %v: run `make deps`\n", err)
			return nil, nil
		}
	}
	dir, err := w.image("docker", imageFiles, imageBytes)
	if err != nil {
		return nil, err
	}
	script, err := filepath.Abs("tests/cmd/bench/engines.sh")
	if err != nil {
		return nil, err
	}
	sandbox, err := filepath.Abs("tests/bats/sandbox.sh")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(w.ctx, "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--propagation", "slave", "--",
		sandbox, script, w.path("engines"), dir, w.gatePath, w.runcPath, strconv.Itoa(min(n, 20)+warmUp))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", script, err)
	}
	numbers := map[string][]float64{}
	scanner := bufio.NewScanner(strings.NewReader(string(out)))
	for scanner.Scan() {
		what, value, ok := strings.Cut(scanner.Text(), " ")
		ms, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("%s: %q: expected a name and milliseconds", script, scanner.Text())
		}
		numbers[what] = append(numbers[what], ms)
	}
	for _, what := range []string{"ours", "plain", "podman"} {
		if len(numbers[what]) <= warmUp {
			return nil, fmt.Errorf("%s: %d numbers of %s", script, len(numbers[what]), what)
		}
		numbers[what] = numbers[what][warmUp:]
	}
	const what = "docker run of that image, in its range"
	return []row{
		newRow(what, "docker run under plain runc", 1.05, "ms", numbers["ours"], numbers["plain"]),
		newRow(what, "podman run --userns=auto, a new range each", 0, "ms", numbers["ours"], numbers["podman"]),
	}, nil
}
