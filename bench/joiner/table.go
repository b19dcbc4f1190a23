package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// table compares arms: means over seeds, and the paired difference from the first
// arm, ± its standard error.
func table(rows []row) string {
	var b strings.Builder
	fmt.Fprint(&b, "| a joiner's moments | seeds |")
	for _, n := range looks {
		fmt.Fprintf(&b, " %d steps |", n)
	}
	fmt.Fprintln(&b, " end | end against the first row | its own first 50 steps | held |")
	fmt.Fprintln(&b, "| --- |"+strings.Repeat(" --- |", len(looks)+5))
	first := pick(rows, arms()[0].name)
	for _, a := range arms() {
		own := pick(rows, a.name)
		var ends, joiner, differences []float64
		held := 0
		fmt.Fprintf(&b, "| %s | %d |", a.name, len(own))
		for _, n := range looks {
			var at []float64
			for _, seed := range slices.Sorted(maps.Keys(own)) {
				r := own[seed]
				if loss, there := r.After[n]; there {
					at = append(at, loss)
				}
			}
			fmt.Fprintf(&b, " %.4f |", mean(at, len(at)))
		}
		for _, seed := range slices.Sorted(maps.Keys(own)) {
			r := own[seed]
			ends, joiner, held = append(ends, r.Final), append(joiner, r.Joiner), held+r.Held
			if f, ok := first[seed]; ok {
				differences = append(differences, r.Final-f.Final)
			}
		}
		fmt.Fprintf(&b, " %.4f | %+.4f ± %.4f | %.4f | %d |\n", mean(ends, len(ends)), mean(differences, len(differences)), standardError(differences), mean(joiner, len(joiner)), held)
	}
	return b.String()
}

// pick is the rows of an arm by seed.
func pick(rows []row, name string) map[uint64]row {
	out := map[uint64]row{}
	for _, r := range rows {
		if r.Arm == name {
			out[r.Seed] = r
		}
	}
	return out
}

// mean of the first n values, or of fewer; NaN of none.
func mean(x []float64, n int) float64 {
	n = min(n, len(x))
	sum := 0.0
	for _, v := range x[:n] {
		sum += v
	}
	return sum / float64(n)
}

// standardError of the mean; NaN of fewer than two values.
func standardError(x []float64) float64 {
	m, squares := mean(x, len(x)), 0.0
	for _, v := range x {
		squares += (v - m) * (v - m)
	}
	n := float64(len(x))
	if n < 2 {
		return math.NaN()
	}
	return math.Sqrt(squares / (n - 1) / n)
}
