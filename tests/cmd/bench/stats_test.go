// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/userns-runtime/userns-runtime/pkg/idmap"
)

func TestStats(t *testing.T) {
	for name, tc := range map[string]struct {
		of          []float64
		median, mad float64
	}{
		"none":        {nil, 0, 0},
		"one":         {[]float64{7}, 7, 0},
		"odd":         {[]float64{9, 1, 3}, 3, 2},
		"even":        {[]float64{4, 1, 3, 2}, 2.5, 1},
		"one outlier": {[]float64{10, 11, 12, 13, 1000}, 12, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(tc.of)
			if got := median(tc.of); got != tc.median {
				t.Errorf("median %v, expected %v", got, tc.median)
			}
			if got := mad(tc.of); got != tc.mad {
				t.Errorf("MAD %v, expected %v", got, tc.mad)
			}
			if !slices.Equal(before, tc.of) {
				t.Error("the numbers were put in another order")
			}
		})
	}
	if got := ratios([]float64{2, 9}, []float64{4, 3}); !slices.Equal(got, []float64{0.5, 3}) {
		t.Errorf("ratios %v", got)
	}
}

func TestFree(t *testing.T) {
	for name, tc := range map[string]struct {
		taken []idmap.Range
		want  uint32
		ok    bool
	}{
		"nothing taken":       {nil, firstID, true},
		"below":               {[]idmap.Range{{Start: 100000, Count: 65536}}, firstID, true},
		"the first":           {[]idmap.Range{{Start: firstID, Count: 1}}, firstID + 1, true},
		"a gap too small":     {[]idmap.Range{{Start: firstID + rangeIDs - 1, Count: 5}}, firstID + rangeIDs + 4, true},
		"a gap just right":    {[]idmap.Range{{Start: firstID + rangeIDs, Count: 5}}, firstID, true},
		"everything is taken": {[]idmap.Range{{Start: 0, Count: idmap.Invalid}}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := free(idmap.NewSet(tc.taken...), rangeIDs)
			if (err == nil) != tc.ok || got.Start != tc.want {
				t.Fatalf("got %v, error %v; expected %d", got, err, tc.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	rows := []row{
		{What: "run", Against: "runc", Reach: 1.10, Ratio: 1.08, Unit: "ms"},
		{What: "state", Against: "runc", Reach: 1.05, Ratio: 1.0501, Unit: "ms"},
	}
	var b strings.Builder
	if err := table(&b, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 4 || strings.Contains(lines[1], "MISSED") || !strings.Contains(lines[2], "MISSED") {
		t.Errorf("got\n%s", &b)
	}
}

func TestChoose(t *testing.T) {
	all := measurements(true)
	if got := choose(all, ""); len(got) != len(all) || len(measurements(false)) != len(all)-1 {
		t.Errorf("%d measurements of %d", len(got), len(all))
	}
	for _, name := range names(all) {
		if got := choose(all, name); len(got) != 1 || got[0].name != name {
			t.Errorf("%s: %v", name, names(got))
		}
	}
	if got := choose(all, "layers"); got != nil {
		t.Errorf("a name that is none: %v", names(got))
	}
}
