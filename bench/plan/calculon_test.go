package main

import "testing"

// As many as Calculon's own search counts (llm-optimal-execution -d, of 5,120 processors
// and a batch of at most 2520); some fit, and the cost model tells a part of them apart.
func TestConfigurationsAreCalculons(t *testing.T) {
	d, err := turing()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	seen := map[distinct]bool{}
	executions(d, func(e execution) {
		n++
		if n%7 == 0 {
			seen[e.different()] = true
		}
		if e.Chips() != chips || e.batch%(e.DP*e.MicroBatch) != 0 {
			t.Fatalf("%+v", e)
		}
	})
	if n != 1064000 || len(seen) < 10000 {
		t.Errorf("%d configurations, %d apart", n, len(seen))
	}
	p, err := newPredictor(d)
	if err != nil {
		t.Fatal(err)
	}
	fit, tried := 0, 0
	executions(d, func(e execution) {
		if tried++; tried%50 == 0 && p.rate(&e) > 0 {
			fit++
		}
	})
	if fit == 0 || fit == tried/50 {
		t.Errorf("%d of %d fit", fit, tried/50)
	}
}
