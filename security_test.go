// SPDX-License-Identifier: Apache-2.0

package usernsruntime_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityTable holds the claims of SECURITY.md against the tests there are: one that was renamed or
// removed must not stay a claim.
func TestSecurityTable(t *testing.T) {
	text, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	cell := regexp.MustCompile("`([^`]+)`")
	rows, inside := 0, false
	for line := range strings.Lines(string(text)) {
		if line == "| claim | test |\n" {
			inside = true
			continue
		}
		if !strings.HasPrefix(line, "|") {
			inside = false
		}
		if !inside || strings.HasPrefix(line, "|--") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "|\n"), " | ")
		named := cell.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(cells) != 2 || len(named) == 0 {
			t.Errorf("%s: expected a claim, and the tests that hold it", strings.TrimSpace(line))
		}
		for _, name := range named {
			if !isTest(t, name[1]) {
				t.Errorf("%s: there is no test %s", cells[0], name[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d claims: expected the table", rows)
	}
}

// isTest says whether a test is there: a function of Go's, or FILE.bats: a part of a title.
func isTest(t *testing.T, name string) bool {
	file, part, isBats := strings.Cut(name, ": ")
	if isBats {
		text, err := os.ReadFile(filepath.Join("tests/bats", file))
		return err == nil && regexp.MustCompile(`(?m)^@test ".*`+regexp.QuoteMeta(part)).Match(text)
	}
	declares := []byte("\nfunc " + name + "(t *testing.T) {")
	found := false
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || found || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		found = strings.Contains(string(text), string(declares))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
