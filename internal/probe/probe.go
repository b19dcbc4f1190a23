package probe

import (
	"fmt"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/model"
)

// Make is the record of what an engine makes of a probe with the weights that it has.
func Make(eng *engine.Engine, profile *numeric.Profile, seed uint64, p gate.Probe, weights string) (gate.Record, error) {
	loss, err := measure(eng, profile, p, nil)
	if err != nil {
		return gate.Record{}, err
	}
	return gate.Record{
		Format: gate.Format, Number: Number(profile), Maker: maker(eng), Seed: seed, Weights: weights, Probe: p, Loss: loss,
		Choices: cloned(eng.Choices()), Tensors: sketches(eng, seed),
	}, nil
}

// Answer is what an engine makes of a record's probe with the weights that it has and
// the record's choices of experts; Choices are those that it would have made itself.
// Spoil is a test's; nil: the answer is honest.
func Answer(eng *engine.Engine, profile *numeric.Profile, r gate.Record, spoil func(grads []float32)) (gate.Record, error) {
	p := r.Probe
	if _, _, err := eng.Loss(batch(p, nil)); err != nil {
		return gate.Record{}, fmt.Errorf("gate: %w", err)
	}
	free := cloned(eng.Choices())
	loss, err := measure(eng, profile, p, r.Choices)
	if err != nil {
		return gate.Record{}, err
	}
	if spoil != nil {
		spoil(eng.Grads())
	}
	return gate.Record{
		Format: gate.Format, Number: Number(profile), Maker: maker(eng), Seed: r.Seed, Weights: r.Weights, Probe: p, Loss: loss,
		Choices: free, Tensors: sketches(eng, r.Seed),
	}, nil
}

// Own is what a number format costs on a record's probe: the errors that an engine with
// the weights of eng makes which emulates the profile, its sums aside, against eng.
func Own(eng *engine.Engine, set *kernel.Set, threads int, profile *numeric.Profile, r gate.Record) (gate.Own, error) {
	exact, err := measure(eng, nil, r.Probe, r.Choices)
	if err != nil {
		return gate.Own{}, err
	}
	plain := withoutSums(*profile)
	other, err := engine.New(eng.Config(), engine.Options{Threads: threads, Kernel: set, Numeric: &plain})
	if err != nil {
		return gate.Own{}, err
	}
	defer other.Close()
	copy(other.Params(), eng.Params())
	loss, err := measure(other, &plain, r.Probe, r.Choices)
	if err != nil {
		return gate.Own{}, err
	}
	if overflowed(other) || math.IsNaN(loss) || math.IsInf(loss, 0) { // a bound that is no number lets everybody pass
		return gate.Own{}, fmt.Errorf("gate: in %s the probe overflows", plain.Name)
	}
	own := gate.Own{Loss: math.Abs(loss-exact) / math.Abs(exact)}
	for _, t := range eng.Config().Tensors() {
		at := t.Offset + t.Size()
		own.Gradients = append(own.Gradients, distance(other.Grads()[t.Offset:at], eng.Grads()[t.Offset:at]))
	}
	return own, nil
}

// Number is the number format of a profile, as records name it.
func Number(p *numeric.Profile) string {
	if p.Plain() {
		return gate.FP32
	}
	return p.Name
}

// withoutSums is a profile that adds up as the engine does: a chip's own way is a hundred
// times slower and moves errors little beside the rounding of operands.
func withoutSums(p numeric.Profile) numeric.Profile {
	for i := range p.Rules {
		p.Rules[i].Sum = numeric.Accumulation{}
	}
	return p
}

func maker(eng *engine.Engine) string { return "native " + eng.KernelSet() + " " + eng.Numeric() }

func batch(p gate.Probe, choices [][]int32) engine.Batch {
	return engine.Batch{Tokens: p.Tokens, Rows: p.Rows, Boundaries: p.Boundaries, EndToken: p.EndToken, Choices: choices}
}

// lossScale of a format that scales its losses, on the sum over tokens: what a new run
// begins with, over about as many tokens as a probe has. A probe halves it as often as a
// run would, all in one step.
const (
	lossScale    = 1 << 6
	halvedAtMost = 20
)

// measure computes a probe and leaves the gradient of the mean over target tokens in the
// engine. Loss is what that gradient is of. Magnitudes that scales per tensor come from
// are as before.
func measure(eng *engine.Engine, profile *numeric.Profile, p gate.Probe, choices [][]int32) (loss float64, err error) {
	before := slices.Clone(eng.NumericState())
	factor := float32(1)
	if profile != nil && profile.LossScaling {
		factor = lossScale
	}
	for range halvedAtMost {
		eng.ZeroGrads()
		eng.SetLossFactor(factor)
		stats, err := eng.Backward(batch(p, choices))
		eng.SetLossFactor(1)
		if err != nil {
			return 0, fmt.Errorf("gate: %w", err)
		}
		eng.ScaleGrads(1 / (float32(stats.Tokens) * factor))
		loss = objective(eng.Config(), stats)
		if factor == 1 || !overflowed(eng) {
			break
		}
		factor /= 2
	}
	if before != nil {
		if err := eng.SetNumericState(before); err != nil {
			return 0, fmt.Errorf("gate: %w", err)
		}
	}
	return loss, nil
}

func overflowed(eng *engine.Engine) bool {
	sum := float32(0)
	for _, g := range eng.Grads() {
		sum += g - g // NaN once g is not finite
	}
	return sum != 0 || eng.Overflowed()
}

// objective is what training minimises, a target token: every row has as many.
func objective(cfg model.Config, s engine.BatchStats) float64 {
	layers := float64(cfg.Layers - cfg.DenseLayers)
	return s.Loss() + layers*(cfg.BalanceCoef*s.BalanceLoss+cfg.ZCoef*s.ZLoss)
}

func sketches(eng *engine.Engine, seed uint64) []gate.Tensor {
	var out []gate.Tensor
	for i, t := range eng.Config().Tensors() {
		out = append(out, gate.NewTensor(t.Name, gate.Project(seed, i, 0, eng.Grads()[t.Offset:t.Offset+t.Size()])))
	}
	return out
}

// distance is ‖a − b‖ / ‖b‖, and 0 where both are nothing.
func distance(a, b []float32) float64 {
	var off, all float64
	for i, x := range b {
		d := float64(a[i]) - float64(x)
		off += d * d
		all += float64(x) * float64(x)
	}
	if off == 0 {
		return 0
	}
	return min(math.Sqrt(off/all), math.MaxFloat64)
}

func cloned(choices [][]int32) [][]int32 {
	out := make([][]int32, len(choices))
	for l, list := range choices {
		out[l] = slices.Clone(list)
	}
	return out
}
