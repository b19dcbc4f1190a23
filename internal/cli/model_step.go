package cli

import (
	"fmt"
	"strconv"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
)

// modelStep is how a step is cut among ranks.
type modelStep struct {
	Chips        int `json:"chips"`
	Batch        int `json:"batch"`       // sequences
	MicroBatch   int `json:"micro_batch"` // sequences
	MicroBatches int `json:"micro_batches"`
}

// step settles the data-parallel ranks by the chips, and cuts a step if the flags say of
// how many sequences it is; nil if they do not.
func (f *modelFlags) step(m asked, q *anatomy.Question) (*modelStep, error) {
	if err := q.Layout.Check(m.decoder); err != nil {
		return nil, err
	}
	l := plan.Layout{Layout: q.Layout, CP: 1, VPP: 1, MicroBatch: f.microBatch}
	if f.given("chips") {
		if f.chips < 1 {
			return nil, usage("--chips", strconv.Itoa(f.chips), "is no number of chips", "use 1 or more")
		}
		if err := l.CheckChips(f.chips); err != nil {
			return nil, err
		}
		dp := f.chips / (l.TP * l.PP)
		if f.given("dp") && f.dp != dp {
			return nil, usage("--dp", strconv.Itoa(f.dp), fmt.Sprintf("is not %d chips / (tp %d × pp %d)", f.chips, l.TP, l.PP), fmt.Sprintf("use %d, or leave it out", dp))
		}
		q.DP = dp
	}
	if q.DP == 0 {
		q.DP = q.Layout.LeastDP()
	}
	l.DP = q.DP
	switch {
	case f.given("batch"):
	case f.given("micro-batch"):
		return nil, usage("--micro-batch", strconv.Itoa(f.microBatch), "cuts a batch, and none is said", "add --batch")
	default:
		return nil, nil
	}
	if err := l.Check(plan.Task{Model: m.decoder, Sequence: q.Sequence, Batch: f.batch}); err != nil {
		return nil, err
	}
	return &modelStep{Chips: l.Chips(), Batch: f.batch, MicroBatch: f.microBatch, MicroBatches: f.batch / (l.DP * f.microBatch)}, nil
}

// step says how a step is cut.
func (p *page) step(s *modelStep, dp int) {
	if s == nil {
		return
	}
	p.section(fmt.Sprintf("A step of %s on %s: each of %s takes %d times %d.", plural(s.Batch, "sequence"), plural(s.Chips, "chip"), plural(dp, "data-parallel rank"),
		s.MicroBatches, s.MicroBatch))
}
