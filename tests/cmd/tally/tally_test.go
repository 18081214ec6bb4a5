// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadGo(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []string
		want []result
		show string
	}{
		"only the innermost count": {
			in: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"pass","Package":"p","Elapsed":1}`,
			},
			want: []result{{"p.TestA/x", passed, ""}},
			show: "pass p: 1 passed (1.0s)\n",
		},
		"a slash in a name, before the one that it seems to be inside of": {
			in: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x/sys"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x/sys"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"pass","Package":"p","Elapsed":1}`,
			},
			want: []result{{"p.TestA/x/sys", passed, ""}, {"p.TestA/x", passed, ""}},
			show: "pass p: 2 passed (1.0s)\n",
		},
		"a failure inside counts once, and is shown": {
			in: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x/y"}`,
				`{"Action":"output","Package":"p","Test":"TestA/x/y","Output":"boom\n"}`,
				`{"Action":"fail","Package":"p","Test":"TestA/x/y"}`,
				`{"Action":"fail","Package":"p","Test":"TestA/x"}`,
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want: []result{{"p.TestA/x/y", failed, ""}},
			show: "boom\n",
		},
		"a failure around what passes": {
			in: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want: []result{{"p.TestA/x", passed, ""}, {"p.TestA", failed, ""}},
		},
		"a skip has its reason": {
			in: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: needs root: really\n"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}`,
				`{"Action":"skip","Package":"p","Test":"TestA"}`,
				`{"Action":"pass","Package":"p"}`,
			},
			want: []result{{"p.TestA", skipped, "needs root: really"}},
		},
		"a skip without a word": {
			in:   []string{`{"Action":"skip","Package":"p","Test":"TestA"}`},
			want: []result{{"p.TestA", skipped, "no reason given"}},
		},
		"a package that doesn't build": {
			in: []string{
				`{"ImportPath":"p","Action":"build-output","Output":"p/a.go:1: undefined: x\n"}`,
				`{"ImportPath":"p","Action":"build-fail"}`,
				`{"Action":"start","Package":"p"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}`,
				`{"Action":"fail","Package":"p","FailedBuild":"p"}`,
			},
			want: []result{{"p", failed, ""}},
			show: "undefined: x",
		},
		"a package that ends in the middle": {
			in: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"signal: killed\n"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want: []result{{"p", failed, ""}},
			show: "signal: killed",
		},
		"a package without tests": {in: []string{`{"Action":"skip","Package":"p"}`}},
		"what isn't JSON":         {in: []string{"go: go.mod: broken"}, show: "go: go.mod: broken\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var show bytes.Buffer
			got, err := readGo(strings.NewReader(strings.Join(tc.in, "\n")), &show)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %+v, expected %+v", got, tc.want)
			}
			if !strings.Contains(show.String(), tc.show) {
				t.Errorf("showed %q, expected %q in it", &show, tc.show)
			}
		})
	}
}

func TestReadTAP(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want []result
		err  bool
	}{
		"all kinds": {
			in: "1..4\nok 1 a works\nnot ok 2 b\n# (in test file x.bats, line 3)\nok 3 c # skip no CRIU here\nok 4 d # skip\n",
			want: []result{
				{"1 a works", passed, ""},
				{"2 b", failed, ""},
				{"3 c", skipped, "no CRIU here"},
				{"4 d", skipped, "no reason given"},
			},
		},
		"two of one name":     {in: "1..2\nok 1 a\nok 2 a\n", want: []result{{"1 a", passed, ""}, {"2 a", passed, ""}}},
		"failing isn't skip":  {in: "1..1\nnot ok 1 a # skip later\n", want: []result{{"1 a # skip later", failed, ""}}},
		"plan at the end":     {in: "ok 1 a\n1..1\n", want: []result{{"1 a", passed, ""}}},
		"cut short":           {in: "1..3\nok 1 a\n", want: []result{{"1 a", passed, ""}, {"2 tests that were announced and didn't run", failed, ""}}},
		"no plan":             {in: "ok 1 a\n", want: []result{{"1 a", passed, ""}}, err: true},
		"nothing":             {in: "", err: true},
		"output that says ok": {in: "1..1\nokay 2\n# ok 3 x\nok 1 a\n", want: []result{{"1 a", passed, ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readTAP(strings.NewReader(tc.in), io.Discard)
			if (err != nil) != tc.err {
				t.Fatalf("error %v, expected one: %v", err, tc.err)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %+v, expected %+v", got, tc.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	for name, tc := range map[string]struct {
		results []result
		err     error
		want    counts
	}{
		"fine":                         {[]result{{"a", passed, ""}}, nil, counts{passed: 1}},
		"nothing ran":                  {nil, nil, counts{failed: 1}},
		"all skipped":                  {[]result{{"a", skipped, "x"}}, nil, counts{failed: 1, skipped: 1}},
		"the command fails by itself":  {[]result{{"a", passed, ""}}, errors.New("exit status 2"), counts{passed: 1, failed: 1}},
		"it fails as its tests do":     {[]result{{"a", failed, ""}}, errors.New("exit status 1"), counts{failed: 1}},
		"it fails before it runs them": {nil, errors.New("exit status 1"), counts{failed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := suite{Results: tc.results}
			s.judge("cmd", tc.err)
			if got := s.count(); got != tc.want {
				t.Errorf("got %v, expected %v", got, tc.want)
			}
		})
	}
}

func TestSum(t *testing.T) {
	suites := []suite{
		{Name: "unit", Format: "go", Results: []result{{"a", passed, ""}, {"b", passed, ""}, {"c", skipped, "no root"}, {"d", skipped, "no cgo"}}},
		{Name: "race", Format: "go", Results: []result{{"a", passed, ""}, {"b", failed, ""}, {"c", skipped, "no root"}, {"d", passed, ""}}},
		{Name: "lint", Format: "tap", Results: []result{{"1 a", passed, ""}}},
		{Name: "bats", Format: "tap", Results: []result{{"1 a", passed, ""}}},
	}
	total := sum(suites)
	if want := (counts{passed: 4, failed: 1, skipped: 1}); total != want {
		t.Fatalf("got %v, expected %v", total, want)
	}
	var b bytes.Buffer
	show(&b, suites, total)
	got := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if last := got[len(got)-1]; last != "4 passed, 1 failed, 1 skipped" {
		t.Errorf("last line %q", last)
	}
	for _, line := range []string{"SKIPPED unit: c: no root", "SKIPPED unit: d: no cgo", "SKIPPED race: c: no root", "FAILED race: b"} {
		if !slices.Contains(got, line) {
			t.Errorf("no line %q in:\n%s", line, &b)
		}
	}
}

// The whole way, with real commands.
func TestRunSuite(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		failed bool
		last   string
	}{
		"passes":          {"echo 1..1; echo ok 1 a", false, "1 passed, 0 failed, 0 skipped"},
		"fails":           {"echo 1..1; echo not ok 1 a; exit 1", true, "0 passed, 1 failed, 0 skipped"},
		"fails unsaid":    {"echo 1..1; echo ok 1 a; exit 3", true, "1 passed, 1 failed, 0 skipped"},
		"dies on the way": {"echo 1..2; echo ok 1 a; kill -9 $$", true, "1 passed, 1 failed, 0 skipped"},
		"runs nothing":    {"echo 1..0", true, "0 passed, 1 failed, 0 skipped"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out")
			got, err := runSuite("s", "tap", file, []string{"sh", "-c", tc.script})
			if err != nil || got != tc.failed {
				t.Fatalf("failed: %v, error %v; expected %v", got, err, tc.failed)
			}
			var b bytes.Buffer
			if got, err := sumFiles(&b, []string{file}); err != nil || got != tc.failed {
				t.Fatalf("sum failed: %v, error %v; expected %v", got, err, tc.failed)
			}
			if !strings.HasSuffix(b.String(), "\n"+tc.last+"\n") {
				t.Errorf("got %q, expected %q at its end", &b, tc.last)
			}
		})
	}
	if _, err := runSuite("s", "xml", os.DevNull, []string{"true"}); err == nil {
		t.Error("a format that there isn't was taken")
	}
}

func TestTakeAgain(t *testing.T) {
	first := suite{Name: "bats", Format: "tap", Results: []result{
		{Name: "1 a: one", Outcome: passed}, {Name: "2 a: two", Outcome: failed}, {Name: "3 a: three", Outcome: failed}, {Name: "4 a: four", Outcome: failed},
	}}
	first.takeAgain(suite{Name: "again", Format: "tap", Results: []result{{Name: "1 a: two", Outcome: passed}, {Name: "2 a: three", Outcome: failed}, {Name: "3 a: four", Outcome: skipped}}})
	if got := first.count(); got != (counts{passed: 2, failed: 2}) {
		t.Errorf("got %v", got)
	}
	var b strings.Builder
	show(&b, []suite{first}, sum([]suite{first}))
	for _, want := range []string{"PASSED AGAIN bats: 2 a: two: it failed beside others", "FAILED bats: 3 a: three\n", "FAILED bats: 4 a: four\n", "2 passed, 2 failed, 0 skipped\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "AGAIN bats: 1") {
		t.Errorf("one that passed at once is named:\n%s", &b)
	}
}
