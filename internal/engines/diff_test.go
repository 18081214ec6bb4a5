// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	numbered := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			fmt.Fprintf(&b, "%d\n", i)
		}
		return b.String()
	}
	for _, row := range []struct{ name, a, b, want string }{
		{"same", "a\n", "a\n", ""},
		{"new", "", "a\nb\n", "--- A\n+++ B\n@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"gone", "a\n", "", "--- A\n+++ B\n@@ -1 +0,0 @@\n-a\n"},
		{"newline", "a", "a\n", "--- A\n+++ B\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"},
		{"context", numbered(1, 9), numbered(1, 4) + "x\n" + numbered(6, 9), "--- A\n+++ B\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"},
		{
			"two hunks", numbered(1, 20), "0\n" + numbered(1, 19),
			"--- A\n+++ B\n@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -17,4 +18,3 @@\n 17\n 18\n 19\n-20\n",
		},
		{
			"escapes", "a\n", "\x1b[2J\u202e\xff\r\tb\u009b\n",
			"--- A\n+++ B\n@@ -1 +1 @@\n-a\n+\\x1b[2J\\u202e\\xff\\x0d\tb\\u009b\n",
		},
	} {
		if got := Diff("A", "B", row.a, row.b); got != row.want {
			t.Errorf("%s: got\n%swant\n%s", row.name, got, row.want)
		}
	}
}

// patch(1) makes b of a with it, whatever they are.
func TestDiffPatches(t *testing.T) {
	program, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("patch isn't installed")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		text := func() string {
			var b strings.Builder
			for range random.IntN(30) {
				fmt.Fprintf(&b, "%d\n", random.IntN(4))
			}
			return strings.TrimSuffix(b.String(), strings.Repeat("\n", random.IntN(2)))
		}
		a, b := text(), text()
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(a), 0o600); err != nil {
			t.Fatal(err)
		}
		diff := Diff("f", "f", a, b)
		if diff == "" {
			continue
		}
		cmd := exec.Command(program, "-s", "-u", "--no-backup-if-mismatch", path)
		cmd.Stdin = strings.NewReader(diff)
		out, err := cmd.CombinedOutput()
		got, rerr := os.ReadFile(path)
		if rerr != nil && b == "" {
			continue // patch removes what becomes empty
		}
		if err != nil || string(got) != b {
			t.Fatalf("%d: %v %s: from %q to %q by\n%s\ngot %q", n, err, out, a, b, diff, got)
		}
	}
}
