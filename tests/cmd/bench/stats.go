// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// median is the middle of some numbers; the mean of the two in the middle where
// their count is even; 0 of none.
func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(of))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// mad is the median absolute deviation: how far from the median the numbers
// typically lie. One slow round doesn't move it.
func mad(of []float64) float64 {
	m := median(of)
	away := make([]float64, len(of))
	for i, x := range of {
		away[i] = max(x-m, m-x)
	}
	return median(away)
}

// ratios is a[i]/b[i]: of two that ran at the same time, so that a slow moment
// of the machine is in both.
func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}
