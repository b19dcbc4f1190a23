package engine

import "time"

// Part is what a worker's time goes into.
type Part uint8

// The parts of a step. Norms belong to what they stand before, weight gradients and
// residual sums to what they are of. The optimiser is not among them: it is no part of
// the engine.
const (
	Waiting Part = iota // nothing: the worker waits for others, or between calls
	AttentionForward
	AttentionBackward
	ExpertsForward // routed experts, gathering and adding their outputs included
	ExpertsBackward
	SharedForward // the MLP that all tokens pass: shared experts, or a dense layer's
	SharedBackward
	RouterForward
	RouterBackward
	HeadForward // final norm, logits and loss
	HeadBackward
	Embedding
	Gradients // setting them to zero and scaling them
	parts
)

// String is the part's name in reports.
func (p Part) String() string {
	return [parts]string{
		"waiting", "attention_forward", "attention_backward", "experts_forward", "experts_backward", "shared_forward", "shared_backward",
		"router_forward", "router_backward", "head_forward", "head_backward", "embedding", "gradients",
	}[p]
}

// Parts lists all parts but Waiting.
func Parts() []Part {
	var all []Part
	for p := range parts - 1 {
		all = append(all, p+1)
	}
	return all
}

// stopwatch adds up what one worker's time went into. Without a clock it costs a
// comparison per turn.
type stopwatch struct {
	clock func() time.Duration
	part  Part
	since time.Duration
	spent [parts]time.Duration
}

// turn ends the part before and begins another.
func (s *stopwatch) turn(p Part) {
	if s.clock == nil {
		return
	}
	now := s.clock()
	s.spent[s.part] += now - s.since
	s.part, s.since = p, now
}

// Spent is the working time of all workers together by part, since New. Without
// Options.Clock it is zero.
func (e *Engine) Spent() map[Part]time.Duration {
	all := map[Part]time.Duration{}
	for _, p := range Parts() {
		for _, w := range e.pool.workers {
			all[p] += w.watch.spent[p]
		}
	}
	return all
}
