package plan

import (
	"math/rand/v2"
	"testing"
)

// oneForwardOneBackward runs the schedule pass by pass (Narayanan et al., arXiv 2104.04473,
// section 2.2.1): a stage goes ahead by as many forward passes as stages follow, then
// takes one backward after each. It gives the time until the last pass ends.
func oneForwardOneBackward(forward, backward []float64, micros int) float64 {
	stages := len(forward)
	done := make([][2][]float64, stages) // when passes end; 0: not yet known
	for i := range done {
		done[i] = [2][]float64{make([]float64, micros), make([]float64, micros)}
	}
	next := make([][2]int, stages) // passes that a stage has done, each way
	free := make([]float64, stages)
	for left := 2 * stages * micros; left > 0; {
		for i := range stages {
			ahead := min(stages-i-1, micros)
			way := 0
			if n := next[i]; n[0] == micros || n[0] > ahead && n[0]-n[1] > ahead {
				way = 1
			}
			k := next[i][way]
			if k == micros {
				continue
			}
			from, known := 0.0, true
			switch {
			case way == 0 && i > 0:
				from = done[i-1][0][k]
				known = from > 0
			case way == 1 && i+1 < stages:
				from = done[i+1][1][k]
				known = from > 0
			case way == 1:
				from = done[i][0][k]
			}
			if !known {
				continue
			}
			takes := [2]float64{forward[i], backward[i]}[way]
			free[i] = max(free[i], from) + takes
			done[i][way][k] = free[i]
			next[i][way]++
			left--
		}
	}
	return free[0]
}

// A step with a pipeline is as long as the schedule run pass by pass: exactly with like
// stages; with others never longer, and, as a slow stage's first passes may go on while the
// others fill, shorter by less the more micro-batches each stage has.
func TestPipelineIsItsSchedule(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		stages, micros, even := 1+r.IntN(6), 1+r.IntN(12), r.IntN(2) == 0
		forward, backward := make([]float64, stages), make([]float64, stages)
		longest, all := 0.0, 0.0
		for i := range forward {
			forward[i] = 1
			if !even {
				forward[i] = 0.7 + 0.6*r.Float64()
			}
			backward[i] = 2 * forward[i]
			all += 3 * forward[i]
			longest = max(longest, 3*forward[i])
		}
		run, predicted := oneForwardOneBackward(forward, backward, micros), float64(micros)*longest+bubble(longest, all, 1)
		shorter := 0.25 / float64(max(1, micros/stages))
		if even && !like(run, predicted) || run > predicted*(1+1e-9) || run < predicted*(1-shorter) {
			t.Fatalf("%v, %d micro-batches: %g by the schedule, %g predicted", forward, micros, run, predicted)
		}
	}
}
