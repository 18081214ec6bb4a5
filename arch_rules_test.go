// SPDX-License-Identifier: Apache-2.0

package usernsruntime_test

import (
	"strings"
	"testing"
)

// The rules of arch_test.go, each shown to fail.

// expect wants exactly one problem with want in it, or none at all when want is
// empty.
func expect(t *testing.T, problems []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(problems) > 0:
		t.Errorf("expected no problem, got %q", problems)
	case want != "" && (len(problems) != 1 || !strings.Contains(problems[0], want)):
		t.Errorf("expected one problem with %q in it, got %q", want, problems)
	}
}

func TestCheckImports(t *testing.T) {
	const ours = module + "/"
	for name, tc := range map[string]struct {
		path   string
		clause string // what follows the package clause
		want   string
	}{
		"downward":                     {"internal/shim/a.go", `import "` + ours + `pkg/idmap"`, ""},
		"downward by one floor":        {"internal/rootfs/a.go", `import "` + ours + `internal/oci"`, ""},
		"sideways":                     {"internal/rootfs/a.go", `import "` + ours + `pkg/delegate"`, "isn't below it"},
		"sideways at the bottom":       {"internal/lockedfile/a.go", `import "` + ours + `pkg/idmap"`, "isn't below it"},
		"upward":                       {"internal/oci/a.go", `import "` + ours + `internal/shim"`, "isn't below it"},
		"upward under another name":    {"internal/oci/a.go", `import x "` + ours + `internal/shim"`, "isn't below it"},
		"a program imports a program":  {"cmd/userns/a.go", `import "` + ours + `cmd/usernsctl"`, "isn't below it"},
		"a program imports the shim":   {"cmd/userns-runtime/a.go", `import "` + ours + `internal/shim"`, ""},
		"helper of tests":              {"tests/cmd/x/a.go", `import "` + ours + `internal/shim"`, ""},
		"imported helper of tests":     {"internal/shim/a.go", `import "` + ours + `tests/cmd/x"`, "isn't below it"},
		"unknown package":              {"internal/utils/a.go", "", "has no floor"},
		"unknown package of ours":      {"internal/shim/a.go", `import "` + ours + `internal/utils"`, "internal/utils, which has no floor"},
		"the module's root":            {"a.go", "", "has no floor"},
		"tests import what they like":  {"pkg/idmap/a_test.go", `import "` + ours + `internal/shim"`, ""},
		"pkg and internal's bottom":    {"pkg/delegate/a.go", `import "` + ours + `internal/linux"`, ""},
		"pkg and internal's next":      {"pkg/delegate/a.go", `import "` + ours + `internal/oci"`, "only its lowest floor"},
		"pkg and config":               {"pkg/delegate/a.go", `import "` + ours + `config"`, "bring their own configuration"},
		"specpatch and os":             {"pkg/specpatch/a.go", `import "os"`, "decided by the spec"},
		"specpatch and os/exec":        {"pkg/specpatch/a.go", `import "os/exec"`, "decided by the spec"},
		"specpatch and syscall":        {"pkg/specpatch/a.go", `import "syscall"`, "decided by the spec"},
		"specpatch and net":            {"pkg/specpatch/a.go", `import "net/netip"`, "decided by the spec"},
		"specpatch and x/sys":          {"pkg/specpatch/a.go", `import "golang.org/x/sys/unix"`, "decided by the spec"},
		"specpatch and strings":        {"pkg/specpatch/a.go", `import "strings"`, ""},
		"idmap and strings":            {"pkg/idmap/a.go", `import "strings"`, ""},
		"idmap and os":                 {"pkg/idmap/a.go", `import "os"`, "arithmetic"},
		"idmap and others' code":       {"pkg/idmap/a.go", `import "golang.org/x/exp/maps"`, "arithmetic"},
		"report and us":                {"internal/report/a.go", `import "` + ours + `pkg/idmap"`, "isn't below it"},
		"layer and system calls":       {"internal/layer/a.go", `import "golang.org/x/sys/unix"`, "no privilege"},
		"log":                          {"internal/oci/a.go", `import "log"`, "the top speaks"},
		"log/slog":                     {"internal/oci/a.go", `import "log/slog"`, "the top speaks"},
		"log in the shim":              {"internal/shim/a.go", `import "log"`, ""},
		"fmt.Println":                  {"internal/oci/a.go", "import \"fmt\"\nfunc f() { fmt.Println() }", "fmt.Println in line 4"},
		"fmt.Printf, renamed":          {"internal/oci/a.go", "import p \"fmt\"\nfunc f() { p.Printf(``) }", "fmt.Printf"},
		"fmt.Print, as a value":        {"internal/oci/a.go", "import \"fmt\"\nvar f = fmt.Print", "fmt.Print "},
		"os.Stderr":                    {"internal/oci/a.go", "import \"os\"\nvar f = os.Stderr", "os.Stderr"},
		"println":                      {"internal/oci/a.go", "func f() { println() }", "println"},
		"fmt.Errorf":                   {"internal/oci/a.go", "import \"fmt\"\nvar f = fmt.Errorf", ""},
		"a method that is called so":   {"internal/oci/a.go", "type x struct{}\nfunc (x) Println() {}\nfunc f(fmt x) { fmt.Println() }", ""},
		"fmt.Println in the shim":      {"internal/shim/a.go", "import \"fmt\"\nfunc f() { fmt.Println() }", ""},
		"a name that only begins so":   {"internal/oci/a.go", `import "logger"`, ""},
		"a package that isn't made":    {"internal/census/a.go", `import "` + ours + `internal/lease"`, ""},
		"specpatch's neighbour and os": {"pkg/registry/a.go", `import "os"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseSource(tc.path, "// SPDX-License-Identifier: Apache-2.0\n\npackage p; "+tc.clause+"\n")
			if err != nil {
				t.Fatal(err)
			}
			expect(t, checkImports(s), tc.want)
		})
	}
}

func TestCheckForm(t *testing.T) {
	const head = "// SPDX-License-Identifier: Apache-2.0\n"
	for name, tc := range map[string]struct{ path, text, want string }{
		"good":                    {"a.go", head + "package p\n", ""},
		"no SPDX line":            {"a.go", "package p\n", "SPDX"},
		"SPDX line of another":    {"a.go", "// SPDX-License-Identifier: MIT\npackage p\n", "SPDX"},
		"SPDX line further down":  {"a.go", "\n" + head + "package p\n", "SPDX"},
		"no SPDX line in a test":  {"a_test.go", "package p\n", "SPDX"},
		"longest file":            {"a.go", head + "package p\n" + strings.Repeat("\n", maxLines-2), ""},
		"a file too long":         {"a.go", head + "package p\n" + strings.Repeat("\n", maxLines-1), "501 lines"},
		"longest test":            {"a_test.go", head + "package p\n" + strings.Repeat("\n", maxTestLines-2), ""},
		"a test that is too long": {"a_test.go", head + "package p\n" + strings.Repeat("\n", maxTestLines-1), "1501 lines"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseSource(tc.path, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, checkForm(s), tc.want)
		})
	}
}

func TestCheckDocs(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"library":                {map[string]string{"pkg/idmap/doc.go": "// Package idmap a\n// b\n// c\npackage idmap"}, ""},
		"two lines":              {map[string]string{"pkg/idmap/doc.go": "// Package idmap a\n// b\npackage idmap"}, "3 lines or more in doc.go"},
		"no comment":             {map[string]string{"pkg/idmap/doc.go": "package idmap"}, "doc.go"},
		"another beginning":      {map[string]string{"pkg/idmap/doc.go": "// This a\n// b\n// c\npackage idmap"}, `"Package idmap "`},
		"not beside the clause":  {map[string]string{"pkg/idmap/doc.go": "// Package idmap a\n// b\n// c\n\npackage idmap"}, "doc.go"},
		"in another file":        {map[string]string{"pkg/idmap/map.go": "// Package idmap a\n// b\n// c\npackage idmap"}, "doc.go"},
		"program":                {map[string]string{"cmd/userns/main.go": "// Command userns a\n// b\npackage main"}, ""},
		"program, one line":      {map[string]string{"cmd/userns/main.go": "// Command userns a\npackage main"}, "2 lines or more in main.go"},
		"program, elsewhere":     {map[string]string{"cmd/userns/x.go": "// Command userns a\n// b\npackage main"}, "main.go"},
		"helper without a word":  {map[string]string{"tests/cmd/x/main.go": "package main"}, `"Command x "`},
		"tests need no document": {map[string]string{"a_test.go": "package p_test"}, ""},
		"second file has it": {map[string]string{
			"pkg/idmap/a.go": "package idmap", "pkg/idmap/doc.go": "// Package idmap a\n// b\n// c\npackage idmap", "pkg/idmap/z.go": "package idmap",
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var all []source
			for path, text := range tc.files {
				s, err := parseSource(path, text+"\n")
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, s)
			}
			expect(t, checkDocs(all), tc.want)
		})
	}
}

func TestCheckDeps(t *testing.T) {
	for name, tc := range map[string]struct {
		program string
		deps    []dep
		want    string
	}{
		"ours, std, and allowed":    {gate, []dep{{module + "/pkg/idmap", module}, {"os", ""}, {"golang.org/x/sys/unix", "golang.org/x/sys"}}, ""},
		"a module nobody allowed":   {gate, []dep{{"github.com/sirupsen/logrus", "github.com/sirupsen/logrus"}}, "isn't among the modules"},
		"a module with such a name": {gate, []dep{{"golang.org/x/sys2", "golang.org/x/sys2"}}, "isn't among the modules"},
		"runc's library":            {gate, []dep{{"github.com/opencontainers/runc/libcontainer", "github.com/opencontainers/runc"}}, "isn't among the modules"},
		"net":                       {gate, []dep{{"net", ""}}, "may not have net in it"},
		"os/user":                   {gate, []dep{{"os/user", ""}}, "may not have os/user in it"},
		"regexp":                    {gate, []dep{{"regexp", ""}}, "may not have regexp in it"},
		"regexp, called by hand":    {"cmd/usernsctl", []dep{{"regexp", ""}}, ""},
		"a module, called by hand":  {"cmd/usernsctl", []dep{{"github.com/sirupsen/logrus", "github.com/sirupsen/logrus"}}, "isn't among the modules"},
		"a program without a list":  {"cmd/new", nil, "has no list"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, checkDeps(tc.program, tc.deps), tc.want) })
	}
}
