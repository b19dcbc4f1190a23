package runfile

import (
	"cmp"
	"fmt"
	"slices"
)

// Resolve fills every value that depends on others and checks the whole run. The
// result has no "auto" left. Errors are *fault.Input.
func (r Run) Resolve() (Run, error) {
	r.Islands = slices.Clone(r.Islands)
	r.Data.Paths = slices.Clone(r.Data.Paths)
	r.Model.Tensors = slices.Clone(r.Model.Tensors)
	if err := r.check(r.headRules()); err != nil {
		return r, err
	}
	r.fill()
	if err := r.check(r.bodyRules()); err != nil {
		return r, err
	}
	if err := r.checkIslands(); err != nil {
		return r, err
	}
	if err := r.limitsInOrder(); err != nil {
		return r, err
	}
	if r.Model.Foreign() {
		return r, r.checkTensors()
	}
	return r, r.checkModel()
}

// Lone: one island trains, and no other may join it.
func (r Run) Lone() bool { return len(r.Islands) == 1 && !r.others }

// WithOthers is a run that islands may join beside those that it lists: what fits a lone
// island does not fit it.
func (r Run) WithOthers() Run {
	r.others = true
	return r
}

// fill replaces "auto" and empty names. Tokens are known to be good.
func (r *Run) fill() {
	if r.Name == "" {
		r.Name = cmp.Or(r.Model.Name, "run")
	}
	r.Gate = cmp.Or(r.Gate, GateRequired)
	if r.Data.Own && r.says("train.batch_sequences") && !r.says("train.sequence_tokens") {
		r.Train.SequenceTokens = 1 // the file counts tokens, not sequences of some default length
	}
	if r.Data.Own && r.Train.SequenceTokens > 1 { // samples are tokens; a step has as many as before
		r.Train.BatchSequences, r.Train.SequenceTokens, r.Train.Accumulate = int(r.StepTokens()), 1, 1
	}
	auto := func(c *Count, share float64) {
		if *c == Auto {
			*c = Count(share * float64(r.Tokens))
		}
	}
	auto(&r.Train.WarmupTokens, 0.05)
	auto(&r.Train.DecayTokens, 0.2)
	auto(&r.Eval.EveryTokens, 0.125)
	auto(&r.Checkpoint.EveryTokens, 0.25)
	alone := r.Lone()
	if r.Exchange.PeriodTokens == Auto {
		r.Exchange.PeriodTokens = Count(r.StepTokens() * int64(periodSteps(len(r.Islands), alone)))
	}
	if r.Exchange.OuterRate == nil {
		r.Exchange.OuterRate = pick(alone, 1, 0.7)
	}
	if r.Exchange.OuterMomentum == nil {
		r.Exchange.OuterMomentum = pick(alone, 0, 0.5)
	}
	if r.Exchange.Strict == nil {
		r.Exchange.Strict = pick(alone, true, false)
	}
	for i := range r.Islands {
		if r.Islands[i].Name == "" {
			r.Islands[i].Name = fmt.Sprintf("island-%d", i+1)
		}
		island := &r.Islands[i]
		island.Numeric, island.Engine, island.Precision = cmp.Or(island.Numeric, "fp32"), cmp.Or(island.Engine, r.DefaultEngine()), cmp.Or(island.Precision, "fp32")
		if island.Engine == Torch {
			island.Device, island.Ranks = cmp.Or(island.Device, "cpu"), cmp.Or(island.Ranks, 1)
		}
	}
}

// periodSteps is the period in steps of the whole fleet. Six steps an island are the
// short end of what the pilot in the design proposes (6 to 12). A lone island has
// nothing to gain from merges but that its progress counts; 480 keep their cost
// below 1 % (D5).
func periodSteps(islands int, alone bool) int {
	if alone {
		return 480
	}
	return 6 * max(islands, 2) // of an open run nobody knows; two are few
}

// pick gives a pointer of its own to one of two values.
func pick[T any](first bool, a, b T) *T {
	if first {
		return &a
	}
	return &b
}
