// SPDX-License-Identifier: Apache-2.0

// Package usernsruntime_test holds the architecture of DESIGN.md, section 2, and
// fails when it is broken: which package stands on which floor, what it may
// import, and why not more. It looks at the source alone and tests no behaviour.
package usernsruntime_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/userns-runtime/userns-runtime"

// Floors: imports run downward only, never sideways.
const (
	bottom = iota
	book
	deeds
	order    // the one package that knows the order of things, and that speaks
	programs // main packages
	helpers  // programs for tests, which never ship
)

// floors is the table of DESIGN.md, section 2. Packages that aren't written yet
// have their place already. A new package gets its place here first.
var floors = map[string]int{
	"pkg/idmap":           bottom,
	"internal/linux":      bottom,
	"internal/lockedfile": bottom,
	"internal/report":     bottom,
	"internal/rootfile":   bottom, // shared by the book and the configuration, which may not import each other

	"config":              book,
	"pkg/registry":        book,
	"pkg/specpatch":       book,
	"internal/oci":        book,
	"internal/lease":      book,
	"internal/chown":      book,
	"internal/daemonroot": book,
	"internal/layer":      book,

	"pkg/delegate":     deeds,
	"internal/rootfs":  deeds,
	"internal/census":  deeds,
	"internal/engines": deeds,

	"internal/shim": order,

	gate:            programs,
	utility:         programs,
	"cmd/usernsctl": programs,

	"tests/cmd": helpers, // and all below
}

// ban keeps imports out of a package, whatever their floor.
type ban struct {
	from string   // a package, or a directory with a slash at its end
	to   []string // import paths, with all below them; "*" is all but those of except
	// except is import paths that are allowed all the same.
	except []string
	why    string
}

var bans = []ban{
	{
		"pkg/specpatch", []string{"os", "syscall", "net", "golang.org/x/sys"}, nil,
		"what is done to a spec is decided by the spec and the plan alone, so that it can be shown without being done",
	},
	{
		"pkg/idmap", []string{"*"}, []string{"cmp", "errors", "fmt", "iter", "maps", "math", "slices", "sort", "strconv", "strings"},
		"arithmetic: the same answer at all times, and cheap to fuzz",
	},
	{
		"internal/layer", []string{"syscall", "golang.org/x/sys/unix", "os/exec"}, nil,
		"streams, which need no privilege of their own",
	},
	{
		"pkg/", []string{module + "/config", module + "/cmd", module + "/tests"}, nil,
		"others import pkg/, and bring their own configuration",
	},
}

// quiet are the imports that nothing below internal/shim may have.
var quiet = ban{
	to:  []string{"log"},
	why: "libraries return errors, and the top speaks: an engine reads the log as the reason of a failure",
}

// gate is the program that engines call.
const gate = "cmd/userns-runtime"

// shipped is, for each program, the modules that may be part of it. A program
// without an entry fails.
var shipped = map[string]map[string]string{
	gate: {
		module:                                   "us",
		"github.com/opencontainers/runtime-spec": "the types of config.json",
		"golang.org/x/sys":                       "system calls",
		"github.com/pelletier/go-toml/v2":        "the configuration, strictly",
		"github.com/moby/sys/mountinfo":          "/proc/self/mountinfo",
		"github.com/moby/sys/user":               "passwd and group, without cgo",
	},
	utility: {
		module:                          "us",
		"golang.org/x/sys":              "system calls",
		"github.com/spf13/pflag":        "options in bundles, as unshare(1) takes them",
		"github.com/moby/sys/mountinfo": "/proc/PID/mountinfo, for the records of containers and for pins",
		"github.com/moby/sys/user":      "passwd and group, without cgo",
	},
	"cmd/usernsctl": {
		module:                                   "us",
		"golang.org/x/sys":                       "system calls",
		"github.com/urfave/cli/v2":               "verbs and flags",
		"github.com/cpuguy83/go-md2man/v2":       "urfave/cli brings it, for man pages that aren't made here",
		"github.com/russross/blackfriday/v2":     "go-md2man brings it",
		"github.com/xrash/smetrics":              "urfave/cli brings it, for its own suggestions",
		"github.com/opencontainers/runtime-spec": "plan goes the gate's own way: config.json",
		"github.com/pelletier/go-toml/v2":        "the configuration, and the engines' own",
		"github.com/moby/sys/mountinfo":          "plan goes the gate's own way: /proc/self/mountinfo",
		"github.com/moby/sys/user":               "passwd and group, without cgo",
		"github.com/klauspost/compress":          "layers that are compressed: gzip and zstd",
		"github.com/schollz/progressbar/v3":      "how far the work on a layer is; from 3.18 on it brings net/http",
		"github.com/mitchellh/colorstring":       "progressbar brings it",
		"github.com/rivo/uniseg":                 "progressbar brings it, for the width of text",
		"golang.org/x/term":                      "progressbar brings it",
	},
}

// slowStart is packages of the standard library that the gate may not have, even
// through others: its start is paid by each call of an engine. The other programs
// are called by hand.
var slowStart = map[string]string{
	"net":           "tables at start-up, and nothing here talks to a network",
	"os/user":       "asks NSS, which runs other people's code as root",
	"regexp":        "programs are compiled at start-up",
	"text/template": "reflection, and it brings net/url",
	"html/template": "as text/template",
	"log":           "see quiet",
}

// Lines of a file. A longer one holds two subjects.
const (
	maxLines     = 500
	maxTestLines = 1500
)

// source is one Go file, as far as the rules go.
type source struct {
	path    string // from the root of the module
	pkg     string // its directory
	name    string // in its package clause
	test    bool
	spdx    bool
	lines   int
	doc     string   // comment of the package clause
	imports []string // paths
	speaks  []string // calls that print, with their line
}

func parseSource(path, text string) (source, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, text, parser.ParseComments)
	if err != nil {
		return source{}, err
	}
	s := source{
		path: path, pkg: filepath.Dir(path), name: file.Name.Name,
		test:  strings.HasSuffix(path, "_test.go"),
		spdx:  strings.HasPrefix(text, "// SPDX-License-Identifier: Apache-2.0\n"),
		lines: strings.Count(text, "\n"),
		doc:   file.Doc.Text(),
	}
	alias := map[string]string{} // name in the file: import path
	for _, spec := range file.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports = append(s.imports, to)
		as := to[strings.LastIndex(to, "/")+1:]
		if spec.Name != nil {
			as = spec.Name.Name
		}
		alias[as] = to
	}
	ast.Inspect(file, func(n ast.Node) bool {
		what := ""
		switch n := n.(type) {
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			switch from := alias[x.Name]; {
			case from == "fmt" && strings.HasPrefix(n.Sel.Name, "Print"),
				from == "os" && (n.Sel.Name == "Stdout" || n.Sel.Name == "Stderr"):
				what = from + "." + n.Sel.Name
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Obj == nil && (f.Name == "print" || f.Name == "println") {
				what = f.Name
			}
		}
		if what != "" {
			s.speaks = append(s.speaks, what+" in line "+strconv.Itoa(set.Position(n.Pos()).Line))
		}
		return true
	})
	return s, nil
}

// floorOf is the floor of a package of ours, by its directory.
func floorOf(pkg string) (int, bool) {
	if strings.HasPrefix(pkg, "tests/cmd/") {
		pkg = "tests/cmd"
	}
	floor, ok := floors[pkg]
	return floor, ok
}

// within says whether an import path is of, or lies below.
func within(path, of string) bool { return path == of || strings.HasPrefix(path, of+"/") }

func (b ban) covers(pkg string) bool {
	if dir, ok := strings.CutSuffix(b.from, "/"); ok {
		return within(pkg, dir)
	}
	return pkg == b.from
}

func (b ban) hits(path string) bool {
	if slices.ContainsFunc(b.except, func(of string) bool { return within(path, of) }) {
		return false
	}
	return slices.ContainsFunc(b.to, func(of string) bool { return of == "*" || within(path, of) })
}

// checkImports judges one file. Tests may import what they like: they look at
// their package from outside, and never ship.
func checkImports(s source) (problems []string) {
	if s.test {
		return nil
	}
	floor, ok := floorOf(s.pkg)
	if !ok {
		return []string{s.path + ": package " + s.pkg + " has no floor: give it one in DESIGN.md, section 2, and in arch_test.go"}
	}
	for _, path := range s.imports {
		if ours, ok := strings.CutPrefix(path, module+"/"); ok {
			below, known := floorOf(ours)
			switch {
			case !known:
				problems = append(problems, s.path+": imports "+ours+", which has no floor")
			case below >= floor:
				problems = append(problems, s.path+": imports "+ours+", which isn't below it: imports run downward only, never sideways, so that each floor can be read without those above")
			case below > bottom && strings.HasPrefix(s.pkg, "pkg/") && strings.HasPrefix(ours, "internal/"):
				problems = append(problems, s.path+": imports "+ours+": pkg/ may import of internal/ only its lowest floor, or our own habits become others' promises")
			}
		}
		for _, b := range bans {
			if b.covers(s.pkg) && b.hits(path) {
				problems = append(problems, s.path+": may not import "+path+": "+b.why)
			}
		}
		if floor < order && quiet.hits(path) {
			problems = append(problems, s.path+": may not import "+path+": "+quiet.why)
		}
	}
	if floor < order {
		for _, call := range s.speaks {
			problems = append(problems, s.path+": "+call+": "+quiet.why)
		}
	}
	return problems
}

// checkForm judges how one file looks.
func checkForm(s source) (problems []string) {
	if !s.spdx {
		problems = append(problems, s.path+": its first line isn't the SPDX line of Apache-2.0: a file must say its licence wherever it is copied")
	}
	limit := maxLines
	if s.test {
		limit = maxTestLines
	}
	if s.lines > limit {
		problems = append(problems, s.path+": has "+strconv.Itoa(s.lines)+" lines, at most "+strconv.Itoa(limit)+": split it by subject")
	}
	return problems
}

// checkDocs wants a comment of each package, where it is looked for: doc.go of
// a library, main.go of a program.
func checkDocs(sources []source) (problems []string) {
	docs := map[string]string{}
	for _, s := range sources {
		if s.test {
			continue
		}
		if _, ok := docs[s.pkg]; !ok {
			docs[s.pkg] = ""
		}
		switch filepath.Base(s.path) {
		case "doc.go":
			docs[s.pkg] = s.doc
		case "main.go":
			if s.name == "main" {
				docs[s.pkg] = s.doc
			}
		}
	}
	for pkg, doc := range docs {
		want, file, least := "Package "+filepath.Base(pkg)+" ", "doc.go", 3
		if floor, _ := floorOf(pkg); floor >= programs {
			want, file, least = "Command "+filepath.Base(pkg)+" ", "main.go", 2
		}
		if !strings.HasPrefix(doc, want) || len(strings.Fields(doc)) == 0 || strings.Count(doc, "\n") < least {
			problems = append(problems, pkg+": expected a comment of "+strconv.Itoa(least)+" lines or more in "+file+", that begins with "+strconv.Quote(want)+
				": what the package holds, and what it doesn't")
		}
	}
	return problems
}

// dep is a package that a program is built from; module is empty for the
// standard library.
type dep struct{ path, module string }

func checkDeps(program string, deps []dep) (problems []string) {
	allowed, ok := shipped[program]
	if !ok {
		return []string{program + ": has no list of the modules that may be part of it: make one in arch_test.go"}
	}
	for _, d := range deps {
		if why, slow := slowStart[d.path]; slow && program == gate {
			problems = append(problems, program+": may not have "+d.path+" in it: "+why)
		}
		if _, ok := allowed[d.module]; !ok && d.module != "" {
			problems = append(problems, program+": "+d.path+" of "+d.module+" isn't among the modules that may be part of it: each is code that runs as root")
		}
	}
	return problems
}

func listDeps(t *testing.T, pkg string) []dep {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it ships
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	var deps []dep
	for line := range strings.Lines(string(out)) {
		path, module, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		deps = append(deps, dep{path, module})
	}
	return deps
}

// sources is every Go file of the module, whatever it is built for.
func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		switch name := e.Name(); {
		case err != nil:
			return err
		case e.IsDir() && path != "." && (name[0] == '.' || name[0] == '_' || name == "testdata" || path == "bin"):
			return filepath.SkipDir
		case e.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s, err := parseSource(path, string(text))
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func report(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

func TestImports(t *testing.T) {
	all := sources(t)
	if len(all) < 10 {
		t.Fatalf("only %d Go files found: not the root of the module?", len(all))
	}
	for _, s := range all {
		report(t, checkImports(s))
	}
}

func TestForm(t *testing.T) {
	for _, s := range sources(t) {
		report(t, checkForm(s))
	}
}

func TestDocs(t *testing.T) { report(t, checkDocs(sources(t))) }

// utility is the program that every user of a host may run with capabilities of its file.
const utility = "cmd/userns"

// TestDepsList holds the list of all that the utility is built from against its source, so that
// nothing comes to it unseen.
func TestDepsList(t *testing.T) {
	want, err := os.ReadFile(utility + "/deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	var is []string
	for _, d := range listDeps(t, "./"+utility) {
		if d.module != "" {
			is = append(is, d.path)
		}
	}
	slices.Sort(is)
	if got := strings.Join(is, "\n") + "\n"; got != string(want) {
		t.Errorf("%s/deps.txt doesn't say what the program is built from: is each new package worth its privilege? Then let it be\n%s", utility, got)
	}
}

func TestDependencies(t *testing.T) {
	found := 0
	for program, floor := range floors {
		if _, err := os.Stat(program); floor != programs || err != nil {
			continue
		}
		found++
		deps := listDeps(t, "./"+program)
		if len(deps) < 10 {
			t.Fatalf("only %d packages in %s", len(deps), program)
		}
		report(t, checkDeps(program, deps))
	}
	if found == 0 {
		t.Fatal("no program found")
	}
}
