// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The man page has each verb, and each option of exec by all its names.
func TestManPage(t *testing.T) {
	text, err := os.ReadFile("../../man/userns.1")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), `\-`, "-")
	_, usages, err := parseExec(nil)
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`(?m)^  (-\w,|   ) --([a-z-]+)`).FindAllStringSubmatch(usages, -1)
	if len(options) < 25 {
		t.Fatalf("only %d options in\n%s", len(options), usages)
	}
	for _, o := range options {
		for _, name := range []string{strings.Trim(o[1], " ,"), "--" + o[2]} {
			if name != "" && !regexp.MustCompile(`(?m)^\..*[ ,"]`+name+`([^a-z-]|$)|^\.B.* `+name).MatchString(page) {
				t.Errorf("exec's option %s isn't in man/userns.1", name)
			}
		}
	}
	for _, v := range verbs() {
		if !strings.Contains(page, "\n.SH "+strings.ToUpper(v.name)+"\n") {
			t.Errorf("verb %s has no section in man/userns.1", v.name)
		}
	}
}
