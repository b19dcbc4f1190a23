package plan_test

import (
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
)

// Plans are chosen among what people run: none of the stacks that they are made for shares
// gradients or weights in a pipeline.
func TestUsualLayouts(t *testing.T) {
	if got := plan.VirtualStages(88, 2); !slices.Equal(got, []int{1, 2, 4, 11}) {
		t.Errorf("88 layers in 2 stages: %v", got)
	}
	for _, c := range []struct {
		depth, pp int
		stages    []int
		virtual   []int
	}{
		{126, 16, []int{7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7}, []int{1, 2, 4, 8}}, // Llama 3 405B
		{7, 4, []int{2, 2, 2, 1}, []int{1, 2}},
		{61, 16, nil, []int{1}},
		{64, 16, nil, []int{1, 2, 4}},
		{1, 1, nil, []int{1}},
		{1, 2, nil, []int{1}},
		{2, 3, nil, []int{1}},
	} {
		got, virtual := plan.EndsShort(c.depth, c.pp), plan.VirtualStages(c.depth, c.pp)
		if !slices.Equal(got, c.stages) || !slices.Equal(virtual, c.virtual) {
			t.Errorf("%d layers in %d stages: %v, virtual %v", c.depth, c.pp, got, virtual)
		}
	}
	for _, l := range plan.Thrift(8) {
		if l.ZeRO > 1 {
			t.Errorf("a pipeline with %+v", l)
		}
	}
	if len(plan.Thrift(1)) != 12 {
		t.Errorf("%d ways with one stage", len(plan.Thrift(1)))
	}
}

// Gradients that are shared are sent for each micro-batch, others once a step.
func TestZeRO2SendsGradientsOfEachMicroBatch(t *testing.T) {
	m, err := plan.Prepare(plan.Task{Model: llama(t), Sequence: 8192, Batch: 256, Format: "bf16"}, hardware(t, "h100-80g-sxm"), plan.BuiltinConstants())
	if err != nil {
		t.Fatal(err)
	}
	l := plan.Layout{Layout: anatomy.Layout{TP: 1, EP: 1, ETP: 1, PP: 1}, DP: 64, CP: 1, VPP: 1, MicroBatch: 1, Recompute: anatomy.NoRecompute}
	traffic := func(batch, zero int) float64 {
		l.ZeRO = zero
		return m.For(batch).Time(l).Terms[plan.DataTraffic]
	}
	if one, two := traffic(64, 1), traffic(64, 2); one != two {
		t.Errorf("one micro-batch: %v of stage 1, %v of stage 2", one, two)
	}
	if one, two := traffic(256, 1), traffic(256, 2); two < 2*one {
		t.Errorf("four micro-batches: %v of stage 1, %v of stage 2", one, two)
	}
}
