package fit

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// The constants of memory are what the calibration rows give, and say how many those are.
func TestMemoryConstantsAreThoseOfTheFit(t *testing.T) {
	peaks := Peaks(published.Builtin(), chip.Builtin(), plan.BuiltinConstants())
	context, gaps := Memory(peaks)
	k := plan.MemoryConstants().All()
	if len(k) != 2 || k[0].Value != context || k[1].Value != gaps || k[0].Rows != len(peaks) || k[1].Rows != len(peaks) {
		t.Errorf("%v, the fit gives %g and %g of %d rows", k, context, gaps, len(peaks))
	}
	var errors []float64
	for _, p := range peaks {
		errors = append(errors, math.Abs(p.Error(context, gaps)))
	}
	slices.Sort(errors)
	if median := errors[len(errors)/2]; median > 0.06 {
		t.Errorf("median error %.1f %%", 100*median)
	}
}

// Figure 1 of Korthikanti et al. (arXiv 2205.05198): activations of the first stage, and
// the state of a stage's layers. The figure leaves out embeddings and, of the activations, the mask
// after the embedding (section 4.3), a byte a token and element.
func TestFigureOneIsMet(t *testing.T) {
	rows := 0
	for _, r := range published.Builtin() {
		held := r.Held()
		if !held.State.Known {
			continue
		}
		rows++
		c, err := r.Case(chip.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		task, h, l, err := OfCase(c)
		if err != nil {
			t.Fatal(err)
		}
		m, err := plan.Prepare(task, h, plan.BuiltinConstants())
		if err != nil {
			t.Fatal(err)
		}
		flight := l.PP
		if l.VPP > 1 {
			flight = 2*l.PP - 1 // the first virtual stage runs ahead twice
		}
		mask := float64(flight * l.MicroBatch * task.Sequence * task.Model.Hidden)
		if !l.Whole {
			mask /= float64(l.TP)
		}
		activations := m.Step(l).Memory[plan.Activations] - mask
		layers := anatomy.Stage{Decoder: l.For(task.Model), Held: l.For(task.Model).Stages(l.PP)[0].Held}.Parameters().Held()
		state := layers.State(l.Layout, anatomy.Mixed(), l.ZeRO, l.Replicas(l.DP)).Total()
		for _, of := range []struct {
			name        string
			got, theirs float64
		}{{"activations", activations, held.Activations.Value}, {"state", float64(state), held.State.Value}} {
			if e := of.got/of.theirs - 1; math.Abs(e) > 0.001 {
				t.Errorf("%s: %s %+.2f %%", r.ID, of.name, 100*e)
			}
		}
	}
	if rows != 8 {
		t.Errorf("%d rows", rows)
	}
}

// Rows of allocated bytes, of sources that nothing is fitted to.
func TestAllocatedBytesOfUnseenRuns(t *testing.T) {
	chips := chip.Builtin()
	split := published.BuiltinSplit(chips)
	var errors []float64
	for _, r := range published.Builtin() {
		c, err := r.Case(chips)
		if err != nil || !r.PeakMemoryGiB.Known || !strings.Contains(r.Source, "SimuMax") || split.Of(r.Source).Side != published.Test {
			continue
		}
		task, h, l, err := OfCase(c)
		if err != nil {
			t.Fatal(err)
		}
		m, err := plan.Prepare(task, h, plan.BuiltinConstants())
		if err != nil {
			t.Fatal(err)
		}
		s := m.Step(l)
		errors = append(errors, math.Abs((s.Bytes()-s.Memory[plan.Framework])/(r.PeakMemoryGiB.Value*(1<<30))-1))
	}
	slices.Sort(errors)
	if len(errors) != 18 || errors[len(errors)/2] > 0.05 {
		t.Errorf("%d rows, median error above 5 %%", len(errors))
	}
}
